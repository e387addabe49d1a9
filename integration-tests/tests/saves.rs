//! Saves and rewrites as their options say: files, times, who waits meanwhile, and where they go.

use redrock_integration_tests::daemons::{companions_up, info, until};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;
use std::time::{Duration, Instant};

fn error(client: &mut Client, line: &str) -> anyhow::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    match client.run(&words)? {
        Reply::Error(text) => Ok(text),
        other => anyhow::bail!("{line}: {other:?}"),
    }
}

/// A server that holds so many keys, and pauses before each when it saves (`rdb-key-save-delay`).
fn slow_to_save(folder: &Path, keys: usize, options: &[&str]) -> anyhow::Result<(Server, Client)> {
    let options = [options, &["--rdb-key-save-delay", "100000"]].concat();
    let server = Server::start(Kind::RedRock, folder, &options)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    for n in 0..keys {
        client.ok(&format!("SET key:{n} value"))?;
    }
    Ok((server, client))
}

/// Begins a save; the one before may be over for INFO and not yet put away.
fn background_save(client: &mut Client) -> anyhow::Result<()> {
    until("a save that begins", || {
        Ok(matches!(client.run(&["BGSAVE"])?, Reply::Status(_)))
    })
}

fn is_saving(client: &mut Client) -> anyhow::Result<bool> {
    Ok(info(client, "persistence", "rdb_bgsave_in_progress")? == "1")
}

/// How far it is says INFO in percent, bytes a second and seconds that are left, and the log in one line.
#[test]
fn progress_is_told_while_a_save_or_rewrite_is_under_way() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = slow_to_save(folder.path(), 200, &["--appendonly", "yes"])?;
    for (command, running, job) in [
        ("BGSAVE", "rdb_bgsave_in_progress", "save"),
        ("BGREWRITEAOF", "aof_rewrite_in_progress", "rewrite"),
    ] {
        until("a beginning", || {
            Ok(matches!(client.run(&[command])?, Reply::Status(_)))
        })?;
        let (mut percents, mut left) = (Vec::new(), Vec::new());
        until("a line in the log", || {
            let text = client.ok("INFO persistence")?.text();
            let field = |name: &str| -> Option<f64> {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line?.strip_prefix(':')?.parse().ok()
            };
            if field(running) == Some(1.0)
                && field("current_save_bytes_per_sec").is_some_and(|rate| rate > 0.0)
            {
                percents.extend(field("current_fork_perc"));
                left.extend(field("current_save_eta_seconds"));
            }
            let log = server.log_text();
            let is_told = |line: &str| {
                line.contains(&format!("job=\"{job}\""))
                    && line.contains(" % of 200 keys, ")
                    && line.contains(" s left")
            };
            Ok(log.lines().any(is_told))
        })?;
        assert!(percents.is_sorted() && percents.len() > 2, "{percents:?}");
        assert!(percents.iter().all(|percent| *percent <= 100.0));
        assert!(left.first() > left.last(), "{left:?}");
        client.ok("CONFIG SET rdb-key-save-delay 0")?;
        until("the end", || {
            Ok(info(&mut client, "persistence", running)? == "0")
        })?;
        let text = client.ok("INFO persistence")?.text();
        assert!(!text.contains("current_save_bytes_per_sec"), "{text}");
        client.ok("CONFIG SET rdb-key-save-delay 100000")?;
    }
    Ok(())
}

