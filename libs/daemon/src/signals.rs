//! Signals, as redis-server treats them.
//!
//! SIGTERM and SIGINT ask for an orderly stop; a SIGINT when one was asked for
//! already ends the process at once with status 1, unsaved. SIGHUP is ignored
//! but for opening the log file anew. SIGPIPE is ignored by the runtime.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::logging::LogHandle;

/// A signal that asks for an orderly stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM
    Terminate,
    /// SIGINT
    Interrupt,
}

/// Installs the handlers for the life of the process. `stop` is cancelled by
/// the first SIGTERM or SIGINT; usually it isn't the token of the daemon's
/// tasks itself, because stopping may take time. Needs a tokio runtime, whose
/// life ends the listening.
pub fn install(stop: CancellationToken, log: Option<LogHandle>) -> io::Result<()> {
    let mut interrupted = false;
    let ask = move |signal| {
        stop.cancel();
        signal == StopSignal::Interrupt && std::mem::replace(&mut interrupted, true)
    };
    install_asking(ask, log)
}

/// As [`install`] for a daemon whose stop may be refused (a save that fails):
/// `ask` is called at each signal and says whether a stop that a signal asked
/// for is under way already.
pub fn install_asking(
    ask: impl FnMut(StopSignal) -> bool + Send + 'static,
    log: Option<LogHandle>,
) -> io::Result<()> {
    let handlers = Handlers {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hang_up: signal(SignalKind::hangup())?,
    };
    // Not tracked: it must hear a second SIGINT while the rest drains.
    let _detached = tokio::spawn(listen(handlers, ask, log));
    Ok(())
}

struct Handlers {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

async fn listen(
    mut handlers: Handlers,
    mut ask: impl FnMut(StopSignal) -> bool,
    log: Option<LogHandle>,
) {
    loop {
        tokio::select! {
            Some(()) = handlers.terminate.recv() => {
                tracing::warn!("Received SIGTERM scheduling shutdown...");
                ask(StopSignal::Terminate);
            }
            Some(()) = handlers.interrupt.recv() => {
                if ask(StopSignal::Interrupt) {
                    tracing::warn!("You insist... exiting now.");
                    std::process::exit(1);
                }
                tracing::warn!("Received SIGINT scheduling shutdown...");
            }
            Some(()) = handlers.hang_up.recv() => {
                if let Some(Err(error)) = log.as_ref().map(LogHandle::reopen) {
                    tracing::warn!(%error, "could not open the log file anew");
                }
            }
            else => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;
    use crate::logging::{LogConfig, init};

    #[tokio::test]
    async fn a_hang_up_opens_the_log_anew_and_a_terminate_asks_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let config = LogConfig {
            file: Some(path.clone()),
            ..LogConfig::new('M')
        };
        let log = init(&config).unwrap();
        let stop = CancellationToken::new();
        install(stop.clone(), Some(log)).unwrap();

        std::fs::remove_file(&path).unwrap();
        kill_process(getpid(), Number::HUP).unwrap();
        let reopened = async {
            while !path.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, reopened).await.unwrap();
        assert!(!stop.is_cancelled());
        kill_process(getpid(), Number::TERM).unwrap();
        tokio::time::timeout(limit, stop.cancelled()).await.unwrap();
    }
}
