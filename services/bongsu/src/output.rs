//! What people and programs read: results on standard output, complaints on standard error.

use std::io::Write as _;

use serde::Serialize;

/// Prints one line; a closed pipe ends the program's interest, not the program.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        tracing::debug!("standard output is closed");
    }
}

/// Prints a value as one line of JSON.
pub(crate) fn say_json<T: Serialize>(value: &T) {
    match serde_json::to_string(value) {
        Ok(text) => say(&text),
        Err(error) => complain(&error.to_string()),
    }
}

/// Prints one line for people on standard error.
pub(crate) fn complain(line: &str) {
    if writeln!(std::io::stderr().lock(), "{line}").is_err() {
        tracing::debug!("standard error is closed");
    }
}
