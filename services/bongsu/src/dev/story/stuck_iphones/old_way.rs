//! The old way, as honest as it is common: whatever comes becomes a task; a task has no time-out,
//! nobody counts the tasks, and the provider's token is made at the start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bongsu_channels::apns::token::TokenKey;
use bongsu_channels::fcm::service_account::ServiceAccount;
use bongsu_runtime::{Secret, Tasks};
use bongsu_simulators::Kind;
use reqwest::{Certificate, Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{EXPIRE, PACE, android, at, batches, fault, iphone, line};
use crate::dev::story::Stage;

/// How old a token may be. [R: Apple, "Establishing a token-based connection", 2026-08]
const HOUR_S: i64 = 3_600;

/// How long it is watched after the last push.
const WATCHED: Duration = Duration::from_secs(4);

#[derive(Default)]
struct Phones {
    begun: AtomicU64,
    ended: AtomicU64,
    /// Waits of those that arrived, in microseconds.
    late_us: std::sync::Mutex<Vec<u64>>,
}

impl Phones {
    fn push(self: &Arc<Self>, tasks: &mut Tasks, request: RequestBuilder) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let phones = Arc::clone(self);
        tasks.spawn("push", async move {
            let begun = Instant::now();
            let sent = request.send().await;
            // A failure is logged in the best of cases; nobody sends it again.
            if sent.is_ok_and(|answer| answer.status().is_success()) {
                let late = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                if let Ok(mut all) = phones.late_us.lock() {
                    all.push(late);
                }
            }
            phones.ended.fetch_add(1, Ordering::Relaxed);
            Ok::<(), std::convert::Infallible>(())
        });
    }

    fn line(&self, phone: &str) -> (String, Vec<String>) {
        let late: Vec<u64> = self
            .late_us
            .lock()
            .map(|all| all.clone())
            .unwrap_or_default();
        let seconds = |us: &u64| Duration::from_micros(*us).as_secs_f64();
        let left = self.begun.load(Ordering::Relaxed) - self.ended.load(Ordering::Relaxed);
        let late: Vec<f64> = late.iter().map(seconds).collect();
        line("the old way", phone, late.len(), 0, late, left)
    }
}

pub(super) async fn play(stage: &Stage<'_>) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let (apple, google) = (stage.twin(Kind::Apns)?, stage.twin(Kind::Fcm)?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let now = i64::try_from(now)?;
    let known = apple.credentials().context("no credentials")?;
    let key = TokenKey::read(
        &Secret::new(known.key.clone()),
        &known.key_id,
        &known.team_id,
    )
    .map_err(anyhow::Error::msg)?;
    // As it is after an hour of running: Apple takes it for a few seconds more.
    let made = now - HOUR_S + i64::try_from(Duration::from_secs_f64(at(EXPIRE)).as_secs())?;
    let apple_token = format!("bearer {}", key.sign(made));
    let account = google.service_account().context("no service account")?;
    let google_token = google_token(&google.url(), &account.file, now).await?;
    let client = |twin: &bongsu_simulators::simulators::Running| {
        let authority = Certificate::from_pem(twin.authority().as_bytes())?;
        Client::builder().tls_certs_only([authority]).build()
    };
    let (to_apple, to_google) = (client(apple)?, client(google)?);
    let send = format!(
        "{}/v1/projects/{}/messages:send",
        google.tls_url(),
        account.project
    );
    let (iphones, androids) = (Arc::new(Phones::default()), Arc::new(Phones::default()));
    let mut tasks = Tasks::new();
    let mut pace = tokio::time::interval(PACE);
    for (n, people) in batches().enumerate() {
        pace.tick().await;
        fault(stage, n)?;
        for person in people {
            let device = format!("{}/3/device/{}", apple.tls_url(), iphone(person));
            let push = to_apple
                .post(device)
                .header("authorization", &apple_token)
                .header("apns-topic", "com.example.app")
                .header("apns-push-type", "alert")
                .json(&json!({"aps": {"alert": {"body": "a line for you"}}}));
            iphones.push(&mut tasks, push);
            let push = to_google
                .post(&send)
                .bearer_auth(&google_token)
                .json(&json!({"message": {
                    "token": android(person),
                    "notification": {"body": "a line for you"},
                }}));
            androids.push(&mut tasks, push);
        }
    }
    tokio::time::sleep(WATCHED).await;
    Ok(vec![iphones.line("iPhone"), androids.line("Android")])
}

/// An access token, asked for once.
async fn google_token(base: &str, file: &str, now: i64) -> anyhow::Result<String> {
    let account =
        ServiceAccount::read(&Secret::new(file.to_owned())).map_err(anyhow::Error::msg)?;
    let assertion = account.assertion(now).context("the key cannot sign")?;
    let form = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}"
    );
    let answer: Value = Client::new()
        .post(format!("{base}/token"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await?
        .json()
        .await?;
    let token = answer["access_token"].as_str();
    Ok(token.context("no access token")?.to_owned())
}
