//! For [`too_large`](crate::too_large): fanout asks it before a delivery is made, so that the
//! publisher hears at once of a content that no account of a channel can ever take.

use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{
    Address, AddressId, Channel, Class, Content, ContentHash, Delivery, DeliveryId, OnUncertain,
    Ordering, Pairs, Purpose, RecipientTerms, Timestamp,
};

/// A delivery of a content to nobody, for channels that shape whole deliveries.
pub(crate) fn to_nobody(channel: Channel, content: &Content) -> Delivery {
    let id = AddressId(String::new());
    Delivery {
        id: DeliveryId::derive(DeliveryParts {
            sender: "",
            event_id: "",
            channel: channel.as_str(),
            recipient: "",
            address_id: &id,
            step: 0,
        }),
        event_id: String::new(),
        sender: String::new(),
        class: Class::Transactional,
        purpose: Purpose::Transactional,
        category: None,
        recipient: String::new(),
        terms: RecipientTerms::default(),
        address: Address {
            channel,
            address: String::new(),
            id,
            account: String::new(),
            platform: channel.default_platform(),
            app: None,
            registered_at: None,
        },
        content: content.clone(),
        content_hash: ContentHash(0),
        step: 0,
        // Ten digits of seconds, as in any real one.
        accepted_at: Timestamp(1_760_000_000_000),
        expires_at: Timestamp(1_760_000_000_000),
        ordering: Ordering::Sender,
        collapse_key: None,
        on_uncertain: OnUncertain::Resend,
        campaign_id: None,
        replay_id: None,
        labels: Pairs::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::too_large as fits;

    fn of(body: &str) -> Content {
        Content {
            body: Some(body.to_owned()),
            ..Content::default()
        }
    }

    fn titled(body: &str) -> Content {
        Content {
            title: Some("t".to_owned()),
            ..of(body)
        }
    }

    fn in_override(text: String) -> Option<String> {
        let overrides = Pairs::from([(Channel::Discord.as_str().to_owned(), text)]);
        let content = Content {
            overrides,
            ..Content::default()
        };
        fits(Channel::Discord, &content, false)
    }

    #[test]
    fn each_limit_is_met_to_the_last_character() {
        let apns = |n: usize| fits(Channel::Apns, &of(&"a".repeat(n)), false);
        let room = (0..4_096).rev().find(|n| apns(*n).is_none()).unwrap();
        assert!(room > 4_000);
        assert_eq!(
            apns(room + 1).as_deref(),
            Some("makes a body of 4097 bytes; Apple takes 4096")
        );
        let talk = |n: usize| fits(Channel::AlimTalk, &of(&"\u{ac00}".repeat(n)), false);
        assert_eq!(talk(1_000), None);
        assert_eq!(
            talk(1_001).as_deref(),
            Some("has a text of 1001 characters; Kakao takes 1000")
        );
        assert_eq!(fits(Channel::Webhook, &of(&"a".repeat(60_000)), true), None);
    }

    #[test]
    fn discord_cuts_what_need_not_be_whole() {
        let asked = |content: &Content, whole| fits(Channel::Discord, content, whole);
        let plain = of(&"a".repeat(2_001));
        assert_eq!(asked(&plain, false), None);
        assert!(asked(&plain, true).is_some());
        assert_eq!(asked(&of(&"a".repeat(2_000)), true), None);
        assert_eq!(asked(&titled(&"a".repeat(4_096)), true), None);
        assert!(asked(&titled(&"a".repeat(4_097)), true).is_some());
    }

    #[test]
    fn a_discord_override_keeps_discords_limits() {
        let content = |n: usize| in_override(format!(r#"{{"content":"{}"}}"#, "a".repeat(n)));
        assert_eq!(content(2_000), None);
        assert!(content(2_001).is_some());
        let embed = |n: usize| format!(r#"{{"description":"{}"}}"#, "a".repeat(n));
        let embeds = |all: Vec<String>| in_override(format!(r#"{{"embeds":[{}]}}"#, all.join(",")));
        assert_eq!(embeds(vec![embed(3_000), embed(3_000)]), None);
        assert!(embeds(vec![embed(3_000), embed(3_001)]).is_some());
        assert!(embeds(vec![embed(4_097)]).is_some());
        assert!(embeds(vec![embed(1); 11]).is_some());
    }
}
