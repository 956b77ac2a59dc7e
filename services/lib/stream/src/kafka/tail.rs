//! Group-less reads: to the end of partitions, or following them.
//!
//! One consumer and one thread per topic: rust-rdkafka's end-of-partition event names the partition
//! but not its topic.

mod bounds;
mod reader;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use self::bounds::LOOK_UP;
use self::reader::Reader;
use super::client::Recipe;
use crate::error::ConsumeError;
use crate::port::{Follower, Isolation, Record, TailEnds, TailRange};

/// Batches that may wait for the caller.
const BATCHES: usize = 16;

/// What a reader thread tells.
enum Read {
    Records(Vec<Record>),
    /// All ranges of the thread are read; for a reader that follows it never comes.
    Done(TailEnds),
    Failed(ConsumeError),
}

/// Stops the reader threads when the caller goes away.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

struct Readers {
    reads: mpsc::Receiver<Read>,
    threads: usize,
    _stop: Stop,
}

fn start(
    mut recipe: Recipe,
    ranges: Vec<TailRange>,
    isolation: Isolation,
    follow: bool,
) -> Result<Readers, ConsumeError> {
    recipe
        .config
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("group.id", "bongsu-tail-without-group")
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.wait.max.ms", "10")
        .set(
            "isolation.level",
            match isolation {
                Isolation::Committed => "read_committed",
                Isolation::Uncommitted => "read_uncommitted",
            },
        );
    let mut topics: BTreeMap<Arc<str>, Vec<TailRange>> = BTreeMap::new();
    for range in ranges {
        topics
            .entry(range.partition.topic.clone())
            .or_default()
            .push(range);
    }
    let (sender, reads) = mpsc::channel(BATCHES);
    let stop = Arc::new(AtomicBool::new(false));
    let readers = Readers {
        reads,
        threads: topics.len(),
        _stop: Stop(stop.clone()),
    };
    for (topic, ranges) in topics {
        let reader = Reader::new(
            recipe.clone(),
            topic.clone(),
            ranges,
            sender.clone(),
            stop.clone(),
        );
        std::thread::Builder::new()
            .name(format!("tail-{topic}"))
            .spawn(move || reader.run(follow))
            .map_err(|e| ConsumeError::Client(e.to_string()))?;
    }
    Ok(readers)
}

/// Reads ranges to their ends.
pub(super) async fn read(
    recipe: Recipe,
    ranges: Vec<TailRange>,
    isolation: Isolation,
    mut each: Box<dyn FnMut(Record) + Send>,
) -> Result<TailEnds, ConsumeError> {
    let mut ends = TailEnds::new();
    if ranges.is_empty() {
        return Ok(ends);
    }
    recipe.ready(LOOK_UP).await?;
    let mut readers = start(recipe, ranges, isolation, false)?;
    let mut left = readers.threads;
    while left > 0 {
        match readers.reads.recv().await {
            Some(Read::Records(records)) => records.into_iter().for_each(&mut each),
            Some(Read::Done(some)) => {
                ends.extend(some);
                left -= 1;
            }
            Some(Read::Failed(error)) => return Err(error),
            None => return Err(ConsumeError::Closed),
        }
    }
    Ok(ends)
}

/// The port's follower.
pub(super) struct KafkaFollower {
    readers: Readers,
}

impl KafkaFollower {
    pub(super) fn start(
        recipe: Recipe,
        ranges: Vec<TailRange>,
        isolation: Isolation,
    ) -> Result<Self, ConsumeError> {
        Ok(Self {
            readers: start(recipe, ranges, isolation, true)?,
        })
    }
}

impl Follower for KafkaFollower {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Record>, ConsumeError>> {
        Box::pin(async move {
            loop {
                match self.readers.reads.recv().await {
                    Some(Read::Records(records)) => return Ok(records),
                    Some(Read::Done(_)) => {}
                    Some(Read::Failed(error)) => return Err(error),
                    None => return Err(ConsumeError::Closed),
                }
            }
        })
    }
}
