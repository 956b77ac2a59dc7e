//! Avro by hand for the two records that dispatch reads and writes once per delivery.
//!
//! apache-avro stays the authority: tests hold every byte against it. Only values of the current
//! schema are read here, and whatever looks odd is left to it, errors included.

use bongsu_domain::Pairs;

use crate::outcome::OutcomeReceipt;
use crate::records::Content;

/// A delivery record, borrowed from its bytes. Fields that dispatch has no use for are passed over.
#[derive(Debug, Default)]
pub(crate) struct RawDelivery<'a> {
    pub(crate) delivery_id: &'a str,
    pub(crate) event_id: &'a str,
    pub(crate) sender: &'a str,
    pub(crate) class: &'a str,
    pub(crate) purpose: &'a str,
    pub(crate) category: Option<&'a str>,
    pub(crate) channel: &'a str,
    pub(crate) recipient: &'a str,
    pub(crate) time_zone: Option<&'a str>,
    pub(crate) country: Option<&'a str>,
    pub(crate) address: &'a str,
    pub(crate) address_id: &'a str,
    pub(crate) account: &'a str,
    pub(crate) platform: &'a str,
    pub(crate) app: Option<&'a str>,
    pub(crate) registered_at: Option<i64>,
    pub(crate) content: Content,
    pub(crate) content_hash: &'a str,
    pub(crate) step: i32,
    pub(crate) accepted_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) ordering: Option<&'a str>,
    pub(crate) collapse_key: Option<&'a str>,
    pub(crate) on_uncertain: &'a str,
    pub(crate) campaign_id: Option<&'a str>,
    pub(crate) replay_id: Option<&'a str>,
    pub(crate) labels: Pairs,
    pub(crate) night_consent: bool,
}

/// Reads a delivery of the current schema; `None` when the bytes do not follow it.
pub(crate) fn read_delivery(body: &[u8]) -> Option<RawDelivery<'_>> {
    let mut from = Reader(body);
    let read = from.delivery()?;
    from.0.is_empty().then_some(read)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn delivery(&mut self) -> Option<RawDelivery<'a>> {
        let mut read = RawDelivery {
            delivery_id: self.text()?,
            event_id: self.text()?,
            sender: self.text()?,
            class: self.text()?,
            purpose: self.text()?,
            category: self.maybe_text()?,
            channel: self.text()?,
            recipient: self.text()?,
            time_zone: self.maybe_text()?,
            country: self.maybe_text()?,
            ..RawDelivery::default()
        };
        // Locale.
        self.maybe_text()?;
        read.address = self.text()?;
        read.address_id = self.text()?;
        read.account = self.text()?;
        read.platform = self.text()?;
        read.app = self.maybe_text()?;
        if self.maybe()? {
            read.registered_at = Some(self.long()?);
        }
        read.content = self.content()?;
        read.content_hash = self.text()?;
        read.step = i32::try_from(self.long()?).ok()?;
        // Origin.
        self.text()?;
        read.accepted_at = self.long()?;
        read.expires_at = self.long()?;
        read.ordering = self.maybe_text()?;
        read.collapse_key = self.maybe_text()?;
        read.on_uncertain = self.text()?;
        read.campaign_id = self.maybe_text()?;
        // Schedule.
        self.maybe_text()?;
        read.replay_id = self.maybe_text()?;
        // Possible duplicate, and fanout's worker.
        self.flag()?;
        self.maybe_text()?;
        read.labels = self.map()?;
        read.night_consent = self.flag()?;
        Some(read)
    }

    fn content(&mut self) -> Option<Content> {
        Some(Content {
            title: self.maybe_text()?.map(str::to_owned),
            body: self.maybe_text()?.map(str::to_owned),
            data: self.map()?,
            link: self.maybe_text()?.map(str::to_owned),
            image: self.maybe_text()?.map(str::to_owned),
            overrides: self.map()?,
            template: self.maybe_text()?.map(str::to_owned),
            variables: self.map()?,
        })
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// Which branch of a union with null.
    fn maybe(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            2 => Some(true),
            _ => None,
        }
    }

    /// A zigzag number of variable length.
    fn long(&mut self) -> Option<i64> {
        let mut bits = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return None;
            }
            bits |= part << shift;
            if byte & 0x80 == 0 {
                return Some((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed());
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.long()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    #[expect(clippy::option_option, reason = "broken, or absent, or there")]
    fn maybe_text(&mut self) -> Option<Option<&'a str>> {
        if self.maybe()? {
            self.text().map(Some)
        } else {
            Some(None)
        }
    }

    /// A map of texts. Blocks that name their size are left to the authority: we never write them.
    fn map(&mut self) -> Option<Pairs> {
        let mut pairs = Vec::new();
        loop {
            let count = self.long()?;
            if count == 0 {
                return Some(pairs.into_iter().collect());
            }
            for _ in 0..u64::try_from(count).ok()? {
                let name = self.text()?.to_owned();
                pairs.push((name, self.text()?.to_owned()));
            }
        }
    }
}

