//! The promises every channel keeps, checked against real servers.
#![expect(
    clippy::unwrap_used,
    reason = "functions beside the tests are tests too"
)]

mod alimtalk;
mod apns;
mod chats;
mod conformance;
mod dealers;
mod discord;
mod discord_twin;
mod email;
mod fcm;
mod fcm_topics;
mod garbage;
mod http2;
mod server;
mod sms;
mod sms_whole;
mod smtp;
mod ssrf;
mod subject;
mod tls;
mod twins;
mod webhook;
mod webhook_twin;
mod webpush;

use std::collections::BTreeMap;
use std::time::Duration;

use bongsu_channels::apns::config::Account;
use bongsu_channels::provider::{Attempt, AttemptResult, Provider};
use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{
    Address, AddressId, Channel, Class, Content, ContentHash, Delivery, DeliveryId, OnUncertain,
    Ordering, Pairs, Platform, Purpose, RecipientTerms, Timestamp,
};
use bongsu_runtime::Secret;
use tokio::time::Instant;

/// A delivery of event `event` to `address`.
///
/// An AlimTalk names the template `free`, which consists of one variable.
fn delivery(channel: Channel, address: &str, event: &str) -> Delivery {
    let template = (channel == Channel::AlimTalk).then(|| ("template".into(), "free".into()));
    let id = AddressId("a-1".into());
    Delivery {
        id: DeliveryId::derive(DeliveryParts {
            sender: "s",
            event_id: event,
            channel: channel.as_str(),
            recipient: "r",
            address_id: &id,
            step: 0,
        }),
        event_id: event.into(),
        sender: "s".into(),
        class: Class::Transactional,
        purpose: Purpose::Transactional,
        category: None,
        recipient: "r".into(),
        terms: RecipientTerms::default(),
        address: Address {
            channel,
            address: address.into(),
            id,
            account: "test".into(),
            platform: Platform::Server,
            app: None,
            registered_at: None,
        },
        content: Content {
            body: Some(format!("text of {event}")),
            data: template.into_iter().collect(),
            ..Content::default()
        },
        content_hash: ContentHash(0),
        step: 0,
        accepted_at: Timestamp(1_760_000_000_000),
        expires_at: Timestamp(1_760_086_400_000),
        ordering: Ordering::Sender,
        collapse_key: None,
        on_uncertain: OnUncertain::Resend,
        campaign_id: None,
        replay_id: None,
        labels: Pairs::new(),
    }
}

/// An APNs account whose key opens nothing.
fn apns_account(endpoint: &str) -> Account {
    Account {
        endpoint: endpoint.to_owned(),
        topic: "com.example.app".into(),
        key: Secret::new(rcgen::KeyPair::generate().unwrap().serialize_pem()),
        key_id: "ABCDE12345".into(),
        team_id: "TEAM123456".into(),
        ..Account::default()
    }
}

/// An AlimTalk account of Bizgo that reaches `base`, with the template `free`.
fn alimtalk_account(base: &str) -> bongsu_channels::alimtalk::config::Account {
    use bongsu_channels::alimtalk::{config::Account, template::Template};
    Account {
        api_base: base.to_owned(),
        api_key: Secret::new("key-of-the-account"),
        sender_key: "0123456789abcdef0123456789abcdef01234567".into(),
        reference_secret: Secret::new("0123456789abcdef"),
        templates: BTreeMap::from([(
            "free".to_owned(),
            Template {
                text: "#{text}".into(),
                ..Template::default()
            },
        )]),
        ..Account::default()
    }
}

/// An SMS account of Solapi, of the keys the twin takes, that reaches `base`.
fn sms_account(base: &str) -> bongsu_channels::sms::config::Account {
    bongsu_channels::sms::config::Account {
        api_base: base.to_owned(),
        api_key: bongsu_simulators::sms::SOLAPI_KEY.into(),
        api_secret: Secret::new(bongsu_simulators::sms::SOLAPI_SECRET),
        from: "0212345678".into(),
        reference_secret: Secret::new("0123456789abcdef"),
        ..Default::default()
    }
}

/// One attempt with `patience` until its deadline.
async fn attempt(
    provider: &dyn Provider,
    delivery: &Delivery,
    patience: Duration,
) -> AttemptResult {
    let batch = [Attempt {
        delivery,
        number: 1,
        partition: 0,
    }];
    let results = provider.attempt(&batch, Instant::now() + patience).await;
    results.unwrap()[0]
}
