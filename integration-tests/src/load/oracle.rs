//! What a server must hold, worked out by a real Redis that runs the very same steps.

use super::steps::{LIST_LENGTH, SINGLE, WRITERS};
use super::{Counts, Ledger, MARKS_DB, SEEN_DB, VOLATILE_DB, VOLATILE_WRITER, unix_ms};
use crate::process::{Kind, Server};
use crate::resp::{Client, Reply, encode};
use anyhow::{Context as _, bail};
use std::sync::Arc;

/// Commands sent at once.
const BATCH: usize = 2000;

/// A quiesced Redis that follows the ledger.
#[derive(Debug)]
pub struct Oracle {
    ledger: Arc<Ledger>,
    counts: Counts,
    client: Client,
    // Fields are dropped in order: the folder is the last.
    _redis: Server,
    _folder: tempfile::TempDir,
}

/// What was found on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Steps of each writer.
    pub counts: Counts,
    /// DEBUG DIGEST of what is a function of them.
    pub digest: String,
}

impl Oracle {
    /// Starts it with the cold keys.
    pub fn start(ledger: &Arc<Ledger>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let redis = Server::start(Kind::Redis, folder.path(), &[])?;
        let mut client = redis.client()?;
        ledger.preload(&mut client)?;
        Ok(Self {
            ledger: ledger.clone(),
            counts: [0; WRITERS],
            client,
            _redis: redis,
            _folder: folder,
        })
    }

    /// Runs the writers' steps up to these; never back.
    pub fn advance(&mut self, to: Counts) -> anyhow::Result<String> {
        for (writer, target) in to.into_iter().enumerate() {
            let from = self.counts[writer];
            if target < from {
                bail!("writer {writer} was at step {from} and is at {target} now");
            }
            let (mut bytes, mut replies) = (Vec::new(), 0);
            for n in from + 1..=target {
                for command in self.ledger.plan.step(writer, n, &[]) {
                    encode(&mut bytes, &command);
                    replies += 1;
                }
                if replies >= BATCH || n == target {
                    self.client.send_raw(&bytes)?;
                    for _ in 0..replies {
                        if let Reply::Error(text) = self.client.receive()? {
                            bail!("oracle, writer {writer}, step {n}: {text}");
                        }
                    }
                    (bytes, replies) = (Vec::new(), 0);
                }
            }
            self.counts[writer] = target;
        }
        Ok(self.client.ok("DEBUG DIGEST")?.text())
    }

    /// A connection to the oracle itself, to see what differs.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Looks at a server that nobody writes to and says what it holds, having checked it: each
    /// writer is between `least` and `most`, everything else is as those steps make it, and
    /// what depends on time or on other writers agrees with them. Empties the databases that
    /// are no function of the steps.
    pub fn check(
        &mut self,
        client: &mut Client,
        least: Counts,
        most: Counts,
    ) -> anyhow::Result<Found> {
        let counts = counts(client)?;
        for writer in 0..WRITERS {
            let (count, least, most) = (counts[writer], least[writer], most[writer]);
            if count < least || count > most {
                bail!("writer {writer} is at step {count}: expected {least} to {most}");
            }
        }
        self.check_seen(client, counts)?;
        self.check_volatile(client, counts)?;
        for db in [VOLATILE_DB, SEEN_DB, MARKS_DB] {
            client.ok(&format!("SELECT {db}"))?;
            client.ok("FLUSHDB")?;
        }
        client.ok("SELECT 0")?;
        let expected = self.advance(counts)?;
        let digest = client.ok("DEBUG DIGEST")?.text();
        if digest != expected {
            let difference = self.difference(client)?;
            bail!("at steps {counts:?} the digest is {digest}, not {expected}: {difference}");
        }
        Ok(Found { counts, digest })
    }

