//! Starts the replication agent.

use std::process::ExitCode;

use clap::Parser;
use redrock_daemon::error_text::whole;
use redrock_replica::app;
use redrock_replica::config::Arguments;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads before `main`: two arenas instead of four for each processor, and pages that
/// nothing uses go back at once. What this process holds, values can't (I7).
// SAFETY: jemalloc takes the symbol for a pointer to a terminated string, which the slice begins with,
// and nothing else of that name is linked.
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8] = b"narenas:2,dirty_decay_ms:200,muzzy_decay_ms:0,tcache_max:16384\0";

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
