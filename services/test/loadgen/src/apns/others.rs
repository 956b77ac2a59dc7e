//! Other clients, where they are installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use bongsu_channels::apns::token::TokenKey;
use bongsu_runtime::Secret;
use serde::Deserialize;

use super::twin::{KEY_ID, TEAM_ID};
use super::{Job, Run, TOPIC};
use crate::load::wall_us;
use crate::processes::children_cpu_us;

fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output();
    found.is_ok()
}

/// The load generator of nghttp2: as fast as a client can be. Debian's package `nghttp2-client`.
pub(super) async fn h2load(job: &Job<'_>) -> anyhow::Result<Option<Run>> {
    if !installed("h2load") {
        return Ok(None);
    }
    let dir = job.twin.dir.clone();
    let (body, log) = (dir.join("body.json"), dir.join("h2load.tsv"));
    std::fs::write(
        &body,
        r#"{"aps":{"alert":{"title":"Order paid","body":"Your order 100000 is paid."}},"seq":"100000"}"#,
    )?;
    if log.exists() {
        std::fs::remove_file(&log)?;
    }
    let pem = Secret::new(std::fs::read_to_string(dir.join("AuthKey.p8"))?);
    let key = TokenKey::read(&pem, KEY_ID, TEAM_ID).map_err(anyhow::Error::msg)?;
    let now = i64::try_from(wall_us() / 1_000_000)?;
    let headers = [
        format!("authorization: bearer {}", key.sign(now)),
        format!("apns-topic: {TOPIC}"),
        "apns-push-type: alert".to_owned(),
        "apns-priority: 10".to_owned(),
        format!("apns-expiration: {}", now + 86_400),
    ];
    let mut command = Command::new("h2load");
    command.arg("--requests").arg(job.pushes.to_string());
    command.args(["--clients", "1", "--threads", "1"]);
    command
        .arg("--max-concurrent-streams")
        .arg(job.in_flight.to_string());
    command.arg("--data").arg(&body);
    command.arg("--log-file").arg(&log);
    for header in headers {
        command.arg("--header").arg(header);
    }
    let url = format!("{}/3/device/{:064x}", job.twin.endpoint(), 1);
    command.arg(url);
    let (output, seconds, cpu_us) = measured(command).await?;
    anyhow::ensure!(
        output.status.success(),
        "h2load ended with {}",
        output.status
    );
    // Start, status, microseconds.
    let log = std::fs::read_to_string(&log)?;
    let mut accepted = 0;
    let mut times = Vec::new();
    for line in log.lines() {
        let mut fields = line.split('\t').skip(1);
        accepted += u64::from(fields.next() == Some("200"));
        times.extend(fields.next().and_then(|us| us.parse::<u64>().ok()));
    }
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or(0);
    Ok(Some(Run {
        accepted,
        seconds,
        cpu_us,
        p50: Duration::from_micros(at(50)),
        p99: Duration::from_micros(at(99)),
    }))
}

#[derive(Deserialize)]
struct Answer {
    accepted: u64,
    seconds: f64,
    p50_us: u64,
    p99_us: u64,
}

/// The usual library of Go.
pub(super) async fn apns2(job: &Job<'_>) -> anyhow::Result<Option<Run>> {
    let Some(driver) = build_driver(&job.twin.dir)? else {
        return Ok(None);
    };
    let mut command = Command::new(driver);
    for (name, value) in [
        ("host", job.twin.endpoint()),
        ("ca", job.twin.file("ca.pem")),
        ("key", job.twin.file("AuthKey.p8")),
        ("key-id", KEY_ID.to_owned()),
        ("team", TEAM_ID.to_owned()),
        ("topic", TOPIC.to_owned()),
        ("pushes", job.pushes.to_string()),
        ("in-flight", job.in_flight.to_string()),
    ] {
        command.arg(format!("-{name}={value}"));
    }
    let (output, _, cpu_us) = measured(command).await?;
    anyhow::ensure!(
        output.status.success(),
        "apns2: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer: Answer = serde_json::from_slice(&output.stdout).context("the driver's answer")?;
    Ok(Some(Run {
        accepted: answer.accepted,
        seconds: answer.seconds,
        cpu_us,
        p50: Duration::from_micros(answer.p50_us),
        p99: Duration::from_micros(answer.p99_us),
    }))
}

/// Builds the driver; none without Go, or where its modules cannot be had.
fn build_driver(dir: &Path) -> anyhow::Result<Option<PathBuf>> {
    let program = dir.join("apns2");
    if program.exists() {
        return Ok(Some(program));
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers/apns2");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(&source)
        .output();
    match built {
        Err(_) => Ok(None),
        Ok(output) if output.status.success() => Ok(Some(program)),
        Ok(output) => {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
            Ok(None)
        }
    }
}

/// Runs a program to its end: what it said, how long it took, and its CPU time.
async fn measured(mut command: Command) -> anyhow::Result<(std::process::Output, f64, u64)> {
    let (begun, cpu) = (std::time::Instant::now(), children_cpu_us());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let seconds = begun.elapsed().as_secs_f64();
    Ok((output, seconds, children_cpu_us() - cpu))
}
