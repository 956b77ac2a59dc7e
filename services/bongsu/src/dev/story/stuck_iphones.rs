//! `--story stuck-iphones`: Apple's connections hang, then go away, and a credential gets too old, one
//! after the other, while Android is well. Who notices, and what is lost?

mod old_way;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bongsu_simulators::Kind;
use bongsu_simulators::apns::Plan;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Stage, Told};

/// People, each with an iPhone and an Android phone.
pub(super) const PEOPLE: usize = 1_500;
/// People reached in one batch, and the time between two.
pub(super) const BATCH: usize = 50;
pub(super) const PACE: Duration = Duration::from_millis(200);
/// Senders, so that not all wait for one another.
const SENDERS: usize = 50;
/// Longest wait for the last outcome.
const PATIENCE: Duration = Duration::from_secs(90);

/// What Apple does, by the number of the batch before which it happens.
const FREEZE: usize = 7;
const GO_AWAY: usize = 15;
/// Before this batch the old way's token turns an hour old, which Apple takes no longer.
pub(super) const EXPIRE: usize = 20;

pub(super) async fn play(stage: &Stage<'_>) -> anyhow::Result<Told> {
    stage.progress("the old way: a task per push, no time-out, a token made at the start");
    let mut rows = old_way::play(stage).await?;
    stage.twin(Kind::Apns)?.set_apns(Plan::default())?;
    stage.progress("in Bongsu: the same pushes, the same faults");
    let mut broken = Vec::new();
    let run = uuid::Uuid::now_v7().simple().to_string();
    let mut receipts = stage.receipts().await?;
    let begun = Instant::now();
    let mut watch = Watch::new(begun);
    let mut published = HashMap::new();
    let now_us = || anyhow::Ok(stage.twin(Kind::Apns)?.recorder().now_us());
    let mut pace = tokio::time::interval(PACE);
    for (n, people) in batches().enumerate() {
        pace.tick().await;
        fault(stage, n)?;
        let events: Vec<Value> = people.map(|person| event(&run, person)).collect();
        for event in &events {
            published.insert(id_of(event), now_us()?);
        }
        stage.publish(&events).await?;
        watch.look(&stage.world.metrics.render()?);
    }
    let want = 2 * PEOPLE;
    let collecting = receipts.outcomes(want, begun + PATIENCE, |_, _| ());
    tokio::pin!(collecting);
    let outcomes = loop {
        tokio::select! {
            outcomes = &mut collecting => break outcomes?,
            _ = pace.tick() => watch.look(&stage.world.metrics.render()?),
        }
    };
    let marked: BTreeMap<(String, String), bool> = outcomes
        .into_values()
        .map(|r| {
            let channel = r.channel.unwrap_or_default();
            ((channel, r.event_id), r.possible_duplicate)
        })
        .collect();
    if marked.len() < want {
        broken.push(format!("{} of {want} outcomes", marked.len()));
    }
    let in_flight = in_flight(&stage.world.metrics.render()?);
    if in_flight > 0 {
        broken.push(format!("{in_flight} attempts are left"));
    }
    for (kind, name) in [(Kind::Apns, "iPhone"), (Kind::Fcm, "Android")] {
        let arrived = arrivals(stage, kind, &published)?;
        let lost = PEOPLE - arrived.len();
        if lost > 0 {
            broken.push(format!("{lost} lost on {name}"));
        }
        let mut unmarked = 0;
        for (event, _) in arrived.iter().filter(|(_, a)| a.copies > 1) {
            let known = marked.get(&(kind.as_str().to_owned(), event.clone()));
            unmarked += usize::from(known != Some(&true));
        }
        if unmarked > 0 {
            broken.push(format!("{unmarked} copies on {name} are not marked"));
        }
        let copies: usize = arrived.values().map(|a| a.copies - 1).sum();
        let late: Vec<f64> = arrived.values().map(|a| a.late_s).collect();
        rows.push(line("Bongsu", name, arrived.len(), copies, late, in_flight));
    }
    Ok(Told {
        scenario: "stuck_iphones",
        what: format!(
            "{PEOPLE} people with two phones each; Apple's connections hang from {:.1} s, go away \
             at {:.1} s, and take no token older than an hour, which the one made at the start is from \
             {:.1} s on. Android is well.",
            at(FREEZE),
            at(GO_AWAY),
            at(EXPIRE)
        ),
        columns: vec![
            "pushed",
            "arrived",
            "lost",
            "copies",
            "late p50",
            "late max",
            "tasks left",
        ],
        rows,
        said: watch.told(),
        broken,
    })
}

pub(super) fn at(batch: usize) -> f64 {
    PACE.as_secs_f64() * f64::from(u32::try_from(batch).unwrap_or(u32::MAX))
}

/// The people, batch by batch.
pub(super) fn batches() -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..PEOPLE)
        .step_by(BATCH)
        .map(|first| first..(first + BATCH).min(PEOPLE))
}

