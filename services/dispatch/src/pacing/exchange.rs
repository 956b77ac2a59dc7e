//! The exchange of shares: what workers of one limit tell each other on the `limits` topic.
//!
//! One task per channel and process. It reads everything that is said of the channel's limits, in
//! log order, claims this process's part about once a second, and tells the pacer what of it may be
//! spent ([`Share`] decides all of it). A pause that the provider asked for is told at once, and
//! obeyed by everybody. Of a limit that nobody told them they tell the rate they have found, draw near
//! to each other and see sooner that it has risen ([`Words`]). Where the provider bans an address for bad answers, each worker tells how many
//! it got, and all rest before the ban ([`Strikes`]). While Kafka is not reachable, shares run out within three seconds and the
//! limits close: no worker spends what it cannot know to be its own.
//!
//! Cancel safety: dropping [`Exchange::run`] is a crash; the claims expire by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::provider::Provider;
use bongsu_domain::Channel;
use bongsu_policy::pacing::AccountKey;
use bongsu_policy::pacing::rate::Word;
use bongsu_policy::pacing::share::{Claim, GRANT_MS, KEPT_MS, Share};
use bongsu_policy::pacing::strikes::Strikes;
use bongsu_policy::pacing::words::Words;
use bongsu_runtime::{Clock, Shutdown};
use bongsu_schemas::records::RateShare;
use bongsu_schemas::{Codec, DecodeError, Millis, SchemaLookup, learn_missing};
use bongsu_stream::error::ProduceError;
use bongsu_stream::port::{
    Cluster, Follower, From, Headers, Isolation, Outgoing, Producer, Record, TailRange,
    TopicPartition,
};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::Pacing;
use crate::error::DispatchError;

/// How often shares are put into force and new accounts and pauses looked for.
const TICK: Duration = Duration::from_millis(100);
/// Between two claims.
const CLAIM_MS: i64 = 1_000;
/// Between two claims of a worker that lacks units, or that others wait for.
const HASTE_MS: i64 = CLAIM_MS / 4;
/// What was said longer ago than this has expired on any clock.
const READ_BACK_MS: i64 = 60_000 + KEPT_MS;
/// A worker without demand keeps this part of the limit, so that it can begin.
const IDLE_PART: u32 = 50;
/// Pause before a follower that failed begins again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a writer's schema may stay unknown.
const PATIENCE: Duration = Duration::from_secs(30);
/// Claims on their way; more would mean that Kafka has not answered for minutes.
const UNANSWERED: usize = 1_024;

/// What the exchange works with.
pub struct Exchange {
    /// The log.
    pub cluster: Arc<dyn Cluster>,
    /// The `limits` topic.
    pub topic: Arc<str>,
    /// Reads and writes shares.
    pub codec: Arc<Codec>,
    /// Finds schemas that are missing.
    pub schemas: Arc<dyn SchemaLookup>,
    /// The channel.
    pub channel: Channel,
    /// This process.
    pub worker_id: Arc<str>,
    /// Name of the public IP address that it shares with others.
    pub egress: String,
    /// Time.
    pub clock: Clock,
    /// What is paced.
    pub pacing: Arc<Pacing>,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy)]
enum Owner {
    Account(AccountKey),
    Egress,
}

/// One limit, or an account without one whose pauses and learned rate are told.
struct Scope {
    share: Share,
    words: Words,
    /// None while nothing of it was sent from here; others' claims are kept all the same.
    owner: Option<Owner>,
    limit: u32,
    claimed_at: i64,
    claims_at: i64,
    paused_until: i64,
}

/// The bad answers of one public IP address.
struct Tally {
    strikes: Strikes,
    window_ms: i64,
    limit: u32,
    /// What was told last, and when the next word is due.
    told: u32,
    tell_at: i64,
}

/// The state of a running exchange.
struct Running {
    exchange: Exchange,
    /// Names this life of the process.
    life: String,
    epoch: i64,
    producer: Arc<dyn Producer>,
    scopes: BTreeMap<String, Scope>,
    tally: Option<Tally>,
    written: FuturesUnordered<BoxFuture<'static, Result<i64, ProduceError>>>,
}

