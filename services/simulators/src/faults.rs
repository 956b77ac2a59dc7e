//! What goes wrong, on purpose. Pure: the same plan, seed and request number decide the same.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A fault plan, as JSON at `/_sim/faults`. Ratios are shares of all requests, from 0 to 1; together
/// they may not exceed 1. Nothing set: everything is taken at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Milliseconds between reading a request and answering it.
    pub latency_ms: u64,
    /// Up to so many milliseconds more, evenly spread.
    pub jitter_ms: u64,
    /// Share answered with [`Faults::fail_status`].
    pub fail_ratio: f64,
    /// The error answered, by default 503.
    pub fail_status: u16,
    /// The attempts answered with [`Faults::fail_status`] for every delivery: 2 fails attempts 1 and 2.
    pub fail_attempts: u32,
    /// Share answered 429.
    pub throttle_ratio: f64,
    /// Milliseconds asked for in `Retry-After` of a 429 (whole seconds for webhooks, rounded up).
    pub retry_after_ms: u64,
    /// Share whose connection is closed after the request was read whole, without an answer.
    pub reset_ratio: f64,
    /// Share that never gets an answer.
    pub timeout_ratio: f64,
    /// Seed of the decisions.
    pub seed: u64,
    /// Discord: ids of webhooks that do not exist any more.
    pub deleted: Vec<String>,
    /// Plans for addresses whose path starts with the key; the longest matching key wins and replaces
    /// this plan wholly. Plans in here may not hold `paths` of their own.
    pub paths: BTreeMap<String, Faults>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            jitter_ms: 0,
            fail_ratio: 0.0,
            fail_status: 503,
            fail_attempts: 0,
            throttle_ratio: 0.0,
            retry_after_ms: 1_000,
            reset_ratio: 0.0,
            timeout_ratio: 0.0,
            seed: 0,
            deleted: Vec::new(),
            paths: BTreeMap::new(),
        }
    }
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// As the provider would.
    Answer,
    /// This error.
    Fail(u16),
    /// 429 with this wait.
    Throttle(Duration),
    /// Close the connection.
    Reset,
    /// Never answer.
    Hang,
}

/// A decision: what, and how long after the request was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What.
    pub act: Act,
    /// When.
    pub delay: Duration,
}

impl Faults {
    /// What is wrong with the plan.
    ///
    /// # Errors
    /// The first fault, naming its field.
    pub fn validate(&self) -> Result<(), String> {
        let ratios = [
            ("fail_ratio", self.fail_ratio),
            ("throttle_ratio", self.throttle_ratio),
            ("reset_ratio", self.reset_ratio),
            ("timeout_ratio", self.timeout_ratio),
        ];
        for (name, ratio) in ratios {
            if !(0.0..=1.0).contains(&ratio) {
                return Err(format!("{name} must lie between 0 and 1"));
            }
        }
        if ratios.iter().map(|(_, ratio)| ratio).sum::<f64>() > 1.0 + 1e-9 {
            return Err("the ratios add up to more than 1".to_owned());
        }
        if !(400..=599).contains(&self.fail_status) {
            return Err("fail_status must lie between 400 and 599".to_owned());
        }
        for (path, plan) in &self.paths {
            if !plan.paths.is_empty() {
                return Err(format!("paths[{path}] holds paths of its own"));
            }
            plan.validate().map_err(|e| format!("paths[{path}]: {e}"))?;
        }
        Ok(())
    }

    /// Decides about request number `n` to `path`; `attempt` is from 1, 0 when unknown.
    #[must_use]
    pub fn decide(&self, n: u64, path: &str, attempt: u32) -> Decision {
        let special = self
            .paths
            .iter()
            .filter(|(prefix, _)| path.starts_with(prefix.as_str()))
            .max_by_key(|(prefix, _)| prefix.len());
        let plan = special.map_or(self, |(_, plan)| plan);
        plan.decide_here(n, attempt)
    }

