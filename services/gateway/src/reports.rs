//! `POST /v1/reports/{provider}/{account}`: what providers say later.
//!
//! A callback is checked, read, written to Kafka, and only then acknowledged in the provider's own
//! form; the database is not asked. A report with our reference becomes a receipt of kind `report`
//! in the delivery's own partition of `results`; any other goes to the topic `reports`, keyed by the
//! provider's id. Receipt ids are derived, so a report told twice is one receipt.

mod poll;
mod record;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bongsu_channels::reports::{Callback, Refusal, ReportSource, Told};
use bongsu_domain::Timestamp;
use futures_util::future::try_join_all;
use http::{Request, StatusCode, header};
use tokio::time::timeout;

use crate::problem::{Problem, ProblemCode};
use crate::server::Peer;
use crate::state::Gateway;
use record::Place;

/// How long Kafka may take: providers wait five seconds for our answer. [R: bizgo-api-spec, 2026-08]
const PATIENCE: Duration = Duration::from_secs(4);

/// The handler.
pub(crate) async fn take(
    State(gateway): State<Gateway>,
    Path((provider, account)): Path<(String, String)>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
    // In the order of what a refusal costs: the body is read only when the callback is believed.
    let found = gateway.source(&provider, &account)?;
    let callback = Callback {
        headers: &parts.headers,
        query: parts.uri.query().unwrap_or_default(),
        peer,
        now: Timestamp(gateway.inner.clock.now_millis()),
    };
    believed(&found, found.source.verify(&callback))?;
    let bodies = &gateway.inner.report_bodies;
    let held = bodies.read(&parts.headers, body).await?;
    gateway.record_held();
    let answer = gateway.report(&found, &callback, &held.bytes).await;
    drop(held);
    gateway.record_held();
    let answer = answer?;
    let form = [(header::CONTENT_TYPE, "application/json")];
    Ok((StatusCode::OK, form, answer).into_response())
}

/// An account's reports, with its names.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) provider: &'static str,
    pub(crate) account: Arc<str>,
    pub(crate) source: Arc<dyn ReportSource>,
}

/// The problem of a callback that is not believed.
fn believed(found: &Found, verified: Result<(), Refusal>) -> Result<(), Problem> {
    verified.map_err(|refusal| {
        tracing::warn!(provider = found.provider, account = %found.account, %refusal,
            "a callback is refused");
        let code = match refusal {
            Refusal::NotTaken => ProblemCode::NotFound,
            Refusal::Source => ProblemCode::ForeignSource,
            Refusal::Signature | Refusal::Time => ProblemCode::InvalidSignature,
        };
        Problem::new(code, refusal.to_string())
    })
}

impl Gateway {
    fn source(&self, provider: &str, account: &str) -> Result<Found, Problem> {
        self.sources()
            .find(|found| found.provider == provider && *found.account == *account)
            .ok_or_else(|| {
                Problem::new(
                    ProblemCode::NotFound,
                    "no account of this provider takes reports; see its reports.mode",
                )
            })
    }

    fn sources(&self) -> impl Iterator<Item = Found> {
        let all = self.inner.reports.all();
        all.map(|(provider, account, source)| Found {
            provider,
            account: account.into(),
            source: Arc::clone(source),
        })
    }

    /// Keeps the reports of a body and gives the provider's acknowledgement.
    async fn report(
        &self,
        found: &Found,
        callback: &Callback<'_>,
        body: &[u8],
    ) -> Result<String, Problem> {
        believed(found, found.source.verify_body(callback, body))?;
        let told = found
            .source
            .read(callback, body)
            .map_err(|error| Problem::new(ProblemCode::NotAReport, error.to_string()))?;
        self.keep(found, &told).await?;
        Ok(found.source.acknowledgement(&told))
    }

    /// Writes reports to Kafka; all are acknowledged by it, or an error tells that they may not be.
    /// Written a second time they are the same receipts.
    async fn keep(&self, found: &Found, told: &[Told]) -> Result<(), Problem> {
        let inner = &self.inner;
        let place = Place {
            topics: &inner.topics,
            codec: &inner.codec,
            partitions: inner.partitions,
            provider: found.provider,
            account: &found.account,
            channel: found.source.channel(),
            now: Timestamp(inner.clock.now_millis()),
        };
        let mut sent = Vec::with_capacity(told.len());
        let mut results = Vec::with_capacity(told.len());
        for told in told {
            let (record, result) = place.record(told).map_err(|error| {
                tracing::error!(%error, "a report cannot be written");
                Problem::new(ProblemCode::Internal, "the report could not be written")
            })?;
            results.push(result);
            if let Some(record) = record {
                sent.push(inner.producer.send(record));
            }
        }
        let unwritten = |reason: String| {
            tracing::warn!(%reason, provider = found.provider, "kafka did not take every report");
            Problem::new(
                ProblemCode::NotAcknowledged,
                "the reports are not acknowledged by Kafka; send them again",
            )
            .retry_after(1)
        };
        match timeout(PATIENCE, try_join_all(sent)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(unwritten(error.to_string())),
            Err(_) => return Err(unwritten("no answer in time".to_owned())),
        }
        for result in results {
            inner.instruments.reported(found.provider, result);
        }
        Ok(())
    }
}
