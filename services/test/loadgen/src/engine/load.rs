//! What is written: numbered deliveries of many order keys. Pure: the same load, the same records.
//!
//! Delivery `i` belongs to key `key(i)`, and within a key the numbers rise, so order is checked on
//! `i` alone.

use std::time::Duration;

use anyhow::Context as _;
use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{AddressId, Channel, Class, Content, DeliveryId, Pairs, partition_of};
use bongsu_schemas::convert::content_hash;
use bongsu_schemas::millis::Millis;
use bongsu_schemas::{Codec, Delivery, Topics, headers, records};
use bongsu_stream::port::{Headers, Outgoing};

use super::dice;

/// How long a delivery is worth sending: longer than any drill.
const USEFUL: Duration = Duration::from_secs(24 * 3_600);

/// How deliveries are spread over order keys.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Keys {
    /// Every key in its turn.
    Even {
        /// Senders.
        senders: u32,
        /// Addresses of each.
        addresses: u32,
    },
    /// Senders with one address each, drawn by Zipf's law.
    Zipf {
        /// The share of the senders up to each one.
        cumulative: Vec<f64>,
    },
    /// One sender with many recipients, each reached once, and every eleventh delivery one of
    /// ordinary senders.
    Broadcast {
        /// Recipients of the one.
        recipients: u32,
        /// The ordinary ones.
        senders: u32,
    },
}

impl Keys {
    /// Zipf's law over `senders` with `exponent`.
    pub(crate) fn zipf(senders: u32, exponent: f64) -> Self {
        let weights = (1..=senders).map(|rank| f64::from(rank).powf(-exponent));
        let total: f64 = weights.clone().sum();
        let cumulative = weights
            .scan(0.0, |sum, weight| {
                *sum += weight / total;
                Some(*sum)
            })
            .collect();
        Self::Zipf { cumulative }
    }

    /// The key of delivery `i`.
    fn of(&self, i: u32, seed: u64) -> u32 {
        match self {
            Self::Even { senders, addresses } => i % (senders * addresses),
            Self::Zipf { cumulative } => {
                let draw = dice::share(seed, u64::from(i), 1);
                let rank = cumulative.partition_point(|sum| *sum < draw);
                u32::try_from(rank.min(cumulative.len().saturating_sub(1))).unwrap_or(0)
            }
            Self::Broadcast {
                recipients,
                senders,
            } => {
                if i % 11 == 10 {
                    recipients + (i / 11) % senders
                } else {
                    (i - i / 11) % recipients
                }
            }
        }
    }

    /// The sender of a key.
    const fn sender(&self, key: u32) -> u32 {
        match self {
            Self::Even { senders, .. } => key % *senders,
            Self::Zipf { .. } => key,
            // The broadcaster is number 0.
            Self::Broadcast { recipients, .. } => (key + 1).saturating_sub(*recipients),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Even { senders, addresses } => (senders * addresses) as usize,
            Self::Zipf { cumulative } => cumulative.len(),
            Self::Broadcast {
                recipients,
                senders,
            } => (recipients + senders) as usize,
        }
    }
}

/// One run's deliveries.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Before every sender's name; different in every run.
    pub(crate) run: String,
    pub(crate) class: Class,
    pub(crate) keys: Keys,
    pub(crate) deliveries: u32,
    /// Deliveries per second; as fast as it goes without.
    pub(crate) rate: Option<f64>,
    /// Share written with `never_resend`.
    pub(crate) never_resend: f64,
    /// Whether every delivery says the same: a publisher in a loop.
    pub(crate) same_content: bool,
    pub(crate) seed: u64,
    /// Partitions of the topic.
    pub(crate) partitions: i32,
    /// `http://host:port` of the provider.
    pub(crate) target: String,
}

impl Load {
    /// The order key of delivery `i`.
    pub(crate) fn key(&self, i: u32) -> u32 {
        self.keys.of(i, self.seed)
    }

    /// The name of a key's sender.
    pub(crate) fn sender(&self, key: u32) -> String {
        format!("{}-{}", self.run, self.keys.sender(key))
    }

    /// The address path of a key.
    pub(crate) fn path(&self, key: u32) -> String {
        format!("/hook/{}/{key}", self.run)
    }

    /// The partition of every key.
    pub(crate) fn key_partitions(&self) -> Vec<i32> {
        (0..u32::try_from(self.keys.count()).unwrap_or(u32::MAX))
            .map(|key| partition_of(self.sender(key).as_bytes(), self.partitions))
            .collect()
    }

    /// Whether delivery `i` may never be sent twice.
    pub(crate) fn is_never_resend(&self, i: u32) -> bool {
        self.never_resend > 0.0 && dice::share(self.seed, u64::from(i), 2) < self.never_resend
    }

