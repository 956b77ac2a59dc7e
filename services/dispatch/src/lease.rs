//! The lease: attempts may start only while the group has confirmed this member a short time ago.
//!
//! A worker cut off from Kafka does not know it; the group gives its partitions to another after the
//! session timeout. So every commit that the coordinator takes renews the lease, counted from the
//! moment the commit was *sent*, and `lease + attempt + heartbeat + drift < session timeout` is
//! checked at start: whoever is cut off has made its last call, and heard its answer or given up on
//! it, before another may begin. The clock counts suspended time: a machine that slept must not
//! believe in an old lease.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bongsu_runtime::Clock;
use tokio::time::Instant;

/// One member's lease on its partitions.
#[derive(Debug)]
pub struct Lease {
    /// Until when, in the clock's unsleeping milliseconds.
    until: AtomicI64,
    /// When partitions were lost last; what was sent by then proves nothing any more.
    ended: AtomicI64,
    length_ms: i64,
    clock: Clock,
}

impl Lease {
    /// A lease that nobody has granted yet.
    #[must_use]
    pub fn new(clock: Clock, length: Duration) -> Self {
        Self {
            until: AtomicI64::new(i64::MIN),
            ended: AtomicI64::new(i64::MIN),
            length_ms: i64::try_from(length.as_millis()).unwrap_or(i64::MAX),
            clock,
        }
    }

    /// The moment to remember before a commit is sent.
    #[must_use]
    pub fn moment(&self) -> i64 {
        self.clock.unsleeping_millis()
    }

    /// The coordinator took a commit that was sent at `sent`.
    pub fn renew(&self, sent: i64) {
        if sent <= self.ended.load(Ordering::Acquire) {
            return;
        }
        self.until
            .fetch_max(sent.saturating_add(self.length_ms), Ordering::AcqRel);
    }

    /// The partitions were lost: nothing starts until the next commit is taken.
    pub fn end(&self) {
        self.ended.fetch_max(self.moment(), Ordering::AcqRel);
        self.until.store(i64::MIN, Ordering::Release);
    }

    /// Whether an attempt may start now.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.clock.unsleeping_millis() < self.until.load(Ordering::Acquire)
    }
}

/// Notices a lease that does not come back.
#[derive(Debug, Default)]
pub struct LeaseWatch {
    lapsed_at: Option<Instant>,
    said: bool,
}

impl LeaseWatch {
    /// A lease that holds again within this was no more than a slow commit.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// To be told regularly whether the lease holds, or nothing depends on it. How long it has not, said
    /// once per lapse.
    pub fn look(&mut self, holds: bool, now: Instant) -> Option<Duration> {
        if holds {
            *self = Self::default();
            return None;
        }
        let lapsed = now.duration_since(*self.lapsed_at.get_or_insert(now));
        if self.said || lapsed < Self::PATIENCE {
            return None;
        }
        self.said = true;
        Some(lapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lapse_is_said_once_and_only_when_it_lasts() {
        let mut watch = LeaseWatch::default();
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(watch.look(false, at(0)), None);
        assert_eq!(watch.look(true, at(9)), None, "a slow commit");
        assert_eq!(watch.look(false, at(11)), None);
        assert_eq!(watch.look(false, at(20)), None);
        let lapsed = Some(Duration::from_secs(10));
        assert_eq!(watch.look(false, at(21)), lapsed);
        assert_eq!(watch.look(false, at(60)), None, "said already");
        assert_eq!(watch.look(true, at(61)), None);
        assert_eq!(watch.look(false, at(70)), None);
        assert_eq!(watch.look(false, at(80)), lapsed, "another lapse");
    }

    #[tokio::test(start_paused = true)]
    async fn it_holds_from_the_sending_of_the_last_commit_on() {
        let lease = Lease::new(Clock::starting_at(0), Duration::from_secs(5));
        assert!(!lease.holds(), "nobody has granted it");
        let sent = lease.moment();
        tokio::time::advance(Duration::from_secs(2)).await;
        lease.renew(sent);
        assert!(lease.holds());
        tokio::time::advance(Duration::from_millis(2_999)).await;
        assert!(lease.holds());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!lease.holds());
        lease.renew(sent);
        assert!(!lease.holds(), "an old commit proves nothing");
        lease.renew(lease.moment());
        assert!(lease.holds());
        let before = lease.moment();
        lease.end();
        assert!(!lease.holds());
        lease.renew(before);
        assert!(!lease.holds(), "sent before the partitions were lost");
        tokio::time::advance(Duration::from_millis(1)).await;
        lease.renew(lease.moment());
        assert!(lease.holds());
    }
}