/// Writes the body of an outcome's receipt.
pub(crate) fn write_outcome(out: &mut Vec<u8>, r: &OutcomeReceipt<'_>) {
    // By name, so that a field that is added is not forgotten here.
    let OutcomeReceipt {
        kind,
        receipt_id,
        delivery_id,
        event_id,
        sender,
        class,
        purpose,
        category,
        channel,
        account,
        recipient,
        address_id,
        platform,
        app,
        registered_at,
        outcome,
        reason,
        detail,
        attempts,
        at,
        accepted_at,
        expires_at,
        content_hash,
        step,
        origin,
        campaign_id,
        schedule_id,
        replay_id,
        possible_duplicate,
        provider_reference,
        worker_id,
        source_topic,
        source_partition,
        source_offset,
        labels,
    } = r;
    text(out, kind);
    text(out, receipt_id);
    maybe_text(out, delivery_id.as_deref());
    for field in [event_id, sender, class, purpose] {
        text(out, field);
    }
    for field in [
        category, channel, account, recipient, address_id, platform, app,
    ] {
        maybe_text(out, *field);
    }
    maybe_long(out, registered_at.map(|at| at.0));
    text(out, outcome);
    text(out, reason);
    maybe_text(out, *detail);
    long(out, i64::from(*attempts));
    long(out, at.0);
    maybe_long(out, accepted_at.map(|at| at.0));
    maybe_long(out, expires_at.map(|at| at.0));
    text(out, content_hash);
    long(out, i64::from(*step));
    text(out, origin);
    for field in [campaign_id, schedule_id, replay_id] {
        maybe_text(out, *field);
    }
    out.push(u8::from(*possible_duplicate));
    for field in [provider_reference, worker_id, source_topic] {
        maybe_text(out, *field);
    }
    maybe_long(out, source_partition.map(i64::from));
    maybe_long(out, *source_offset);
    if !labels.is_empty() {
        long(out, i64::try_from(labels.len()).unwrap_or(i64::MAX));
        for (name, value) in *labels {
            text(out, name);
            text(out, value);
        }
    }
    out.push(0);
}

fn long(out: &mut Vec<u8>, value: i64) {
    let mut bits = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while bits >= 0x80 {
        out.push(bits.to_le_bytes()[0] | 0x80);
        bits >>= 7;
    }
    out.push(bits.to_le_bytes()[0]);
}

fn text(out: &mut Vec<u8>, text: &str) {
    long(out, i64::try_from(text.len()).unwrap_or(i64::MAX));
    out.extend_from_slice(text.as_bytes());
}

fn maybe_text(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(2);
            text(out, value);
        }
    }
}

fn maybe_long(out: &mut Vec<u8>, value: Option<i64>) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(2);
            long(out, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Codec, Delivery};

    /// What is not read here is read slowly, and nobody would notice.
    #[test]
    fn a_delivery_of_the_current_schema_is_read_here() {
        let delivery = Delivery {
            sender: "shop".to_owned(),
            night_consent: true,
            labels: Pairs::from([("a".to_owned(), "b".to_owned())]),
            ..Delivery::default()
        };
        let value = Codec::default().encode(&delivery).unwrap();
        let (_, body) = crate::frame::unframe(&value).unwrap();
        let read = read_delivery(body).unwrap();
        assert_eq!(read.sender, "shop");
        assert!(read.night_consent && read.labels.len() == 1);
    }
}