/// What Apple does before this batch.
pub(super) fn fault(stage: &Stage<'_>, batch: usize) -> anyhow::Result<()> {
    let apple = stage.twin(Kind::Apns)?;
    match batch {
        FREEZE => {
            apple.freeze();
            stage.progress("  Apple's present connections are silent");
        }
        GO_AWAY => {
            let plan = Plan {
                goaway_abrupt: true,
                ..Plan::default()
            };
            apple.set_apns(plan)?;
            apple.go_away();
            stage.progress("  Apple closes its connections without the answers that are due");
        }
        _ => {}
    }
    Ok(())
}

/// One line of the table.
pub(super) fn line(
    way: &str,
    phone: &str,
    arrived: usize,
    copies: usize,
    mut late: Vec<f64>,
    tasks: u64,
) -> (String, Vec<String>) {
    late.sort_by(f64::total_cmp);
    let seconds = |at: usize| late.get(at).map_or("-".to_owned(), |s| format!("{s:.2} s"));
    let cells = vec![
        PEOPLE.to_string(),
        arrived.to_string(),
        (PEOPLE - arrived).to_string(),
        copies.to_string(),
        seconds(late.len() / 2),
        seconds(late.len().saturating_sub(1)),
        tasks.to_string(),
    ];
    (format!("{way}, {phone}"), cells)
}

/// The token of a person's iPhone.
pub(super) fn iphone(person: usize) -> String {
    format!("{person:064x}")
}

/// The token of a person's Android phone.
pub(super) fn android(person: usize) -> String {
    format!("android-{person:012}")
}

fn event(run: &str, person: usize) -> Value {
    let id = format!("{run}-{person}");
    json!({
        "id": id,
        "sender": format!("{run}-{}", person % SENDERS),
        "plan": {"channels": ["apns", "fcm"]},
        "target": {"recipients": [{"id": format!("p-{person}"), "addresses": [
            {"channel": "apns", "address": iphone(person)},
            {"channel": "fcm", "address": android(person)},
        ]}]},
        "content": {"title": "chat", "body": format!("a line for you [#{id}]")},
    })
}

fn id_of(event: &Value) -> String {
    event["id"].as_str().unwrap_or_default().to_owned()
}

/// What a twin saw of one event.
struct Arrival {
    /// Requests read whole and not answered with an error.
    copies: usize,
    /// From publishing to the first of them, in seconds.
    late_s: f64,
}

fn arrivals(
    stage: &Stage<'_>,
    kind: Kind,
    published: &HashMap<String, u64>,
) -> anyhow::Result<HashMap<String, Arrival>> {
    let mut arrived: HashMap<String, Arrival> = HashMap::new();
    stage.twin(kind)?.recorder().visit(0, |seen| {
        let Some(at_us) = published.get(seen.event_id).filter(|_| !seen.is_error()) else {
            return true;
        };
        let late = Duration::from_micros(seen.read_us.saturating_sub(*at_us));
        let arrival = arrived.entry(seen.event_id.to_owned()).or_insert(Arrival {
            copies: 0,
            late_s: late.as_secs_f64(),
        });
        arrival.copies += 1;
        true
    });
    Ok(arrived)
}

/// Attempts under way, by the metrics.
fn in_flight(metrics: &str) -> u64 {
    samples(metrics, "bongsu_attempts_in_flight")
        .map(|(_, value)| value)
        .sum()
}

/// The labels and the value of every sample of a metric; values below one are of no use here.
fn samples<'a>(metrics: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    metrics.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let value = value.split('.').next().unwrap_or_default();
        Some((labels, value.parse().ok()?))
    })
}

fn label<'a>(labels: &'a str, name: &str) -> &'a str {
    let start = format!("{name}=\"");
    let found = labels.split_once(&start).map(|(_, rest)| rest);
    found
        .and_then(|rest| rest.split_once('"'))
        .map_or("", |(value, _)| value)
}

/// What the metrics say of each platform's troubles, and since when.
struct Watch {
    begun: Instant,
    /// First seen at, and how often, by channel and result.
    troubles: BTreeMap<(String, String), (f64, u64)>,
}

impl Watch {
    fn new(begun: Instant) -> Self {
        Self {
            begun,
            troubles: BTreeMap::new(),
        }
    }

    fn look(&mut self, metrics: &str) {
        let now = self.begun.elapsed().as_secs_f64();
        for (labels, count) in samples(metrics, "bongsu_attempts_total") {
            let (channel, result) = (label(labels, "channel"), label(labels, "result"));
            let pushed = matches!(channel, "apns" | "fcm");
            if pushed && result != "accepted" && count > 0 {
                let key = (channel.to_owned(), result.to_owned());
                self.troubles.entry(key).or_insert((now, count)).1 = count;
            }
        }
    }

    fn told(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (channel, phone) in [("apns", "iPhone"), ("fcm", "Android")] {
            let mine = self.troubles.iter().filter(|((c, _), _)| c == channel);
            let mut parts: Vec<_> = mine
                .map(|((_, result), (since, count))| {
                    (*since, format!("{count} {result} since {since:.1} s"))
                })
                .collect();
            parts.sort_by(|a, b| a.0.total_cmp(&b.0));
            let parts: Vec<_> = parts.into_iter().map(|(_, part)| part).collect();
            lines.push(if parts.is_empty() {
                format!("{phone}: every attempt accepted")
            } else {
                format!("{phone}: {}", parts.join(", "))
            });
        }
        lines
    }
}
