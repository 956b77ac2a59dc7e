//! Asking providers for reports: one active poller per account, however many gateways there are.
//!
//! Who holds partition 0 of the topic `reports` in the account's own consumer group is the poller;
//! the group hands it on when that gateway ends or dies. Two pollers for a moment do no harm: a
//! provider gives a batch until it is confirmed, it is confirmed only after Kafka has it, and a
//! report written twice is one receipt.

use std::time::Duration;

use bongsu_channels::reports::PollError;
use bongsu_runtime::{Shutdown, Tasks};
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
                tasks.spawn("report poller", poller.run());
            }
        }
    }
}

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
