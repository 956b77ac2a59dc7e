//! Hygiene in the ledger: addresses that providers call dead are published as suppressions before the
//! batch that says so is written.
//!
//! Invariant: what a batch decides is acknowledged by Kafka before the batch's offsets move, so a
//! crash decides it again and publishes the same. The windows of the guard move in the transaction of
//! the batch. The `suppressions` topic is the truth: it is read whole before anything is judged, and
//! its table in the store follows it.

mod known;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bongsu_domain::{AddressKey, Channel, Hold, Reason, Timestamp};
use bongsu_policy::hygiene::{
    Act, HygieneLimits, HygieneScope, Judged, Observation, Streak, Told, Windows, Word, judge,
    word_of,
};
use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{Duration, Ratio, settings};
use bongsu_schemas::Codec;
use bongsu_schemas::suppression::{SuppressionChange, write_suppression};
use bongsu_store::{
    Finding, LedgerReceipt, LedgerStore, ReceiptBatch, SenderScope, StoreError, WindowRow,
};
use bongsu_stream::port::{Headers, Outgoing, Producer};
use futures_util::future::try_join_all;

pub(crate) use self::known::Known;
use crate::metrics::HygieneMetrics;

settings! {
    /// Which addresses are retired, and how many at once are believed to be dead.
    pub struct HygieneSettings {
        /// Whether dead addresses are retired at all.
        pub enabled: bool = true,
        /// The guard looks back this long.
        pub window: Duration = Duration::secs(3_600),
        /// Part of the addresses of one app told of within the window that may be dead; beyond it none
        /// is retired, for our environment or credential is more likely wrong than they are.
        pub share: Ratio = Ratio::percent(20),
        /// Dead addresses of one app within the window that are believed whatever their share.
        pub believed: u64 = 20,
        /// Doubtful verdicts that make a dead address.
        pub doubtful_verdicts: u32 = 3,
        /// How far apart the first and the last of them must lie.
        pub doubtful_span: Duration = Duration::secs(24 * 3_600),
        /// Deliveries in a row that a webhook's receiver turned away (401, 403, 404 to their last attempt)
        /// that make a dead address.
        pub turned_away_verdicts: u32 = 10,
        /// How far apart the first and the last of them must lie.
        pub turned_away_span: Duration = Duration::secs(5 * 24 * 3_600),
    }
}

impl HygieneSettings {
    pub(crate) fn complaints(&self, section: &str) -> Vec<Complaint> {
        let mut out = Vec::new();
        for (key, wrong, message) in [
            (
                "window",
                self.window < Duration::secs(60),
                "must be at least 1m",
            ),
            (
                "window",
                self.window > Duration::secs(24 * 3_600),
                "must be at most 24h",
            ),
            (
                "doubtful_verdicts",
                self.doubtful_verdicts < 2,
                "must be at least 2: one doubtful verdict retires nobody",
            ),
            (
                "turned_away_verdicts",
                self.turned_away_verdicts < 2,
                "must be at least 2: one doubtful verdict retires nobody",
            ),
        ] {
            if wrong {
                out.push(Complaint::new(format!("{section}.{key}"), message));
            }
        }
        out
    }

    fn limits(&self) -> HygieneLimits {
        let millis = |d: Duration| i64::try_from(d.0.as_millis()).unwrap_or(i64::MAX);
        HygieneLimits {
            window_ms: millis(self.window),
            #[expect(clippy::cast_precision_loss, reason = "parts of a thousand")]
            share: self.share.of(1_000) as f64 / 1_000.0,
            believed: self.believed,
            doubtful: Streak {
                verdicts: self.doubtful_verdicts,
                span_ms: millis(self.doubtful_span),
            },
            turned_away: Streak {
                verdicts: self.turned_away_verdicts,
                span_ms: millis(self.turned_away_span),
            },
        }
    }
}