    fn decide_here(&self, n: u64, attempt: u32) -> Decision {
        let mut left = share(self.seed, n, 0);
        let mut hit = |ratio: f64| {
            let hit = left < ratio;
            left -= ratio;
            hit
        };
        let act = if (1..=self.fail_attempts).contains(&attempt) {
            Act::Fail(self.fail_status)
        } else if hit(self.reset_ratio) {
            Act::Reset
        } else if hit(self.timeout_ratio) {
            Act::Hang
        } else if hit(self.throttle_ratio) {
            Act::Throttle(Duration::from_millis(self.retry_after_ms))
        } else if hit(self.fail_ratio) {
            Act::Fail(self.fail_status)
        } else {
            Act::Answer
        };
        let jitter = if self.jitter_ms == 0 {
            0
        } else {
            mix(self.seed, n, 1) % (self.jitter_ms + 1)
        };
        Decision {
            act,
            delay: Duration::from_millis(self.latency_ms.saturating_add(jitter)),
        }
    }
}

/// Evenly spread bits of (seed, number, purpose): the finaliser of splitmix64.
fn mix(seed: u64, n: u64, purpose: u64) -> u64 {
    let mut x = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(n.wrapping_mul(2).wrapping_add(purpose))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The same as a share from 0 to 1, 1 excluded.
pub(crate) fn share(seed: u64, n: u64, purpose: u64) -> f64 {
    // 32 bits are exact in a float and fine enough for a ratio.
    let bits = u32::try_from(mix(seed, n, purpose) >> 32).unwrap_or(u32::MAX);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_kept_and_the_same_seed_decides_the_same() {
        let plan = Faults {
            fail_ratio: 0.2,
            throttle_ratio: 0.1,
            reset_ratio: 0.05,
            timeout_ratio: 0.05,
            jitter_ms: 10,
            seed: 42,
            ..Faults::default()
        };
        let count = |act: fn(&Act) -> bool| {
            (0..100_000)
                .filter(|n| act(&plan.decide(*n, "/hook/a", 1).act))
                .count()
        };
        assert!((19_000..21_000).contains(&count(|a| matches!(a, Act::Fail(503)))));
        assert!((9_300..10_700).contains(&count(|a| matches!(a, Act::Throttle(_)))));
        assert!((4_500..5_500).contains(&count(|a| matches!(a, Act::Reset))));
        assert!((4_500..5_500).contains(&count(|a| matches!(a, Act::Hang))));
        let other = Faults {
            seed: 43,
            ..plan.clone()
        };
        assert_eq!(plan.decide(7, "", 1), plan.clone().decide(7, "", 1));
        assert!((0..100).any(|n| plan.decide(n, "", 1) != other.decide(n, "", 1)));
    }

    #[test]
    fn the_longest_path_wins_and_early_attempts_fail() {
        let plan: Faults = serde_json::from_str(
            r#"{"paths": {"/hook/a": {"latency_ms": 5}, "/hook/ab": {"fail_attempts": 2}}}"#,
        )
        .unwrap();
        assert_eq!(plan.validate(), Ok(()));
        assert_eq!(plan.decide(0, "/hook/x", 1).delay, Duration::ZERO);
        assert_eq!(
            plan.decide(0, "/hook/a1", 1).delay,
            Duration::from_millis(5)
        );
        assert_eq!(plan.decide(0, "/hook/abc", 2).act, Act::Fail(503));
        assert_eq!(plan.decide(0, "/hook/abc", 3).act, Act::Answer);
    }

    #[test]
    fn a_plan_that_cannot_be_is_refused() {
        for text in [
            r#"{"fail_ratio": 1.5}"#,
            r#"{"fail_ratio": 0.6, "reset_ratio": 0.6}"#,
            r#"{"fail_status": 200}"#,
            r#"{"paths": {"/a": {"paths": {"/b": {}}}}}"#,
        ] {
            let plan: Faults = serde_json::from_str(text).unwrap();
            assert!(plan.validate().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Faults>(r#"{"fail_rate": 1}"#).is_err());
    }
}
