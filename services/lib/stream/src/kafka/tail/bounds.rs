//! Where a tail begins and ends, asked of the broker in at most three requests per topic.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::context::Plain;
use crate::port::{From, TailRange};

/// How long a look-up may take.
pub(super) const LOOK_UP: Duration = Duration::from_secs(10);

/// One partition's part: read from `start`, stop before `stop`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) start: i64,
    pub(super) stop: i64,
}

/// Offsets of partitions for a time, or for the logical offset given instead of one.
///
/// librdkafka passes the number on as it is, and -1 and -2 mean the end and the beginning to the
/// broker. With `read_committed` the end is the last stable offset.
fn look_up(
    client: &BaseConsumer<Plain>,
    topic: &str,
    asked: impl Iterator<Item = (i32, Offset)>,
) -> Result<BTreeMap<i32, Offset>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in asked {
        list.add_partition_offset(topic, partition, offset)?;
    }
    if list.count() == 0 {
        return Ok(BTreeMap::new());
    }
    let found = client.offsets_for_times(list, LOOK_UP)?;
    let mut offsets = BTreeMap::new();
    for elem in found.elements() {
        elem.error()?;
        offsets.insert(elem.partition(), elem.offset());
    }
    Ok(offsets)
}

fn number(offset: Option<&Offset>) -> Option<i64> {
    match offset {
        Some(Offset::Offset(n)) => Some(*n),
        _ => None,
    }
}

/// The bounds of ranges of one topic, as of now.
pub(super) fn resolve(
    client: &BaseConsumer<Plain>,
    topic: &str,
    ranges: &[TailRange],
) -> Result<BTreeMap<i32, Bounds>, KafkaError> {
    let all = |offset: Offset| ranges.iter().map(move |r| (r.partition.partition, offset));
    let ends = look_up(client, topic, all(Offset::End))?;
    let oldest = look_up(client, topic, all(Offset::Beginning))?;
    let times = look_up(
        client,
        topic,
        ranges.iter().filter_map(|r| match r.from {
            From::Time(millis) => Some((r.partition.partition, Offset::Offset(millis.max(0)))),
            From::Beginning | From::Offset(_) => None,
        }),
    )?;
    Ok(ranges
        .iter()
        .map(|range| {
            let p = range.partition.partition;
            let low = number(oldest.get(&p)).unwrap_or(0);
            let end = number(ends.get(&p)).unwrap_or(low);
            let start = match range.from {
                From::Beginning => low,
                From::Offset(offset) => offset.max(low),
                // No record at or after that time: nothing to read.
                From::Time(_) => number(times.get(&p)).unwrap_or(end).max(low),
            };
            let stop = range.until.map_or(end, |until| until.min(end));
            (p, Bounds { start, stop })
        })
        .collect())
}
