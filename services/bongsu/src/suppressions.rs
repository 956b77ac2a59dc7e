//! `bongsu suppressions`: what is not sent to, and taking a mistake back.

use std::str::FromStr;
use std::sync::Arc;

use bongsu_domain::suppression::{BY_COMPLAINT, BY_HYGIENE};
use bongsu_domain::{AddressKey, Channel, Hold, Reason, Suppression, Timestamp};
use bongsu_runtime::Clock;
use bongsu_schemas::suppression::SuppressionChange;
use bongsu_schemas::{AuditEntry, Codec, Topics};
use bongsu_stream::port::Cluster;
use bongsu_suppressions::admin;
use serde::Serialize;

use crate::error::Usage;
use crate::output::{complain, say, say_json};

/// What to do with suppressions.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum SuppressionsCommand {
    /// Lists what is held, from the topic.
    List(ListArgs),
    /// Sends nothing to an address any more, whenever it was registered.
    Add(AddressArgs),
    /// Sends to an address again.
    Remove(AddressArgs),
    /// Takes back what hygiene retired within a window.
    Undo(UndoArgs),
}

/// Which suppressions.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// Of this channel.
    #[arg(long, value_parser = channel)]
    channel: Option<Channel>,
    /// Of this account.
    #[arg(long)]
    account: Option<String>,
    /// Of this app.
    #[arg(long)]
    app: Option<String>,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    which: Which,
    /// Also addresses that are only suspected.
    #[arg(long)]
    suspected: bool,
}

/// Who acts, and why.
#[derive(Debug, Clone, clap::Args)]
struct Actor {
    /// Why; kept in the audit.
    #[arg(long)]
    why: String,
    /// Who does it; kept in the audit.
    #[arg(long, env = "USER")]
    who: String,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AddressArgs {
    /// The channel's word.
    #[arg(value_parser = channel)]
    channel: Channel,
    /// The account that sends there.
    account: String,
    /// The address's stable id, as receipts name it.
    address_id: String,
    #[command(flatten)]
    actor: Actor,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct UndoArgs {
    #[command(flatten)]
    which: Which,
    /// Begin of the window: a moment (2026-11-25T18:00:00+09:00) or a span back from now (2h).
    #[arg(long)]
    since: Moment,
    /// Its end; now without it.
    #[arg(long)]
    until: Option<Moment>,
    /// Says what would be taken back, and does nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    actor: Actor,
}

fn channel(text: &str) -> Result<Channel, String> {
    Channel::parse(text).map_err(|e| e.to_string())
}

/// A moment as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Timestamp),
    Ago(bongsu_runtime::Duration),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(at) = Timestamp::parse_rfc3339(text) {
            return Ok(Self::At(at));
        }
        text.parse().map(Self::Ago).map_err(|_| {
            format!(
                "`{text}` is neither a moment nor a span; write 2026-11-25T18:00:00+09:00 or 2h"
            )
        })
    }
}

impl Moment {
    fn of(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => {
                now.plus_millis(-i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX))
            }
        }
    }
}

impl Which {
    fn covers(&self, s: &Suppression) -> bool {
        self.channel.is_none_or(|c| c == s.channel)
            && self.account.as_ref().is_none_or(|a| *a == s.account)
            && self.app.as_ref().is_none_or(|a| Some(a) == s.app.as_ref())
    }
}

impl Actor {
    fn audit(&self, act: &str, scope: String, now: Timestamp) -> anyhow::Result<AuditEntry> {
        for (flag, text) in [("--why", &self.why), ("--who", &self.who)] {
            if text.trim().is_empty() {
                return Err(Usage(format!("{flag} is empty; say it for those after you")).into());
            }
        }
        if [BY_HYGIENE, BY_COMPLAINT].contains(&self.who.as_str()) {
            return Err(Usage(format!(
                "--who {} is Bongsu's own; say who you are",
                self.who
            ))
            .into());
        }
        Ok(AuditEntry {
            actor: self.who.clone(),
            at: now.into(),
            act: act.to_owned(),
            scope,
            why: self.why.clone(),
            ..AuditEntry::default()
        })
    }
}

