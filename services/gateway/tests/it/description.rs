//! The API description is whole and tells the truth.

use bongsu_gateway::{openapi, routes};
use serde_json::Value;

use crate::world::World;

#[tokio::test]
async fn every_route_is_described_and_nothing_else_is() {
    let world = World::local().await;
    let document = world.get("/openapi.json", "").await.json();
    assert_eq!(document, openapi::document());
    assert_eq!(document["openapi"], "3.1.0");
    let described: Vec<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys().cloned();
            methods.map(|method| (method, path.clone()))
        })
        .collect();
    for route in routes() {
        let name = (route.method.to_owned(), route.path.to_owned());
        assert!(described.contains(&name), "{name:?} is not described");
    }
    assert_eq!(described.len(), routes().count());
    for (method, path) in &described {
        let operation = &document["paths"][path][method];
        assert!(
            operation["summary"].is_string() && operation["responses"].is_object(),
            "{path}"
        );
        let named: Vec<&str> = path
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split('}').next())
            .collect();
        let parameters = operation["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let told: Vec<&str> = parameters
            .iter()
            .filter(|p| p["in"] == "path")
            .map(|p| p["name"].as_str().unwrap())
            .collect();
        assert_eq!(named, told, "{path}");
    }
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                found.push(reference.to_owned());
            }
            members.values().for_each(|v| references(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_field_has_its_text() {
    let document = openapi::document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 10);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let event = &document["components"]["schemas"]["NotificationEvent"];
    assert_eq!(
        event["required"],
        serde_json::json!(["sender", "target", "plan", "content"])
    );
    for (name, property) in event["properties"].as_object().unwrap() {
        assert!(
            !property["description"].as_str().unwrap().is_empty(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_pages_for_people_need_nothing_from_elsewhere() {
    let world = World::local().await;
    for path in ["/", "/docs", "/problems"] {
        let page = world.get(path, "").await;
        assert_eq!(page.status, 200);
        assert!(
            page.headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html")
        );
        assert!(
            !page.text.contains("src=") && !page.text.contains("<script"),
            "{path}"
        );
    }
    let problems = world.get("/problems", "").await.text;
    assert!(problems.contains("id=\"not_acknowledged\""));
    assert!(
        world
            .get("/docs", "")
            .await
            .text
            .contains("/v1/recipients/{id}/deliveries")
    );
}
