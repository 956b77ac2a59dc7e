//! The ground floor: what an event, a delivery, an address and an outcome *are*.
//!
//! Pure types and functions: no I/O, no clock, no randomness, no Kafka. Everything else stands on
//! this crate; it depends on nothing of ours. The terms are those of `docs/glossary.md`.

pub mod address_form;
pub mod channel;
pub mod chat;
pub mod content;
pub mod control;
pub mod delivery;
pub mod event;
pub mod fault;
pub mod identity;
pub mod limits;
pub mod mailbox;
pub mod outcome;
pub mod pairs;
pub mod partition;
pub mod phone;
pub mod push_target;
pub mod reference;
pub mod subscription;
pub mod suppression;
pub mod target;
pub mod time;

pub use address_form::FormError;
pub use channel::{
    AddressForm, Channel, ChannelFacts, Class, OnUncertain, Platform, Purpose, UnknownWord,
};
pub use content::Content;
pub use control::{Act, Backlog, Control, Scope};
pub use delivery::{Address, Delivery, OrderKey, RecipientTerms};
pub use event::{Consent, Event, Ordering, Recipient};
pub use fault::{Fault, FaultCode, Faults};
pub use identity::{AddressId, ContentHash, DeliveryId, OutcomeId};
pub use mailbox::Mailbox;
pub use outcome::{Outcome, Reason, Settled};
pub use pairs::Pairs;
pub use partition::{murmur2, partition_of};
pub use phone::Phone;
pub use push_target::{PushTarget, PushTargetError};
pub use reference::{Reference, ReferenceKey};
pub use subscription::Subscription;
pub use suppression::{AddressKey, Hold, Suppression};
pub use time::Timestamp;
