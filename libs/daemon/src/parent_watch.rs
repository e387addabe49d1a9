//! Companions end when their server has gone, and not before.
//!
//! A spawned companion watches its parent through a pidfd: immediate, and
//! without confusion by a reused pid. One that was started apart (another
//! container, other pids) probes the server's lock file instead.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use crate::role_lock::{Role, is_held};

/// How often a lock file is probed.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// Failures to probe in a row after which the server counts as gone: the data
/// directory itself has vanished.
const PROBE_FAILURES_MAX: u32 = 25;

/// A server being watched.
#[derive(Debug)]
pub struct ServerWatch {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Gone,
    Process(AsyncFd<OwnedFd>),
    LockFile(PathBuf),
}

impl ServerWatch {
    /// Watches the parent, which must be the process `server_pid` that spawned
    /// us; if it died before we looked, [`gone`](ServerWatch::gone) returns at
    /// once. Needs a tokio runtime with IO.
    pub fn parent(server_pid: u32) -> io::Result<ServerWatch> {
        let pid = parse_pid(server_pid)?;
        let watch = ServerWatch::process(server_pid)?;
        // Asked after opening: if it is still our parent now, the descriptor
        // can't be that of a later process with the same number.
        match getppid() {
            Some(parent) if parent == pid => Ok(watch),
            _ => Ok(ServerWatch { kind: Kind::Gone }),
        }
    }

    /// Watches any process by its number.
    pub fn process(pid: u32) -> io::Result<ServerWatch> {
        match pidfd_open(parse_pid(pid)?, PidfdFlags::NONBLOCK) {
            Ok(descriptor) => {
                // SAFETY: the descriptor is open, owned by the `AsyncFd` from
                // here on, and neither replaced nor closed before it.
                let registered = unsafe { AsyncFd::register(descriptor) };
                Ok(ServerWatch {
                    kind: Kind::Process(registered.map_err(io::Error::from)?),
                })
            }
            Err(rustix::io::Errno::SRCH) => Ok(ServerWatch { kind: Kind::Gone }),
            Err(error) => Err(error.into()),
        }
    }

    /// Watches whoever holds the server's lock on a data directory.
    pub fn lock_file(data_dir: &Path) -> ServerWatch {
        ServerWatch {
            kind: Kind::LockFile(data_dir.to_owned()),
        }
    }

    /// Returns when the server has gone. Cancel-safe.
    pub async fn gone(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Gone => Ok(()),
            Kind::Process(descriptor) => descriptor.readable().await.map(|_| ()),
            Kind::LockFile(data_dir) => lock_released(data_dir).await,
        }
    }

    /// The stop policy of a companion: returns when the server has gone, or
    /// `patience` after `stop` was cancelled (SIGTERM). A supervisor that
    /// signals all processes together so doesn't take the persister from a
    /// server that still wants to save.
    pub async fn gone_or_stopped(
        &self,
        stop: &CancellationToken,
        patience: Duration,
    ) -> io::Result<()> {
        tokio::select! {
            gone = self.gone() => gone,
            () = async {
                stop.cancelled().await;
                tokio::time::sleep(patience).await;
            } => Ok(()),
        }
    }
}

async fn lock_released(data_dir: &Path) -> io::Result<()> {
    let mut failures = 0;
    loop {
        match is_held(data_dir, Role::Server) {
            Ok(true) => failures = 0,
            Ok(false) => return Ok(()),
            Err(error) => {
                failures += 1;
                if failures >= PROBE_FAILURES_MAX {
                    return Err(error);
                }
            }
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

fn parse_pid(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{pid} is no pid")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::role_lock::RoleLock;

    #[tokio::test]
    async fn the_end_of_a_process_is_seen() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let watch = ServerWatch::process(child.id()).unwrap();
        let stop = CancellationToken::new();
        {
            let mut gone = std::pin::pin!(watch.gone_or_stopped(&stop, Duration::ZERO));
            let early = tokio::time::timeout(Duration::from_millis(50), &mut gone).await;
            assert!(early.is_err(), "it is still alive");
            child.kill().unwrap();
            gone.await.unwrap();
        }
        child.wait().unwrap();
        // Reaped: the number may be free or a stranger's, never our server's.
        ServerWatch::parent(child.id())
            .unwrap()
            .gone()
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_released_lock_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let lock = RoleLock::acquire(dir.path(), Role::Server).unwrap();
        let watch = ServerWatch::lock_file(dir.path());
        assert!(
            tokio::time::timeout(Duration::from_millis(300), watch.gone())
                .await
                .is_err()
        );
        drop(lock);
        watch.gone().await.unwrap();
    }

    #[tokio::test]
    async fn a_stopped_companion_waits_for_its_server_only_so_long() {
        let watch = ServerWatch::process(std::process::id()).unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        watch
            .gone_or_stopped(&stop, Duration::from_millis(20))
            .await
            .unwrap();
    }
}
