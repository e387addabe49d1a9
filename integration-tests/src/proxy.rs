//! A proxy that can cut or stop a link.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
struct State {
    /// New connections are refused.
    cut: AtomicBool,
    /// Nothing is passed on.
    stopped: AtomicBool,
    ended: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

/// Passes connections on to a port of this host.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    state: Arc<State>,
}

impl Proxy {
    /// Listens on a free port; connections to where nobody listens end at once.
    pub fn to(target: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.ended.load(Ordering::Acquire) {
                    return;
                }
                let server = TcpStream::connect(("127.0.0.1", target));
                if let (false, Ok(server)) = (shared.cut.load(Ordering::Acquire), server) {
                    // A connection that fails here is one that ends early.
                    let _ = shared.pass(client, server);
                }
            }
        });
        Ok(Self { port, state })
    }

    /// Ends all connections and refuses new ones until [`Proxy::heal`].
    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::Release);
        for socket in self.state.sockets().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Connections are passed on again.
    pub fn heal(&self) {
        self.state.cut.store(false, Ordering::Release);
    }

    /// Stops passing bytes on, or goes on with it.
    pub fn stop(&self, stopped: bool) {
        self.state.stopped.store(stopped, Ordering::Release);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Release);
        self.cut();
        // Wakes the accepting thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    fn sockets(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.sockets
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn pass(self: &Arc<Self>, client: TcpStream, server: TcpStream) -> std::io::Result<()> {
        self.sockets()
            .extend([client.try_clone()?, server.try_clone()?]);
        for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            let shared = self.clone();
            std::thread::spawn(move || shared.pump(from, to));
        }
        Ok(())
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut chunk = vec![0; 64 << 10];
        loop {
            while self.stopped.load(Ordering::Acquire) && !self.ended.load(Ordering::Acquire) {
                std::thread::sleep(PAUSE);
            }
            let count = from.read(&mut chunk).unwrap_or(0);
            let bytes = chunk.get(..count).unwrap_or_default();
            if bytes.is_empty() || to.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
