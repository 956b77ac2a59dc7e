use bongsu_domain::{Settled, Timestamp};
use bongsu_schemas::codec::current_schemas;
use bongsu_schemas::convert::{Ending, Source, delivery_from_record, outcome_receipt};
use bongsu_schemas::{
    AuditEntry, AvroRecord, Codec, Control, DecodeError, Framing, JournalEntry, Millis,
    NotificationEvent, Receipt, SchemaRef,
};

use crate::sample;

#[test]
fn every_record_reads_back_in_both_framings() {
    let confluent = Framing::Confluent(
        [
            ("NotificationEvent", 1),
            ("Delivery", 2),
            ("Receipt", 3),
            ("JournalEntry", 4),
            ("Control", 5),
            ("AuditEntry", 6),
        ]
        .into_iter()
        .collect(),
    );
    for framing in [Framing::SingleObject, confluent] {
        let codec = Codec::new(framing);
        for (i, current) in current_schemas().into_iter().enumerate() {
            let id = i32::try_from(i).unwrap() + 1;
            codec
                .learn(SchemaRef::RegistryId(id), current.text)
                .unwrap();
        }
        let e = sample::event();
        assert_eq!(
            codec.decode::<NotificationEvent>(&codec.encode(&e).unwrap()),
            Ok(e)
        );
        let d = sample::delivery();
        assert_eq!(
            codec.decode::<bongsu_schemas::Delivery>(&codec.encode(&d).unwrap()),
            Ok(d)
        );
        let r = sample::receipt();
        assert_eq!(codec.decode::<Receipt>(&codec.encode(&r).unwrap()), Ok(r));
        let j = sample::journal_entry();
        assert_eq!(
            codec.decode::<JournalEntry>(&codec.encode(&j).unwrap()),
            Ok(j)
        );
        let c = sample::control();
        assert_eq!(codec.decode::<Control>(&codec.encode(&c).unwrap()), Ok(c));
        let a = sample::audit_entry();
        assert_eq!(
            codec.decode::<AuditEntry>(&codec.encode(&a).unwrap()),
            Ok(a)
        );
    }
}

#[test]
fn the_receipt_of_an_outcome_has_the_bytes_of_a_receipt() {
    let delivery = delivery_from_record(sample::delivery()).unwrap();
    let source = Source {
        topic: "bongsu.deliveries.webhook",
        partition: 3,
        offset: 41,
    };
    let ending = Ending {
        settled: Settled::ACCEPTED,
        attempts: 2,
        at: Timestamp(1_760_000_000_123),
        possible_duplicate: true,
        provider_reference: Some("SM1"),
        worker_id: "worker-1",
    };
    let outcome = outcome_receipt(&delivery, source, ending);
    let codec = Codec::default();
    let bytes = codec.encode_outcome(&outcome).unwrap();
    let read = codec.decode::<Receipt>(&bytes).unwrap();
    assert_eq!(codec.encode(&read).unwrap(), bytes);
    assert_eq!(
        serde_json::to_value(&read).unwrap(),
        serde_json::to_value(&outcome).unwrap()
    );
    assert_eq!((read.kind.as_str(), read.attempts), ("outcome", 2));
}

/// What dispatch reads by hand is what the authority reads, whole, cut short or damaged.
#[test]
fn a_delivery_reads_the_same_by_hand() {
    let codec = Codec::default();
    let plain = bongsu_schemas::Delivery {
        delivery_id: sample::delivery().delivery_id,
        class: "bulk".into(),
        purpose: "advertising".into(),
        channel: "apns".into(),
        on_uncertain: "never_resend".into(),
        accepted_at: Millis(-1),
        expires_at: Millis(i64::MAX),
        ..bongsu_schemas::Delivery::default()
    };
    for delivery in [sample::delivery(), plain] {
        let whole = codec.encode(&delivery).unwrap();
        let read = |value: &[u8]| {
            let decoded = codec.decode::<bongsu_schemas::Delivery>(value);
            decoded.ok().and_then(|r| delivery_from_record(r).ok())
        };
        assert!(read(&whole).is_some());
        assert_eq!(codec.decode_delivery(&whole).ok(), read(&whole));
        for length in 10..whole.len() {
            assert!(codec.decode_delivery(&whole[..length]).is_err(), "{length}");
        }
        for at in 10..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.to_vec();
                damaged[at] ^= 1 << bit;
                let by_hand = codec.decode_delivery(&damaged).ok();
                assert_eq!(by_hand, read(&damaged), "byte {at}, bit {bit}");
            }
        }
    }
}

#[test]
fn a_schema_nobody_knows_is_unknown_until_it_is_learned() {
    let writer = Codec::new(Framing::Confluent([("Receipt", 9)].into_iter().collect()));
    let value = writer.encode(&sample::receipt()).unwrap();
    let codec = Codec::default();
    let reference = SchemaRef::RegistryId(9);
    assert_eq!(
        codec.decode::<Receipt>(&value),
        Err(DecodeError::UnknownSchema(reference))
    );
    codec.learn(reference, Receipt::current().text).unwrap();
    assert_eq!(codec.decode::<Receipt>(&value), Ok(sample::receipt()));
    assert!(matches!(
        codec.decode::<NotificationEvent>(&value),
        Err(DecodeError::WrongRecord { .. })
    ));
}

#[test]
fn random_bytes_are_refused_and_never_panic() {
    let codec = Codec::default();
    let mut value = codec.encode(&sample::event()).unwrap().to_vec();
    for cut in 0..value.len() {
        assert!(codec.decode::<NotificationEvent>(&value[..cut]).is_err());
    }
    for i in 10..value.len() {
        value[i] ^= 0xff;
        let read = codec.decode::<NotificationEvent>(&value);
        drop(read);
        value[i] ^= 0xff;
    }
}
