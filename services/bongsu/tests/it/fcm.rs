//! `bongsu fcm topics` against the twin.

use std::path::Path;
use std::process::{Command, Output};

use bongsu_simulators::simulators::{Running, Settings as Twins};
use bongsu_simulators::{Kind, Simulators};
use serde_json::{Value, json};

use crate::dev::bongsu;

/// The command against the account `default` of the twin.
fn topics(twin: &Running, dir: &Path, arguments: &[&str]) -> Output {
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let account = "BONGSU__CHANNELS__FCM__ACCOUNTS__DEFAULT__";
    let service_account = file("account.json", &twin.service_account().unwrap().file);
    let mut command: Command = bongsu(&["fcm", "topics"]);
    command
        .args(arguments)
        .env(
            "BONGSU__CHANNELS__FCM__CLIENT__CA_FILE",
            file("ca.pem", twin.authority()),
        )
        .env(
            format!("{account}SERVICE_ACCOUNT"),
            format!("file:{service_account}"),
        )
        .env(format!("{account}ENDPOINT"), twin.tls_url())
        .env(format!("{account}TOPICS_ENDPOINT"), twin.tls_url())
        .env(
            format!("{account}TOKEN_ENDPOINT"),
            format!("{}/token", twin.url()),
        );
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_file_are_subscribed_and_what_failed_is_named_by_its_line() {
    let twins = Simulators::start(Twins::of(&[Kind::Fcm])).await.unwrap();
    let twin = twins.get(Kind::Fcm).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens.txt");
    let mut lines: Vec<String> = (0..1_500).map(|n| format!("token:{n:08}")).collect();
    lines[1_200] = "fid:cAbcdefghijklmnopqrstu".into();
    std::fs::write(&tokens, lines.join("\n")).unwrap();
    let tokens = tokens.display().to_string();
    let ask = |act: &str, account: &str, more: &[&str]| {
        let mut arguments = vec![
            act,
            "--account",
            account,
            "--topic",
            "news",
            "--tokens",
            &tokens,
        ];
        arguments.extend(more);
        topics(twin, dir.path(), &arguments)
    };
    let done = ask("subscribe", "default", &["--json"]);
    assert_eq!(done.status.code(), Some(1), "one failed: {done:?}");
    let told = String::from_utf8(done.stdout).unwrap();
    let told: Vec<Value> = told
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(told.len(), 1_501);
    assert_eq!(told[0], json!({"line": 1, "result": "subscribed"}));
    assert_eq!(told[1_200]["line"], 1_201);
    assert!(
        told[1_200]["result"]
            .as_str()
            .unwrap()
            .contains("no registration token")
    );
    let sum = json!({"topic": "news", "tokens": 1_500, "done": 1_499, "failed": 1});
    assert_eq!(told[1_500], sum);
    assert_eq!(twin.fcm_topics().unwrap()["news"], 1_499);
    let progress = String::from_utf8(done.stderr).unwrap();
    assert!(
        progress.contains("1500 tokens: 1499 subscribed, 1 failed"),
        "{progress}"
    );
    assert!(!progress.contains("00000007"), "no token is shown");

    let undone = ask("unsubscribe", "default", &[]);
    let told = String::from_utf8(undone.stdout).unwrap();
    assert!(
        told.ends_with("1499 of 1500 tokens unsubscribed at topic news\n"),
        "{told}"
    );
    assert_eq!(twin.fcm_topics().unwrap()["news"], 0);
    let unknown = ask("subscribe", "nobody", &[]);
    assert_eq!(unknown.status.code(), Some(64), "{unknown:?}");
}
