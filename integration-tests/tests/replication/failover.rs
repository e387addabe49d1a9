//! FAILOVER between us and a real Redis, both ways: nothing that was acknowledged is lost, and
//! what does not come about leaves one master.

use crate::link::{companions_up, info, link_is, start, synced, takes_writes, until};
use redrock_integration_tests::daemons::{processes, signal};
use redrock_integration_tests::process::{Kind, Server, Signal, binary, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A master and its replica, which is up.
struct Pair {
    first: Server,
    second: Server,
    folders: [tempfile::TempDir; 2],
}

impl Pair {
    fn start(kinds: [Kind; 2]) -> anyhow::Result<Self> {
        let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
        let options = ["--appendonly", "yes", "--repl-diskless-sync-delay", "0"];
        let first = start(kinds[0], folders[0].path(), &options)?;
        let second = start(kinds[1], folders[1].path(), &options)?;
        for (kind, server) in kinds.iter().zip([&first, &second]) {
            if *kind == Kind::RedRock {
                companions_up(&mut server.client()?)?;
            }
        }
        let mut replica = second.client()?;
        replica.ok(&format!("REPLICAOF 127.0.0.1 {}", first.port))?;
        link_is(&mut replica, "up")?;
        // Only its first acknowledgement says that it has loaded what it got.
        let mut master = first.client()?;
        until("an online replica", || {
            Ok(info(&mut master, "replication", "slave0")?.contains("state=online"))
        })?;
        Ok(Self {
            first,
            second,
            folders,
        })
    }

    fn clients(&self) -> anyhow::Result<(Client, Client)> {
        Ok((self.first.client()?, self.second.client()?))
    }
}

fn state_is(client: &mut Client, wanted: &str) -> anyhow::Result<()> {
    until(wanted, || {
        Ok(info(client, "replication", "master_failover_state")? == wanted)
    })
}

fn role_is(client: &mut Client, wanted: &str) -> anyhow::Result<()> {
    until(
        wanted,
        || Ok(info(client, "replication", "role")? == wanted),
    )
}

fn same_digest(a: &mut Client, b: &mut Client) -> anyhow::Result<()> {
    until("the same data", || {
        Ok(a.ok("DEBUG DIGEST")? == b.ok("DEBUG DIGEST")?)
    })
}

/// Sets keys `prefix:0..` one after the other until that is refused; how many were acknowledged.
fn write(
    server: &Server,
    prefix: &str,
    count: &AtomicU64,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let mut client = server.client()?;
    while !stop.load(Ordering::Relaxed) {
        let n = count.load(Ordering::Relaxed);
        match client.run(&["SET", &format!("{prefix}:{n}"), "v"]) {
            Ok(Reply::Status(_)) => count.store(n + 1, Ordering::Relaxed),
            // A replica by now.
            Ok(_) | Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// Fails over to the other one while two clients write, and looks for what they were told.
fn loses_nothing(
    from: &Server,
    to: &Server,
    prefix: &str,
    fail_over: impl FnOnce(&mut Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let counts = [AtomicU64::new(0), AtomicU64::new(0)];
    let stop = AtomicBool::new(false);
    let (mut old, mut new) = (from.client()?, to.client()?);
    std::thread::scope(|scope| {
        for (n, count) in counts.iter().enumerate() {
            let (stop, name) = (&stop, format!("{prefix}-{n}"));
            scope.spawn(move || write(from, &name, count, stop));
        }
        let begun = until("writes", || {
            Ok(counts
                .iter()
                .all(|count| count.load(Ordering::Relaxed) > 100))
        });
        let result = begun
            .and_then(|()| fail_over(&mut old))
            .and_then(|()| role_is(&mut new, "master"));
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    state_is(&mut old, "no-failover")?;
    assert_eq!(info(&mut old, "replication", "role")?, "slave");
    for (n, count) in counts.iter().enumerate() {
        let acknowledged = count.load(Ordering::Relaxed);
        for i in 0..acknowledged {
            let found = new.ok(&format!("EXISTS {prefix}-{n}:{i}"))?.int();
            assert_eq!(found, Some(1), "{prefix}-{n}:{i} of {acknowledged}");
        }
    }
    takes_writes(&mut new, &format!("after-{prefix}"))?;
    link_is(&mut old, "up")?;
    same_digest(&mut old, &mut new)?;
    assert_eq!(old.ok(&format!("GET after-{prefix}"))?.text(), "1");
    Ok(())
}

#[test]
fn a_failover_there_and_back_loses_nothing_that_was_acknowledged() -> anyhow::Result<()> {
    let (us, redis) = (Kind::RedRock, Kind::Redis);
    let kinds = [[us, redis], [us, us]];
    for kinds in kinds
        .into_iter()
        .filter(|k| !k.contains(&redis) || has_redis())
    {
        let pair = Pair::start(kinds)?;
        let Pair { first, second, .. } = &pair;
        let port = second.port.to_string();
        loses_nothing(first, second, "there", |client| {
            client.ok(&format!("FAILOVER TO 127.0.0.1 {port} TIMEOUT 60000"))?;
            Ok(())
        })?;
        synced(&mut second.client()?, (0, 1))?;
        let told = first.client()?.ok("CONFIG GET replicaof")?.elements();
        assert_eq!(
            told.get(1).map(Reply::text),
            Some(format!("127.0.0.1 {port}"))
        );
        loses_nothing(second, first, "back", |client| {
            client.ok("FAILOVER")?;
            Ok(())
        })?;
        let told = first.client()?.ok("CONFIG GET replicaof")?.elements();
        assert_eq!(told.get(1).map(Reply::text), Some(String::new()));
        synced(&mut first.client()?, (1, 1))?;
        // The operator's door.
        let folder = pair.folders[0].path();
        loses_nothing(first, second, "again", |_| {
            let to = format!("127.0.0.1:{port}");
            let output = Command::new(binary("redrockctl")?)
                .arg("--dir")
                .arg(folder)
                .args(["failover", "--to", &to, "--within", "60"])
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            anyhow::ensure!(output.status.success(), "{said}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_failover_that_does_not_come_about_leaves_the_master() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let pair = Pair::start([Kind::RedRock, Kind::Redis])?;
    let (mut master, mut replica) = pair.clients()?;
    let to = format!("FAILOVER TO 127.0.0.1 {}", pair.second.port);
    // It has stopped and lags.
    pair.second.signal(Signal::STOP)?;
    master.ok("SET a 1")?;
    master.ok(&format!("{to} TIMEOUT 60000"))?;
    assert_eq!(
        info(&mut master, "replication", "master_failover_state")?,
        "waiting-for-sync"
    );
    let mut writer = pair.first.client()?;
    writer.send(&["SET", "b", "1"])?;
    assert_eq!(master.ok("GET a")?.text(), "1");
    assert_eq!(
        master.ok("EXISTS b")?.int(),
        Some(0),
        "writes are held back"
    );
    master.ok("CLIENT UNPAUSE")?;
    assert_eq!(master.ok("EXISTS b")?.int(), Some(0), "another's pause");
    let busy = [
        (to.as_str(), "ERR FAILOVER already in progress."),
        (
            "REPLICAOF NO ONE",
            "ERR REPLICAOF not allowed while failing over.",
        ),
        ("PSYNC ? -1", "NOMASTERLINK Can't SYNC while failing over"),
    ];
    for (line, text) in busy {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(master.run(&words)?, Reply::Error(text.into()), "{line}");
    }
    master.ok("FAILOVER ABORT")?;
    assert_eq!(
        info(&mut master, "replication", "master_failover_state")?,
        "no-failover"
    );
    assert_eq!(writer.receive()?, Reply::Status("OK".into()));
    // Time is up.
    master.ok("SET c 1")?;
    master.ok(&format!("{to} TIMEOUT 300"))?;
    state_is(&mut master, "no-failover")?;
    pair.second.signal(Signal::CONT)?;
    // It refuses the role.
    replica.ok("ACL SETUSER default -psync")?;
    master.ok(&to)?;
    state_is(&mut master, "no-failover")?;
    for (client, role) in [(&mut master, "master"), (&mut replica, "slave")] {
        assert_eq!(info(client, "replication", "role")?, role);
    }
    replica.ok("ACL SETUSER default +psync")?;
    master.ok("SET d 1")?;
    link_is(&mut replica, "up")?;
    same_digest(&mut master, &mut replica)?;
    assert_eq!(info(&mut master, "stats", "sync_full")?, "1");
    Ok(())
}

#[test]
fn a_forced_failover_goes_to_a_replica_that_lags() -> anyhow::Result<()> {
    let (us, redis) = (Kind::RedRock, Kind::Redis);
    for target in [redis, us].into_iter().filter(|k| *k == us || has_redis()) {
        let pair = Pair::start([us, target])?;
        let (mut old, mut new) = pair.clients()?;
        let stopped = processes(&pair.second);
        for pid in &stopped {
            signal(*pid, Signal::STOP)?;
        }
        old.ok("SET late 1")?;
        let port = pair.second.port;
        old.ok(&format!("FAILOVER TO 127.0.0.1 {port} TIMEOUT 200 FORCE"))?;
        state_is(&mut old, "failover-in-progress")?;
        assert_eq!(info(&mut old, "replication", "role")?, "slave");
        for pid in &stopped {
            signal(*pid, Signal::CONT)?;
        }
        role_is(&mut new, "master")?;
        state_is(&mut old, "no-failover")?;
        link_is(&mut old, "up")?;
        same_digest(&mut old, &mut new)?;
        takes_writes(&mut new, "on")?;
        same_digest(&mut old, &mut new)?;
    }
    Ok(())
}

/// What a master, or a server without replicas, answers to bad requests.
fn refusals(kind: Kind) -> anyhow::Result<Vec<Reply>> {
    let folder = tempfile::tempdir()?;
    let alone = start(kind, folder.path(), &[])?;
    if kind == Kind::RedRock {
        companions_up(&mut alone.client()?)?;
    }
    let pair = Pair::start([kind, kind])?;
    let mut said = Vec::new();
    let (mut master, mut replica) = pair.clients()?;
    let mut alone = alone.client()?;
    let to = format!("127.0.0.1 {}", pair.second.port);
    for line in [
        "FAILOVER",
        "FAILOVER ABORT",
        "FAILOVER ABORT TIMEOUT 10",
        "FAILOVER BAD",
        "FAILOVER TO x",
        "FAILOVER TO @ TO @",
        "FAILOVER TIMEOUT",
        "FAILOVER TIMEOUT x",
        "FAILOVER TIMEOUT 0",
        "FAILOVER TIMEOUT -5",
        "FAILOVER TIMEOUT 5 TIMEOUT 5",
        "FAILOVER FORCE",
        "FAILOVER FORCE FORCE",
        "FAILOVER FORCE TIMEOUT 100",
        "FAILOVER TO @ FORCE",
        "FAILOVER TO nowhere 1",
        "FAILOVER TO nowhere x",
        "FAILOVER TO 127.0.0.1 99999",
        "PSYNC 0000000000000000000000000000000000000000 1 FAILOVER",
    ] {
        let line = line.replace('@', &to);
        let words: Vec<&str> = line.split(' ').collect();
        // Without a replica, and on a replica, nothing begins whatever is asked.
        if !line.starts_with("PSYNC") {
            said.extend([alone.run(&words)?, replica.run(&words)?]);
        }
        if words.len() > 1 {
            said.push(master.run(&words)?);
        }
    }
    Ok(said)
}

#[test]
fn what_is_refused_is_refused_in_redis_words() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (theirs, ours) = (refusals(Kind::Redis)?, refusals(Kind::RedRock)?);
    for (n, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
        assert!(matches!(theirs, Reply::Error(_)), "{n}: {theirs:?}");
        assert_eq!(theirs, ours, "{n}");
    }
    Ok(())
}
