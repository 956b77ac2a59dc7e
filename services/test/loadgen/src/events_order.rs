//! What `events` itself says of a run: order by offset, and where the time went.
//!
//! Order is a promise about offsets: of one address, no event is first read by the provider after a
//! request for one that lies behind it in `events`, whatever numbers the publisher gave them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bongsu_schemas::headers;
use bongsu_stream::port::{From, Isolation, Record, TailRange, TopicPartition};
use hdrhistogram::Histogram;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::audit::Request;
use crate::load::{Load, Published};
use crate::world::{PARTITIONS, World};

/// Before the beginning of a load, because clocks are read at different moments.
const EARLIER_MS: u64 = 10_000;

/// One record of `events` or `deliveries`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    offset: i64,
    at_ms: i64,
}

/// First places of a run's events, by sender and id.
pub(crate) type Places = HashMap<(String, String), Place>;

#[derive(Deserialize)]
struct Id {
    id: String,
}

/// Reads the run's records of a topic.
pub(crate) async fn places(
    world: &World,
    load: &Load,
    published: Published,
    topic: &str,
) -> anyhow::Result<Places> {
    let since = (published.begin_us / 1_000).saturating_sub(EARLIER_MS);
    let since = i64::try_from(since)?;
    let ranges = (0..PARTITIONS)
        .map(|p| TailRange {
            partition: TopicPartition::new(topic, p),
            from: From::Time(since),
            until: None,
        })
        .collect();
    let found: Arc<Mutex<Places>> = Arc::default();
    let sink = Arc::clone(&found);
    let prefix = format!("{}-", load.run);
    let each = Box::new(move |record: Record| {
        let Some((sender, id)) = name(&record).filter(|(s, _)| s.starts_with(&prefix)) else {
            return;
        };
        let place = Place {
            offset: record.offset,
            at_ms: record.timestamp,
        };
        let mut found = sink.lock().unwrap_or_else(PoisonError::into_inner);
        // A publisher's repeat is the same event: its first copy counts.
        found.entry((sender, id)).or_insert(place);
    });
    let committed = Isolation::Committed;
    world.cluster.read_tails(ranges, committed, each).await?;
    let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(found)
}

/// Sender and id of a record: from its key and header, else from its JSON.
fn name(record: &Record) -> Option<(String, String)> {
    let sender = String::from_utf8(record.key.as_deref()?.to_vec()).ok()?;
    let id = match record.headers.text(headers::EVENT_ID) {
        Some(id) => id.to_owned(),
        None => {
            serde_json::from_slice::<Id>(record.value.as_deref()?)
                .ok()?
                .id
        }
    };
    Some((sender, id))
}

/// Requests for an event read after a request for a later event of the same address.
pub(crate) fn violations(requests: &[Request], places: &Places) -> usize {
    let mut highest: HashMap<(&str, &str), i64> = HashMap::new();
    let mut violations = 0;
    for r in requests {
        let Some(place) = places.get(&(r.sender.clone(), r.event_id.clone())) else {
            continue;
        };
        let top = highest.entry((&r.sender, &r.path)).or_insert(place.offset);
        violations += usize::from(place.offset < *top);
        *top = place.offset.max(*top);
    }
    violations
}

/// What an address went through so far.
#[derive(Default)]
struct Address {
    failing: bool,
    /// When the last event that had failed on purpose was answered at last.
    free_since_us: u64,
}

impl Address {
    fn meet(&mut self, r: &Request) {
        if !r.arrived() {
            self.failing = true;
        } else if std::mem::take(&mut self.failing) {
            self.free_since_us = r.answered_us.unwrap_or(r.read_us);
        }
    }
}

