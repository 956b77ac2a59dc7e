//! A sender that floods the partition: what of it goes to the side lane, and when it comes back.
//!
//! Its keys go as blocked ones do, in order and with their followers. One with an attempt under way
//! cannot go yet: it is marked, and goes when the attempt has ended, before the next of it starts.

use std::collections::HashSet;

use bongsu_domain::identity::hash64;
use bongsu_policy::Floods;
use bongsu_policy::hashing::ByHash;
use bongsu_stream::port::Record;

use super::Owner;
use crate::journal::Source;

/// How often a full window is looked at, milliseconds.
const LOOK_MS: i64 = 20;

/// What of a partition is diverted.
pub(super) struct Diversion {
    pub(super) floods: Floods,
    /// Keys that go to the lane once no attempt of them is under way.
    marked: HashSet<u64, ByHash>,
    looked_at: i64,
}

impl Diversion {
    pub(super) fn new(share: usize) -> Self {
        Self {
            floods: Floods::new(share),
            marked: HashSet::default(),
            looked_at: 0,
        }
    }

    pub(super) fn is_marked(&self, key: u64) -> bool {
        self.marked.contains(&key)
    }
}

impl Owner {
    /// Who speaks in what was read, whether or not there is room for it yet: a flood is one only where
    /// somebody else speaks.
    pub(super) fn hear(&mut self, records: &[Record]) {
        let mut last = None;
        // The key of a delivery is its sender.
        for sender in records.iter().filter_map(|record| record.key.as_deref()) {
            if last != Some(sender) {
                let number = hash64(&[sender]);
                self.diversion.floods.heard(number, self.now);
            }
            last = Some(sender);
        }
    }

    /// Whether a delivery that is read goes to the lane because its sender floods. Its key is at home
    /// there already where `diverted` says so.
    pub(super) fn goes_with_flood(&mut self, sender: u64, key: u64, diverted: bool) -> bool {
        let now = self.now;
        self.diversion.floods.heard(sender, now);
        if diverted || self.shared.has_little() || !self.diversion.floods.diverts(sender, now) {
            return false;
        }
        let is_here = self
            .sequencer(Source::Main)
            .is_some_and(|main| main.has_key(key));
        if is_here {
            // Behind those of its key that are here still: they go together.
            self.diversion.marked.insert(key);
            return false;
        }
        self.lane_share.has_room_for_keys()
    }

    /// Looks for a sender that fills the window, and for those that the lane has little left of.
    pub(super) fn look_for_floods(&mut self) {
        let now = self.now;
        self.end_floods();
        let looks_again = now - self.diversion.looked_at >= LOOK_MS;
        if !looks_again || !self.load.is_paused() || self.shared.has_little() {
            return;
        }
        self.diversion.looked_at = now;
        let Some([main, _]) = &self.sequencers else {
            return;
        };
        let Some((sender, held)) = main.busiest_sender() else {
            return;
        };
        let all = main.open_count();
        if !self.diversion.floods.found(sender, held, all, now) {
            return;
        }
        let keys = main.keys_of(sender);
        self.shared.metrics.flooded();
        tracing::info!(
            partition = self.partition,
            held,
            window = all,
            "a sender fills the window and goes through the side lane"
        );
        for key in keys {
            if !self.lane_share.has_room_for_keys() {
                break;
            }
            self.diversion.marked.insert(key);
            self.divert_marked(key);
        }
    }

    fn end_floods(&mut self) {
        if self.diversion.floods.is_empty() || self.lane.is_behind() {
            return;
        }
        let Some([_, lane]) = &self.sequencers else {
            return;
        };
        self.diversion
            .floods
            .end_drained(|sender| lane.held_by(sender));
        if self.diversion.floods.is_empty() {
            self.diversion.marked.clear();
        }
    }

    /// A delivery of the key has ended, or its key was marked just now: if nothing of it is in an
    /// attempt, it goes.
    pub(super) fn divert_marked(&mut self, key: u64) {
        if !self.diversion.is_marked(key) {
            return;
        }
        let is_here = self
            .sequencer(Source::Main)
            .is_some_and(|main| main.has_key(key));
        if !is_here || self.park_key(key) {
            self.diversion.marked.remove(&key);
        }
    }
}
