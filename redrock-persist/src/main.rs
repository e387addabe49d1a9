//! Arguments in, exit status out.

use std::process::ExitCode;

use clap::Parser;
use redrock_persist::args::{Args, Command, DaemonArgs};
use redrock_persist::{backup, check, error, restore, run};
use redrock_proto::ErrorCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads before `main`: two arenas instead of four for each processor, and pages that
/// nothing uses go back at once. What this process holds, values can't (I7).
// SAFETY: jemalloc takes the symbol for a pointer to a terminated string, which the slice begins with,
// and nothing else of that name is linked.
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8] = b"narenas:2,dirty_decay_ms:200,muzzy_decay_ms:0,tcache_max:16384\0";

fn main() -> ExitCode {
    let args = Args::parse();
    match args.command {
        Some(command) => without_server(command, &args.daemon),
        None => match run::daemon(args.daemon) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("redrock-persist: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn without_server(command: Command, daemon: &DaemonArgs) -> ExitCode {
    if let Err(error) = run::arm_failpoints(daemon) {
        eprintln!("redrock-persist: {error:#}");
        return ExitCode::from(2);
    }
    match command {
        Command::Check(args) => check::command::run(&args),
        Command::Restore(args) => exit(restore::command::run(args)),
        Command::Backup(args) => exit(backup::command::backup(args)),
        Command::List(args) => exit(backup::command::list(args)),
        Command::Verify(args) => backup::command::run_verify(&args),
    }
}

/// 0 done, 1 it can't be done with these files, 2 something failed.
fn exit(result: error::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!("redrock-persist: {}", error.message);
    if !error.hint.is_empty() {
        eprintln!("hint: {}", error.hint);
    }
    match error.code {
        ErrorCode::NotFound | ErrorCode::Invalid | ErrorCode::Corrupt => ExitCode::from(1),
        _ => ExitCode::from(2),
    }
}
