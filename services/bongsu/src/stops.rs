//! `bongsu stop`, `bongsu start` and `bongsu stops`: hold deliveries back, let them go, see what is
//! held.
//!
//! Each act is a record of the compacted `control` topic, which dispatch follows, and an entry of
//! `audit`, which keeps it after compaction.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bongsu_domain::{Act, Backlog, Channel, Control, Scope, Timestamp, partition_of};
use bongsu_runtime::Clock;
use bongsu_schemas::control::{audit_of, control_from_record};
use bongsu_schemas::{Codec, Topics, records};
use bongsu_stream::port::{
    Cluster, From, Headers, Isolation, Outgoing, Producer, Record, TailRange, TopicPartition,
};
use serde::Serialize;

use crate::error::Usage;
use crate::output::{complain, say, say_json};

/// What a stop is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Everything of one channel.
    Channel,
    /// Everything that one account sends; `--channel` says of which channel.
    Account,
    /// Everything one sender says.
    Sender,
    /// Everything of one campaign.
    Campaign,
    /// Everything made from one template.
    Template,
}

/// What to stop.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    target: Target,
    /// When it ends by itself: a moment (2026-11-25T18:00:00+09:00) or a span from now (30m, 2h).
    /// Without it, only `bongsu start` ends it.
    #[arg(long)]
    until: Option<Until>,
}

/// What to start again.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    target: Target,
    /// What becomes of deliveries accepted before now: `all` are sent; `drop-stale` drops those that
    /// are older than an hour, `drop-stale=10m` than ten minutes; `newest` sends of one sender to one
    /// address only the newest of each collapse key. What is dropped ends as `cancelled`.
    #[arg(long, default_value = "all")]
    backlog: Choice,
}

/// What is stale when nobody says.
const STALE: Duration = Duration::from_secs(3_600);

/// The choice for the backlog as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    All,
    DropStale(Duration),
    Newest,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "all" => Ok(Self::All),
            None if text == "newest" => Ok(Self::Newest),
            None if text == "drop-stale" => Ok(Self::DropStale(STALE)),
            Some(("drop-stale", age)) => age
                .parse::<bongsu_runtime::Duration>()
                .map(|age| Self::DropStale(age.0))
                .map_err(|_| format!("`{age}` is no span; write drop-stale=10m")),
            _ => Err(format!(
                "`{text}` is no choice; write all, drop-stale, drop-stale=10m or newest"
            )),
        }
    }
}

impl Choice {
    fn at(self, now: Timestamp) -> Backlog {
        match self {
            Self::All => Backlog::All,
            Self::Newest => Backlog::Newest,
            Self::DropStale(age) => {
                let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                Backlog::DropStale(now.plus_millis(age.saturating_neg()))
            }
        }
    }
}

/// The scope, and who acts on it why.
#[derive(Debug, Clone, clap::Args)]
struct Target {
    /// What it is about.
    kind: Kind,
    /// Its name or id.
    name: String,
    /// The channel of an account.
    #[arg(long)]
    channel: Option<String>,
    /// Why; kept in the audit.
    #[arg(long)]
    why: String,
    /// Who does it; kept in the audit.
    #[arg(long, env = "USER")]
    who: String,
}

/// What to list.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct StopsArgs {
    /// Also stops that have ended, and starts, as far as they are kept.
    #[arg(long)]
    all: bool,
}

/// The end of a stop as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    At(Timestamp),
    In(bongsu_runtime::Duration),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(at) = Timestamp::parse_rfc3339(text) {
            return Ok(Self::At(at));
        }
        text.parse().map(Self::In).map_err(|_| {
            format!(
                "`{text}` is neither a moment nor a span; write 2026-11-25T18:00:00+09:00 or 30m"
            )
        })
    }
}

impl Until {
    /// The moment, which must lie ahead.
    fn moment(self, now: Timestamp) -> Result<Timestamp, Usage> {
        let at = match self {
            Self::At(at) => at,
            Self::In(span) => {
                now.plus_millis(i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX))
            }
        };
        if at > now {
            Ok(at)
        } else {
            Err(Usage(format!(
                "--until {at} has passed already (now {now}); give a later moment"
            )))
        }
    }
}

impl Target {
    fn scope(&self) -> anyhow::Result<Scope> {
        let name = &self.name;
        let text = match (self.kind, &self.channel) {
            (Kind::Account, Some(channel)) => format!("account/{channel}/{name}"),
            (Kind::Account, None) => {
                let known: Vec<_> = Channel::ALL.iter().map(|c| c.as_str()).collect();
                return Err(Usage(format!(
                    "an account belongs to a channel; add --channel, one of {}",
                    known.join(", ")
                ))
                .into());
            }
            (_, Some(_)) => {
                let told = "--channel is for accounts only; leave it out";
                return Err(Usage(told.to_owned()).into());
            }
            (Kind::Channel, None) => format!("channel/{name}"),
            (Kind::Sender, None) => format!("sender/{name}"),
            (Kind::Campaign, None) => format!("campaign/{name}"),
            (Kind::Template, None) => {
                let told = "stopping a template is not built in this version: no delivery names \
                            one yet; stop its campaign or sender";
                return Err(Usage(told.to_owned()).into());
            }
        };
        text.parse().map_err(|e| Usage(format!("{e}")).into())
    }

