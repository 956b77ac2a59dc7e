//! What a receipt makes of a delivery: pure, and the same for every backend.
//!
//! Outcome receipts and reports are kept apart and joined when read, so the result does not depend
//! on which of the two came first.

use bongsu_domain::{DeliveryId, Outcome, Timestamp};

use crate::error::StoreError;
use crate::query::minute_of;
use crate::receipt::{Finding, LedgerReceipt};
use crate::rows::{DeliveryRow, EventRow, TimelineRow, position};
use crate::view::{DeliveryView, EventReceipt, TimelineEntry, Verdict};

/// What stands for a delivery.
pub(crate) trait Standing {
    /// The outcome that a reader sees.
    fn standing(&self) -> Result<Option<Verdict>, StoreError>;
}

fn outcome(word: &str) -> Result<Outcome, StoreError> {
    Outcome::parse(word).map_err(|e| StoreError::Unreadable {
        what: "outcome",
        value: e.word,
    })
}

fn verdict(
    word: Option<&str>,
    reason: Option<&String>,
    detail: Option<&String>,
    at: Option<i64>,
) -> Result<Option<Verdict>, StoreError> {
    word.map(|word| {
        Ok(Verdict {
            outcome: outcome(word)?,
            reason: reason.cloned().unwrap_or_default(),
            detail: detail.cloned(),
            at: Timestamp(at.unwrap_or_default()),
        })
    })
    .transpose()
}

impl Standing for DeliveryRow {
    fn standing(&self) -> Result<Option<Verdict>, StoreError> {
        Ok(match (self.settled_verdict()?, self.reported_verdict()?) {
            (settled, None) => settled,
            // A report proves that the provider took it, even before our own receipt is read.
            (None, reported) => reported,
            (Some(settled), Some(reported)) => {
                if settled.outcome.report(reported.outcome) == settled.outcome {
                    Some(settled)
                } else {
                    Some(reported)
                }
            }
        })
    }
}

fn fill<T: Clone>(ours: &mut Option<T>, theirs: Option<&T>) {
    if ours.is_none() {
        *ours = theirs.cloned();
    }
}

impl DeliveryRow {
    fn settled_verdict(&self) -> Result<Option<Verdict>, StoreError> {
        verdict(
            self.settled.as_deref(),
            self.settled_reason.as_ref(),
            self.settled_detail.as_ref(),
            self.settled_at,
        )
    }

    fn reported_verdict(&self) -> Result<Option<Verdict>, StoreError> {
        verdict(
            self.reported.as_deref(),
            self.reported_reason.as_ref(),
            self.reported_detail.as_ref(),
            self.reported_at,
        )
    }

    /// Takes a receipt in. Taking it a second time changes nothing.
    pub(crate) fn absorb(&mut self, receipt: &LedgerReceipt) -> Result<(), StoreError> {
        self.fill_facts(receipt);
        match &receipt.finding {
            Finding::Event(_) => return Ok(()),
            Finding::Attempt { .. } => {}
            Finding::Outcome { outcome, .. } => self.settle(*outcome, receipt)?,
            Finding::Report { outcome, .. } => self.report(*outcome, receipt)?,
        }
        self.attempts = self.attempts.max(i64::from(receipt.attempts));
        self.possible_duplicate |= i16::from(receipt.possible_duplicate);
        fill(
            &mut self.provider_reference,
            receipt.provider_reference.as_ref(),
        );
        if self.counted_minute.is_none() {
            self.counted_minute = self.standing()?.map(|v| minute_of(v.at.0));
        }
        Ok(())
    }

    fn settle(&mut self, new: Outcome, receipt: &LedgerReceipt) -> Result<(), StoreError> {
        let replaces = match self.settled.as_deref() {
            None => true,
            Some(old) => {
                let old = outcome(old)?;
                old.merge(new) != old
            }
        };
        if replaces {
            self.settled = Some(new.as_str().to_owned());
            self.settled_reason = Some(receipt.reason.clone());
            self.settled_detail.clone_from(&receipt.detail);
            self.settled_at = Some(receipt.at.0);
            self.worker_id.clone_from(&receipt.worker_id);
        }
        Ok(())
    }

    fn report(&mut self, new: Outcome, receipt: &LedgerReceipt) -> Result<(), StoreError> {
        let replaces = match self.reported.as_deref() {
            // Only these two are a report's word; any other moves nothing.
            None => matches!(new, Outcome::Delivered | Outcome::Undelivered),
            Some(old) => {
                let old = outcome(old)?;
                old.report(new) != old
            }
        };
        if replaces {
            self.reported = Some(new.as_str().to_owned());
            self.reported_reason = Some(receipt.reason.clone());
            self.reported_detail.clone_from(&receipt.detail);
            self.reported_at = Some(receipt.at.0);
        }
        Ok(())
    }

