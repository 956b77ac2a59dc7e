//! Hygiene: which addresses are dead, decided from what providers said, and a guard against believing
//! too many of them.
//!
//! **Invariants**, each a property test: one doubtful verdict retires nobody, nor does one that is
//! read twice; an address that was reached is suspected of nothing; a version of an address
//! registered after the verdict is never suppressed by it; within a window no more addresses of a scope are retired than the larger of a
//! fixed number and a share of those that were told of.
//!
//! Called by the ledger, which keeps the windows and publishes what is decided.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use bongsu_domain::suppression::{BY_COMPLAINT, BY_HYGIENE};
use bongsu_domain::{AddressKey, Channel, Hold, Outcome, Reason, Suppression, Timestamp};

const MINUTE_MS: i64 = 60_000;

/// Whose addresses are counted together: a wrong environment, topic or credential is one app's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HygieneScope {
    /// Channel.
    pub channel: Channel,
    /// Account.
    pub account: String,
    /// The publisher's app; empty when there is none.
    pub app: String,
}

/// What a receipt says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It exists: the provider took, or delivered, a notification.
    Reached,
    /// The provider says that it does not exist any more.
    Dead(Reason),
    /// It may be dead, or we may be wrong (another environment, a passing fault).
    Doubtful(Reason),
    /// Every attempt of a delivery was turned away by what may be a receiver's passing fault (a webhook's
    /// 401, 403 or 404): a weaker doubt.
    TurnedAway(Reason),
    /// It exists, and its reader wants no more.
    Unwanted,
}

/// What an outcome says of its address; none when it says nothing. Which answer of which provider
/// makes which reason is each channel's table.
#[must_use]
pub const fn word_of(outcome: Outcome, reason: Reason) -> Option<Word> {
    match (outcome, reason) {
        (Outcome::Delivered, Reason::Complained) => Some(Word::Unwanted),
        (Outcome::Accepted | Outcome::Delivered, _) => Some(Word::Reached),
        (Outcome::Refused | Outcome::Undelivered, Reason::InvalidAddress) => {
            Some(Word::Dead(reason))
        }
        (Outcome::Refused | Outcome::Undelivered, Reason::AddressDoubtful) => {
            Some(Word::Doubtful(reason))
        }
        (Outcome::Dead, Reason::AddressDoubtful) => Some(Word::TurnedAway(reason)),
        (
            Outcome::Refused
            | Outcome::Undelivered
            | Outcome::Suppressed
            | Outcome::Expired
            | Outcome::Cancelled
            | Outcome::Unknown
            | Outcome::Dead,
            _,
        ) => None,
    }
}

/// One receipt's word on one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Whose address.
    pub scope: HygieneScope,
    /// Its stable id.
    pub address_id: String,
    /// When the version sent to was registered.
    pub registered_at: Option<Timestamp>,
    /// When the provider said it.
    pub at: Timestamp,
    /// What it said.
    pub word: Word,
}

/// What an operator set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HygieneLimits {
    /// The guard looks back this long, in milliseconds.
    pub window_ms: i64,
    /// Part of the addresses told of in a window that may be dead.
    pub share: f64,
    /// Dead addresses of a window that are believed whatever their share.
    pub believed: u64,
    /// Doubtful verdicts that make a dead address.
    pub doubtful: Streak,
    /// Deliveries turned away that make one.
    pub turned_away: Streak,
}

/// How many verdicts without a success between them make a dead address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streak {
    /// So many.
    pub verdicts: u32,
    /// How far apart the first and the last of them must lie, in milliseconds.
    pub span_ms: i64,
}

/// What is held of an address, without its texts: 56 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Whether it is sent to.
    pub hold: Hold,
    /// Whether hygiene put it there; a person's word is not touched.
    pub by_hygiene: bool,
    /// Since when.
    pub at: Timestamp,
    /// When the version was registered that it is about.
    pub registered_at: Option<Timestamp>,
    /// Verdicts so far.
    pub verdicts: u32,
    /// When the first one came.
    pub first_at: Timestamp,
}

