//! `bongsu publish`: events straight to Kafka, from flags or from NDJSON.

use std::io::BufRead as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bongsu_domain::{Class, Timestamp, partition_of};
use bongsu_runtime::Clock;
use bongsu_schemas::records::{Address, ChannelPlan, Content, Recipient, Target};
use bongsu_schemas::{Codec, NotificationEvent, Topics, check_event, headers, parse_json_event};
use bongsu_stream::port::{Cluster, Headers, Outgoing, Producer};
use serde::Serialize;

use crate::error::Usage;
use crate::output::{say, say_json};

/// What to publish.
#[derive(Debug, clap::Args)]
pub(crate) struct PublishArgs {
    /// Who speaks; the unit of order.
    #[arg(long, required_unless_present = "file")]
    sender: Option<String>,
    /// Where to send it: a webhook URL, or a Discord webhook.
    #[arg(long, required_unless_present = "file")]
    to: Option<String>,
    /// Channel of the address.
    #[arg(long, default_value = "webhook")]
    channel: String,
    /// Headline.
    #[arg(long)]
    title: Option<String>,
    /// Text.
    #[arg(long)]
    body: Option<String>,
    /// Id of the event; a random one when absent.
    #[arg(long)]
    id: Option<String>,
    /// Events as JSON, one per line; `-` reads standard input.
    #[arg(long, conflicts_with_all = ["sender", "to", "title", "body", "id"])]
    file: Option<PathBuf>,
    /// Only check; publish nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Published<'a> {
    id: &'a str,
    sender: &'a str,
    topic: Arc<str>,
    partition: i32,
    offset: Option<i64>,
}

/// Checks all events, then publishes them in order.
pub(crate) async fn publish(
    cluster: Arc<dyn Cluster>,
    topics: &Topics,
    args: PublishArgs,
    json: bool,
) -> anyhow::Result<()> {
    let events = read(&args)?;
    let now = Timestamp(Clock::system().now_millis());
    let faults: Vec<String> = events
        .iter()
        .enumerate()
        .filter_map(|(i, e)| Some(format!("event {}: {}", i + 1, check_event(e, now).err()?)))
        .collect();
    if !faults.is_empty() {
        return Err(Usage(format!("nothing was published; {}", faults.join("\n"))).into());
    }
    let name = topics.events(Class::Transactional).to_string();
    let described = cluster.topics(vec![name.clone()]).await?;
    let n = described
        .get(&name)
        .with_context(|| format!("topic {name} does not exist; run `bongsu topics apply`"))?
        .partitions;
    let codec = Codec::default();
    let producer = cluster.producer(Duration::from_millis(5))?;
    for event in &events {
        let sent = send(producer.as_ref(), topics, &codec, n, event, args.dry_run).await?;
        if json {
            say_json(&sent);
        } else {
            let at = sent
                .offset
                .map_or("not published (dry run)".to_owned(), |o| {
                    format!("{}[{}] at offset {o}", sent.topic, sent.partition)
                });
            say(&format!("{} of {}: {at}", sent.id, sent.sender));
        }
    }
    Ok(())
}

async fn send<'a>(
    producer: &dyn Producer,
    topics: &'a Topics,
    codec: &Codec,
    partitions: i32,
    event: &'a NotificationEvent,
    dry_run: bool,
) -> anyhow::Result<Published<'a>> {
    let class = Class::parse(&event.class).unwrap_or(Class::Transactional);
    let partition = partition_of(event.sender.as_bytes(), partitions);
    let topic = topics.events(class);
    let mut offset = None;
    if !dry_run {
        let record = Outgoing {
            topic: Arc::clone(&topic),
            partition,
            key: Some(event.sender.clone().into()),
            value: Some(codec.encode(event)?),
            headers: Headers::default().with(headers::CLIENT_ID, "bongsu-publish"),
        };
        offset = Some(producer.send(record).await?);
    }
    Ok(Published {
        id: &event.id,
        sender: &event.sender,
        topic,
        partition,
        offset,
    })
}

fn read(args: &PublishArgs) -> anyhow::Result<Vec<NotificationEvent>> {
    let Some(path) = &args.file else {
        return Ok(vec![from_flags(args)]);
    };
    let input: Box<dyn std::io::BufRead> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
        Box::new(std::io::BufReader::new(file))
    };
    let mut events = Vec::new();
    for (i, line) in input.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let mut event = parse_json_event(line.as_bytes())
            .map_err(|f| Usage(format!("line {}: {f}; nothing was published", i + 1)))?;
        if event.id.is_empty() {
            event.id = uuid::Uuid::now_v7().to_string();
        }
        events.push(event);
    }
    Ok(events)
}

fn from_flags(args: &PublishArgs) -> NotificationEvent {
    let body = args.body.clone();
    let title = args
        .title
        .clone()
        .or_else(|| body.is_none().then(|| "Hello".to_owned()));
    NotificationEvent {
        id: args
            .id
            .clone()
            .unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
        sender: args.sender.clone().unwrap_or_default(),
        target: Target {
            recipients: vec![Recipient {
                id: "command-line".to_owned(),
                addresses: vec![Address {
                    channel: args.channel.clone(),
                    address: args.to.clone().unwrap_or_default(),
                    ..Address::default()
                }],
                ..Recipient::default()
            }],
            audience: None,
        },
        plan: ChannelPlan {
            channels: vec![args.channel.clone()],
            fallback: Vec::new(),
        },
        content: Content {
            title,
            body,
            ..Content::default()
        },
        ..NotificationEvent::default()
    }
}
