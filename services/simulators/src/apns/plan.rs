//! What the twin of APNs does beside the general fault plan, as JSON at `/_sim/apns/plan`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a device token is. Tokens that are not listed are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Device {
    /// 410 `Unregistered`, with this timestamp in epoch milliseconds.
    Unregistered(i64),
    /// 410 `ExpiredToken`, without a timestamp.
    Expired,
    /// 400 `BadDeviceToken`: a token of the other environment.
    WrongEnvironment,
    /// 400 `DeviceTokenNotForTopic`: another app's token.
    WrongTopic,
}

/// The plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Streams at a time on a connection that has proved itself. Changing it tells every connection.
    pub streams: u32,
    /// Streams at a time before that.
    pub streams_before_proof: u32,
    /// Whether a refused push lowers the limit to `streams_before_proof` until the next accepted one,
    /// as was observed in the past.
    pub shrink_on_refusal: bool,
    /// The topics there are; any when empty. Suffixes of push types are added.
    pub topics: Vec<String>,
    /// Device tokens by their hexadecimal form, lower case.
    pub devices: BTreeMap<String, Device>,
    /// Pushes to one device within `device_window_ms` before it is answered 429; 0 is no limit.
    pub device_limit: u32,
    /// Milliseconds of `device_limit`.
    pub device_window_ms: u64,
    /// Whether the signature of provider tokens is checked.
    pub verify_tokens: bool,
    /// Seconds a provider token lives.
    pub token_life_s: i64,
    /// Tokens issued before this moment (epoch seconds) count as expired.
    pub tokens_expired_before: i64,
    /// New provider tokens of one key within `token_window_ms` before 429; 0 is no limit.
    pub token_changes: u32,
    /// Milliseconds of `token_changes`.
    pub token_window_ms: u64,
    /// A GOAWAY after so many requests of a connection; 0 is never.
    pub goaway_every_requests: u64,
    /// A GOAWAY so many milliseconds after a connection began; 0 is never.
    pub goaway_every_ms: u64,
    /// Whether a GOAWAY closes the connection at once, without the answers that are due.
    pub goaway_abrupt: bool,
    /// The reason in the debug data of a GOAWAY.
    pub goaway_reason: String,
    /// Share of streams refused with `REFUSED_STREAM` before they are read, from 0 to 1.
    pub refuse_ratio: f64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            streams: 1_000,
            streams_before_proof: 1,
            shrink_on_refusal: false,
            topics: Vec::new(),
            devices: BTreeMap::new(),
            device_limit: 0,
            device_window_ms: 1_000,
            verify_tokens: true,
            token_life_s: 3_600,
            tokens_expired_before: 0,
            token_changes: 2,
            token_window_ms: 20 * 60 * 1_000,
            goaway_every_requests: 0,
            goaway_every_ms: 0,
            goaway_abrupt: false,
            goaway_reason: "Shutdown".to_owned(),
            refuse_ratio: 0.0,
        }
    }
}

impl Plan {
    /// What is wrong with the plan.
    ///
    /// # Errors
    /// The first fault, naming its field.
    pub fn validate(&self) -> Result<(), String> {
        if self.streams == 0 || self.streams_before_proof == 0 {
            return Err("streams and streams_before_proof must be at least 1".to_owned());
        }
        if !(0.0..=1.0).contains(&self.refuse_ratio) {
            return Err("refuse_ratio must lie between 0 and 1".to_owned());
        }
        if self.device_limit > 0 && self.device_window_ms == 0 {
            return Err("device_window_ms must be at least 1".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_and_a_wrong_one_is_refused() {
        let plan: Plan = serde_json::from_str(
            r#"{"streams": 5, "devices": {"00": {"unregistered": 17}, "01": "wrong_topic"}}"#,
        )
        .unwrap();
        assert_eq!(plan.validate(), Ok(()));
        assert_eq!(plan.devices["00"], Device::Unregistered(17));
        for text in [
            r#"{"streams": 0}"#,
            r#"{"refuse_ratio": 2}"#,
            r#"{"device_limit": 1, "device_window_ms": 0}"#,
        ] {
            let plan: Plan = serde_json::from_str(text).unwrap();
            assert!(plan.validate().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Plan>(r#"{"stream": 5}"#).is_err());
    }
}
