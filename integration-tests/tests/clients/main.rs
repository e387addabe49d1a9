//! What clients are told, and what they can do to each other: the same scripts of several
//! connections on our server and on a real Redis 7.0.15. Everything that arrives on each
//! connection must agree, pushes and their order included.
//!
//! A script is text, a step a line:
//!
//! - `1 GET a`: connection 1 sends it; all that has arrived there by then is compared;
//! - `1! MULTI`: the same where the next reply is all that comes (nothing may be asked between);
//! - `1> BLPOP a 0`: sends only; `1<`: receives one reply or push, and compares it;
//! - `1`: compares what has arrived;
//! - `~ blocked 1`: waits until so many clients are blocked;
//! - `@1` in a command is the id of connection 1.

#![allow(clippy::panic)]

mod scripts;
mod sessions;
#[path = "../differential/wire.rs"]
#[expect(dead_code, reason = "shared with the differential test")]
mod wire;

use anyhow::{Context as _, bail, ensure};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use scripts::{Script, TRACKING};
use sessions::SESSIONS;
use std::time::{Duration, Instant};
use wire::{Connection, Reply, Words};

/// How long a state may take to come.
const STATE_WAIT: Duration = redrock_integration_tests::scale::PATIENCE;
/// Connections of a script.
const CONNECTIONS: usize = 4;
/// What HELLO says of the version.
const VERSIONS: [&[u8]; 2] = [b"7.0.15", b"7.2.6"];
/// Ids below this are taken by connections that do nothing, so that an id is no other number.
const ID_MIN: u64 = 1000;
/// Moves all values of our server to disk.
const SPILL: &str = "ROCKALL";

/// Connections to one server, by the numbers of the script.
struct Side {
    connections: Vec<Connection>,
    ids: Vec<Vec<u8>>,
    admin: Connection,
    /// Moves everything to disk before each step.
    spills: bool,
}

impl Side {
    fn open(server: &Server, spills: bool) -> anyhow::Result<Self> {
        let mut admin = Connection::open(server.port)?;
        for line in ["FLUSHALL", "CONFIG SET tracking-table-max-keys 1000000"] {
            let reply = admin.run(&words(line))?;
            ensure!(!reply.is_error(), "{line}: {reply:?}");
        }
        let mut side = Self {
            connections: Vec::new(),
            ids: Vec::new(),
            admin,
            spills,
        };
        while side.connections.len() < CONNECTIONS {
            let mut connection = Connection::open(server.port)?;
            let id = connection.run(&["CLIENT", "ID"])?;
            if id.int().is_some_and(|id| id.unsigned_abs() >= ID_MIN) {
                side.ids.push(id.bytes().to_vec());
                side.connections.push(connection);
            }
        }
        Ok(side)
    }

    /// The words of a step for this server.
    fn words(&self, text: &str) -> Words {
        let id = |word: &[u8]| {
            let number = std::str::from_utf8(word.strip_prefix(b"@")?).ok()?;
            self.ids.get(number.parse::<usize>().ok()? - 1).cloned()
        };
        let words = words(text).into_iter();
        words.map(|word| id(&word).unwrap_or(word)).collect()
    }

    /// A reply with the ids of connections replaced by their numbers, and without the version.
    fn without_ids(&self, reply: Reply) -> Reply {
        match reply {
            Reply::Line(b':', id) => match self.ids.iter().position(|known| *known == id) {
                Some(at) => Reply::Line(b'@', (at + 1).to_string().into()),
                None => Reply::Line(b':', id),
            },
            Reply::Line(b'+', text) if text.first().is_some_and(u8::is_ascii_digit) => {
                Reply::Line(b'+', monitored(&text))
            }
            Reply::Bulk(kind, text) if VERSIONS.contains(&&text[..]) => {
                Reply::Bulk(kind, b"version".to_vec())
            }
            Reply::Many(kind, elements) => {
                let elements = elements.into_iter().map(|reply| self.without_ids(reply));
                Reply::Many(kind, elements.collect())
            }
            other => other,
        }
    }

