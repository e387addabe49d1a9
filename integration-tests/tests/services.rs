//! The server with its companions, and without them.

use anyhow::Context as _;
use redrock_integration_tests::daemons::{info, until};
use redrock_integration_tests::memory::{family, name};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_proto::client::{ServerClient, Timeouts};
use redrock_proto::v1;

fn error(client: &mut Client, line: &str) -> anyhow::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    match client.run(&words)? {
        Reply::Error(text) => Ok(text),
        other => anyhow::bail!("{line}: {other:?}"),
    }
}

fn companions_up(client: &mut Client) -> anyhow::Result<()> {
    until("companions up", || {
        let text = client.ok("INFO companions")?.text();
        Ok(text.matches("state=up").count() == 2)
    })
}

#[test]
fn saves_rewrites_and_the_log_at_run_time_go_through_the_persister() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(Kind::RedRock, folder.path(), &[])?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    client.ok("SET a 1")?;
    assert_eq!(
        client.ok("BGSAVE")?,
        Reply::Status("Background saving started".into())
    );
    until("the save", || {
        let text = client.ok("INFO persistence")?.text();
        Ok(text.contains("rdb_bgsave_in_progress:0\r\n"))
    })?;
    assert!(folder.path().join("dump.rdb").exists());
    let text = client.ok("INFO persistence")?.text();
    assert!(text.contains("rdb_changes_since_last_save:0\r\n"), "{text}");
    assert!(text.contains("rdb_saves:1\r\n"), "{text}");
    client.ok("SET b 2")?;
    assert_eq!(client.ok("SAVE")?, Reply::Status("OK".into()));
    assert_eq!(error(&mut client, "BGSAVE NOW")?, "ERR syntax error");

    client.ok("CONFIG SET appendonly yes")?;
    client.ok("SET c 3")?;
    let both = client.ok("WAITAOF 1 0 5000")?;
    assert_eq!(both, Reply::Array(vec![Reply::Int(1), Reply::Int(0)]));
    assert_eq!(
        client.ok("BGREWRITEAOF")?,
        Reply::Status("Background append only file rewriting started".into())
    );
    until("the rewrite", || {
        let text = client.ok("INFO persistence")?.text();
        Ok(text.contains("aof_rewrite_in_progress:0\r\n"))
    })?;
    client.ok("SET d 4")?;
    server.kill()?;
    let server = Server::start(Kind::RedRock, folder.path(), &["--appendonly", "yes"])?;
    let mut client = server.client()?;
    let values: Vec<String> = client
        .ok("MGET a b c d")?
        .elements()
        .iter()
        .map(Reply::text)
        .collect();
    assert_eq!(values, ["1", "2", "3", "4"]);
    Ok(())
}

#[test]
fn saves_and_rewrites_begun_in_a_transaction_are_counted_by_their_cuts() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(Kind::RedRock, folder.path(), &[])?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    let cuts = |client: &mut Client| -> anyhow::Result<u64> {
        Ok(info(client, "stats", "total_forks")?.parse()?)
    };
    assert_eq!(cuts(&mut client)?, 0);
    for (wanted, line) in [
        (1, "BGSAVE"),
        (2, "CONFIG SET appendonly yes"),
        (3, "BGREWRITEAOF"),
    ] {
        for line in ["MULTI", "SET a 1", line, "EXEC"] {
            client.ok(line)?;
        }
        until("its cut", || Ok(cuts(&mut client)? == wanted))?;
        until("its end", || {
            let text = client.ok("INFO persistence")?.text();
            let fields =
                ["rdb_bgsave", "aof_rewrite"].map(|kind| format!("{kind}_in_progress:0\r"));
            Ok(fields.iter().all(|field| text.contains(field)))
        })?;
    }
    assert!(info(&mut client, "stats", "latest_fork_usec")?.parse::<u64>()? > 0);
    client.ok("CONFIG RESETSTAT")?;
    assert_eq!(cuts(&mut client)?, 0);
    let log = server.log_text();
    assert!(log.contains("AOF background was scheduled"), "{log}");
    Ok(())
}

#[test]
fn large_values_that_are_freed_later_are_counted() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(Kind::RedRock, folder.path(), &[])?;
    let mut client = server.client()?;
    client.ok("CONFIG SET stream-node-max-entries 5")?;
    let freed = |client: &mut Client| -> anyhow::Result<u64> {
        Ok(info(client, "memory", "lazyfreed_objects")?.parse()?)
    };
    for n in 0..500 {
        client.ok(&format!("XADD stream * field {n}"))?;
        client.ok(&format!("RPUSH list {n}"))?;
    }
    client.ok("SET small 1")?;
    client.ok("UNLINK stream list small")?;
    until("their end", || Ok(freed(&mut client)? == 2))?;
    assert_eq!(
        info(&mut client, "memory", "lazyfree_pending_objects")?,
        "0"
    );
    client.ok("CONFIG RESETSTAT")?;
    assert_eq!(freed(&mut client)?, 0);
    Ok(())
}

