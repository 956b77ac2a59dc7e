//! What goes wrong, on purpose. Pure: the same plan, seed and request number decide the same.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::bucket::Bucket;

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
    /// Milliseconds asked for in `Retry-After` of a 429 (whole seconds for webhooks, rounded up);
    /// 0 sends none.
    pub retry_after_ms: u64,
    /// Share whose connection is closed after the request was read whole, without an answer.
    pub reset_ratio: f64,
    /// Share that is taken and answered, but whose answer never arrives: the connection is closed in
    /// its place. Recorded with the status that was lost.
    pub lost_ratio: f64,
    /// Share that never gets an answer.
    pub timeout_ratio: f64,
    /// Share of the addresses (of their paths, not of the requests) that answer everything with
    /// [`Faults::fail_status`].
    pub failing_addresses: f64,
    /// What is taken per second at most; beyond it the answer is 429.
    pub bucket: Option<Bucket>,
    /// Requests after which a connection is closed in an orderly way (GOAWAY in HTTP/2,
    /// `Connection: close` before); 0 never does.
    pub goaway_after: u64,
    /// Seed of the decisions.
    pub seed: u64,
    /// Discord: ids of webhooks that do not exist any more.
    pub deleted: Vec<String>,
    /// Plans for addresses whose path starts with the key; the longest matching key wins and replaces
    /// this plan wholly. Plans in here may not hold `paths`, a `bucket` or `goaway_after`.
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
            lost_ratio: 0.0,
            timeout_ratio: 0.0,
            failing_addresses: 0.0,
            bucket: None,
            goaway_after: 0,
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
    /// Whether the connection is cut instead of the answer.
    pub lost: bool,
    /// Whether the plan's bucket may still refuse it.
    pub bucketed: bool,
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
            ("lost_ratio", self.lost_ratio),
            ("timeout_ratio", self.timeout_ratio),
        ];
        let addresses = [("failing_addresses", self.failing_addresses)];
        for (name, ratio) in ratios.into_iter().chain(addresses) {
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
        if let Some(bucket) = &self.bucket {
            bucket.validate()?;
        }
        for (path, plan) in &self.paths {
            if !plan.paths.is_empty() {
                return Err(format!("paths[{path}] holds paths of its own"));
            }
            if plan.bucket.is_some() || plan.goaway_after > 0 {
                return Err(format!(
                    "paths[{path}] holds a bucket or goaway_after, which hold for all paths only"
                ));
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
        plan.decide_here(n, path, attempt)
    }

    fn decide_here(&self, n: u64, path: &str, attempt: u32) -> Decision {
        let mut left = share(self.seed, n, 0);
        let mut hit = |ratio: f64| {
            let hit = left < ratio;
            left -= ratio;
            hit
        };
        let mut lost = false;
        let act = if (1..=self.fail_attempts).contains(&attempt) || self.fails(path) {
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
            lost = hit(self.lost_ratio);
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
            lost,
            bucketed: act == Act::Answer && self.bucket.is_some(),
        }
    }

    /// Whether the address is one of [`Faults::failing_addresses`]: always the same ones for the
    /// same seed, and a larger share holds the smaller one.
    #[must_use]
    pub fn fails(&self, path: &str) -> bool {
        self.failing_addresses > 0.0 && share(self.seed, hash(path), 2) < self.failing_addresses
    }
}

/// FNV-1a of a path.
fn hash(path: &str) -> u64 {
    path.bytes().fold(0xcbf2_9ce4_8422_2325, |h, byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Evenly spread bits of (seed, number, purpose): the finaliser of splitmix64.
pub(crate) fn mix(seed: u64, n: u64, purpose: u64) -> u64 {
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
    fn a_share_of_the_addresses_fails_and_always_the_same() {
        let plan = |failing_addresses| Faults {
            failing_addresses,
            seed: 7,
            ..Faults::default()
        };
        let failing = |share| -> Vec<u32> {
            (0..10_000)
                .filter(|i| plan(share).decide(0, &format!("/hook/{i}"), 1).act != Act::Answer)
                .collect()
        };
        let (one, ten) = (failing(0.01), failing(0.1));
        assert!((60..140).contains(&one.len()), "{}", one.len());
        assert!((900..1_100).contains(&ten.len()), "{}", ten.len());
        assert!(one.iter().all(|i| ten.contains(i)));
        let path = format!("/hook/{}", one[0]);
        assert!((0..100).all(|n| plan(0.01).decide(n, &path, 9).act == Act::Fail(503)));
    }

    #[test]
    fn a_lost_answer_is_an_answer() {
        let plan = Faults {
            lost_ratio: 0.5,
            fail_ratio: 0.2,
            ..Faults::default()
        };
        let decisions: Vec<_> = (0..10_000).map(|n| plan.decide(n, "", 1)).collect();
        let lost = decisions.iter().filter(|d| d.lost).count();
        assert!((4_700..5_300).contains(&lost), "{lost}");
        assert!(decisions.iter().all(|d| !d.lost || d.act == Act::Answer));
    }

    #[test]
    fn a_plan_that_cannot_be_is_refused() {
        for text in [
            r#"{"fail_ratio": 1.5}"#,
            r#"{"fail_ratio": 0.6, "reset_ratio": 0.6}"#,
            r#"{"fail_status": 200}"#,
            r#"{"paths": {"/a": {"paths": {"/b": {}}}}}"#,
            r#"{"paths": {"/a": {"bucket": {"rate": 1, "burst": 1}}}}"#,
            r#"{"bucket": {"rate": 0, "burst": 1}}"#,
            r#"{"failing_addresses": 2}"#,
            r#"{"reset_ratio": 0.6, "lost_ratio": 0.6}"#,
        ] {
            let plan: Faults = serde_json::from_str(text).unwrap();
            assert!(plan.validate().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Faults>(r#"{"fail_rate": 1}"#).is_err());
    }
}