    fn wait_blocked(&mut self, count: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + STATE_WAIT;
        loop {
            let info = self.admin.run(&["INFO", "clients"])?;
            let text = String::from_utf8_lossy(info.bytes()).into_owned();
            if text.contains(&format!("blocked_clients:{count}\r\n")) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{text}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// One step; what arrived.
    fn step(&mut self, step: &Step<'_>) -> anyhow::Result<Vec<Reply>> {
        if self.spills {
            let reply = self.admin.run(&[SPILL])?;
            ensure!(!reply.is_error(), "{SPILL}: {reply:?}");
        }
        let words = self.words(step.text);
        if step.kind == StepKind::Blocked {
            self.wait_blocked(step.text)?;
            return Ok(Vec::new());
        }
        let connection = &mut self.connections[step.connection];
        let replies = match step.kind {
            StepKind::Blocked => Vec::new(),
            StepKind::All => connection.run_until_ping(&words)?,
            StepKind::One => vec![connection.run(&words)?],
            StepKind::Send => {
                connection.send(&words)?;
                Vec::new()
            }
            StepKind::Receive => vec![connection.receive()?],
        };
        let replies = replies.into_iter();
        Ok(replies.map(|reply| self.without_ids(reply)).collect())
    }
}

/// What MONITOR shows, without time and address.
fn monitored(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let parts = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    let (source, command) = parts.unwrap_or_default();
    let db = source.split(' ').next().unwrap_or_default();
    format!("[{db}]{command}").into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StepKind {
    All,
    One,
    Send,
    Receive,
    Blocked,
}

struct Step<'a> {
    kind: StepKind,
    connection: usize,
    text: &'a str,
}

impl<'a> Step<'a> {
    fn parse(line: &'a str) -> anyhow::Result<Self> {
        if let Some(text) = line.strip_prefix("~ blocked ") {
            let kind = StepKind::Blocked;
            return Ok(Self {
                kind,
                connection: 0,
                text,
            });
        }
        let (number, rest) = line.split_at(1);
        let connection = number.parse::<usize>()?.checked_sub(1);
        let connection = connection.filter(|at| *at < CONNECTIONS);
        let (kind, text) = match rest.split_at_checked(1) {
            Some(("!", text)) => (StepKind::One, text),
            Some((">", text)) => (StepKind::Send, text),
            Some(("<", text)) => (StepKind::Receive, text),
            Some((" ", text)) => (StepKind::All, text),
            None => (StepKind::All, ""),
            Some(_) => bail!("{line:?} is no step"),
        };
        Ok(Self {
            kind,
            connection: connection.with_context(|| format!("{line:?}: no such connection"))?,
            text: text.trim_start(),
        })
    }
}

fn words(text: &str) -> Words {
    let words = text.split(' ').filter(|word| !word.is_empty());
    words.map(|word| word.into()).collect()
}

/// Runs a script on both; what differs.
fn play(script: &Script, sides: &mut [Side; 2]) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let lines = script.steps.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let step = Step::parse(line)?;
        let [ours, theirs] = sides;
        let theirs = theirs
            .step(&step)
            .with_context(|| format!("Redis: {line}"))?;
        let ours = match ours.step(&step) {
            Ok(ours) => ours,
            Err(error) => {
                found.push(format!("{line}\n  ours   {error:#}\n  theirs {theirs:?}"));
                return Ok(found);
            }
        };
        if ours != theirs {
            found.push(format!("{line}\n  ours   {ours:?}\n  theirs {theirs:?}"));
        }
    }
    Ok(found)
}

fn play_all(options: &[&str], spills: bool) -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let mut all = vec!["--companions", "external", "--appendonly", "no"];
    all.extend(["--enable-debug-command", "yes"]);
    all.extend(options);
    let ours = Server::start(Kind::RedRock, folders[0].path(), &all)?;
    let theirs = ["--appendonly", "no", "--enable-debug-command", "yes"];
    let theirs = Server::start(Kind::Redis, folders[1].path(), &theirs)?;
    let mut found = Vec::new();
    for script in TRACKING.iter().chain(SESSIONS) {
        let mut sides = [Side::open(&ours, spills)?, Side::open(&theirs, false)?];
        let differences =
            play(script, &mut sides).with_context(|| format!("script {:?}", script.name))?;
        found.extend(
            differences
                .iter()
                .map(|text| format!("{}: {text}\n", script.name)),
        );
    }
    assert!(
        found.is_empty(),
        "{} differences:\n{}",
        found.len(),
        found.concat()
    );
    Ok(())
}

#[test]
fn clients_are_told_the_same_as_by_redis_without_tiering() -> anyhow::Result<()> {
    play_all(&["--enable-rocksdb-feature", "no"], false)
}

#[test]
fn clients_are_told_the_same_as_by_redis_when_everything_is_on_disk() -> anyhow::Result<()> {
    let options = ["--enable-rocksdb-feature", "yes", "--maxmemory", "128mb"];
    play_all(&options, true)
}
