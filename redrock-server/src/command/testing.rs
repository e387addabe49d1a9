//! What tests of commands run them on: [`Bench`], one client whose clock stands still and all that
//! a command tells others; [`Clients`], several clients through the dispatcher.

use crate::command::dispatch::{self, Outcome, Scratch};
use crate::command::effect::Effect;
use crate::command::{Args, Context, Reply, registry};
use crate::config::Config;
use crate::keyspace::Keyspace;
use crate::keyspace::db::Db;
use crate::keyspace::position::Positioner;
use crate::net::client::{BlockRequest, Client, ClientShared, OwnedCommand};
use crate::notify::{Class, Notifier};
use crate::server::Server;
use crate::value::ObjectType;
use std::cell::RefCell;
use std::sync::Arc;

/// The time on a new bench, unix ms.
pub(crate) const NOW: i64 = 1_700_000_000_000;

fn keyspace() -> Keyspace {
    Keyspace::new(4, Positioner::new((1, 2)))
}

/// An empty server with the default configuration.
pub(crate) fn new_server() -> Server {
    Server::new(Config::default(), keyspace(), "0".repeat(40), 1)
}

fn new_client(id: u64) -> Client {
    let shared = ClientShared {
        id,
        ..ClientShared::default()
    };
    let mut client = Client::new(Arc::new(shared), String::new(), String::new(), NOW);
    client.authenticated = true;
    client
}

/// A client that waits for what its group gets of a stream.
pub(crate) fn wait_for_stream(keyspace: &mut Keyspace, key: &str) -> Arc<ClientShared> {
    let client = Box::new(new_client(77));
    let shared = client.shared.clone();
    let command = format!("XREADGROUP GROUP g c STREAMS {key} >");
    let request = BlockRequest {
        keys: vec![key.into()],
        deadline_ms: None,
        on_timeout: |_| {},
        wants: ObjectType::Stream,
        or_gone: true,
        again: None,
    };
    let command = OwnedCommand::new(&words(&command));
    keyspace.blocked.park(client, command, request);
    shared
}

fn words(command: &str) -> Vec<&[u8]> {
    command.split(' ').map(str::as_bytes).collect()
}

/// RESP with its line ends shown as blanks.
pub(crate) fn shown(resp: &[u8]) -> String {
    String::from_utf8_lossy(resp)
        .trim_end()
        .replace("\r\n", " ")
}

/// How a keyspace event (its class, name, key and database) stands in [`Ran::events`].
pub(crate) type ShowEvent = fn(Class, &str, &str, usize) -> String;

struct Events {
    show: ShowEvent,
    found: RefCell<Vec<String>>,
}

impl Notifier for Events {
    fn notify(&self, class: Class, event: &'static str, key: &[u8], db: usize) {
        if class != Class::KEY_MISS && class != Class::NEW {
            let shown = (self.show)(class, event, &String::from_utf8_lossy(key), db);
            self.found.borrow_mut().push(shown);
        }
    }
}

/// One client on an empty server whose clock stands still.
pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) config: Config,
    pub(crate) keyspace: Keyspace,
    pub(crate) client: Client,
    pub(crate) now_ms: i64,
    pub(crate) resp3: bool,
    show: ShowEvent,
}

/// What came of one command.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Ran {
    pub(crate) reply: Vec<u8>,
    /// The reply as [`shown`].
    pub(crate) text: String,
    /// Words of all propagated commands, without the RESP around them.
    pub(crate) propagated: String,
    pub(crate) events: Vec<String>,
    pub(crate) dirty: u64,
}

impl Bench {
    /// After some commands, none of which may fail.
    pub(crate) fn new(show: ShowEvent, commands: &[&str]) -> Self {
        let mut bench = Self {
            server: new_server(),
            config: Config {
                proto_bulk_bytes_max: 1 << 20,
                ..Config::default()
            },
            keyspace: keyspace(),
            client: new_client(1),
            now_ms: NOW,
            resp3: false,
            show,
        };
        for command in commands {
            let ran = bench.run(command);
            assert!(!ran.text.starts_with('-'), "{command}: {}", ran.text);
        }
        bench
    }

    pub(crate) fn run(&mut self, command: &str) -> Ran {
        self.run_argv(&words(command))
    }

    pub(crate) fn run_argv(&mut self, argv: &[&[u8]]) -> Ran {
        self.run_limited(argv, usize::MAX)
    }

    /// As [`Bench::run_argv`], with a reply of at most so many bytes.
    pub(crate) fn run_limited(&mut self, argv: &[&[u8]], reply_bytes_max: usize) -> Ran {
        let args = Args::new(argv);
        let spec = registry::resolve(&args).expect("a known command");
        let events = Events {
            show: self.show,
            found: RefCell::default(),
        };
        let (mut effect, mut out) = (Effect::default(), Vec::new());
        let mut ctx = Context {
            server: &self.server,
            config: &self.config,
            db: Db::new(
                &mut self.keyspace,
                &events,
                &mut effect,
                self.client.db,
                self.now_ms,
            ),
            client: &mut self.client,
            reply: Reply::new(&mut out, self.resp3).limited(reply_bytes_max),
        };
        if let Err(error) = dispatch::call(&mut ctx, spec, &args) {
            ctx.reply.error(&error.resp());
        }
        let text = String::from_utf8_lossy(effect.commands()).into_owned();
        let propagated = text
            .split("\r\n")
            .filter(|line| !line.starts_with(['*', '$']) && !line.is_empty());
        Ran {
            text: shown(&out),
            reply: out,
            propagated: propagated.collect::<Vec<_>>().join(" "),
            events: events.found.take(),
            dirty: effect.dirty,
        }
    }

    /// The reply alone.
    pub(crate) fn text(&mut self, command: &str) -> String {
        self.run(command).text
    }
}

/// Clients on an empty server, by the real clock. Nothing sends what they are told.
pub(crate) struct Clients {
    pub(crate) server: Arc<Server>,
    pub(crate) clients: Vec<Option<Box<Client>>>,
    pub(crate) scratch: Scratch,
}

impl Clients {
    pub(crate) fn new(count: u64) -> Self {
        Self {
            server: Arc::new(new_server()),
            clients: (1..=count)
                .map(|id| Some(Box::new(new_client(id))))
                .collect(),
            scratch: Scratch::default(),
        }
    }

    /// Runs a client's command; its reply.
    pub(crate) fn run_as(&mut self, client: usize, command: &str) -> String {
        let (outcome, reply) = self.start(client, command);
        assert!(matches!(outcome, Outcome::Done), "{command}: {outcome:?}");
        reply
    }

    /// As [`Clients::run_as`], whatever comes of it.
    pub(crate) fn start(&mut self, client: usize, command: &str) -> (Outcome, String) {
        let mut out = Vec::new();
        let slot = &mut self.clients[client];
        let argv = words(command);
        let outcome = dispatch::execute(&self.server, &mut self.scratch, slot, &argv, &mut out);
        (outcome, shown(&out))
    }

    /// The first client's commands and the replies they must get.
    pub(crate) fn expect(&mut self, script: &[(&str, &str)]) {
        for (command, reply) in script {
            assert_eq!(self.run_as(0, command), *reply, "{command}");
        }
    }
}
