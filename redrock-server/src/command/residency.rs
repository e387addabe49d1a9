//! Which keys a command needs in memory, before it runs.
//!
//! All are found at once, so that a command that needs a hundred cold values waits for one batch
//! of reads and not for a hundred. What a record's key positions don't tell (`MOVE`'s other
//! database, keys that SORT computes) is found by the command itself
//! ([`super::CommandError::Cold`]).

use super::args::Args;
use super::registry;
use super::table::{Needs, Spec, flag};
use crate::keyspace::tiering::direct::Direct;
use crate::keyspace::{Keyspace, Residency};
use crate::net::client::Client;
use redrock_rdb::number::parse_i64;

struct Wanted<'k> {
    keyspace: &'k Keyspace,
    now_ms: i64,
    /// The command only reads, and reads by itself what is missing.
    reads_itself: bool,
    missing: Vec<(usize, Vec<u8>)>,
}

impl<'k> Wanted<'k> {
    /// Nothing yet; `None` with tiering off.
    fn of(keyspace: &'k Keyspace) -> Option<Self> {
        keyspace.tiering.as_ref()?;
        Some(Self {
            keyspace,
            now_ms: crate::clock::unix_ms(),
            reads_itself: false,
            missing: Vec::new(),
        })
    }

    fn key(&mut self, db: usize, key: &[u8], value: bool) {
        let residency = self
            .keyspace
            .residency(db, key, self.now_ms, self.reads_itself);
        let missing = match residency {
            Residency::Resident => false,
            Residency::Stub => value,
            Residency::Unknown => true,
        };
        if missing {
            self.missing.push((db, key.to_vec()));
        }
    }

    fn command(&mut self, db: usize, spec: &Spec, args: &Args<'_>) {
        let mut first = true;
        spec.keys.visit(args, |at| {
            let value = match spec.needs {
                Needs::Value => true,
                Needs::Presence => false,
                Needs::FirstValue => first,
            };
            first = false;
            self.key(db, args.at(at), value);
            if spec.has(flag::WRITE) {
                self.blocked_on(db, args.at(at));
            }
        });
    }

    /// What the first clients need that wait for a key: a change of it may serve them (BLMOVE onto a
    /// cold key).
    fn blocked_on(&mut self, db: usize, key: &[u8]) {
        let keyspace = self.keyspace;
        keyspace.blocked.first_commands_for(db, key, |command| {
            let argv = command.argv();
            let args = Args::new(&argv);
            if let Ok(spec) = registry::resolve(&args) {
                spec.keys.visit(&args, |at| self.key(db, args.at(at), true));
            }
        });
    }

    /// All commands of a transaction, each in the database that will be selected, and the keys
    /// that are watched: EXEC asks whether they have expired.
    fn transaction(&mut self, client: &Client) {
        let Some(transaction) = &client.transaction else {
            return;
        };
        let mut db = client.db;
        for (command, spec) in transaction.commands.iter().zip(&transaction.specs) {
            let argv = command.argv();
            let args = Args::new(&argv);
            self.command(db, spec, &args);
            if spec.name == "select"
                && let Some(selected) = parse_i64(args.at(1)).and_then(|n| usize::try_from(n).ok())
                && selected < self.keyspace.database_count()
            {
                db = selected;
            }
        }
        for (db, key) in &client.watched {
            self.key(*db, key, false);
        }
    }
}

/// Whether the command only reads, and may read all that it may need by itself.
fn reads_itself(direct: &Direct, spec: &Spec, args: &Args<'_>) -> bool {
    let mut keys = 0;
    spec.keys.visit(args, |_| keys += 1);
    spec.has(flag::READONLY) && matches!(spec.needs, Needs::Value) && direct.is_open(keys)
}

/// The keys (database, key) that must be read from disk before the command runs; none with
/// tiering off. `direct`: who may read by itself, and has not done so yet, takes keys that are probably in the
/// tier for missing, without asking.
pub fn missing(
    keyspace: &Keyspace,
    client: &Client,
    (spec, args): (&Spec, &Args<'_>),
    direct: Option<&Direct>,
) -> Vec<(usize, Vec<u8>)> {
    let Some(mut wanted) = Wanted::of(keyspace) else {
        return Vec::new();
    };
    wanted.reads_itself = direct.is_some_and(|direct| reads_itself(direct, spec, args));
    if spec.name == "exec" {
        wanted.transaction(client);
    } else {
        wanted.command(client.db, spec, args);
    }
    wanted.missing
}

/// As [`missing`] for one command of a script, on database `db`.
pub fn missing_of(
    keyspace: &Keyspace,
    db: usize,
    spec: &Spec,
    args: &Args<'_>,
) -> Vec<(usize, Vec<u8>)> {
    let Some(mut wanted) = Wanted::of(keyspace) else {
        return Vec::new();
    };
    wanted.command(db, spec, args);
    wanted.missing
}

#[cfg(test)]
mod tests;
