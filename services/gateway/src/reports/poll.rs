//! Asking providers for reports: one active poller per account, however many gateways there are.
//!
//! Who holds partition 0 of the topic `reports` in the account's own consumer group is the poller;
//! the group hands it on when that gateway ends or dies. Two pollers for a moment do no harm: a
//! provider gives a batch until it is confirmed, it is confirmed only after Kafka has it, and a
//! report written twice is one receipt. A poller that dies is started again, and shown until it lives.

use std::convert::Infallible;
use std::time::Duration;

use bongsu_channels::reports::PollError;
use bongsu_runtime::{Health, Shutdown, Tasks};
use bongsu_stream::error::ConsumeError;
use bongsu_stream::port::{GroupConsumer, GroupEvent, GroupOptions, Reset, TopicPartition};
use tokio::time::{Instant, sleep};

use super::Found;
use crate::state::Gateway;

/// Longest time for a provider's answer.
const POLL_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a poll that failed: a provider in trouble is not asked faster than a healthy one.
const TROUBLE: Duration = Duration::from_secs(5);
/// After so long without a heartbeat another gateway polls.
const SESSION: Duration = Duration::from_secs(10);
/// Pause before a poller that died is started again.
const RESTART: Duration = Duration::from_secs(5);
/// Records of the topic are never looked at.
const BUFFER: usize = 64 * 1024;

impl Gateway {
    /// Starts a poller for each account that is polled.
    pub(crate) fn start_polls(&self, tasks: &mut Tasks, shutdown: &Shutdown) {
        for found in self.sources() {
            if let Some(interval) = found.source.poll_interval() {
                let poller = Poller {
                    gateway: self.clone(),
                    found,
                    interval,
                    shutdown: shutdown.clone(),
                };
                let component = format!(
                    "gateway.reports.{}.{}",
                    poller.found.provider, poller.found.account
                );
                let degraded = self.inner.degraded.clone();
                let start = move || poller.clone().run();
                tasks.spawn(
                    "report poller's watch",
                    watch(component, degraded, shutdown.clone(), start),
                );
            }
        }
    }
}

/// Keeps a poller alive until the shutdown: one that dies is shown in `degraded` and started again;
/// one that lives for a session is well.
async fn watch<F>(
    component: String,
    degraded: Health,
    shutdown: Shutdown,
    start: impl Fn() -> F,
) -> Result<(), Infallible>
where
    F: Future<Output = Result<(), ConsumeError>> + Send + 'static,
{
    loop {
        let mut poller = Tasks::new();
        poller.spawn("report poller", start());
        let mut well = false;
        let died = loop {
            // Both branches are cancel safe.
            tokio::select! {
                biased;
                ended = poller.next() => match ended {
                    Some(Err(died)) => break died,
                    // Asked to.
                    Some(Ok(_)) | None => return Ok(()),
                },
                () = sleep(SESSION), if !well => {
                    well = true;
                    degraded.set(&component, Ok(()));
                }
            }
        };
        tracing::error!(error = %died, component, "a poller of reports is started again");
        degraded.set(&component, Err(died.to_string()));
        tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(()),
            () = sleep(RESTART) => {}
        }
    }
}

#[derive(Clone)]
struct Poller {
    gateway: Gateway,
    found: Found,
    interval: Duration,
    shutdown: Shutdown,
}

impl Poller {
    async fn run(self) -> Result<(), ConsumeError> {
        let inner = &self.gateway.inner;
        let topics = &inner.topics;
        let (provider, account) = (self.found.provider, &self.found.account);
        let mut member = inner.cluster.join(GroupOptions {
            group: format!("{}reports.{provider}.{account}", topics.prefix()),
            topics: vec![topics.reports()],
            reset: Reset::Latest,
            session_timeout: SESSION,
            buffer_bytes: BUFFER,
        })?;
        let mut active = false;
        loop {
            tokio::select! {
                // All branches are cancel safe: a poll that is dropped is made again.
                biased;
                () = self.shutdown.requested() => break,
                event = member.next() => {
                    if let Some(now) = self.heard(member.as_ref(), event)? {
                        active = now;
                        tracing::info!(provider, %account, active, "polling of reports");
                    }
                }
                () = self.turn(), if active => {}
            }
        }
        member.close().await;
        Ok(())
    }

