//! Old and new readers crossed: additive changes in both directions.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use bongsu_schemas::{AvroRecord, Codec, DecodeError, Receipt, SchemaRef};
use serde_json::json;

use crate::sample;

/// A receipt schema from before most fields existed.
fn old() -> String {
    let mut schema: serde_json::Value = serde_json::from_str(Receipt::current().text).unwrap();
    let kept = ["kind", "receipt_id", "event_id", "sender", "outcome", "at"];
    let fields = schema["fields"].as_array().unwrap().clone();
    let fields: Vec<_> = fields
        .into_iter()
        .filter(|f| kept.contains(&f["name"].as_str().unwrap()))
        .collect();
    assert_eq!(fields.len(), kept.len());
    schema["fields"] = json!(fields);
    schema.to_string()
}

/// Today's schema with fields that do not exist yet.
fn new() -> String {
    let mut schema: serde_json::Value = serde_json::from_str(Receipt::current().text).unwrap();
    let fields = schema["fields"].as_array_mut().unwrap();
    fields.push(json!({"name": "later", "type": "string", "default": "", "doc": "d"}));
    fields.push(json!({"name": "more", "type": {"type": "map", "values": "long"}, "default": {}, "doc": "d"}));
    schema.to_string()
}

fn confluent(id: i32, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(body);
    out
}

#[test]
fn new_code_reads_old_bytes_and_fills_in_the_defaults() {
    let schema = Schema::parse_str(&old()).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    let value = Value::Record(vec![
        ("kind".into(), Value::String("outcome".into())),
        ("receipt_id".into(), Value::String("r".into())),
        ("event_id".into(), Value::String("e".into())),
        ("sender".into(), Value::String("s".into())),
        ("outcome".into(), Value::String("accepted".into())),
        ("at".into(), Value::Long(5)),
    ]);
    let body = writer.write_value_to_vec(value).unwrap();
    let codec = Codec::default();
    codec.learn(SchemaRef::RegistryId(1), &old()).unwrap();
    let read: Receipt = codec.decode(&confluent(1, &body)).unwrap();
    assert_eq!((read.event_id.as_str(), read.at.0), ("e", 5));
    assert_eq!(
        (read.class.as_str(), read.reason.as_str()),
        ("transactional", "none")
    );
    assert!(read.labels.is_empty() && read.delivery_id.is_none());
}

#[test]
fn old_code_reads_new_bytes_and_leaves_out_what_it_does_not_know() {
    let today = Codec::default().encode(&sample::receipt()).unwrap();
    // Avro's body is its fields one after the other: a string "x", then an empty map.
    let mut body = today.split_at(10).1.to_vec();
    body.extend_from_slice(&[2, b'x', 0]);
    let codec = Codec::default();
    codec.learn(SchemaRef::RegistryId(2), &new()).unwrap();
    assert_eq!(
        codec.decode::<Receipt>(&confluent(2, &body)),
        Ok(sample::receipt())
    );
}

#[test]
fn foreign_readers_with_an_older_or_newer_schema_read_what_we_write() {
    let today = Schema::parse_str(Receipt::current().text).unwrap();
    let bytes = Codec::default().encode(&sample::receipt()).unwrap();
    for text in [old(), new()] {
        let reader = Schema::parse_str(&text).unwrap();
        let datum = GenericDatumReader::builder(&today)
            .reader_schema(&reader)
            .build()
            .unwrap();
        let Value::Record(fields) = datum.read_value(&mut bytes.split_at(10).1).unwrap() else {
            unreachable!("a receipt is a record")
        };
        let event = fields.iter().find(|(name, _)| name == "event_id").unwrap();
        assert_eq!(event.1, Value::String("e-1".into()));
    }
}

#[test]
fn a_schema_that_does_not_fit_is_named() {
    let mut schema: serde_json::Value = serde_json::from_str(&old()).unwrap();
    schema["fields"][0]["type"] = json!("long");
    let codec = Codec::default();
    codec
        .learn(SchemaRef::RegistryId(3), &schema.to_string())
        .unwrap();
    let read = codec.decode::<Receipt>(&confluent(3, &[0, 0, 0, 0, 0, 0]));
    assert!(
        matches!(read, Err(DecodeError::Incompatible { .. })),
        "{read:?}"
    );
}
