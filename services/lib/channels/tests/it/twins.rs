//! The channels against the product's own simulators: what one writes the other must read, or
//! rehearsals would count nothing.

use std::time::Duration;

use bongsu_channels::provider::{AttemptResult, Provider};
use bongsu_channels::{Settings, build};
use bongsu_domain::{Channel, Delivery, Reason};
use bongsu_runtime::Clock;
use bongsu_simulators::simulators::{Instance, Settings as Twins};
use bongsu_simulators::{Faults, Kind, Simulators};
use std::sync::Arc;

use crate::subject::subject;
use crate::{attempt, delivery};

const PATIENT: Duration = Duration::from_secs(5);

async fn start(channel: Channel, faults: Faults) -> (Simulators, Arc<dyn Provider>) {
    let kind = Kind::parse(channel.as_str()).unwrap();
    let mut instance = Instance::new(kind);
    instance.faults = faults;
    let twins = Simulators::start(Twins {
        instances: vec![instance],
    })
    .await
    .unwrap();
    let mut settings = Settings::default();
    (subject(channel).twin_account)(&mut settings, &twins);
    let provider = build(channel, &settings, "worker-1", Clock::system()).unwrap();
    (twins, provider)
}

/// Delivery number `seq` to the twin, as a publisher writes it who wants order to be checked.
fn numbered(channel: Channel, twins: &Simulators, seq: u64) -> Delivery {
    let address = (subject(channel).address)(&twins.running()[0].url());
    let mut delivery = delivery(channel, &address, &format!("e{seq}"));
    delivery.content.data.insert("seq".into(), seq.to_string());
    delivery.content.body = Some(format!("line {seq} [#e{seq} s {seq}]"));
    delivery
}

#[test]
fn every_channel_has_a_twin_and_a_page() {
    for channel in Channel::ALL {
        assert!(Kind::parse(channel.as_str()).is_some(), "{channel}");
        let page = format!(
            "{}/../../../docs/channels/{channel}.md",
            env!("CARGO_MANIFEST_DIR")
        );
        assert!(std::fs::exists(&page).unwrap(), "{page}");
    }
}

#[tokio::test]
async fn a_twin_knows_whom_and_what_it_got() {
    for channel in Channel::ALL {
        let (twins, provider) = start(*channel, Faults::default()).await;
        for seq in [1, 3, 2, 3] {
            let delivery = numbered(*channel, &twins, seq);
            assert_eq!(
                attempt(&*provider, &delivery, PATIENT).await,
                AttemptResult::Accepted
            );
        }
        twins.running()[0].recorder().visit(0, |seen| {
            assert_eq!(
                (seen.sender, seen.worker, seen.attempt),
                ("s", "worker-1", 1)
            );
            assert_eq!(seen.event_id, format!("e{}", seen.seq.unwrap()));
            true
        });
        let report = twins.running()[0].report();
        let counted = (report.accepted, report.duplicates, report.order_violations);
        // Who recognises a second copy by its key answers so.
        let copies = u64::from(!subject(*channel).dedupes);
        assert_eq!(counted, (3, copies, 1), "{channel}");
    }
}

#[tokio::test]
async fn every_fault_of_a_twin_becomes_the_result_it_stands_for() {
    let plan = Faults::default;
    for channel in Channel::ALL {
        let wait = Some(Duration::from_secs(3));
        let subject = subject(*channel);
        for (faults, expected) in [
            (
                Faults {
                    fail_ratio: 1.0,
                    ..plan()
                },
                AttemptResult::Unavailable,
            ),
            (
                Faults {
                    fail_ratio: 1.0,
                    fail_status: 504,
                    ..plan()
                },
                AttemptResult::Unknown,
            ),
            (
                Faults {
                    reset_ratio: 1.0,
                    ..plan()
                },
                AttemptResult::Unknown,
            ),
            (
                Faults {
                    timeout_ratio: 1.0,
                    ..plan()
                },
                AttemptResult::Unknown,
            ),
            (
                Faults {
                    throttle_ratio: 1.0,
                    retry_after_ms: 3_000,
                    ..plan()
                },
                AttemptResult::Throttled {
                    retry_after: wait.filter(|_| subject.tells_wait),
                    scope: subject.throttled,
                },
            ),
        ] {
            let (twins, provider) = start(*channel, faults).await;
            let delivery = numbered(*channel, &twins, 1);
            let result = attempt(&*provider, &delivery, subject.short()).await;
            assert_eq!(result, expected, "{channel}");
            assert_eq!(twins.running()[0].recorder().counts().requests, 1);
        }
    }
}

#[tokio::test]
async fn a_deleted_discord_webhook_is_an_invalid_address() {
    let deleted = vec!["123".to_owned()];
    let faults = Faults {
        deleted,
        ..Faults::default()
    };
    let (twins, provider) = start(Channel::Discord, faults).await;
    let delivery = numbered(Channel::Discord, &twins, 1);
    assert_eq!(
        attempt(&*provider, &delivery, PATIENT).await,
        AttemptResult::Refused(Reason::InvalidAddress)
    );
}

#[tokio::test]
async fn discords_own_limit_is_met_once_and_then_waited_for() {
    let (twins, provider) = start(Channel::Discord, Faults::default()).await;
    let mut throttled = 0;
    for seq in 0..20 {
        let delivery = numbered(Channel::Discord, &twins, seq);
        let result = attempt(&*provider, &delivery, PATIENT).await;
        throttled += u32::from(matches!(result, AttemptResult::Throttled { .. }));
    }
    // Five are let in; the fifth says that it was the last, so no request ever gets a 429.
    assert_eq!(throttled, 15);
    let report = twins.running()[0].report();
    assert_eq!((report.accepted, report.errors), (5, 0));
}
