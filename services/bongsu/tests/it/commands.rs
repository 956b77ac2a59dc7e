use serde_json::Value;

use crate::dev::{bongsu, output};

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
fn every_fault_of_the_settings_is_told_at_once_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bongsu.toml");
    std::fs::write(&file, "[fanout]\nslott = \"1\"\n[gatewayy]\n").unwrap();
    let path = file.display().to_string();
    let checked = output(&["--config", &path, "config", "check"]);
    assert_eq!(checked.status.code(), Some(64));
    let told = String::from_utf8_lossy(&checked.stderr);
    assert!(
        told.contains("fanout.slott") && told.contains("gatewayy"),
        "{told}"
    );

    std::fs::write(
        &file,
        "[[gateway.keys]]\nid = \"k\"\nsecret = \"hunter2hunter2hunter2\"\nsenders = [\"*\"]\nscopes = [\"publish\"]\n",
    )
    .unwrap();
    let printed = output(&["--config", &path, "config", "print"]);
    assert!(printed.status.success());
    let text = String::from_utf8_lossy(&printed.stdout);
    assert!(text.contains("***") && !text.contains("hunter2"), "{text}");
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
