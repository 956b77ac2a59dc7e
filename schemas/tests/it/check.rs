use bongsu_domain::{FaultCode, OnUncertain, Timestamp};
use bongsu_schemas::{Millis, check_event, parse_json_event};

use crate::sample;

const NOW: Timestamp = Timestamp(1_760_000_000_000);

#[test]
fn a_full_event_passes() {
    let event = check_event(&sample::event(), NOW).unwrap();
    assert_eq!(event.recipients[0].addresses[0].id.0, "a-1");
}

#[test]
fn every_word_for_the_uncertain_passes_and_others_name_the_known() {
    for policy in OnUncertain::ALL {
        let mut event = sample::event();
        event.on_uncertain = policy.as_str().to_owned();
        assert_eq!(check_event(&event, NOW).unwrap().on_uncertain, *policy);
    }
    let mut event = sample::event();
    event.on_uncertain = "never".into();
    let faults = check_event(&event, NOW).unwrap_err();
    assert_eq!(faults.0[0].code, FaultCode::UnknownWord);
    assert!(faults.to_string().contains("never_resend"), "{faults}");
}

#[test]
fn every_fault_is_named_at_once() {
    let mut event = sample::event();
    event.sender = String::new();
    event.plan.channels = vec!["pigeon".into()];
    event.deliver_at = Some(Millis(1));
    event.expires_at = Some(Millis(2));
    let faults = check_event(&event, NOW).unwrap_err();
    let named: Vec<_> = faults
        .0
        .iter()
        .map(|f| (f.field.as_str(), f.code))
        .collect();
    assert_eq!(
        named,
        [
            ("sender", FaultCode::Missing),
            ("plan.channels[0]", FaultCode::UnknownChannel),
            ("deliver_at", FaultCode::NotBuilt),
            ("expires_at", FaultCode::Expired),
        ]
    );
}

#[test]
fn advertising_is_not_published_to_a_channel_that_carries_none() {
    let mut event = sample::event();
    event.purpose = "advertising".into();
    event.plan.channels = vec!["webhook".into(), "alimtalk".into()];
    let faults = check_event(&event, NOW).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "purpose: `advertising` is not carried by `alimtalk`; leave the channel out"
    );
}

#[test]
fn json_names_unknown_fields_and_wrong_types() {
    let faults = parse_json_event(br#"{"id":"e","sender":"s","target":{"recipient":[]}}"#);
    assert_eq!(faults.unwrap_err().0[0].field, "target.recipient");
    let faults = parse_json_event(br#"{"id":7}"#).unwrap_err();
    assert_eq!(faults.0[0].field, "id");
    let faults = parse_json_event(b"{").unwrap_err();
    assert_eq!(faults.0[0].field, "(event)");
    let event = parse_json_event(br#"{"expires_at":"2026-11-24T09:00:00Z"}"#).unwrap();
    assert_eq!(event.expires_at, Some(Millis(1_795_510_800_000)));
}

#[test]
fn a_thousand_unknown_fields_are_counted_and_the_first_are_named() {
    let mut fields: Vec<String> = (0..1_000).map(|n| format!("\"x{n:04}\":1")).collect();
    fields.push(format!("\"{}\":1", "y".repeat(10_000)));
    let text = format!("{{\"id\":\"e\",{}}}", fields.join(","));
    let faults = parse_json_event(text.as_bytes()).unwrap_err();
    assert_eq!(faults.0.len(), 21);
    assert_eq!(faults.0[0].field, "x0000");
    assert_eq!(faults.0[20].message, "and 981 more unknown fields");
    let long = format!("{{\"{}\":1}}", "y".repeat(10_000));
    let faults = parse_json_event(long.as_bytes()).unwrap_err();
    assert_eq!(faults.0[0].field.len(), 64);
}
