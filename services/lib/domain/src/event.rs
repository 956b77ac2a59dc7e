//! A checked notification event: what fanout works on.

use crate::channel::{Channel, Class, OnUncertain, Purpose, vocabulary};
use crate::content::Content;
use crate::delivery::Address;
use crate::pairs::Pairs;
use crate::time::Timestamp;

vocabulary!(
    /// How one event loosens its sender's order. An event may only loosen it.
    Ordering, "ordering", {
        /// As the sender's profile says: every address in publish order.
        Sender = "default",
        /// This event waits for nothing and nothing waits for it.
        None = "none",
    }
);

vocabulary!(
    /// What a recipient agreed to; the publisher keeps the proof.
    Consent, "consent", {
        /// To be sent advertising.
        Advertising = "advertising",
        /// To be sent advertising at night too.
        AdvertisingAtNight = "advertising_night",
    }
);

/// A person or account to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The publisher's id of the recipient.
    pub id: String,
    /// Addresses given inline, in the order given.
    pub addresses: Vec<Address>,
    /// IANA time zone.
    pub time_zone: Option<String>,
    /// ISO 3166-1 alpha-2 country.
    pub country: Option<String>,
    /// BCP 47 locale.
    pub locale: Option<String>,
    /// What the recipient agreed to.
    pub consents: Vec<Consent>,
}

/// An event that passed every check and needs nothing that is not built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The publisher's id, unique per sender.
    pub id: String,
    /// Who speaks; the unit of order.
    pub sender: String,
    /// Lane.
    pub class: Class,
    /// Legal nature.
    pub purpose: Purpose,
    /// The publisher's category, for preferences and statistics.
    pub category: Option<String>,
    /// Whom to reach. Recipients without an address on a planned channel are refused one by one.
    pub recipients: Vec<Recipient>,
    /// Channels to use at once; never empty.
    pub channels: Vec<Channel>,
    /// What to say.
    pub content: Content,
    /// The last useful moment, when the publisher named one.
    pub expires_at: Option<Timestamp>,
    /// Whether this event keeps its sender's order.
    pub ordering: Ordering,
    /// A newer notification with the same key replaces an older one where the provider can.
    pub collapse_key: Option<String>,
    /// What to do with an attempt whose answer was never seen.
    pub on_uncertain: OnUncertain,
    /// The campaign this event belongs to.
    pub campaign_id: Option<String>,
    /// The publisher's own labels, carried through to the receipts.
    pub labels: Pairs,
}