/// Where the time between the moment an event was due and the first request for it went, hop by hop.
/// An event that had to wait for an earlier one of its address that was refused on purpose is counted
/// apart: its wait is the retry schedule, not the path.
pub(crate) fn hops(
    load: &Load,
    published: Published,
    requests: &[Request],
    (events, deliveries): (&Places, &Places),
) -> anyhow::Result<Value> {
    let mut hops: BTreeMap<&str, Histogram<u64>> = BTreeMap::new();
    let mut addresses: HashMap<(&str, &str), Address> = HashMap::new();
    let mut first: HashMap<(&str, &str), u64> = HashMap::new();
    let mut behind = 0_usize;
    for r in requests {
        let address = addresses.entry((&r.sender, &r.path)).or_default();
        let free_since_us = address.free_since_us;
        address.meet(r);
        if first.insert((&r.sender, &r.event_id), r.read_us).is_some() {
            continue;
        }
        let key = (r.sender.clone(), r.event_id.clone());
        let (Some(event), Some(delivery), Some(i)) =
            (events.get(&key), deliveries.get(&key), number(load, r))
        else {
            continue;
        };
        let due = load.due_us(published, i);
        let (sent, acknowledged) = load.stamps.of(i);
        let append = u64::try_from(event.at_ms)? * 1_000;
        let made = u64::try_from(delivery.at_ms)? * 1_000;
        if made <= free_since_us {
            behind += 1;
            continue;
        }
        let mut add = |hop, from: u64, to: u64| -> anyhow::Result<()> {
            let hop = hops.entry(hop).or_insert(Histogram::new(3)?);
            Ok(hop.record(to.saturating_sub(from).max(1))?)
        };
        if let Some(due) = due {
            add("0 due to sent", due, sent)?;
            add("5 due to provider", due, r.read_us)?;
        }
        if acknowledged > 0 {
            add("1 sent to 202 by HTTP", sent, acknowledged)?;
        }
        add("2 sent to appended", sent, append)?;
        add("3 appended to delivery made", append, made)?;
        add("4 delivery made to provider", made, r.read_us)?;
        add("6 sent to provider", sent, r.read_us)?;
    }
    let told: BTreeMap<_, _> = hops
        .into_iter()
        .map(|(hop, h)| {
            let ms = |us: u64| (us / 100) as f64 / 10.0;
            let quantile = |q| ms(h.value_at_quantile(q));
            let told = json!({"p50": quantile(0.5), "p99": quantile(0.99),
                              "p999": quantile(0.999), "max": ms(h.max()), "count": h.len()});
            (hop, told)
        })
        .collect();
    Ok(json!({"milliseconds": told, "behind_a_retry": behind}))
}

/// The running number of a request's event.
fn number(load: &Load, r: &Request) -> Option<usize> {
    let s: usize = r.sender.rsplit_once('-')?.1.parse().ok()?;
    let n: usize = r.event_id.parse().ok()?;
    Some(n * load.senders + s)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, id: &str) -> Request {
        Request {
            read_us: 0,
            answered_us: None,
            status: Some(200),
            delivery_id: String::new(),
            event_id: id.to_owned(),
            sender: "run-1".to_owned(),
            path: path.to_owned(),
            seq: None,
            worker: String::new(),
        }
    }

    #[test]
    fn order_is_that_of_offsets_per_address() {
        let places: Places = [("a", 5), ("b", 3), ("c", 9)]
            .into_iter()
            .map(|(id, offset)| {
                (
                    ("run-1".to_owned(), id.to_owned()),
                    Place { offset, at_ms: 0 },
                )
            })
            .collect();
        let read = |all: &[(&str, &str)]| {
            let all: Vec<_> = all.iter().map(|(path, id)| request(path, id)).collect();
            violations(&all, &places)
        };
        assert_eq!(
            read(&[("/x", "b"), ("/x", "a"), ("/x", "a"), ("/x", "c")]),
            0
        );
        assert_eq!(read(&[("/x", "c"), ("/y", "b")]), 0);
        // Both requests for what lies before come too late, a resend as much as a first one.
        assert_eq!(
            read(&[("/x", "a"), ("/x", "b"), ("/x", "c"), ("/x", "b")]),
            2
        );
    }
}
