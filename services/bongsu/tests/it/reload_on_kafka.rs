//! SIGHUP: an account changes without a restart, and bad settings change nothing.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bongsu_testkit::{Names, TestKafka, wait_until};
use serde_json::Value;

use crate::dev::{prefixed, text};
use crate::pipeline_on_kafka::{Running, Twin};

const SOON: Duration = Duration::from_secs(60);

fn write_account(file: &Path, account: &str) {
    let text = format!(
        "[topics]\nchannels = [\"webhook\"]\npartitions = 2\nreplication = 1\n\
         min_insync_replicas = 1\n[channels.webhook.accounts.default]\n{account}\n"
    );
    std::fs::write(file, text).unwrap();
}

fn hang_up(running: &Running) {
    let pid = running.0.id().to_string();
    let sent = Command::new("kill").args(["-HUP", &pid]).status().unwrap();
    assert!(sent.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_changes_at_a_sighup_and_bad_settings_change_nothing() {
    let names = Names::new("reload");
    let bootstrap = TestKafka::shared().bootstrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bongsu.toml");
    let path = file.display().to_string();
    // By default nothing private is called.
    write_account(&file, "");
    let ask = |arguments: &[&str]| {
        let mut all = vec!["--config", path.as_str()];
        all.extend(arguments);
        prefixed(names.topic_prefix(), bootstrap, &all)
    };
    text(&mut ask(&["topics", "apply"]));
    let log = dir.path().join("log");
    let out = File::create(&log).unwrap();
    let mut run = ask(&["run", "fanout", "dispatch", "--channel", "webhook"]);
    run.stdout(out.try_clone().unwrap()).stderr(out);
    let running = Running(run.spawn().unwrap());
    let said = |words: &str| std::fs::read_to_string(&log).unwrap().contains(words);
    let twin = Twin::start(&[]);
    let url = format!("{}/hook/reload", twin.url);
    // Without the file, which is broken later.
    let tell = |arguments: &[&str]| prefixed(names.topic_prefix(), bootstrap, arguments);
    let outcome = |id: &str, count: &str| {
        text(tell(&["publish", "--sender", "s", "--id", id]).args(["--to", &url]));
        let watch = ["watch", "--json", "--from-beginning", "--sender", "s"];
        let seen = text(tell(&watch).args(["--count", count]));
        let last: Value = serde_json::from_str(seen.lines().last().unwrap()).unwrap();
        assert_eq!(last["event_id"], id);
        (
            last["outcome"].as_str().unwrap().to_owned(),
            last["reason"].as_str().unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(
        outcome("before", "1"),
        ("refused".to_owned(), "private_address".to_owned())
    );

    write_account(&file, "allow_private = true");
    hang_up(&running);
    wait_until(SOON, "the reload", || async {
        said("accounts are read anew")
    })
    .await;
    assert_eq!(outcome("after", "2").0, "accepted");

    write_account(&file, "allow_privat = true");
    hang_up(&running);
    wait_until(SOON, "the refusal", || async {
        said("everything stays as it was")
    })
    .await;
    assert_eq!(outcome("still", "3").0, "accepted");
}
