//! A delivery: the intent to get one content to one address before a deadline.

use crate::channel::{Channel, Class, OnUncertain, Platform, Purpose};
use crate::content::Content;
use crate::event::Ordering;
use crate::identity::{AddressId, ContentHash, DeliveryId, hash64};
use crate::pairs::Pairs;
use crate::time::Timestamp;

/// Where to reach a recipient on one channel. `Debug` hides the address itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// The channel it belongs to.
    pub channel: Channel,
    /// Token, URL, phone number: personal data, never logged.
    pub address: String,
    /// Stable across versions of a token.
    pub id: AddressId,
    /// Which account of the channel sends to it.
    pub account: String,
    /// Device or kind of endpoint.
    pub platform: Platform,
    /// The publisher's app the address belongs to.
    pub app: Option<String>,
    /// When the address was registered, so that a late verdict cannot kill a newer token.
    pub registered_at: Option<Timestamp>,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address")
            .field("channel", &self.channel)
            .field("id", &self.id)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// What decides which of the sending rules hold for a recipient.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecipientTerms {
    /// IANA time zone, as the publisher gave it.
    pub time_zone: Option<String>,
    /// ISO 3166-1 alpha-2 country.
    pub country: Option<String>,
    /// Agreed to advertising at night.
    pub night_consent: bool,
}

/// The unit of order within a partition, hashed: same key, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey(pub u64);

impl OrderKey {
    /// The order key of a delivery: (sender, address), or the delivery itself when it is unordered.
    #[must_use]
    pub fn of(sender: &str, address: &AddressId, ordering: Ordering, id: DeliveryId) -> Self {
        match ordering {
            Ordering::Sender => Self(hash64(&[sender.as_bytes(), address.0.as_bytes()])),
            Ordering::None => Self(id.tag()),
        }
    }
}

/// A checked delivery, as dispatch and the channels use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Unit of deduplication.
    pub id: DeliveryId,
    /// The event it came from.
    pub event_id: String,
    /// Who speaks.
    pub sender: String,
    /// Lane.
    pub class: Class,
    /// Legal nature.
    pub purpose: Purpose,
    /// The publisher's category.
    pub category: Option<String>,
    /// Who is reached.
    pub recipient: String,
    /// Which rules hold for the recipient.
    pub terms: RecipientTerms,
    /// Where.
    pub address: Address,
    /// What is said.
    pub content: Content,
    /// Hash of the content, for the repeat guard and for comparison across replays.
    pub content_hash: ContentHash,
    /// Position in the channel plan; 0 is the first.
    pub step: i32,
    /// When the event was accepted.
    pub accepted_at: Timestamp,
    /// The last useful moment.
    pub expires_at: Timestamp,
    /// Whether it keeps its sender's order.
    pub ordering: Ordering,
    /// Replaces an older notification with the same key where the provider can.
    pub collapse_key: Option<String>,
    /// What to do with an attempt whose answer was never seen.
    pub on_uncertain: OnUncertain,
    /// The campaign it belongs to.
    pub campaign_id: Option<String>,
    /// The replay that made it, when one did.
    pub replay_id: Option<String>,
    /// The publisher's own labels.
    pub labels: Pairs,
}

impl Delivery {
    /// What it must stay in order with.
    #[must_use]
    pub fn order_key(&self) -> OrderKey {
        OrderKey::of(&self.sender, &self.address.id, self.ordering, self.id)
    }
}
