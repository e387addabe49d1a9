//! Sending keys as RESTOREs and reading what the target says to each.
//!
//! Redis's order and texts: one connection, AUTH and SELECT where needed, all RESTOREs one behind
//! the other. Replies are read while the rest is still being written. A connection that breaks
//! before the target has answered anything is replaced once, for an idle one may have been closed
//! by the target long ago.

use super::pool::{self, Connection, Peer};
use super::{ENCODED_BYTES_MAX, Job};
use crate::command::CommandError;
use crate::command::dispatch::Wait;
use crate::command::effect::{Effect, write_command};
use crate::command::keys::dump_target;
use crate::keyspace::db::Db;
use crate::server::Server;
use crate::value::{Object, codec};
use crate::waits::{Pins, WaitBudget};
use parking_lot::Mutex;
use rustls::ClientConfig;
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{SemaphorePermit, mpsc};

/// Written at once, and what a small value waits for others; as Redis.
const PIECE_BYTES: usize = 64 << 10;
/// Keys read from disk together.
const LOADED_TOGETHER: usize = 16;
/// Values from this size on are encoded on a thread that may be busy for a while, bytes.
const LARGE_VALUE_BYTES: usize = 256 << 10;
/// Keys that have left and whose answer was not read yet.
const UNANSWERED_MAX: usize = 1024;
/// The longest line of a target that is understood; as Redis's buffer.
const LINE_BYTES_MAX: u64 = 1023;

/// What came of the transfer.
#[derive(Debug)]
pub(super) struct Sent {
    /// Indexes of the keys that the target has taken.
    pub(super) taken: Vec<usize>,
    /// The first error.
    pub(super) result: Result<(), Vec<u8>>,
}

/// What the target said so far.
#[derive(Debug, Default)]
struct Answers {
    taken: Vec<usize>,
    /// An error line, without its dash.
    refused: Option<Vec<u8>>,
}

