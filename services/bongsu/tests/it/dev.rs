//! A running `bongsu dev`, and what it prints.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

pub(crate) fn scripts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts")
}

pub(crate) fn bongsu(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bongsu"));
    command.args(arguments).env("BONGSU_SCRIPTS", scripts());
    command
}

pub(crate) fn output(arguments: &[&str]) -> Output {
    bongsu(arguments).output().unwrap()
}

/// A pipeline on a given broker, under a prefix of its own.
pub(crate) struct Dev {
    child: Child,
    pub(crate) gateway: String,
    pub(crate) webhook: String,
}

impl Dev {
    pub(crate) fn start(bootstrap: &str, prefix: &str) -> Self {
        let mut child = bongsu(&["dev", "--bootstrap", bootstrap, "--port", "0"])
            .env("BONGSU__TOPICS__PREFIX", prefix)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
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
        let webhook = url_of("webhook")
            .trim_end_matches("/_sim/report")
            .to_owned();
        Self {
            child,
            gateway,
            webhook,
        }
    }

    /// SIGTERM; the drain must end with success.
    pub(crate) fn stop(mut self) {
        let killed = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(killed.success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the drain ended with {status}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}
