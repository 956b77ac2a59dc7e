//! How fast a channel is, and what an attempt costs: `rate <webhook|discord|apns|alimtalk|webpush|sms|email> <url>
//! [attempts] [in flight] [credentials]`, against a simulator in another process. The last is the
//! directory that the APNs simulator has written.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bongsu_channels::provider::{Attempt, AttemptResult, Provider};
use bongsu_channels::{ApnsSettings, Settings, alimtalk, build, discord, sms, webhook};
use bongsu_domain::identity::DeliveryParts;
use bongsu_domain::{
    Address, AddressId, Channel, Class, Content, ContentHash, Delivery, DeliveryId, OnUncertain,
    Ordering, Pairs, Platform, Purpose, RecipientTerms, Timestamp,
};
use bongsu_runtime::{Clock, Secret};
use futures_util::stream::{self, StreamExt as _};
use tokio::time::Instant;

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [channel, base, rest @ ..] = arguments.as_slice() else {
        let usage = "usage: rate <webhook|discord|apns|alimtalk|sms> <url> [attempts] [in flight] \
                     [credentials]";
        return Err(usage.into());
    };
    let channel = Channel::parse(channel)?;
    let attempts: u32 = rest.first().map_or(Ok(100_000), |n| n.parse())?;
    let in_flight: usize = rest.get(1).map_or(Ok(256), |n| n.parse())?;
    let mut settings = settings(base);
    if let Some(credentials) = rest.get(2) {
        settings.apns = apns(base, Path::new(credentials), in_flight)?;
    }
    let provider = build(channel, &settings, "rate-1", Clock::system())?;

    let (started, cpu) = (Instant::now(), cpu_seconds()?);
    let accepted = stream::iter(0..attempts)
        .map(|i| one(&*provider, channel, base, i))
        .buffer_unordered(in_flight)
        .filter(|accepted| std::future::ready(*accepted))
        .count()
        .await;
    let (took, cpu) = (started.elapsed(), cpu_seconds()? - cpu);
    println!(
        "{accepted} of {attempts} accepted, {:.0}/s, {:.1} us of CPU per attempt",
        f64::from(attempts) / took.as_secs_f64(),
        cpu * 1e6 / f64::from(attempts),
    );
    Ok(())
}

fn settings(base: &str) -> Settings {
    let mut settings = Settings::default();
    let account = webhook::config::Account {
        secrets: vec![Secret::new(SECRET)],
        allow_private: true,
        ..Default::default()
    };
    settings.webhook.accounts.insert("rate".into(), account);
    let account = discord::config::Account {
        api_base: base.to_owned(),
        ..Default::default()
    };
    settings.discord.accounts.insert("rate".into(), account);
    let text = "#{text}".to_owned();
    let free = alimtalk::template::Template {
        text,
        ..Default::default()
    };
    let account = alimtalk::config::Account {
        api_base: base.to_owned(),
        api_key: Secret::new("rate"),
        sender_key: "0".repeat(40),
        templates: BTreeMap::from([("free".to_owned(), free)]),
        ..Default::default()
    };
    settings.alimtalk.accounts.insert("rate".into(), account);
    let account = bongsu_channels::webpush::config::Account {
        // The example of RFC 8291; it opens nothing.
        key: Secret::new("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"),
        subject: "mailto:rate@example.com".to_owned(),
        allow_private: true,
        ..Default::default()
    };
    settings.webpush.accounts.insert("rate".into(), account);
    let account = sms::config::Account {
        api_base: base.to_owned(),
        api_key: "NCSTWINKEY000001".to_owned(),
        api_secret: Secret::new("twin-solapi-secret"),
        from: "0212345678".to_owned(),
        ..Default::default()
    };
    settings.sms.accounts.insert("rate".into(), account);
    // The relay's address as a URL: smtp://127.0.0.1:2525.
    if let Some((host, port)) = base.trim_start_matches("smtp://").rsplit_once(':') {
        let account = bongsu_channels::email::config::Account {
            host: host.to_owned(),
            port: port.parse().unwrap_or(0),
            tls: bongsu_channels::email::config::Tls::None,
            from: "rate@example.com".to_owned(),
            connections: 64,
            ..Default::default()
        };
        settings.email.accounts.insert("rate".into(), account);
    }
    settings
}

/// One connection: more give streams, not speed.
fn apns(base: &str, credentials: &Path, streams: usize) -> std::io::Result<ApnsSettings> {
    let mut settings = ApnsSettings::default();
    settings.connection.ca_file = Some(credentials.join("ca.pem"));
    let account = bongsu_channels::apns::config::Account {
        endpoint: base.to_owned(),
        topic: "com.example.app".to_owned(),
        key: Secret::new(std::fs::read_to_string(credentials.join("AuthKey.p8"))?),
        key_id: "TWINKEY001".to_owned(),
        team_id: "TWINTEAM01".to_owned(),
        connections: 1,
        streams,
        ..Default::default()
    };
    settings.accounts.insert("rate".to_owned(), account);
    Ok(settings)
}

async fn one(provider: &dyn Provider, channel: Channel, base: &str, i: u32) -> bool {
    let address = match channel.as_str() {
        "webhook" => format!("{base}/hook/{}", i % 100),
        "discord" => format!("{}/token", i % 100),
        "apns" => format!("{:064x}", i % 100),
        "alimtalk" | "sms" => format!("0101234{:04}", i % 10_000),
        "webpush" => bongsu_simulators::webpush::subscription(base, &(i % 100).to_string()),
        "email" => format!("r{}@example.net", i % 100),
        // Not measured here.
        _ => return false,
    };
    let delivery = delivery(channel, address, i);
    let batch = [Attempt {
        delivery: &delivery,
        number: 1,
        partition: 0,
    }];
    let deadline = Instant::now() + Duration::from_secs(30);
    let results = provider.attempt(&batch, deadline).await;
    results.is_ok_and(|r| r.first() == Some(&AttemptResult::Accepted))
}

fn delivery(channel: Channel, address: String, i: u32) -> Delivery {
    let id = AddressId(format!("a-{}", i % 100));
    let event_id = format!("event-{i}");
    Delivery {
        id: DeliveryId::derive(DeliveryParts {
            sender: "rate",
            event_id: &event_id,
            channel: channel.as_str(),
            recipient: "r",
            address_id: &id,
            step: 0,
        }),
        sender: "rate".into(),
        class: Class::Transactional,
        purpose: Purpose::Transactional,
        category: None,
        recipient: "r".into(),
        terms: RecipientTerms::default(),
        address: Address {
            channel,
            address,
            id,
            account: "rate".into(),
            platform: Platform::Server,
            app: None,
            registered_at: None,
        },
        content: Content {
            title: Some("Order paid".into()),
            body: Some(format!("Your order {i} is paid. [#{event_id} rate {i}]")),
            data: Pairs::from([
                ("seq".into(), i.to_string()),
                ("template".into(), "free".into()),
            ]),
            ..Content::default()
        },
        event_id,
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

fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|f| f.parse::<u32>().ok());
    let (user, system) = (ticks().ok_or("no user")?, ticks().ok_or("no system")?);
    // Linux counts in hundredths of a second.
    Ok(f64::from(user + system) / 100.0)
}
