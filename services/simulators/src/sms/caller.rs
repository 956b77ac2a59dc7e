//! Posts reports to the customer, repeated when they are not acknowledged.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bongsu_runtime::{Shutdown, Tasks};
use http::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder};
use url::form_urlencoded;

use super::Sms;
use super::desk::Post;
use crate::later::Due;

/// Longest wait for an acknowledgement. [R: public clients of Solapi's webhooks; M for Twilio]
const PATIENCE: Duration = Duration::from_secs(5);

fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

/// Posts what is due until the shutdown.
pub(super) async fn run(twin: Arc<Sms>, shutdown: Shutdown) -> Result<(), reqwest::Error> {
    let client = Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let mut posts = Tasks::new();
    loop {
        let next = twin.desk().next(posts.len(), now_us());
        let pause = match next {
            Some(Ok(due)) => {
                posts.spawn("report", post(Arc::clone(&twin), client.clone(), due));
                continue;
            }
            Some(Err(at)) => Some(Duration::from_micros(at.saturating_sub(now_us()))),
            None => None,
        };
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

async fn post(twin: Arc<Sms>, client: Client, mut due: Due<Post>) -> Result<(), Infallible> {
    due.posted += 1;
    let reports = twin.desk().plan().reports.clone();
    let request = match &due.what {
        Post::Solapi { body } => client
            .post(&reports.url)
            .header(CONTENT_TYPE, "application/json")
            .header("x-solapi-event-name", "SINGLE-REPORT")
            .header("x-solapi-secret", sha1(&reports.secret))
            .body(body.to_string()),
        Post::Twilio { url, token, form } => twilio(&client, url, token, form),
    };
    let taken = request.send().await.is_ok_and(|a| a.status().is_success());
    twin.desk().posted(due, taken, now_us());
    Ok(())
}

fn sha1(secret: &str) -> String {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A form, signed over the URL and its pairs by name.
fn twilio(
    client: &Client,
    url: &str,
    token: &str,
    form: &[(&'static str, String)],
) -> RequestBuilder {
    let mut pairs = form.to_vec();
    pairs.sort_by_key(|(name, _)| *name);
    let mut said = url.to_owned();
    for (name, value) in &pairs {
        said.push_str(name);
        said.push_str(value);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    let signature = STANDARD.encode(hmac::sign(&key, said.as_bytes()));
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    client
        .post(url)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("x-twilio-signature", signature)
        .body(body)
}
