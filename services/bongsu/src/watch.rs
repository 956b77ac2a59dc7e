//! `bongsu watch`: receipts as they come.

use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::Context as _;
use bongsu_domain::Timestamp;
use bongsu_schemas::{Codec, Receipt, Topics};
use bongsu_stream::port::{Cluster, From, Isolation, Record, TailRange, TopicPartition};

use crate::output::{complain, say, say_json};

/// What to watch.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WatchArgs {
    /// Receipts of this sender only.
    #[arg(long)]
    sender: Option<String>,
    /// Receipts of this event only.
    #[arg(long)]
    event: Option<String>,
    /// Start at the oldest receipt instead of now.
    #[arg(long)]
    from_beginning: bool,
    /// Stop after this many receipts.
    #[arg(long)]
    count: Option<NonZeroUsize>,
}

/// Prints receipts until the count is reached or the program is interrupted.
pub(crate) async fn watch(
    cluster: Arc<dyn Cluster>,
    topics: &Topics,
    args: WatchArgs,
    json: bool,
) -> anyhow::Result<()> {
    let results = topics.results();
    let described = cluster.topics(vec![results.to_string()]).await?;
    let partitions = described
        .get(results.as_ref())
        .with_context(|| format!("topic {results} does not exist; run `bongsu topics apply`"))?
        .partitions;
    let ranges: Vec<TailRange> = (0..partitions)
        .map(|p| TailRange {
            partition: TopicPartition::new(Arc::clone(&results), p),
            from: if args.from_beginning {
                From::Beginning
            } else {
                From::Offset(i64::MAX)
            },
            until: None,
        })
        .collect();
    let ranges = if args.from_beginning {
        ranges
    } else {
        at_the_end(&*cluster, ranges).await?
    };
    let mut follower = cluster.follow(ranges, Isolation::Committed)?;
    let codec = Codec::default();
    let mut seen = 0;
    loop {
        for record in follower.next().await? {
            if show(&codec, &record, &args, json) {
                seen += 1;
            }
            if args.count.is_some_and(|n| seen >= n.get()) {
                return Ok(());
            }
        }
    }
}

/// The same partitions from their ends as of now.
async fn at_the_end(
    cluster: &dyn Cluster,
    ranges: Vec<TailRange>,
) -> anyhow::Result<Vec<TailRange>> {
    let topic = ranges
        .first()
        .map(|r| r.partition.topic.to_string())
        .unwrap_or_default();
    let ends = cluster.lag("bongsu-watch", vec![topic]).await?;
    Ok(ends
        .into_iter()
        .map(|l| TailRange {
            partition: l.partition,
            from: From::Offset(l.end),
            until: None,
        })
        .collect())
}

fn show(codec: &Codec, record: &Record, args: &WatchArgs, json: bool) -> bool {
    let receipt: Receipt = match codec.decode(record.value.as_deref().unwrap_or_default()) {
        Ok(receipt) => receipt,
        Err(error) => {
            complain(&format!(
                "{}[{}]@{}: {error}",
                record.topic, record.partition, record.offset
            ));
            return false;
        }
    };
    let other = |wanted: &Option<String>, found: &str| wanted.as_ref().is_some_and(|w| w != found);
    if other(&args.sender, &receipt.sender) || other(&args.event, &receipt.event_id) {
        return false;
    }
    if json {
        say_json(&receipt);
    } else {
        say(&line(&receipt));
    }
    true
}

/// One receipt for people.
pub(crate) fn line(r: &Receipt) -> String {
    let at = Timestamp::from(r.at);
    let reason = if r.reason == "none" {
        String::new()
    } else {
        format!(" ({})", r.reason)
    };
    let channel = r.channel.as_deref().unwrap_or("event");
    let recipient = r.recipient.as_deref().unwrap_or("-");
    let took = r
        .accepted_at
        .map(|a| format!(", {} ms after its event", at.millis_since(a.into())))
        .unwrap_or_default();
    format!(
        "{at} {} {} → {recipient} by {channel}: {}{reason} after {} attempt(s){took}",
        r.sender, r.event_id, r.outcome, r.attempts
    )
}