#[test]
fn save_holds_other_clients_until_it_is_done_and_bgsave_does_not() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = slow_to_save(folder.path(), 20, &[])?;
    let mut other = server.client()?;
    background_save(&mut client)?;
    let mut served = 0;
    loop {
        other.ok(&format!("SET meanwhile {served}"))?;
        assert_eq!(other.ok("GET key:1")?.text(), "value");
        if !is_saving(&mut other)? {
            break;
        }
        served += 1;
    }
    assert!(served > 10, "{served} rounds while it saved");
    let dump = folder.path().join("dump.rdb");
    std::fs::remove_file(&dump)?;

    let saving = std::thread::spawn(move || {
        // The save before may not be put away yet.
        until("SAVE", || {
            Ok(client.run(&["SAVE"])? == Reply::Status("OK".into()))
        })
    });
    // Who is served before the save begins is served quickly, and then nobody until it is done.
    let mut longest = Duration::ZERO;
    while !saving.is_finished() {
        let asked = Instant::now();
        other.ok("PING")?;
        longest = longest.max(asked.elapsed());
    }
    assert!(
        longest > Duration::from_secs(1),
        "nobody waited longer than {longest:?}"
    );
    saving
        .join()
        .map_err(|_| anyhow::anyhow!("SAVE panicked"))??;
    assert!(dump.exists());
    Ok(())
}

#[test]
fn a_save_that_flushall_overtakes_does_not_bring_back_what_was_flushed() -> anyhow::Result<()> {
    for points in ["3600 1", ""] {
        let folder = tempfile::tempdir()?;
        let (server, mut client) = slow_to_save(folder.path(), 20, &["--save", points])?;
        background_save(&mut client)?;
        assert!(is_saving(&mut client)?);
        client.ok("FLUSHALL")?;
        client.ok("SET later 1")?;
        until("the end of all saves", || Ok(!is_saving(&mut client)?))?;
        let status = info(&mut client, "persistence", "rdb_last_bgsave_status")?;
        assert_eq!(
            status, "ok",
            "it was stopped and has not failed: {points:?}"
        );
        let dump = folder.path().join("dump.rdb");
        assert_eq!(dump.exists(), !points.is_empty(), "{points:?}");
        server.kill_family()?;
        let server = Server::start(Kind::RedRock, folder.path(), &["--save", points])?;
        assert_eq!(server.client()?.ok("DBSIZE")?.int(), Some(0), "{points:?}");
    }
    Ok(())
}

#[test]
fn a_log_is_on_when_config_set_says_so_beside_a_rewrite_that_waits() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = slow_to_save(folder.path(), 10, &["--appendonly", "no"])?;
    background_save(&mut client)?;
    let scheduled = client.ok("BGREWRITEAOF")?;
    assert!(scheduled.text().ends_with("scheduled"), "{scheduled:?}");
    client.ok("CONFIG SET appendonly yes")?;
    assert_eq!(info(&mut client, "persistence", "aof_enabled")?, "1");
    client.ok("SET behind 1")?;
    server.kill_family()?;
    let server = Server::start(Kind::RedRock, folder.path(), &["--appendonly", "yes"])?;
    let mut client = server.client()?;
    assert_eq!(client.ok("GET behind")?.text(), "1");
    assert_eq!(client.ok("DBSIZE")?.int(), Some(11));
    Ok(())
}

#[test]
fn saves_go_where_dbfilename_says_and_lastsave_and_info_tell_of_them() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = ["--dbfilename", "other name.rdb"];
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    client.ok("SET a 1")?;
    let first = client.ok("LASTSAVE")?.int();
    // Whole seconds: the save after the next second began is seen.
    until("a later save", || {
        client.ok("SAVE")?;
        Ok(client.ok("LASTSAVE")?.int() > first)
    })?;
    let told = info(&mut client, "persistence", "rdb_last_save_time")?;
    assert_eq!(told.parse().ok(), client.ok("LASTSAVE")?.int());
    assert_eq!(
        info(&mut client, "persistence", "rdb_changes_since_last_save")?,
        "0"
    );
    assert_eq!(
        info(&mut client, "persistence", "rdb_last_bgsave_status")?,
        "ok"
    );
    client.ok("SET b 2")?;
    assert_eq!(
        info(&mut client, "persistence", "rdb_changes_since_last_save")?,
        "1"
    );
    assert!(folder.path().join("other name.rdb").exists());
    assert!(!folder.path().join("dump.rdb").exists());
    server.kill_family()?;
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    assert_eq!(server.client()?.ok("GET a")?.text(), "1");
    drop(server);
    if has_redis() {
        let redis = Server::start(Kind::Redis, folder.path(), &options)?;
        assert_eq!(redis.client()?.ok("GET a")?.text(), "1");
    }
    Ok(())
}

