//! A master, its replica and a replica of that, with a proxy in each link.

use anyhow::{Context as _, ensure};
use redrock_integration_tests::daemons::{companion, companions_up, info, kill_9, until};
use redrock_integration_tests::process::{Kind, Server, free_port};
use redrock_integration_tests::proxy::Proxy;
use redrock_integration_tests::resp::{Client, Reply, encode};
use redrock_integration_tests::scale::between;
use std::collections::BTreeSet;

use super::writer::KEYS;

/// `maxmemory` of each member, MiB.
const MAX_MEMORY_MIB: u64 = 128;
/// Bytes of a value of the data set that is there from the beginning; it does not compress.
const VALUE_BYTES: usize = 8 << 10;
/// Keys whose expiries are compared.
const EXPIRIES: usize = 500;
/// The line of the master's agent.
const FULL_SYNC: &str = "full resynchronization client=";

struct Member {
    folder: tempfile::TempDir,
    port: u16,
    options: Vec<String>,
    server: Option<Server>,
    /// To its master; there is none at the first.
    link: Option<Proxy>,
    /// What those before it had served.
    full_syncs: usize,
}

impl Member {
    fn start(&mut self) -> anyhow::Result<()> {
        if self.server.is_none() {
            let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
            let folder = self.folder.path();
            let server = Server::spawn_on(self.port, Kind::RedRock, folder, &options)?;
            self.server = Some(server.wait_ready()?);
        }
        Ok(())
    }

    fn client(&self) -> anyhow::Result<Client> {
        self.server.as_ref().context("a server")?.client()
    }

    /// Full syncs that the present server and those before it have served.
    fn full_syncs(&self) -> usize {
        let text = self.server.as_ref().map_or(String::new(), Server::log_text);
        self.full_syncs + text.matches(FULL_SYNC).count()
    }
}

/// See the module.
pub(crate) struct Chain {
    members: Vec<Member>,
}

impl Chain {
    /// Starts all three, with data in them of a multiple of what fits into memory.
    pub(crate) fn start_all(options: &[&str], backlog_bytes: u64) -> anyhow::Result<Self> {
        let mut chain = Self {
            members: Vec::new(),
        };
        for at in 0..super::MEMBERS {
            chain.add(at, options, backlog_bytes)?;
            if at == 0 {
                fill(&mut chain.members[0].client()?)?;
            }
        }
        chain.wait_linked()?;
        chain.compare_offsets()?;
        Ok(chain)
    }

    fn add(&mut self, at: usize, options: &[&str], backlog_bytes: u64) -> anyhow::Result<()> {
        let maxmemory = format!("{MAX_MEMORY_MIB}mb");
        let backlog = backlog_bytes.to_string();
        let common = [
            "--maxmemory",
            &maxmemory,
            "--enable-rocksdb-feature",
            "yes",
            "--repl-backlog-size",
            &backlog,
            "--enable-debug-command",
            "yes",
            "--repl-timeout",
            "10",
            "--save",
            "",
        ];
        let mut all: Vec<String> = [&common[..], options]
            .concat()
            .iter()
            .map(|o| (*o).to_owned())
            .collect();
        let mut link = None;
        if let Some(master) = at.checked_sub(1) {
            let proxy = Proxy::to(self.members[master].port)?;
            all.extend(["--replicaof", "127.0.0.1", &proxy.port.to_string()].map(str::to_owned));
            link = Some(proxy);
        }
        let mut member = Member {
            folder: tempfile::tempdir()?,
            port: free_port()?,
            options: all,
            server: None,
            link,
            full_syncs: 0,
        };
        member.start()?;
        companions_up(&mut member.client()?)?;
        self.members.push(member);
        Ok(())
    }

    pub(crate) fn port(&self, at: usize) -> u16 {
        self.members[at].port
    }

    /// The link from a replica to its master.
    pub(crate) fn link(&self, replica: usize) -> anyhow::Result<&Proxy> {
        let link = self.members[replica].link.as_ref();
        link.context("only replicas have a link")
    }

    /// Kills a member whole, if it is there.
    pub(crate) fn kill(&mut self, at: usize) -> anyhow::Result<()> {
        let member = &mut self.members[at];
        member.full_syncs = member.full_syncs();
        match member.server.take() {
            Some(server) => server.kill_family(),
            None => Ok(()),
        }
    }

    /// Kills a companion of a member that is there.
    pub(crate) fn kill_companion(&self, at: usize, name: &str) -> anyhow::Result<()> {
        let member = &self.members[at];
        if member.server.is_none() {
            return Ok(());
        }
        // It may have died just before, and be about to come back.
        match companion(&mut member.client()?, name) {
            Ok(pid) => kill_9(pid),
            Err(_) => Ok(()),
        }
    }

    /// Starts a member that was killed.
    pub(crate) fn start(&mut self, at: usize) -> anyhow::Result<()> {
        self.members[at].start()
    }

