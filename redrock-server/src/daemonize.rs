//! `daemonize yes`: the server goes on in the background.
//!
//! The process starts itself anew, in a session of its own and without a terminal, and ends.
//! Nothing is forked: no thread or lock is copied half-way.

use std::io;
use std::process::{Command, Stdio};

/// Tells the process that it is the one in the background. Not an option: it has another prefix.
const MARK: &str = "REDROCKD_IN_BACKGROUND";

/// Whether this process is the one in the background. Then it becomes the leader of a session.
pub fn in_background() -> bool {
    if std::env::var_os(MARK).is_none() {
        return false;
    }
    if let Err(error) = rustix::process::setsid() {
        // A leader already, or not allowed: it serves all the same.
        eprintln!("setsid: {error}");
    }
    true
}

/// Starts the process anew in the background.
pub fn go_to_background() -> io::Result<()> {
    Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}
