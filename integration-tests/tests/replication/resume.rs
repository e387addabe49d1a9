//! A full sync between two of ours whose link breaks, or one of whose sides dies, goes on where it was:
//! the master counts one full sync, and sends little twice. Where it can't, a full sync begins anew.

use crate::link::{
    Proxy, companions_up, fill, info, link_is, number, same_data, start, synced, until,
};
use anyhow::Context as _;
use redrock_integration_tests::daemons::{companion, kill_9, wait_ended};
use redrock_integration_tests::fake_master::{Answer, FakeMaster, OFFSET};
use redrock_integration_tests::process::{Kind, Server, free_port};
use redrock_integration_tests::resp::Client;
use redrock_integration_tests::scale::{between, seed};
use std::path::{Path, PathBuf};

/// No rewrite but those asked for.
const LOGGED: [&str; 4] = ["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"];
/// What may be sent twice: what was on its way in the system's buffers.
const TWICE_BYTES_MAX: u64 = 4 << 20;

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// So many megabytes that can't be compressed.
fn fill_with_noise(client: &mut Client, megabytes: u64, state: &mut u64) -> anyhow::Result<()> {
    for n in 0..megabytes * 10 {
        let words = (0..12_500).flat_map(|_| random(state).to_le_bytes());
        let value: Vec<u8> = words.collect();
        client.send(&[b"SET", format!("noise:{n}").as_bytes(), &value])?;
        client.receive()?;
    }
    Ok(())
}

fn start_on(folder: &Path, port: u16, options: &[&str]) -> anyhow::Result<Server> {
    let all = [options, &["--enable-debug-command", "yes"]].concat();
    let server = Server::spawn_on(port, Kind::RedRock, folder, &all)?.wait_ready()?;
    companions_up(&mut server.client()?)?;
    Ok(server)
}

/// A master whose base holds all of its data, and where replicas reach it.
struct Master {
    folder: tempfile::TempDir,
    server: Server,
    client: Client,
    proxy: Proxy,
    seed: u64,
}

impl Master {
    fn start(options: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut seed = seed();
        let server = start_on(folder.path(), free_port()?, options)?;
        let mut client = server.client()?;
        fill_with_noise(&mut client, between(24, 400), &mut seed)?;
        if options.contains(&"yes") {
            client.ok("BGREWRITEAOF")?;
            until("the rewrite", || {
                Ok(number(&mut client, "persistence", "aof_rewrites")? > 0
                    && number(&mut client, "persistence", "aof_rewrite_in_progress")? == 0)
            })?;
        }
        let proxy = Proxy::to(server.port)?;
        Ok(Self {
            folder,
            server,
            client,
            proxy,
            seed,
        })
    }

    /// Its data, as long as they are in a file.
    fn base_bytes(&self) -> u64 {
        between(24, 400) * 1_000_000
    }

    /// A replica that reaches it through the proxy; waits for nothing.
    fn replica(&self, folder: &Path) -> anyhow::Result<Server> {
        let port = self.proxy.port.to_string();
        let options = ["--save", "", "--replicaof", "127.0.0.1", &port];
        start(Kind::RedRock, folder, &options)
    }

    fn resumed(&mut self, wanted: u64) -> anyhow::Result<()> {
        let mut found = 0;
        let shown = until("the resumed full syncs", || {
            found = number(&mut self.client, "stats", "sync_full_resumed")?;
            Ok(found == wanted)
        });
        shown.with_context(|| format!("{found} instead of {wanted}"))
    }

    /// Nearly every byte was sent once.
    fn sent_once(&self, links: u64) {
        let (passed, once) = (self.proxy.passed(), self.base_bytes());
        println!("{passed} bytes were sent over {links} links, {once} of data");
        assert!(passed >= once, "{passed}");
        assert!(passed < once + TWICE_BYTES_MAX, "{passed} for {once}");
    }

    fn stopped(&self) -> anyhow::Result<()> {
        until("the place in the transfer", || Ok(self.proxy.is_stopped()))
    }
}

/// Files in a folder whose names contain a text.
fn files(folder: &Path, text: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.contains(text) {
            found.push(path.clone());
        }
    }
    Ok(found)
}