#[test]
fn save_points_fire_and_a_save_that_fails_stops_writes_if_that_is_wanted() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(Kind::RedRock, folder.path(), &["--save", "1 1"])?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    client.ok("SET a 1")?;
    let dump = folder.path().join("dump.rdb");
    until("a save by itself", || {
        Ok(info(&mut client, "persistence", "rdb_saves")? != "0")
    })?;
    // Nothing can be renamed over a folder with something in it.
    client.run(&["CONFIG", "SET", "save", "3600 1"])?;
    std::fs::remove_file(&dump)?;
    std::fs::create_dir(&dump)?;
    std::fs::write(dump.join("file"), "")?;
    background_save(&mut client)?;
    until("a failed save", || {
        Ok(info(&mut client, "persistence", "rdb_last_bgsave_status")? == "err")
    })?;
    assert!(error(&mut client, "SET a 2")?.starts_with("MISCONF Redis is configured to save"));
    assert_eq!(client.ok("GET a")?.text(), "1");
    client.ok("CONFIG SET stop-writes-on-bgsave-error no")?;
    client.ok("SET a 3")?;
    client.ok("CONFIG SET stop-writes-on-bgsave-error yes")?;
    error(&mut client, "SET a 4")?;
    std::fs::remove_dir_all(&dump)?;
    background_save(&mut client)?;
    until("writes after a good save", || {
        Ok(matches!(client.run(&["SET", "a", "5"])?, Reply::Status(_)))
    })?;
    Ok(())
}

#[test]
fn rdbcompression_and_rdbchecksum_are_seen_in_the_file() -> anyhow::Result<()> {
    let value = "compressible ".repeat(100);
    for (compression, checksum) in [("yes", "yes"), ("no", "no")] {
        let folder = tempfile::tempdir()?;
        let options = ["--rdbcompression", compression, "--rdbchecksum", checksum];
        let server = Server::start(Kind::RedRock, folder.path(), &options)?;
        let mut client = server.client()?;
        companions_up(&mut client)?;
        client.run(&["SET", "a", &value])?;
        client.ok("SAVE")?;
        server.kill_family()?;
        let rdb = std::fs::read(folder.path().join("dump.rdb"))?;
        let plain = rdb
            .windows(value.len())
            .any(|part| part == value.as_bytes());
        assert_eq!(plain, compression == "no", "rdbcompression {compression}");
        assert_eq!(
            rdb.ends_with(&[0; 8]),
            checksum == "no",
            "rdbchecksum {checksum}"
        );
        let kinds: &[Kind] = match has_redis() {
            true => &[Kind::RedRock, Kind::Redis],
            false => &[Kind::RedRock],
        };
        for &kind in kinds {
            let server = Server::start(kind, folder.path(), &options)?;
            assert_eq!(server.client()?.ok("GET a")?.text(), value, "{kind:?}");
            drop(server);
        }
    }
    Ok(())
}

#[test]
fn a_log_that_has_grown_enough_is_rewritten_by_itself() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = [
        "--appendonly",
        "yes",
        "--auto-aof-rewrite-min-size",
        "64kb",
        "--auto-aof-rewrite-percentage",
        "50",
    ];
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    client.ok("SET small 1")?;
    assert_eq!(info(&mut client, "persistence", "aof_rewrites")?, "0");
    let value = "v".repeat(4000);
    until("a rewrite by itself", || {
        client.run(&["SET", "large", &value])?;
        Ok(info(&mut client, "persistence", "aof_rewrites")? != "0")
    })?;
    let size = |client: &mut Client, field: &str| -> anyhow::Result<u64> {
        Ok(info(client, "persistence", field)?.parse()?)
    };
    let base = size(&mut client, "aof_base_size")?;
    assert!(base > 0, "{base}");
    let names = std::fs::read_dir(folder.path().join("appendonlydir"))?;
    let names: Vec<_> = names
        .filter_map(Result::ok)
        .map(|entry| entry.file_name())
        .collect();
    assert!(
        names
            .iter()
            .any(|name| name.to_string_lossy().ends_with(".base.rdb")),
        "{names:?}"
    );
    server.kill_family()?;
    let server = Server::start(Kind::RedRock, folder.path(), &["--appendonly", "yes"])?;
    assert_eq!(server.client()?.ok("GET large")?.text(), value);
    Ok(())
}

