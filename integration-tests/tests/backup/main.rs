//! Backup sets and restores, by the programs: what they hold is compared with what was written
//! when, and a real Redis 7.0.15 starts on all of them.

#![allow(clippy::panic)]

mod repair;
mod restore;
mod sets;
mod steps;

use anyhow::Context as _;
use redrock_integration_tests::process::{Kind, Server, binary, copy_folder};
use redrock_integration_tests::resp::{Client, Reply};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes further apart than this are told from each other (docs/backup.md).
const RESOLUTION_MS: u64 = 100;

/// Now, in unix milliseconds.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// What a run of `redrock-persist` said.
#[derive(Debug)]
struct Said {
    /// 128 and the signal's number for one that was killed.
    code: i32,
    out: String,
    errors: String,
}

/// Runs `redrock-persist`; failpoints may be armed.
fn tool_with(failpoints: &str, words: &[&str]) -> anyhow::Result<Said> {
    let mut command = Command::new(binary("redrock-persist")?);
    if !failpoints.is_empty() {
        command
            .arg("--allow-failpoints")
            .env("REDROCK_FAILPOINTS", failpoints);
    }
    let output = command.args(words).output()?;
    let status = output.status;
    Ok(Said {
        code: status
            .code()
            .or(status.signal().map(|n| 128 + n))
            .unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn tool(words: &[&str]) -> anyhow::Result<Said> {
    tool_with("", words)
}

/// As [`tool`], which must succeed.
fn done(words: &[&str]) -> anyhow::Result<String> {
    let said = tool(words)?;
    anyhow::ensure!(said.code == 0, "{words:?}: {said:?}");
    Ok(said.out)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// When each write was sent and acknowledged, unix milliseconds.
#[derive(Debug, Default, Clone)]
struct Ledger {
    writes: Vec<(u64, u64)>,
}

impl Ledger {
    /// Makes the next write: a transaction that leaves its number in two keys and a list.
    fn write(&mut self, client: &mut Client) -> anyhow::Result<()> {
        let number = (self.writes.len() + 1).to_string();
        let sent = now_ms();
        client.send(&["MULTI"])?;
        client.send(&["SET", "first", &number])?;
        client.send(&["RPUSH", "all", &number])?;
        client.send(&["SET", "second", &number])?;
        client.send(&["EXEC"])?;
        for _ in 0..4 {
            client.receive()?;
        }
        let reply = client.receive()?;
        anyhow::ensure!(matches!(reply, Reply::Array(_)), "{reply:?}");
        self.writes.push((sent, now_ms()));
        Ok(())
    }

    /// Writes until so many milliseconds have passed.
    fn write_for(&mut self, client: &mut Client, span_ms: u64) -> anyhow::Result<()> {
        let end = now_ms() + span_ms;
        while now_ms() < end {
            self.write(client)?;
        }
        Ok(())
    }

    /// The least and the most writes that a restore to a time may show.
    fn bounds(&self, unix_ms: u64) -> (usize, usize) {
        let old = |(_, acknowledged): &&(u64, u64)| acknowledged + RESOLUTION_MS <= unix_ms;
        let begun = |(sent, _): &&(u64, u64)| *sent <= unix_ms;
        let least = self.writes.iter().filter(old).count();
        (least, self.writes.iter().filter(begun).count())
    }

    /// Checks that what a server holds is what was so at the time, give or take the resolution;
    /// gives the number of writes.
    fn check(&self, client: &mut Client, unix_ms: u64) -> anyhow::Result<usize> {
        let number = |reply: Reply| reply.text().parse().unwrap_or(0);
        let first: usize = number(client.run(&["GET", "first"])?);
        let second: usize = number(client.run(&["GET", "second"])?);
        let listed: usize = number(client.run(&["LLEN", "all"])?);
        let (least, most) = self.bounds(unix_ms);
        anyhow::ensure!(
            first == second && first == listed && (least..=most).contains(&first),
            "at {unix_ms}: {first}, {second} and {listed}, expected {least} to {most}"
        );
        Ok(first)
    }
}

/// The content of every file below a folder; backups in it, and locks, apart.
fn fingerprint(folder: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() && entry.file_name() != "backup" {
            found.extend(fingerprint(&path)?);
        } else if kind.is_file() && path.extension().is_none_or(|name| name != "lock") {
            found.insert(path.clone(), std::fs::read(&path)?);
        }
    }
    Ok(found)
}

/// Starts our server and a real Redis on copies of a folder: both hold what the ledger says for
/// the time, and the same. Gives the number of writes.
fn both_agree(folder: &Path, appendonly: &str, ledger: &Ledger, at: u64) -> anyhow::Result<usize> {
    let mut digests = Vec::new();
    let mut count = 0;
    for kind in [Kind::Redis, Kind::RedRock] {
        let copy = tempfile::tempdir()?;
        copy_folder(folder, copy.path())?;
        let mut options = vec!["--appendonly", appendonly];
        if kind == Kind::RedRock {
            options.extend(["--enable-debug-command", "yes", "--companions", "external"]);
        }
        let server = Server::start(kind, copy.path(), &options)?;
        let mut client = server.client()?;
        count = ledger
            .check(&mut client, at)
            .with_context(|| format!("{kind:?}"))?;
        digests.push(client.ok("DEBUG DIGEST")?.text());
        server.kill()?;
    }
    let same = digests.windows(2).all(|pair| pair.first() == pair.last());
    anyhow::ensure!(same, "the data sets differ: {digests:?}");
    Ok(count)
}
