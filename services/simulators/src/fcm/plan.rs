//! What the twin of FCM does beside the general fault plan, as JSON at `/_sim/fcm/plan`.

use serde::{Deserialize, Serialize};

/// The plan. Limits of 0 are none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Seconds an access token lives.
    pub token_life_s: u64,
    /// What the token endpoint answers instead of a token: a status, and Google's word after it
    /// (`400 invalid_grant`); nothing when empty.
    pub token_answer: String,
    /// Whether the signature of assertions is checked.
    pub verify_assertions: bool,
    /// Messages of the project in its minute, which is not the clock's. All of them count, those that
    /// are refused for another reason included.
    pub project_per_minute: u64,
    /// Messages to one device in a minute, and in an hour. [R: Firebase, "Throttling and quotas"]
    pub device_per_minute: u64,
    /// See `device_per_minute`.
    pub device_per_hour: u64,
    /// Messages to one topic or condition in a minute; Google names no number. (M: from memory)
    pub topic_per_minute: u64,
    /// What changes of subscriptions are answered, as `token_answer`; nothing when empty.
    pub topics_answer: String,
    /// Seconds in `Retry-After` of a 429; none when 0.
    pub quota_retry_after_s: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            token_life_s: 3_599,
            token_answer: String::new(),
            verify_assertions: true,
            project_per_minute: 600_000,
            device_per_minute: 240,
            device_per_hour: 5_000,
            topic_per_minute: 0,
            topics_answer: String::new(),
            quota_retry_after_s: 0,
        }
    }
}

impl Plan {
    /// What is wrong with the plan.
    ///
    /// # Errors
    /// The first fault, naming its field.
    pub fn validate(&self) -> Result<(), String> {
        for (field, answer) in [
            ("token_answer", &self.token_answer),
            ("topics_answer", &self.topics_answer),
        ] {
            if !answer.is_empty() && crate::words::status_and_rest(answer).is_none() {
                return Err(format!("{field} must begin with a status"));
            }
        }
        if self.token_life_s == 0 {
            return Err("token_life_s must be at least 1".to_owned());
        }
        Ok(())
    }
}
