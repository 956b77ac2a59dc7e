//! Our provider in a closed loop: no Kafka, deliveries in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bongsu_channels::provider::{Attempt, AttemptResult};
use bongsu_channels::{Settings, build};
use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{
    Address, AddressId, Channel, Class, Content, ContentHash, Delivery, DeliveryId, OnUncertain,
    Ordering as Order, Pairs, Purpose, RecipientTerms, Timestamp,
};
use bongsu_runtime::Clock;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{DEVICES, Job, Run};
use crate::load::wall_us;
use crate::processes::own_cpu_us;

/// Longest a push may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(job: &Job<'_>) -> anyhow::Result<Run> {
    let settings = Settings {
        apns: job.twin.settings(job.in_flight)?,
        ..Settings::default()
    };
    let provider = build(Channel::Apns, &settings, "bare", Clock::system())?;
    let now_ms = i64::try_from(wall_us() / 1_000)?;
    let deliveries: Arc<Vec<Delivery>> =
        Arc::new((0..job.pushes).map(|i| delivery(i, now_ms)).collect());
    let next = Arc::new(AtomicU32::new(0));
    let (begun, cpu) = (Instant::now(), own_cpu_us());
    let mut loops = JoinSet::new();
    for _ in 0..job.in_flight {
        let (provider, next) = (Arc::clone(&provider), Arc::clone(&next));
        let deliveries = Arc::clone(&deliveries);
        loops.spawn(async move {
            let mut times = Histogram::<u64>::new(3)?;
            let mut accepted = 0_u64;
            while let Some(delivery) = deliveries.get(next.fetch_add(1, Ordering::Relaxed) as usize)
            {
                let at = Instant::now();
                let batch = [Attempt {
                    delivery,
                    number: 1,
                    partition: 0,
                }];
                let results = provider.attempt(&batch, at + PATIENCE).await?;
                accepted += u64::from(results.first() == Some(&AttemptResult::Accepted));
                times.record(u64::try_from(at.elapsed().as_micros())?)?;
            }
            anyhow::Ok((accepted, times))
        });
    }
    let mut accepted = 0;
    let mut times = Histogram::<u64>::new(3)?;
    while let Some(ended) = loops.join_next().await {
        let (some, its) = ended.context("a loop died")??;
        accepted += some;
        times.add(its)?;
    }
    Ok(Run {
        accepted,
        seconds: begun.elapsed().as_secs_f64(),
        cpu_us: own_cpu_us() - cpu,
        p50: Duration::from_micros(times.value_at_quantile(0.5)),
        p99: Duration::from_micros(times.value_at_quantile(0.99)),
    })
}

/// Push number `i`.
pub(super) fn delivery(i: u32, now_ms: i64) -> Delivery {
    let token = format!("{:064x}", i % DEVICES);
    let id = AddressId(token.clone());
    let event_id = format!("e{i}");
    let parts = DeliveryParts {
        sender: "bench",
        event_id: &event_id,
        channel: Channel::Apns.as_str(),
        recipient: "r",
        address_id: &id,
        step: 0,
    };
    Delivery {
        id: DeliveryId::derive(parts),
        sender: format!("s{}", i % 400),
        class: Class::Transactional,
        purpose: Purpose::Transactional,
        category: None,
        recipient: "r".into(),
        terms: RecipientTerms::default(),
        address: Address {
            channel: Channel::Apns,
            address: token,
            id,
            account: "default".into(),
            platform: Channel::Apns.default_platform(),
            app: None,
            registered_at: None,
        },
        content: Content {
            title: Some("Order paid".into()),
            body: Some(format!("Your order {i} is paid.")),
            data: Pairs::from([("seq".into(), i.to_string())]),
            ..Content::default()
        },
        event_id,
        content_hash: ContentHash(0),
        step: 0,
        accepted_at: Timestamp(now_ms),
        expires_at: Timestamp(now_ms + 86_400_000),
        ordering: Order::Sender,
        collapse_key: None,
        on_uncertain: OnUncertain::Resend,
        campaign_id: None,
        replay_id: None,
        labels: Pairs::new(),
    }
}