fn goes_on_wherever_its_link_breaks(options: &[&str]) -> anyhow::Result<()> {
    let mut master = Master::start(options)?;
    let below = tempfile::tempdir()?;
    let mut cuts: Vec<u64> = (0..4)
        .map(|_| random(&mut master.seed) % master.base_bytes())
        .collect();
    // Within the first bytes, too, and at the very end.
    cuts.extend([1_000, master.base_bytes()]);
    cuts.sort_unstable();
    // Each link brings something.
    for at in 1..cuts.len() {
        cuts[at] = cuts[at].max(cuts[at - 1] + 2_000);
    }
    println!("cuts at {cuts:?}");
    master.proxy.cut_at(&cuts);
    let follower = master.replica(below.path())?;
    until("all cuts", || {
        fill(&mut master.client, "meanwhile", 0..10, 10)?;
        Ok(master.proxy.marks_left() == 0)
    })?;
    let mut replica = follower.client()?;
    link_is(&mut replica, "up")?;
    same_data(&mut master.client, &mut replica)?;
    synced(&mut master.client, (1, 0))?;
    master.resumed(cuts.len() as u64)?;
    master.sent_once(cuts.len() as u64 + 1);
    assert!(files(&below.path().join("spool"), "snapshot-")?.is_empty());
    Ok(())
}

#[test]
fn a_full_sync_goes_on_wherever_its_link_breaks() -> anyhow::Result<()> {
    goes_on_wherever_its_link_breaks(&LOGGED)
}

#[test]
fn a_full_sync_without_a_log_goes_on_wherever_its_link_breaks() -> anyhow::Result<()> {
    goes_on_wherever_its_link_breaks(&["--appendonly", "no", "--save", ""])
}

#[test]
fn a_full_sync_goes_on_though_its_base_was_replaced_meanwhile() -> anyhow::Result<()> {
    let mut master = Master::start(&LOGGED)?;
    let below = tempfile::tempdir()?;
    let half = master.base_bytes() / 2;
    master.proxy.stop_after(half);
    let follower = master.replica(below.path())?;
    let mut replica = follower.client()?;
    master.stopped()?;
    master.proxy.cut();
    master.proxy.stop(false);
    until("that the base is kept", || {
        let text = master.server.log_text();
        Ok(text.contains("kept for a replica that may come back"))
    })?;
    let rewrites = number(&mut master.client, "persistence", "aof_rewrites")?;
    fill(&mut master.client, "more", 0..1000, 100)?;
    master.client.ok("BGREWRITEAOF")?;
    until("the rewrite", || {
        Ok(number(&mut master.client, "persistence", "aof_rewrites")? > rewrites)
    })?;
    master.proxy.heal();
    link_is(&mut replica, "up")?;
    same_data(&mut master.client, &mut replica)?;
    synced(&mut master.client, (1, 0))?;
    master.resumed(1)?;
    master.sent_once(2);
    Ok(())
}

#[test]
fn a_killed_replica_goes_on_in_the_full_sync_that_it_died_in() -> anyhow::Result<()> {
    let mut master = Master::start(&LOGGED)?;
    let below = tempfile::tempdir()?;
    let third = master.base_bytes() / 3;
    master.proxy.stop_after(third);
    let follower = master.replica(below.path())?;
    let mut replica = follower.client()?;
    master.stopped()?;
    companions_up(&mut replica)?;
    let agent = companion(&mut replica, "replica")?;
    // All that was sent is in the file then, or nearly.
    let spool = below.path().join("spool");
    until("a part of the snapshot", || {
        let files = files(&spool, "snapshot-")?;
        let bytes = files
            .first()
            .map_or(0, |file| file.metadata().map_or(0, |m| m.len()));
        Ok(bytes + (1 << 20) > third)
    })?;
    kill_9(agent)?;
    wait_ended(&[agent])?;
    master.proxy.stop_after(third);
    master.proxy.stop(false);
    master.stopped()?;
    synced(&mut master.client, (1, 0))?;
    master.resumed(1)?;
    // All of its processes.
    follower.kill_family()?;
    assert_eq!(files(&spool, "snapshot-")?.len(), 1);
    master.proxy.stop(false);
    let follower = master.replica(below.path())?;
    let mut replica = follower.client()?;
    link_is(&mut replica, "up")?;
    same_data(&mut master.client, &mut replica)?;
    synced(&mut master.client, (1, 0))?;
    master.resumed(2)?;
    master.sent_once(3);
    assert!(files(&spool, "snapshot-")?.is_empty());
    Ok(())
}

