//! The routes, and what holds for all of them: problems instead of bare statuses, and metrics.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Router, http::Request};
use http::{StatusCode, header};
use tokio::time::Instant;

use crate::events::{self, json};
use crate::problem::{Problem, ProblemCode};
use crate::state::Gateway;
use crate::{reads, reports, suppressions};

/// A route as the API description names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteName {
    /// Lower-case method.
    pub method: &'static str,
    /// Path with `{parameters}`.
    pub path: &'static str,
}

struct Entry {
    name: RouteName,
    endpoint: fn() -> MethodRouter<Gateway>,
}

const fn entry(
    method: &'static str,
    path: &'static str,
    endpoint: fn() -> MethodRouter<Gateway>,
) -> Entry {
    Entry {
        name: RouteName { method, path },
        endpoint,
    }
}

const SUPPRESSION: &str = "/v1/suppressions/{channel}/{account}/{address_id}";

/// The one list from which the router is built and against which the API description is tested.
const ENTRIES: &[Entry] = &[
    entry("post", "/v1/events", || post(events::publish)),
    entry("get", "/v1/events/{id}", || get(reads::event)),
    entry("get", "/v1/deliveries/{id}", || get(reads::delivery)),
    entry("get", "/v1/recipients/{id}/deliveries", || {
        get(reads::recipient_deliveries)
    }),
    entry("get", "/v1/statistics", || get(reads::statistics)),
    entry("post", "/v1/reports/{provider}/{account}", || {
        post(reports::take)
    }),
    entry("get", "/v1/suppressions", || get(suppressions::list)),
    entry("put", SUPPRESSION, || put(suppressions::put)),
    entry("delete", SUPPRESSION, || delete(suppressions::delete)),
    entry("get", "/healthz", || get(healthz)),
    entry("get", "/readyz", || get(readyz)),
    entry("get", "/metrics", || get(metrics)),
    entry("get", "/openapi.json", || get(openapi)),
    entry("get", "/", || get(docs)),
    entry("get", "/docs", || get(docs)),
    entry("get", "/problems", || get(problems)),
];

/// Every route.
pub fn routes() -> impl Iterator<Item = RouteName> {
    ENTRIES.iter().map(|e| e.name)
}

/// The routes over a built gateway; needs no socket.
pub fn router(gateway: Gateway) -> Router {
    let mut router = Router::new();
    for entry in ENTRIES {
        router = router.route(entry.name.path, (entry.endpoint)());
    }
    router
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(gateway.clone(), measure))
        .with_state(gateway)
}

async fn measure(State(gateway): State<Gateway>, request: Request<Body>, next: Next) -> Response {
    let begun = Instant::now();
    let matched = request.extensions().get::<MatchedPath>();
    // Only patterns of ours become labels.
    let route = matched
        .and_then(|m| ENTRIES.iter().find(|e| e.name.path == m.as_str()))
        .map_or("other", |e| e.name.path);
    let response = next.run(request).await;
    let instruments = &gateway.inner.instruments;
    instruments.answered(route, response.status(), begun.elapsed().as_secs_f64());
    if let Some(code) = response.extensions().get::<ProblemCode>() {
        instruments.refused(*code);
    }
    response
}

async fn not_found(request: Request<Body>) -> Problem {
    let path: String = request.uri().path().chars().take(128).collect();
    Problem::new(
        ProblemCode::NotFound,
        format!("`{path}` does not exist; GET /docs lists what does"),
    )
}

async fn method_not_allowed(request: Request<Body>) -> Problem {
    Problem::new(
        ProblemCode::MethodNotAllowed,
        format!(
            "{} is not taken here; GET /docs lists what is",
            request.method()
        ),
    )
}

async fn healthz() -> Response {
    json(StatusCode::OK, &serde_json::json!({ "alive": true }))
}

async fn readyz(State(gateway): State<Gateway>) -> Response {
    // Of the process only the gateway's own parts count, and of those only what events need: another
    // part's trouble, or the store's, must not keep events out of Kafka.
    let (unready, mut degraded): (BTreeMap<_, _>, BTreeMap<_, _>) = gateway
        .inner
        .health
        .unready()
        .into_iter()
        .partition(|(component, _)| component.split('.').next() == Some("gateway"));
    degraded.extend(gateway.inner.degraded.unready());
    let status = if unready.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::json!({
        "ready": unready.is_empty(), "unready": unready, "degraded": degraded,
    });
    json(status, &body)
}

async fn metrics(State(gateway): State<Gateway>) -> Response {
    match gateway.inner.metrics.render() {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(e) => {
            tracing::error!(error = %e, "metrics cannot be rendered");
            Problem::new(ProblemCode::Internal, "the metrics could not be rendered").into_response()
        }
    }
}

async fn openapi(State(gateway): State<Gateway>) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        gateway.inner.pages.openapi.clone(),
    )
        .into_response()
}

async fn docs(State(gateway): State<Gateway>) -> Response {
    Html(gateway.inner.pages.docs.clone()).into_response()
}

async fn problems(State(gateway): State<Gateway>) -> Response {
    Html(gateway.inner.pages.problems.clone()).into_response()
}
