//! A partition whose oldest delivery does not end is named, with what it stands for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bongsu_channels::provider::{Attempt, AttemptResult, Provider, ThrottleScope, TryError};
use bongsu_runtime::Metrics;
use bongsu_simulation::world::{PARTITIONS, World};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use crate::handover::write;
use crate::night::outcomes;

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
    let ages = || {
        let mut all = series(&metrics, "bongsu_watermark_age_seconds{");
        all.retain(|(labels, _)| labels.contains("class=\"transactional\""));
        all
    };
    assert_eq!(ages().len(), usize::try_from(PARTITIONS).unwrap());
    assert!(ages().iter().all(|(_, age)| age != "0"), "{:?}", ages());
    worker.stop().await.unwrap();
    // Whoever owns the partitions next says how old they are.
    assert!(ages().iter().all(|(_, age)| age == "0"), "{:?}", ages());
}

/// Lets everybody wait for a minute at first, and takes eight seconds for each call afterwards.
#[derive(Default)]
struct WaitThenSlow(AtomicUsize);

impl Provider for WaitThenSlow {
    fn attempt<'a>(
        &'a self,
        batch: &'a [Attempt<'a>],
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<AttemptResult>, TryError>> {
        Box::pin(async move {
            if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
                let throttled = AttemptResult::Throttled {
                    retry_after: Some(Duration::from_mins(1)),
                    scope: ThrottleScope::Account,
                };
                return Ok(vec![throttled; batch.len()]);
            }
            sleep(Duration::from_secs(8)).await;
            Ok(vec![AttemptResult::Accepted; batch.len()])
        })
    }
}

/// What counts is how long the call takes, not how long the delivery has waited before it.
#[tokio::test(start_paused = true)]
async fn a_slow_call_after_a_long_wait_is_no_stall() {
    let world = World::new().await.unwrap();
    let settings = bongsu_dispatch::Settings {
        stall_after: bongsu_runtime::Duration::secs(20),
        divert_after: bongsu_runtime::Duration::secs(3_600),
        max_in_flight: 1,
        ..World::settings()
    };
    let metrics = Metrics::new().unwrap();
    let worker = world
        .dispatch_measured(
            settings,
            "w",
            7,
            Arc::new(WaitThenSlow::default()),
            metrics.clone(),
        )
        .unwrap();
    write(&world, "e", |_| false).await;
    let each = usize::try_from(PARTITIONS).unwrap();
    let all = async {
        while outcomes(&world).await.len() < each {
            sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), all)
        .await
        .unwrap();
    assert_eq!(series(&metrics, "bongsu_stalls_total{"), []);
    worker.stop().await.unwrap();
}
