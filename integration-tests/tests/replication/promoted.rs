//! A replica whose own clients changed its data becomes a master: what it writes from then on may build upon
//! that, so its log, its replicas and a start must have it all.

use crate::link::{
    companions_up, fill, info, link_is, number, promote, replace, start, synced, until,
};
use redrock_integration_tests::process::{Kind, Server, free_port};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;

/// A master, a replica that takes writes of its own, and a replica of that.
struct Chain {
    folders: [tempfile::TempDir; 3],
    top: Server,
    middle: Server,
    leaf: Server,
}

fn member(folder: &Path, log: &str, read_only: &str, master: u16) -> anyhow::Result<Server> {
    member_on(free_port()?, folder, log, read_only, master)
}

fn member_on(
    port: u16,
    folder: &Path,
    log: &str,
    read_only: &str,
    master: u16,
) -> anyhow::Result<Server> {
    let master = master.to_string();
    let options = [
        ["--appendonly", log, "--replica-read-only", read_only],
        [
            "--enable-debug-command",
            "yes",
            "--auto-aof-rewrite-percentage",
            "0",
        ],
    ];
    let of = ["--replicaof", "127.0.0.1", &master];
    let all = [&options.concat()[..], &of].concat();
    Server::spawn_on(port, Kind::RedRock, folder, &all)?.wait_ready()
}

impl Chain {
    fn start(log: &str, read_only: &str) -> anyhow::Result<Self> {
        let folders = [
            tempfile::tempdir()?,
            tempfile::tempdir()?,
            tempfile::tempdir()?,
        ];
        let top = start(Kind::RedRock, folders[0].path(), &["--appendonly", "yes"])?;
        companions_up(&mut top.client()?)?;
        fill(&mut top.client()?, "key", 0..100, 100)?;
        let middle = member(folders[1].path(), log, read_only, top.port)?;
        link_is(&mut middle.client()?, "up")?;
        let leaf = member(folders[2].path(), log, "yes", middle.port)?;
        link_is(&mut leaf.client()?, "up")?;
        until("logs", || {
            let mut is_on = true;
            for server in [&middle, &leaf] {
                let enabled = info(&mut server.client()?, "persistence", "aof_enabled")?;
                is_on &= (enabled == "1") == (log == "yes");
            }
            Ok(is_on)
        })?;
        Ok(Self {
            folders,
            top,
            middle,
            leaf,
        })
    }

    /// The middle is a master that takes writes.
    fn promote(&self) -> anyhow::Result<Client> {
        let mut client = self.middle.client()?;
        promote(&mut client, "promoted")?;
        Ok(client)
    }

    /// The leaf has what the middle has, and gets what comes.
    fn agree(&self) -> anyhow::Result<String> {
        let (mut middle, mut leaf) = (self.middle.client()?, self.leaf.client()?);
        link_is(&mut leaf, "up")?;
        until("the same data", || {
            Ok(middle.ok("DEBUG DIGEST")? == leaf.ok("DEBUG DIGEST")?)
        })?;
        Ok(middle.ok("DEBUG DIGEST")?.text())
    }

    /// How many full and partial syncs the middle has served.
    fn synced(&self, counts: (u64, u64)) -> anyhow::Result<()> {
        synced(&mut self.middle.client()?, counts)
    }
}

fn change(client: &mut Client) -> anyhow::Result<()> {
    client.ok("SET own 40")?;
    client.ok("APPEND key:1 own")?;
    client.ok("RPUSH own-list a b c")?;
    client.ok("DEL key:2")?;
    Ok(())
}

fn build_upon(client: &mut Client) -> anyhow::Result<()> {
    assert_eq!(client.ok("INCR own")?.int(), Some(41));
    client.ok("APPEND key:1 -more")?;
    client.ok("APPEND key:2 anew")?;
    assert_eq!(client.ok("RPUSH own-list d")?.int(), Some(4));
    client.ok("LPOP own-list")?;
    Ok(())
}

fn has_built(client: &mut Client) -> anyhow::Result<()> {
    assert_eq!(client.ok("GET own")?.text(), "41");
    assert!(client.ok("GET key:1")?.text().ends_with("own-more"));
    assert_eq!(client.ok("GET key:2")?.text(), "anew");
    let list = client.ok("LRANGE own-list 0 -1")?.elements();
    assert_eq!(list.iter().map(Reply::text).collect::<String>(), "bcd");
    Ok(())
}