impl Exchange {
    /// Exchanges shares until the shutdown; request it when the owners have ended.
    ///
    /// # Errors
    /// [`DispatchError`]; the process should be restarted.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), DispatchError> {
        let epoch = self.clock.now_millis();
        let mut running = Running {
            life: life(&self.worker_id, epoch),
            epoch,
            producer: self.cluster.producer(Duration::ZERO)?,
            scopes: BTreeMap::new(),
            tally: Tally::of(self.pacing.provider.as_ref()),
            written: FuturesUnordered::new(),
            exchange: self,
        };
        let window = running.tally.as_ref().map_or(0, |tally| tally.window_ms);
        let mut from = From::Time(epoch - READ_BACK_MS.max(window));
        loop {
            let mut follower = running.follow(from)?;
            match running
                .serve(follower.as_mut(), &mut from, &shutdown)
                .await?
            {
                Served::Stopped => return Ok(()),
                Served::Interrupted => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}

/// Why the exchange stopped serving.
enum Served {
    Stopped,
    Interrupted,
}

impl Running {
    fn follow(&self, from: From) -> Result<Box<dyn Follower>, DispatchError> {
        let range = TailRange {
            partition: TopicPartition::new(Arc::clone(&self.exchange.topic), 0),
            from,
            until: None,
        };
        Ok(self
            .exchange
            .cluster
            .follow(vec![range], Isolation::Uncommitted)?)
    }

    async fn serve(
        &mut self,
        follower: &mut dyn Follower,
        from: &mut From,
        shutdown: &Shutdown,
    ) -> Result<Served, DispatchError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Every branch is cancel safe: the follower and the writes lose nothing.
            tokio::select! {
                biased;
                () = shutdown.requested() => {
                    self.leave().await;
                    return Ok(Served::Stopped);
                }
                _ = tick.tick() => self.tick(),
                records = follower.next() => match records {
                    Ok(records) => {
                        for record in records {
                            self.read(&record).await?;
                            *from = From::Offset(record.offset + 1);
                        }
                        self.enforce();
                    }
                    Err(error) => {
                        tracing::warn!(%error, "shares of limits cannot be read; they run out");
                        self.enforce();
                        return Ok(Served::Interrupted);
                    }
                },
                Some(written) = self.written.next(), if !self.written.is_empty() => {
                    if let Err(error) = written {
                        tracing::warn!(%error, "a claim on a limit was not written");
                    }
                }
            }
        }
    }

    async fn read(&mut self, record: &Record) -> Result<(), DispatchError> {
        let Some(value) = record.value.as_deref() else {
            return Ok(());
        };
        if scope_of(record).is_some_and(|scope| !self.is_ours(scope)) {
            // Whatever it says: no other channel's fault ends this one.
            return Ok(());
        }
        let said = match self.exchange.codec.decode::<RateShare>(value) {
            Ok(said) => said,
            Err(DecodeError::UnknownSchema(reference)) => {
                let codec = &self.exchange.codec;
                let schemas = self.exchange.schemas.as_ref();
                learn_missing(codec, schemas, reference, PATIENCE)
                    .await
                    .map_err(DispatchError::Shares)?;
                codec
                    .decode::<RateShare>(value)
                    .map_err(|e| DispatchError::Shares(e.to_string()))?
            }
            Err(error) => return Err(DispatchError::Shares(error.to_string())),
        };
        if self.is_ours(&said.scope) {
            self.take_in(said, record.timestamp);
        }
        Ok(())
    }

    /// Whether a scope concerns this channel, and this process's exit.
    fn is_ours(&self, scope: &str) -> bool {
        let channel = self.exchange.channel.as_str();
        let account = format!("account:{channel}/");
        scope.starts_with(&account)
            || scope == self.egress_scope()
            || (self.tally.is_some() && scope == self.strikes_scope())
    }

    fn strikes_scope(&self) -> String {
        format!("strikes:{}/{}", self.exchange.channel, self.exchange.egress)
    }

    fn egress_scope(&self) -> String {
        format!("egress:{}/{}", self.exchange.channel, self.exchange.egress)
    }

