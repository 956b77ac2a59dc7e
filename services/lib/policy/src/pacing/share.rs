//! Sharing a configured limit among workers that only see each other through a log.
//!
//! Every worker publishes about once a second what it wants and what it **claims**, and reads what
//! all published, in log order. Everybody computes the same book from the same records: a claim is
//! granted up to what the claims before it leave of the limit. So two workers that raise their
//! claims at once need no agreement: the log decides. What a worker aims at is its part of the
//! max-min split by demand ("water filling"), and an equal part of what nobody wants: who starts to
//! send has it already. Whoever holds more than his part shrinks first, and only then can another
//! grow. The sum of what may be spent never exceeds the limit, under any delay,
//! join or death:
//!
//! * a worker spends no more than its newest claim that it has **read back** was granted as, and no
//!   more than any claim it has published since;
//! * it lowers its spending before it publishes a smaller claim, and claims no less than what its
//!   window still holds, so nothing is given away that the provider still counts;
//! * a grant may be spent for [`GRANT_MS`] less [`DRIFT_MS`] after it was published, by the worker's
//!   own clock; the others count it for [`KEPT_MS`], by the broker's (`LogAppendTime`). Of a worker
//!   that dies or is cut off, a request must arrive within a second of being sent.

use std::collections::{BTreeMap, VecDeque};

use super::window::WINDOW_MS;

/// How long a claim may be spent after it was published.
pub const GRANT_MS: i64 = 3_000;
/// Clocks of workers and broker may differ by this much. A worker stops spending that much early.
pub const DRIFT_MS: i64 = 500;
/// How long others keep a claim in the sum after its record's broker time: until it can no longer be
/// spent, and nothing of it is in any sliding window.
pub const KEPT_MS: i64 = GRANT_MS + WINDOW_MS + DRIFT_MS;
/// How long a unit is one worker's where there are more workers than units, by the broker's time.
const TURN_MS: i64 = 10_000;

/// One worker's word about one account, as it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claim {
    /// Counts up with each record of one life of the worker.
    pub sequence: u64,
    /// Units per second it would like to spend.
    pub demand: u32,
    /// Units per second it asks to be counted with.
    pub claimed: u32,
    /// The limit as this worker is configured. While workers differ (a setting is being changed),
    /// the smallest one counts.
    pub limit: u32,
    /// Whether the worker leaves: nothing is spent any more and all of it has left the window.
    pub left: bool,
}

/// A claim as it lies in the log.
#[derive(Debug, Clone, Copy)]
struct Known {
    claim: Claim,
    /// What counts in the sum: `claimed`, cut to what the records before it left.
    granted: u32,
    /// Broker time.
    at: i64,
}

/// All workers' claims on one limit, as far as the log was read. Every reader that has read the same
/// prefix has the same book.
#[derive(Debug, Clone, Default)]
pub struct Book {
    workers: BTreeMap<String, Known>,
    /// The newest broker time read: the clock by which claims expire here.
    time: i64,
}

impl Book {
    /// Reads the next record of the log: a worker's claim at broker time `at`. Gives what the claim
    /// was granted as. Call it in log order, and for every record.
    pub fn read(&mut self, worker: &str, claim: Claim, at: i64) -> u32 {
        self.time = self.time.max(at);
        let time = self.time;
        self.workers
            .retain(|_, known| time <= known.at.saturating_add(KEPT_MS));
        if claim.left {
            self.workers.remove(worker);
            return 0;
        }
        let granted = self.room(worker, claim.limit).min(claim.claimed);
        // A later broker time than this record's own may have been read: expiry goes by the newest.
        self.workers.insert(
            worker.to_owned(),
            Known {
                claim,
                granted,
                at: time,
            },
        );
        granted
    }

    /// Units granted to all workers together; never above the limit while nobody changes it.
    #[must_use]
    pub fn granted(&self) -> u64 {
        self.workers.values().map(|k| u64::from(k.granted)).sum()
    }

