//! TLS on clients' connections.
//!
//! A thread of its own ([`thread`]) shakes hands, so that no client waits for another one's signatures, and
//! passes on what replicas are sent ([`passing`]): their agent has no part in the encryption. In
//! between a connection is its worker's like any other: [`stream`] reads and writes plaintext, and a
//! worker sees no difference.
//!
//! The context in force is replaced as a whole by CONFIG SET; connections keep the one they began with.

mod handshake;
mod passing;
mod session;
pub(in crate::net) mod stream;
mod thread;

pub use handshake::Entered;
pub(in crate::net) use handshake::Entering;
pub(in crate::net) use passing::Passing;
pub(in crate::net) use thread::Job;

use crate::config;
use crate::server::Server;
use parking_lot::{Mutex, RwLock};
use redrock_tls::{Built, TlsError, client_config, server_config};
use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;
use thread::Thread;
use tokio::sync::mpsc;

/// The options whose change makes a new context.
const OPTIONS: &[&str] = &[
    "tls-port",
    "tls-replication",
    "tls-cluster",
    "tls-cert-file",
    "tls-key-file",
    "tls-key-file-pass",
    "tls-client-cert-file",
    "tls-client-key-file",
    "tls-client-key-file-pass",
    "tls-ca-cert-file",
    "tls-ca-cert-dir",
    "tls-auth-clients",
    "tls-protocols",
    "tls-ciphers",
    "tls-ciphersuites",
    "tls-prefer-server-ciphers",
    "tls-session-caching",
    "tls-session-cache-size",
    "tls-session-cache-timeout",
];

const NOT_UPDATED: &str = "Unable to update TLS configuration. Check server logs.";

/// What new connections begin with.
#[derive(Debug, Default, Clone)]
struct Contexts {
    /// Where we are the server.
    server: Option<Arc<ServerConfig>>,
    /// Where we are the client: MIGRATE with `tls-cluster`.
    client: Option<Arc<ClientConfig>>,
}

/// What a server has of TLS. See the module.
#[derive(Debug, Default)]
pub struct Tls {
    contexts: RwLock<Contexts>,
    thread: Mutex<Option<Thread>>,
}

impl Tls {
    /// Reads the files that the configuration in force names, if anything needs them.
    pub fn start(server: &Arc<Server>) -> anyhow::Result<()> {
        server.tls.take_over(server, &server.config().tls)
    }

    /// Makes CONFIG SET of the options replace the context. Called before the listeners' hook is
    /// added, because a port that opens needs one.
    pub fn add_hook(server: &Arc<Server>) {
        let weak = Arc::downgrade(server);
        let hook = move |_: &config::Config, new: &config::Config| {
            let Some(server) = weak.upgrade() else {
                return Ok(());
            };
            server.tls.take_over(&server, &new.tls).map_err(|error| {
                tracing::warn!("{error:#}");
                NOT_UPDATED.to_owned()
            })
        };
        server.config_hooks.write().add(OPTIONS, hook);
    }

    fn take_over(&self, server: &Arc<Server>, options: &config::Tls) -> anyhow::Result<()> {
        let contexts = contexts(options)?;
        if options.port != 0 {
            let mut thread = self.thread.lock();
            if thread.is_none() {
                *thread = Some(Thread::start(server.clone())?);
            }
        }
        *self.contexts.write() = contexts;
        Ok(())
    }

    /// What a connection that comes now begins with; `None`: it can't.
    pub(in crate::net) fn context(&self) -> Option<Arc<ServerConfig>> {
        self.contexts.read().server.clone()
    }

    /// What MIGRATE connects with; `None`: without TLS.
    pub fn client_context(&self) -> Option<Arc<ClientConfig>> {
        self.contexts.read().client.clone()
    }

    /// Where work for the thread goes.
    pub(in crate::net) fn jobs(&self) -> Option<mpsc::Sender<Job>> {
        self.thread.lock().as_ref().map(Thread::jobs)
    }

    /// Ends the thread, and with it what it still passed on.
    pub fn stop(&self) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            thread.stop();
        }
    }
}

/// Both sides' contexts, as far as they are needed. As in Redis that of the server always is, so
/// that a certificate is asked for whatever is turned on.
fn contexts(options: &config::Tls) -> Result<Contexts, TlsError> {
    if !options.is_used() {
        return Ok(Contexts::default());
    }
    let server = server_config(&options.context)?;
    let mut notices = server.notices;
    let mut client = None;
    if options.replication || options.cluster {
        // The agent makes its own for links: what it would fail for is told here.
        let Built {
            config,
            notices: more,
        } = client_config(&options.context)?;
        notices.extend(more);
        client = options.cluster.then_some(config);
    }
    notices.sort();
    notices.dedup();
    for notice in notices {
        tracing::warn!("{notice}");
    }
    Ok(Contexts {
        server: Some(server.config),
        client,
    })
}