impl AddressArgs {
    fn scope(&self) -> String {
        format!(
            "address/{}/{}/{}",
            self.channel, self.account, self.address_id
        )
    }

    fn suppression(&self, now: Timestamp) -> Suppression {
        Suppression {
            channel: self.channel,
            account: self.account.clone(),
            address_id: self.address_id.clone(),
            app: None,
            hold: Hold::Suppressed,
            reason: Reason::Withheld,
            at: now,
            registered_at: None,
            verdicts: 0,
            first_at: now,
            by: self.actor.who.clone(),
            why: Some(self.actor.why.clone()),
        }
    }
}

#[derive(Serialize)]
struct Row<'a> {
    key: String,
    channel: &'a str,
    account: &'a str,
    address_id: &'a str,
    app: Option<&'a str>,
    hold: &'a str,
    reason: &'a str,
    at: String,
    verdicts: u32,
    by: &'a str,
    why: Option<&'a str>,
}

impl<'a> Row<'a> {
    fn of(s: &'a Suppression) -> Self {
        Self {
            key: s.key().to_string(),
            channel: s.channel.as_str(),
            account: &s.account,
            address_id: &s.address_id,
            app: s.app.as_deref(),
            hold: s.hold.as_str(),
            reason: s.reason.as_str(),
            at: s.at.to_rfc3339(),
            verdicts: s.verdicts,
            by: &s.by,
            why: s.why.as_deref(),
        }
    }
}

/// What hygiene retired within the window, and nothing that a person asked for.
fn undone(held: Vec<Suppression>, args: &UndoArgs, now: Timestamp) -> Vec<Suppression> {
    let since = args.since.of(now);
    let until = args.until.map_or(now, |until| until.of(now));
    held.into_iter()
        .filter(|s| s.by == BY_HYGIENE && s.hold == Hold::Suppressed)
        .filter(|s| s.at >= since && s.at <= until && args.which.covers(s))
        .collect()
}

/// Where suppressions are, and how they are written.
pub(crate) struct Place {
    /// The log.
    pub(crate) cluster: Arc<dyn Cluster>,
    /// Topic names.
    pub(crate) topics: Topics,
    /// Reads and writes the records as the services do.
    pub(crate) codec: Arc<Codec>,
}

impl Place {
    async fn write(&self, changes: &[SuppressionChange], audit: &AuditEntry) -> anyhow::Result<()> {
        admin::write(&*self.cluster, &self.topics, &self.codec, changes, audit).await?;
        Ok(())
    }

    async fn read(&self) -> anyhow::Result<Vec<Suppression>> {
        let codec = Arc::clone(&self.codec);
        let (held, unreadable) = admin::read(&*self.cluster, &self.topics, codec).await?;
        if unreadable > 0 {
            complain(&format!(
                "{unreadable} records cannot be read; were they written by a newer version?"
            ));
        }
        Ok(held)
    }
}

/// Runs one of them.
pub(crate) async fn run(
    place: &Place,
    command: SuppressionsCommand,
    json: bool,
) -> anyhow::Result<()> {
    let now = Timestamp(Clock::system().now_millis());
    match command {
        SuppressionsCommand::List(args) => {
            let mut held = place.read().await?;
            held.retain(|s| args.which.covers(s) && (args.suspected || s.hold == Hold::Suppressed));
            list(&held, json);
        }
        SuppressionsCommand::Add(args) => {
            let audit = args.actor.audit("suppress", args.scope(), now)?;
            let change = SuppressionChange::Keep(Box::new(args.suppression(now)));
            place.write(&[change], &audit).await?;
            tell(
                &format!("nothing is sent to {} any more", args.scope()),
                1,
                json,
            );
        }
        SuppressionsCommand::Remove(args) => {
            let audit = args.actor.audit("unsuppress", args.scope(), now)?;
            let key = AddressKey::new(args.channel, &args.account, &args.address_id);
            let held = place.read().await?;
            if !held.iter().any(|s| s.key() == key) {
                return Err(Usage(format!("{} is not suppressed", args.scope())).into());
            }
            place
                .write(&[SuppressionChange::Forget(key)], &audit)
                .await?;
            tell(&format!("{} is sent to again", args.scope()), 1, json);
        }
        SuppressionsCommand::Undo(args) => undo(place, args, now, json).await?,
    }
    Ok(())
}

