//! Starts the replication agent.

use std::process::ExitCode;

use clap::Parser;
use redrock_daemon::error_text::whole;
use redrock_replica::app;
use redrock_replica::config::Arguments;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redrock-replica: {}", whole(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .thread_name("replica")
        .enable_all()
        .build()?;
    let result = runtime.block_on(app::run(arguments));
    // A blocking read of a dead disk must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}