#[test]
fn without_companions_what_needs_them_fails_and_changes_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(Kind::RedRock, folder.path(), &["--companions", "external"])?;
    let mut client = server.client()?;
    for line in ["SAVE", "BGSAVE", "BGSAVE SCHEDULE", "BGREWRITEAOF"] {
        let text = error(&mut client, line)?;
        assert!(
            text.starts_with("ERR persister is not available: "),
            "{text}"
        );
    }
    let text = error(&mut client, "CONFIG SET appendonly yes")?;
    assert!(text.contains("persister is not available"), "{text}");
    let shown = client.ok("CONFIG GET appendonly")?.elements();
    assert_eq!(shown.get(1).map(Reply::text).as_deref(), Some("no"));
    let text = error(&mut client, "SHUTDOWN SAVE")?;
    assert_eq!(text, "ERR Errors trying to SHUTDOWN. Check logs.");
    let text = error(&mut client, "PSYNC ? -1")?;
    assert!(text.starts_with("NOMASTERLINK "), "{text}");
    // The connection is still good, and so is the server.
    client.ok("SET a 1")?;
    assert_eq!(client.ok("GET a")?.text(), "1");
    assert_eq!(client.ok("WAIT 1 50")?.int(), Some(0));
    Ok(())
}

#[test]
fn a_real_replica_follows_and_acknowledges() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let master = Server::start(Kind::RedRock, ours.path(), &["--appendonly", "yes"])?;
    let mut client = master.client()?;
    companions_up(&mut client)?;
    client.ok("SET before 1")?;
    let port = master.port.to_string();
    let replica = Server::start(
        Kind::Redis,
        theirs.path(),
        &["--replicaof", "127.0.0.1", &port],
    )?;
    until("an online replica", || {
        Ok(client
            .ok("INFO replication")?
            .text()
            .contains("state=online"))
    })?;
    client.ok("SET after 2")?;
    assert_eq!(client.ok("WAIT 1 100000")?.int(), Some(1));
    let mut other = replica.client()?;
    assert_eq!(other.ok("GET before")?.text(), "1");
    assert_eq!(other.ok("GET after")?.text(), "2");
    let role = client.ok("ROLE")?.elements();
    assert_eq!(
        role.get(2).map(|list| list.clone().elements().len()),
        Some(1)
    );
    replica.kill()?;
    until("the replica is forgotten", || {
        Ok(client
            .ok("INFO replication")?
            .text()
            .contains("connected_slaves:0"))
    })?;
    client.ok("CONFIG SET min-replicas-to-write 1")?;
    let text = error(&mut client, "SET a 1")?;
    assert_eq!(text, "NOREPLICAS Not enough good replicas to write.");
    Ok(())
}

#[test]
fn a_replica_refuses_writes_until_it_is_a_master_again() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(Kind::RedRock, folder.path(), &[])?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    let id = |client: &mut Client| -> anyhow::Result<String> {
        let text = client.ok("INFO replication")?.text();
        let line = text.lines().find(|line| line.starts_with("master_replid:"));
        Ok(line.unwrap_or_default().to_owned())
    };
    let before = id(&mut client)?;
    // Nobody listens there.
    client.ok("REPLICAOF 127.0.0.1 1")?;
    let text = error(&mut client, "SET a 1")?;
    assert_eq!(
        text,
        "READONLY You can't write against a read only replica."
    );
    assert!(error(&mut client, "WAIT 0 0")?.starts_with("ERR WAIT cannot be used with replica"));
    assert_eq!(
        client.ok("REPLICAOF 127.0.0.1 1")?,
        Reply::Status("OK Already connected to specified master".into())
    );
    assert_eq!(
        error(&mut client, "REPLICAOF 127.0.0.1 x")?,
        "ERR Invalid master port"
    );
    client.ok("REPLICAOF NO ONE")?;
    client.ok("SET a 1")?;
    until("a new history", || Ok(id(&mut client)? != before))?;
    let shown = client.ok("CONFIG GET replicaof")?.elements();
    assert_eq!(shown.get(1).map(Reply::text).as_deref(), Some(""));
    Ok(())
}