impl From<&Suppression> for Held {
    fn from(s: &Suppression) -> Self {
        Self {
            hold: s.hold,
            by_hygiene: s.by == BY_HYGIENE,
            at: s.at,
            registered_at: s.registered_at,
            verdicts: s.verdicts,
            first_at: s.first_at,
        }
    }
}

impl Held {
    fn is_about(&self, registered_at: Option<Timestamp>) -> bool {
        let later = registered_at.is_some_and(|r| r > self.registered_at.unwrap_or(self.at));
        !(self.by_hygiene && later)
    }
}

/// Words on addresses in one minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// All of them.
    pub all: u64,
    /// Those that said dead, or doubted, believed or not.
    pub dead: u64,
}

/// Words by scope and minute (milliseconds of its begin).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    minutes: BTreeMap<HygieneScope, BTreeMap<i64, Told>>,
}

impl Windows {
    /// Adds words.
    pub fn add(&mut self, scope: &HygieneScope, minute: i64, told: Told) {
        if !self.minutes.contains_key(scope) {
            self.minutes.insert(scope.clone(), BTreeMap::new());
        }
        if let Some(minutes) = self.minutes.get_mut(scope) {
            let sum = minutes.entry(minute).or_default();
            sum.all += told.all;
            sum.dead += told.dead;
        }
    }

    /// Every row, in order.
    pub fn rows(&self) -> impl Iterator<Item = (&HygieneScope, i64, Told)> {
        self.minutes.iter().flat_map(|(scope, minutes)| {
            minutes
                .iter()
                .map(move |(minute, told)| (scope, *minute, *told))
        })
    }

    /// What was told of a scope in the window that ends at `at`.
    #[must_use]
    pub fn sum(&self, scope: &HygieneScope, at: Timestamp, window_ms: i64) -> Told {
        let until = minute_of(at);
        let minutes = self.minutes.get(scope);
        let range = minutes.map(|m| m.range(until - window_ms..=until));
        range
            .into_iter()
            .flatten()
            .fold(Told::default(), |sum, (_, told)| Told {
                all: sum.all + told.all,
                dead: sum.dead + told.dead,
            })
    }
}

fn minute_of(at: Timestamp) -> i64 {
    at.0 - at.0.rem_euclid(MINUTE_MS)
}

impl HygieneLimits {
    /// Whether so many dead among all may be believed.
    #[must_use]
    pub fn believes(&self, told: Told) -> bool {
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of a window are far below 2^52"
        )]
        let most = (told.all as f64 * self.share).max(self.believed as f64);
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        let dead = told.dead as f64;
        dead <= most
    }
}

/// What is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Nothing is sent to it any more, or doubts are noted.
    Keep(Suppression),
    /// What was held is over: it was reached.
    Forget(AddressKey, Hold),
}

/// What one batch of receipts leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// In order.
    pub acts: Vec<Act>,
    /// Words to be added to the windows kept.
    pub windows: Windows,
    /// Dead addresses that the guard did not believe, by scope.
    pub withheld: BTreeMap<HygieneScope, u64>,
    /// Scopes of which a dead address was believed.
    pub believed: BTreeMap<HygieneScope, u64>,
}