    fn take_in(&mut self, said: RateShare, at: i64) {
        let worker = life(&said.worker_id, said.epoch);
        if said.scope == self.strikes_scope() {
            // One's own are counted where they are made.
            if let Some(tally) = self.tally.as_mut().filter(|_| worker != self.life) {
                let told = u32::try_from(said.using).unwrap_or(0);
                tally.strikes.told(&worker, told, at);
            }
            return;
        }
        let now = self.exchange.clock.now_millis();
        let word = (said.rate > 0 && worker != self.life).then(|| word_of(&said));
        let scope = self
            .scopes
            .entry(said.scope)
            .or_insert_with(|| Scope::new(&self.life));
        if said.limit > 0 {
            let units = |n: i32| u32::try_from(n).unwrap_or(0);
            let claim = Claim {
                sequence: said.sequence.unsigned_abs(),
                demand: units(said.demand),
                claimed: units(said.claimed),
                limit: units(said.limit),
                left: said.left,
            };
            scope.share.read(&worker, claim, at);
        }
        scope.words.read(at, now);
        if let Some(word) = word {
            scope.words.heard(&worker, word, at);
        }
        if let Some(Millis(until)) = said.paused_until {
            scope.paused_until = scope.paused_until.max(until);
            if let Some(owner) = scope.owner {
                pause(&self.exchange.pacing, owner, until);
            }
        }
    }

    /// Takes new accounts up, tells of pauses, claims what is due, and puts shares into force.
    fn tick(&mut self) {
        self.discover();
        let now = self.exchange.clock.now_millis();
        self.count_strikes(now);
        let (mut said, mut words) = (Vec::new(), Vec::new());
        for (name, scope) in &mut self.scopes {
            let Some(owner) = scope.owner else { continue };
            let paused = paused(&self.exchange.pacing, owner);
            let tells = paused > scope.paused_until.max(now);
            scope.paused_until = scope.paused_until.max(paused);
            if scope.limit == 0 && !tells {
                if now >= scope.claims_at {
                    let word = scope.talk(now, &self.exchange.pacing, owner);
                    words.extend(word.map(|word| (name.clone(), word, scope.paused_until)));
                }
                continue;
            }
            if now >= scope.claims_at || tells || scope.is_waited_for(now) {
                let (claim, using) = scope.claim(now, &self.exchange.pacing, owner);
                said.push((name.clone(), claim, using, tells.then_some(paused)));
            }
        }
        self.enforce();
        for (scope, claim, using, paused) in said {
            self.say(scope, claim, using, paused);
        }
        for (scope, word, paused_until) in words {
            let paused_until = (paused_until > now).then_some(Millis(paused_until));
            self.say_word(scope, word, paused_until);
        }
    }

    fn discover(&mut self) {
        let channel = self.exchange.channel;
        let (accounts, egress) = {
            let pacer = self.exchange.pacing.lock();
            let accounts: Vec<_> = pacer
                .accounts()
                .map(|(key, name, limits)| {
                    let scope = format!("account:{channel}/{name}");
                    (scope, Owner::Account(key), limits.per_second.unwrap_or(0))
                })
                .collect();
            (accounts, pacer.egress_limit().unwrap_or(0))
        };
        let exit = (self.egress_scope(), Owner::Egress, egress);
        for (name, owner, limit) in accounts.into_iter().chain([exit]) {
            let scope = self
                .scopes
                .entry(name)
                .or_insert_with(|| Scope::new(&self.life));
            if scope.owner.is_none() {
                scope.owner = Some(owner);
                scope.limit = limit;
                scope.share.configure(limit);
                pause(&self.exchange.pacing, owner, scope.paused_until);
            }
        }
    }

    /// Counts this worker's bad answers, tells the others of them, and lets everything from this
    /// address rest when all together come near to the ban. The pause is told like any other.
    fn count_strikes(&mut self, now: i64) {
        let Some(tally) = &mut self.tally else {
            return;
        };
        let total = self.exchange.pacing.provider.strikes();
        let own = tally.strikes.observe(now, total);
        let told = tally.due(now, own);
        let rest = tally.strikes.rest(now);
        if let Some(until) = rest {
            let mut pacer = self.exchange.pacing.lock();
            if pacer.egress_paused_until() <= now {
                pacer.pause_egress(until);
                tracing::error!(
                    channel = %self.exchange.channel,
                    strikes = tally.strikes.all(now),
                    "so many bad answers that the provider would soon ban this address: everything \
                     rests; are dead addresses still in use?"
                );
            }
        }
        if told {
            let (limit, window_ms) = (tally.limit, tally.window_ms);
            self.say_strikes(now, own, limit, window_ms);
        }
    }