#[test]
fn own_writes_of_a_replica_are_its_replicas_and_its_logs_once_it_is_a_master() -> anyhow::Result<()>
{
    let mut chain = Chain::start("yes", "no")?;
    change(&mut chain.middle.client()?)?;
    assert_eq!(chain.leaf.client()?.ok("EXISTS own")?.int(), Some(0));
    build_upon(&mut chain.promote()?)?;
    let before = chain.agree()?;
    has_built(&mut chain.leaf.client()?)?;
    let (folder, port) = (chain.folders[1].path(), chain.middle.port);
    let options = ["--appendonly", "yes", "--enable-debug-command", "yes"];
    let again = || Server::spawn_on(port, Kind::RedRock, folder, &options)?.wait_ready();
    replace(&mut chain.middle, again)?;
    let mut client = chain.middle.client()?;
    assert_eq!(client.ok("DEBUG DIGEST")?.text(), before);
    has_built(&mut client)?;
    client.ok("INCR own")?;
    chain.agree()?;
    // The leaf goes on with the new history.
    chain.synced((0, 1))
}

#[test]
fn so_they_are_without_an_append_only_file() -> anyhow::Result<()> {
    let chain = Chain::start("no", "no")?;
    change(&mut chain.middle.client()?)?;
    build_upon(&mut chain.promote()?)?;
    chain.agree()?;
    has_built(&mut chain.leaf.client()?)
}

#[test]
fn what_a_masters_write_made_a_replicas_client_take_counts_as_its_own() -> anyhow::Result<()> {
    let chain = Chain::start("yes", "no")?;
    let mut waiting = chain.middle.client()?;
    waiting.send(&["BLPOP", "queue", "0"])?;
    until("a client that waits", || {
        let blocked = info(&mut chain.middle.client()?, "clients", "blocked_clients")?;
        Ok(blocked == "1")
    })?;
    chain.top.client()?.ok("RPUSH queue first second")?;
    let taken = waiting.receive()?.elements();
    assert_eq!(taken.last().map(Reply::text).as_deref(), Some("first"));
    let mut master = chain.promote()?;
    assert_eq!(master.ok("RPUSH queue third")?.int(), Some(2));
    chain.agree()?;
    Ok(())
}

#[test]
fn a_base_that_has_own_writes_is_known_after_a_restart() -> anyhow::Result<()> {
    let mut chain = Chain::start("yes", "no")?;
    let mut client = chain.middle.client()?;
    change(&mut client)?;
    let rewrites = number(&mut client, "persistence", "aof_rewrites")?;
    client.ok("BGREWRITEAOF")?;
    until("a rewrite", || {
        let done = number(&mut client, "persistence", "aof_rewrites")? > rewrites;
        Ok(done && info(&mut client, "persistence", "aof_rewrite_in_progress")? == "0")
    })?;
    let (folder, port, top) = (chain.folders[1].path(), chain.middle.port, chain.top.port);
    replace(&mut chain.middle, || {
        member_on(port, folder, "yes", "yes", top)
    })?;
    let mut client = chain.middle.client()?;
    link_is(&mut client, "up")?;
    assert_eq!(client.ok("GET own")?.text(), "40");
    link_is(&mut chain.leaf.client()?, "up")?;
    build_upon(&mut chain.promote()?)?;
    chain.agree()?;
    has_built(&mut chain.leaf.client()?)
}

#[test]
fn a_replica_that_nobody_wrote_to_goes_on_with_its_replicas() -> anyhow::Result<()> {
    for read_only in ["yes", "no"] {
        let chain = Chain::start("yes", read_only)?;
        // A message is no data, wherever it is sent.
        chain.middle.client()?.ok("PUBLISH channel message")?;
        chain.promote()?.ok("INCR own")?;
        chain.agree()?;
        // As in Redis its links end with the old id, and go on with the new one.
        chain.synced((1, 1))?;
    }
    Ok(())
}

#[test]
fn a_failover_to_a_replica_with_own_writes_brings_them_to_the_old_master() -> anyhow::Result<()> {
    for log in ["yes", "no"] {
        let chain = Chain::start(log, "no")?;
        let (mut old, mut new) = (chain.top.client()?, chain.middle.client()?);
        until("a replica that is online", || {
            Ok(info(&mut old, "replication", "slave0")?.contains("state=online"))
        })?;
        old.ok("SET theirs 1")?;
        change(&mut new)?;
        old.ok("FAILOVER")?;
        until("the other roles", || {
            let roles = [&mut old, &mut new].map(|client| info(client, "replication", "role"));
            let [old, new] = roles;
            Ok(old? == "slave" && new? == "master")
        })?;
        // Nothing is left to do but to wait for writes.
        let mut new = chain.promote()?;
        build_upon(&mut new)?;
        link_is(&mut old, "up")?;
        chain.agree()?;
        until("the same data", || {
            Ok(old.ok("DEBUG DIGEST")? == new.ok("DEBUG DIGEST")?)
        })?;
        for client in [&mut old, &mut new] {
            has_built(client)?;
            assert_eq!(client.ok("GET theirs")?.text(), "1");
            let failover = info(client, "replication", "master_failover_state")?;
            assert_eq!(failover, "no-failover");
        }
    }
    Ok(())
}