#[test]
fn values_go_to_disk_on_demand_and_come_back() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = ["--maxmemory", "256mb", "--enable-rocksdb-feature", "yes"];
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let mut client = server.client()?;
    for n in 0..100 {
        client.ok(&format!("SET key:{n} value-{n}"))?;
    }
    client.ok("HSET hash field value")?;
    let words =
        |reply: Reply| -> Vec<String> { reply.elements().iter().map(Reply::text).collect() };
    let first = words(client.ok("ROCKEVICT key:1 missing key:2")?);
    assert_eq!(first, ["EVICTED", "NOT_FOUND", "EVICTED"]);
    assert_eq!(words(client.ok("ROCKEVICT key:1")?), ["ON_DISK"]);
    assert_eq!(client.ok("GET key:1")?.text(), "value-1");
    let fields = words(client.ok("ROCKEVICTHASH hash field other")?);
    assert_eq!(fields, ["EVICTED", "NOT_FOUND"]);
    assert_eq!(client.ok("HGET hash field")?.text(), "value");
    assert!(error(&mut client, "ROCKEVICTHASH key:3 x")?.starts_with("WRONGTYPE"));
    assert!(client.ok("ROCKALL")?.int().is_some_and(|count| count >= 97));
    let report = words(client.ok("ROCK REPORT")?);
    assert_eq!(report.get(1).map(String::as_str), Some("101"));
    assert_eq!(report.get(9).map(String::as_str), Some("100.00"));
    assert_eq!(client.ok("GET key:50")?.text(), "value-50");
    assert!(client.ok("ROCKMEM 1 5")?.int().is_some());
    client.ok("PURGEROCKSDB")?;
    assert!(client.ok("ROCKSTAT")?.text().contains("spilled_values:"));
    Ok(())
}

#[test]
fn who_watches_settings_by_name_hears_of_those_only_and_others_of_all() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let sockets = folder.path().join("run");
    let server = Server::start(Kind::RedRock, folder.path(), &[])?;
    let mut client = server.client()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let admin = ServerClient::in_dir(&sockets, Timeouts::default()).admin();
        let watch = async |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let request = v1::WatchConfigRequest { run: None, names };
            admin.clone().watch_config(request).await
        };
        let refused = watch(&["hz", "nope"]).await.err();
        assert!(refused.is_some_and(|status| status.code() == tonic::Code::InvalidArgument));

        let mut some = watch(&["SLAVE-priority", "timeout"]).await?.into_inner();
        let mut all = watch(&[]).await?.into_inner();
        let first = some.message().await?.unwrap_or_default();
        assert!(first.complete);
        assert_eq!(shown(&first), ["timeout 0", "replica-priority 100"]);
        let first = all.message().await?.unwrap_or_default();
        assert!(first.complete && first.settings.len() > 200);

        for line in [
            "CONFIG SET hz 11",
            "CONFIG SET timeout 7",
            "CONFIG SET hz 12",
        ] {
            client.ok(line)?;
        }
        let next = some.message().await?.unwrap_or_default();
        assert!(!next.complete);
        assert_eq!(shown(&next), ["timeout 7"]);
        let mut heard = Vec::new();
        while !(heard.contains(&"hz 12".to_owned()) && heard.contains(&"timeout 7".to_owned())) {
            heard.extend(shown(&all.message().await?.unwrap_or_default()));
        }
        Ok(())
    })
}

fn shown(update: &v1::ConfigUpdate) -> Vec<String> {
    let settings = update.settings.iter();
    settings
        .map(|one| format!("{} {}", one.name, one.value))
        .collect()
}

/// As Redis's `disable-thp`: where the system hands out huge pages unasked, memory would be full of what is
/// gone. Linux tells it of each process (`THP_enabled`, proc(5)).
#[test]
fn huge_pages_are_for_who_asks_for_them() -> anyhow::Result<()> {
    for (disable, enabled) in [("yes", "0"), ("no", "1")] {
        let folder = tempfile::tempdir()?;
        let server = Server::start(Kind::RedRock, folder.path(), &["--disable-thp", disable])?;
        companions_up(&mut server.client()?)?;
        let told: Vec<(String, String)> = family(server.pid())
            .into_iter()
            .map(|pid| Ok((name(pid), thp_enabled(pid)?)))
            .collect::<anyhow::Result<_>>()?;
        assert_eq!(told.len(), 3, "{told:?}");
        for (process, value) in &told {
            // The companions hold no values, and never want them.
            let wanted = if process == "redrock-server" {
                enabled
            } else {
                "0"
            };
            assert_eq!(value, wanted, "{process} with disable-thp {disable}");
        }
    }
    Ok(())
}

fn thp_enabled(pid: u32) -> anyhow::Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("THP_enabled:"));
    Ok(line
        .context("the kernel tells it since 5.0")?
        .trim()
        .to_owned())
}