#[test]
fn no_appendfsync_on_rewrite_leaves_syncs_out_while_a_save_runs() -> anyhow::Result<()> {
    let wait_aof = |client: &mut Client, ms: u32| -> anyhow::Result<Option<i64>> {
        let reply = client.ok(&format!("WAITAOF 1 0 {ms}"))?.elements();
        Ok(reply.first().and_then(Reply::int))
    };
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let folder = tempfile::tempdir()?;
    let (_server, mut client) = slow_to_save(folder.path(), 20, &options)?;
    for (option, durable) in [("no", 1), ("yes", 0)] {
        client.ok(&format!("CONFIG SET no-appendfsync-on-rewrite {option}"))?;
        background_save(&mut client)?;
        client.ok("SET during 1")?;
        assert_eq!(wait_aof(&mut client, 100)?, Some(durable), "{option}");
        assert!(
            is_saving(&mut client)?,
            "the save was too quick to show anything"
        );
        until("the end of the save", || Ok(!is_saving(&mut client)?))?;
        // Without another write that would ask for it.
        assert_eq!(wait_aof(&mut client, 20_000)?, Some(1), "{option}");
    }
    // The option decides at once, not with the next save.
    background_save(&mut client)?;
    client.ok("SET during 2")?;
    assert_eq!(wait_aof(&mut client, 100)?, Some(0));
    client.ok("CONFIG SET no-appendfsync-on-rewrite no")?;
    assert_eq!(wait_aof(&mut client, 20_000)?, Some(1));
    assert!(is_saving(&mut client)?);
    Ok(())
}

#[test]
fn the_data_directory_stays_the_one_of_the_start() -> anyhow::Result<()> {
    let (folder, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let file = folder.path().join("redrock.conf");
    std::fs::write(&file, "enable-protected-configs yes\n")?;
    let link = other.path().join("link");
    std::os::unix::fs::symlink(folder.path(), &link)?;
    let server = Server::start_with_file(&file, folder.path())?;
    let mut client = server.client()?;
    let shown = |client: &mut Client| -> anyhow::Result<String> {
        let pair = client.ok("CONFIG GET dir")?.elements();
        Ok(pair.get(1).map(Reply::text).unwrap_or_default())
    };
    let before = shown(&mut client)?;
    let asked = format!("CONFIG SET dir {}", other.path().display());
    let text = error(&mut client, &asked)?;
    let head = "ERR CONFIG SET failed (possibly related to argument 'dir') - ";
    assert!(
        text.starts_with(head) && text.contains("end the server"),
        "{text}"
    );
    assert_eq!(shown(&mut client)?, before);
    let missing = error(&mut client, "CONFIG SET dir /nonexistent")?;
    assert_eq!(missing, format!("{head}No such file or directory"));
    // The directory that it has, by whatever name, is fine.
    for same in [&before, ".", link.to_str().unwrap_or_default()] {
        client.ok(&format!("CONFIG SET dir {same}"))?;
        assert_eq!(shown(&mut client)?, before);
    }
    client.ok("CONFIG REWRITE")?;
    let text = std::fs::read_to_string(&file)?;
    assert!(
        !text.contains(&other.path().display().to_string()),
        "{text}"
    );
    companions_up(&mut client)?;
    client.ok("SAVE")?;
    assert!(folder.path().join("dump.rdb").exists());
    assert_eq!(std::fs::read_dir(other.path())?.count(), 1, "only the link");
    Ok(())
}
