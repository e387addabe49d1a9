//! A proxy that can cut or stop a link, and looks at a server until it is as wanted.

use anyhow::Context as _;
pub(crate) use redrock_integration_tests::daemons::{companions_up, info, until};
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::Client;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(10);

#[derive(Default)]
struct State {
    /// New connections are refused.
    cut: AtomicBool,
    /// Nothing is passed on.
    stopped: AtomicBool,
    ended: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

/// Passes connections on to a port of this host.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

impl Proxy {
    pub(crate) fn to(target: u16) -> anyhow::Result<Self> {
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
    pub(crate) fn cut(&self) {
        self.state.cut.store(true, Ordering::Release);
        for socket in self.state.sockets().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn heal(&self) {
        self.state.cut.store(false, Ordering::Release);
    }

    /// Stops passing bytes on, or goes on with it.
    pub(crate) fn stop(&self, stopped: bool) {
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

/// Starts a server that lets its data be compared; waits for nothing.
pub(crate) fn spawn(kind: Kind, folder: &Path, options: &[&str]) -> anyhow::Result<Server> {
    let all = [options, &["--enable-debug-command", "yes"]].concat();
    Server::spawn(kind, folder, &all)
}

/// As [`spawn`], and waits until it serves.
pub(crate) fn start(kind: Kind, folder: &Path, options: &[&str]) -> anyhow::Result<Server> {
    spawn(kind, folder, options)?.wait_ready()
}

/// As [`info`], a number.
pub(crate) fn number(client: &mut Client, section: &str, field: &str) -> anyhow::Result<u64> {
    let text = info(client, section, field)?;
    text.parse().with_context(|| format!("{field}: '{text}'"))
}

/// Waits until a replica's link to its master is `up` or `down`.
pub(crate) fn link_is(replica: &mut Client, wanted: &str) -> anyhow::Result<()> {
    until(&format!("link {wanted}"), || {
        Ok(info(replica, "replication", "master_link_status")? == wanted)
    })
}

/// Waits until the replica has all that the master wrote, then compares the data.
pub(crate) fn same_data(master: &mut Client, replica: &mut Client) -> anyhow::Result<()> {
    // Something to be acknowledged by this very client.
    master.ok("INCR same-data")?;
    let reached = master.ok("WAIT 1 25000")?.int();
    anyhow::ensure!(reached == Some(1), "{reached:?} replicas have everything");
    let (theirs, ours) = (master.ok("DEBUG DIGEST")?, replica.ok("DEBUG DIGEST")?);
    anyhow::ensure!(theirs == ours, "digests differ: {theirs:?}, {ours:?}");
    anyhow::ensure!(theirs.text() != "0".repeat(40), "there are no data");
    Ok(())
}

/// Full syncs and partial ones that a master has served.
pub(crate) fn syncs(master: &mut Client) -> anyhow::Result<(u64, u64)> {
    let full = number(master, "stats", "sync_full")?;
    Ok((full, number(master, "stats", "sync_partial_ok")?))
}

/// Waits until INFO, which our server brings up to date each second, shows these counts.
pub(crate) fn synced(master: &mut Client, wanted: (u64, u64)) -> anyhow::Result<()> {
    let mut found = (0, 0);
    let shown = until("the syncs", || {
        found = syncs(master)?;
        Ok(found == wanted)
    });
    shown.with_context(|| format!("{found:?} instead of {wanted:?}"))
}

/// Sets keys `prefix:from..to` with values of about `bytes` bytes, pipelined.
pub(crate) fn fill(
    client: &mut Client,
    prefix: &str,
    range: std::ops::Range<u64>,
    bytes: usize,
) -> anyhow::Result<()> {
    let keys: Vec<u64> = range.collect();
    for part in keys.chunks(200) {
        for n in part {
            let head = format!("{n}-");
            let value = head.repeat(bytes / head.len() + 1);
            client.send(&["SET", &format!("{prefix}:{n}"), &value])?;
        }
        for _ in part {
            client.receive()?;
        }
    }
    Ok(())
}

/// Collections of each type.
pub(crate) fn collections(client: &mut Client) -> anyhow::Result<()> {
    for n in 0..300 {
        client.send(&["RPUSH", "list", &format!("e{n}")])?;
        client.send(&["HSET", "hash", &format!("f{n}"), "v"])?;
        client.send(&["ZADD", "z", &n.to_string(), &format!("m{n}")])?;
        client.send(&["SADD", "set", &format!("m{n}")])?;
        client.send(&["SET", &format!("ttl:{n}"), "v", "PX", "100000000"])?;
    }
    for _ in 0..5 * 300 {
        client.receive()?;
    }
    Ok(())
}
