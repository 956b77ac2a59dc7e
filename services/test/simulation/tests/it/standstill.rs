//! A partition whose oldest delivery does not end is named, with what it stands for.

use std::sync::Arc;
use std::time::Duration;

use bongsu_channels::provider::{Attempt, AttemptResult, Provider, TryError};
use bongsu_runtime::Metrics;
use bongsu_simulation::world::{PARTITIONS, World};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use crate::handover::write;

/// A provider that is down.
struct Down;

impl Provider for Down {
    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        Box::pin(async move {
            sleep(Duration::from_millis(20)).await;
            Ok(vec![AttemptResult::Unavailable; batch.len()])
        })
    }
}

/// The value of each series of a metric, with its labels.
fn series(metrics: &Metrics, name: &str) -> Vec<(String, String)> {
    let text = metrics.render().unwrap();
    let lines = text.lines().filter(|line| line.starts_with(name));
    let split = |line: &str| {
        let (labels, value) = line.rsplit_once(' ').unwrap();
        (labels.to_owned(), value.to_owned())
    };
    lines.map(split).collect()
}

#[tokio::test(start_paused = true)]
async fn each_partition_is_named_once_with_its_culprit() {
    let world = World::new().await.unwrap();
    let settings = bongsu_dispatch::Settings {
        stall_after: bongsu_runtime::Duration::secs(20),
        // What waits stays where the watermark sees it.
        divert_after: bongsu_runtime::Duration::secs(3_600),
        ..World::settings()
    };
    let metrics = Metrics::new().unwrap();
    let worker = world
        .dispatch_measured(settings, "w", 7, Arc::new(Down), metrics.clone())
        .unwrap();
    write(&world, "e", |_| false).await;
    sleep(Duration::from_secs(15)).await;
    let named = || series(&metrics, "bongsu_partition_standstills_total{");
    assert_eq!(named(), []);
    for seconds in [15, 60] {
        sleep(Duration::from_secs(seconds)).await;
        let named = named();
        assert_eq!(
            named.len(),
            usize::try_from(PARTITIONS).unwrap(),
            "{named:?}"
        );
        for (labels, times) in named {
            // The circuit of the account opens: nothing of it is tried before its time.
            let known = ["retry", "limiter"].map(|c| labels.contains(&format!("culprit=\"{c}\"")));
            assert!(known.contains(&true), "{labels}");
            assert_eq!(times, "1", "{labels}");
        }
    }
    assert_eq!(
        series(&metrics, "bongsu_stalls_total{"),
        [],
        "it goes on by itself"
    );
    worker.stop().await.unwrap();
}
