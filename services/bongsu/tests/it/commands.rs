use serde_json::Value;

use crate::dev::{bongsu, output, refusal, scripts, text};

#[test]
fn the_demo_on_the_local_log_keeps_every_promise() {
    let run = output(&[
        "dev", "--local", "--demo", "--once", "--port", "0", "--json",
    ]);
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let summary: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(summary["sent"], 810);
    assert_eq!(summary["outcomes"], 810);
    for broken in ["lost", "duplicates", "order_violations"] {
        assert_eq!(summary[broken], 0, "{broken}");
    }
}

#[test]
fn unknown_keys_and_contradictions_are_told_in_one_list() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bongsu.toml");
    let wrong = "[fanout]\nslott = \"1\"\n[gatewayy]\n[topics]\npartitions = 0\n";
    std::fs::write(&file, wrong).unwrap();
    let path = file.display().to_string();
    let (code, told) = refusal(&mut bongsu(&["--config", &path, "config", "check"]));
    assert_eq!(code, Some(64));
    for key in [
        "fanout.slott",
        "gatewayy",
        "topics.partitions",
        "gateway.keys",
    ] {
        assert!(told.contains(key), "{key} is missing: {told}");
    }
    // No service starts with them, and no broker is asked.
    for command in [&["run", "fanout"][..], &["lag"], &["topics", "plan"]] {
        let (code, told) = refusal(bongsu(command).args(["--config", &path]));
        assert_eq!(code, Some(64), "{told}");
    }
    let (code, told) = refusal(&mut bongsu(&["-c", "/nowhere.toml", "config", "check"]));
    assert_eq!(code, Some(64), "{told}");
}

#[test]
fn a_secret_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bongsu.toml");
    let path = file.display().to_string();
    let secrets = "[store]\nurl = \"postgres://u:hunter2@h/d\"\n\
        [[gateway.keys]]\nid = \"k\"\nsecret = \"hunter2hunter2hunter2\"\nsenders = [\"*\"]\n\
        scopes = [\"publish\"]\n[kafka.sasl]\nmechanism = \"PLAIN\"\nusername = \"u\"\n\
        password = \"hunter2\"\n[registry]\nurl = \"http://r\"\nusername = \"u\"\n\
        [channels.webhook.accounts.default]\nsecrets = [\"whsec_hunter2\"]\n";
    std::fs::write(&file, secrets).unwrap();
    let told = text(
        bongsu(&["--config", &path, "config", "print"])
            .env("BONGSU__REGISTRY__PASSWORD", "hunter2"),
    );
    assert!(!told.contains("hunter2"), "{told}");
    assert_eq!(told.matches("\"***\"").count(), 5, "{told}");

    // Nor in a complaint: bad settings beside it, a line that cannot be read.
    for broken in [
        format!("{secrets}secret = 1\n"),
        secrets.replace("[store]", "[storee]"),
        secrets.replace("@h/d\"", "@h/d"),
    ] {
        std::fs::write(&file, broken).unwrap();
        let (code, told) = refusal(&mut bongsu(&["--config", &path, "config", "check"]));
        assert_eq!(code, Some(64), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn the_reference_of_the_settings_is_the_documented_one() {
    let page = std::fs::read_to_string(scripts().join("../docs/configuration.md")).unwrap();
    // Whatever the settings are: who asks for the reference may be mending them.
    let told = text(bongsu(&["config", "docs"]).env("BONGSU__NONSENSE", "1"));
    assert_eq!(told, page, "scripts/check --fix writes it anew");
}

#[test]
fn the_reference_of_the_metrics_is_the_documented_one() {
    let page = std::fs::read_to_string(scripts().join("../docs/metrics.md")).unwrap();
    let told = text(bongsu(&["config", "metrics"]).env("BONGSU__NONSENSE", "1"));
    assert_eq!(told, page, "scripts/check --fix writes it anew");
}

#[test]
fn wrong_usage_ends_with_64_and_help_with_0() {
    for wrong in [
        &["fly"][..],
        &["run"],
        &["run", "fanout", "--channel", "pigeon"],
        &["dev", "--port", "65535"],
        &["watch", "--count", "0"],
        &["simulate", "pigeon"],
    ] {
        let (code, told) = refusal(&mut bongsu(wrong));
        assert_eq!(code, Some(64), "{wrong:?}: {told}");
    }
    assert!(text(&mut bongsu(&["--help"])).contains("topics"));
    let script = text(&mut bongsu(&["completion", "bash"]));
    assert!(script.contains("_bongsu()") && script.contains("topics"));
}

#[test]
fn a_stop_that_means_nothing_is_refused_before_a_broker_is_asked() {
    let why = ["--why", "a test", "--who", "ann"];
    for (wrong, told) in [
        (&["stop", "channel", "pigeon"][..], "webhook, discord"),
        (&["stop", "account", "default"], "--channel"),
        (
            &["stop", "sender", "s", "--channel", "webhook"],
            "for accounts only",
        ),
        (&["start", "sender", ""], "empty"),
        (&["stop", "template", "welcome"], "not built"),
        (&["stop", "sender", "s", "--until", "soon"], "30m"),
        (
            &["stop", "sender", "s", "--until", "2020-01-01T00:00:00Z"],
            "has passed",
        ),
    ] {
        let mut command = bongsu(wrong);
        let (code, complaint) = refusal(command.args(why).args(["--bootstrap", "127.0.0.1:1"]));
        assert_eq!(code, Some(64), "{wrong:?}: {complaint}");
        assert!(complaint.contains(told), "{wrong:?}: {complaint}");
    }
    let (code, complaint) = refusal(&mut bongsu(&["stop", "sender", "s", "--who", "ann"]));
    assert_eq!(code, Some(64));
    assert!(complaint.contains("--why"), "{complaint}");
}

#[test]
fn a_channel_without_topics_is_refused_with_the_way_out() {
    let run = ["run", "dispatch", "--channel", "apns"];
    let (code, told) = refusal(&mut bongsu(&run));
    assert_eq!(code, Some(64), "{told}");
    assert!(
        told.contains("topics.channels") && told.contains("topics apply"),
        "{told}"
    );
    let nothing = ["config", "check", "fanout"];
    let (code, told) = refusal(bongsu(&nothing).env("BONGSU__TOPICS__CHANNELS", "[]"));
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("topics.channels"), "{told}");
}

#[test]
fn a_bad_event_is_refused_before_anything_is_published() {
    // No broker is asked: the event is checked first.
    let refused = bongsu(&[
        "publish",
        "--sender",
        "s",
        "--to",
        "x",
        "--channel",
        "pigeon",
    ])
    .args(["--bootstrap", "127.0.0.1:1"])
    .output()
    .unwrap();
    assert_eq!(refused.status.code(), Some(64));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(
        told.contains("plan.channels[0]") && told.contains("webhook, discord"),
        "{told}"
    );
}
