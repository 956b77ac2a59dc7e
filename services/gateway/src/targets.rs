//! What can be checked of an address when it is published, without a name server.
//!
//! The channel checks again before every request; here the publisher learns it at once.

use bongsu_domain::target::{TargetError, check_url};
use bongsu_domain::{AddressForm, Channel, Reason, Subscription};
use bongsu_schemas::records::Address;

/// Why an address is not taken; never holds the address.
pub(crate) struct TargetFault {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// Checks one address. An unknown channel and an empty address are faults of their own already.
pub(crate) fn check(address: &Address, allow_private: bool) -> Result<(), TargetFault> {
    let text = address.address.trim();
    if text.is_empty() {
        return Ok(());
    }
    let Ok(channel) = Channel::parse(&address.channel) else {
        return Ok(());
    };
    let form = channel.facts().address;
    // Three forms are more than a grammar; of all others it is the domain's.
    if form == AddressForm::Url {
        return check_webhook(text, allow_private);
    }
    if form == AddressForm::DiscordWebhook {
        return check_discord(text);
    }
    if form == AddressForm::Subscription {
        return check_subscription(text, allow_private);
    }
    form.read(text).map(drop).map_err(|error| TargetFault {
        code: "invalid",
        message: error.to_string(),
    })
}

fn check_webhook(text: &str, allow_private: bool) -> Result<(), TargetFault> {
    let error = match check_url(text, allow_private) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let code = match error {
        TargetError::Private => Reason::PrivateAddress.as_str(),
        TargetError::Malformed
        | TargetError::Scheme
        | TargetError::UserInfo
        | TargetError::Port => "invalid",
    };
    Err(TargetFault {
        code,
        message: error.to_string(),
    })
}

/// Form only: which host is Discord's is the account's to say, and no other is ever called.
fn check_discord(text: &str) -> Result<(), TargetFault> {
    if discord_parts(text).is_some_and(|(id, token)| is_webhook(&id, &token)) {
        return Ok(());
    }
    Err(TargetFault {
        code: "invalid",
        message: "is no Discord webhook; write https://discord.com/api/webhooks/{id}/{token}"
            .to_owned(),
    })
}

/// The channel asks for HTTPS as well; here an account that may call private targets is not known.
fn check_subscription(text: &str, allow_private: bool) -> Result<(), TargetFault> {
    match Subscription::parse(text) {
        Ok(subscription) => check_webhook(subscription.endpoint.as_str(), allow_private),
        Err(error) => Err(TargetFault {
            code: "invalid",
            message: error.to_string(),
        }),
    }
}

fn discord_parts(text: &str) -> Option<(String, String)> {
    if !text.contains("://") {
        let (id, token) = text.split_once('/')?;
        return Some((id.to_owned(), token.to_owned()));
    }
    // `true`: the host is not called, so a private one does no harm.
    let url = check_url(text, true).ok()?;
    let segments: Vec<&str> = url.path().split('/').skip(1).collect();
    match segments.as_slice() {
        ["api", "webhooks", id, token] => Some(((*id).to_owned(), (*token).to_owned())),
        ["api", version, "webhooks", id, token] if version.starts_with('v') => {
            Some(((*id).to_owned(), (*token).to_owned()))
        }
        _ => None,
    }
}

fn is_webhook(id: &str, token: &str) -> bool {
    let in_token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=20).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_digit())
        && (1..=128).contains(&token.len())
        && token.bytes().all(in_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discord(text: &str) -> Option<&'static str> {
        let address = Address {
            channel: "discord".into(),
            address: text.into(),
            ..Address::default()
        };
        check(&address, false).err().map(|fault| fault.code)
    }

    #[test]
    fn a_device_token_is_hexadecimal_and_long_enough() {
        let apns = |text: &str| {
            let address = Address {
                channel: "apns".into(),
                address: text.into(),
                ..Address::default()
            };
            check(&address, false).err().map(|fault| fault.code)
        };
        assert_eq!(apns(&"0aF9".repeat(16)), None);
        assert_eq!(apns(&"0a".repeat(80)), None);
        for bad in [
            "",
            "0a",
            &"0a".repeat(101),
            &"0".repeat(65),
            &"zz".repeat(32),
        ] {
            let expected = (!bad.is_empty()).then_some("invalid");
            assert_eq!(apns(bad), expected, "{bad}");
        }
    }

    #[test]
    fn a_phone_number_may_be_written_in_many_ways() {
        let phone = |text: &str| {
            let address = Address {
                channel: "alimtalk".into(),
                address: text.into(),
                ..Address::default()
            };
            check(&address, false).err().map(|fault| fault.code)
        };
        assert_eq!(phone("010-1234-5678"), None);
        assert_eq!(phone("+82 10 1234 5678"), None);
        assert_eq!(phone("1234"), Some("invalid"));
    }

    #[test]
    fn a_mailbox_is_known_by_its_form() {
        let mail = |text: &str| {
            let address = Address {
                channel: "email".into(),
                address: text.into(),
                ..Address::default()
            };
            check(&address, false).err().map(|fault| fault.code)
        };
        assert_eq!(mail("Ann <ann@example.com>"), Some("invalid"));
        assert_eq!(mail("ann@example.com\r\nBcc: e@f.g"), Some("invalid"));
        assert_eq!(mail("ann+x@example.com"), None);
    }

    #[test]
    fn a_subscription_is_read_and_its_endpoint_checked_as_a_webhook_is() {
        let check = |endpoint: &str, auth: &str| {
            let p256dh = format!("B{}", "A".repeat(86));
            let address = Address {
                channel: "webpush".into(),
                address: format!(
                    r#"{{"endpoint":"{endpoint}","keys":{{"p256dh":"{p256dh}","auth":"{auth}"}}}}"#
                ),
                ..Address::default()
            };
            check(&address, false).err().map(|fault| fault.code)
        };
        let auth = "A".repeat(22);
        assert_eq!(check("https://push.example.com/x", &auth), None);
        assert_eq!(check("https://push.example.com/x", "A"), Some("invalid"));
        assert_eq!(check("ftp://push.example.com/x", &auth), Some("invalid"));
        assert_eq!(check("https://10.0.0.1/x", &auth), Some("private_address"));
    }

    #[test]
    fn a_discord_webhook_is_known_by_its_form() {
        for good in [
            "https://discord.com/api/webhooks/123/a-b_C",
            "https://discord.com/api/v10/webhooks/123/abc?thread_id=7",
            "http://127.0.0.1:7402/api/webhooks/123/abc",
            " 123/abc ",
        ] {
            assert_eq!(discord(good), None, "{good}");
        }
        for bad in [
            "https://discord.com/api/webhooks/123",
            "https://discord.com/channels/1/2",
            "https://example.com/hook",
            "123",
            "x/abc",
            "ftp://discord.com/api/webhooks/123/abc",
        ] {
            assert_eq!(discord(bad), Some("invalid"), "{bad}");
        }
    }
}
