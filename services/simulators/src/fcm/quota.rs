//! Google's quotas, and what waits for devices that are away. Pure; the caller brings the time.

use std::collections::{BTreeMap, HashMap};

use super::message::{Checked, Target, target_path};
use super::plan::Plan;
use super::refusal::Refusal;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// Collapse keys kept per device, and messages without one. [R: Firebase, "Message types"]
const KEYS: usize = 4;
const MESSAGES: usize = 100;

/// A window that begins with its first message and refills whole. [R: Firebase, "Throttling and
/// quotas": not clock aligned]
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    ends: u64,
    used: u64,
}

impl Window {
    /// Counts one; false when there is no more.
    fn take(&mut self, limit: u64, length_ms: u64, now_ms: u64) -> bool {
        if limit == 0 {
            return true;
        }
        if now_ms >= self.ends {
            *self = Self {
                ends: now_ms + length_ms,
                used: 0,
            };
        }
        // A 429 does not count.
        let free = self.used < limit;
        self.used += u64::from(free);
        free
    }
}

/// What waits for one device that never comes: what it would be shown.
#[derive(Debug, Default)]
struct Waiting {
    collapsible: Vec<(String, String)>,
    others: Vec<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    project: Window,
    devices: HashMap<String, (Window, Window)>,
    topics: HashMap<String, Window>,
    waiting: BTreeMap<String, Waiting>,
}

impl Quotas {
    pub(super) fn project(&mut self, plan: &Plan, now_ms: u64) -> Result<(), Refusal> {
        if self
            .project
            .take(plan.project_per_minute, MINUTE_MS, now_ms)
        {
            return Ok(());
        }
        let whose = "project:twin-project".to_owned();
        Err(Refusal::quota(whose, plan.quota_retry_after_s))
    }

    pub(super) fn target(
        &mut self,
        target: &Target,
        plan: &Plan,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let (free, kind) = match target {
            Target::Device(device) => {
                let (minute, hour) = self.devices.entry(device.clone()).or_default();
                let free = minute.take(plan.device_per_minute, MINUTE_MS, now_ms)
                    && hour.take(plan.device_per_hour, HOUR_MS, now_ms);
                (free, "device")
            }
            Target::Topic(topic) => {
                let window = self.topics.entry(topic.clone()).or_default();
                (
                    window.take(plan.topic_per_minute, MINUTE_MS, now_ms),
                    "topic",
                )
            }
        };
        if free {
            return Ok(());
        }
        // Of a device as of everybody else only what is no secret.
        let whose = format!("{kind}:quota");
        Err(Refusal::quota(whose, plan.quota_retry_after_s))
    }

    /// Keeps a message as for a device that is away.
    pub(super) fn keep(&mut self, checked: &Checked) {
        let Target::Device(device) = &checked.target else {
            return;
        };
        let waiting = self
            .waiting
            .entry(target_path("token", device))
            .or_default();
        let event = checked.event_id.clone();
        match &checked.collapse_key {
            Some(key) => {
                waiting.collapsible.retain(|(k, _)| k != key);
                waiting.collapsible.push((key.clone(), event));
                if waiting.collapsible.len() > KEYS {
                    waiting.collapsible.remove(0);
                }
            }
            None if waiting.others.len() == MESSAGES => waiting.others.clear(),
            None => waiting.others.push(event),
        }
    }

    /// The events that wait, by device.
    pub(super) fn waiting(&self) -> BTreeMap<&str, Vec<&str>> {
        self.waiting
            .iter()
            .map(|(device, waiting)| {
                let collapsed = waiting.collapsible.iter().map(|(_, event)| event.as_str());
                let others = waiting.others.iter().map(String::as_str);
                (device.as_str(), collapsed.chain(others).collect())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(key: Option<&str>, event: &str) -> Checked {
        Checked {
            target: Target::Device("d".to_owned()),
            validate_only: false,
            collapse_key: key.map(str::to_owned),
            event_id: event.to_owned(),
        }
    }

    #[test]
    fn a_minute_refills_whole_and_begins_with_its_first_message() {
        let plan = Plan {
            project_per_minute: 2,
            ..Plan::default()
        };
        let mut quotas = Quotas::default();
        let taken: Vec<bool> = [10_000, 69_999, 69_999, 70_000, 70_001, 70_002]
            .map(|now| quotas.project(&plan, now).is_ok())
            .to_vec();
        assert_eq!(taken, [true, true, false, true, true, false]);
    }

    #[test]
    fn a_device_keeps_four_collapse_keys_and_loses_everything_beyond_a_hundred() {
        let mut quotas = Quotas::default();
        for (key, event) in [
            ("a", "1"),
            ("b", "2"),
            ("a", "3"),
            ("c", "4"),
            ("d", "5"),
            ("e", "6"),
        ] {
            quotas.keep(&checked(Some(key), event));
        }
        let shown: Vec<_> = quotas.waiting().into_values().next().unwrap();
        assert_eq!(shown, ["3", "4", "5", "6"]);
        for n in 0..101 {
            quotas.keep(&checked(None, &n.to_string()));
        }
        assert_eq!(quotas.waiting().into_values().next().unwrap().len(), 4);
    }
}