    /// What a writer knew of another when it began a step must be there if the step is.
    fn check_seen(&self, client: &mut Client, counts: Counts) -> anyhow::Result<()> {
        client.ok(&format!("SELECT {SEEN_DB}"))?;
        for writer in (0..WRITERS).filter(|writer| *writer != SINGLE) {
            let other = (writer + 1) % WRITERS;
            let seen = client.ok(&format!("GET {writer}:{other}"))?.int();
            let seen = seen.map_or(0, i64::unsigned_abs);
            if counts[other] < seen {
                bail!(
                    "writer {writer} at step {} had seen step {seen} of writer {other}, of \
                     which only {} is there",
                    counts[writer],
                    counts[other]
                );
            }
        }
        Ok(())
    }

    fn check_volatile(&self, client: &mut Client, counts: Counts) -> anyhow::Result<()> {
        client.ok(&format!("SELECT {VOLATILE_DB}"))?;
        let mut found = std::collections::HashMap::new();
        for key in client.ok("KEYS *")?.elements() {
            let name = key.text();
            let value = client.ok(&format!("GET {name}"))?;
            if value == Reply::Nil {
                // It has expired since.
                continue;
            }
            let expiry = client.ok(&format!("PEXPIRETIME {name}"))?.text();
            if expiry != "-2" && expiry != value.text() {
                bail!("{name} expires at {expiry}, not at {}", value.text());
            }
            let n = name.strip_prefix("v:").context("a name of ours")?;
            found.insert(n.parse::<u64>()?, value.text());
        }
        let now = unix_ms();
        for (n, at) in self.ledger.volatile() {
            let present = found.remove(&n);
            let done = n <= counts[VOLATILE_WRITER];
            if !done && present.is_some() {
                bail!("v:{n} is there although step {n} is not");
            }
            if done && at > now && present.is_none() {
                bail!("v:{n} is missing although it expires in {} ms", at - now);
            }
            if present.is_some_and(|value| value != at.to_string()) {
                bail!("v:{n} has the expiry of another attempt");
            }
        }
        if let Some(n) = found.keys().next() {
            bail!("v:{n} was never written");
        }
        Ok(())
    }

    /// The first keys that differ, for people.
    fn difference(&mut self, client: &mut Client) -> anyhow::Result<String> {
        let mut lines = Vec::new();
        for db in 0..VOLATILE_DB {
            for side in [&mut *client, &mut self.client] {
                side.ok(&format!("SELECT {db}"))?;
            }
            let mut names: Vec<String> = Vec::new();
            for side in [&mut *client, &mut self.client] {
                names.extend(side.ok("KEYS *")?.elements().iter().map(Reply::text));
            }
            names.sort();
            names.dedup();
            for name in names {
                let ask = format!("DEBUG DIGEST-VALUE {name}");
                let time = format!("PEXPIRETIME {name}");
                let ours = (client.ok(&ask)?, client.ok(&time)?);
                let theirs = (self.client.ok(&ask)?, self.client.ok(&time)?);
                if ours != theirs && lines.len() < 5 {
                    lines.push(format!("db {db} {name}: {ours:?}, expected {theirs:?}"));
                }
            }
        }
        for side in [client, &mut self.client] {
            side.ok("SELECT 0")?;
        }
        Ok(lines.join("\n"))
    }
}

/// How many steps of each writer a server holds; the members of a group must agree.
pub fn counts(client: &mut Client) -> anyhow::Result<Counts> {
    let mut counts = [0; WRITERS];
    client.ok("SELECT 0")?;
    for (writer, count) in counts.iter_mut().enumerate() {
        let mut ask = |line: String| -> anyhow::Result<u64> {
            Ok(client.ok(&line)?.int().map_or(0, i64::unsigned_abs))
        };
        if writer == SINGLE {
            for list in 0.. {
                let length = ask(format!("LLEN w{writer}:log:{list}"))?;
                *count += length;
                if length < LIST_LENGTH {
                    break;
                }
            }
            continue;
        }
        *count = ask(format!("GET w{writer}:count"))?;
        let other = ask(format!("HGET w{writer}:counts n"))?;
        let float = client.ok(&format!("GET w{writer}:float"))?.text();
        let float = float.parse::<f64>().unwrap_or(0.0) * 2.0;
        if other != *count || float != *count as f64 {
            bail!("a torn transaction of writer {writer}: {count}, {other}, {float}");
        }
    }
    Ok(counts)
}
