//! `replica-read-only no`: a replica's own clients write, as in Redis for as long as nothing of the master's
//! takes its place.

use crate::link::{Proxy, companions_up, fill, info, link_is, start, synced, until};
use redrock_integration_tests::process::{Kind, Server, free_port, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;

const WARNING: &str = "this replica takes writes of its own clients";

/// A master that knows nothing of before when it is started.
fn master(kind: Kind, folder: &Path, port: u16) -> anyhow::Result<Server> {
    let options = ["--save", "", "--repl-diskless-sync-delay", "0"];
    let server = Server::spawn_on(port, kind, folder, &options)?.wait_ready()?;
    if kind == Kind::RedRock {
        companions_up(&mut server.client()?)?;
    }
    Ok(server)
}

fn value(client: &mut Client, key: &str) -> anyhow::Result<String> {
    Ok(client.ok(&format!("GET {key}"))?.text())
}

/// Waits until a replica has what its master writes last.
fn caught_up(master: &mut Client, replica: &mut Client) -> anyhow::Result<()> {
    let mark = master.ok("INCR mark")?.int();
    let mark = mark.unwrap_or(0).to_string();
    until(
        "the master's writes",
        || Ok(value(replica, "mark")? == mark),
    )
}

/// A master, a replica of ours that takes writes and is behind a proxy, and a replica of that.
struct Chain {
    kind: Kind,
    folders: [tempfile::TempDir; 3],
    top: Server,
    proxy: Proxy,
    replica: Server,
    leaf: Server,
}

fn writable(folder: &Path, port: u16, master: u16) -> anyhow::Result<Server> {
    let master = master.to_string();
    let options = [
        "--appendonly",
        "yes",
        "--replica-read-only",
        "no",
        "--replicaof",
        "127.0.0.1",
        &master,
    ];
    Server::spawn_on(port, Kind::RedRock, folder, &options)?.wait_ready()
}

impl Chain {
    fn start(kind: Kind) -> anyhow::Result<Self> {
        let folders = [
            tempfile::tempdir()?,
            tempfile::tempdir()?,
            tempfile::tempdir()?,
        ];
        let top = master(kind, folders[0].path(), free_port()?)?;
        fill(&mut top.client()?, "key", 0..100, 100)?;
        let proxy = Proxy::to(top.port)?;
        let replica = writable(folders[1].path(), free_port()?, proxy.port)?;
        link_is(&mut replica.client()?, "up")?;
        let of = ["--replicaof", "127.0.0.1", &replica.port.to_string()];
        let leaf = start(Kind::RedRock, folders[2].path(), &of)?;
        link_is(&mut leaf.client()?, "up")?;
        Ok(Self {
            kind,
            folders,
            top,
            proxy,
            replica,
            leaf,
        })
    }

    /// Its clients see what they write, its replicas and the stream nothing of it.
    fn stay_local(&self) -> anyhow::Result<()> {
        let (mut replica, mut leaf) = (self.replica.client()?, self.leaf.client()?);
        let mut master = self.top.client()?;
        assert_eq!(info(&mut replica, "replication", "slave_read_only")?, "0");
        assert_eq!(self.replica.log_text().matches(WARNING).count(), 1);
        replica.ok("SET own 1")?;
        replica.ok("SET key:1 own")?;
        replica.ok("RPUSH own-list a b c")?;
        replica.ok("DEL key:2")?;
        assert_eq!(value(&mut replica, "own")?, "1");
        assert_eq!(value(&mut replica, "key:1")?, "own");
        caught_up(&mut master, &mut leaf)?;
        assert_eq!(leaf.ok("EXISTS own own-list")?.int(), Some(0));
        assert!(leaf.ok("STRLEN key:1")?.int() > Some(90));
        assert_eq!(leaf.ok("EXISTS key:2")?.int(), Some(1));
        let offset = |client: &mut Client| info(client, "replication", "master_repl_offset");
        until("equal offsets", || {
            Ok(offset(&mut replica)? == offset(&mut master)?)
        })
    }

    /// The master's writes count; a link that goes on takes nothing back.
    fn go_on_with_the_link(&self) -> anyhow::Result<()> {
        let (mut master, mut replica) = (self.top.client()?, self.replica.client()?);
        master.ok("SET key:1 theirs")?;
        self.proxy.cut();
        link_is(&mut replica, "down")?;
        self.proxy.heal();
        link_is(&mut replica, "up")?;
        caught_up(&mut master, &mut replica)?;
        assert_eq!(value(&mut replica, "key:1")?, "theirs");
        assert_eq!(value(&mut replica, "own")?, "1");
        synced(&mut master, (1, 1))
    }

    /// A restart undoes them: they are in no log.
    fn end_with_a_restart(&mut self) -> anyhow::Result<()> {
        let (folder, port) = (self.folders[1].path(), self.replica.port);
        let again = || writable(folder, port, self.proxy.port);
        crate::link::replace(&mut self.replica, again)?;
        let mut replica = self.replica.client()?;
        link_is(&mut replica, "up")?;
        caught_up(&mut self.top.client()?, &mut replica)?;
        assert_eq!(replica.ok("EXISTS own own-list")?.int(), Some(0));
        assert_eq!(replica.ok("EXISTS key:2")?.int(), Some(1));
        Ok(())
    }

    /// So does a full sync.
    fn end_with_a_full_sync(&mut self) -> anyhow::Result<()> {
        let mut replica = self.replica.client()?;
        replica.ok("SET own 2")?;
        let (kind, folder, port) = (self.kind, self.folders[0].path(), self.top.port);
        crate::link::replace(&mut self.top, || master(kind, folder, port))?;
        fill(&mut self.top.client()?, "other", 0..100, 100)?;
        until("the new master's data", || {
            let own = replica.ok("EXISTS own")?.int();
            Ok(own == Some(0) && replica.ok("EXISTS other:99")?.int() == Some(1))
        })?;
        assert_eq!(replica.ok("EXISTS key:1")?.int(), Some(0));
        Ok(())
    }

    /// And they may be refused again.
    fn are_refused(&self) -> anyhow::Result<()> {
        let mut replica = self.replica.client()?;
        let warnings = || self.replica.log_text().matches(WARNING).count();
        assert_eq!(warnings(), 1);
        replica.ok("CONFIG SET replica-read-only yes")?;
        let refused = replica.run(&["SET", "own", "3"])?;
        let is_refused = matches!(&refused, Reply::Error(text) if text.starts_with("READONLY "));
        assert!(is_refused, "{refused:?}");
        replica.ok("CONFIG SET replica-read-only no")?;
        replica.ok("SET own 4")?;
        assert_eq!(warnings(), 2);
        Ok(())
    }
}

fn writes_of_its_own(kind: Kind) -> anyhow::Result<()> {
    let mut chain = Chain::start(kind)?;
    chain.stay_local()?;
    chain.go_on_with_the_link()?;
    chain.end_with_a_restart()?;
    chain.end_with_a_full_sync()?;
    chain.are_refused()
}

#[test]
fn writes_of_a_replicas_own_clients_are_local_behind_a_real_master() -> anyhow::Result<()> {
    match has_redis() {
        true => writes_of_its_own(Kind::Redis),
        false => Ok(()),
    }
}

#[test]
fn writes_of_a_replicas_own_clients_are_local_behind_one_of_ours() -> anyhow::Result<()> {
    writes_of_its_own(Kind::RedRock)
}
