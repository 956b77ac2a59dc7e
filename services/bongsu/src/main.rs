//! The one executable: command line, settings, composition of services.

mod cli;
mod compose;
mod config;
mod credentials;
mod dev;
mod error;
mod fcm;
mod lag;
mod metrics_reference;
mod ops;
mod output;
mod publish;
mod registry;
mod reload;
mod rules;
mod run;
mod simulate;
mod stops;
mod suppressions;
mod topics;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    bongsu_runtime::allocator::bound_arenas();
    // Two providers may be linked; one is chosen before any TLS is spoken.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        output::complain("another TLS provider was chosen already");
    }
    let command_line = match cli::CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(told) => return error::usage(&told),
    };
    match command_line.execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("{error:#}"));
            error::exit_code(&error)
        }
    }
}
