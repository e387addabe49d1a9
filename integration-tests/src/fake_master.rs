//! A master that is none: it answers a replica as Redis does, sends the snapshot that it was given,
//! and then what a test wants.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The history that it tells of.
const REPLID: &str = "0123456789abcdef0123456789abcdef01234567";
/// Where its snapshots stand in it.
pub const OFFSET: usize = 100;
/// With what a replica says which snapshot it holds a part of.
const RESUME: &str = "REDROCK-RESUME=";

/// What it sends to who asks for everything.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The snapshot.
    pub rdb: Vec<u8>,
    /// The link ends after so many bytes of it.
    pub cut_at: Option<usize>,
    /// The stream behind it.
    pub stream: Vec<u8>,
    /// As whose snapshot it is sent, to a replica that understands ids; it goes on with what that has of it.
    pub id: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    answer: Mutex<Answer>,
    full_syncs: AtomicUsize,
    ended: AtomicBool,
}

/// See the module; its links end when it is dropped.
#[derive(Debug)]
pub struct FakeMaster {
    /// Its port.
    pub port: u16,
    shared: Arc<Shared>,
}

impl FakeMaster {
    /// One that answers so from now on.
    pub fn start(answer: Answer) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let master = Self {
            port,
            shared: shared.clone(),
        };
        master.answers(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.ended.load(Ordering::Acquire) {
                    return;
                }
                let shared = shared.clone();
                // A link that ends early is the replica's choice.
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Ok(master)
    }

    /// What the next one who asks for everything gets.
    pub fn answers(&self, answer: Answer) {
        *self.shared.answer() = answer;
    }

    /// How often a snapshot was asked for.
    pub fn full_syncs(&self) -> usize {
        self.shared.full_syncs.load(Ordering::Acquire)
    }
}

impl Drop for FakeMaster {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut held = 0;
        while let Some(words) = read_command(&mut reader)? {
            let word = |at: usize| words.get(at).map_or("", String::as_str);
            match word(0) {
                "PING" => stream.write_all(b"+PONG\r\n")?,
                "REPLCONF" if word(1) == "ACK" => {}
                "REPLCONF" if words.iter().any(|word| word.starts_with(RESUME)) => {
                    held = words.iter().find_map(|word| part_of(word)).unwrap_or(0);
                    stream.write_all(b"+OK\r\n")?;
                }
                "PSYNC" => {
                    self.full_syncs.fetch_add(1, Ordering::AcqRel);
                    let answer = self.answer().clone();
                    if !answer.send(&mut stream, held)? {
                        return Ok(());
                    }
                }
                _ => stream.write_all(b"+OK\r\n")?,
            }
        }
        Ok(())
    }
}

impl Answer {
    /// Sends it to a replica that holds so many bytes of it; whether the link lives on.
    fn send(&self, stream: &mut TcpStream, held: usize) -> std::io::Result<bool> {
        let length = self.rdb.len();
        write!(stream, "+FULLRESYNC {REPLID} {OFFSET}\r\n${length}")?;
        let mut from = 0;
        if let Some(id) = &self.id {
            from = held.min(length);
            write!(stream, " {id} {from}")?;
        }
        stream.write_all(b"\r\n")?;
        let sent = self.cut_at.unwrap_or(length).min(length);
        stream.write_all(self.rdb.get(from..sent).unwrap_or_default())?;
        if sent < length {
            return Ok(false);
        }
        stream.write_all(&self.stream)?;
        Ok(true)
    }
}

/// How much of a snapshot a replica says that it holds.
fn part_of(word: &str) -> Option<usize> {
    let (_id, bytes) = word.strip_prefix(RESUME)?.split_once('@')?;
    bytes.parse().ok()
}

/// The next command's words, in capitals; `None` at the end.
fn read_command(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Vec<String>>> {
    let malformed = || std::io::Error::other("a malformed command");
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some(count) = line.trim_end().strip_prefix('*') else {
            continue;
        };
        let count: usize = count.parse().map_err(|_| malformed())?;
        let mut words = Vec::new();
        for _ in 0..count {
            line.clear();
            reader.read_line(&mut line)?;
            let length = line.trim_end().strip_prefix('$').ok_or_else(malformed)?;
            let length: usize = length.parse().map_err(|_| malformed())?;
            let mut word = vec![0; length + 2];
            reader.read_exact(&mut word)?;
            words.push(String::from_utf8_lossy(&word[..length]).to_uppercase());
        }
        return Ok(Some(words));
    }
}