    /// What an event makes of our turn; `None` leaves it as it is.
    fn heard(
        &self,
        member: &dyn GroupConsumer,
        event: GroupEvent,
    ) -> Result<Option<bool>, ConsumeError> {
        let leads = |partitions: &[TopicPartition]| partitions.iter().any(|p| p.partition == 0);
        Ok(match event {
            GroupEvent::Records(_) => None,
            GroupEvent::Assigned(given) => {
                let given: Vec<TopicPartition> = given.into_iter().map(|(p, _)| p).collect();
                member.pause(&given);
                leads(&given).then_some(true)
            }
            GroupEvent::Revoked {
                rebalance,
                partitions,
            } => {
                member.release(rebalance);
                leads(&partitions).then_some(false)
            }
            GroupEvent::Lost(partitions) => leads(&partitions).then_some(false),
            GroupEvent::Failed(error) => return Err(error),
        })
    }

    /// One poll, and the pause after it when nothing more waits.
    async fn turn(&self) {
        match self.fetch().await {
            Ok(true) => {}
            Ok(false) => sleep(self.interval).await,
            Err(error) => {
                let (provider, account) = (self.found.provider, &self.found.account);
                tracing::warn!(%error, provider, %account, "a poll for reports came to nothing");
                sleep(TROUBLE).await;
            }
        }
    }

    /// Whether there was something.
    async fn fetch(&self) -> Result<bool, PollError> {
        let source = &self.found.source;
        let Some(fetched) = source.poll(Instant::now() + POLL_TIMEOUT).await? else {
            return Ok(false);
        };
        let kept = self.gateway.keep(&self.found, &fetched.told).await;
        kept.map_err(|problem| PollError::Refused(problem.detail))?;
        source
            .confirm(&fetched.id, Instant::now() + POLL_TIMEOUT)
            .await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_poller_that_dies_is_shown_and_started_again() {
        let (degraded, shutdown) = (Health::new(), Shutdown::new());
        degraded.set("gateway", Ok(()));
        let starts = Arc::new(AtomicU32::new(0));
        let (counted, asked) = (Arc::clone(&starts), shutdown.clone());
        // The first two die at once, the third lives.
        let start = move || {
            let start = counted.fetch_add(1, Ordering::SeqCst);
            let asked = asked.clone();
            async move {
                if start < 2 {
                    return Err(ConsumeError::Client("no such group".to_owned()));
                }
                asked.requested().await;
                Ok(())
            }
        };
        let mut tasks = Tasks::new();
        let begun = Instant::now();
        let watched = watch("poller".into(), degraded.clone(), shutdown.clone(), start);
        tasks.spawn("watch", watched);
        let at = async |after: Duration| {
            tokio::time::sleep_until(begun + after).await;
            (starts.load(Ordering::SeqCst), degraded.unready())
        };
        let second = Duration::from_secs(1);
        for (after, expected) in [(second, 1), (RESTART + second, 2)] {
            let (started, unready) = at(after).await;
            assert_eq!(started, expected);
            let why = unready.get("poller").map(String::as_str);
            assert!(
                why.is_some_and(|why| why.contains("no such group")),
                "{why:?}"
            );
        }
        let (started, unready) = at(2 * RESTART + second).await;
        assert_eq!((started, unready.len()), (3, 1), "not yet well");
        let (started, unready) = at(2 * RESTART + SESSION + second).await;
        assert_eq!((started, unready.len()), (3, 0));
        shutdown.request();
        tasks.join().await.unwrap();
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_shutdown_does_not_wait_for_a_restart() {
        let shutdown = Shutdown::new();
        let begun = Instant::now();
        let start = || async { Err(ConsumeError::Closed) };
        let watched = watch("poller".into(), Health::new(), shutdown.clone(), start);
        let (ended, ()) = tokio::join!(watched, async { shutdown.request() });
        assert!(ended.is_ok());
        assert!(begun.elapsed() < RESTART);
    }
}
