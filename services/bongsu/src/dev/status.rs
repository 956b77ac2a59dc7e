//! The small status page of `bongsu dev`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use bongsu_domain::Class;
use bongsu_runtime::{Shutdown, Tasks};
use bongsu_simulators::Simulators;
use serde_json::{Value, json};

use crate::compose::World;

const PAGE: &str = include_str!("status.html");

#[derive(Clone)]
struct Page {
    world: World,
    simulators: Arc<[String]>,
    client: reqwest::Client,
}

/// Starts the page; gives its URL.
pub(crate) async fn serve(
    tasks: &mut Tasks,
    world: &World,
    simulators: &Simulators,
    listen: SocketAddr,
    shutdown: &Shutdown,
) -> anyhow::Result<String> {
    let page = Page {
        world: world.clone(),
        simulators: simulators.running().iter().map(|s| s.url()).collect(),
        client: reqwest::Client::builder().build()?,
    };
    let router = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/status.json", get(status))
        .with_state(page);
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let shutdown = shutdown.clone();
    tasks.spawn("status page", async move {
        axum::serve(listener, router)
            .with_graceful_shutdown(async move { shutdown.requested().await })
            .await
    });
    Ok(url)
}

async fn status(State(page): State<Page>) -> axum::Json<Value> {
    let mut reports = Vec::new();
    for url in page.simulators.iter() {
        let url = format!("{}/_sim/report", url.trim_end_matches('/'));
        let report: Option<Value> = match page.client.get(&url).send().await {
            Ok(answer) => answer.json().await.ok(),
            Err(_) => None,
        };
        reports.push(json!({"url": url, "report": report}));
    }
    let world = &page.world;
    let channels = world.config.active_channels();
    let mut lags = Vec::new();
    for class in Class::ALL {
        lags.push((
            world.topics.fanout_group(),
            world.topics.events(*class).to_string(),
        ));
        for channel in &channels {
            let topic = world.topics.deliveries(*channel, *class).to_string();
            lags.push((world.topics.dispatch_group(*channel), topic));
        }
    }
    lags.push((
        world.topics.ledger_group(),
        world.topics.results().to_string(),
    ));
    let mut rows = Vec::new();
    for (group, topic) in lags {
        let lag = world
            .cluster
            .lag(&group, vec![topic.clone()])
            .await
            .ok()
            .map(|lags| {
                lags.iter()
                    .map(|l| l.end - l.committed.unwrap_or(0))
                    .sum::<i64>()
            });
        rows.push(json!({"group": group, "topic": topic, "lag": lag}));
    }
    axum::Json(json!({
        "log": world.cluster.describe(),
        "unready": world.health.unready(),
        "simulators": reports,
        "lag": rows,
    }))
}
