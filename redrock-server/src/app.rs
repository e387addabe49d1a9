//! Starts, runs and drains the server.

use crate::config::Loaded;
use crate::keyspace::Keyspace;
use crate::keyspace::position::Positioner;
use crate::net::listener::{ACCEPT_QUEUE_MAX, Accepted, run_worker};
use crate::server::Server;
use anyhow::Context as _;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Runs until told to stop.
pub fn run(loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { config, notices } = loaded;
    for notice in notices {
        tracing::warn!("{notice}");
    }
    let positioner = Positioner::new((rand::random(), rand::random()));
    let keyspace = Keyspace::new(config.databases, positioner);
    let workers = config.workers.max(1);
    let port = config.port;
    let run_id: String = (0..40).map(|_| char::from(b"0123456789abcdef"[rand::random_range(0..16)])).collect();
    let server = Arc::new(Server::new(config, keyspace, run_id, workers));
    crate::keyspace::tiering::start::start(&server)?;
    let mut queues = Vec::new();
    for index in 0..workers {
        let (sender, receiver) = mpsc::channel(ACCEPT_QUEUE_MAX);
        queues.push(sender);
        let Some(mailbox) = server.mailbox(index).cloned() else { continue };
        let server = server.clone();
        std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || run_worker(server, index, mailbox, receiver))
            .context("start worker")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.context("bind")?;
        let mut next = 0;
        loop {
            let (stream, _) = listener.accept().await.context("accept")?;
            let queue = &queues[next % queues.len()];
            next += 1;
            queue.send(Accepted::Tcp(stream.into_std()?)).await.context("worker is gone")?;
        }
    })
}
