//! The simulators, asked over real connections.
#![expect(
    clippy::unwrap_used,
    reason = "functions beside the tests are tests too"
)]

mod alimtalk;
mod apns;
mod control;
mod discord;
mod lines;
mod sms;
mod webhook;

use bongsu_simulators::simulators::{Instance, Settings};
use bongsu_simulators::{Kind, Simulators};

/// One twin of a kind, changed by `change`.
async fn start(kind: Kind, change: impl FnOnce(&mut Instance)) -> Simulators {
    let mut instance = Instance::new(kind);
    change(&mut instance);
    Simulators::start(Settings {
        instances: vec![instance],
    })
    .await
    .unwrap()
}

fn url(simulators: &Simulators, path: &str) -> String {
    format!("{}{path}", simulators.running()[0].url())
}

/// A webhook body as the channel writes it.
fn body(sender: &str, event: &str, seq: u64) -> String {
    serde_json::json!({
        "type": "notification",
        "timestamp": "2025-10-09T08:53:20Z",
        "data": {
            "delivery_id": format!("d-{event}"),
            "event_id": event,
            "sender": sender,
            "data": {"seq": seq.to_string()},
        }
    })
    .to_string()
}
