//! A real Apache Kafka for tests: the one `scripts/test` started, else one of this test binary.
//!
//! Owns the broker it started: a watchdog process outlives the test binary, sees it gone (however
//! it ended, `kill -9` included) and stops the broker. Called by integration tests.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::{report, root};

/// Names the bootstrap servers of a broker that is running already.
pub const BOOTSTRAP_VARIABLE: &str = "BONGSU_TEST_KAFKA";

/// A real Kafka, shared by all tests of a binary. Topics and groups must be a test's own: see
/// [`Names`](crate::Names).
#[derive(Debug)]
pub struct TestKafka {
    bootstrap: String,
}

impl TestKafka {
    /// The shared broker; the first call starts one (about three seconds) unless
    /// `BONGSU_TEST_KAFKA` names one.
    ///
    /// # Panics
    /// When no broker can be had, with the reason.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<TestKafka> = OnceLock::new();
        let kafka = SHARED.get_or_init(|| Self {
            bootstrap: std::env::var(BOOTSTRAP_VARIABLE)
                .ok()
                .filter(|b| !b.is_empty())
                .unwrap_or_else(start),
        });
        report::used("kafka");
        kafka
    }

    /// `host:port`, comma separated where there are several.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

fn start() -> String {
    let script = root().join("scripts/kafka");
    let dir = root().join(format!(".cache/kafka/test-{}", std::process::id()));
    // First the one who stops it, so that nothing is left behind even when the start is cut short.
    watch(&script, &dir);
    let output = Command::new(&script)
        .args(["start", "--dir"])
        .arg(&dir)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{} cannot be run: {e}", script.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().find_map(|l| l.strip_prefix("bootstrap=")) {
        Some(bootstrap) if output.status.success() => bootstrap.to_owned(),
        _ => panic!(
            "scripts/kafka start failed ({}): {text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

/// Starts a process, in a group of its own so that Ctrl-C does not reach it, that stops the broker
/// when this process is gone.
fn watch(script: &Path, dir: &Path) {
    let watchdog = Command::new("sh")
        .arg("-c")
        .arg("while kill -0 \"$1\" 2>/dev/null; do sleep 1; done; exec \"$2\" stop --dir \"$3\"")
        .args(["watchdog", &std::process::id().to_string()])
        .arg(script)
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    if let Err(e) = watchdog {
        panic!("no watchdog for the test broker: {e}");
    }
}
