//! Standstills: a partition whose watermark does not move, what for, and whether to give it up.

use bongsu_policy::sequencer::State;

use super::Owner;
use crate::metrics::Culprit;

/// Stands in for an offset while nothing can be read for want of a schema.
const NOTHING_READ: i64 = i64::MIN;

/// What has held the watermark, and since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standstill {
    offset: i64,
    since: i64,
    /// Its culprit was named.
    named: bool,
}

impl Owner {
    /// Looks whether the watermark moves; if it has not for long, names the culprit, once.
    pub(super) fn watch_progress(&mut self) {
        let now = self.now;
        let pin = self.sequencers.as_ref().and_then(|[main, _]| main.pin());
        let unread = self.schema.is_some().then_some(NOTHING_READ);
        let Some(offset) = pin.map(|pin| pin.offset).or(unread) else {
            self.standstill = None;
            return;
        };
        let known = self.standstill.filter(|known| known.offset == offset);
        let mut standstill = known.unwrap_or(Standstill {
            offset,
            since: now,
            named: false,
        });
        let lasted = now - standstill.since;
        if !standstill.named && lasted >= self.shared.stall_after_ms {
            standstill.named = true;
            let culprit = self.culprit(pin.map(|pin| pin.state));
            self.shared.metrics.stands_still(self.partition, culprit);
            tracing::warn!(
                partition = self.partition,
                offset = pin.map(|pin| pin.offset),
                culprit = culprit.as_str(),
                seconds = lasted / 1_000,
                "the partition stands still"
            );
        }
        self.standstill = Some(standstill);
    }

    /// What the oldest open delivery waits for; `None` when nothing could be read.
    fn culprit(&self, state: Option<State>) -> Culprit {
        match state {
            None => Culprit::Schema,
            Some(State::Calling) => Culprit::Provider,
            Some(State::Settling | State::Diverting) => Culprit::Receipts,
            Some(_) if !self.is_owned() => Culprit::Lease,
            Some(_) if self.stopped_now > 0 => Culprit::Stop,
            Some(_) if self.has_waiting_group() => Culprit::Limiter,
            Some(State::Waiting) => Culprit::Retry,
            Some(State::Queued) if self.load.is_paused() => Culprit::Window,
            Some(State::Queued) => Culprit::Provider,
        }
    }

    /// Whether the attempt of the oldest delivery has not ended for longer than it can by itself: the
    /// partition is given up in order and taken anew. What waits for a moment, a limit or a stop goes
    /// on by itself. So do receipts and diversions that Kafka does not acknowledge: they are in the
    /// producer's hands, and a restart that cannot find them in `results` would only send everything
    /// again.
    pub(super) fn is_stalled(&self) -> bool {
        let Some([main, _]) = &self.sequencers else {
            return false;
        };
        let calling = main.pin().filter(|pin| pin.state == State::Calling);
        let Some((offset, pending)) =
            calling.and_then(|pin| Some((pin.offset, main.payload(pin.offset)?)))
        else {
            return false;
        };
        let lasted = self.now - pending.times.started();
        let stalled = lasted >= self.shared.stall_after_ms;
        if stalled {
            tracing::error!(
                partition = self.partition,
                offset,
                seconds = lasted / 1_000,
                "an attempt does not end: the partition is given up, so that it starts anew"
            );
        }
        stalled
    }
}
