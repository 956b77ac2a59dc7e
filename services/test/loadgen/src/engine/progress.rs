//! What processes used while requests were answered, looked at ten times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::processes::{cpu_us, memory};

/// One look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Look {
    /// Seconds since the first one.
    pub(crate) at: f64,
    /// Requests answered 2xx so far.
    pub(crate) accepted: u64,
    /// Processor time of the processes so far, microseconds.
    pub(crate) cpu_us: u64,
    /// Memory of the largest process, KiB.
    pub(crate) rss_kib: u64,
}

/// Looks at a simulator's counts and at processes, until it is asked for what it saw.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Seen>,
}

/// Everything that was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    looks: Vec<Look>,
    /// The largest memory any of the processes ever had, KiB (`VmHWM`).
    pub(crate) peak_kib: u64,
}

/// Speed and cost in the middle of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Pace {
    pub(crate) per_second: f64,
    pub(crate) cpu_us: f64,
}

impl Watch {
    /// Begins; `pids` must live until the end.
    pub(crate) fn start(client: &reqwest::Client, simulator: &str, pids: Vec<u32>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(look(
            client.clone(),
            format!("{simulator}/_sim/counts"),
            pids,
            Arc::clone(&stop),
        ));
        Self { stop, task }
    }

    /// Ends, and gives what was seen.
    pub(crate) async fn finish(self) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::Release);
        Ok(self.task.await?)
    }
}

async fn look(
    client: reqwest::Client,
    counts: String,
    pids: Vec<u32>,
    stop: Arc<AtomicBool>,
) -> Seen {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let mut seen = Seen::default();
    while !stop.load(Ordering::Acquire) {
        ticks.tick().await;
        let Ok(answer) = client.get(&counts).send().await else {
            continue;
        };
        let Ok(counts) = answer.json::<serde_json::Value>().await else {
            continue;
        };
        let accepted = counts.get("accepted").and_then(serde_json::Value::as_u64);
        let used: Vec<_> = pids.iter().filter_map(|pid| memory(*pid)).collect();
        seen.peak_kib = used
            .iter()
            .map(|m| m.peak_kib)
            .max()
            .unwrap_or(0)
            .max(seen.peak_kib);
        seen.looks.push(Look {
            at: begun.elapsed().as_secs_f64(),
            accepted: accepted.unwrap_or(0),
            cpu_us: pids.iter().filter_map(|pid| cpu_us(*pid)).sum(),
            rss_kib: used.iter().map(|m| m.rss_kib).max().unwrap_or(0),
        });
    }
    seen
}

impl Seen {
    /// Speed and cost between a tenth and nine tenths of `total` requests: neither the start nor the
    /// end of a run is its speed.
    pub(crate) fn pace(&self, total: u64) -> Pace {
        let reached = |count: u64| self.looks.iter().find(|look| look.accepted >= count);
        let (Some(from), Some(to)) = (reached(total / 10), reached(total / 10 * 9)) else {
            return Pace::default();
        };
        #[expect(clippy::cast_precision_loss, reason = "counts of a drill")]
        let (requests, cpu) = (
            (to.accepted - from.accepted).max(1) as f64,
            (to.cpu_us.saturating_sub(from.cpu_us)) as f64,
        );
        Pace {
            per_second: requests / (to.at - from.at).max(0.001),
            cpu_us: cpu / requests,
        }
    }

    /// The largest memory seen at any look, KiB.
    pub(crate) fn largest_rss_kib(&self) -> u64 {
        self.looks
            .iter()
            .map(|look| look.rss_kib)
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_the_run_counts() {
        // A slow start, a thousand per tenth of a second, a slow end.
        let looks = (0..30)
            .map(|n| Look {
                at: f64::from(n) / 10.0,
                accepted: u64::from(n.clamp(10, 20_u32) - 10) * 1_000,
                cpu_us: u64::from(n) * 50_000,
                rss_kib: u64::from(n),
            })
            .collect();
        let seen = Seen {
            looks,
            peak_kib: 40,
        };
        let pace = seen.pace(10_000);
        assert!((pace.per_second - 10_000.0).abs() < 1.0, "{pace:?}");
        assert!((pace.cpu_us - 50.0).abs() < 0.1, "{pace:?}");
        assert_eq!(seen.largest_rss_kib(), 29);
        assert_eq!(seen.pace(100_000), Pace::default());
    }
}
