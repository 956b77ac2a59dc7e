//! From a report to the record that keeps it: pure.

use bongsu_channels::reports::Told;
use bongsu_domain::reference::NotOurs;
use bongsu_domain::{Channel, Reference, Settled, Timestamp, partition_of};
use bongsu_schemas::convert::{Report, report_receipt};
use bongsu_schemas::{Codec, EncodeError, Topics, headers};
use bongsu_stream::port::{Headers, Outgoing};

/// A provider's clock may be wrong by this much; what lies further ahead is taken as now.
const AHEAD_MS: i64 = 24 * 3_600_000;

/// Where reports of one account go.
pub(crate) struct Place<'a> {
    pub(crate) topics: &'a Topics,
    pub(crate) codec: &'a Codec,
    /// N, the number of partitions.
    pub(crate) partitions: i32,
    pub(crate) provider: &'static str,
    pub(crate) account: &'a str,
    /// The channel they are about.
    pub(crate) channel: Channel,
    pub(crate) now: Timestamp,
}

impl Place<'_> {
    /// The record of a report, if it is to be kept, and what it is counted as.
    ///
    /// # Errors
    /// When a value does not fit the schema.
    pub(crate) fn record(
        &self,
        told: &Told,
    ) -> Result<(Option<Outgoing>, &'static str), EncodeError> {
        match told.reference {
            // Made when there were more partitions: nobody's, as far as this installation goes.
            Ok(reference) if reference.partition >= self.partitions => {
                Ok((Some(self.apart(told)), "unmapped"))
            }
            Ok(reference) => match told.verdict {
                None => Ok((None, "interim")),
                Some((outcome, reason)) => {
                    let settled = Settled { outcome, reason };
                    let record = self.mapped(told, reference, settled)?;
                    Ok((Some(record), outcome.as_str()))
                }
            },
            Err(NotOurs::Foreign) => Ok((Some(self.unmapped(told)), "unmapped")),
            Err(NotOurs::Forged) => Ok((Some(self.apart(told)), "forged")),
        }
    }

    /// A receipt in the delivery's own partition. Its key would be the delivery's, which the
    /// provider does not tell; the partition is what counts.
    fn mapped(
        &self,
        told: &Told,
        reference: Reference,
        settled: Settled,
    ) -> Result<Outgoing, EncodeError> {
        let topic = self.topics.deliveries(reference.channel, reference.class);
        let receipt = report_receipt(&Report {
            reference,
            settled,
            account: self.account,
            key: &told.key,
            said: &told.said,
            at: self.moment(told),
            topic: &topic,
        });
        Ok(Outgoing {
            topic: self.topics.results(),
            partition: reference.partition,
            key: None,
            value: Some(self.codec.encode(&receipt)?),
            headers: Headers::default()
                .with(headers::KIND, "report")
                .with(headers::DELIVERY_ID, reference.delivery.to_string()),
        })
    }

    /// What is not ours, with what the ledger needs to find its delivery by the provider's id. What is
    /// not final, or cannot be believed, lacks it.
    fn unmapped(&self, told: &Told) -> Outgoing {
        let mut record = self.apart(told);
        if let Some((outcome, reason)) = told.verdict {
            let at = self.moment(told).0.to_string();
            record.headers = record
                .headers
                .with(headers::CHANNEL, self.channel.as_str())
                .with(headers::OUTCOME, outcome.as_str())
                .with(headers::REASON, reason.as_str())
                .with(headers::SAID, told.said.clone())
                .with(headers::AT, at);
        }
        record
    }

    /// When it happened: the provider's word, unless that lies too far ahead.
    fn moment(&self, told: &Told) -> Timestamp {
        let at = told.at.filter(|at| at.0 <= self.now.0 + AHEAD_MS);
        at.unwrap_or(self.now)
    }

    /// As it came, beside who said it.
    fn apart(&self, told: &Told) -> Outgoing {
        Outgoing {
            topic: self.topics.reports(),
            partition: partition_of(told.key.as_bytes(), self.partitions),
            key: Some(told.key.clone().into()),
            value: Some(told.raw.clone().into()),
            headers: Headers::default()
                .with(headers::KIND, "report")
                .with(headers::PROVIDER, self.provider)
                .with(headers::ACCOUNT, self.account.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bongsu_domain::{Channel, Class, DeliveryId, Outcome, Reason};
    use bongsu_schemas::Receipt;

    use super::*;

    const DELIVERY: &str = "543ca93d-b1f3-326a-271e-8b06ef78cd5d";

    fn told(reference: Result<Reference, NotOurs>) -> Told {
        Told {
            key: "k1".into(),
            said: "AT/10000".into(),
            reference,
            verdict: Some((Outcome::Delivered, Reason::None)),
            at: Some(Timestamp(90)),
            raw: b"{}".to_vec(),
        }
    }

    fn record(told: &Told) -> (Option<Outgoing>, &'static str) {
        let place = Place {
            topics: &Topics::new("t."),
            codec: &Codec::default(),
            partitions: 4,
            provider: "bizgo",
            account: "main",
            channel: Channel::AlimTalk,
            now: Timestamp(100),
        };
        place.record(told).unwrap()
    }

    fn reference(partition: i32) -> Result<Reference, NotOurs> {
        Ok(Reference {
            channel: Channel::AlimTalk,
            class: Class::Bulk,
            partition,
            delivery: DeliveryId::parse(DELIVERY).unwrap(),
        })
    }

    fn receipt(told: &Told) -> Receipt {
        let record = record(told).0.unwrap();
        Codec::default().decode(&record.value.unwrap()).unwrap()
    }

    #[test]
    fn a_report_of_ours_is_a_receipt_in_its_deliverys_partition() {
        let (sent, result) = record(&told(reference(3)));
        let sent = sent.unwrap();
        assert_eq!(
            (&*sent.topic, sent.partition, result),
            ("t.results", 3, "delivered")
        );
        let first = receipt(&told(reference(3)));
        assert_eq!(first.delivery_id.as_deref(), Some(DELIVERY));
        assert_eq!(
            first.source_topic.as_deref(),
            Some("t.deliveries.alimtalk.bulk")
        );
        assert_eq!(first.at.0, 90);
        // Told again it is the same receipt, another code is another one.
        assert_eq!(receipt(&told(reference(3))).receipt_id, first.receipt_id);
        let mut other = told(reference(3));
        other.said = "SMS/10000".into();
        assert_ne!(receipt(&other).receipt_id, first.receipt_id);
        other.at = Some(Timestamp(i64::MAX));
        assert_eq!(receipt(&other).at.0, 100);
    }

    #[test]
    fn what_is_not_ours_or_not_final_is_told_apart() {
        let at = |told: &Told| {
            let (sent, result) = record(told);
            (sent.map(|r| r.topic.to_string()), result)
        };
        let reports = Some("t.reports".to_owned());
        assert_eq!(
            at(&told(Err(NotOurs::Foreign))),
            (reports.clone(), "unmapped")
        );
        assert_eq!(at(&told(Err(NotOurs::Forged))), (reports.clone(), "forged"));
        assert_eq!(at(&told(reference(4))), (reports, "unmapped"));
        // Only what may be believed and is final says what the ledger maps it by.
        let outcome = |told: &Told| {
            let sent = record(told).0.unwrap();
            sent.headers.text(headers::OUTCOME).map(str::to_owned)
        };
        let mut foreign = told(Err(NotOurs::Foreign));
        assert_eq!(outcome(&foreign).as_deref(), Some("delivered"));
        foreign.verdict = None;
        assert_eq!(outcome(&foreign), None);
        assert_eq!(outcome(&told(Err(NotOurs::Forged))), None);
        assert_eq!(outcome(&told(reference(4))), None);
        let mut interim = told(reference(1));
        interim.verdict = None;
        assert_eq!(at(&interim), (None, "interim"));
    }
}
