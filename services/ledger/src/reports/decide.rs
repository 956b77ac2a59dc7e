//! What becomes of a report that was looked at: pure.

use bongsu_domain::{Channel, Class, DeliveryId, Outcome, Reason, Reference, Settled};
use bongsu_store::DueReport;

/// The first look again, milliseconds: the outcome is mostly on its way.
const SOON_MS: i64 = 1_000;
/// The longest wait between two looks, milliseconds.
const LONGEST_MS: i64 = 3_600_000;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Its delivery is known.
    Map {
        /// The delivery.
        reference: Reference,
        /// What the report makes of it.
        settled: Settled,
    },
    /// It is looked at again then: the longer it has waited, the later.
    Look(i64),
    /// Nobody will find its delivery; why, as a word.
    GiveUp(&'static str),
}

/// Decides at `now`, milliseconds; `kept_ms` is how long an unknown report is kept.
pub(super) fn decide(due: &DueReport, now: i64, kept_ms: i64) -> Next {
    let report = &due.report;
    let age = now.saturating_sub(report.received_at).max(0);
    match due.deliveries.as_slice() {
        [one] => mapped(due, &one.delivery_id, &one.class, one.source_partition)
            .unwrap_or(Next::GiveUp("unreadable")),
        [] if age >= kept_ms => Next::GiveUp("unknown"),
        [] => Next::Look(now + age.clamp(SOON_MS, LONGEST_MS)),
        // A provider that gives one id twice: better none than the wrong one.
        [_, _, ..] => Next::GiveUp("ambiguous"),
    }
}

fn mapped(due: &DueReport, delivery: &str, class: &str, partition: i64) -> Option<Next> {
    let report = &due.report;
    Some(Next::Map {
        reference: Reference {
            channel: Channel::parse(&report.channel).ok()?,
            class: Class::parse(class).ok()?,
            partition: i32::try_from(partition).ok()?,
            delivery: DeliveryId::parse(delivery)?,
        },
        settled: Settled {
            outcome: Outcome::parse(&report.outcome).ok()?,
            reason: Reason::parse(&report.reason).ok()?,
        },
    })
}

#[cfg(test)]
mod tests {
    use bongsu_store::WaitingReport;

    use super::*;

    const KEPT: i64 = 72 * 3_600_000;

    fn unknown() -> DueReport {
        DueReport {
            report: WaitingReport {
                channel: "sms".into(),
                account: "default".into(),
                provider_reference: "SM1".into(),
                said: "SMS/delivered".into(),
                outcome: "delivered".into(),
                reason: "none".into(),
                at: 0,
                received_at: 1_000,
                look_at: 1_000,
            },
            deliveries: Vec::new(),
        }
    }

    #[test]
    fn an_unknown_report_is_looked_at_ever_later_and_given_up_at_the_end() {
        let (mut now, mut looks) = (1_000, 0);
        loop {
            match decide(&unknown(), now, KEPT) {
                Next::Look(at) => {
                    assert!(at > now && at - now <= LONGEST_MS);
                    (now, looks) = (at, looks + 1);
                }
                next @ (Next::Map { .. } | Next::GiveUp(_)) => {
                    assert_eq!(next, Next::GiveUp("unknown"));
                    break;
                }
            }
        }
        assert!((1_000 + KEPT..1_000 + KEPT + LONGEST_MS).contains(&now));
        assert!(looks < 100, "{looks} looks in three days");
    }

    #[test]
    fn a_clock_that_went_back_only_waits() {
        assert_eq!(decide(&unknown(), 0, KEPT), Next::Look(SOON_MS));
    }
}
