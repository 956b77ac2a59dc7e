//! Receipts of a former owner that come in late: it was cut off, not dead, and its last answers count.
//!
//! After a takeover without a drain the tail of `results` is followed until the former owner's last
//! attempt must have ended. What it settles is not sent again, if it has not been sent already.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_stream::error::ConsumeError;
use bongsu_stream::port::{From, Isolation, TailRange, TopicPartition};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::owner::Command;
use crate::restore::{Sources, outcome_of};

/// Pause before a follower that failed begins again.
const AGAIN: Duration = Duration::from_millis(500);

/// One partition to be followed.
pub struct Followed {
    /// Its number.
    pub partition: i32,
    /// From which offset of `results`.
    pub from: i64,
    /// Its owner.
    pub commands: mpsc::Sender<Command>,
}

/// Tells owners of receipts that others write, for the time given; then tells them that it is over.
pub async fn follow_foreign(sources: Sources, mut followed: Vec<Followed>, time: Duration) {
    let until = Instant::now() + time;
    while let Ok(Err(error)) = tokio::time::timeout_at(until, follow(&sources, &mut followed)).await
    {
        tracing::warn!(%error, "receipts of the former owner cannot be followed");
        tokio::time::sleep(AGAIN).await;
    }
    for partition in followed {
        // An owner that is gone needs no word.
        drop(partition.commands.send(Command::ForeignDone).await);
    }
}

async fn follow(sources: &Sources, followed: &mut [Followed]) -> Result<(), ConsumeError> {
    let ranges = followed
        .iter()
        .map(|f| TailRange {
            partition: TopicPartition::new(Arc::clone(&sources.results), f.partition),
            from: From::Offset(f.from),
            until: None,
        })
        .collect();
    let mut follower = sources.cluster.follow(ranges, Isolation::Uncommitted)?;
    loop {
        let records = follower.next().await?;
        let mut ended: BTreeMap<i32, (Vec<_>, i64)> = BTreeMap::new();
        for record in records {
            let (found, until) = ended.entry(record.partition).or_default();
            *until = record.offset + 1;
            found.extend(outcome_of(&record, sources));
        }
        let mut gone = 0;
        for f in followed.iter_mut() {
            let Some((ended, until)) = ended.remove(&f.partition) else {
                continue;
            };
            f.from = f.from.max(until);
            let command = Command::Foreign { ended, until };
            gone += usize::from(f.commands.send(command).await.is_err());
        }
        if gone == followed.len() {
            return Ok(());
        }
    }
}
