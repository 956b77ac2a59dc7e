//! Pollers of reports that die.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bongsu_channels::alimtalk::config::ReportMode;
use bongsu_testkit::wait_until;
use serde_json::{Value, json};

use crate::counted::Counted;
use crate::reports::{Running, account, with_reports};
use crate::world::{World, settings};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_poller_that_dies_is_shown_and_joins_again() {
    let cluster = Arc::new(Counted {
        refused_joins: 1,
        ..Counted::default()
    });
    let world = World::new(Arc::<Counted>::clone(&cluster), "t.", settings(), None).await;
    let polled = account(|a| {
        a.api_base = "http://127.0.0.1:9".to_owned();
        a.reports.mode = ReportMode::Polling;
    });
    let world = with_reports(world, polled).await;
    let gateway = Running::start(world.resources.clone()).await;
    let url = format!("http://{}/readyz", gateway.address);
    wait_until(SOON, "the dead poller shown", || async {
        let answer = reqwest::get(&url).await.unwrap();
        assert_eq!(answer.status(), 200, "events are still taken");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["ready"], json!(true));
        let why = body["degraded"]["gateway.reports.bizgo.main"].as_str();
        why.is_some_and(|why| why.contains("no member today"))
    })
    .await;
    wait_until(SOON, "the next poller", || async {
        cluster.joins.load(Ordering::SeqCst) == 2
    })
    .await;
    gateway.end().await;
}