    fn say_strikes(&self, now: i64, own: u32, limit: u32, window_ms: i64) {
        let int = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let scope = self.strikes_scope();
        // A key for each life: what a former one told stays until its window has passed.
        let key = format!("{scope}\u{1f}{}", self.life);
        self.write(
            key,
            &RateShare {
                scope,
                worker_id: self.exchange.worker_id.to_string(),
                epoch: self.epoch,
                limit: int(limit),
                using: int(own),
                expires_at: Some(Millis(now + window_ms)),
                ..RateShare::default()
            },
        );
    }

    /// Tells the pacer what may be spent now.
    fn enforce(&self) {
        let now = self.exchange.clock.now_millis();
        let mut pacer = self.exchange.pacing.lock();
        for scope in self.scopes.values().filter(|s| s.limit > 0) {
            let units = scope.share.spendable(now);
            let until = scope.share.expires_at();
            match scope.owner {
                Some(Owner::Account(key)) => pacer.share(key, units, until),
                Some(Owner::Egress) => pacer.share_egress(units, until),
                None => {}
            }
        }
    }

    fn say(&self, scope: String, claim: Claim, using: u32, paused: Option<i64>) {
        let now = self.exchange.clock.now_millis();
        let int = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let key = format!("{scope}\u{1f}{}", self.exchange.worker_id);
        let said = RateShare {
            scope,
            worker_id: self.exchange.worker_id.to_string(),
            epoch: self.epoch,
            sequence: i64::try_from(claim.sequence).unwrap_or(i64::MAX),
            limit: int(claim.limit),
            demand: int(claim.demand),
            using: int(using),
            claimed: int(claim.claimed),
            left: claim.left,
            expires_at: Some(Millis(now + GRANT_MS)),
            paused_until: paused.map(Millis),
            ..RateShare::default()
        };
        self.write(key, &said);
    }

    fn say_word(&self, scope: String, word: Word, paused_until: Option<Millis>) {
        let key = format!("{scope}\u{1f}{}", self.exchange.worker_id);
        #[expect(clippy::cast_possible_truncation, reason = "a cast saturates")]
        let said = RateShare {
            scope,
            worker_id: self.exchange.worker_id.to_string(),
            epoch: self.epoch,
            // Written over in the log, a pause is still to be told.
            paused_until,
            rate: ((word.rate * 1_000.0) as i64).max(1),
            quiet_ms: word.quiet_ms,
            ..RateShare::default()
        };
        self.write(key, &said);
    }

    fn write(&self, key: String, said: &RateShare) {
        if self.written.len() >= UNANSWERED {
            return;
        }
        let value = match self.exchange.codec.encode(said) {
            Ok(value) => value,
            Err(error) => {
                tracing::error!(%error, "a claim on a limit cannot be encoded");
                return;
            }
        };
        self.written.push(self.producer.send(Outgoing {
            topic: Arc::clone(&self.exchange.topic),
            partition: 0,
            key: Some(key.into_bytes().into()),
            value: Some(value),
            headers: Headers::default(),
        }));
    }

    /// Gives up at once what nothing is held of; the rest expires.
    async fn leave(&mut self) {
        let now = self.exchange.clock.now_millis();
        let mut said = Vec::new();
        for (name, scope) in &mut self.scopes {
            let Some(owner) = scope.owner.filter(|_| scope.limit > 0) else {
                continue;
            };
            if usage(&self.exchange.pacing, owner, now).held == 0 {
                said.push((name.clone(), scope.share.leave()));
            }
        }
        self.enforce();
        for (scope, claim) in said {
            self.say(scope, claim, 0, None);
        }
        if self.producer.drain(AGAIN).await.is_err() {
            tracing::debug!("the last words on limits were not acknowledged; the claims expire");
        }
    }
}

impl Tally {
    /// None when the provider bans nobody.
    fn of(provider: &dyn Provider) -> Option<Self> {
        let limit = provider.strike_limit()?;
        let window_ms = i64::try_from(limit.window.as_millis()).ok()?;
        Some(Self {
            strikes: Strikes::new(limit.strikes, window_ms),
            window_ms,
            limit: limit.strikes,
            told: 0,
            tell_at: i64::MIN,
        })
    }

