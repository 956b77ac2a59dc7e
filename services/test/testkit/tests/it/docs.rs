use bongsu_domain::{Channel, Timestamp, limits};
use bongsu_schemas::frame::{SchemaRef, frame_header};
use bongsu_schemas::{AvroRecord, NotificationEvent, check_event, parse_json_event};
use bongsu_testkit::root;

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).unwrap()
}

#[test]
fn the_documented_fingerprint_is_the_one_we_read() {
    let fingerprint = NotificationEvent::current().fingerprint;
    let head = frame_header(SchemaRef::Fingerprint(fingerprint));
    let text: Vec<_> = head.iter().map(|b| format!("{b:02x}")).collect();
    let text = text.join(" ");
    assert!(
        page("publishing.md").contains(&text),
        "docs/publishing.md must say that a record begins with {text}"
    );
    let key = format!("{fingerprint:016x}");
    assert!(
        page("publishing.md").contains(&key),
        "docs/publishing.md must say that its schema has the key {key}"
    );
}

#[test]
fn every_field_of_an_event_is_documented() {
    let schema: serde_json::Value =
        serde_json::from_str(NotificationEvent::current().text).unwrap();
    let page = page("publishing.md");
    let mut missing = Vec::new();
    collect(&schema, &mut |field| {
        if !page.contains(field) {
            missing.push(field.to_owned());
        }
    });
    assert!(missing.is_empty(), "docs/publishing.md lacks {missing:?}");
}

/// Names of all fields of a schema, nested ones included.
fn collect(schema: &serde_json::Value, found: &mut impl FnMut(&str)) {
    match schema {
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        serde_json::Value::Object(map) => {
            if let Some(fields) = map.get("fields").and_then(|f| f.as_array()) {
                fields
                    .iter()
                    .filter_map(|f| f["name"].as_str())
                    .for_each(&mut *found);
                fields.iter().for_each(|f| collect(&f["type"], found));
            }
            for key in ["type", "items", "values"] {
                if let Some(inner) = map.get(key) {
                    collect(inner, found);
                }
            }
        }
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
}

#[test]
fn the_documented_limits_are_the_ones_that_hold() {
    let page = page("publishing.md");
    for (limit, text) in [
        (limits::EVENT_BYTES, "512 KiB"),
        (limits::INLINE_RECIPIENTS, "1,000"),
        (limits::ADDRESSES_PER_RECIPIENT, "at most 64"),
        (limits::ID_BYTES, "256 bytes"),
        (limits::ADDRESS_BYTES, "4,096 bytes"),
        (limits::TITLE_BYTES, "1,024"),
        (limits::BODY_BYTES, "65,536"),
        (limits::MAP_ENTRIES, "64 entries"),
    ] {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let factor = if text.ends_with("KiB") { 1024 } else { 1 };
        assert_eq!(digits.parse::<usize>().unwrap() * factor, limit, "{text}");
        assert!(page.contains(text), "docs/publishing.md must say {text}");
    }
    for channel in Channel::ALL {
        assert!(page.contains(&format!("`{channel}`")), "{channel}");
    }
}

#[test]
fn every_event_in_the_pages_is_one_that_we_take() {
    let mut found = 0;
    for name in ["publishing.md", "../README.md"] {
        let page = page(name);
        for (start, _) in page.match_indices('{') {
            // An event is the JSON object that begins with an id.
            let rest = page.split_at(start).1;
            if !rest.split_at(1).1.trim_start().starts_with("\"id\":") {
                continue;
            }
            let mut objects = serde_json::Deserializer::from_str(rest).into_iter();
            let Some(Ok(object)) = objects.next() else {
                panic!("docs/{name}: an event is no JSON: {rest}");
            };
            let object: serde_json::Value = object;
            if object.get("target").is_none() {
                continue;
            }
            let event = parse_json_event(object.to_string().as_bytes()).unwrap();
            check_event(&event, Timestamp(0)).unwrap();
            found += 1;
        }
    }
    assert_eq!(found, 4, "events in the pages");
}