    fn control(&self, act: Act, now: Timestamp) -> anyhow::Result<Control> {
        for (flag, text) in [("--why", &self.why), ("--who", &self.who)] {
            if text.trim().is_empty() {
                return Err(Usage(format!("{flag} is empty; say it for those after you")).into());
            }
        }
        Ok(Control {
            scope: self.scope()?,
            act,
            who: self.who.clone(),
            why: self.why.clone(),
            from: now,
            until: None,
            backlog: Backlog::All,
        })
    }
}

/// Stops a scope; a stop that is there already is replaced.
pub(crate) async fn stop(
    connect: impl FnOnce() -> anyhow::Result<Arc<dyn Cluster>>,
    topics: &Topics,
    args: StopArgs,
    json: bool,
) -> anyhow::Result<()> {
    let now = Timestamp(Clock::system().now_millis());
    let mut control = args.target.control(Act::Stop, now)?;
    control.until = args.until.map(|u| u.moment(now)).transpose()?;
    let cluster = connect()?;
    write(&*cluster, topics, &control).await?;
    tell(&control, now, json);
    Ok(())
}

/// Ends the stop of a scope; one that is not stopped is told, with what is.
pub(crate) async fn start(
    connect: impl FnOnce() -> anyhow::Result<Arc<dyn Cluster>>,
    topics: &Topics,
    args: StartArgs,
    json: bool,
) -> anyhow::Result<()> {
    let now = Timestamp(Clock::system().now_millis());
    let mut control = args.target.control(Act::Start, now)?;
    control.backlog = args.backlog.at(now);
    let cluster = connect()?;
    let held: Vec<String> = read(&*cluster, topics)
        .await?
        .into_iter()
        .filter(|c| is_in_force(c, now))
        .map(|c| c.scope.to_string())
        .collect();
    if !held.contains(&control.scope.to_string()) {
        let others = if held.is_empty() {
            "nothing is stopped".to_owned()
        } else {
            format!("stopped are {}", held.join(", "))
        };
        return Err(Usage(format!("{} is not stopped; {others}", control.scope)).into());
    }
    write(&*cluster, topics, &control).await?;
    tell(&control, now, json);
    Ok(())
}

/// Lists what is stopped.
pub(crate) async fn stops(
    cluster: &dyn Cluster,
    topics: &Topics,
    args: StopsArgs,
    json: bool,
) -> anyhow::Result<()> {
    let now = Timestamp(Clock::system().now_millis());
    let mut known = read(cluster, topics).await?;
    known.retain(|c| args.all || is_in_force(c, now));
    if json {
        let rows: Vec<Row<'_>> = known.iter().map(|c| Row::of(c, now)).collect();
        say_json(&rows);
        return Ok(());
    }
    if known.is_empty() {
        say("nothing is stopped");
        return Ok(());
    }
    say(&format!(
        "{:<32} {:<8} {:<25} {:<25} {:<16} WHY",
        "SCOPE", "STATE", "SINCE", "UNTIL", "WHO"
    ));
    for control in &known {
        let row = Row::of(control, now);
        let until = row.until.as_deref().unwrap_or("-");
        say(&format!(
            "{:<32} {:<8} {:<25} {:<25} {:<16} {}",
            row.scope, row.state, row.since, until, row.who, row.why
        ));
    }
    Ok(())
}

#[derive(Serialize)]
struct Row<'a> {
    scope: String,
    /// `stopped`, `ended` (its end has come) or `started`.
    state: &'static str,
    since: String,
    until: Option<String>,
    who: &'a str,
    why: &'a str,
    /// What a start made of its backlog.
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog: Option<&'static str>,
}

impl<'a> Row<'a> {
    fn of(c: &'a Control, now: Timestamp) -> Self {
        Self {
            scope: c.scope.to_string(),
            state: match c.act {
                Act::Start => "started",
                Act::Stop if is_in_force(c, now) => "stopped",
                Act::Stop => "ended",
            },
            since: c.from.to_rfc3339(),
            until: c.until.map(Timestamp::to_rfc3339),
            who: &c.who,
            why: &c.why,
            backlog: (c.act == Act::Start).then(|| c.backlog.as_str()),
        }
    }
}

fn is_in_force(c: &Control, now: Timestamp) -> bool {
    c.act == Act::Stop && c.until.is_none_or(|until| until > now)
}

fn tell(control: &Control, now: Timestamp, json: bool) {
    if json {
        say_json(&Row::of(control, now));
        return;
    }
    let scope = &control.scope;
    say(&match (control.act, control.until) {
        (Act::Stop, None) => format!(
            "{scope} is stopped; its deliveries wait, and expire at their deadlines, until `bongsu start`"
        ),
        (Act::Stop, Some(until)) => format!(
            "{scope} is stopped until {until}; its deliveries wait, and expire at their deadlines"
        ),
        (Act::Start, _) => format!("{scope} is started; {}", told_of(control.backlog)),
    });
}

