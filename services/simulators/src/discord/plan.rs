//! What the twin does beside its usual answers, as JSON at `/_sim/plan`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::limits::{Limits, Quota};

/// Nothing set: everything is answered as Discord would, with its limits as they were at the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Plan {
    /// Answers of single webhooks instead of the usual one, by id.
    pub(super) answers: BTreeMap<String, Scripted>,
    /// Tokens of webhooks, by id; any other token of theirs is answered 401.
    pub(super) tokens: BTreeMap<String, String>,
    /// Webhooks of forum channels, by id, which need a thread.
    pub(super) forums: Vec<String>,
    /// Limits from now on; those of the start when absent.
    pub(super) limits: Option<PlannedLimits>,
}

/// An answer as it is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scripted {
    /// Its status, 200 to 599.
    pub(super) status: u16,
    /// Its headers, beside the usual ones.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// Its body: a text is a page of what stands in front of Discord, anything else is JSON.
    #[serde(default)]
    pub(super) body: Value,
}

/// Limits as they are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PlannedLimits {
    /// Requests in two seconds to one webhook; 5 when absent.
    pub(super) webhook: Option<u64>,
    /// Requests in a minute to one webhook, announced nowhere; 30 when absent.
    pub(super) hidden: Option<u64>,
    /// Requests in a second from one address; 50 when absent.
    pub(super) global: Option<u64>,
    /// Bad answers in ten minutes to one address before its ban; 10,000 when absent.
    pub(super) invalid: Option<u64>,
}

impl PlannedLimits {
    pub(super) fn limits(self) -> Limits {
        let usual = Limits::default();
        let or = |requests: Option<u64>, quota: Quota| Quota {
            requests: requests.unwrap_or(quota.requests),
            ..quota
        };
        Limits {
            webhook: or(self.webhook, usual.webhook),
            hidden: or(self.hidden, usual.hidden),
            global: or(self.global, usual.global),
            invalid: or(self.invalid, usual.invalid),
            ban_us: usual.ban_us,
        }
    }
}

impl Plan {
    /// What is wrong with it.
    pub(super) fn validate(&self) -> Result<(), String> {
        for (id, answer) in &self.answers {
            if !(200..=599).contains(&answer.status) {
                return Err(format!("answers[{id}].status must lie between 200 and 599"));
            }
        }
        Ok(())
    }
}
