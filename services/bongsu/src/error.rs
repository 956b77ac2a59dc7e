//! Exit codes: 0 clean, 1 failure, 64 wrong settings or usage, 70 drain deadline missed.

use std::process::ExitCode;

use bongsu_gateway::GatewayError;
use bongsu_runtime::settings::SettingsError;
use bongsu_runtime::tasks::TaskDied;

/// The command was understood but cannot be done as asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// A promise was broken in a run that watches over promises.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub(crate) String);

/// Prints what clap has to say: help and version are a success, anything else is wrong usage.
pub(crate) fn usage(told: &clap::Error) -> ExitCode {
    if told.print().is_err() {
        tracing::debug!("nobody reads what the command line has to say");
    }
    if told.use_stderr() {
        ExitCode::from(64)
    } else {
        ExitCode::SUCCESS
    }
}

/// The exit code an error asks for.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<SettingsError>() || error.is::<Usage>() {
        return ExitCode::from(64);
    }
    let died = error
        .downcast_ref::<TaskDied>()
        .and_then(|d| d.error.as_ref());
    if let Some(GatewayError::DrainMissed { .. }) = died.and_then(|e| e.downcast_ref()) {
        return ExitCode::from(70);
    }
    ExitCode::FAILURE
}