/// What could not be done; the batch is tried again.
#[derive(Debug)]
pub(crate) enum Failed {
    Store(StoreError),
    Publish(String),
}

/// Judges batches.
pub(crate) struct Hygiene {
    pub(crate) known: Arc<Known>,
    pub(crate) producer: Arc<dyn Producer>,
    pub(crate) topic: Arc<str>,
    limits: HygieneLimits,
    metrics: HygieneMetrics,
    /// Scopes that the guard holds, and the receipts' time when it last did.
    guarded: Mutex<BTreeMap<HygieneScope, Timestamp>>,
}

impl Hygiene {
    pub(crate) fn new(
        settings: &HygieneSettings,
        known: Arc<Known>,
        producer: Arc<dyn Producer>,
        topic: Arc<str>,
        metrics: HygieneMetrics,
    ) -> Self {
        Self {
            known,
            producer,
            topic,
            limits: settings.limits(),
            metrics,
            guarded: Mutex::default(),
        }
    }

    /// Decides what a batch says of addresses, publishes it, and gives what is to be added to the
    /// windows. Publishes the same when it is called again for a batch that could not be written.
    pub(crate) async fn judge(
        &self,
        batch: &ReceiptBatch,
        store: &dyn LedgerStore,
    ) -> Result<Vec<WindowRow>, Failed> {
        let mut observations = Vec::new();
        for (_, receipt) in batch.partitions.iter().flat_map(|p| &p.receipts) {
            observations.extend(match observe(receipt) {
                Some(observed) => Some(observed),
                None => observe_report(receipt, store).await?,
            });
        }
        let Some(newest) = observations.iter().map(|o| o.at).max() else {
            return Ok(Vec::new());
        };
        let oldest = observations.iter().map(|o| o.at).min().unwrap_or(newest);
        let mut told = Windows::default();
        if observations
            .iter()
            .any(|o| !matches!(o.word, Word::Reached | Word::Unwanted))
        {
            let since = Timestamp(oldest.0 - self.limits.window_ms - 60_000);
            for row in store.windows(since).await.map_err(Failed::Store)? {
                let Ok(channel) = Channel::parse(&row.channel) else {
                    continue;
                };
                let scope = HygieneScope {
                    channel,
                    account: row.account,
                    app: row.app,
                };
                let words = Told {
                    all: u64::try_from(row.told).unwrap_or(0),
                    dead: u64::try_from(row.dead).unwrap_or(0),
                };
                told.add(&scope, row.minute, words);
            }
        }
        // Only these can be touched; the rest stays where it is.
        let mut held = self.known.held(observations.iter().map(key_of));
        let judged = judge(&self.limits, told, &mut held, &observations);
        self.publish(&judged).await?;
        self.count(&judged, newest);
        Ok(rows_of(&judged.windows))
    }

    async fn publish(&self, judged: &Judged) -> Result<(), Failed> {
        let changes: Vec<SuppressionChange> = judged
            .acts
            .iter()
            .map(|act| match act {
                Act::Keep(suppression) => SuppressionChange::Keep(Box::new(suppression.clone())),
                Act::Forget(key, _) => SuppressionChange::Forget(*key),
            })
            .collect();
        let mut sent = Vec::with_capacity(changes.len());
        for change in &changes {
            let record = record_of(&self.known.codec, &self.topic, change);
            sent.push(self.producer.send(record.map_err(Failed::Publish)?));
        }
        try_join_all(sent)
            .await
            .map_err(|error| Failed::Publish(error.to_string()))?;
        for change in changes {
            self.known.apply(change);
        }
        self.known.tell();
        Ok(())
    }

