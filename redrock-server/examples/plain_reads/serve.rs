//! The least that a server of cold reads can do: take a GET from a socket, read by the plain RocksDB
//! of this program, send what was found. No keyspace, no bound, no other command: what it costs is the
//! socket and the read together, with the processor's caches as a server leaves them.

use super::{Database, VALUE_BYTES, VALUES, tier_key};
use anyhow::Context as _;
use redrock_server::keyspace::position::Positioner;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

const CLIENTS_MAX: usize = 1024;
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// What stands in front of the value in a record: its type and length.
const RECORD_HEAD_BYTES: usize = 3;

/// Answers GETs of keys that are there, by `threads` threads, until it is killed.
pub(super) fn serve(
    db: &Database,
    positioner: &Positioner,
    port: u16,
    threads: u64,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let clients: Vec<OnceLock<TcpStream>> = (0..CLIENTS_MAX).map(|_| OnceLock::new()).collect();
    let queues: Vec<OwnedFd> = (0..threads)
        .map(|_| epoll::create(CreateFlags::CLOEXEC))
        .collect::<Result<_, _>>()?;
    std::thread::scope(|scope| {
        for queue in &queues {
            let clients = &clients;
            scope.spawn(move || {
                if let Err(error) = answer(db, positioner, queue, clients) {
                    eprintln!("{error:#}");
                }
            });
        }
        for (number, room) in clients.iter().enumerate() {
            let (client, _) = listener.accept()?;
            client.set_nonblocking(true)?;
            client.set_nodelay(true)?;
            let client = room.get_or_init(|| client);
            let queue = &queues[number % queues.len()];
            epoll::add(
                queue,
                client,
                EventData::new_u64(number as u64),
                EventFlags::IN,
            )?;
        }
        anyhow::bail!("{CLIENTS_MAX} clients have come: it takes no more")
    })
}

/// One thread's work.
fn answer(
    db: &Database,
    positioner: &Positioner,
    queue: &OwnedFd,
    clients: &[OnceLock<TcpStream>],
) -> anyhow::Result<()> {
    let family = db.cf_handle(VALUES).context("the family of values")?;
    let mut events = Vec::with_capacity(128);
    let mut partial: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut chunk = vec![0; REQUEST_BYTES_MAX];
    let mut reply = Vec::new();
    loop {
        events.clear();
        epoll::wait(queue, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let number = event.data.u64();
            let Some(mut client) = clients.get(number as usize).and_then(OnceLock::get) else {
                continue;
            };
            let request = partial.entry(number).or_default();
            match client.read(&mut chunk) {
                Ok(0) => epoll::delete(queue, client)?,
                Ok(read) => request.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => epoll::delete(queue, client)?,
            }
            reply.clear();
            let mut done = 0;
            while let Some((length, key)) = next(&request[done..]) {
                done += length;
                match key {
                    None => reply.extend_from_slice(b"-ERR only GET key:N\r\n"),
                    Some(key) => {
                        let key = tier_key(positioner, key);
                        let found = db.get_pinned_cf(&family, key.as_bytes())?;
                        let record = found.context("a key is gone")?;
                        write!(reply, "${VALUE_BYTES}\r\n")?;
                        reply.extend_from_slice(&record[RECORD_HEAD_BYTES..]);
                        reply.extend_from_slice(b"\r\n");
                    }
                }
            }
            request.drain(..done);
            // What benchmarks send fits the socket's buffer.
            client.write_all(&reply)?;
        }
    }
}

/// The length of a whole request, and N if it is `GET key:N`.
fn next(bytes: &[u8]) -> Option<(usize, Option<u64>)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let words: usize = text.strip_prefix('*')?.split("\r\n").next()?.parse().ok()?;
    let mut lines = text.split("\r\n").take(1 + 2 * words);
    let (mut length, mut last) = (0, "");
    for _ in 0..1 + 2 * words {
        last = lines.next()?;
        length += last.len() + 2;
    }
    let key = last.strip_prefix("key:").and_then(|n| n.parse().ok());
    (length <= bytes.len()).then_some((length, key.filter(|_| words == 2)))
}
