//! What may be asked.

use bongsu_domain::{Channel, Class, DeliveryId, Outcome, Timestamp};

/// The most rows one answer holds, whatever the query asks for.
pub const MAX_LIMIT: u32 = 1_000;

/// The senders an API key may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderScope {
    /// All of them.
    All,
    /// Only these.
    Only {
        /// Whole names.
        exact: Vec<String>,
        /// Beginnings of names.
        prefixes: Vec<String>,
    },
}

impl SenderScope {
    /// Whether the sender may be seen.
    #[must_use]
    pub fn permits(&self, sender: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only { exact, prefixes } => {
                exact.iter().any(|e| e == sender)
                    || prefixes.iter().any(|p| sender.starts_with(p.as_str()))
            }
        }
    }
}

/// One event. Ids are unique per sender only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// The publisher's id.
    pub event_id: String,
    /// Whose event; without it the answer may be ambiguous.
    pub sender: Option<String>,
    /// What may be seen.
    pub scope: SenderScope,
    /// At most so many deliveries; no more than [`MAX_LIMIT`].
    pub limit: u32,
    /// Continue after this delivery (`EventView::next_after`).
    pub after: Option<DeliveryId>,
}

/// A place in a recipient's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// `DeliveryView::listed_at` of the last one seen.
    pub listed_at: Timestamp,
    /// Its id.
    pub delivery: DeliveryId,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.listed_at.0, self.delivery)
    }
}

impl Cursor {
    /// Reads what `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('.')?;
        Some(Self {
            listed_at: Timestamp(at.parse().ok()?),
            delivery: DeliveryId::parse(id)?,
        })
    }
}

/// A recipient's deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientQuery {
    /// The publisher's id of the recipient.
    pub recipient: String,
    /// What may be seen.
    pub scope: SenderScope,
    /// At most so many; no more than [`MAX_LIMIT`].
    pub limit: u32,
    /// Only older than this.
    pub before: Option<Cursor>,
}

/// Deliveries by outcome over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountsQuery {
    /// From this moment, rounded down to its minute.
    pub from: Timestamp,
    /// Until before this moment, by minutes.
    pub to: Timestamp,
    /// Minutes per row, from 1.
    pub bucket_minutes: u32,
    /// One channel only.
    pub channel: Option<Channel>,
    /// One class only.
    pub class: Option<Class>,
    /// One platform only, by its word.
    pub platform: Option<String>,
    /// One app only.
    pub app: Option<String>,
    /// One outcome only.
    pub outcome: Option<Outcome>,
}

impl CountsQuery {
    /// Everything between two moments, by minute.
    #[must_use]
    pub const fn between(from: Timestamp, to: Timestamp) -> Self {
        Self {
            from,
            to,
            bucket_minutes: 1,
            channel: None,
            class: None,
            platform: None,
            app: None,
            outcome: None,
        }
    }

    pub(crate) fn bucket_millis(&self) -> i64 {
        i64::from(self.bucket_minutes.max(1)) * MINUTE
    }
}

/// Milliseconds of a minute.
pub(crate) const MINUTE: i64 = 60_000;

/// The minute a moment lies in, as the moment it begins.
pub(crate) const fn minute_of(millis: i64) -> i64 {
    millis.div_euclid(MINUTE) * MINUTE
}

pub(crate) fn capped(limit: u32) -> i64 {
    i64::from(limit.clamp(1, MAX_LIMIT))
}
