//! Arguments in, exit status out.

use std::process::ExitCode;

use clap::Parser;
use redrock_persist::args::{Args, Command};
use redrock_persist::{check, run};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(Command::Check { path, json }) = args.command {
        return check::command::run(&path, json);
    }
    match run::daemon(args.daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redrock-persist: {error:#}");
            ExitCode::FAILURE
        }
    }
}
