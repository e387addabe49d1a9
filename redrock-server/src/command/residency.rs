//! Which keys a command needs in memory, before it runs.
//!
//! All are found at once, so that a command that needs a hundred cold values waits for one batch
//! of reads and not for a hundred. What a record's key positions don't tell (`MOVE`'s other
//! database, keys that SORT computes) is found by the command itself
//! ([`super::CommandError::Cold`]).

use super::args::Args;
use super::registry;
use super::table::{Needs, Spec, flag};
use crate::keyspace::{Keyspace, Residency};
use crate::net::client::Client;
use redrock_rdb::number::parse_i64;

struct Wanted<'k> {
    keyspace: &'k Keyspace,
    now_ms: i64,
    missing: Vec<(usize, Vec<u8>)>,
}

impl Wanted<'_> {
    fn key(&mut self, db: usize, key: &[u8], value: bool) {
        let missing = match self.keyspace.residency(db, key, self.now_ms) {
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

/// The keys (database, key) that must be read from disk before the command runs; none with
/// tiering off.
pub fn missing(
    keyspace: &Keyspace,
    client: &Client,
    spec: &Spec,
    args: &Args<'_>,
) -> Vec<(usize, Vec<u8>)> {
    if keyspace.tiering.is_none() {
        return Vec::new();
    }
    let now_ms = crate::clock::unix_ms();
    let mut wanted = Wanted {
        keyspace,
        now_ms,
        missing: Vec::new(),
    };
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
    if keyspace.tiering.is_none() {
        return Vec::new();
    }
    let now_ms = crate::clock::unix_ms();
    let mut wanted = Wanted {
        keyspace,
        now_ms,
        missing: Vec::new(),
    };
    wanted.command(db, spec, args);
    wanted.missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::dispatch::{self, Outcome, Scratch, Wait};
    use crate::config::Config;
    use crate::keyspace::cold::ColdStore;
    use crate::keyspace::cold::options::ColdBudget;
    use crate::keyspace::position::Positioner;
    use crate::keyspace::tiering::fifo::{TierQueue, spawn_applier};
    use crate::keyspace::tiering::{Tiering, reader};
    use crate::net::client::ClientShared;
    use crate::server::Server;
    use crate::waits::WaitBudget;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    /// A server with a tier, and one client.
    struct Bench {
        server: Arc<Server>,
        cold: Arc<ColdStore>,
        slot: Option<Box<Client>>,
        scratch: Scratch,
        _folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("folder");
            let cold = ColdStore::open(folder.path(), ColdBudget::for_cache(8 << 20));
            let cold = Arc::new(cold.expect("tier"));
            let queue = Arc::new(TierQueue::new(1 << 20));
            let mut keyspace = Keyspace::new(4, Positioner::new((1, 2)));
            keyspace.enable_tiering(Tiering::new(cold.clone(), queue.clone(), 1 << 20));
            let server = Server::new(Config::default(), keyspace, "0".repeat(40), 1);
            let server = Arc::new(server);
            let applied = server.clone();
            spawn_applier(queue, cold.clone(), move |batch| {
                drop(applied.keyspace.lock().applied(&batch));
            })
            .expect("applier");
            reader::spawn(server.clone(), cold.clone(), 0).expect("reader");
            let shared = Arc::new(ClientShared::default());
            let mut client = Client::new(shared, String::new(), String::new(), 0);
            client.authenticated = true;
            let slot = Some(Box::new(client));
            Self {
                server,
                cold,
                slot,
                scratch: Scratch::default(),
                _folder: folder,
            }
        }

        fn try_run(&mut self, command: &str, out: &mut Vec<u8>) -> Outcome {
            let argv: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            dispatch::execute(&self.server, &mut self.scratch, &mut self.slot, &argv, out)
        }

        fn run(&mut self, command: &str) -> String {
            let mut out = Vec::new();
            let outcome = self.try_run(command, &mut out);
            assert!(matches!(outcome, Outcome::Done), "{command}: {outcome:?}");
            String::from_utf8_lossy(&out)
                .trim_end()
                .replace("\r\n", " ")
        }

        /// What the command waits for.
        fn waits(&mut self, command: &str) -> Vec<(usize, String)> {
            let mut out = Vec::new();
            match self.try_run(command, &mut out) {
                Outcome::Retry(Wait::Load(keys)) => {
                    let text = |key: Vec<u8>| String::from_utf8_lossy(&key).into_owned();
                    keys.into_iter().map(|(db, key)| (db, text(key))).collect()
                }
                Outcome::Done => Vec::new(),
                other => panic!("{command}: {other:?}"),
            }
        }

        /// Moves keys to the tier; only a stub stays, or (`whole`) nothing at all.
        fn evict(&self, db: usize, keys: &[&str], whole: bool) {
            for key in keys {
                let mut keyspace = self.server.keyspace.lock();
                let hash = keyspace
                    .database(db)
                    .expect("database")
                    .table
                    .hash(key.as_bytes());
                assert!(keyspace.spill(db, hash, key.as_bytes()), "{key}");
                loop {
                    if keyspace
                        .drop_clean(db, hash, key.as_bytes(), whole)
                        .is_some()
                    {
                        break;
                    }
                    drop(keyspace);
                    std::thread::yield_now();
                    keyspace = self.server.keyspace.lock();
                }
            }
        }

        /// Runs a command as a connection does, waiting for what it needs.
        async fn run_waiting(&mut self, command: &str) -> (String, usize) {
            let (mut budget, mut pins, mut waits) = (WaitBudget::default(), Vec::new(), 0);
            loop {
                let mut out = Vec::new();
                match self.try_run(command, &mut out) {
                    Outcome::Retry(wait) => {
                        waits += 1;
                        pins.push(
                            self.server
                                .clone()
                                .wait_for(wait, &mut budget)
                                .await
                                .expect("load"),
                        );
                    }
                    Outcome::Done => {
                        return (
                            String::from_utf8_lossy(&out)
                                .trim_end()
                                .replace("\r\n", " "),
                            waits,
                        );
                    }
                    other => panic!("{command}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn all_values_are_asked_for_at_once_and_presence_reads_nothing() {
        let mut bench = Bench::new();
        for key in ["a", "b", "c"] {
            bench.run(&format!("SET {key} v"));
        }
        bench.evict(0, &["a", "b"], false);
        assert_eq!(
            bench.waits("MGET a c b none"),
            [(0, "a".into()), (0, "b".into())]
        );
        assert_eq!(bench.waits("RENAME a b"), [(0, "a".into())]);
        let before = bench.cold.stats.reads.load(Ordering::Relaxed);
        for (command, reply) in [
            ("EXISTS a b none", ":2"),
            ("TYPE a", "+string"),
            ("EXPIRE a 100", ":1"),
            ("TTL a", ":100"),
            ("PERSIST a", ":1"),
            ("DBSIZE", ":3"),
            ("SET b w", "+OK"),
            ("SETNX a x", ":0"),
            ("DEL a", ":1"),
            ("GET b", "$1 w"),
        ] {
            assert_eq!(bench.run(command), reply, "{command}");
        }
        assert_eq!(bench.cold.stats.reads.load(Ordering::Relaxed), before);
    }

    #[test]
    fn a_key_without_a_stub_is_asked_for_even_where_presence_is_enough() {
        let mut bench = Bench::new();
        bench.run("SET a v");
        bench.evict(0, &["a"], true);
        assert_eq!(bench.waits("EXISTS a"), [(0, "a".into())]);
    }

    #[tokio::test]
    async fn a_transaction_waits_once_for_all_its_keys_in_all_databases() {
        let mut bench = Bench::new();
        bench.run("SET a 1");
        bench.run("RPUSH l x");
        bench.run("SELECT 2");
        bench.run("SET b 2");
        bench.run("SELECT 0");
        bench.evict(0, &["a", "l"], false);
        bench.evict(2, &["b"], true);
        for command in [
            "MULTI",
            "INCR a",
            "SELECT 2",
            "INCR b",
            "SELECT 0",
            "RPUSH l y",
        ] {
            bench.run(command);
        }
        let (reply, waits) = bench.run_waiting("EXEC").await;
        assert_eq!((reply.as_str(), waits), ("*5 :2 +OK :3 +OK :2", 1));
        let keyspace = bench.server.keyspace.lock();
        assert_eq!(keyspace.pinned(), 0);
        let stats = &keyspace.tiering.as_ref().expect("tiering").stats;
        assert_eq!((stats.loaded, stats.blocking_reads), (3, 0));
    }

    #[tokio::test]
    async fn what_a_served_client_needs_is_loaded_before_it_is_served() {
        let mut bench = Bench::new();
        bench.run("RPUSH to x");
        bench.evict(0, &["to"], false);
        let shared = Arc::new(ClientShared {
            id: 7,
            ..ClientShared::default()
        });
        let waiting = Client::new(shared, String::new(), String::new(), 0);
        let request = crate::net::client::BlockRequest {
            keys: vec![b"from".to_vec()],
            deadline_ms: None,
            on_timeout: |reply| reply.null(),
            wants: crate::value::ObjectType::List,
            or_gone: false,
            again: None,
        };
        let command = [&b"BLMOVE"[..], b"from", b"to", b"LEFT", b"RIGHT", b"0"];
        let command = crate::net::client::OwnedCommand::new(&command);
        bench
            .server
            .keyspace
            .lock()
            .blocked
            .park(Box::new(waiting), command, request);
        assert_eq!(bench.waits("RPUSH from y"), [(0, "to".into())]);
        assert_eq!(bench.run_waiting("RPUSH from y").await.0, ":1");
        assert_eq!(bench.run("LRANGE to 0 -1"), "*2 $1 x $1 y");
    }

    #[tokio::test]
    async fn pins_survive_a_flush_of_what_was_pinned() {
        let mut bench = Bench::new();
        bench.run("SET a v");
        bench.evict(0, &["a"], false);
        let wait = Wait::Load(vec![(0, b"a".to_vec())]);
        let mut budget = WaitBudget::default();
        let pins = bench
            .server
            .clone()
            .wait_for(wait, &mut budget)
            .await
            .expect("load");
        assert_eq!(bench.server.keyspace.lock().pinned(), 1);
        bench.run("FLUSHALL");
        drop(pins);
        assert_eq!(bench.server.keyspace.lock().pinned(), 0);
        assert_eq!(bench.run("GET a"), "$-1");
    }
}
