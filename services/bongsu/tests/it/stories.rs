//! The stories end with every promise kept, and the old way does not.

use serde_json::Value;

use crate::dev::{bongsu, text};

fn played(story: &str) -> Value {
    let arguments = [
        "dev", "--local", "--port", "0", "--story", story, "--once", "--json",
    ];
    serde_json::from_str(text(&mut bongsu(&arguments)).trim()).unwrap()
}

/// A figure of the line with this name.
fn cell(told: &Value, row: &str, column: &str) -> String {
    let columns = told["columns"].as_array().unwrap();
    let at = columns.iter().position(|name| name == column).unwrap();
    let rows = told["rows"].as_array().unwrap();
    let found = rows.iter().find(|found| found[0] == row);
    found.unwrap()[1][at].as_str().unwrap().to_owned()
}

#[test]
fn an_event_after_a_silence_arrives_once() {
    let told = played("idle-queue");
    assert_eq!(told["broken"], serde_json::json!([]), "{told}");
    assert_eq!(cell(&told, "the old way", "copies"), "0", "{told}");
    assert_eq!(cell(&told, "Bongsu, webhook", "copies"), "1", "{told}");
    assert_eq!(cell(&told, "Bongsu, apns", "copies"), "1", "{told}");
}

#[test]
fn stuck_iphones_lose_nothing_and_are_named() {
    let told = played("stuck-iphones");
    assert_eq!(told["broken"], serde_json::json!([]), "{told}");
    assert_ne!(cell(&told, "the old way, iPhone", "lost"), "0", "{told}");
    assert_ne!(
        cell(&told, "the old way, iPhone", "tasks left"),
        "0",
        "{told}"
    );
    assert_eq!(cell(&told, "Bongsu, iPhone", "lost"), "0", "{told}");
    let said = told["said"].as_array().unwrap();
    let iphone = said[0].as_str().unwrap();
    assert!(
        iphone.starts_with("iPhone:") && iphone.contains("unknown since"),
        "{told}"
    );
    assert_eq!(said[1], "Android: every attempt accepted");
}