fn told_of(backlog: Backlog) -> String {
    match backlog {
        Backlog::All => "what waits goes on".to_owned(),
        Backlog::DropStale(before) => {
            format!("what was accepted before {before} is dropped as `cancelled`, the rest goes on")
        }
        Backlog::Newest => "of what waits the newest of each collapse key goes on, what it \
                            supersedes is dropped as `cancelled`"
            .to_owned(),
    }
}

/// Writes the act, then its audit entry: what a person wants stopped must not wait for the books.
async fn write(cluster: &dyn Cluster, topics: &Topics, control: &Control) -> anyhow::Result<()> {
    let (name, audit) = (topics.control(), topics.audit());
    let asked = vec![name.to_string(), audit.to_string()];
    let described = cluster.topics(asked.clone()).await?;
    let partitions = |name: &str| {
        let found = described.get(name).map(|t| t.partitions);
        found.with_context(|| format!("topic {name} does not exist; run `bongsu topics apply`"))
    };
    partitions(&name)?;
    let audit_partitions = partitions(&audit)?;
    let codec = Codec::default();
    let producer: Arc<dyn Producer> = cluster.producer(Duration::ZERO)?;
    let act = Outgoing {
        topic: name,
        partition: 0,
        key: Some(control.scope.to_string().into()),
        value: Some(codec.encode(&records::Control::from(control))?),
        headers: Headers::default(),
    };
    producer.send(act).await?;
    let entry = Outgoing {
        topic: audit,
        partition: partition_of(control.who.as_bytes(), audit_partitions),
        key: Some(control.who.clone().into()),
        value: Some(codec.encode(&audit_of(control))?),
        headers: Headers::default(),
    };
    producer
        .send(entry)
        .await
        .with_context(|| format!("{} took effect, but the audit has no entry", control.scope))?;
    Ok(())
}

/// The last act on every scope, in the order of scopes.
async fn read(cluster: &dyn Cluster, topics: &Topics) -> anyhow::Result<Vec<Control>> {
    let name = topics.control();
    let described = cluster.topics(vec![name.to_string()]).await?;
    let partitions = described
        .get(name.as_ref())
        .with_context(|| format!("topic {name} does not exist; run `bongsu topics apply`"))?
        .partitions;
    let ranges = (0..partitions)
        .map(|p| TailRange {
            partition: TopicPartition::new(Arc::clone(&name), p),
            from: From::Beginning,
            until: None,
        })
        .collect();
    let found: Arc<Mutex<Vec<Record>>> = Arc::default();
    let sink = Arc::clone(&found);
    let each = Box::new(move |record: Record| {
        sink.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(record);
    });
    cluster
        .read_tails(ranges, Isolation::Committed, each)
        .await?;
    let records = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(last_acts(&records))
}

fn last_acts(records: &[Record]) -> Vec<Control> {
    let codec = Codec::default();
    let mut last = std::collections::BTreeMap::new();
    for record in records {
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
        let Some(value) = record.value.as_deref() else {
            last.remove(key.as_ref());
            continue;
        };
        let read = codec
            .decode(value)
            .map_err(|e| e.to_string())
            .and_then(|r| control_from_record(r).map_err(|e| e.to_string()));
        match read {
            Ok(control) => {
                last.insert(control.scope.to_string(), control);
            }
            Err(why) => complain(&format!(
                "{}@{}: an act on {key} cannot be read ({why}); was it written by a newer version?",
                record.topic, record.offset
            )),
        }
    }
    last.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_760_000_000_000);

    #[test]
    fn a_choice_is_a_word_and_may_say_what_is_stale() {
        let at = |text: &str| text.parse::<Choice>().map(|choice| choice.at(NOW));
        let before = |seconds: i64| Ok(Backlog::DropStale(Timestamp(NOW.0 - seconds * 1_000)));
        assert_eq!(at("all"), Ok(Backlog::All));
        assert_eq!(at("newest"), Ok(Backlog::Newest));
        assert_eq!(at("drop-stale"), before(3_600));
        assert_eq!(at("drop-stale=10m"), before(600));
        for (wrong, told) in [
            ("oldest", "drop-stale=10m"),
            ("newest=1m", "newest"),
            ("drop-stale=soon", "`soon`"),
        ] {
            assert!(at(wrong).unwrap_err().contains(told), "{wrong}");
        }
    }

    #[test]
    fn an_end_is_a_moment_or_a_span_and_lies_ahead() {
        let half_an_hour: Until = "30m".parse().unwrap();
        assert_eq!(half_an_hour.moment(NOW).unwrap().0, NOW.0 + 1_800_000);
        let moment: Until = "2026-11-25T18:00:00+09:00".parse().unwrap();
        assert_eq!(moment.moment(NOW).unwrap().0, 1_795_597_200_000);
        assert!("tomorrow".parse::<Until>().unwrap_err().contains("30m"));
        for past in ["0s", "2020-01-01T00:00:00Z"] {
            let until: Until = past.parse().unwrap();
            assert!(until.moment(NOW).is_err(), "{past}");
        }
    }
}
