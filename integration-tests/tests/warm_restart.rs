//! A start that goes on with the tier of the last cut holds what one from the files alone does, and
//! whatever is wrong with that tier, the files are enough.

use anyhow::Context as _;
use redrock_integration_tests::daemons::{companions_up, copy_durable, info, until};
use redrock_integration_tests::dataset::{self, random_writes};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply, encode};
use redrock_integration_tests::small_disk::SmallDisk;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const OPTIONS: [&str; 8] = [
    "--maxmemory",
    "128mb",
    "--enable-rocksdb-feature",
    "yes",
    "--enable-debug-command",
    "yes",
    "--save",
    "",
];
const AOF: [&str; 2] = ["--appendonly", "yes"];
const KEYS: usize = 20_000;
const WARM: &str = "The tier goes on with";

fn start(folder: &Path, options: &[&str]) -> anyhow::Result<(Server, Client)> {
    let server = Server::start(Kind::RedRock, folder, &[&OPTIONS, options].concat())?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    Ok((server, client))
}

/// Strings in two databases, every tenth with an expiry, and some of all types.
fn fill(client: &mut Client) -> anyhow::Result<()> {
    for db in [0, 2] {
        client.ok(&format!("SELECT {db}"))?;
        let mut bytes = Vec::new();
        for n in 0..KEYS {
            let (key, value) = (format!("key:{n}"), format!("{db}:{n}:").repeat(20));
            match n % 10 {
                0 => encode(&mut bytes, &["SET", &key, &value, "EX", "100000"]),
                _ => encode(&mut bytes, &["SET", &key, &value]),
            }
        }
        client.send_raw(&bytes)?;
        for _ in 0..KEYS {
            anyhow::ensure!(client.receive()? == Reply::Status("OK".into()));
        }
    }
    client.ok("SELECT 0")?;
    random_writes(client, 1, 2000)
}

fn rewrite(client: &mut Client) -> anyhow::Result<()> {
    let done = |client: &mut Client| info(client, "persistence", "aof_rewrites");
    let before = done(client)?;
    client.ok("BGREWRITEAOF")?;
    until("a rewrite", || Ok(done(client)? != before))?;
    until("the end of the rewrite", || {
        Ok(info(client, "persistence", "aof_rewrite_in_progress")? == "0")
    })
}

/// What comes after the cut: on keys that are on disk, in memory, and nowhere.
fn go_on(client: &mut Client, round: usize) -> anyhow::Result<()> {
    for n in (round..KEYS).step_by(97) {
        for line in [
            format!("APPEND key:{n} more"),
            format!("DEL key:{}", n + 1),
            format!("EXPIRE key:{} 5000", n + 2),
            format!("RENAME key:{} renamed:{n}", n + 3),
            format!("PERSIST key:{}", n / 10 * 10),
        ] {
            // Some are gone already.
            let words: Vec<&str> = line.split(' ').collect();
            client.run(&words)?;
        }
    }
    random_writes(client, 2 + round as u64, 300)?;
    client.ok("SWAPDB 0 2")?;
    client.ok("SET between:swaps 1")?;
    client.ok("SWAPDB 2 1")?;
    Ok(())
}

/// All that a client can see of the data, by digest and by counts.
fn seen(client: &mut Client) -> anyhow::Result<(String, String)> {
    let keys = client.ok("INFO keyspace")?.text();
    // The mean of the times to live falls with time.
    let keys: Vec<&str> = keys
        .lines()
        .map(|line| line.split(",avg_ttl").next().unwrap_or(line))
        .collect();
    Ok((client.ok("DEBUG DIGEST")?.text(), keys.join("\n")))
}

fn goes_on_with(server: &Server) -> anyhow::Result<u64> {
    let log = server.log_text();
    let (_, text) = log.split_once(WARM).with_context(|| log.clone())?;
    let count = text.split_whitespace().next().context("a count")?;
    Ok(count.parse()?)
}

fn dump(folder: &Path) -> PathBuf {
    folder.join("dump.rdb")
}

#[test]
fn what_has_expired_meanwhile_goes_when_all_is_loaded_and_not_before() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = start(folder.path(), &AOF)?;
    let life = Duration::from_secs(6);
    let ends = Instant::now() + life;
    let mut bytes = Vec::new();
    for n in 0..KEYS {
        let (key, life) = (format!("key:{n}"), life.as_millis().to_string());
        match n % 10 {
            0 => encode(&mut bytes, &["SET", &key, "stays"]),
            _ => encode(&mut bytes, &["SET", &key, "goes", "PX", &life]),
        }
    }
    client.send_raw(&bytes)?;
    for _ in 0..KEYS {
        anyhow::ensure!(client.receive()? == Reply::Status("OK".into()));
    }
    client.ok("ROCKALL")?;
    rewrite(&mut client)?;
    anyhow::ensure!(client.ok("DBSIZE")? == Reply::Int(KEYS as i64), "too slow");
    server.kill_family()?;
    until("that they expire", || Ok(Instant::now() > ends))?;
    let (server, mut client) = start(folder.path(), &AOF)?;
    assert_eq!(goes_on_with(&server)?, KEYS as u64);
    until("that they go", || {
        Ok(client.ok("DBSIZE")?.int() == Some(KEYS as i64 / 10))
    })
}