    /// How long after the beginning delivery `i` is due.
    pub(crate) fn due(&self, i: u32) -> Duration {
        self.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64(f64::from(i) / rate)
        })
    }

    /// Delivery `i` as fanout would write it.
    pub(crate) fn delivery(&self, i: u32, now_ms: i64) -> Delivery {
        let key = self.key(i);
        let (sender, event_id) = (self.sender(key), i.to_string());
        let recipient = format!("r-{key}");
        // Of its own run: an address that another run's load was told to wait for waits here too.
        let address_id = AddressId(format!("{}-{key}", self.run));
        let useful = i64::try_from(USEFUL.as_millis()).unwrap_or(i64::MAX);
        let id = DeliveryId::derive(DeliveryParts {
            sender: &sender,
            event_id: &event_id,
            channel: Channel::Webhook.as_str(),
            recipient: &recipient,
            address_id: &address_id,
            step: 0,
        });
        let on_uncertain = if self.is_never_resend(i) {
            "never_resend"
        } else {
            "resend"
        };
        let mut data = Pairs::new();
        if !self.same_content {
            data.insert("seq".to_owned(), event_id.clone());
        }
        let content = Content {
            title: Some("drill".to_owned()),
            body: Some("a line of chat, as long as such lines are".to_owned()),
            data,
            ..Content::default()
        };
        Delivery {
            delivery_id: id.to_string(),
            sender,
            class: self.class.as_str().to_owned(),
            purpose: "transactional".to_owned(),
            channel: Channel::Webhook.as_str().to_owned(),
            recipient,
            address: format!("{}{}", self.target, self.path(key)),
            address_id: address_id.0,
            account: "default".to_owned(),
            platform: "server".to_owned(),
            content: records::Content::from(&content),
            content_hash: content_hash(&content).to_hex(),
            event_id,
            origin: "event".to_owned(),
            accepted_at: Millis(now_ms),
            expires_at: Millis(now_ms + useful),
            on_uncertain: on_uncertain.to_owned(),
            ..Delivery::default()
        }
    }

    /// The record of delivery `i`.
    ///
    /// # Errors
    /// When it does not fit its schema.
    pub(crate) fn record(&self, codec: &Codec, i: u32, now_ms: i64) -> anyhow::Result<Outgoing> {
        let delivery = self.delivery(i, now_ms);
        let sender = delivery.sender.clone();
        let headers = Headers::default()
            .with(headers::EVENT_ID, delivery.event_id.clone())
            .with(headers::DELIVERY_ID, delivery.delivery_id.clone());
        Ok(Outgoing {
            topic: Topics::new("bongsu.").deliveries(Channel::Webhook, self.class),
            partition: partition_of(sender.as_bytes(), self.partitions),
            key: Some(sender.into()),
            value: Some(codec.encode(&delivery).context("delivery")?),
            headers,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn load(keys: Keys) -> Load {
        Load {
            run: "run".to_owned(),
            class: Class::Transactional,
            keys,
            deliveries: 1_000,
            rate: Some(100.0),
            never_resend: 0.1,
            same_content: false,
            seed: 7,
            partitions: 8,
            target: "http://127.0.0.1:1".to_owned(),
        }
    }

    #[test]
    fn every_key_comes_in_its_turn() {
        let load = load(Keys::Even {
            senders: 3,
            addresses: 2,
        });
        let keys: Vec<u32> = (0..8).map(|i| load.key(i)).collect();
        assert_eq!(keys, [0, 1, 2, 3, 4, 5, 0, 1]);
        assert_eq!(load.sender(4), "run-1");
        assert_eq!(load.due(250), Duration::from_millis(2_500));
    }

    #[test]
    fn zipf_prefers_the_first_and_reaches_the_last() {
        let load = load(Keys::zipf(100, 1.0));
        let mut counts = vec![0; 100];
        for i in 0..100_000 {
            counts[load.key(i) as usize] += 1;
        }
        // The harmonic number of 100 is 5.187, so the first gets 19.3 %.
        assert!((18_500..20_000).contains(&counts[0]), "{}", counts[0]);
        assert!(counts[0] > counts[9] && counts[9] > counts[90]);
        assert!(counts.iter().all(|n| *n > 0));
    }

    #[test]
    fn a_broadcast_reaches_every_recipient_beside_ordinary_senders() {
        let load = load(Keys::Broadcast {
            recipients: 100,
            senders: 3,
        });
        let keys: Vec<u32> = (0..110).map(|i| load.key(i)).collect();
        assert!((0..103).all(|key| keys.contains(&key)));
        assert_eq!(keys.iter().filter(|key| **key < 100).count(), 100);
        assert_eq!(load.sender(99), "run-0");
        assert_eq!(
            (load.sender(100), load.sender(102)),
            ("run-1".into(), "run-3".into())
        );
    }

    #[test]
    fn a_record_is_what_dispatch_reads() {
        let load = load(Keys::Even {
            senders: 2,
            addresses: 2,
        });
        let codec = Codec::default();
        let record = load.record(&codec, 5, 1_000).unwrap();
        let read: Delivery = codec.decode(record.value.as_deref().unwrap()).unwrap();
        let checked = bongsu_schemas::convert::delivery_from_record(read).unwrap();
        assert_eq!(
            (checked.sender.as_str(), checked.event_id.as_str()),
            ("run-1", "5")
        );
        assert_eq!(
            record.partition,
            load.key_partitions()[load.key(5) as usize]
        );
        let other = load.delivery(6, 1_000);
        assert_ne!(checked.content_hash.to_hex(), other.content_hash);
        let looping = Load {
            same_content: true,
            ..load.clone()
        };
        let [a, b] = [5, 6].map(|i| looping.delivery(i, 1_000).content_hash);
        assert_eq!(a, b);
        let never = (0..10_000).filter(|i| load.is_never_resend(*i)).count();
        assert!((900..1_100).contains(&never), "{never}");
    }
}
