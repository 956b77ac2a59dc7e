//! A running `bongsu dev`, and what it prints.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use bongsu_testkit::wait_until;
use serde_json::Value;

pub(crate) fn scripts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts")
}

/// The client of all tests in a process. One of `reqwest::get`'s own reads the system's certificates
/// each time, some 20 ms of a processor without optimisation: a test that asks again and again takes
/// most of a processor from what it waits for.
pub(crate) fn http() -> &'static reqwest::Client {
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
        // Every test has a runtime of its own, and connections do not outlive theirs.
        let builder = reqwest::Client::builder().pool_max_idle_per_host(0);
        builder
            .build()
            .expect("the settings of this client are fixed")
    });
    &CLIENT
}

pub(crate) fn bongsu(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bongsu"));
    command.args(arguments).env("BONGSU_SCRIPTS", scripts());
    command
}

/// Arguments, and the prefix of topics and groups.
pub(crate) fn prefixed(prefix: &str, bootstrap: &str, arguments: &[&str]) -> Command {
    let mut command = bongsu(arguments);
    command
        .env("BONGSU__TOPICS__PREFIX", prefix)
        .env("BONGSU_BOOTSTRAP", bootstrap);
    command
}

/// Standard output of a command that must succeed.
pub(crate) fn text(command: &mut Command) -> String {
    let done = command.output().unwrap();
    assert!(
        done.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap()
}

/// Exit code and complaint of a command that must fail.
pub(crate) fn refusal(command: &mut Command) -> (Option<i32>, String) {
    let done = command.output().unwrap();
    assert!(!done.status.success(), "{command:?} must not succeed");
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    (done.status.code(), told)
}

pub(crate) fn output(arguments: &[&str]) -> Output {
    bongsu(arguments).output().unwrap()
}

/// A pipeline on a given broker, under a prefix of its own.
pub(crate) struct Dev {
    child: Child,
    pub(crate) gateway: String,
    pub(crate) webhook: String,
    pub(crate) apns: String,
    pub(crate) alimtalk: String,
}

impl Dev {
    pub(crate) fn start(bootstrap: &str, prefix: &str) -> Self {
        Self::start_with(bootstrap, prefix, |_| ())
    }

    pub(crate) fn start_with(
        bootstrap: &str,
        prefix: &str,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let mut command = bongsu(&["dev", "--bootstrap", bootstrap, "--port", "0"]);
        command.env("BONGSU__TOPICS__PREFIX", prefix);
        change(&mut command);
        Self::spawn(command)
    }

    /// On the local log.
    pub(crate) fn local() -> Self {
        Self::spawn(bongsu(&["dev", "--local", "--port", "0"]))
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut url_of = |label: &str| {
            let line = lines
                .by_ref()
                .map(|l| l.unwrap())
                .find(|l| l.trim_start().starts_with(label))
                .unwrap_or_else(|| panic!("bongsu dev prints no {label}"));
            line.split_whitespace().last().unwrap().to_owned()
        };
        let gateway = url_of("API").trim_end_matches("/docs").to_owned();
        let mut simulator = |label: &str| {
            let url = url_of(label);
            url.trim_end_matches("/_sim/report").to_owned()
        };
        let (webhook, apns) = (simulator("webhook"), simulator("apns"));
        let alimtalk = simulator("alimtalk");
        // What the demo says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            gateway,
            webhook,
            apns,
            alimtalk,
        }
    }

    /// What the webhook simulator counted.
    pub(crate) async fn report(&self) -> Value {
        let url = format!("{}/_sim/report", self.webhook);
        http().get(url).send().await.unwrap().json().await.unwrap()
    }

    /// Waits until the simulator has had this many requests.
    pub(crate) async fn received(&self, requests: u64) {
        wait_until(Duration::from_secs(60), "the notifications", || async {
            self.report().await["requests"].as_u64() >= Some(requests)
        })
        .await;
    }

    /// SIGTERM; the drain must end with success.
    pub(crate) fn stop(mut self) {
        drain(&mut self.child);
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        terminate(&mut self.child)
    }
}

/// SIGTERM; the drain must end with success.
pub(crate) fn drain(child: &mut Child) {
    let status = terminate(child);
    assert!(status.success(), "the drain ended with {status}");
}

fn terminate(child: &mut Child) -> ExitStatus {
    let killed = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    assert!(killed.success());
    child.wait().unwrap()
}

impl Drop for Dev {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}
