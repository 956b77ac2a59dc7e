//! The API description as a page without scripts, and the page of problems.

use std::fmt::Write as _;

use serde_json::Value;

use crate::problem::ProblemCode;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
    padding:0 1rem;color:#1d1d1f}h2{margin-top:2.5rem;border-top:1px solid #ddd;padding-top:1rem}\
    code{background:#f3f3f5;padding:.1em .3em;border-radius:4px}table{border-collapse:collapse;\
    width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;\
    border-bottom:1px solid #eee}.m{text-transform:uppercase;font-weight:700;color:#a33}\
    @media(prefers-color-scheme:dark){body{background:#161618;color:#e8e8ea}code{background:#2a2a2e}\
    td,th{border-color:#333}h2{border-color:#333}}";

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body>{body}</body></html>"
    )
}

/// Texts come from our own description, but one of them may hold a `<` some day.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

fn members(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

struct Page(String);

impl Page {
    fn add(&mut self, html: &str) {
        self.0.push_str(html);
    }

    fn row(&mut self, name: &str, form: &str, what: &str) {
        let (name, form, what) = (escaped(name), escaped(form), escaped(what));
        // Writing to a String cannot fail.
        if write!(
            self.0,
            "<tr><td><code>{name}</code></td><td>{form}</td><td>{what}</td></tr>"
        )
        .is_err()
        {
            debug_assert!(false, "a String takes everything");
        }
    }
}

pub(super) fn docs(document: &Value) -> String {
    let mut out = Page(String::from("<h1>Bongsu</h1>"));
    out.add(&format!(
        "<p>{} Machine-readable: <a href=\"/openapi.json\">/openapi.json</a>. Kinds of problems: \
         <a href=\"/problems\">/problems</a>.</p><p>Send the API key as \
         <code>Authorization: Bearer …</code> or <code>X-API-Key</code>.</p>",
        escaped(text(
            document.pointer("/info").unwrap_or(&Value::Null),
            "description"
        ))
    ));
    out.add(
        "<pre><code>curl -X POST localhost:7400/v1/events \\\n  -H 'Authorization: Bearer …' \
        -H 'Content-Type: application/json' \\\n  -d '{\"sender\":\"shop-1\",\
        \"target\":{\"recipients\":[{\"id\":\"u-1\",\"addresses\":[{\"channel\":\"webhook\",\
        \"address\":\"https://example.com/hook\"}]}]},\
        \"plan\":{\"channels\":[\"webhook\"]},\"content\":{\"body\":\"hello\"}}'</code></pre>",
    );
    for (path, operations) in members(document.get("paths")) {
        for (method, operation) in members(Some(operations)) {
            out.add(&format!(
                "<h2><span class=\"m\">{}</span> <code>{}</code></h2><p>{}. {}</p>",
                escaped(method),
                escaped(path),
                escaped(text(operation, "summary")),
                escaped(text(operation, "description"))
            ));
            parameters(&mut out, operation);
        }
    }
    for (name, schema) in members(document.pointer("/components/schemas")) {
        out.add(&format!(
            "<h2 id=\"{0}\">{0}</h2><p>{1}</p><table>",
            escaped(name),
            escaped(text(schema, "description"))
        ));
        for (field, property) in members(schema.get("properties")) {
            out.row(field, &form(property), text(property, "description"));
        }
        out.add("</table>");
    }
    page("Bongsu API", &out.0)
}

fn parameters(out: &mut Page, operation: &Value) {
    let Some(parameters) = operation.get("parameters").and_then(Value::as_array) else {
        return;
    };
    out.add("<table>");
    for parameter in parameters {
        out.row(
            text(parameter, "name"),
            text(parameter, "in"),
            text(parameter, "description"),
        );
    }
    out.add("</table>");
}

fn form(property: &Value) -> String {
    if let Some(reference) = property.get("$ref").and_then(Value::as_str) {
        return reference.rsplit('/').next().unwrap_or("").to_owned();
    }
    if let Some(items) = property.get("items") {
        return format!("list of {}", form(items));
    }
    match property.get("type") {
        Some(Value::String(form)) => form.clone(),
        Some(Value::Array(forms)) => forms
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" or "),
        Some(_) => String::new(),
        None if property.get("anyOf").is_some() => "moment".to_owned(),
        None => "word".to_owned(),
    }
}

pub(super) fn problems() -> String {
    let mut out = Page(String::from(
        "<h1>Problems</h1><p>Every answer that is no success is \
         <code>application/problem+json</code> (RFC 9457); its <code>type</code> leads here.</p><table>",
    ));
    for code in ProblemCode::ALL {
        out.add(&format!(
            "<tr id=\"{0}\"><td><code>{0}</code></td><td>{1}</td><td>{2}</td></tr>",
            code.as_str(),
            code.status().as_u16(),
            escaped(code.title())
        ));
    }
    out.add("</table>");
    page("Bongsu problems", &out.0)
}