async fn undo(place: &Place, args: UndoArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let scope = format!(
        "suppressions/{}/{}/{}",
        args.which.channel.map_or("*", Channel::as_str),
        args.which.account.as_deref().unwrap_or("*"),
        args.which.app.as_deref().unwrap_or("*"),
    );
    let mut audit = args.actor.audit("undo", scope, now)?;
    let found = undone(place.read().await?, &args, now);
    if args.dry_run {
        list(&found, json);
        return Ok(());
    }
    let count = found.len();
    audit
        .details
        .insert("addresses".to_owned(), count.to_string());
    let changes: Vec<_> = found
        .iter()
        .map(|s| SuppressionChange::Forget(s.key()))
        .collect();
    place.write(&changes, &audit).await?;
    tell(&format!("{count} addresses are sent to again"), count, json);
    Ok(())
}

fn tell(text: &str, addresses: usize, json: bool) {
    if json {
        say_json(&serde_json::json!({ "addresses": addresses }));
    } else {
        say(text);
    }
}

fn list(held: &[Suppression], json: bool) {
    if json {
        say_json(&held.iter().map(Row::of).collect::<Vec<_>>());
        return;
    }
    if held.is_empty() {
        say("nothing is suppressed");
        return;
    }
    say(&format!(
        "{:<10} {:<16} {:<32} {:<16} {:<17} {:<25} BY",
        "CHANNEL", "ACCOUNT", "ADDRESS", "APP", "REASON", "SINCE"
    ));
    for s in held {
        let row = Row::of(s);
        say(&format!(
            "{:<10} {:<16} {:<32} {:<16} {:<17} {:<25} {}",
            row.channel,
            row.account,
            row.address_id,
            row.app.unwrap_or("-"),
            row.reason,
            row.at,
            row.by
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(at: i64, by: &str, app: &str) -> Suppression {
        Suppression {
            channel: Channel::Apns,
            account: "default".into(),
            address_id: format!("a-{at}"),
            app: Some(app.into()),
            hold: Hold::Suppressed,
            reason: Reason::InvalidAddress,
            at: Timestamp(at),
            registered_at: None,
            verdicts: 1,
            first_at: Timestamp(at),
            by: by.into(),
            why: None,
        }
    }

    #[test]
    fn undo_takes_back_what_hygiene_did_in_the_window_and_nothing_else() {
        let all = vec![
            held(10, BY_HYGIENE, "app"),
            held(20, BY_HYGIENE, "app"),
            held(21, "ann", "app"),
            held(22, BY_HYGIENE, "other"),
            held(30, BY_HYGIENE, "app"),
        ];
        let args = UndoArgs {
            which: Which {
                channel: Some(Channel::Apns),
                account: None,
                app: Some("app".into()),
            },
            since: Moment::At(Timestamp(15)),
            until: Some(Moment::Ago("5ms".parse().unwrap())),
            dry_run: false,
            actor: Actor {
                why: "a test".into(),
                who: "ann".into(),
            },
        };
        let ids: Vec<String> = undone(all, &args, Timestamp(30))
            .into_iter()
            .map(|s| s.address_id)
            .collect();
        assert_eq!(ids, ["a-20"]);
    }
}
