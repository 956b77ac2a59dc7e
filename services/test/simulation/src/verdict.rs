//! What a run came to, counted from the log and from the provider's memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bongsu_schemas::Receipt;
use bongsu_stream::port::{Cluster, From, Isolation, Record, TailRange, TopicPartition};

use crate::provider::Read;
use crate::world::{PARTITIONS, World};

/// Figures of one seed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Deliveries that events asked for.
    pub expected: usize,
    /// Distinct outcomes.
    pub outcomes: usize,
    /// Extra copies that arrived, each of them explained by a kill or by an unheard answer.
    pub explained_duplicates: usize,
    /// Services killed.
    pub kills: usize,
    /// Requests read in a call of several.
    pub packed: usize,
}

/// The outcome of one delivery, all of its receipts merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The delivery.
    pub delivery: String,
    /// Its outcome.
    pub outcome: String,
    /// Whether a receipt says that it may have arrived more than once.
    pub possible_duplicate: bool,
}

/// Every outcome in `results` by receipt id.
///
/// # Errors
/// When the log cannot be read.
pub async fn outcomes(world: &World) -> Result<BTreeMap<String, Found>, String> {
    let results = world.topics.results();
    let ranges = (0..PARTITIONS)
        .map(|p| TailRange {
            partition: TopicPartition::new(Arc::clone(&results), p),
            from: From::Beginning,
            until: None,
        })
        .collect();
    let found: Arc<Mutex<Vec<Record>>> = Arc::default();
    let sink = Arc::clone(&found);
    let each = Box::new(move |record: Record| {
        sink.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(record);
    });
    let read = world
        .log
        .read_tails(ranges, Isolation::Uncommitted, each)
        .await;
    read.map_err(|e| e.to_string())?;
    let records = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    let mut out = BTreeMap::new();
    for record in records {
        let receipt: Receipt = world
            .codec
            .decode(record.value.as_deref().unwrap_or_default())
            .map_err(|e| e.to_string())?;
        if receipt.kind == "outcome" {
            // Accepted beats the rest, else the first in the log stays.
            let entry = out.entry(receipt.receipt_id).or_insert_with(|| Found {
                delivery: receipt.delivery_id.unwrap_or_default(),
                outcome: receipt.outcome.clone(),
                possible_duplicate: false,
            });
            if receipt.outcome == "accepted" {
                entry.outcome = receipt.outcome;
            }
            entry.possible_duplicate |= receipt.possible_duplicate;
        }
    }
    Ok(out)
}

/// Checks order as the design defines it: no request of n is read after the first of n+1.
///
/// # Errors
/// The first violation.
pub fn check_order(reads: &[Read]) -> Result<(), String> {
    // By key: the first call of each number, and every call of it so far.
    let mut keys: BTreeMap<&(String, String), Calls> = BTreeMap::new();
    for read in reads {
        let calls = keys.entry(&read.key).or_default();
        let own = calls.all.entry(read.seq).or_default();
        for (later, first) in calls.first.range(read.seq + 1..) {
            // Those that started together fail, and are tried again, one after the other.
            if !own.contains(first) {
                return Err(format!(
                    "{:?}: {} was read after {later}",
                    read.key, read.seq
                ));
            }
        }
        own.insert(read.call);
        calls.first.entry(read.seq).or_insert(read.call);
    }
    Ok(())
}

/// The calls of one key, by the publisher's number.
#[derive(Default)]
struct Calls {
    first: BTreeMap<i64, u64>,
    all: BTreeMap<i64, BTreeSet<u64>>,
}

/// Checks that every extra copy has its cause: a kill with the receipt not acknowledged, or an
/// answer nobody heard. Gives the number of extra copies.
///
/// # Errors
/// The first delivery that came too often.
pub fn check_copies(reads: &[Read], excused: &BTreeMap<String, usize>) -> Result<usize, String> {
    use bongsu_channels::provider::AttemptResult;
    let mut copies: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for read in reads.iter().filter(|r| r.arrived()) {
        let entry = copies.entry(&read.delivery).or_default();
        entry.0 += 1;
        entry.1 += usize::from(read.answer == Some(AttemptResult::Unknown));
    }
    let mut extra = 0;
    for (delivery, (arrived, unheard)) in copies {
        let allowed = 1 + unheard + excused.get(delivery).copied().unwrap_or(0);
        if arrived > allowed {
            return Err(format!(
                "{delivery} arrived {arrived} times; {allowed} are explained"
            ));
        }
        extra += arrived - 1;
    }
    Ok(extra)
}

/// Deliveries with an accepted outcome that never arrived.
#[must_use]
pub fn lost(reads: &[Read], outcomes: &BTreeMap<String, Found>) -> Vec<String> {
    let arrived: BTreeSet<&str> = reads
        .iter()
        .filter(|r| r.arrived())
        .map(|r| r.delivery.as_str())
        .collect();
    outcomes
        .values()
        .filter(|f| f.outcome == "accepted" && !arrived.contains(f.delivery.as_str()))
        .map(|f| f.delivery.clone())
        .collect()
}

/// Checks that every delivery that arrived twice is marked as a possible duplicate.
///
/// # Errors
/// The first that is not.
pub fn check_marks(reads: &[Read], outcomes: &BTreeMap<String, Found>) -> Result<(), String> {
    let mut copies: BTreeMap<&str, usize> = BTreeMap::new();
    for read in reads.iter().filter(|r| r.arrived()) {
        *copies.entry(&read.delivery).or_default() += 1;
    }
    for found in outcomes.values() {
        let arrived = copies.get(found.delivery.as_str()).copied().unwrap_or(0);
        if arrived > 1 && !found.possible_duplicate {
            return Err(format!(
                "{} arrived {arrived} times and its receipt does not say so",
                found.delivery
            ));
        }
    }
    Ok(())
}

/// Checks that nothing of these senders arrived twice, whatever happened.
///
/// # Errors
/// The first delivery that did.
pub fn check_never_twice(reads: &[Read], senders: &[&str]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for read in reads.iter().filter(|r| r.arrived()) {
        let strict = senders.contains(&read.key.0.as_str());
        if strict && !seen.insert(read.delivery.as_str()) {
            return Err(format!("{} must not be sent twice, and was", read.delivery));
        }
    }
    Ok(())
}
