//! Floods: which sender fills a partition's window while others wait, and whose turn it is once such
//! a sender goes through the side lane.
//!
//! Pure. A window is shared fairly among the senders in it, but what is not read yet waits behind
//! what is. So a sender that holds more than its share of a full window is *flooding*: what else comes
//! of it goes to the side lane, key by key and in order, until the lane has little left of it. Nothing
//! is a flood while nobody else speaks in the partition, for then nobody would gain; nor while the
//! provider takes nothing, for then a backlog must stay where it lies. Memory: 24 bytes per flood.

/// Another sender counts as waiting for so long after its last delivery was read, milliseconds: it
/// may have spoken since, behind the flood.
const OTHERS_MS: i64 = 60_000;
/// The provider counts as serving for so long after it took a delivery, milliseconds.
const SERVED_MS: i64 = 10_000;
/// A flood is over when the lane holds less of it than this part of what it held of the window.
const OVER: usize = 4;

/// Who is heard in a partition, and who floods it.
#[derive(Debug)]
pub struct Floods {
    /// Percent of a full window above which a sender floods; 100 is never reached.
    share: usize,
    /// The last two senders that were read, the last first, and when.
    heard: [Option<(u64, i64)>; 2],
    served_at: Option<i64>,
    flooding: Vec<Flood>,
}

#[derive(Debug, Clone, Copy)]
struct Flood {
    sender: u64,
    /// What it held of the window when it was found.
    held: usize,
}

impl Floods {
    /// A sender floods that holds more than `share` percent of a full window.
    #[must_use]
    pub const fn new(share: usize) -> Self {
        Self {
            share,
            heard: [None; 2],
            served_at: None,
            flooding: Vec::new(),
        }
    }

    /// A delivery of this sender was read.
    pub fn heard(&mut self, sender: u64, now: i64) {
        match &mut self.heard[0] {
            Some((last, at)) if *last == sender => *at = now,
            _ => {
                self.heard.swap(0, 1);
                self.heard[0] = Some((sender, now));
            }
        }
    }

    /// The provider took a delivery.
    pub const fn served(&mut self, now: i64) {
        self.served_at = Some(now);
    }

    /// The window is full, and of its `all` deliveries this sender holds the most. True when it is a
    /// flood from now on.
    pub fn found(&mut self, sender: u64, held: usize, all: usize, now: i64) -> bool {
        let too_much = held.saturating_mul(100) > self.share.saturating_mul(all);
        let others = held < all || self.is_another_heard(sender, now);
        let known = self.flooding.iter().any(|flood| flood.sender == sender);
        let found = too_much && others && !known && self.is_serving(now);
        if found {
            self.flooding.push(Flood { sender, held });
        }
        found
    }

    /// Whether what is read of this sender goes to the side lane.
    #[must_use]
    pub fn diverts(&self, sender: u64, now: i64) -> bool {
        !self.flooding.is_empty()
            && self.flooding.iter().any(|flood| flood.sender == sender)
            && self.is_serving(now)
    }

    /// Ends the floods of which the lane holds little, as `held` says of each sender; to be asked only
    /// while the lane has nothing unread.
    pub fn end_drained(&mut self, held: impl Fn(u64) -> usize) {
        self.flooding
            .retain(|flood| held(flood.sender).saturating_mul(OVER) >= flood.held.max(OVER));
    }

    /// Whether nobody floods.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.flooding.is_empty()
    }

    fn is_another_heard(&self, sender: u64, now: i64) -> bool {
        self.heard
            .iter()
            .flatten()
            .any(|(other, at)| *other != sender && now - at < OTHERS_MS)
    }

    fn is_serving(&self, now: i64) -> bool {
        self.served_at.is_some_and(|at| now - at < SERVED_MS)
    }
}

/// Turns between the deliveries and the side lane, by the number of senders with something to send in
/// each, so that a sender in the lane has no more turns than one outside.
#[derive(Debug, Default)]
pub struct Turns {
    owed: usize,
}

