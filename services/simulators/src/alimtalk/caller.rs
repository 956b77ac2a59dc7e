//! Posts reports to the customer: signed, repeated when they are not acknowledged.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bongsu_runtime::{Shutdown, Tasks};
use hmac::{Hmac, Mac as _};
use http::header::CONTENT_TYPE;
use reqwest::Client;
use serde_json::Value;
use sha2::Sha256;

use super::AlimTalk;
use super::forms::{Form, posted};
use super::plan::{ReportMode, ReportPlan};
use super::reports::Report;

/// Longest wait for an acknowledgement. [R: bizgo-api-spec, 2026-08]
const PATIENCE: Duration = Duration::from_secs(5);

fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

/// Posts what is due until the shutdown.
pub(super) async fn run(twin: Arc<AlimTalk>, shutdown: Shutdown) -> Result<(), reqwest::Error> {
    let client = Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let mut posts = Tasks::new();
    loop {
        let (next, at_once) = {
            let mut desk = twin.desk();
            let (schedule, plan, _) = desk.schedule();
            let open =
                plan.reports.mode == ReportMode::Webhook && posts.len() < plan.reports.at_once;
            let next = if open {
                schedule.next(now_us())
            } else {
                Err(None)
            };
            (next.map(|report| (report, plan.reports.clone())), open)
        };
        let wait = match next {
            Ok((report, plan)) => {
                posts.spawn(
                    "report",
                    post(Arc::clone(&twin), client.clone(), report, plan),
                );
                continue;
            }
            Err(due) => due.filter(|_| at_once),
        };
        let pause = wait.map(|due| Duration::from_micros(due.saturating_sub(now_us())));
        tokio::select! {
            // All branches are cancel safe.
            biased;
            () = shutdown.requested() => return Ok(()),
            () = twin.scheduled.notified() => {}
            Some(ended) = posts.next() => if let Err(died) = ended {
                tracing::error!(%died, "a report's post died");
            },
            () = tokio::time::sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => {}
        }
    }
}

async fn post(
    twin: Arc<AlimTalk>,
    client: Client,
    mut report: Report,
    plan: ReportPlan,
) -> Result<(), Infallible> {
    report.posted += 1;
    let taken = acknowledged(&client, &report, &plan).await;
    let mut desk = twin.desk();
    let (schedule, plan, counts) = desk.schedule();
    counts.posted += 1;
    if taken {
        counts.acknowledged += 1;
    } else if !schedule.again(report, now_us(), plan.reports.retry_ms) {
        counts.given_up += 1;
    }
    Ok(())
}

/// Posts once; whether the answer names the key.
async fn acknowledged(client: &Client, report: &Report, plan: &ReportPlan) -> bool {
    let timestamp = (now_us() / 1_000).to_string();
    let mut request = client
        .post(&plan.url)
        .header(CONTENT_TYPE, "application/json")
        .body(posted(report).to_string());
    match report.form {
        Form::Bizgo => {
            request = request.header("x-ib-timestamp", &timestamp);
            if let Some(signature) = sign(&plan.secret, &timestamp) {
                request = request.header("x-ib-signature", signature);
            }
        }
        Form::Nhn => request = request.header("x-toast-webhook-signature", &plan.secret),
        // They sign nothing: a secret stands in the URL.
        Form::Omni | Form::Bizplus => {}
    }
    let Ok(answer) = request.send().await else {
        return false;
    };
    if !answer.status().is_success() {
        return false;
    }
    let body: Value = answer.json().await.unwrap_or_default();
    match report.form {
        Form::Bizgo | Form::Omni => body["msgKey"] == report.key.as_str(),
        Form::Bizplus => body["messageId"] == report.key.as_str(),
        Form::Nhn => true,
    }
}

/// The time under the secret, in hexadecimal; the body is not signed.
fn sign(secret: &str, timestamp: &str) -> Option<String> {
    let key = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok();
    let mac = key.filter(|_| !secret.is_empty())?;
    let bytes = mac.chain_update(timestamp).finalize().into_bytes();
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
