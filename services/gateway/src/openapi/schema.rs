//! Avro schemas as JSON schemas.

use serde_json::{Map, Value, json};

/// Fields Bongsu sets itself; a publisher who sets them gets a fault.
const INTERNAL: [&str; 2] = ["schedule_id", "replay_id"];
/// Fields without a default in Avro that HTTP makes up for.
const FILLED: [&str; 1] = ["id"];

/// Every record of an Avro schema, by name, as JSON schemas that refer to one another.
pub(super) fn of_record(avsc: &str) -> Map<String, Value> {
    let mut found = Map::new();
    // The text is a constant of ours, parsed by the codec at every start.
    let avro: Value = serde_json::from_str(avsc).unwrap_or_default();
    let reference = convert(&avro, &mut found);
    debug_assert!(reference.get("$ref").is_some(), "the schema is a record");
    found
}

fn convert(avro: &Value, found: &mut Map<String, Value>) -> Value {
    match avro {
        Value::String(name) => named(name),
        Value::Array(members) => union(members, found),
        Value::Object(object) => match text(object, "type") {
            "record" => record(object, found),
            "array" => json!({ "type": "array", "items": part(object, "items", found) }),
            "map" => {
                json!({ "type": "object", "additionalProperties": part(object, "values", found) })
            }
            name => named(name),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => json!({}),
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or("")
}

fn part(object: &Map<String, Value>, key: &str, found: &mut Map<String, Value>) -> Value {
    object.get(key).map_or(json!({}), |v| convert(v, found))
}

fn named(name: &str) -> Value {
    match name {
        "null" => json!({ "type": "null" }),
        "string" => json!({ "type": "string" }),
        "int" | "long" => json!({ "type": "integer" }),
        "float" | "double" => json!({ "type": "number" }),
        "boolean" => json!({ "type": "boolean" }),
        other => json!({ "$ref": format!("#/components/schemas/{other}") }),
    }
}

fn union(members: &[Value], found: &mut Map<String, Value>) -> Value {
    let others: Vec<Value> = members
        .iter()
        .filter(|m| m.as_str() != Some("null"))
        .map(|m| convert(m, found))
        .collect();
    match others.as_slice() {
        [one] => match one.get("type").and_then(Value::as_str) {
            Some(form) => json!({ "type": [form, "null"] }),
            None => json!({ "anyOf": [one, { "type": "null" }] }),
        },
        many => json!({ "anyOf": many }),
    }
}

fn record(object: &Map<String, Value>, found: &mut Map<String, Value>) -> Value {
    let name = text(object, "name").to_owned();
    let mut properties = Map::new();
    let mut required = Vec::new();
    let fields = object.get("fields").and_then(Value::as_array);
    for field in fields.into_iter().flatten().filter_map(Value::as_object) {
        let field_name = text(field, "name");
        if INTERNAL.contains(&field_name) {
            continue;
        }
        properties.insert(field_name.to_owned(), property(field, found));
        if !field.contains_key("default") && !FILLED.contains(&field_name) {
            required.push(field_name.to_owned());
        }
    }
    let schema = json!({
        "type": "object",
        "description": text(object, "doc"),
        "required": required,
        "properties": properties,
        "additionalProperties": false,
    });
    let reference = named(&name);
    found.insert(name, schema);
    reference
}

fn property(field: &Map<String, Value>, found: &mut Map<String, Value>) -> Value {
    let doc = text(field, "doc");
    let mut schema = part(field, "type", found);
    // Moments: numbers in Avro, in JSON RFC 3339 too.
    if doc.contains("Milliseconds since 1970") {
        schema = json!({
            "anyOf": [{ "type": "integer" }, { "type": "string", "format": "date-time" }, { "type": "null" }],
        });
    }
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".to_owned(), doc.into());
        if let Some(default) = field.get("default").filter(|d| !d.is_null()) {
            schema.insert("default".to_owned(), default.clone());
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_unions_maps_and_moments_are_converted() {
        let found = of_record(
            r#"{"type":"record","name":"A","doc":"An A.","fields":[
                {"name":"id","type":"string","doc":"Id."},
                {"name":"b","type":{"type":"record","name":"B","doc":"","fields":[]},"doc":"The B."},
                {"name":"at","type":["null","long"],"default":null,"doc":"Milliseconds since 1970."},
                {"name":"m","type":{"type":"map","values":"string"},"default":{},"doc":"M."},
                {"name":"n","type":["null","string"],"default":null,"doc":"N."},
                {"name":"replay_id","type":["null","string"],"default":null}
            ]}"#,
        );
        let a = found.get("A").unwrap();
        assert_eq!(a.pointer("/required"), Some(&json!(["b"])));
        assert_eq!(
            a.pointer("/properties/b/$ref"),
            Some(&json!("#/components/schemas/B"))
        );
        assert_eq!(
            a.pointer("/properties/b/description"),
            Some(&json!("The B."))
        );
        assert_eq!(
            a.pointer("/properties/at/anyOf/1/format"),
            Some(&json!("date-time"))
        );
        assert_eq!(
            a.pointer("/properties/n/type"),
            Some(&json!(["string", "null"]))
        );
        assert_eq!(a.pointer("/properties/m/default"), Some(&json!({})));
        assert_eq!(a.pointer("/properties/replay_id"), None);
        assert!(found.contains_key("B"));
    }
}