#[test]
fn a_replica_that_is_restarted_in_order_keeps_its_part_and_one_that_leaves_does_not()
-> anyhow::Result<()> {
    let mut master = Master::start(&LOGGED)?;
    let below = tempfile::tempdir()?;
    let spool = below.path().join("spool");
    master.proxy.stop_after(master.base_bytes() / 2);
    let follower = master.replica(below.path())?;
    master.stopped()?;
    follower.terminate()?;
    assert_eq!(files(&spool, "snapshot-")?.len(), 1);
    master.proxy.stop(false);
    master.proxy.stop_after(master.base_bytes() / 4);
    let follower = master.replica(below.path())?;
    let mut replica = follower.client()?;
    master.stopped()?;
    master.resumed(1)?;
    replica.ok("REPLICAOF NO ONE")?;
    until("nothing of it left", || {
        Ok(files(&spool, "snapshot-")?.is_empty())
    })?;
    assert_eq!(replica.ok("DBSIZE")?.int(), Some(0));
    Ok(())
}

#[test]
fn a_full_sync_goes_on_after_the_death_of_the_masters_agent_and_of_the_master() -> anyhow::Result<()>
{
    let mut master = Master::start(&LOGGED)?;
    let below = tempfile::tempdir()?;
    let third = master.base_bytes() / 3;
    master.proxy.stop_after(third);
    let follower = master.replica(below.path())?;
    let mut replica = follower.client()?;
    master.stopped()?;
    let agent = companion(&mut master.client, "replica")?;
    kill_9(agent)?;
    wait_ended(&[agent])?;
    // With what was on its way.
    master.proxy.cut();
    master.proxy.stop_after(third);
    master.proxy.stop(false);
    master.proxy.heal();
    master.stopped()?;
    // A new agent counts from 0.
    synced(&mut master.client, (0, 0))?;
    master.resumed(1)?;
    let (port, folder) = (master.server.port, master.folder.path());
    master.server.kill_family()?;
    master.proxy.cut();
    master.proxy.stop(false);
    master.server = start_on(folder, port, &LOGGED)?;
    master.client = master.server.client()?;
    master.proxy.heal();
    link_is(&mut replica, "up")?;
    same_data(&mut master.client, &mut replica)?;
    synced(&mut master.client, (0, 0))?;
    master.resumed(1)?;
    master.sent_once(3);
    Ok(())
}

#[test]
fn where_the_snapshot_is_gone_a_full_sync_begins_anew() -> anyhow::Result<()> {
    let mut master = Master::start(&LOGGED)?;
    let below = tempfile::tempdir()?;
    master.proxy.stop_after(master.base_bytes() / 2);
    let follower = master.replica(below.path())?;
    let mut replica = follower.client()?;
    master.stopped()?;
    master.proxy.cut();
    master.proxy.stop(false);
    // Nobody knows any more what was kept for whom.
    let companions = ["persist", "replica"].map(|name| companion(&mut master.client, name));
    for pid in companions {
        let pid = pid?;
        kill_9(pid)?;
        wait_ended(&[pid])?;
    }
    companions_up(&mut master.client)?;
    let directory = master.folder.path().join("appendonlydir");
    let bases = files(&directory, ".base.rdb")?;
    fill(&mut master.client, "more", 0..1000, 100)?;
    until("the base's end", || {
        master.client.run(&["BGREWRITEAOF"])?;
        Ok(!bases.iter().any(|base| base.exists()))
    })?;
    master.proxy.heal();
    link_is(&mut replica, "up")?;
    same_data(&mut master.client, &mut replica)?;
    synced(&mut master.client, (1, 0))?;
    master.resumed(0)?;
    let spool = below.path().join("spool");
    assert!(files(&spool, "snapshot-")?.is_empty());
    Ok(())
}

/// PSYNC with these capabilities: the line before the snapshot, its words.
fn head(port: u16, capabilities: &[&str]) -> anyhow::Result<(Client, Vec<String>)> {
    let mut client = Client::connect(port)?;
    for capability in capabilities {
        client.ok(&format!("REPLCONF capa {capability}"))?;
    }
    client.send(&["PSYNC", "?", "-1"])?;
    let line = client.line()?;
    anyhow::ensure!(line.starts_with("+FULLRESYNC "), "{line}");
    let line = client.line()?;
    let words = line.split(' ').map(str::to_owned).collect();
    Ok((client, words))
}