    /// Workers known.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The limit that counts: the smallest of `own` and what the others are configured with.
    #[must_use]
    pub fn limit(&self, worker: &str, own: u32) -> u32 {
        let others = self.others(worker).map(|(_, known)| known.claim.limit);
        others.min().map_or(own, |least| least.min(own))
    }

    /// What `worker` should aim at: its part of the max-min split by demand. Everybody gets what he
    /// wants up to an equal level; what some leave, the others share; what is left when all have
    /// what they want is split evenly. `demand` is its newest, `own` the limit as it is configured.
    #[must_use]
    pub fn target(&self, worker: &str, own: u32, demand: u32) -> u32 {
        let mut demands: Vec<(u32, &str)> = self
            .others(worker)
            .map(|(name, known)| (known.claim.demand, name))
            .collect();
        demands.push((demand, worker));
        let turn = usize::try_from(self.time / TURN_MS).unwrap_or(0);
        split(self.limit(worker, own), &mut demands, worker, turn)
    }

    /// What the claims of the others leave for `worker` now, of a limit that it knows as `own`.
    #[must_use]
    pub fn room(&self, worker: &str, own: u32) -> u32 {
        let others: u64 = self
            .others(worker)
            .map(|(_, known)| u64::from(known.granted))
            .sum();
        let limit = u64::from(self.limit(worker, own));
        u32::try_from(limit.saturating_sub(others)).unwrap_or(0)
    }

    /// Whether a worker was granted less than it wants.
    fn is_short(&self) -> bool {
        let mut workers = self.workers.values();
        workers.any(|known| known.granted < known.claim.demand)
    }

    fn others<'a>(&'a self, worker: &'a str) -> impl Iterator<Item = (&'a str, &'a Known)> {
        let all = self.workers.iter();
        all.filter(move |(name, _)| name.as_str() != worker)
            .map(|(name, known)| (name.as_str(), known))
    }
}

/// The part of `worker` in the max-min split of `limit`, all of which is given out. Whole units; a
/// remainder goes to the first names, so that all workers compute the same. Where there are fewer
/// units than workers, `turn` says whose they are.
fn split(limit: u32, demands: &mut [(u32, &str)], worker: &str, turn: usize) -> u32 {
    demands.sort_unstable();
    let mut left = limit;
    let mut count = u32::try_from(demands.len()).unwrap_or(u32::MAX);
    let mut part = 0;
    for (i, (demand, name)) in demands.iter().enumerate() {
        if *demand > left / count.max(1) {
            // Everybody from here on wants more than an equal part.
            return part + evenly(left, &demands[i..], worker, turn);
        }
        if *name == worker {
            part = *demand;
        }
        left -= demand;
        count -= 1;
    }
    part + evenly(left, demands, worker, turn)
}

/// The part of `worker` when `units` are split evenly among `all`; none for who is not of them.
fn evenly(units: u32, all: &[(u32, &str)], worker: &str, turn: usize) -> u32 {
    let mut names: Vec<&str> = all.iter().map(|(_, name)| *name).collect();
    names.sort_unstable();
    let Some(place) = names.iter().position(|name| *name == worker) else {
        return 0;
    };
    let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
    let extra = usize::try_from(units % count).unwrap_or(0);
    // Otherwise the last names would never have any.
    let place = if units < count {
        (place + turn) % names.len()
    } else {
        place
    };
    units / count + u32::from(place < extra)
}

/// A claim that was published and not read back yet.
#[derive(Debug, Clone, Copy)]
struct Open {
    sequence: u64,
    claimed: u32,
    /// When it was published, by our clock.
    at: i64,
}

/// One worker's side: what it may spend now, and what it publishes next.
#[derive(Debug, Clone)]
pub struct Share {
    worker: String,
    limit: u32,
    book: Book,
    sequence: u64,
    /// What its newest claim said: what it wants, what it aims at, and what it must be counted with,
    /// which is more while its window still holds more.
    demand: u32,
    aim: u32,
    claimed: u32,
    /// Oldest first.
    open: VecDeque<Open>,
    /// What the newest claim that was read back was granted as, and when it was published.
    granted: (u32, i64),
}

