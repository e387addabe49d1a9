//! The thread that shakes hands and passes on what replicas are sent. It ends with the server, and
//! what it has at hand ends with it.

use super::handshake::{self, Entering};
use super::passing::{self, Passing};
use crate::server::Server;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Jobs that may wait; what comes beyond is refused like a client too many.
const JOBS_MAX: usize = 1024;

/// What it does.
pub(in crate::net) enum Job {
    /// Lets somebody in.
    Enter(Entering),
    /// Passes on what a replica is sent, and what it says.
    Pass(Box<Passing>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Thread {
    jobs: mpsc::Sender<Job>,
    stop: CancellationToken,
    handle: JoinHandle<()>,
}

impl Thread {
    pub(super) fn start(server: Arc<Server>) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(JOBS_MAX);
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let until = stop.clone();
        let handle = std::thread::Builder::new()
            .name("tls".into())
            .spawn(move || {
                let watch = server.fate.watch("tls");
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, serve(server.clone(), waiting, until));
                watch.done();
            })?;
        Ok(Self { jobs, stop, handle })
    }

    pub(super) fn jobs(&self) -> mpsc::Sender<Job> {
        self.jobs.clone()
    }

    pub(super) fn stop(self) {
        self.stop.cancel();
        if self.handle.join().is_err() {
            tracing::error!("the thread of TLS panicked");
        }
    }
}

async fn serve(server: Arc<Server>, mut jobs: mpsc::Receiver<Job>, stop: CancellationToken) {
    loop {
        let job = tokio::select! {
            job = jobs.recv() => job,
            () = stop.cancelled() => return,
        };
        let Some(job) = job else { return };
        let server = server.clone();
        tokio::task::spawn_local(async move {
            match job {
                Job::Enter(entering) => handshake::enter(&server, entering).await,
                Job::Pass(passing) => passing::pass(&server, *passing).await,
            }
        });
    }
}
