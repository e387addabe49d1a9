//! A real Sentinel fails over from us to a real Redis and the other way round.

use crate::link::{
    companions_up, fill, info, link_is, same_data, spawn, start, takes_writes, until,
};
use redrock_integration_tests::process::{Kind, Server, free_port, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running `redis-server --sentinel`; dropping it kills it.
pub(crate) struct Sentinel {
    child: Child,
    pub(crate) client: Client,
}

impl Sentinel {
    /// One of those of which so many must agree.
    pub(crate) fn watch(folder: &Path, master: u16, quorum: usize) -> anyhow::Result<Self> {
        let port = free_port()?;
        let file = folder.join("sentinel.conf");
        let text = format!(
            "port {port}\ndir {}\nsentinel monitor watched 127.0.0.1 {master} {quorum}\n\
             sentinel down-after-milliseconds watched 3000\n\
             sentinel failover-timeout watched 20000\n",
            folder.display()
        );
        std::fs::write(&file, text)?;
        let child = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut client = None;
        let up = until("sentinel up", || {
            client = Client::connect(port).ok();
            Ok(client.is_some())
        });
        match (up, client) {
            (Ok(()), Some(client)) => Ok(Self { child, client }),
            (result, _) => {
                let mut child = child;
                child.kill()?;
                child.wait()?;
                anyhow::bail!("{result:?}")
            }
        }
    }

    /// Waits until it knows so many replicas, which answer and have their links.
    pub(crate) fn knows_replicas(&mut self, count: usize) -> anyhow::Result<()> {
        let client = &mut self.client;
        until("known replicas", || {
            let list = client.ok("SENTINEL REPLICAS watched")?.elements();
            Ok(list.len() == count && list.into_iter().all(is_well))
        })
    }

    pub(crate) fn waits_for_master(&mut self, port: u16) -> anyhow::Result<()> {
        let client = &mut self.client;
        until("the failover", || {
            let address = client.ok("SENTINEL GET-MASTER-ADDR-BY-NAME watched")?;
            let found = address.elements().get(1).map(Reply::text);
            Ok(found == Some(port.to_string()))
        })
    }
}

/// Whether Sentinel says so of a replica.
fn is_well(replica: Reply) -> bool {
    let texts: Vec<String> = replica.elements().iter().map(Reply::text).collect();
    let of = |name: &str| {
        let at = texts.iter().position(|text| text == name)?;
        texts.get(at + 1).map(String::as_str)
    };
    of("flags") == Some("slave") && of("master-link-status") == Some("ok")
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From a master of one kind to a replica of the other, which then has a replica in the old
/// master.
fn fails_over(from: Kind, to: Kind) -> anyhow::Result<()> {
    let folders = [
        tempfile::tempdir()?,
        tempfile::tempdir()?,
        tempfile::tempdir()?,
    ];
    let append_only = ["--appendonly", "yes", "--repl-diskless-sync-delay", "0"];
    let first = start(from, folders[0].path(), &append_only)?;
    let port = first.port;
    let mut client = first.client()?;
    if from == Kind::RedRock {
        companions_up(&mut client)?;
    }
    let text = port.to_string();
    let options = [&append_only[..], &["--replicaof", "127.0.0.1", &text]].concat();
    let second = start(to, folders[1].path(), &options)?;
    let mut other = second.client()?;
    link_is(&mut other, "up")?;
    fill(&mut client, "key", 0..500, 100)?;
    same_data(&mut client, &mut other)?;
    let mut sentinel = Sentinel::watch(folders[2].path(), port, 1)?;
    sentinel.knows_replicas(1)?;
    first.kill()?;
    sentinel.waits_for_master(second.port)?;
    // Sentinel has closed all clients of the new master.
    let mut other = second.client()?;
    until("the promotion", || {
        Ok(info(&mut other, "replication", "role")? == "master")
    })?;
    assert!(other.ok("STRLEN key:499")?.int() >= Some(100));
    takes_writes(&mut other, "after-failover")?;
    // The old master comes back, and Sentinel makes it follow.
    let again = [&append_only[..], &["--port", &text]].concat();
    let mut first = spawn(from, folders[0].path(), &again)?;
    first.port = port;
    let first = first.wait_ready()?;
    // On a slow machine Sentinel may have changed its mind once more: one follows the other.
    let mut first_follows = false;
    until("one follows the other", || {
        let up = |server: &Server| -> bool {
            let link = server
                .client()
                .and_then(|mut client| info(&mut client, "replication", "master_link_status"));
            link.is_ok_and(|link| link == "up")
        };
        first_follows = up(&first);
        Ok(first_follows || up(&second))
    })?;
    let (master, replica) = match first_follows {
        true => (&second, &first),
        false => (&first, &second),
    };
    same_data(&mut master.client()?, &mut replica.client()?)
}

#[test]
fn sentinel_fails_over_from_us_to_a_real_redis() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    fails_over(Kind::RedRock, Kind::Redis)
}

#[test]
fn sentinel_fails_over_from_a_real_redis_to_us() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    fails_over(Kind::Redis, Kind::RedRock)
}