    pub(crate) fn save_all(&mut self) -> anyhow::Result<()> {
        for (at, member) in self.members.iter().enumerate() {
            let mut client = member.client()?;
            companions_up(&mut client)?;
            let saved = client.ok("SAVE");
            saved.with_context(|| format!("member {at}\n{}", self.logs(at)))?;
        }
        Ok(())
    }

    /// Waits until all replicas are linked to their masters.
    pub(crate) fn wait_linked(&self) -> anyhow::Result<()> {
        for (at, replica) in self.members.iter().enumerate().skip(1) {
            let mut client = replica.client()?;
            let linked = until("the link", || {
                Ok(info(&mut client, "replication", "master_link_status")? == "up")
            });
            linked.with_context(|| self.logs(at))?;
        }
        Ok(())
    }

    /// Waits until all are equally far.
    pub(crate) fn compare_offsets(&self) -> anyhow::Result<()> {
        let mut clients = self.clients()?;
        let mut offsets = Vec::new();
        let equal = until("equal offsets", || {
            offsets.clear();
            for client in &mut clients {
                offsets.push(info(client, "replication", "master_repl_offset")?);
            }
            Ok(offsets.iter().all(|offset| *offset == offsets[0]))
        });
        equal.with_context(|| format!("offsets {offsets:?}"))
    }

    fn clients(&self) -> anyhow::Result<Vec<Client>> {
        self.members.iter().map(Member::client).collect()
    }

    /// Compares all data, and when keys expire; nobody writes.
    pub(crate) fn compare_data(&self) -> anyhow::Result<()> {
        let mut clients = self.clients()?;
        let keys = only_lasting(&mut clients[0])?;
        self.compare_offsets()?;
        let mut seen = Vec::new();
        for client in &mut clients {
            let mut told = vec![client.ok("DBSIZE")?, client.ok("DEBUG DIGEST")?];
            for key in keys.iter().take(EXPIRIES) {
                told.push(client.run(&[b"PEXPIRETIME", key.as_slice()])?);
            }
            seen.push(told);
        }
        for at in 1..seen.len() {
            ensure!(
                seen[at] == seen[0],
                "member {at} differs: {:?} instead of {:?}; {}",
                &seen[at][..2],
                &seen[0][..2],
                differing(&mut clients, at)?
            );
        }
        Ok(())
    }

    /// Each replica took one full sync in all.
    pub(crate) fn check_full_syncs(&self) -> anyhow::Result<()> {
        for (at, member) in self.members.iter().enumerate() {
            let due = usize::from(at + 1 < self.members.len());
            let served = member.full_syncs();
            ensure!(
                served == due,
                "member {at} served {served} full syncs\n{}",
                self.logs(at)
            );
        }
        Ok(())
    }

    fn logs(&self, at: usize) -> String {
        let log = self.members[at]
            .server
            .as_ref()
            .map_or(String::new(), Server::log_text);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

/// Keys that expire some day, once those that expire at once are gone.
///
/// `DBSIZE` and the digest count what has expired until it is deleted.
fn only_lasting(client: &mut Client) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    for number in 0..KEYS {
        let key = format!("ttl:{number}").into_bytes();
        if client.run(&[b"PTTL", key.as_slice()])?.int() > Some(0) {
            keys.push(key);
        }
    }
    ensure!(!keys.is_empty(), "no key expires");
    let due = format!("expires={},", keys.len());
    until("the end of what expires at once", || {
        Ok(info(client, "keyspace", "db0")?.contains(&due))
    })?;
    Ok(keys)
}

/// Some names that only one of the first and another member has.
fn differing(clients: &mut [Client], at: usize) -> anyhow::Result<String> {
    const SHOWN: usize = 10;
    let mut names = Vec::new();
    for member in [0, at] {
        let all = clients[member].ok("KEYS *")?.elements();
        let some = all.iter().map(|name| format!("{name:?}"));
        names.push(some.collect::<BTreeSet<_>>());
    }
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
        let some: Vec<_> = a.difference(b).take(SHOWN).cloned().collect();
        some.join(" ")
    };
    Ok(format!(
        "only the first has [{}], only this has [{}]",
        only(&names[0], &names[1]),
        only(&names[1], &names[0])
    ))
}

/// Data of a multiple of `maxmemory` that do not compress.
fn fill(client: &mut Client) -> anyhow::Result<()> {
    const AT_ONCE: u64 = 64;
    let count = ((between(1, 10) * MAX_MEMORY_MIB) << 20) / VALUE_BYTES as u64;
    let mut state = 1_u64;
    for first in (0..count).step_by(AT_ONCE as usize) {
        let mut bytes = Vec::new();
        for number in first..first + AT_ONCE {
            let mut value = Vec::with_capacity(VALUE_BYTES);
            while value.len() < VALUE_BYTES {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                value.extend_from_slice(&state.to_le_bytes());
            }
            encode(
                &mut bytes,
                &[b"SET", format!("data:{number}").as_bytes(), &value],
            );
        }
        client.send_raw(&bytes)?;
        for _ in 0..AT_ONCE {
            let reply = client.receive()?;
            ensure!(reply == Reply::Status("OK".into()), "{reply:?}");
        }
    }
    Ok(())
}