/// Why an attempt ended.
enum Failure {
    /// The target's answer to AUTH or SELECT, without its dash.
    Refused(Vec<u8>),
    /// No connection in time.
    Unreachable,
    /// `writing` or `reading`, and whether time was up.
    Broken(&'static str, bool),
    /// A value can't be had.
    Here(CommandError),
}

fn broken(verb: &'static str) -> impl Fn(Error) -> Failure {
    move |error| Failure::Broken(verb, error.kind() == ErrorKind::TimedOut)
}

/// Sends all keys of a job.
pub(super) async fn send(server: &Arc<Server>, job: &Job) -> Sent {
    let tls = server.tls.client_context();
    let peer = (job.host.clone(), job.port, job.login.clone(), tls.is_some());
    let answers = Mutex::new(Answers::default());
    let mut is_first = true;
    let failure = loop {
        let mut connection = match connection(server, job, &peer, tls.clone()).await {
            Ok(connection) => connection,
            Err(failure) => break Some(failure),
        };
        let ended = attempt(server, job, &mut connection, &answers).await;
        let untouched = {
            let answers = answers.lock();
            answers.taken.is_empty() && answers.refused.is_none()
        };
        match ended {
            Ok(()) => {
                server.migrations.pool.put(peer, connection);
                break None;
            }
            Err(Failure::Broken(_, false)) if is_first && untouched => is_first = false,
            Err(Failure::Refused(line)) => {
                connection.database = None;
                server.migrations.pool.put(peer, connection);
                break Some(Failure::Refused(line));
            }
            Err(failure) => break Some(failure),
        }
    };
    let answers = answers.into_inner();
    Sent {
        taken: answers.taken,
        result: verdict(failure, answers.refused),
    }
}

/// What the client is told: an error of the target goes first.
fn verdict(failure: Option<Failure>, refused: Option<Vec<u8>>) -> Result<(), Vec<u8>> {
    let by_target = |line: &[u8]| [b"ERR Target instance replied with error: ", line].concat();
    match (refused, failure) {
        (Some(line), _) | (None, Some(Failure::Refused(line))) => Err(by_target(&line)),
        (None, Some(Failure::Broken(verb, _))) => {
            Err(format!("IOERR error or timeout {verb} to target instance").into_bytes())
        }
        (None, Some(Failure::Unreachable)) => {
            Err(b"IOERR error or timeout connecting to the client".to_vec())
        }
        (None, Some(Failure::Here(error))) => Err(error.resp().into_owned()),
        (None, None) => Ok(()),
    }
}

/// A connection that is refused shows in Redis when it is first written to, but with TLS at once.
async fn connection(
    server: &Server,
    job: &Job,
    peer: &Peer,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Connection, Failure> {
    if let Some(idle) = server.migrations.pool.take(peer) {
        return Ok(idle);
    }
    let resolving = tokio::net::lookup_host((peer.0.as_str(), peer.1));
    let addresses = match tokio::time::timeout(job.timeout, resolving).await {
        Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
        Ok(Err(_)) | Err(_) => return Err(Failure::Unreachable),
    };
    let is_tls = tls.is_some();
    match tokio::time::timeout(job.timeout, pool::connect(&addresses, tls)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => {
            tracing::debug!(%error, host = peer.0, port = peer.1, "MIGRATE can't connect");
            Err(match is_tls {
                true => Failure::Unreachable,
                false => Failure::Broken("writing", false),
            })
        }
        Err(_) => Err(Failure::Unreachable),
    }
}

async fn attempt(
    server: &Arc<Server>,
    job: &Job,
    connection: &mut Connection,
    answers: &Mutex<Answers>,
) -> Result<(), Failure> {
    greet(job, connection).await?;
    let (sender, mut sent) = mpsc::channel(UNANSWERED_MAX);
    let Connection { reader, writer, .. } = connection;
    let writing = write_all(server, job, writer, sender);
    let reading = async {
        while let Some(at) = sent.recv().await {
            let line = read_line(job, reader).await.map_err(broken("reading"))?;
            let mut answers = answers.lock();
            match line.strip_prefix(b"-") {
                None => answers.taken.push(at),
                Some(error) => {
                    answers.refused.get_or_insert_with(|| error.to_vec());
                }
            }
        }
        Ok(())
    };
    tokio::try_join!(writing, reading).map(|_| ())
}

/// AUTH and SELECT. Unlike Redis nothing is sent behind a refusal, where it would be stored in
/// another database than the one meant.
async fn greet(job: &Job, connection: &mut Connection) -> Result<(), Failure> {
    let (mut out, mut replies) = (Vec::new(), 0);
    if let Some((user, password)) = &job.login {
        match user {
            Some(user) => write_command(&mut out, &[b"AUTH", user, password]),
            None => write_command(&mut out, &[b"AUTH", password]),
        }
        replies += 1;
    }
    if connection.database != Some(job.database) {
        let number = job.database.to_string();
        write_command(&mut out, &[b"SELECT", number.as_bytes()]);
        replies += 1;
    }
    if replies == 0 {
        return Ok(());
    }
    write_piece(job, &mut connection.writer, &out).await?;
    let mut refused = None;
    for _ in 0..replies {
        let line = read_line(job, &mut connection.reader).await;
        let line = line.map_err(broken("reading"))?;
        if let Some(error) = line.strip_prefix(b"-") {
            refused.get_or_insert_with(|| error.to_vec());
        }
    }
    if let Some(line) = refused {
        return Err(Failure::Refused(line));
    }
    connection.database = Some(job.database);
    Ok(())
}

type Reader = tokio::io::BufReader<tokio::io::ReadHalf<pool::Stream>>;
type Writer = tokio::io::WriteHalf<pool::Stream>;

async fn read_line(job: &Job, reader: &mut Reader) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut limited = reader.take(LINE_BYTES_MAX);
    let reading = limited.read_until(b'\n', &mut line);
    match tokio::time::timeout(job.timeout, reading).await {
        Err(_) => Err(ErrorKind::TimedOut.into()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) if line.ends_with(b"\n") => {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
            Ok(line)
        }
        Ok(Ok(_)) => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// Writes bytes in pieces, each within the timeout.
async fn write_piece(job: &Job, writer: &mut Writer, bytes: &[u8]) -> Result<(), Failure> {
    for piece in bytes.chunks(PIECE_BYTES) {
        let writing = async {
            writer.write_all(piece).await?;
            // What is encrypted may wait.
            writer.flush().await
        };
        let writing = tokio::time::timeout(job.timeout, writing).await;
        let written = writing.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
        written.map_err(broken("writing"))?;
    }
    Ok(())
}

/// Writes a RESTORE for each key that is still there, and tells which have left whole.
async fn write_all(
    server: &Arc<Server>,
    job: &Job,
    writer: &mut Writer,
    sent: mpsc::Sender<usize>,
) -> Result<(), Failure> {
    let (mut out, mut collected) = (Vec::new(), Vec::new());
    let mut budget = WaitBudget::default();
    for (group, keys) in job.keys.chunks(LOADED_TOGETHER).enumerate() {
        let _pins = load(server, job, keys, &mut budget).await?;
        for (within, key) in keys.iter().enumerate() {
            let Some((object, expire)) = value(server, job, key, &mut budget).await? else {
                continue;
            };
            let (payload, _permit) = encode(server, object).await?;
            restore_command(job, key, expire, payload.len(), &mut out);
            collected.push(group * LOADED_TOGETHER + within);
            if out.len() + payload.len() < PIECE_BYTES {
                out.extend_from_slice(&payload);
                out.extend_from_slice(end_of_command(job));
                continue;
            }
            write_piece(job, writer, &out).await?;
            out.clear();
            write_piece(job, writer, &payload).await?;
            drop(payload);
            write_piece(job, writer, end_of_command(job)).await?;
            tell(&sent, &mut collected).await;
        }
    }
    write_piece(job, writer, &out).await?;
    tell(&sent, &mut collected).await;
    Ok(())
}

/// These keys have left.
async fn tell(sent: &mpsc::Sender<usize>, keys: &mut Vec<usize>) {
    for key in keys.drain(..) {
        // Who reads the answers ends early only together with us.
        let _ended = sent.send(key).await;
    }
}

/// A RESTORE up to its payload.
fn restore_command(job: &Job, key: &[u8], expire: Option<i64>, bytes: usize, out: &mut Vec<u8>) {
    let now_ms = crate::clock::unix_ms();
    let ttl_ms = expire.map_or(0, |at| at.saturating_sub(now_ms).max(1));
    let (words, ttl_ms) = (if job.replace { 5 } else { 4 }, ttl_ms.to_string());
    out.extend_from_slice(format!("*{words}\r\n$7\r\nRESTORE\r\n${}\r\n", key.len()).as_bytes());
    out.extend_from_slice(key);
    let rest = format!("\r\n${}\r\n{ttl_ms}\r\n${bytes}\r\n", ttl_ms.len());
    out.extend_from_slice(rest.as_bytes());
}

/// What follows the payload.
fn end_of_command(job: &Job) -> &'static [u8] {
    match job.replace {
        true => b"\r\n$7\r\nREPLACE\r\n",
        false => b"\r\n",
    }
}

/// Brings keys into memory. They stay until the pins are dropped.
async fn load(
    server: &Arc<Server>,
    job: &Job,
    keys: &[Vec<u8>],
    budget: &mut WaitBudget,
) -> Result<Option<Pins>, Failure> {
    if server.keyspace.lock().tiering.is_none() {
        return Ok(None);
    }
    // Each group is a wait of its own: how many there are is no sign of trouble.
    *budget = WaitBudget::default();
    let keys = keys.iter().map(|key| (job.source, key.clone())).collect();
    let loaded = server.clone().wait_for(Wait::Load(keys), budget).await;
    loaded.map(Some).map_err(Failure::Here)
}

type Found = (Arc<Object>, Option<i64>);

/// A key's value, shared; `None` if it has expired or was evicted.
async fn value(
    server: &Arc<Server>,
    job: &Job,
    key: &[u8],
    budget: &mut WaitBudget,
) -> Result<Option<Found>, Failure> {
    loop {
        let found = {
            let mut keyspace = server.keyspace.lock();
            if server.state.feed.load(std::sync::atomic::Ordering::Acquire) != job.feed {
                return Err(Failure::Here(CommandError::fixed(super::DEMOTED)));
            }
            let mut effect = Effect::default();
            let now_ms = crate::clock::unix_ms();
            let found =
                Db::new(&mut keyspace, &**server, &mut effect, job.source, now_ms).shared(key);
            // It may have found that the key has expired.
            keyspace.serve_blocked(server, &mut effect);
            server.log.append_effect(&mut effect);
            keyspace.tell_clients(server);
            found
        };
        match found {
            Ok(found) => return Ok(found),
            Err(CommandError::Cold(db, key)) => {
                let wait = Wait::Load(vec![(db, key)]);
                let pins = server.clone().wait_for(wait, budget).await;
                drop(pins.map_err(Failure::Here)?);
            }
            Err(error) => return Err(Failure::Here(error)),
        }
    }
}

/// A value as DUMP writes it, and the right to hold that much.
async fn encode(
    server: &Server,
    object: Arc<Object>,
) -> Result<(Vec<u8>, SemaphorePermit<'_>), Failure> {
    let gone = |_| Failure::Here(CommandError::fixed("ERR the server is shutting down"));
    let bytes = object.memory_bytes();
    let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
    let permits = permits.clamp(1, ENCODED_BYTES_MAX);
    let permit = server.migrations.encoded.acquire_many(permits).await;
    let permit = permit.map_err(gone)?;
    let target = dump_target(&server.config());
    let work = move || codec::dump(object.as_value_ref(), target);
    let encoded = match bytes < LARGE_VALUE_BYTES {
        true => Ok(work()),
        false => tokio::task::spawn_blocking(work).await,
    };
    let failed = |error: &dyn std::fmt::Display| {
        Failure::Here(CommandError::text(format!("ERR encode a value: {error}")))
    };
    let payload = encoded
        .map_err(|error| failed(&error))?
        .map_err(|error| failed(&error))?;
    Ok((payload, permit))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{listener, with_job};
    use super::*;

    #[tokio::test]
    async fn a_key_that_is_found_expired_is_told_before_the_next_command() {
        let (server, job) = with_job(Some(5));
        let listener = listener(&server, "Ex", "expired");
        let found = value(&server, &job, b"k", &mut WaitBudget::default()).await;
        assert!(matches!(found, Ok(None)));
        let told = listener.shared.outbox.lock();
        assert!(told.ends_with(b"$1\r\nk\r\n"), "{told:?}");
    }

    #[test]
    fn an_error_of_the_target_is_told_before_one_of_the_connection() {
        let lost = || Some(Failure::Broken("reading", true));
        assert_eq!(
            verdict(lost(), Some(b"BUSYKEY there".to_vec())).unwrap_err(),
            b"ERR Target instance replied with error: BUSYKEY there"
        );
        assert_eq!(
            verdict(lost(), None).unwrap_err(),
            b"IOERR error or timeout reading to target instance"
        );
        assert!(verdict(None, None).is_ok());
    }
}