#[test]
fn a_restart_goes_on_with_the_tier_of_the_last_rewrite() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = start(folder.path(), &AOF)?;
    fill(&mut client)?;
    client.ok("ROCKALL")?;
    // Some are read, some changed before the cut: those are dirty.
    client.ok("GET key:1")?;
    client.ok("APPEND key:2 dirty")?;
    client.ok("SELECT 2")?;
    client.ok("SETRANGE key:3 5 dirty")?;
    client.ok("SELECT 0")?;
    rewrite(&mut client)?;
    let mut wanted = seen(&mut client)?;
    server.kill_family()?;
    for round in 0..4 {
        let (server, mut client) = start(folder.path(), &AOF)?;
        let cold = goes_on_with(&server)?;
        assert!(cold > KEYS as u64, "round {round}: {cold}");
        assert_eq!(seen(&mut client)?, wanted, "round {round}");
        go_on(&mut client, round)?;
        if round == 2 {
            // Another cut takes the place of the first.
            client.ok("ROCKALL")?;
            rewrite(&mut client)?;
        }
        wanted = seen(&mut client)?;
        match round {
            1 => assert_eq!(server.terminate()?.code(), Some(0)),
            _ => server.kill_family()?,
        }
    }
    // From the files alone it is the same, for us and for Redis.
    let copy = tempfile::tempdir()?;
    copy_durable(folder.path(), copy.path())?;
    let (cold, mut client) = start(
        folder.path(),
        &[&AOF[..], &["--warm-restart", "no"]].concat(),
    )?;
    assert!(!cold.log_text().contains(WARM), "{}", cold.log_text());
    assert_eq!(seen(&mut client)?, wanted);
    if has_redis() {
        let options = [&AOF[..], &["--enable-debug-command", "yes"]].concat();
        let redis = Server::start(Kind::Redis, copy.path(), &options)?;
        assert_eq!(redis.client()?.ok("DEBUG DIGEST")?.text(), wanted.0);
    }
    Ok(())
}

#[test]
fn without_a_log_it_goes_on_with_the_tier_of_the_dump() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = start(folder.path(), &[])?;
    fill(&mut client)?;
    client.ok("ROCKALL")?;
    client.ok("APPEND key:2 dirty")?;
    client.ok("SAVE")?;
    let wanted = seen(&mut client)?;
    client.ok("SET after:the:save 1")?;
    server.kill_family()?;
    for _ in 0..2 {
        let (server, mut client) = start(folder.path(), &[])?;
        assert!(goes_on_with(&server)? > KEYS as u64);
        assert_eq!(seen(&mut client)?, wanted);
        assert_eq!(
            dataset::read(&mut client, 1)?.len() as i64,
            client.ok("DBSIZE")?.int().unwrap_or(0)
        );
        client.ok("FLUSHALL")?;
        server.kill_family()?;
    }
    // A dump that another server wrote since is not what the tier was kept with.
    let (server, mut client) = start(folder.path(), &["--warm-restart", "no"])?;
    client.ok("SET k v")?;
    client.ok("SAVE")?;
    server.kill_family()?;
    let (server, mut client) = start(folder.path(), &[])?;
    assert!(!server.log_text().contains(WARM), "{}", server.log_text());
    assert_eq!(client.ok("GET k")?.text(), "v");
    Ok(())
}

#[test]
fn keys_whose_time_came_meanwhile_expire_when_the_log_has_been_replayed() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = start(folder.path(), &AOF)?;
    for n in 0..500 {
        client.ok(&format!("SET soon:{n} v PX 1500"))?;
        client.ok(&format!("SET late:{n} v EX 5000"))?;
    }
    client.ok("ROCKALL")?;
    rewrite(&mut client)?;
    server.kill_family()?;
    until("a time that has come", || {
        let (server, mut client) = start(folder.path(), &AOF)?;
        goes_on_with(&server)?;
        until("the end of those that expire", || {
            let size = client.ok("DBSIZE")?.int();
            Ok(size == Some(500) || client.ok("EXISTS soon:0")?.int() == Some(1))
        })?;
        let size = client.ok("DBSIZE")?.int();
        server.kill_family()?;
        Ok(size == Some(500))
    })
}

