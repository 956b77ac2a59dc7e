//! What `results` says of one run, read on from where the last look ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bongsu_schemas::{Codec, Receipt, headers};
use bongsu_stream::port::{Cluster, From, Isolation, Record, TailEnds, TailRange};

use super::log::Names;

/// The topic of receipts.
const RESULTS: &str = "bongsu.results";

/// The outcome of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fate {
    /// Physical outcome records; 0 when there is none.
    pub(crate) records: u32,
    /// Number of the first one's outcome in [`Receipts::outcomes`].
    pub(crate) outcome: u16,
    /// Number of the worker that wrote the first one, in [`Receipts::workers`].
    pub(crate) worker: u16,
    /// Whether any one is marked as a possible duplicate.
    pub(crate) marked: bool,
}

/// Outcomes of one run.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    run: String,
    position: TailEnds,
    /// By delivery number.
    pub(crate) fates: Vec<Fate>,
    pub(crate) workers: Names,
    pub(crate) outcomes: Names,
    /// Deliveries with an outcome.
    pub(crate) settled: usize,
    fault: Option<String>,
}

impl Receipts {
    /// Begins at the present ends of the topic.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub(crate) async fn from_now(run: &str, cluster: &dyn Cluster) -> anyhow::Result<Self> {
        let lags = cluster
            .lag("bongsu-audit", vec![RESULTS.to_owned()])
            .await?;
        Ok(Self {
            run: format!("{run}-"),
            position: lags.into_iter().map(|l| (l.partition, l.end)).collect(),
            ..Self::default()
        })
    }

    /// Reads what has come since.
    ///
    /// # Errors
    /// When Kafka does not answer, or a receipt cannot be read.
    pub(crate) async fn read_on(self, cluster: &dyn Cluster) -> anyhow::Result<Self> {
        let ranges = self
            .position
            .iter()
            .map(|(partition, from)| TailRange {
                partition: partition.clone(),
                from: From::Offset(*from),
                until: None,
            })
            .collect();
        let shared = Arc::new(Mutex::new(self));
        let sink = Arc::clone(&shared);
        let codec = Codec::default();
        let each = Box::new(move |record: Record| {
            let mut receipts = sink.lock().unwrap_or_else(PoisonError::into_inner);
            receipts.add(&codec, &record);
        });
        let ends = cluster
            .read_tails(ranges, Isolation::Uncommitted, each)
            .await?;
        let mut receipts =
            std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner));
        receipts.position.extend(ends);
        anyhow::ensure!(receipts.fault.is_none(), "results: {:?}", receipts.fault);
        Ok(receipts)
    }

    fn add(&mut self, codec: &Codec, record: &Record) {
        if record.headers.get(headers::KIND) != Some(b"outcome") {
            return;
        }
        match codec.decode::<Receipt>(record.value.as_deref().unwrap_or_default()) {
            Err(error) => self.fault = Some(error.to_string()),
            Ok(receipt) if receipt.sender.starts_with(&self.run) => self.see(&receipt),
            Ok(_) => {}
        }
    }

    fn see(&mut self, receipt: &Receipt) {
        let Ok(i) = receipt.event_id.parse::<usize>() else {
            self.fault = Some(format!("an outcome of event {}", receipt.event_id));
            return;
        };
        if self.fates.len() <= i {
            self.fates.resize(i + 1, Fate::default());
        }
        let worker = self
            .workers
            .number(receipt.worker_id.as_deref().unwrap_or_default());
        let outcome = self.outcomes.number(&receipt.outcome);
        let Some(fate) = self.fates.get_mut(i) else {
            return;
        };
        if fate.records == 0 {
            self.settled += 1;
            (fate.outcome, fate.worker) = (outcome, worker);
        }
        fate.records += 1;
        fate.marked |= receipt.possible_duplicate;
    }

    /// The fate of delivery `i`.
    pub(crate) fn fate(&self, i: u32) -> Fate {
        self.fates.get(i as usize).copied().unwrap_or_default()
    }

    /// Whether delivery `i` ended with this outcome.
    pub(crate) fn ended(&self, i: u32, outcome: &str) -> bool {
        let fate = self.fate(i);
        fate.records > 0 && self.outcomes.find(outcome) == Some(fate.outcome)
    }

    /// How many deliveries ended how.
    pub(crate) fn by_outcome(&self) -> BTreeMap<String, usize> {
        let mut counts = vec![0_usize; usize::from(u16::MAX) + 1];
        for fate in self.fates.iter().filter(|f| f.records > 0) {
            if let Some(count) = counts.get_mut(usize::from(fate.outcome)) {
                *count += 1;
            }
        }
        let named = |word: &str| {
            let number = self.outcomes.find(word)?;
            counts.get(usize::from(number)).copied()
        };
        [
            "accepted",
            "refused",
            "expired",
            "cancelled",
            "suppressed",
            "unknown",
            "dead",
        ]
        .into_iter()
        .filter_map(|word| Some((word.to_owned(), named(word)?)))
        .collect()
    }

    #[cfg(test)]
    pub(crate) fn of(seen: &[(u32, &str, &str, bool)]) -> Self {
        let mut receipts = Self {
            run: "run-".to_owned(),
            ..Self::default()
        };
        for (i, outcome, worker, possible_duplicate) in seen {
            receipts.see(&Receipt {
                event_id: i.to_string(),
                outcome: (*outcome).to_owned(),
                worker_id: Some((*worker).to_owned()),
                possible_duplicate: *possible_duplicate,
                ..Receipt::default()
            });
        }
        receipts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_outcome_counts_and_a_mark_on_any() {
        let receipts = Receipts::of(&[
            (3, "accepted", "w-1", false),
            (3, "accepted", "w-2", true),
            (5, "unknown", "w-2", true),
        ]);
        assert_eq!(receipts.settled, 2);
        let fate = receipts.fate(3);
        assert_eq!((fate.records, fate.marked), (2, true));
        assert_eq!(receipts.workers.find("w-1"), Some(fate.worker));
        assert!(receipts.ended(5, "unknown") && !receipts.ended(4, "unknown"));
        assert_eq!(receipts.by_outcome()["accepted"], 1);
    }
}
