//! The server's binary.

use redrock_daemon::error_text::whole;
use redrock_server::config::arguments::{self, Invocation};
use redrock_server::{REDIS_VERSION, app, config, daemonize, process_title};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    process_title::prepare();
    let command_line = match arguments::parse(std::env::args_os().skip(1)) {
        Invocation::Run(command_line) => command_line,
        Invocation::Help => {
            print!("{}", arguments::USAGE);
            return ExitCode::SUCCESS;
        }
        Invocation::Version => {
            let own = env!("CARGO_PKG_VERSION");
            println!("RedRock server v={own} redis={REDIS_VERSION} malloc=jemalloc bits=64");
            return ExitCode::SUCCESS;
        }
    };
    let loaded = std::env::current_dir()
        .map_err(|error| config::LoadError::new(format!("working directory: {error}")))
        .and_then(|dir| {
            config::load(
                &command_line,
                std::env::vars_os(),
                &mut std::io::stdin(),
                &dir,
            )
        });
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if loaded.config.daemonize && !daemonize::in_background() {
        return go_to_background(command_line.stdin);
    }
    match app::run(loaded, command_line.allow_failpoints) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", whole(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// The process in the background reads its configuration again: standard input is gone by then.
fn go_to_background(read_stdin: bool) -> ExitCode {
    if read_stdin {
        eprintln!("daemonize yes can't go with a configuration from standard input");
        return ExitCode::FAILURE;
    }
    match daemonize::go_to_background() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("daemonize: {error}");
            ExitCode::FAILURE
        }
    }
}
