//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use redrock_daemon::logging::Level;

/// Snapshots, append-only files and backups of a RedRock server.
///
/// Started by redrock-server, or on its own beside a server with `companions external`. Its
/// settings (file names, save points, rewrites, ...) come from that server.
#[derive(Debug, Parser)]
#[command(name = "redrock-persist", version, about)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// What the daemon needs to begin.
#[derive(Debug, Clone, clap::Args)]
pub struct DaemonArgs {
    /// Data directory, that of the server.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// Directory of the Unix sockets; `<dir>/run` if not given.
    #[arg(long, value_name = "DIR")]
    pub socket_dir: Option<PathBuf>,

    /// Stop when this process, our parent, has gone. Without it the daemon goes on when its
    /// server restarts.
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,

    /// Work for this run of the server only; needs --epoch.
    #[arg(long, value_name = "ID", requires = "epoch")]
    pub run_id: Option<String>,

    /// Number of that run.
    #[arg(long, value_name = "N", requires = "run_id")]
    pub epoch: Option<u64>,

    /// debug, verbose, notice, warning or nothing. The server's `loglevel` takes over.
    #[arg(long, value_name = "LEVEL", default_value = "notice")]
    pub log_level: Level,

    /// Log file; standard output if not given.
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// One JSON object a log line.
    #[arg(long)]
    pub log_json: bool,

    /// For tests: obey the variable REDROCK_FAILPOINTS.
    #[arg(long, hide = true)]
    pub allow_failpoints: bool,
}

/// Things to do without a server.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Verify RDB files, append-only files and manifests; changes nothing.
    ///
    /// Exits with 0 if everything is sound, 1 if something is damaged, 2 if it can't be read.
    Check {
        /// A file, an append-only folder, or a data directory.
        path: PathBuf,
        /// One JSON object a file.
        #[arg(long)]
        json: bool,
    },
}
