//! A server with a tier, for tests of what is read from it.

use crate::command::dispatch::{self, Outcome, Scratch, Wait};
use crate::config::Config;
use crate::keyspace::Keyspace;
use crate::keyspace::cold::ColdStore;
use crate::keyspace::cold::options::ColdBudget;
use crate::keyspace::position::Positioner;
use crate::keyspace::tiering::direct::together::Together;
use crate::keyspace::tiering::fifo::{TierQueue, spawn_applier};
use crate::keyspace::tiering::one_read::{OneRead, PoolRead};
use crate::keyspace::tiering::{Tiering, reader};
use crate::net::client::{Client, ClientShared};
use crate::server::Server;
use crate::waits::WaitBudget;
use std::rc::Rc;
use std::sync::Arc;

/// A server with a tier, and one client.
pub(super) struct Bench {
    pub(super) server: Arc<Server>,
    pub(super) cold: Arc<ColdStore>,
    slot: Option<Box<Client>>,
    scratch: Scratch,
    _folder: tempfile::TempDir,
}

impl Bench {
    pub(super) fn new() -> Self {
        let bench = Self::without_readers();
        bench.start_reader();
        bench
    }

    pub(super) fn start_reader(&self) {
        reader::start(&self.server, &self.cold).expect("readers");
    }

    /// Its commands may have the pool read for them alone, as those of connections do.
    pub(super) fn connected() -> Self {
        let bench = Self::without_readers();
        bench.server.set_handle();
        bench
    }

    /// Nothing is read before [`Self::start_reader`].
    pub(super) fn without_readers() -> Self {
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

    /// It is one of several clients of a thread, and sends one request at a time.
    pub(super) fn serve_with(&mut self, together: Rc<Together>) {
        self.scratch = Scratch::of_worker(together);
        self.is_alone(true);
    }

    /// Whether a request is all that the client has sent.
    pub(super) fn is_alone(&mut self, is_alone: bool) {
        self.scratch.is_alone = is_alone;
    }

    pub(super) fn try_run(&mut self, command: &str, out: &mut Vec<u8>) -> Outcome {
        let argv: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.try_words(&argv, out)
    }

    fn try_words(&mut self, argv: &[&[u8]], out: &mut Vec<u8>) -> Outcome {
        dispatch::execute(&self.server, &mut self.scratch, &mut self.slot, argv, out)
    }

    /// Runs a command with what was read for it.
    pub(super) fn run_with(&mut self, command: &str, read: OneRead) -> (Outcome, String) {
        let argv: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let (scratch, slot, mut out) = (&mut self.scratch, &mut self.slot, Vec::new());
        let read = Some(read);
        let outcome = dispatch::execute_with(&self.server, scratch, slot, &argv, &mut out, read);
        (outcome, text(&out))
    }

    /// The read that the command waits for.
    pub(super) fn begin(&mut self, command: &str) -> PoolRead {
        match self.try_run(command, &mut Vec::new()) {
            Outcome::Retry(Wait::Read(read)) => read,
            other => panic!("{command}: {other:?}"),
        }
    }

    pub(super) fn run(&mut self, command: &str) -> String {
        let argv: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.run_words(&argv)
    }

    /// Runs a command with arguments that are no text.
    pub(super) fn run_words(&mut self, argv: &[&[u8]]) -> String {
        let mut out = Vec::new();
        let outcome = self.try_words(argv, &mut out);
        assert!(matches!(outcome, Outcome::Done), "{argv:?}: {outcome:?}");
        text(&out)
    }

    /// What the command waits for.
    pub(super) fn waits(&mut self, command: &str) -> Vec<(usize, String)> {
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
    pub(super) fn evict(&self, db: usize, keys: &[&str], whole: bool) {
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
    pub(super) async fn run_waiting(&mut self, command: &str) -> (String, usize) {
        let (mut budget, mut pins, mut waits) = (WaitBudget::default(), Vec::new(), 0);
        let mut out = Vec::new();
        let mut outcome = self.try_run(command, &mut out);
        loop {
            let wait = match outcome {
                Outcome::Retry(wait) => wait,
                Outcome::Done => return (text(&out), waits),
                other => panic!("{command}: {other:?}"),
            };
            waits += 1;
            if let Wait::Read(read) = wait {
                let read = budget.wait_for_read(read).await.expect("a read");
                let (next, reply) = self.run_with(command, read);
                (outcome, out) = (next, reply.into_bytes());
                continue;
            }
            let waited = self.server.clone().wait_for(wait, &mut budget).await;
            pins.push(waited.expect("load"));
            outcome = self.try_run(command, &mut out);
        }
    }
}

fn text(out: &[u8]) -> String {
    let text = String::from_utf8_lossy(out);
    text.trim_end().replace("\r\n", " ")
}
