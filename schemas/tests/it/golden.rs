//! The exact bytes of every record, in both framings. An additive change to a schema gets new files;
//! the old ones stay and must still be read. `BONGSU_BLESS=1` writes files that are missing.

use std::path::PathBuf;

use bongsu_schemas::codec::current_schemas;
use bongsu_schemas::{AvroRecord, Codec, Delivery, Framing, NotificationEvent, Receipt, SchemaRef};

use crate::sample;

fn codecs() -> [(&'static str, Codec); 2] {
    let ids = [("NotificationEvent", 1), ("Delivery", 2), ("Receipt", 3)];
    let confluent = Codec::new(Framing::Confluent(ids.into_iter().collect()));
    for ((_, id), current) in ids.into_iter().zip(current_schemas()) {
        confluent
            .learn(SchemaRef::RegistryId(id), current.text)
            .unwrap();
    }
    [("single", Codec::default()), ("confluent", confluent)]
}

fn check<T: AvroRecord + PartialEq + std::fmt::Debug>(record: &T) {
    for (framing, codec) in codecs() {
        let bytes = codec.encode(record).unwrap();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/golden/{}.{framing}.hex", T::NAME));
        if std::env::var_os("BONGSU_BLESS").is_some() && !path.exists() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!("{hex}\n")).unwrap();
        }
        let golden = std::fs::read_to_string(&path).expect("a golden file per record and framing");
        assert_eq!(hex, golden.trim(), "{} in {framing}", T::NAME);
        assert_eq!(codec.decode::<T>(&bytes).as_ref(), Ok(record));
    }
}

#[test]
fn the_bytes_of_every_record_are_pinned() {
    check::<NotificationEvent>(&sample::event());
    check::<Delivery>(&sample::delivery());
    check::<Receipt>(&sample::receipt());
}

#[test]
fn every_field_is_documented() {
    fn walk(value: &serde_json::Value, undocumented: &mut Vec<String>) {
        if let Some(fields) = value.get("fields").and_then(|f| f.as_array()) {
            for field in fields {
                if field
                    .get("doc")
                    .and_then(|d| d.as_str())
                    .is_none_or(str::is_empty)
                {
                    undocumented.push(field["name"].to_string());
                }
            }
        }
        if let Some(items) = value.as_array() {
            items.iter().for_each(|v| walk(v, undocumented));
        }
        if let Some(map) = value.as_object() {
            map.values().for_each(|v| walk(v, undocumented));
        }
    }
    for current in current_schemas() {
        let mut undocumented = Vec::new();
        walk(
            &serde_json::from_str(current.text).unwrap(),
            &mut undocumented,
        );
        assert!(undocumented.is_empty(), "{undocumented:?}");
    }
}
