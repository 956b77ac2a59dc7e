//! What is to be said, before a channel shapes it.

use crate::Pairs;

/// Rendered content, the same for every channel of an event unless a channel's raw override says
/// otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// A short headline.
    pub title: Option<String>,
    /// The text.
    pub body: Option<String>,
    /// Key-value pairs for the receiving program.
    pub data: Pairs,
    /// Where a tap leads.
    pub link: Option<String>,
    /// An image to show.
    pub image: Option<String>,
    /// Provider's own request bodies, JSON text by channel word; they replace what Bongsu would
    /// build for that channel.
    pub overrides: Pairs,
}

impl Content {
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.title.is_none()
            && self.body.is_none()
            && self.data.is_empty()
            && self.link.is_none()
            && self.image.is_none()
            && self.overrides.is_empty()
    }
}