impl Share {
    /// A worker that has published nothing and may spend nothing. `worker` names one **life** of a
    /// process: a successor of the same name is another worker, for what its predecessor spent in
    /// its last second still counts at the provider.
    #[must_use]
    pub fn new(worker: impl Into<String>, limit: u32) -> Self {
        Self {
            worker: worker.into(),
            limit,
            book: Book::default(),
            sequence: 0,
            demand: 0,
            aim: 0,
            claimed: 0,
            open: VecDeque::new(),
            granted: (0, i64::MIN / 2),
        }
    }

    /// Sets the limit as this worker is configured; its next claim says so.
    pub const fn configure(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// The claims as read.
    #[must_use]
    pub const fn book(&self) -> &Book {
        &self.book
    }

    /// Units per second that may be spent at `now` (our clock): what was granted, less whatever was
    /// given up since; nothing once the grant is old.
    #[must_use]
    pub fn spendable(&self, now: i64) -> u32 {
        let (granted, _) = self.granted;
        if now >= self.expires_at() {
            return 0;
        }
        let claimed = self.open.iter().map(|open| open.claimed).min();
        granted.min(self.aim).min(claimed.unwrap_or(u32::MAX))
    }

    /// Until when, by our clock, what was granted may be spent.
    #[must_use]
    pub const fn expires_at(&self) -> i64 {
        self.granted.1.saturating_add(GRANT_MS - DRIFT_MS)
    }

    /// Reads the next record of the log, ours or another's.
    pub fn read(&mut self, worker: &str, claim: Claim, at: i64) {
        let granted = self.book.read(worker, claim, at);
        if worker != self.worker {
            return;
        }
        if let Some(i) = self.open.iter().position(|o| o.sequence == claim.sequence) {
            self.granted = (granted, self.open[i].at);
            self.open.drain(..=i);
        }
    }

    /// What may be spent from the next claim of this `demand` on: lower the window to it **before**
    /// what it holds is read for [`Share::claim`].
    #[must_use]
    pub fn spendable_with(&self, now: i64, demand: u32) -> u32 {
        self.spendable(now).min(self.aim_at(demand))
    }

    fn aim_at(&self, demand: u32) -> u32 {
        let target = self.book.target(&self.worker, self.limit, demand);
        target.min(self.book.room(&self.worker, self.limit))
    }

    /// Decides the next claim. `demand` is what would be spent if it were free, `held` what the
    /// window still holds. From here on no more than [`Share::spendable`] may be spent: lower the
    /// window **before** the claim is written.
    pub fn claim(&mut self, now: i64, demand: u32, held: u32) -> Claim {
        self.sequence += 1;
        self.demand = demand;
        self.aim = self.aim_at(demand);
        self.claimed = self.aim.max(held);
        let claim = Claim {
            sequence: self.sequence,
            demand,
            claimed: self.claimed,
            limit: self.limit,
            left: false,
        };
        // What was not read back in all this time belongs to a grant that has expired.
        self.open.retain(|o| now < o.at.saturating_add(GRANT_MS));
        self.open.push_back(Open {
            sequence: claim.sequence,
            claimed: claim.claimed,
            at: now,
        });
        claim
    }

    /// Whether others wait for units that this worker's newest claim counts: it should claim again
    /// soon, and less.
    #[must_use]
    pub fn owes(&self) -> bool {
        let target = self.book.target(&self.worker, self.limit, self.demand);
        target < self.claimed && self.book.is_short()
    }

    /// The last word: call it when nothing is held any more.
    pub fn leave(&mut self) -> Claim {
        self.sequence += 1;
        self.aim = 0;
        self.claimed = 0;
        self.open.clear();
        Claim {
            sequence: self.sequence,
            limit: self.limit,
            left: true,
            ..Claim::default()
        }
    }
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "tests print the figures they judge")]
mod tests;
