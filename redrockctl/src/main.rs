//! `redrockctl`: RedRock's administration on the command line.
//!
//! Talks to the server's `Admin` service over its Unix socket. Tables by
//! default, `--json` for programs. Exit code 0: done; 1: it failed, with the
//! reason and a hint on standard error; 2: wrong usage.

mod arguments;
mod commands;
mod json;
mod output;
mod progress;
mod table;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use redrock_proto::RpcError;

use arguments::Arguments;
use output::Output;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    match commands::run(&arguments, &output).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error, arguments.json);
            ExitCode::FAILURE
        }
    }
}

/// Standard output stays clean for results, so errors go to standard error in
/// both shapes. If even that is closed there is nobody left to tell.
fn report(error: &RpcError, as_json: bool) {
    let mut stderr = std::io::stderr().lock();
    let _ = if as_json {
        writeln!(stderr, "{}", json::error(error))
    } else if error.hint.is_empty() {
        writeln!(
            stderr,
            "redrockctl: {}: {}",
            error.code.name(),
            error.message
        )
    } else {
        writeln!(
            stderr,
            "redrockctl: {}: {}\n  hint: {}",
            error.code.name(),
            error.message,
            error.hint
        )
    };
}
