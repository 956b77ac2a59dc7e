//! What the connections of one twin share.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use super::credentials::{self, Credentials};
use super::plan::Plan;
use super::request::Refusal;
use super::token::{self, KnownKey};
use crate::authority::{Authority, AuthorityError};

/// What every living connection is told to do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Send a GOAWAY.
    GoAway,
    /// Fall silent: read nothing, write nothing, stay open.
    Freeze,
    /// Close without a word.
    Cut,
}

/// Running totals, as JSON at `/_sim/apns`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Connections open now.
    pub connections: u64,
    /// Connections accepted since the start.
    pub connections_total: u64,
    /// TLS handshakes that failed.
    pub handshakes_failed: u64,
    /// GOAWAY frames sent.
    pub goaways: u64,
    /// Requests read and ignored after a GOAWAY: above its last stream.
    pub ignored: u64,
    /// Streams refused by the plan.
    pub refused: u64,
    /// Streams opened above the limit the client had acknowledged.
    pub violations: u64,
    /// The most streams at a time on one connection.
    pub most_streams: u64,
    /// Streams reset by clients.
    pub cancelled: u64,
    /// Distinct provider tokens seen.
    pub tokens: u64,
    /// Requests answered before their connection had proved itself.
    pub unproved: u64,
    /// PINGs answered.
    pub pings: u64,
}

/// One counter per field of [`Stats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) connections_total: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) goaways: AtomicU64,
    pub(super) ignored: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) violations: AtomicU64,
    pub(super) most_streams: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) unproved: AtomicU64,
    pub(super) pings: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[derive(Debug, Default)]
struct Memory {
    /// Tokens seen, and when first, in milliseconds. Apple counts changes within 20 minutes; a test's
    /// life has few more.
    tokens: VecDeque<(String, u64)>,
    /// Pushes within the present window, by device.
    devices: HashMap<String, (u64, u32)>,
}

/// The twin.
pub(crate) struct Apns {
    plan: watch::Sender<Arc<Plan>>,
    commands: broadcast::Sender<Command>,
    pub(super) counters: Counters,
    memory: Mutex<Memory>,
    known: KnownKey,
    pub(super) tls: Arc<ServerConfig>,
    credentials: Credentials,
}

/// Commands a connection may lag behind; they are rare.
const COMMANDS: usize = 16;

impl Apns {
    pub(crate) fn new(
        plan: Plan,
        authority: &Authority,
        dir: Option<&Path>,
    ) -> Result<Self, AuthorityError> {
        let made = credentials::make(authority, dir)?;
        Ok(Self {
            plan: watch::channel(Arc::new(plan)).0,
            commands: broadcast::channel(COMMANDS).0,
            counters: Counters::default(),
            memory: Mutex::default(),
            known: made.known,
            tls: made.tls,
            credentials: made.credentials,
        })
    }

    pub(crate) const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.borrow())
    }

    pub(crate) fn set_plan(&self, plan: Plan) -> Result<(), String> {
        plan.validate()?;
        self.plan.send_replace(Arc::new(plan));
        Ok(())
    }

    pub(super) fn watch_plan(&self) -> watch::Receiver<Arc<Plan>> {
        self.plan.subscribe()
    }

    /// Tells every connection; how many there are.
    pub(crate) fn command(&self, command: Command) -> usize {
        self.commands.send(command).unwrap_or(0)
    }

    pub(super) fn commands(&self) -> broadcast::Receiver<Command> {
        self.commands.subscribe()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &self.counters;
        Stats {
            connections: get(&c.connections),
            connections_total: get(&c.connections_total),
            handshakes_failed: get(&c.handshakes_failed),
            goaways: get(&c.goaways),
            ignored: get(&c.ignored),
            refused: get(&c.refused),
            violations: get(&c.violations),
            most_streams: get(&c.most_streams),
            cancelled: get(&c.cancelled),
            tokens: self.memory().tokens.len() as u64,
            unproved: get(&c.unproved),
            pings: get(&c.pings),
        }
    }

    /// Judges the value of `authorization` at `now_ms`, and says until when it is right.
    ///
    /// # Errors
    /// Apple's refusal.
    pub(super) fn judge(
        &self,
        authorization: &str,
        plan: &Plan,
        now_ms: u64,
    ) -> Result<u64, Refusal> {
        let refused = |reason| Refusal::new(403, reason);
        if authorization.is_empty() {
            return Err(refused("MissingProviderToken"));
        }
        let token = authorization
            .strip_prefix("bearer ")
            .ok_or(refused("InvalidProviderToken"))?;
        let claims = token::read(token, &self.known, plan.verify_tokens)
            .ok_or(refused("InvalidProviderToken"))?;
        let now_s = i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX);
        let until = claims.iat.saturating_add(plan.token_life_s);
        let old = until < now_s || claims.iat < plan.tokens_expired_before;
        if old {
            return Err(refused("ExpiredProviderToken"));
        }
        let until_ms = u64::try_from(until).unwrap_or(0).saturating_mul(1_000);
        let mut memory = self.memory();
        if memory.tokens.iter().any(|(seen, _)| seen == token) {
            return Ok(until_ms);
        }
        let recent = memory
            .tokens
            .iter()
            .filter(|(_, at)| at.saturating_add(plan.token_window_ms) > now_ms)
            .count();
        if plan.token_changes > 0 && recent >= plan.token_changes as usize {
            return Err(Refusal::new(429, "TooManyProviderTokenUpdates"));
        }
        memory.tokens.push_back((token.to_owned(), now_ms));
        Ok(until_ms)
    }

    /// Counts a push to a device; too many within the window are refused.
    pub(super) fn admit(&self, device: &str, plan: &Plan, now_ms: u64) -> Result<(), Refusal> {
        if plan.device_limit == 0 {
            return Ok(());
        }
        let mut memory = self.memory();
        let (ends, used) = memory.devices.entry(device.to_owned()).or_default();
        if now_ms >= *ends {
            (*ends, *used) = (now_ms + plan.device_window_ms, 0);
        }
        if *used >= plan.device_limit {
            return Err(Refusal::new(429, "TooManyRequests"));
        }
        *used += 1;
        Ok(())
    }
}
