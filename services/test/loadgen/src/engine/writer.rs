//! Writes a load straight into its delivery topic.
//!
//! Open loop: delivery `i` is due at `begin + i / rate`, whatever the engine does, and latency is
//! counted from that moment.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bongsu_schemas::Codec;
use bongsu_stream::port::{Cluster, Producer};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::load::Load;
use crate::load::wall_us;

/// Records without an acknowledgement at most; below the producer's own limits.
const OUTSTANDING: usize = 10_000;
/// Time between two hand-overs to Kafka: fanout, which writes deliveries otherwise, commits as often. A shorter
/// one makes a request of nearly every record, and the brokers busy with what no fanout asks of them.
const LINGER: Duration = Duration::from_millis(20);
/// Records written between two looks at the clock where no rate is set.
const LOOK_EVERY: u32 = 64;

/// A load being written.
pub(crate) struct Writing {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU32>,
    task: JoinHandle<anyhow::Result<Written>>,
}

/// A load that was written.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// When the first was due, wall clock in microseconds.
    pub(crate) begin_us: u64,
    /// How many were written and acknowledged.
    pub(crate) count: u32,
    /// How long that took.
    pub(crate) seconds: f64,
}

impl Writing {
    /// Begins.
    ///
    /// # Errors
    /// When no producer can be made.
    pub(crate) fn start(load: Arc<Load>, cluster: &dyn Cluster) -> anyhow::Result<Self> {
        let producer = cluster.producer(LINGER)?;
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU32::new(0));
        let task = tokio::spawn(write(
            load,
            producer,
            Arc::clone(&stop),
            Arc::clone(&written),
        ));
        Ok(Self {
            stop,
            written,
            task,
        })
    }

    /// How many were handed to the producer so far.
    pub(crate) fn so_far(&self) -> u32 {
        self.written.load(Ordering::Acquire)
    }

    /// Ends the load before its last delivery.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Waits until the last one is acknowledged.
    ///
    /// # Errors
    /// When Kafka refused one.
    pub(crate) async fn finish(self) -> anyhow::Result<Written> {
        self.task.await?
    }
}

async fn write(
    load: Arc<Load>,
    producer: Arc<dyn Producer>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU32>,
) -> anyhow::Result<Written> {
    let codec = Codec::default();
    let begin = Instant::now();
    let begin_us = wall_us();
    let mut waiting = VecDeque::with_capacity(OUTSTANDING);
    let mut count = 0;
    for i in 0..load.deliveries {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let due = begin + load.due(i);
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        } else if i % LOOK_EVERY == 0 {
            tokio::task::yield_now().await;
        }
        let now_ms = i64::try_from(wall_us() / 1_000)?;
        waiting.push_back(producer.send(load.record(&codec, i, now_ms)?));
        written.store(i + 1, Ordering::Release);
        if waiting.len() >= OUTSTANDING
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.await?;
            count += 1;
        }
    }
    for rest in waiting {
        rest.await?;
        count += 1;
    }
    Ok(Written {
        begin_us,
        count,
        seconds: begin.elapsed().as_secs_f64(),
    })
}
