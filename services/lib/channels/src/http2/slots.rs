//! Which connection takes the next request, and what becomes of each. Pure: time and connections are
//! handed in.

use std::time::Duration;

use tokio::time::Instant;

/// A connection in the pool. `S` is its handle.
#[derive(Debug)]
struct Slot<S> {
    id: u64,
    handle: S,
    in_flight: usize,
    /// The server's present limit.
    limit: usize,
    /// Whether a credential was accepted on it.
    warm: bool,
    /// Takes no new request and ends with its last.
    retired: bool,
    opened: Instant,
    last_heard: Instant,
    last_used: Instant,
}

/// What a request does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice<S> {
    /// Go out on this connection, which counts it from now on.
    Use {
        /// Which.
        id: u64,
        /// Its handle.
        handle: S,
        /// Whether another connection should be opened beside, because this one fills up.
        open_more: bool,
    },
    /// Open a connection, then wait for it.
    Open,
    /// Wait until something changes.
    Wait,
    /// There is no connection, and none may be tried yet.
    Down,
}

/// What the watcher of a connection does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Check {
    /// Look again then.
    At(Instant),
    /// Ask whether the other side lives.
    Ping,
    /// Close it: nothing is under way and nothing may be.
    Close,
}

/// How the pool behaves.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The most connections.
    pub connections: usize,
    /// The most requests at a time on one, however many the server allows.
    pub streams: usize,
    /// Whether connections are warm from the start (a certificate proves itself by TLS).
    pub warm: bool,
    /// Longest silence with requests under way.
    pub silence: Duration,
    /// Longest silence without.
    pub idle_silence: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// First wait after a failure.
    pub backoff: Duration,
    /// Longest wait.
    pub backoff_max: Duration,
}

/// How old a connection must be before an answer of its server may replace it. A server that says
/// "elsewhere" on every first request would otherwise be called in a circle.
pub const YOUNGEST_REPLACED: Duration = Duration::from_secs(5);

/// The connections of one account.
#[derive(Debug)]
pub struct Slots<S> {
    rules: Rules,
    list: Vec<Slot<S>>,
    connecting: bool,
    next_id: u64,
    failures: u32,
    retry_at: Option<Instant>,
}

impl<S: Clone> Slots<S> {
    /// None yet.
    #[must_use]
    pub const fn new(rules: Rules) -> Self {
        Self {
            rules,
            list: Vec::new(),
            connecting: false,
            next_id: 0,
            failures: 0,
            retry_at: None,
        }
    }

    fn find(&mut self, id: u64) -> Option<&mut Slot<S>> {
        self.list.iter_mut().find(|slot| slot.id == id)
    }

