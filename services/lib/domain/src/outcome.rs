//! The one final fate of a delivery, and why.

use crate::channel::vocabulary;

vocabulary!(
    /// What became of a delivery. Dispatch writes exactly one; a report may move `accepted` or
    /// `unknown` to `delivered` or `undelivered`.
    Outcome, "outcome", {
        /// The provider took it.
        Accepted = "accepted",
        /// The provider reported that it arrived.
        Delivered = "delivered",
        /// Accepted, then reported failed.
        Undelivered = "undelivered",
        /// The provider, or we on its behalf, said no for good.
        Refused = "refused",
        /// A stored reason not to send.
        Suppressed = "suppressed",
        /// The last useful moment passed first.
        Expired = "expired",
        /// Stopped by a person or a program.
        Cancelled = "cancelled",
        /// It may have arrived; nobody can tell.
        Unknown = "unknown",
        /// Retries are used up.
        Dead = "dead",
    }
);

vocabulary!(
    /// The bounded reason beside an outcome.
    Reason, "reason", {
        /// Nothing to add.
        None = "none",
        /// The address does not exist any more; stop using it.
        InvalidAddress = "invalid_address",
        /// The address may not exist any more, or we may be wrong; said often enough, it is retired.
        AddressDoubtful = "address_doubtful",
        /// It arrived, and its reader called it unwanted: nothing more is sent there.
        Complained = "complained",
        /// A person or program asked for nothing to be sent there.
        Withheld = "withheld",
        /// The provider will never take this content.
        InvalidContent = "invalid_content",
        /// Our credential or account was refused.
        Credential = "credential",
        /// The URL leads into a private network.
        PrivateAddress = "private_address",
        /// The account is not configured here.
        UnknownAccount = "unknown_account",
        /// The provider kept failing until the deadline.
        ProviderUnavailable = "provider_unavailable",
        /// The provider kept throttling until the deadline.
        Throttled = "throttled",
        /// The answer was never seen.
        NoAnswer = "no_answer",
        /// Too late before the first attempt.
        DeadlinePassed = "deadline_passed",
        /// The provider refused it, with a reason we do not map.
        ProviderRefused = "provider_refused",
        /// The channel does not carry notifications of this purpose (advertising on AlimTalk).
        PurposeNotAllowed = "purpose_not_allowed",
        /// The recipient has not agreed to advertising, and the law asks for it.
        ConsentMissing = "consent_missing",
        /// Advertising without the mark or the closing that the law asks for.
        MarkingMissing = "marking_missing",
        /// The content is larger than the channel takes.
        ContentTooLarge = "content_too_large",
        /// The recipient cannot be reached on this channel now: no user of it, blocked us, away.
        NotReachable = "not_reachable",
        /// The provider does not deliver at this hour.
        OutsideHours = "outside_hours",
        /// The event asks for something this version does not do.
        NotBuilt = "not_built",
        /// The recipient has no address on a planned channel.
        NotAvailable = "not_available",
        /// The event is malformed.
        InvalidEvent = "invalid_event",
        /// The channel does not exist.
        UnknownChannel = "unknown_channel",
        /// The same id came earlier with other content.
        IdempotencyConflict = "idempotency_conflict",
        /// The same was said to the same address too often; the repeat guard held it back.
        Repeat = "repeat",
        /// It waited too long, said the operator who started its scope again.
        Stale = "stale",
        /// A newer one with its collapse key waits, and the operator wanted only that one.
        Superseded = "superseded",
    }
);

/// An outcome with its reason: what ends a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Settled {
    /// The fate.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
}

impl Settled {
    /// Taken by the provider.
    pub const ACCEPTED: Self = Self {
        outcome: Outcome::Accepted,
        reason: Reason::None,
    };
    /// Refused for `reason`.
    #[must_use]
    pub const fn refused(reason: Reason) -> Self {
        Self {
            outcome: Outcome::Refused,
            reason,
        }
    }
}

impl Outcome {
    /// Which of two outcomes stands when a delivery has both (a rare double after a crash), `self`
    /// being first in the log: `accepted` beats the rest, else the first stays.
    #[must_use]
    pub const fn merge(self, later: Self) -> Self {
        match (self, later) {
            (Self::Accepted, _) | (_, Self::Accepted) => match self {
                // A report has already moved it on; an old acceptance does not move it back.
                Self::Delivered | Self::Undelivered => self,
                Self::Accepted
                | Self::Refused
                | Self::Suppressed
                | Self::Expired
                | Self::Cancelled
                | Self::Unknown
                | Self::Dead => Self::Accepted,
            },
            (first, _) => first,
        }
    }

    /// What a report makes of this outcome; reports only move forward.
    #[must_use]
    pub const fn report(self, report: Self) -> Self {
        match (self, report) {
            (Self::Accepted | Self::Unknown, Self::Delivered | Self::Undelivered)
            | (Self::Undelivered, Self::Delivered) => report,
            (stays, _) => stays,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_beats_the_rest_and_the_first_stays_otherwise() {
        assert_eq!(Outcome::Unknown.merge(Outcome::Accepted), Outcome::Accepted);
        assert_eq!(Outcome::Accepted.merge(Outcome::Dead), Outcome::Accepted);
        assert_eq!(Outcome::Expired.merge(Outcome::Dead), Outcome::Expired);
        assert_eq!(
            Outcome::Delivered.merge(Outcome::Accepted),
            Outcome::Delivered
        );
    }

    #[test]
    fn reports_only_move_forward() {
        assert_eq!(
            Outcome::Accepted.report(Outcome::Delivered),
            Outcome::Delivered
        );
        assert_eq!(
            Outcome::Delivered.report(Outcome::Undelivered),
            Outcome::Delivered
        );
        assert_eq!(
            Outcome::Refused.report(Outcome::Delivered),
            Outcome::Refused
        );
    }
}