    fn count(&self, judged: &Judged, now: Timestamp) {
        for act in &judged.acts {
            self.metrics.decided(match act {
                Act::Keep(s) if s.reason == Reason::Complained => "complained",
                Act::Keep(s) if s.hold == Hold::Suppressed => "retired",
                Act::Keep(_) => "suspected",
                Act::Forget(_, Hold::Suppressed) => "restored",
                Act::Forget(_, Hold::Suspected) => "cleared",
            });
        }
        let mut guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        guarded.retain(|scope, at| {
            !judged.believed.contains_key(scope) && now.millis_since(*at) < self.limits.window_ms
        });
        for (scope, addresses) in &judged.withheld {
            self.metrics.withheld(*addresses);
            if guarded.insert(scope.clone(), now).is_none() {
                tracing::error!(
                    channel = %scope.channel, account = scope.account, app = scope.app,
                    "too many addresses are said to be dead at once: nothing more is retired there; is \
                     the environment, topic or credential wrong? `bongsu suppressions undo` takes back \
                     what was retired before"
                );
            }
        }
        self.metrics.guarded(guarded.len());
    }
}

fn key_of(observed: &Observation) -> u64 {
    let scope = &observed.scope;
    AddressKey::new(scope.channel, &scope.account, &observed.address_id).0
}

/// What a receipt says of its address; none for one that says nothing, or names no address.
fn observe(receipt: &LedgerReceipt) -> Option<Observation> {
    let outcome = match &receipt.finding {
        Finding::Outcome { outcome, .. } | Finding::Report { outcome, .. } => *outcome,
        Finding::Event(_) | Finding::Attempt { .. } => return None,
    };
    let reason = Reason::parse(&receipt.reason).unwrap_or(Reason::None);
    let word = word_of(outcome, reason)?;
    let facts = &receipt.facts;
    Some(Observation {
        scope: HygieneScope {
            channel: Channel::parse(facts.channel.as_deref()?).ok()?,
            account: facts.account.clone()?,
            app: facts.app.clone().unwrap_or_default(),
        },
        address_id: facts.address_id.clone()?,
        registered_at: facts.registered_at,
        at: receipt.at,
        word,
    })
}

/// The same for a report of bad news or of a complaint, which knows its delivery only: the store knows the address,
/// once it has the outcome. One that comes before it says nothing.
async fn observe_report(
    receipt: &LedgerReceipt,
    store: &dyn LedgerStore,
) -> Result<Option<Observation>, Failed> {
    let Finding::Report { delivery, outcome } = &receipt.finding else {
        return Ok(None);
    };
    let reason = Reason::parse(&receipt.reason).unwrap_or(Reason::None);
    let word = match word_of(*outcome, reason) {
        Some(word) if word != Word::Reached => word,
        Some(_) | None => return Ok(None),
    };
    let found = store.delivery(*delivery, &SenderScope::All).await;
    let Some(view) = found.map_err(Failed::Store)? else {
        return Ok(None);
    };
    let channel = view.channel.as_deref().and_then(|c| Channel::parse(c).ok());
    let (Some(channel), Some(account), Some(address_id)) = (channel, view.account, view.address_id)
    else {
        return Ok(None);
    };
    Ok(Some(Observation {
        scope: HygieneScope {
            channel,
            account,
            app: view.app.unwrap_or_default(),
        },
        address_id,
        registered_at: None,
        at: receipt.at,
        word,
    }))
}

fn rows_of(windows: &Windows) -> Vec<WindowRow> {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    windows
        .rows()
        .map(|(scope, minute, told)| WindowRow {
            channel: scope.channel.as_str().to_owned(),
            account: scope.account.clone(),
            app: scope.app.clone(),
            minute,
            told: number(told.all),
            dead: number(told.dead),
        })
        .collect()
}

fn record_of(
    codec: &Codec,
    topic: &Arc<str>,
    change: &SuppressionChange,
) -> Result<Outgoing, String> {
    let (key, value) = write_suppression(codec, change).map_err(|e| e.to_string())?;
    Ok(Outgoing {
        topic: Arc::clone(topic),
        partition: 0,
        key: Some(key.into()),
        value,
        headers: Headers::default(),
    })
}