    /// How many connections there are, those that end included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.list.iter().map(|slot| slot.in_flight).sum()
    }

    /// What the next request does. `Open` and `open_more` are said once; then [`Slots::opened`] or
    /// [`Slots::failed`] must follow.
    pub fn choose(&mut self, now: Instant) -> Choice<S> {
        let may_open = self.may_open(now);
        let rules = self.rules;
        let best = self
            .list
            .iter_mut()
            .filter(|slot| !slot.retired && slot.in_flight < allowed(slot, rules))
            .min_by_key(|slot| slot.in_flight);
        if let Some(slot) = best {
            slot.in_flight += 1;
            slot.last_used = now;
            let full = slot.warm && slot.in_flight.saturating_mul(2) > allowed(slot, rules);
            let choice = Choice::Use {
                id: slot.id,
                handle: slot.handle.clone(),
                open_more: full && may_open,
            };
            self.connecting |= full && may_open;
            return choice;
        }
        if may_open {
            self.connecting = true;
            return Choice::Open;
        }
        let alive = self.list.iter().any(|slot| !slot.retired);
        if alive || self.connecting {
            Choice::Wait
        } else {
            Choice::Down
        }
    }

    /// One connection is opened at a time, and only when all present ones have proved themselves.
    fn may_open(&self, now: Instant) -> bool {
        let mut alive = self.list.iter().filter(|slot| !slot.retired);
        !self.connecting
            && alive.clone().count() < self.rules.connections
            && alive.all(|slot| slot.warm)
            && self.retry_at.is_none_or(|at| at <= now)
    }

    /// A connection is there; its number.
    pub fn opened(&mut self, handle: S, now: Instant) -> u64 {
        self.connecting = false;
        let id = self.next_id;
        self.next_id += 1;
        self.list.push(Slot {
            id,
            handle,
            in_flight: 0,
            // Nothing is known until the server's settings are read.
            limit: 1,
            warm: self.rules.warm,
            retired: false,
            opened: now,
            last_heard: now,
            last_used: now,
        });
        id
    }

    /// A connection could not be made. `share` is random, from 0 to 1.
    pub fn failed(&mut self, now: Instant, share: f64) {
        self.connecting = false;
        self.back_off(now, share);
    }

    fn back_off(&mut self, now: Instant, share: f64) {
        let doubled = 2_u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let most = self
            .rules
            .backoff
            .saturating_mul(doubled)
            .min(self.rules.backoff_max);
        self.retry_at = Some(now + most.mul_f64(share.clamp(0.0, 1.0)));
    }

    /// The server's limit is `limit` now. True when it rose.
    pub fn limited(&mut self, id: u64, limit: usize) -> bool {
        let Some(slot) = self.find(id) else {
            return false;
        };
        let rose = limit > slot.limit;
        slot.limit = limit;
        rose
    }

    /// Something was read; `proved` says that the credential was accepted. True when that opened the
    /// connection to more requests.
    pub fn heard(&mut self, id: u64, proved: bool, now: Instant) -> bool {
        let Some(slot) = self.find(id) else {
            return false;
        };
        slot.last_heard = now;
        let warmed = proved && !slot.warm;
        slot.warm |= proved;
        if proved {
            self.failures = 0;
            self.retry_at = None;
        }
        warmed
    }

    /// A request has ended, however. True when the connection may be closed now.
    pub fn released(&mut self, id: u64) -> bool {
        let Some(slot) = self.find(id) else {
            return false;
        };
        slot.in_flight = slot.in_flight.saturating_sub(1);
        slot.retired && slot.in_flight == 0
    }

    /// The connection takes no new request. True when it may be closed now.
    pub fn retire(&mut self, id: u64) -> bool {
        let Some(slot) = self.find(id) else {
            return false;
        };
        slot.retired = true;
        slot.in_flight == 0
    }

    /// As [`Slots::retire`], at a word of the server; a connection younger than
    /// [`YOUNGEST_REPLACED`] stays.
    pub fn replace(&mut self, id: u64, now: Instant) -> bool {
        match self.find(id) {
            Some(slot) if slot.opened + YOUNGEST_REPLACED <= now => self.retire(id),
            Some(_) | None => false,
        }
    }

    /// The connection is gone. One that never proved itself counts as a failure.
    pub fn removed(&mut self, id: u64, now: Instant, share: f64) {
        let Some(at) = self.list.iter().position(|slot| slot.id == id) else {
            return;
        };
        let slot = self.list.swap_remove(at);
        if !slot.warm {
            self.back_off(now, share);
        }
    }

    /// What the watcher of a connection does next; `Close` retires it.
    pub fn check(&mut self, id: u64, now: Instant) -> Check {
        let rules = self.rules;
        let Some(slot) = self.find(id) else {
            return Check::Close;
        };
        let idle = slot.in_flight == 0;
        if idle && (slot.retired || now >= slot.last_used + rules.idle_timeout) {
            slot.retired = true;
            return Check::Close;
        }
        let silence = if idle {
            rules.idle_silence
        } else {
            rules.silence
        };
        if now >= slot.last_heard + silence {
            return Check::Ping;
        }
        // A request may start at any time: its silence counts from the shorter of the two.
        let soon = now + rules.silence.min(rules.idle_silence);
        Check::At(soon.min(slot.last_heard + silence))
    }
}

fn allowed<S>(slot: &Slot<S>, rules: Rules) -> usize {
    if slot.warm {
        slot.limit.min(rules.streams)
    } else {
        slot.limit.min(1)
    }
}

#[cfg(test)]
mod tests;
