//! The deliveries: one to each webhook, of one broadcaster whose key is spread over partitions.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{
    Address, AddressId, Channel, Class, Content, ContentHash, Delivery, DeliveryId, OnUncertain,
    Ordering, Pairs, Purpose, RecipientTerms, Timestamp, partition_of,
};
use bongsu_schemas::{Codec, Topics, headers};
use bongsu_stream::kafka::{KafkaCluster, Settings};
use bongsu_stream::port::{Headers, Outgoing, Producer};
use tokio::time::Instant;

use crate::apns::pipeline::record;
use crate::load::wall_us;

pub(super) const PARTITIONS: i32 = 8;
/// Partition keys that the sender is spread over.
const SPREAD: usize = 64;
/// Records without an acknowledgement at most.
const OUTSTANDING: usize = 10_000;
/// The first webhook's id.
const FIRST_ID: usize = 1_000_000;
const SENDER: &str = "alerts";

/// A burst of bulk deliveries, so long after the beginning.
pub(super) struct Burst {
    pub(super) after: Duration,
    pub(super) numbers: Range<usize>,
}

/// Writes deliveries.
pub(super) struct Load {
    producer: std::sync::Arc<dyn Producer>,
    codec: Codec,
    topics: Topics,
    stamps: Mutex<BTreeMap<usize, u64>>,
}

impl Load {
    pub(super) fn connect(bootstrap: &str) -> anyhow::Result<Self> {
        let cluster = KafkaCluster::connect(Settings {
            bootstrap_servers: bootstrap.to_owned(),
            ..Settings::default()
        })?;
        Ok(Self {
            producer: cluster.producer(Duration::from_millis(5))?,
            codec: Codec::default(),
            topics: Topics::default(),
            stamps: Mutex::default(),
        })
    }

    /// When each steady delivery was handed over, wall clock in microseconds, by its number.
    pub(super) fn stamps(&self) -> BTreeMap<usize, u64> {
        let stamps = self.stamps.lock();
        stamps.map(|stamps| stamps.clone()).unwrap_or_default()
    }

    /// Writes them and waits until Kafka has them.
    pub(super) async fn write(&self, class: Class, numbers: Range<usize>) -> anyhow::Result<()> {
        let topic = self.topics.deliveries(Channel::Discord, class);
        let now_ms = i64::try_from(wall_us() / 1_000)?;
        let mut waiting = VecDeque::with_capacity(OUTSTANDING);
        for i in numbers {
            let delivery = delivery(i, class, now_ms);
            let key = format!("{SENDER}\u{1f}{}", i % SPREAD);
            waiting.push_back(self.producer.send(Outgoing {
                topic: topic.clone(),
                partition: partition_of(key.as_bytes(), PARTITIONS),
                key: Some(key.into()),
                value: Some(self.codec.encode(&record(&delivery))?),
                headers: Headers::default().with(headers::DELIVERY_ID, delivery.id.to_string()),
            }));
            if waiting.len() >= OUTSTANDING
                && let Some(oldest) = waiting.pop_front()
            {
                oldest.await?;
            }
        }
        for rest in waiting {
            rest.await?;
        }
        Ok(())
    }

    /// So many transactional deliveries a second in an open loop, and the bursts in between.
    pub(super) async fn play(
        &self,
        per_second: u32,
        numbers: Range<usize>,
        bursts: Vec<Burst>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        let steady = async {
            for (n, i) in numbers.enumerate() {
                let due = begun + Duration::from_secs(1) * u32::try_from(n)? / per_second;
                tokio::time::sleep_until(due).await;
                if let Ok(mut stamps) = self.stamps.lock() {
                    stamps.insert(i, wall_us());
                }
                self.write(Class::Transactional, i..i + 1).await?;
            }
            anyhow::Ok(())
        };
        let bulk = async {
            for burst in bursts {
                tokio::time::sleep_until(begun + burst.after).await;
                self.write(Class::Bulk, burst.numbers).await?;
            }
            anyhow::Ok(())
        };
        tokio::try_join!(steady, bulk)?;
        Ok(())
    }
}

/// The ids of the webhooks that are deleted: one of `each`.
pub(super) fn dead(wanted: usize, each: usize) -> Vec<String> {
    let numbers = (0..wanted).step_by(each.max(1));
    numbers.map(|i| (FIRST_ID + i).to_string()).collect()
}

/// Delivery number `i`, to a webhook of its own.
fn delivery(i: usize, class: Class, now_ms: i64) -> Delivery {
    let address = format!("{}/token-{i}", FIRST_ID + i);
    let id = AddressId::derive(Channel::Discord.as_str(), "default", &address);
    let event_id = format!("e{i}");
    let parts = DeliveryParts {
        sender: SENDER,
        event_id: &event_id,
        channel: Channel::Discord.as_str(),
        recipient: "r",
        address_id: &id,
        step: 0,
    };
    Delivery {
        id: DeliveryId::derive(parts),
        sender: SENDER.into(),
        class,
        purpose: Purpose::Transactional,
        category: None,
        recipient: "r".into(),
        address: Address {
            channel: Channel::Discord,
            address,
            id,
            account: "default".into(),
            platform: Channel::Discord.default_platform(),
            app: None,
            registered_at: None,
        },
        content: Content {
            body: Some(format!("We are live! [#{event_id} {SENDER} {i}]")),
            ..Content::default()
        },
        event_id,
        content_hash: ContentHash(0),
        step: 0,
        accepted_at: Timestamp(now_ms),
        expires_at: Timestamp(now_ms + 86_400_000),
        ordering: Ordering::Sender,
        collapse_key: None,
        on_uncertain: OnUncertain::Resend,
        campaign_id: None,
        replay_id: None,
        labels: Pairs::new(),
        terms: RecipientTerms::default(),
    }
}
