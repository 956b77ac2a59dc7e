//! The exact bytes of one full record of each kind: a change here breaks what lies in topics.

use std::fmt::Write as _;

use bongsu_schemas::{AvroRecord, Codec, Framing, JournalEntry, SchemaRef};

use crate::sample;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        write!(out, "{b:02x}").unwrap();
        out
    })
}

fn pin<T: AvroRecord>(record: &T, fingerprint: u64, golden: &str) {
    assert_eq!(
        format!("{:016x}", T::current().fingerprint),
        format!("{fingerprint:016x}"),
        "{} has another schema",
        T::NAME
    );
    let single = hex(&Codec::default().encode(record).unwrap());
    let head = format!("c301{}", hex(&fingerprint.to_le_bytes()));
    assert_eq!(
        single,
        head + golden.trim(),
        "{} changed its bytes",
        T::NAME
    );
    let framing = Framing::Confluent([(T::NAME, 0x0102_0304)].into());
    let confluent = hex(&Codec::new(framing).encode(record).unwrap());
    assert_eq!(confluent, format!("0001020304{}", golden.trim()));
}

/// Bytes that an older version wrote, and its schema.
fn read_older<T: AvroRecord>(fingerprint: u64, schema: &str, golden: &str) -> T {
    let codec = Codec::default();
    let reference = SchemaRef::Fingerprint(fingerprint);
    codec.learn(reference, schema).unwrap();
    let text = format!("c301{}{}", hex(&fingerprint.to_le_bytes()), golden.trim());
    let bytes: Vec<u8> = (0..text.len() / 2)
        .map(|i| u8::from_str_radix(text.get(2 * i..2 * i + 2).unwrap(), 16).unwrap())
        .collect();
    codec.decode(&bytes).unwrap()
}

#[test]
fn records_of_older_versions_are_read() {
    let mut event = sample::event();
    event.target.recipients[0].consents.clear();
    let older = read_older(
        0xf5f5_1994_f7e9_e41d,
        include_str!("../golden/event.1.avsc"),
        include_str!("../golden/event.1.hex"),
    );
    assert_eq!(event, older);
    let mut delivery = sample::delivery();
    delivery.night_consent = false;
    let older = read_older(
        0xfd0a_0c99_0ff5_456a,
        include_str!("../golden/delivery.1.avsc"),
        include_str!("../golden/delivery.1.hex"),
    );
    assert_eq!(delivery, older);
    let mut control = sample::control();
    control.backlog = "all".into();
    control.stale_before = None;
    let older = read_older(
        0xbd02_0bde_6f4d_224f,
        include_str!("../golden/control.1.avsc"),
        include_str!("../golden/control.1.hex"),
    );
    assert_eq!(control, older);
    let mut entry = sample::journal_entry();
    entry.claim = false;
    entry.epoch = JournalEntry::NO_EPOCH;
    entry.lane_end = 0;
    entry.owners.clear();
    let older = read_older(
        0xcaa4_2e26_6b61_d167,
        include_str!("../golden/journal_entry.1.avsc"),
        include_str!("../golden/journal_entry.1.hex"),
    );
    assert_eq!(entry, older);
    let mut share = sample::rate_share();
    (share.rate, share.quiet_ms) = (0, 0);
    let older = read_older(
        0x46f1_4efa_365e_6377,
        include_str!("../golden/rate_share.1.avsc"),
        include_str!("../golden/rate_share.1.hex"),
    );
    assert_eq!(share, older);
}

#[test]
fn an_event_keeps_its_bytes() {
    pin(
        &sample::event(),
        0xa275_de15_f37b_2388,
        include_str!("../golden/event.hex"),
    );
}

#[test]
fn a_delivery_keeps_its_bytes() {
    pin(
        &sample::delivery(),
        0x0f1e_ed91_1f81_e227,
        include_str!("../golden/delivery.hex"),
    );
}

#[test]
fn a_receipt_keeps_its_bytes() {
    pin(
        &sample::receipt(),
        0x5b52_606e_91ab_c84a,
        include_str!("../golden/receipt.hex"),
    );
}

#[test]
fn a_journal_entry_keeps_its_bytes() {
    pin(
        &sample::journal_entry(),
        0x79ef_5dfd_17af_cbf5,
        include_str!("../golden/journal_entry.hex"),
    );
}

#[test]
fn a_control_record_keeps_its_bytes() {
    pin(
        &sample::control(),
        0xeded_e7a7_9137_aa8d,
        include_str!("../golden/control.hex"),
    );
}

#[test]
fn an_audit_entry_keeps_its_bytes() {
    pin(
        &sample::audit_entry(),
        0xb82b_e672_74bf_7c9a,
        include_str!("../golden/audit_entry.hex"),
    );
}

#[test]
fn a_rate_share_keeps_its_bytes() {
    pin(
        &sample::rate_share(),
        0x431b_17d3_74b3_9479,
        include_str!("../golden/rate_share.hex"),
    );
}

#[test]
fn a_suppression_keeps_its_bytes() {
    pin(
        &sample::suppression(),
        0x4bd6_93d4_421f_4dcb,
        include_str!("../golden/suppression.hex"),
    );
}
