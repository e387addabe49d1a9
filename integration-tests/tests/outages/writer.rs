//! A load of all kinds of commands that goes on whenever the master is there.

use anyhow::{Context as _, bail};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redrock_integration_tests::daemons::until;
use redrock_integration_tests::resp::{Client, Reply, encode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Commands sent at once.
const AT_ONCE: u64 = 16;
/// Keys of each kind.
pub(crate) const KEYS: u64 = 20_000;
/// Bytes of a value, at most.
const VALUE_BYTES_MAX: usize = 4 << 10;
/// Between attempts to reach the master.
const PAUSE: Duration = Duration::from_millis(10);

/// What a writer has done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written {
    /// Of commands that were answered.
    pub(crate) bytes: u64,
    /// How often the connection broke.
    pub(crate) broken: u64,
}

/// A thread that writes.
pub(crate) struct Writer {
    bytes: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Written>>,
}

impl Writer {
    pub(crate) fn start(port: u16, seed: u64) -> Self {
        let (bytes, ends) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let shared = (bytes.clone(), ends.clone());
        let thread = std::thread::spawn(move || write(port, seed, &shared.0, &shared.1));
        Self {
            bytes,
            ends,
            thread,
        }
    }

    /// Waits until so many more bytes have been written than by now.
    pub(crate) fn wait_for(&self, bytes: u64) -> anyhow::Result<()> {
        let due = self.bytes.load(Ordering::Relaxed) + bytes;
        until("the load", || {
            Ok(self.bytes.load(Ordering::Relaxed) >= due || self.thread.is_finished())
        })
    }

    pub(crate) fn stop(self) -> anyhow::Result<Written> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the writer panicked")?
    }
}

fn write(port: u16, seed: u64, total: &AtomicU64, ends: &AtomicBool) -> anyhow::Result<Written> {
    let (mut random, mut written) = (StdRng::seed_from_u64(seed), Written::default());
    while !ends.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::connect(port) else {
            std::thread::sleep(PAUSE);
            continue;
        };
        while !ends.load(Ordering::Relaxed) {
            match some(&mut client, &mut random) {
                Ok(Some(bytes)) => {
                    written.bytes += bytes;
                    total.fetch_add(bytes, Ordering::Relaxed);
                }
                // It can't take any at the moment.
                Ok(None) => std::thread::sleep(PAUSE),
                Err(Trouble::Broken) => {
                    written.broken += 1;
                    break;
                }
                Err(Trouble::Refused(text)) => bail!("the master says: {text}"),
            }
        }
    }
    Ok(written)
}

enum Trouble {
    Broken,
    Refused(String),
}

/// Some commands; the bytes of those that were answered, `None` if the master is loading.
fn some(client: &mut Client, random: &mut StdRng) -> Result<Option<u64>, Trouble> {
    let (mut bytes, mut due) = (Vec::new(), 0);
    for _ in 0..AT_ONCE {
        due += command(random, &mut bytes);
    }
    let broken = |_| Trouble::Broken;
    client.send_raw(&bytes).map_err(broken)?;
    let mut is_loading = false;
    for _ in 0..due {
        match client.receive().map_err(broken)? {
            Reply::Error(text) if text.starts_with("LOADING") => is_loading = true,
            // What it could not queue is no transaction.
            Reply::Error(text) if text.starts_with("EXECABORT") && is_loading => {}
            Reply::Error(text) => return Err(Trouble::Refused(text)),
            _ => {}
        }
    }
    Ok((!is_loading).then_some(bytes.len() as u64))
}

/// One command or transaction; how many replies it has.
fn command(random: &mut StdRng, out: &mut Vec<u8>) -> usize {
    const SCRIPT: &str =
        "redis.call('INCR', KEYS[1]); return redis.call('APPEND', KEYS[2], ARGV[1])";
    let kind = random.random_range(0..20);
    let number = random.random_range(0..KEYS);
    let key = |prefix: &str| format!("{prefix}:{number}");
    let few = |prefix: &str| format!("{prefix}:{}", number % 100);
    let member = random.random_range(0..1000_u32).to_string();
    let mut say = |words: &[&str]| encode(out, words);
    match kind {
        0..8 => {
            let length = random.random_range(1..VALUE_BYTES_MAX);
            let byte = random.random_range(b'a'..=b'z');
            let value = String::from(char::from(byte)).repeat(length);
            say(&["SET", &key("key"), &value]);
        }
        8 => say(&["SET", &key("ttl"), "v", "PX", "100000000"]),
        9 => say(&["SET", &key("short"), "v", "PX", "50"]),
        10 => say(&["INCRBYFLOAT", &key("float"), "0.5"]),
        11 => say(&["HSET", &few("hash"), &member, &member]),
        12 => say(&["RPUSH", &few("list"), &member]),
        13 => say(&["LTRIM", &few("list"), "-50", "-1"]),
        14 => say(&["ZADD", &few("z"), &member, &member]),
        15 => say(&["SPOP", &few("set")]),
        16 => say(&["SADD", &few("set"), &member]),
        17 => say(&["DEL", &key("key")]),
        18 => {
            say(&["EVAL", SCRIPT, "2", &few("count"), &few("text"), "x"]);
            say(&["PUBLISH", "channel", &member]);
            return 2;
        }
        _ => {
            say(&["MULTI"]);
            say(&["INCR", &few("count")]);
            say(&["PERSIST", &key("ttl")]);
            say(&["XADD", &few("stream"), "MAXLEN", "20", "*", "f", &member]);
            say(&["EXEC"]);
            return 5;
        }
    }
    1
}
