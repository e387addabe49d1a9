//! The link to our master as a client: CLIENT LIST shows it, CLIENT KILL breaks it.
//!
//! The socket is the agent's. What stands here is made when the agent says that the link is up,
//! and goes with it; a kill makes the agent connect anew, as a link that broke by itself.

use crate::net::client::{ClientShared, Identity, state_flag};
use crate::server::Server;
use crate::state::{LinkState, MasterLink};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Brings the client in line with the link; true if the link was killed and must be broken.
pub fn follow_link(server: &Server, link: &mut MasterLink) -> bool {
    let up = matches!(link.state, LinkState::Connected | LinkState::Sync);
    if !up {
        link.client = None;
        return false;
    }
    let client = link
        .client
        .get_or_insert_with(|| Arc::new(client_of(server, &link.host, link.port)));
    let seen_ms = link.last_io_s.unwrap_or(0).saturating_mul(1000);
    client.last_seen_ms.fetch_max(seen_ms, Ordering::Relaxed);
    if !client.kill.load(Ordering::Relaxed) {
        return false;
    }
    link.client = None;
    true
}

fn client_of(server: &Server, host: &str, port: u16) -> ClientShared {
    let now_ms = crate::clock::unix_ms();
    let client = ClientShared {
        id: server.next_client_id(),
        addr: format!("{host}:{port}"),
        // Not ours to know.
        laddr: String::new(),
        fd: -1,
        created_ms: now_ms,
        flags: AtomicU32::new(state_flag::MASTER),
        resp: AtomicU8::new(2),
        ..ClientShared::default()
    };
    client.last_seen_ms.store(now_ms, Ordering::Relaxed);
    *client.identity.lock() = Identity {
        user: b"(superuser)".to_vec(),
        ..Identity::default()
    };
    client
}

impl Server {
    /// The clients of all that CLIENT LIST shows, connections and the link to our master, that are
    /// `wanted`.
    pub fn shown_clients(&self, wanted: impl Fn(&ClientShared) -> bool) -> Vec<Arc<ClientShared>> {
        // A killed one is on its way out.
        let shown =
            |client: &&Arc<ClientShared>| !client.kill.load(Ordering::Relaxed) && wanted(client);
        let clients = self.clients.read();
        let mut found: Vec<_> = clients.values().filter(shown).cloned().collect();
        drop(clients);
        let link = self.link_client();
        found.extend(link.as_ref().filter(shown).cloned());
        found
    }

    /// The client of this id, if CLIENT LIST shows it.
    pub fn shown_client(&self, id: u64) -> Option<Arc<ClientShared>> {
        let client = self.clients.read().get(&id).cloned();
        client
            .or_else(|| self.link_client().filter(|client| client.id == id))
            .filter(|client| !client.kill.load(Ordering::Relaxed))
    }

    fn link_client(&self) -> Option<Arc<ClientShared>> {
        let link = self.state.replication.lock();
        link.master.as_ref().and_then(|link| link.client.clone())
    }
}
