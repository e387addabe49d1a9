//! The command line.

use clap::{Parser, Subcommand};
use redrock_daemon::companion_args::CompanionArgs;

use crate::backup::command::{BackupArgs, ListArgs, VerifyArgs};
use crate::check::command::CheckArgs;
use crate::restore::command::RestoreArgs;

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
    #[command(flatten)]
    pub companion: CompanionArgs,

    /// For tests: obey the variable REDROCK_FAILPOINTS.
    #[arg(long, hide = true)]
    pub allow_failpoints: bool,
}

/// Things to do without a server.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Verify RDB files, append-only files and manifests; changes nothing but with --repair.
    ///
    /// Exits with 0 if everything is sound (or has been repaired), 1 if something is damaged, 2 if
    /// something can't be read or written.
    Check(CheckArgs),
    /// Restore to a point in time, into a new folder; the sources stay as they are.
    ///
    /// Exits with 0 if the folder is there, whole and checked, 1 if the time can't be reached or
    /// the source is damaged, 2 if something could not be read or written.
    Restore(RestoreArgs),
    /// Make a backup set: the server's persister does it if one runs on the data directory.
    Backup(BackupArgs),
    /// List backup sets: the time they cover, their size, and what of it is theirs alone.
    List(ListArgs),
    /// Verify backup sets: reads and compares every byte, and loads what a server would load.
    ///
    /// Exits with 0 if all are sound, 1 if one is damaged, 2 if one can't be read.
    Verify(VerifyArgs),
}