    /// A report may know less than the outcome that follows it.
    fn fill_facts(&mut self, receipt: &LedgerReceipt) {
        let facts = &receipt.facts;
        // A provider's report names no sender: what it left open, the outcome says.
        if self.sender.is_empty() && !facts.sender.is_empty() {
            self.sender.clone_from(&facts.sender);
            self.event_id.clone_from(&facts.event_id);
            self.class.clone_from(&facts.class);
            self.purpose.clone_from(&facts.purpose);
            self.origin.clone_from(&facts.origin);
            self.step = i64::from(facts.step);
            self.listed_at = facts.accepted_at.unwrap_or(receipt.at).0;
        }
        fill(&mut self.category, facts.category.as_ref());
        fill(&mut self.channel, facts.channel.as_ref());
        fill(&mut self.account, facts.account.as_ref());
        fill(&mut self.recipient, facts.recipient.as_ref());
        fill(&mut self.address_id, facts.address_id.as_ref());
        fill(&mut self.platform, facts.platform.as_ref());
        fill(&mut self.app, facts.app.as_ref());
        fill(&mut self.campaign_id, facts.campaign_id.as_ref());
        fill(&mut self.schedule_id, facts.schedule_id.as_ref());
        fill(&mut self.replay_id, facts.replay_id.as_ref());
        fill(
            &mut self.accepted_at,
            facts.accepted_at.map(|t| t.0).as_ref(),
        );
        fill(&mut self.expires_at, facts.expires_at.map(|t| t.0).as_ref());
        if self.content_hash.is_empty() {
            self.content_hash.clone_from(&facts.content_hash);
        }
        if let (None, Some(source)) = (&self.source_topic, &facts.source) {
            self.source_topic = Some(source.topic.clone());
            self.source_partition = Some(source.partition);
            self.source_offset = Some(source.offset);
        }
    }

    /// The delivery as a reader sees it. `entries` are its attempts and reports.
    pub(crate) fn view(
        self,
        entries: Option<Vec<TimelineRow>>,
    ) -> Result<DeliveryView, StoreError> {
        let standing = self.standing()?;
        let timeline = match entries {
            None => Vec::new(),
            Some(entries) => self.timeline(entries)?,
        };
        Ok(DeliveryView {
            delivery_id: delivery_id(&self.delivery_id)?,
            sender: self.sender,
            event_id: self.event_id,
            class: self.class,
            purpose: self.purpose,
            category: self.category,
            channel: self.channel,
            account: self.account,
            recipient: self.recipient,
            address_id: self.address_id,
            platform: self.platform,
            app: self.app,
            step: self.step,
            origin: self.origin,
            campaign_id: self.campaign_id,
            schedule_id: self.schedule_id,
            replay_id: self.replay_id,
            content_hash: self.content_hash,
            accepted_at: self.accepted_at.map(Timestamp),
            expires_at: self.expires_at.map(Timestamp),
            source: position(self.source_topic, self.source_partition, self.source_offset),
            listed_at: Timestamp(self.listed_at),
            outcome: standing.as_ref().map(|v| v.outcome),
            decided_at: standing.as_ref().map(|v| v.at),
            detail: standing.as_ref().and_then(|v| v.detail.clone()),
            reason: standing.map(|v| v.reason),
            attempts: self.attempts,
            possible_duplicate: self.possible_duplicate != 0,
            provider_reference: self.provider_reference,
            timeline,
        })
    }

    fn timeline(&self, mut entries: Vec<TimelineRow>) -> Result<Vec<TimelineEntry>, StoreError> {
        entries.sort_by(|a, b| (a.at, &a.receipt_id).cmp(&(b.at, &b.receipt_id)));
        let mut timeline: Vec<_> = entries.into_iter().map(TimelineRow::entry).collect();
        if let Some(settled) = self.settled_verdict()? {
            // Attempts come before the outcome of the same moment, reports after it.
            let place = timeline
                .iter()
                .position(|e| e.at > settled.at || (e.at == settled.at && e.kind == "report"))
                .unwrap_or(timeline.len());
            timeline.insert(
                place,
                TimelineEntry {
                    kind: "outcome".to_owned(),
                    word: settled.outcome.as_str().to_owned(),
                    reason: settled.reason,
                    detail: settled.detail,
                    attempts: self.attempts,
                    at: settled.at,
                    provider_reference: self.provider_reference.clone(),
                    worker_id: self.worker_id.clone(),
                },
            );
        }
        Ok(timeline)
    }
}

pub(crate) fn delivery_id(text: &str) -> Result<DeliveryId, StoreError> {
    DeliveryId::parse(text).ok_or_else(|| StoreError::Unreadable {
        what: "delivery id",
        value: text.chars().take(64).collect(),
    })
}

impl EventRow {
    pub(crate) fn view(self) -> Result<EventReceipt, StoreError> {
        Ok(EventReceipt {
            receipt_id: self.receipt_id,
            sender: self.sender,
            event_id: self.event_id,
            class: self.class,
            recipient: self.recipient,
            outcome: outcome(&self.outcome)?,
            reason: self.reason,
            detail: self.detail,
            at: Timestamp(self.at),
            campaign_id: self.campaign_id,
            source: position(self.source_topic, self.source_partition, self.source_offset),
        })
    }
}

#[cfg(test)]
mod tests;
