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

/// One member's lease on its partitions.
#[derive(Debug)]
pub struct Lease {
    /// Until when, in the clock's unsleeping milliseconds.
    until: AtomicI64,
    length_ms: i64,
    clock: Clock,
}

impl Lease {
    /// A lease that nobody has granted yet.
    #[must_use]
    pub fn new(clock: Clock, length: Duration) -> Self {
        Self {
            until: AtomicI64::new(i64::MIN),
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
        self.until
            .fetch_max(sent.saturating_add(self.length_ms), Ordering::AcqRel);
    }

    /// The partitions were lost: nothing starts until the next commit is taken.
    pub fn end(&self) {
        self.until.store(i64::MIN, Ordering::Release);
    }

    /// Whether an attempt may start now.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.clock.unsleeping_millis() < self.until.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        lease.end();
        assert!(!lease.holds());
    }
}
