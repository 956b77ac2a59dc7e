//! Looking recipients up. Until the store of recipients exists there is one implementation, which
//! gives back what the event holds.

use std::sync::Arc;

use bongsu_domain::{Event, Recipient};
use futures_util::future::BoxFuture;

/// Resolves an event's recipients to addresses. Look-ups of different events run at once; what they
/// find is used in offset order.
pub trait RecipientLookup: Send + Sync {
    /// The recipients with their addresses; a recipient without any is refused as `not_available`.
    fn resolve(&self, event: Arc<Event>) -> BoxFuture<'static, Vec<Recipient>>;
}

/// The addresses that came with the event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inline;

impl RecipientLookup for Inline {
    fn resolve(&self, event: Arc<Event>) -> BoxFuture<'static, Vec<Recipient>> {
        Box::pin(std::future::ready(event.recipients.clone()))
    }
}
