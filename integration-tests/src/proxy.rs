//! A proxy that can cut or stop a link, at once or after so many bytes.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Bytes that clients were sent so far.
    passed: AtomicU64,
    /// At which of them something happens, ascending.
    marks: Mutex<VecDeque<(u64, Mark)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// All connections end; new ones are taken.
    Cut,
    /// As [`Proxy::stop`].
    Stop,
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
        self.state.end_all();
    }

    /// Connections are passed on again.
    pub fn heal(&self) {
        self.state.cut.store(false, Ordering::Release);
    }

    /// Stops passing bytes on, or goes on with it.
    pub fn stop(&self, stopped: bool) {
        self.state.stopped.store(stopped, Ordering::Release);
    }

    /// Whether it has stopped.
    pub fn is_stopped(&self) -> bool {
        self.state.stopped.load(Ordering::Acquire)
    }

    /// Bytes that clients were sent so far.
    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::Acquire)
    }

    /// Ends all connections when clients have been sent so many bytes in all, at each of these, ascending;
    /// new ones are taken.
    pub fn cut_at(&self, bytes: &[u64]) {
        let marks = bytes.iter().map(|at| (*at, Mark::Cut));
        self.state.marks().extend(marks);
    }

    /// Stops when clients have been sent so many bytes more.
    pub fn stop_after(&self, bytes: u64) {
        let mark = (self.passed() + bytes, Mark::Stop);
        self.state.marks().push_back(mark);
    }

    /// Cuts and stops that are still to come.
    pub fn marks_left(&self) -> usize {
        self.state.marks().len()
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
        let (asks, answers) = (client.try_clone()?, server.try_clone()?);
        for (from, to, is_down) in [(asks, server, false), (answers, client, true)] {
            let shared = self.clone();
            std::thread::spawn(move || shared.pump(from, to, is_down));
        }
        Ok(())
    }

    fn marks(&self) -> std::sync::MutexGuard<'_, VecDeque<(u64, Mark)>> {
        self.marks
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn end_all(&self) {
        for socket in self.sockets().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn wait_while_stopped(&self) {
        while self.stopped.load(Ordering::Acquire) && !self.ended.load(Ordering::Acquire) {
            std::thread::sleep(PAUSE);
        }
    }

    /// Sends bytes to a client, up to the next mark and beyond it.
    fn pass_down(&self, mut bytes: &[u8], to: &mut TcpStream) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let passed = self.passed.load(Ordering::Acquire);
            let mark = self.marks().front().copied();
            let room = mark.map_or(u64::MAX, |(at, _)| at.saturating_sub(passed));
            let count = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(count);
            to.write_all(now)?;
            self.passed.fetch_add(count as u64, Ordering::AcqRel);
            bytes = later;
            if count as u64 == room {
                self.marks().pop_front();
                match mark {
                    Some((_, Mark::Cut)) => {
                        self.end_all();
                        return Err(std::io::ErrorKind::BrokenPipe.into());
                    }
                    _ => self.stopped.store(true, Ordering::Release),
                }
                self.wait_while_stopped();
            }
        }
        Ok(())
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, is_down: bool) {
        let mut chunk = vec![0; 64 << 10];
        loop {
            self.wait_while_stopped();
            let count = from.read(&mut chunk).unwrap_or(0);
            let bytes = chunk.get(..count).unwrap_or_default();
            let sent = match is_down {
                true => self.pass_down(bytes, &mut to),
                false => to.write_all(bytes),
            };
            if bytes.is_empty() || sent.is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
