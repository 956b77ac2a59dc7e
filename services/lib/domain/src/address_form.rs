//! How addresses are written, and the one form of all writings that mean the same.

use std::borrow::Cow;

use crate::channel::AddressForm;
use crate::chat::{self, ChatError, SlackTarget, TelegramChat};
use crate::mailbox::{Mailbox, MailboxError};
use crate::phone::{Phone, PhoneError};
use crate::push_target::{PushTarget, PushTargetError};
use crate::subscription::{Subscription, SubscriptionError};
use crate::target::is_device_token;

/// Why a text is no address of a channel. Never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// No device token.
    #[error("is no APNs device token; write its bytes as hexadecimal digits, 64 or more")]
    DeviceToken,
    /// No phone number.
    #[error(transparent)]
    Phone(#[from] PhoneError),
    /// No mailbox.
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
    /// No browser's subscription.
    #[error(transparent)]
    Subscription(#[from] SubscriptionError),
    /// No target of FCM.
    #[error(transparent)]
    PushTarget(#[from] PushTargetError),
    /// No address of a chat service.
    #[error(transparent)]
    Chat(#[from] ChatError),
}

impl AddressForm {
    /// Reads an address, and gives its one form. URLs are their own: whether one may be called is
    /// the account's to say.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn read(self, text: &str) -> Result<Cow<'_, str>, FormError> {
        let text = text.trim();
        let same = || Cow::Borrowed(text);
        Ok(match self {
            Self::Url | Self::DiscordWebhook => same(),
            Self::DeviceToken if is_device_token(text) => same(),
            Self::DeviceToken => return Err(FormError::DeviceToken),
            Self::Phone => Phone::parse(text)?.digits().to_owned().into(),
            Self::Mailbox => Mailbox::parse(text)?.as_str().to_owned().into(),
            Self::Subscription => String::from(Subscription::parse(text)?.endpoint).into(),
            Self::PushTarget => PushTarget::parse(text)?.normal(),
            Self::TelegramChat => TelegramChat::parse(text)?.as_str().to_owned().into(),
            Self::Slack => SlackTarget::parse(text).map(|_| same())?,
            Self::SendbirdChannel => chat::sendbird_channel(text)?.into(),
            Self::Line => chat::line_id(text)?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_is_written_the_same() {
        for (form, a, b) in [
            (AddressForm::Phone, "010-1234-5678", "+82 10 1234 5678"),
            (AddressForm::Mailbox, "ann@Example.com", " ann@example.com"),
            (AddressForm::PushTarget, "token:abcdefgh:1", " abcdefgh:1 "),
            (AddressForm::PushTarget, "topic:/topics/news", "topic:news"),
            (AddressForm::TelegramChat, "@My_Shop", " @my_shop"),
        ] {
            assert_eq!(form.read(a), form.read(b), "{a}");
            assert!(form.read(a).is_ok(), "{a}");
            assert!(form.read("not an address").is_err(), "{form:?}");
        }
    }
}
