//! `bongsu fcm topics`: who gets what is sent to a topic.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bongsu_channels::fcm::topics::{BATCH, Change, Changed, TopicClient};
use bongsu_runtime::Clock;
use futures_util::FutureExt as _;
use serde::Serialize;

use crate::config::Config;
use crate::error::Usage;
use crate::output::{complain, say, say_json};

/// What to do at FCM beside sending.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum FcmCommand {
    /// Subscriptions to topics.
    #[command(subcommand)]
    Topics(TopicsCommand),
}

/// What to do with subscriptions.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum TopicsCommand {
    /// Subscribes registration tokens to a topic.
    Subscribe(TopicsArgs),
    /// Ends their subscriptions.
    Unsubscribe(TopicsArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TopicsArgs {
    /// The account of `channels.fcm.accounts` whose project the tokens are of.
    #[arg(long)]
    account: String,
    /// The topic's name.
    #[arg(long)]
    topic: String,
    /// Registration tokens, one per line; `-` reads standard input.
    #[arg(long)]
    tokens: PathBuf,
}

/// One token's result. It is named by its line: a token is as good as a key.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Told<'a> {
    line: usize,
    result: &'a str,
}

#[derive(Debug, Default, Serialize, PartialEq, Eq)]
struct Sum {
    topic: String,
    tokens: usize,
    done: usize,
    failed: usize,
}

/// Runs the command.
pub(crate) async fn run(config: &Config, command: FcmCommand, json: bool) -> anyhow::Result<()> {
    let FcmCommand::Topics(command) = command;
    let (change, args) = match command {
        TopicsCommand::Subscribe(args) => (Change::Subscribe, args),
        TopicsCommand::Unsubscribe(args) => (Change::Unsubscribe, args),
    };
    let topic = TopicClient::topic(&args.topic).map_err(Usage)?;
    let client = client(config, &args.account)?;
    let mut sum = Sum {
        topic: topic.trim_start_matches("/topics/").to_owned(),
        ..Sum::default()
    };
    let mut lines = input(&args.tokens)?.lines().enumerate();
    loop {
        let batch = Batch::read(&mut lines)?;
        if batch.is_empty() {
            break;
        }
        let results = if batch.tokens.is_empty() {
            Vec::new()
        } else {
            let changed = client.change(change, &topic, &batch.tokens, |wait| {
                tokio::time::sleep(wait).boxed()
            });
            let first = batch.lines.first().copied().unwrap_or(0);
            changed.await.with_context(|| {
                let done = sum.done;
                format!("stopped at line {first}; {done} were done, give the same file again")
            })?
        };
        for told in batch.told(change, &results) {
            sum.add(&told, change, json);
        }
        let (tokens, done, failed) = (sum.tokens, sum.done, sum.failed);
        let word = word(change);
        complain(&format!("{tokens} tokens: {done} {word}, {failed} failed"));
    }
    let (done, tokens, word) = (sum.done, sum.tokens, word(change));
    if json {
        say_json(&sum);
    } else {
        let topic = &sum.topic;
        say(&format!(
            "{done} of {tokens} tokens {word} at topic {topic}"
        ));
    }
    anyhow::ensure!(sum.failed == 0, "{} tokens failed", sum.failed);
    Ok(())
}

/// The client of an account.
fn client(config: &Config, name: &str) -> anyhow::Result<TopicClient> {
    let settings = &config.channels.fcm;
    let account = settings.accounts.get(name).ok_or_else(|| {
        let known: Vec<_> = settings.accounts.keys().map(String::as_str).collect();
        Usage(format!(
            "account `{name}` of channel fcm is not configured; known: {}",
            known.join(", ")
        ))
    })?;
    TopicClient::new(account, &settings.client, Clock::system())
        .with_context(|| format!("account {name} of channel fcm"))
}

impl Sum {
    /// Counts a token, and tells of it what is asked for.
    fn add(&mut self, told: &Told<'_>, change: Change, json: bool) {
        let is_done = told.result == word(change);
        if json {
            say_json(told);
        } else if !is_done {
            say(&format!("line {}: {}", told.line, told.result));
        }
        self.tokens += 1;
        self.done += usize::from(is_done);
        self.failed += usize::from(!is_done);
    }
}

const fn word(change: Change) -> &'static str {
    match change {
        Change::Subscribe => "subscribed",
        Change::Unsubscribe => "unsubscribed",
    }
}

fn input(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    Ok(Box::new(std::io::BufReader::new(file)))
}

/// At most [`BATCH`] tokens, and the lines between them that hold none.
#[derive(Debug, Default)]
struct Batch {
    tokens: Vec<String>,
    /// The line of each token.
    lines: Vec<usize>,
    wrong: Vec<(usize, String)>,
}

impl Batch {
    fn read(
        lines: &mut impl Iterator<Item = (usize, std::io::Result<String>)>,
    ) -> anyhow::Result<Self> {
        let mut batch = Self::default();
        while batch.tokens.len() < BATCH && batch.wrong.len() < BATCH {
            let Some((number, line)) = lines.next() else {
                break;
            };
            let line = line.with_context(|| format!("line {}", number + 1))?;
            let text = line.trim();
            if text.is_empty() {
                continue;
            }
            match TopicClient::token(text) {
                Ok(token) => {
                    batch.tokens.push(token.to_owned());
                    batch.lines.push(number + 1);
                }
                Err(why) => batch.wrong.push((number + 1, why)),
            }
        }
        Ok(batch)
    }

    const fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.wrong.is_empty()
    }

    /// Every line's result, in the order of the lines.
    fn told<'a>(&'a self, change: Change, results: &'a [Changed]) -> Vec<Told<'a>> {
        let changed = self.lines.iter().zip(results).map(|(line, result)| Told {
            line: *line,
            result: match result {
                Ok(()) => word(change),
                Err(error) => error,
            },
        });
        let wrong = self.wrong.iter().map(|(line, why)| Told {
            line: *line,
            result: why,
        });
        let mut told: Vec<_> = changed.chain(wrong).collect();
        told.sort_by_key(|told| told.line);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_in_batches_and_every_one_is_told_of() {
        let good = |n: usize| format!("token-number-{n}");
        let mut text: Vec<String> = (0..BATCH + 2).map(good).collect();
        text.insert(1, String::new());
        text.insert(2, "no token".to_owned());
        let mut lines = text.into_iter().map(Ok).enumerate();
        let first = Batch::read(&mut lines).unwrap();
        assert_eq!((first.tokens.len(), first.wrong.len()), (BATCH, 1));
        let results = vec![Ok(()), Err("NOT_FOUND".to_owned())];
        let told = first.told(Change::Subscribe, &results);
        let lines_told: Vec<_> = told.iter().map(|t| (t.line, t.result)).collect();
        assert_eq!(lines_told[0], (1, "subscribed"));
        assert_eq!(lines_told[1].0, 3);
        assert_eq!(lines_told[2], (4, "NOT_FOUND"));
        let second = Batch::read(&mut lines).unwrap();
        assert_eq!(second.tokens.len(), 2);
        assert_eq!(second.lines, [BATCH + 3, BATCH + 4]);
        assert!(Batch::read(&mut lines).unwrap().is_empty());
    }
}