impl Turns {
    /// Whether the lane has this turn, with so many senders ready outside and in it.
    pub fn is_lanes(&mut self, outside: usize, in_lane: usize) -> bool {
        let all = outside + in_lane;
        if in_lane == 0 || outside == 0 {
            return outside == 0;
        }
        self.owed = (self.owed + in_lane).min(2 * all);
        let lanes = self.owed >= all;
        if lanes {
            self.owed -= all;
        }
        lanes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLOOD: u64 = 1;

    fn heard_beside_another(share: usize) -> Floods {
        let mut floods = Floods::new(share);
        floods.heard(2, 0);
        floods.heard(FLOOD, 10);
        floods.served(10);
        floods
    }

    #[test]
    fn a_sender_beyond_its_share_of_a_full_window_floods_while_others_wait() {
        let mut floods = heard_beside_another(60);
        assert!(!floods.found(FLOOD, 60, 100, 20), "no more than its share");
        assert!(!floods.diverts(FLOOD, 20));
        assert!(floods.found(FLOOD, 61, 100, 20));
        assert!(!floods.found(FLOOD, 61, 100, 20), "it is known");
        assert!(floods.diverts(FLOOD, 20) && !floods.diverts(2, 20));
    }

    #[test]
    fn one_that_speaks_alone_does_not_flood() {
        let mut floods = heard_beside_another(60);
        let long_after = OTHERS_MS + 5;
        floods.heard(FLOOD, long_after);
        floods.served(long_after);
        assert!(!floods.found(FLOOD, 100, 100, long_after));
        // Another waits beside it, or spoke lately.
        assert!(floods.found(FLOOD, 99, 100, long_after));
        let mut floods = heard_beside_another(60);
        assert!(floods.found(FLOOD, 100, 100, 20));
    }

    #[test]
    fn a_backlog_of_an_outage_stays_where_it_lies() {
        let mut floods = heard_beside_another(60);
        let outage = 10 + SERVED_MS;
        assert!(!floods.found(FLOOD, 90, 100, outage));
        floods.served(outage);
        assert!(floods.found(FLOOD, 90, 100, outage));
        assert!(floods.diverts(FLOOD, outage + SERVED_MS - 1));
        assert!(!floods.diverts(FLOOD, outage + SERVED_MS));
    }

    #[test]
    fn a_flood_is_over_when_the_lane_holds_little_of_it() {
        let mut floods = heard_beside_another(60);
        assert!(floods.found(FLOOD, 80, 100, 20));
        floods.end_drained(|_| 20);
        assert!(floods.diverts(FLOOD, 20));
        floods.end_drained(|_| 19);
        assert!(floods.is_empty());
        // However few it held.
        assert!(floods.found(FLOOD, 1, 1, 20));
        floods.end_drained(|_| 0);
        assert!(floods.is_empty());
    }

    #[test]
    fn a_share_of_the_whole_is_never_passed() {
        assert!(!heard_beside_another(100).found(FLOOD, 100, 100, 20));
    }

    proptest! {
        #[test]
        fn who_is_heard_beside_a_sender_is_known_exactly(
            said in prop::collection::vec((0_u64..3, 0_i64..40_000), 1..20), sender in 0_u64..3,
        ) {
            let (mut floods, mut now, mut last) = (Floods::new(60), 0, None);
            for (who, pause) in said {
                now += pause;
                floods.heard(who, now);
                if who != sender {
                    last = Some(now);
                }
            }
            let waits = last.is_some_and(|at| now - at < OTHERS_MS);
            floods.served(now);
            prop_assert_eq!(floods.found(sender, 10, 10, now), waits);
        }

        #[test]
        fn turns_are_shared_by_the_number_of_senders(outside in 0_usize..20, in_lane in 1_usize..20) {
            let mut turns = Turns::default();
            let all = outside + in_lane;
            let lanes = (0..all * 10).filter(|_| turns.is_lanes(outside, in_lane)).count();
            prop_assert_eq!(lanes, in_lane * 10);
            // Nobody ready outside leaves every turn to the lane, and nobody in it none.
            prop_assert!(turns.is_lanes(0, in_lane) && (outside == 0 || !turns.is_lanes(outside, 0)));
        }
    }
}
