//! Old and new schemas crossed: what today's code writes is read by both, and the reverse. The other
//! side is plain Avro with schema resolution, as a foreign client has it.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use bongsu_schemas::{AvroRecord, Codec, DecodeError, Receipt, SchemaRef};
use serde_json::{Value as Json, json};

use crate::sample;

const FOREIGN: i32 = 77;

/// Calls `change` with the fields of every record in a schema, the inner ones first.
fn each_fields(schema: &mut Json, change: &mut dyn FnMut(&mut Vec<Json>)) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(|i| each_fields(i, change)),
        Json::Object(object) => {
            object.values_mut().for_each(|v| each_fields(v, change));
            if let Some(Json::Array(fields)) = object.get_mut("fields") {
                change(fields);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

fn changed<T: AvroRecord>(change: &mut dyn FnMut(&mut Vec<Json>)) -> String {
    let mut schema = serde_json::from_str(T::current().text).unwrap();
    each_fields(&mut schema, change);
    schema.to_string()
}

/// The schema before every optional field was added.
fn older<T: AvroRecord>() -> String {
    changed::<T>(&mut |fields| fields.retain(|f| f.get("default").is_none()))
}

/// The schema after a text, a map and a record were added to every record.
fn newer<T: AvroRecord>() -> String {
    let mut n = 0;
    changed::<T>(&mut |fields| {
        n += 1;
        fields.insert(
            0,
            json!({"name": "new_text", "type": "string", "default": "later"}),
        );
        fields.push(
            json!({"name": "new_map", "type": {"type": "map", "values": "string"}, "default": {}}),
        );
        let inner = json!({"type": "record", "name": format!("New{n}"),
            "fields": [{"name": "a", "type": "string"}]});
        fields.push(json!({"name": "new_record", "type": inner, "default": {"a": "b"}}));
    })
}

/// What plain Avro makes of today's bytes under another schema.
fn read_as<T: AvroRecord>(record: &T, reader: &Schema) -> Value {
    let writer = Schema::parse_str(T::current().text).unwrap();
    let bytes = Codec::default().encode(record).unwrap();
    let mut body = bytes.get(10..).unwrap();
    let generic = GenericDatumReader::builder(&writer)
        .reader_schema(reader)
        .build()
        .unwrap();
    let value = generic.read_value(&mut body).unwrap();
    assert!(body.is_empty());
    value
}

/// What today's code makes of a value that plain Avro wrote under another schema.
fn read_back<T: AvroRecord>(text: &str, value: Value) -> T {
    let schema = Schema::parse_str(text).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    let mut framed = vec![0];
    framed.extend_from_slice(&FOREIGN.to_be_bytes());
    framed.extend(writer.write_value_to_vec(value).unwrap());
    let codec = Codec::default();
    codec.learn(SchemaRef::RegistryId(FOREIGN), text).unwrap();
    codec.decode(&framed).unwrap()
}

fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Record(fields) = value else {
        return None;
    };
    fields.iter().find(|(n, _)| n == name).map(|(_, v)| v)
}

fn cross_with_newer<T: AvroRecord + PartialEq + std::fmt::Debug>(record: &T) {
    let text = newer::<T>();
    let mut value = read_as(record, &Schema::parse_str(&text).unwrap());
    assert_eq!(
        field(&value, "new_text"),
        Some(&Value::String("later".into()))
    );
    assert_eq!(field(&value, "new_map"), Some(&Value::Map([].into())));
    assert!(field(&value, "new_record").is_some());
    if let Value::Record(fields) = &mut value {
        for (name, value) in fields {
            match name.as_str() {
                "new_text" => *value = Value::String("x".repeat(300)),
                "new_map" => *value = Value::Map([("k".into(), Value::String("v".into()))].into()),
                _ => {}
            }
        }
    }
    assert_eq!(&read_back::<T>(&text, value), record);
}

#[test]
fn newer_writers_and_readers_get_on_with_today() {
    cross_with_newer(&sample::event());
    cross_with_newer(&sample::delivery());
    cross_with_newer(&sample::receipt());
    cross_with_newer(&sample::journal_entry());
    cross_with_newer(&sample::control());
    cross_with_newer(&sample::audit_entry());
    cross_with_newer(&sample::rate_share());
    cross_with_newer(&sample::suppression());
}

fn cross_with_older<T: AvroRecord>(record: &T) -> T {
    let text = older::<T>();
    assert!(text.len() < T::current().text.len());
    let value = read_as(record, &Schema::parse_str(&text).unwrap());
    assert_eq!(field(&value, "labels"), None);
    read_back(&text, value)
}

#[test]
fn older_writers_and_readers_get_on_with_today() {
    let full = sample::event();
    let event = cross_with_older(&full);
    assert_eq!((&event.id, &event.content), (&full.id, &Default::default()));
    assert_eq!(event.class, "transactional");
    assert_eq!(event.on_uncertain, "resend");
    assert!(event.target.recipients.is_empty() && event.labels.is_empty());

    let full = sample::delivery();
    let delivery = cross_with_older(&full);
    assert_eq!(delivery.delivery_id, full.delivery_id);
    assert_eq!(delivery.expires_at, full.expires_at);
    assert_eq!(delivery.purpose, "transactional");
    assert_eq!(delivery.platform, "other");
    assert_eq!((delivery.account.as_str(), delivery.step), ("default", 0));

    let full = sample::receipt();
    let receipt = cross_with_older(&full);
    assert_eq!((receipt.at, &receipt.outcome), (full.at, &full.outcome));
    assert_eq!((receipt.reason.as_str(), receipt.attempts), ("none", 0));
    assert_eq!(receipt.source_offset, None);

    let full = sample::journal_entry();
    let entry = cross_with_older(&full);
    assert_eq!((&entry.kind, entry.at), (&full.kind, full.at));
    assert!(entry.waiting.is_empty() && entry.settled.is_empty());

    let full = sample::control();
    let control = cross_with_older(&full);
    assert_eq!(
        (&control.scope, &control.action),
        (&full.scope, &full.action)
    );
    assert_eq!((control.from, control.until), (full.from, None));
    assert_eq!(
        (control.backlog.as_str(), control.stale_before),
        ("all", None)
    );

    let full = sample::audit_entry();
    let entry = cross_with_older(&full);
    assert_eq!((&entry.actor, entry.at), (&full.actor, full.at));
    assert!(entry.why.is_empty() && entry.details.is_empty());

    let full = sample::rate_share();
    let share = cross_with_older(&full);
    assert_eq!((&share.scope, share.sequence), (&full.scope, full.sequence));
    assert_eq!((share.claimed, share.paused_until), (0, None));
}

#[test]
fn a_schema_that_does_not_fit_is_incompatible() {
    let retyped = changed::<Receipt>(&mut |fields| {
        for f in fields.iter_mut().filter(|f| f["name"] == "outcome") {
            f["type"] = json!("long");
        }
    });
    let without = changed::<Receipt>(&mut |fields| fields.retain(|f| f["name"] != "outcome"));
    for text in [retyped, without] {
        let codec = Codec::default();
        codec.learn(SchemaRef::RegistryId(FOREIGN), &text).unwrap();
        let read = codec.decode::<Receipt>(&[0, 0, 0, 0, 77, 2, 2]);
        assert!(
            matches!(read, Err(DecodeError::Incompatible { .. })),
            "{read:?}"
        );
    }
}

#[test]
fn every_field_says_what_it_is() {
    let mut seen = 0;
    for current in bongsu_schemas::codec::current_schemas() {
        let mut schema = serde_json::from_str(current.text).unwrap();
        each_fields(&mut schema, &mut |fields| {
            for f in fields {
                seen += 1;
                assert!(
                    f["doc"].as_str().is_some_and(|d| !d.trim().is_empty()),
                    "{f}"
                );
            }
        });
    }
    assert!(seen > 90, "only {seen} fields were looked at");
}
