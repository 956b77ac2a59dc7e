use bongsu_schemas::codec::current_schemas;
use bongsu_schemas::{
    AuditEntry, AvroRecord, Codec, Control, DecodeError, Framing, JournalEntry, NotificationEvent,
    Receipt, SchemaRef,
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