#[test]
fn whatever_is_wrong_with_the_kept_tier_the_files_are_enough() -> anyhow::Result<()> {
    type Harm = fn(&Path) -> anyhow::Result<()>;
    fn kept(folder: &Path) -> PathBuf {
        folder.join("tier").join("warm")
    }
    fn one_of(folder: &Path, suffix: &str) -> anyhow::Result<PathBuf> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(suffix) {
                return Ok(path);
            }
        }
        anyhow::bail!("no {suffix} in {}", folder.display())
    }
    fn flip(path: &Path, at: usize) -> anyhow::Result<()> {
        let mut bytes = std::fs::read(path)?;
        bytes[at] ^= 0x20;
        Ok(std::fs::write(path, bytes)?)
    }
    let harms: [(&str, Harm); 5] = [
        ("a file is missing", |folder| {
            Ok(std::fs::remove_file(one_of(&kept(folder), ".sst")?)?)
        }),
        ("a file is cut short", |folder| {
            let path = one_of(&kept(folder), ".sst")?;
            let bytes = std::fs::read(&path)?;
            Ok(std::fs::write(&path, &bytes[..bytes.len() / 2])?)
        }),
        ("the description is damaged", |folder| {
            flip(&kept(folder).join("REDROCK_WARM"), 40)
        }),
        ("RocksDB's own list is damaged", |folder| {
            let current = std::fs::read_to_string(kept(folder).join("CURRENT"))?;
            flip(&kept(folder).join(current.trim()), 20)
        }),
        ("it is all gone", |folder| {
            Ok(std::fs::remove_dir_all(kept(folder))?)
        }),
    ];
    let folder = tempfile::tempdir()?;
    let (server, mut client) = start(folder.path(), &AOF)?;
    fill(&mut client)?;
    server.kill_family()?;
    for (name, harm) in harms {
        let (server, mut client) = start(folder.path(), &AOF)?;
        client.ok("ROCKALL")?;
        rewrite(&mut client)?;
        client.ok("INCR after:the:cut")?;
        let wanted = seen(&mut client)?;
        server.kill_family()?;
        harm(folder.path()).context(name)?;
        let (server, mut client) = start(folder.path(), &AOF)?;
        assert!(
            !server.log_text().contains(WARM),
            "{name}: {}",
            server.log_text()
        );
        assert_eq!(seen(&mut client)?, wanted, "{name}");
        server.kill_family()?;
    }
    Ok(())
}

#[test]
fn a_tier_that_belongs_to_another_file_is_left() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = start(folder.path(), &AOF)?;
    fill(&mut client)?;
    client.ok("ROCKALL")?;
    rewrite(&mut client)?;
    client.ok("SET k log")?;
    let wanted = seen(&mut client)?;
    server.kill_family()?;
    // Started without the log there is nothing, and the tier is not looked at.
    let (server, mut client) = start(folder.path(), &[])?;
    assert_eq!(client.ok("DBSIZE")?.int(), Some(0));
    assert!(!server.log_text().contains(WARM), "{}", server.log_text());
    assert!(!dump(folder.path()).exists());
    server.kill_family()?;
    let (server, mut client) = start(folder.path(), &AOF)?;
    assert_eq!(seen(&mut client)?, wanted);
    drop(server);
    Ok(())
}

#[test]
fn what_is_kept_is_the_first_to_go_where_there_is_no_room() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount_ext4(96 << 20) else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let tier = disk.path().join("tier");
    let place = tier.display().to_string();
    let options = [&AOF[..], &["--rockdbdir", &place]].concat();
    let (server, mut client) = start(folder.path(), &options)?;
    fill(&mut client)?;
    client.ok("ROCKALL")?;
    rewrite(&mut client)?;
    let kept = tier.join("warm");
    until("a kept checkpoint", || {
        Ok(kept.join("REDROCK_WARM").exists())
    })?;
    // All but what a file takes at least.
    let ballast = std::fs::File::create(disk.path().join("ballast"))?;
    let mut free = rustix::fs::statvfs(disk.path())?;
    let mut length = 0;
    while free.f_bavail * free.f_frsize > 1 << 20 {
        length += 1 << 20;
        rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, length)?;
        free = rustix::fs::statvfs(disk.path())?;
    }
    until("the end of what was kept", || Ok(!kept.exists()))?;
    let wanted = seen(&mut client)?;
    server.kill_family()?;
    std::fs::remove_file(disk.path().join("ballast"))?;
    let (server, mut client) = start(folder.path(), &options)?;
    assert!(!server.log_text().contains(WARM), "{}", server.log_text());
    assert_eq!(seen(&mut client)?, wanted);
    Ok(())
}