#[test]
fn what_a_replica_claims_to_hold_is_not_believed() -> anyhow::Result<()> {
    let mut master = Master::start(&LOGGED)?;
    let port = master.server.port;
    // One that knows nothing of it is sent what Redis sends.
    let (_client, words) = head(port, &["eof", "psync2"])?;
    let [length] = &words[..] else {
        anyhow::bail!("{words:?}")
    };
    let bytes: u64 = length.trim_start_matches('$').parse()?;
    let (_client, words) = head(port, &["eof", "redrock-resume"])?;
    assert_eq!(words.len(), 3, "{words:?}");
    assert_eq!((&words[0], words[2].as_str()), (length, "0"));
    let id = words[1].clone();
    let half = bytes / 2;
    let checksum = id.rsplit_once('-').context("an id")?.1;
    let offset = id.split_once('-').context("an id")?.0.parse::<u64>()?;
    let wrong = [
        format!("{id}@{}", bytes + 1),
        format!("{id}@{}", u64::MAX),
        format!("{id}@-1"),
        format!("{id}@"),
        id.clone(),
        format!("{offset}-{bytes}-0123456789abcdef@{half}"),
        format!("{}-{bytes}-{checksum}@{half}", offset + 1),
        format!("{offset}-{}-{checksum}@{half}", bytes + 1),
        "nonsense@5".to_owned(),
    ];
    for (n, claim) in wrong.iter().enumerate() {
        let (_client, words) = head(port, &[&format!("redrock-resume={claim}")])?;
        assert_eq!(
            words,
            [length.clone(), id.clone(), "0".to_owned()],
            "{claim}"
        );
        synced(&mut master.client, (n as u64 + 3, 0))?;
    }
    master.resumed(0)?;
    let (mut client, words) = head(port, &[&format!("redrock-resume={id}@{half}")])?;
    assert_eq!(words, [length.clone(), id, half.to_string()]);
    let rest = client.bytes(usize::try_from(bytes - half)?)?;
    let directory = master.folder.path().join("appendonlydir");
    let base = files(&directory, ".base.rdb")?;
    let base = std::fs::read(base.first().context("the base")?)?;
    assert!(base.ends_with(&rest), "the rest of another file");
    master.resumed(1)
}

#[test]
fn pieces_of_two_snapshots_do_not_make_one() -> anyhow::Result<()> {
    let source = tempfile::tempdir()?;
    let server = start(Kind::RedRock, source.path(), &[])?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    fill(&mut client, "key", 0..2000, 100)?;
    client.ok("SAVE")?;
    let good = std::fs::read(source.path().join("dump.rdb"))?;
    let (body, checksum) = good.split_at(good.len() - 8);
    let checksum = u64::from_le_bytes(checksum.try_into()?);
    let id = Some(format!("{OFFSET}-{}-{checksum:016x}", good.len()));
    let half = Answer {
        rdb: good.clone(),
        cut_at: Some(good.len() / 2),
        id: id.clone(),
        ..Answer::default()
    };
    // A value differs, in what is sent later; length and checksum are said to be the same.
    let mut other = good.clone();
    let digit = body
        .iter()
        .rposition(|byte| *byte == b'-')
        .context("a value")?;
    other[digit - 1] = b'?';
    let other = Answer {
        rdb: other,
        id: id.clone(),
        ..Answer::default()
    };
    let folder = tempfile::tempdir()?;
    // Not even there where checksums are not looked at.
    let follower = start(Kind::RedRock, folder.path(), &["--rdbchecksum", "no"])?;
    let mut replica = follower.client()?;
    companions_up(&mut replica)?;
    replica.ok("SET old data")?;
    let master = FakeMaster::start(half)?;
    replica.ok(&format!("REPLICAOF 127.0.0.1 {}", master.port))?;
    until("the first half", || Ok(master.full_syncs() == 1))?;
    master.answers(other);
    let mut seen = String::new();
    until("that it is refused", || {
        seen = info(&mut replica, "replication", "master_link_last_error")?;
        Ok(seen.contains("checksum"))
    })
    .with_context(|| format!("'{seen}'"))?;
    assert_eq!(replica.ok("GET old")?.text(), "data");
    // Nothing of it is held any more.
    master.answers(Answer {
        rdb: good,
        id,
        ..Answer::default()
    });
    link_is(&mut replica, "up")?;
    assert_eq!(replica.ok("DBSIZE")?.int(), Some(2000));
    Ok(())
}