    /// Whether the others must hear of `own` now: when it has changed, once a second, and at once
    /// when it has grown by a hundredth of the limit.
    fn due(&mut self, now: i64, own: u32) -> bool {
        let grown = own.saturating_sub(self.told) >= (self.limit / 100).max(1);
        let due = own != self.told && (now >= self.tell_at || grown);
        if due {
            self.told = own;
            self.tell_at = now + CLAIM_MS;
        }
        due
    }
}

impl Scope {
    fn new(life: &str) -> Self {
        Self {
            share: Share::new(life, 0),
            words: Words::default(),
            owner: None,
            limit: 0,
            claimed_at: i64::MIN / 2,
            claims_at: i64::MIN,
            paused_until: i64::MIN,
        }
    }

    /// Whether others lack what this worker can give up.
    fn is_waited_for(&self, now: i64) -> bool {
        now >= self.claimed_at + HASTE_MS && self.share.owes()
    }

    /// Takes in what others have said of the learned rate, and gives this worker's word on it.
    fn talk(&mut self, now: i64, pacing: &Pacing, owner: Owner) -> Option<Word> {
        let Owner::Account(key) = owner else {
            return None;
        };
        self.claims_at = now + CLAIM_MS;
        let mut pacer = pacing.lock();
        let word = pacer.word(now, key)?;
        pacer.hear(now, key, &self.words.fresh(now));
        Some(word)
    }

    /// The next claim, and what is held.
    fn claim(&mut self, now: i64, pacing: &Pacing, owner: Owner) -> (Claim, u32) {
        let usage = usage(pacing, owner, now);
        // What is held is what was spent in the last second: starts come in bursts, so a shorter
        // look would take the pause between two of them for a lack of demand.
        let wanted = if usage.wanted_more {
            // It may be far more: twice as much each time.
            usage.held.saturating_mul(2).saturating_add(self.limit / 4)
        } else {
            usage.held.saturating_add(usage.held / 4)
        };
        let least = (self.limit / IDLE_PART).max(u32::from(usage.wanted_more));
        let demand = wanted.max(least).min(self.limit);
        self.claimed_at = now;
        self.claims_at = now
            + if usage.wanted_more && self.share.spendable(now) < demand {
                HASTE_MS
            } else {
                CLAIM_MS
            };
        // What is held is read with the window lowered already: nothing may be spent in between.
        let held = if self.limit > 0 {
            let units = self.share.spendable_with(now, demand);
            lower(pacing, owner, now, units, self.share.expires_at())
        } else {
            usage.held
        };
        (self.share.claim(now, demand, held), held)
    }
}

fn life(worker: &str, epoch: i64) -> String {
    format!("{worker}\u{1f}{epoch}")
}

fn word_of(said: &RateShare) -> Word {
    #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^52")]
    let rate = said.rate as f64 / 1_000.0;
    Word {
        rate,
        quiet_ms: said.quiet_ms,
    }
}

/// The scope that a record's key begins with.
fn scope_of(record: &Record) -> Option<&str> {
    let key = std::str::from_utf8(record.key.as_deref()?).ok()?;
    key.split('\u{1f}').next()
}

fn usage(pacing: &Pacing, owner: Owner, now: i64) -> bongsu_policy::pacing::Usage {
    let mut pacer = pacing.lock();
    match owner {
        Owner::Account(key) => pacer.usage(now, key),
        Owner::Egress => pacer.egress_usage(now),
    }
}

/// Sets what may be spent, and says what is held.
fn lower(pacing: &Pacing, owner: Owner, now: i64, units: u32, until: i64) -> u32 {
    let mut pacer = pacing.lock();
    match owner {
        Owner::Account(key) => {
            pacer.share(key, units, until);
            pacer.held(now, key)
        }
        Owner::Egress => {
            pacer.share_egress(units, until);
            pacer.egress_held(now)
        }
    }
}

fn paused(pacing: &Pacing, owner: Owner) -> i64 {
    let pacer = pacing.lock();
    match owner {
        Owner::Account(key) => pacer.paused_until(key),
        Owner::Egress => pacer.egress_paused_until(),
    }
}

fn pause(pacing: &Pacing, owner: Owner, until: i64) {
    let mut pacer = pacing.lock();
    match owner {
        Owner::Account(key) => pacer.pause(key, until),
        Owner::Egress => pacer.pause_egress(until),
    }
}
