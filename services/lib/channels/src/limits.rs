//! `channels.<channel>.accounts.<name>.limits` and `channels.<channel>.egress`: what an operator
//! knows of a provider's limits.

use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{Ratio, settings};

settings! {
    /// Limits of one account. All are optional: a limit that is not set is found by what the provider
    /// answers. A limit counts units (recipients of a call) in any sliding second, as the provider
    /// sees them, over all workers together.
    pub struct Limits {
        /// Units per second of the whole account.
        pub per_second: Option<u32> = None,
        /// Units per second to one address.
        pub per_address_per_second: Option<u32> = None,
        /// Units per second of one sender.
        pub per_sender_per_second: Option<u32> = None,
        /// Units per second of one campaign.
        pub per_campaign_per_second: Option<u32> = None,
        /// Attempts open at once in one process, when fewer than `dispatch.max_in_flight`.
        pub concurrency: Option<u32> = None,
        /// The part of rate and concurrency that bulk leaves alone while transactional deliveries
        /// come: 0 to 90 %.
        pub reserve: Ratio = Ratio::percent(20),
    }
}

settings! {
    /// The limit of everything that leaves from one public IP address to this channel's provider.
    pub struct Egress {
        /// Units per second from one public IP address, over all accounts and all workers behind it.
        pub per_second: Option<u32> = None,
    }
}

/// The largest reserve, in percent: beyond it bulk would hardly move.
const MOST_RESERVED: usize = 90;

impl Limits {
    /// What is wrong; `prefix` is the section's path in the settings.
    #[must_use]
    pub fn validate(&self, prefix: &str) -> Vec<Complaint> {
        let mut complaints: Vec<Complaint> = [
            ("per_second", self.per_second),
            ("per_address_per_second", self.per_address_per_second),
            ("per_sender_per_second", self.per_sender_per_second),
            ("per_campaign_per_second", self.per_campaign_per_second),
            ("concurrency", self.concurrency),
        ]
        .into_iter()
        .filter_map(|(key, limit)| zero(prefix, key, limit))
        .collect();
        if self.reserve.of(100) > MOST_RESERVED {
            complaints.push(Complaint::new(
                format!("{prefix}.reserve"),
                format!("leaves bulk next to nothing; write at most {MOST_RESERVED}%"),
            ));
        }
        for (key, limit) in [
            ("per_address_per_second", self.per_address_per_second),
            ("per_sender_per_second", self.per_sender_per_second),
            ("per_campaign_per_second", self.per_campaign_per_second),
        ] {
            if let (Some(part), Some(whole)) = (limit, self.per_second)
                && part > whole
            {
                complaints.push(Complaint::new(
                    format!("{prefix}.{key}"),
                    format!("is {part}, above per_second ({whole}), so it limits nothing; write at most {whole} or leave it out"),
                ));
            }
        }
        complaints
    }
}

impl Egress {
    /// What is wrong; `prefix` is the section's path in the settings.
    #[must_use]
    pub fn validate(&self, prefix: &str) -> Vec<Complaint> {
        zero(prefix, "per_second", self.per_second)
            .into_iter()
            .collect()
    }
}

fn zero(prefix: &str, key: &str, limit: Option<u32>) -> Option<Complaint> {
    (limit == Some(0)).then(|| {
        Complaint::new(
            format!("{prefix}.{key}"),
            "is zero, so nothing would ever be sent; write the provider's limit, or leave it out \
             for none (to stop sending: bongsu stop account)",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_set_is_fine() {
        assert_eq!(Limits::default().validate("l"), []);
        assert_eq!(Egress::default().validate("e"), []);
    }

    #[test]
    fn every_fault_is_told_with_what_to_write() {
        let limits = Limits {
            per_second: Some(10),
            per_address_per_second: Some(0),
            per_sender_per_second: Some(11),
            concurrency: Some(0),
            reserve: Ratio::percent(95),
            ..Limits::default()
        };
        let complaints = limits.validate("l");
        let keys: Vec<&str> = complaints.iter().map(|c| c.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "l.per_address_per_second",
                "l.concurrency",
                "l.reserve",
                "l.per_sender_per_second",
            ]
        );
        assert!(complaints.iter().all(|c| c.message.contains("write")));
        let egress = Egress {
            per_second: Some(0),
        };
        assert_eq!(egress.validate("e").len(), 1);
    }

    #[test]
    fn a_part_is_written_as_percent() {
        let text = "per_second = 200\nreserve = \"30%\"";
        let limits: Limits = bongsu_runtime::settings::load(text, []).unwrap();
        assert_eq!((limits.per_second, limits.reserve.of(100)), (Some(200), 30));
    }
}
