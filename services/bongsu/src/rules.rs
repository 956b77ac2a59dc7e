//! Settings of the sending rules, which fanout and dispatch share.

use std::collections::BTreeMap;

use bongsu_domain::Channel;
use bongsu_policy::Rules;
use bongsu_policy::rules::{Window, Zone, zones};
use bongsu_runtime::settings;
use bongsu_runtime::settings::Complaint;

settings! {
    /// What law and providers ask of advertising; see docs/sending-rules.md.
    pub struct RuleSettings {
        /// Country of a recipient whose event names neither country nor time zone; two letters.
        pub country: String = "KR".to_owned(),
        /// Time zone of a recipient whose event names no time zone, and no country with one.
        pub time_zone: String = "Asia/Seoul".to_owned(),
        /// Further hours without advertising, by channel: `{ webhook = "20:00-09:00" }`. They add to
        /// the law's 21:00-08:00 and the provider's own and cannot shorten them.
        pub nights: BTreeMap<Channel, String> = BTreeMap::new(),
        /// Whether advertising needs the recipient's `consents` in the event where the law asks for
        /// consent. Switch it off only if every publisher sends to people who agreed.
        pub needs_consent: bool = true,
        /// What ends an advertisement where the law asks for it, by sender: who speaks, how to reach
        /// them, how to opt out for free. `"*"` is for every sender without one of its own. Without
        /// any, such advertising is refused.
        pub closings: BTreeMap<String, String> = BTreeMap::new(),
    }
}

impl RuleSettings {
    /// The rules, or what is wrong with them.
    pub(crate) fn rules(&self) -> Result<Rules, Vec<Complaint>> {
        let mut complaints = Vec::new();
        if !zones::is_country(&self.country) {
            let message = "is no ISO 3166-1 alpha-2 country; write one like KR";
            complaints.push(Complaint::new("rules.country", message));
        }
        let zone = Zone::parse(&self.time_zone).unwrap_or_else(|e| {
            complaints.push(Complaint::new("rules.time_zone", e.to_string()));
            Zone::seoul()
        });
        let mut nights = BTreeMap::new();
        for (channel, text) in &self.nights {
            match Window::parse(text) {
                Some(window) => {
                    nights.insert(*channel, window);
                }
                None => complaints.push(Complaint::new(
                    format!("rules.nights.{channel}"),
                    "must be hours across midnight like 21:00-08:00",
                )),
            }
        }
        if !complaints.is_empty() {
            return Err(complaints);
        }
        Ok(Rules {
            country: self.country.to_ascii_uppercase(),
            zone,
            nights,
            needs_consent: self.needs_consent,
            closings: self.closings.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_rules_and_every_fault_is_told() {
        assert_eq!(RuleSettings::default().rules(), Ok(Rules::default()));
        let wrong = RuleSettings {
            country: "Korea".into(),
            time_zone: "Seoul".into(),
            nights: [(Channel::Webhook, "08:00-21:00".into())].into(),
            ..RuleSettings::default()
        };
        let complaints = wrong.rules().unwrap_err();
        let keys: Vec<&str> = complaints.iter().map(|c| c.key.as_str()).collect();
        assert_eq!(
            keys,
            ["rules.country", "rules.time_zone", "rules.nights.webhook"]
        );
    }
}
