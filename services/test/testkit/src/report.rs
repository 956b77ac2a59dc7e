//! Tells `scripts/test` which tests ran on a real broker or database.

use std::fs::OpenOptions;
use std::io::Write;

/// Names the file that collects one line per use; without it nothing is written.
pub const REPORT_VARIABLE: &str = "BONGSU_TEST_REPORT";

/// Notes that the running test uses `what` (`kafka`, `postgres`).
///
/// The test's name is its thread's, as the test harness sets it.
///
/// # Panics
/// When the file cannot be written.
pub fn used(what: &str) {
    let Some(path) = std::env::var_os(REPORT_VARIABLE) else {
        return;
    };
    let package = std::env::var("CARGO_PKG_NAME").unwrap_or_default();
    let test = std::thread::current()
        .name()
        .unwrap_or("unnamed")
        .to_owned();
    let line = format!("{what}\t{package}\t{test}\n");
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(e) = written {
        panic!("{} cannot be written: {e}", path.display());
    }
}
