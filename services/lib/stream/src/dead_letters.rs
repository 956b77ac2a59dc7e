//! Dead letters: a record put aside with its bytes unchanged, its reason and where it came from.

use bytes::Bytes;

use crate::port::{HeaderName, Headers, Outgoing, Record};

/// Why it was put aside: a bounded code.
pub const REASON: &str = "bongsu-reason";
/// The reason in words.
pub const DETAIL: &str = "bongsu-detail";
/// The service that put it aside.
pub const SERVICE: &str = "bongsu-service";
/// The topic it lay in.
pub const SOURCE_TOPIC: &str = "bongsu-source-topic";
/// Its partition there.
pub const SOURCE_PARTITION: &str = "bongsu-source-partition";
/// Its offset there.
pub const SOURCE_OFFSET: &str = "bongsu-source-offset";
/// Its timestamp there, milliseconds since the epoch.
pub const SOURCE_TIMESTAMP: &str = "bongsu-source-timestamp";

/// Put before an original header whose name is one of ours (a dead letter that was redriven and
/// failed again).
pub const ORIGINAL_PREFIX: &str = "orig.";

const OURS: [&str; 7] = [
    REASON,
    DETAIL,
    SERVICE,
    SOURCE_TOPIC,
    SOURCE_PARTITION,
    SOURCE_OFFSET,
    SOURCE_TIMESTAMP,
];

/// Longest detail kept, in characters: headers count towards the size of a record.
const DETAIL_CHARS: usize = 1_000;

/// Makes the dead letter of a record, for `topic` and `partition`.
///
/// Key and value are the original bytes; the original headers follow ours, in their order.
#[must_use]
#[expect(
    clippy::too_many_arguments,
    reason = "each is a header or an address of its own"
)]
pub fn dead_letter(
    record: &Record,
    topic: &str,
    partition: i32,
    reason: &str,
    detail: &str,
    service: &str,
) -> Outgoing {
    let detail: String = detail.chars().take(DETAIL_CHARS).collect();
    let mut headers = Headers::default()
        .with(REASON, reason.to_owned())
        .with(DETAIL, detail)
        .with(SERVICE, service.to_owned())
        .with(SOURCE_TOPIC, record.topic.to_string())
        .with(SOURCE_PARTITION, record.partition.to_string())
        .with(SOURCE_OFFSET, record.offset.to_string())
        .with(SOURCE_TIMESTAMP, record.timestamp.to_string());
    headers.0.extend(
        record
            .headers
            .0
            .iter()
            .map(|(name, value)| kept(name, value.as_ref())),
    );
    Outgoing {
        topic: topic.into(),
        partition,
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
    }
}

fn kept(name: &HeaderName, value: Option<&Bytes>) -> (HeaderName, Option<Bytes>) {
    let name = if OURS.contains(&name.as_str()) {
        HeaderName::Shared(format!("{ORIGINAL_PREFIX}{}", name.as_str()).into())
    } else {
        name.clone()
    };
    (name, value.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            topic: "bongsu.events".into(),
            partition: 3,
            offset: 41,
            timestamp: 1_700_000_000_000,
            key: Some(Bytes::from_static(b"shop")),
            value: Some(Bytes::from_static(b"\xff\x00not avro")),
            headers: Headers::default()
                .with("traceparent", "00-a")
                .with(REASON, "older"),
        }
    }

    #[test]
    fn the_bytes_and_the_origin_are_kept() {
        let letter = dead_letter(
            &record(),
            "bongsu.dead-letters",
            0,
            "undecodable",
            "x",
            "fanout",
        );
        assert_eq!(letter.key, record().key);
        assert_eq!(letter.value, record().value);
        assert_eq!(letter.headers.text(REASON), Some("undecodable"));
        assert_eq!(letter.headers.text(SOURCE_TOPIC), Some("bongsu.events"));
        assert_eq!(letter.headers.text(SOURCE_PARTITION), Some("3"));
        assert_eq!(letter.headers.text(SOURCE_OFFSET), Some("41"));
        assert_eq!(letter.headers.text(SOURCE_TIMESTAMP), Some("1700000000000"));
        assert_eq!(letter.headers.text("traceparent"), Some("00-a"));
    }

    #[test]
    fn an_original_header_of_our_name_is_renamed() {
        let letter = dead_letter(&record(), "bongsu.dead-letters", 0, "newer", "", "fanout");
        assert_eq!(letter.headers.text(REASON), Some("newer"));
        assert_eq!(letter.headers.text("orig.bongsu-reason"), Some("older"));
    }

    #[test]
    fn a_long_detail_is_cut() {
        let letter = dead_letter(&record(), "d", 0, "r", &"ㅂ".repeat(5_000), "fanout");
        assert_eq!(
            letter.headers.text(DETAIL).map(|d| d.chars().count()),
            Some(1_000)
        );
    }
}