/// Judges observations in order, given what was told before and what is known of each address.
/// `known` moves with every act, so that the next batch may follow before the log has it.
#[must_use]
pub fn judge(
    limits: &HygieneLimits,
    mut told: Windows,
    known: &mut HashMap<u64, Held>,
    observations: &[Observation],
) -> Judged {
    let mut judged = Judged::default();
    for observed in observations {
        // A doubt is what a wrong environment looks like: it counts against belief as well.
        let dead = !matches!(observed.word, Word::Reached | Word::Unwanted);
        let one = Told {
            all: 1,
            dead: u64::from(dead),
        };
        let minute = minute_of(observed.at);
        told.add(&observed.scope, minute, one);
        judged.windows.add(&observed.scope, minute, one);
        let scope = &observed.scope;
        let key = AddressKey::new(scope.channel, &scope.account, &observed.address_id);
        let held = known.get(&key.0);
        let next = match observed.word {
            Word::Reached => {
                let ends = held.filter(|held| held.by_hygiene && held.at <= observed.at);
                ends.map(|held| Act::Forget(key, held.hold))
            }
            Word::Unwanted => silence(observed, held),
            Word::Dead(reason) => retire(observed, held, reason, 1),
            Word::Doubtful(reason) => doubt(limits.doubtful, observed, held, reason),
            Word::TurnedAway(reason) => doubt(limits.turned_away, observed, held, reason),
        };
        let Some(act) = next else { continue };
        if let Act::Keep(suppression) = &act {
            // A complaint is no verdict that may be wrong: it is believed however many there are.
            if suppression.hold == Hold::Suppressed && dead {
                let sum = told.sum(scope, observed.at, limits.window_ms);
                if !limits.believes(sum) {
                    *judged.withheld.entry(scope.clone()).or_default() += 1;
                    continue;
                }
                *judged.believed.entry(scope.clone()).or_default() += 1;
            }
            known.insert(key.0, Held::from(suppression));
        } else {
            known.remove(&key.0);
        }
        judged.acts.push(act);
    }
    judged
}

/// Retires an address; none when that, or something about a later version of it, is known already.
fn retire(
    observed: &Observation,
    held: Option<&Held>,
    reason: Reason,
    verdicts: u32,
) -> Option<Act> {
    let is_known = held
        .is_some_and(|held| held.hold == Hold::Suppressed && held.is_about(observed.registered_at));
    if is_known {
        return None;
    }
    let doubts = held.filter(|held| held.hold == Hold::Suspected);
    Some(Act::Keep(Suppression {
        channel: observed.scope.channel,
        account: observed.scope.account.clone(),
        address_id: observed.address_id.clone(),
        app: Some(observed.scope.app.clone()).filter(|app| !app.is_empty()),
        hold: Hold::Suppressed,
        reason,
        at: observed.at,
        registered_at: observed.registered_at,
        verdicts: doubts
            .map_or(0, |held| held.verdicts)
            .saturating_add(verdicts),
        first_at: doubts.map_or(observed.at, |held| held.first_at),
        by: BY_HYGIENE.to_owned(),
        why: None,
    }))
}

/// Holds an address whose reader complained; none when that, or a person's word, is known already.
fn silence(observed: &Observation, held: Option<&Held>) -> Option<Act> {
    if held.is_some_and(|held| held.hold == Hold::Suppressed && !held.by_hygiene) {
        return None;
    }
    let Some(Act::Keep(mut kept)) = retire(observed, None, Reason::Complained, 1) else {
        return None;
    };
    BY_COMPLAINT.clone_into(&mut kept.by);
    Some(Act::Keep(kept))
}

/// Notes a doubt; enough of them, far enough apart and about one version, retire. One that is not later
/// than the last one counted was counted, or is of no weight: receipts may be read again.
fn doubt(
    streak: Streak,
    observed: &Observation,
    held: Option<&Held>,
    reason: Reason,
) -> Option<Act> {
    let held = held.filter(|held| held.is_about(observed.registered_at));
    if held.is_some_and(|held| held.hold == Hold::Suppressed || held.at >= observed.at) {
        return None;
    }
    let verdicts = held.map_or(0, |held| held.verdicts).saturating_add(1);
    let first_at = held.map_or(observed.at, |held| held.first_at);
    let enough =
        verdicts >= streak.verdicts && observed.at.millis_since(first_at) >= streak.span_ms;
    let Some(Act::Keep(mut kept)) = retire(observed, held, reason, 1) else {
        return None;
    };
    if !enough {
        kept.hold = Hold::Suspected;
    }
    Some(Act::Keep(kept))
}
