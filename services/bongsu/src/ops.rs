//! Health and metrics of a process without a gateway.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use bongsu_runtime::{Health, Metrics, Shutdown};

#[derive(Clone)]
struct Ops {
    health: Health,
    metrics: Metrics,
}

/// Serves `/healthz`, `/readyz` and `/metrics` until the shutdown.
pub(crate) async fn serve(
    listen: SocketAddr,
    health: Health,
    metrics: Metrics,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(Ops { health, metrics });
    let listener = tokio::net::TcpListener::bind(listen).await?;
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.requested().await })
        .await
}

async fn ready(State(ops): State<Ops>) -> impl IntoResponse {
    let unready = ops.health.unready();
    let status = if unready.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, axum::Json(unready))
}

async fn render(State(ops): State<Ops>) -> impl IntoResponse {
    match ops.metrics.render() {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
