//! `maxmemory`: what goes, what is refused, who is told; without tiering, beside a real Redis,
//! and with a tier that has no room.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::small_disk::SmallDisk;
use std::path::Path;
use std::time::{Duration, Instant};

const WAIT: Duration = redrock_integration_tests::scale::PATIENCE;
const VALUE_BYTES: usize = 10_000;
/// What may be used beyond what the empty server uses.
const ROOM_BYTES: i64 = 6 << 20;
/// As many values as would take more than three times that.
const KEYS: usize = 2000;

fn kinds() -> Vec<Kind> {
    match has_redis() {
        true => vec![Kind::RedRock, Kind::Redis],
        false => vec![Kind::RedRock],
    }
}

fn field(client: &mut Client, section: &str, name: &str) -> anyhow::Result<i64> {
    number(&client.ok(&format!("INFO {section}"))?.text(), name)
}

/// A number out of INFO's text.
fn number(text: &str, name: &str) -> anyhow::Result<i64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}:")));
    let value = line.and_then(|value| value.parse().ok());
    value.ok_or_else(|| anyhow::anyhow!("no {name} in {text}"))
}

/// A server with a policy and a limit a little above what it uses.
fn start(
    kind: Kind,
    folder: &Path,
    policy: &str,
    options: &[&str],
) -> anyhow::Result<(Server, Client)> {
    let mut options = [&["--maxmemory-policy", policy], options].concat();
    if kind == Kind::RedRock {
        // Connections to companions take memory at a time of their own.
        options.extend(["--companions", "external"]);
    }
    let server = Server::start(kind, folder, &options)?;
    let mut client = server.client()?;
    let used = field(&mut client, "memory", "used_memory")?;
    client.ok(&format!("CONFIG SET maxmemory {}", used + ROOM_BYTES))?;
    Ok((server, client))
}

/// Writes `KEYS` keys, each with an expiry of its own if `volatile`; the replies that were errors.
fn fill(client: &mut Client, prefix: &str, volatile: bool) -> anyhow::Result<Vec<String>> {
    let value = "v".repeat(VALUE_BYTES);
    let mut errors = Vec::new();
    for n in 0..KEYS {
        let key = format!("{prefix}:{n}");
        let expire = (100_000 + n).to_string();
        let mut words = vec!["SET", &key, &value];
        if volatile {
            words.extend(["EX", &expire]);
        }
        if let Reply::Error(text) = client.run(&words)? {
            errors.push(text);
        }
    }
    Ok(errors)
}

fn is_within_limit(client: &mut Client) -> anyhow::Result<bool> {
    let (used, limit) = (
        field(client, "memory", "used_memory")?,
        field(client, "memory", "maxmemory")?,
    );
    // What the question itself takes.
    Ok(used <= limit + (512 << 10))
}

#[test]
fn each_policy_keeps_memory_within_the_limit() -> anyhow::Result<()> {
    let policies = [
        ("allkeys-lru", false),
        ("allkeys-lfu", false),
        ("allkeys-random", false),
        ("volatile-lru", true),
        ("volatile-lfu", true),
        ("volatile-random", true),
        ("volatile-ttl", true),
    ];
    for (policy, volatile) in policies {
        for kind in kinds() {
            let folder = tempfile::tempdir()?;
            let (_server, mut client) = start(kind, folder.path(), policy, &[])?;
            let named = || format!("{policy}, {kind:?}");
            if volatile {
                // Keys without an expiry are never touched.
                (0..100).try_for_each(|n| client.ok(&format!("SET kept:{n} 1")).map(|_| ()))?;
            }
            let errors = fill(&mut client, "key", volatile)?;
            assert!(errors.is_empty(), "{}: {errors:?}", named());
            assert!(is_within_limit(&mut client)?, "{}", named());
            // One command: each may evict before it runs.
            client.ok("MULTI")?;
            client.ok("DBSIZE")?;
            client.ok("INFO stats")?;
            let both = client.ok("EXEC")?.elements();
            let left = both.first().and_then(Reply::int).unwrap_or(0);
            let text = both.get(1).map(Reply::text).unwrap_or_default();
            let evicted = number(&text, "evicted_keys")?;
            let kept = if volatile { 100 } else { 0 };
            assert_eq!(left + evicted, KEYS as i64 + kept, "{}", named());
            // About as many as fit are still there.
            assert!((300..900).contains(&(left - kept)), "{}: {left}", named());
            if volatile {
                let there = (0..100).map(|n| client.ok(&format!("EXISTS kept:{n}")));
                let there: Vec<_> = there.collect::<Result<_, _>>()?;
                assert!(there.iter().all(|r| r.int() == Some(1)), "{}", named());
            }
            if policy == "volatile-ttl" {
                // Samples are chosen at random, so some short lives may be left.
                let mut survivors = |from: usize, to: usize| -> anyhow::Result<i64> {
                    let keys: String = (from..to).map(|n| format!(" key:{n}")).collect();
                    Ok(client.ok(&format!("EXISTS{keys}"))?.int().unwrap_or(0))
                };
                let (short, long) = (survivors(0, KEYS / 2)?, survivors(KEYS / 2, KEYS)?);
                assert!(short * 10 < long, "{}: {short}, {long}", named());
            }
        }
    }
    Ok(())
}

#[test]
fn where_nothing_may_go_writes_are_refused_and_deletes_and_reads_go_on() -> anyhow::Result<()> {
    const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";
    for policy in ["noeviction", "volatile-lru"] {
        for kind in kinds() {
            let folder = tempfile::tempdir()?;
            let (_server, mut client) = start(kind, folder.path(), policy, &[])?;
            let errors = fill(&mut client, "key", false)?;
            assert!(errors.len() > 500, "{policy}, {kind:?}: {}", errors.len());
            assert!(errors.iter().all(|text| text == OOM), "{errors:?}");
            assert_eq!(client.ok("GET key:1")?.text().len(), VALUE_BYTES);
            assert_eq!(client.ok("EXPIRE key:1 100000")?.int(), Some(1));
            if policy == "noeviction" {
                client.ok("MULTI")?;
                assert_eq!(client.run(&["SET", "a", "1"])?, Reply::Error(OOM.into()));
                let text = format!("{:?}", client.run(&["EXEC"])?);
                assert!(text.contains("EXECABORT"), "{text}");
            }
            for n in 0..100 {
                client.ok(&format!("DEL key:{n}"))?;
            }
            client.ok("SET a 1")?;
            assert_eq!(client.ok("GET a")?.text(), "1", "{policy}, {kind:?}");
        }
    }
    Ok(())
}

#[test]
fn what_was_not_used_for_long_or_used_little_goes_first() -> anyhow::Result<()> {
    for (policy, cold, hot) in [
        ("allkeys-lru", ["IDLETIME", "100000"], ["IDLETIME", "1"]),
        ("allkeys-lfu", ["FREQ", "1"], ["FREQ", "200"]),
    ] {
        for kind in kinds() {
            let folder = tempfile::tempdir()?;
            let (_server, mut client) = start(kind, folder.path(), policy, &[])?;
            let value = "v".repeat(VALUE_BYTES);
            client.run(&["SET", "model", &value])?;
            let Reply::Bulk(dump) = client.ok("DUMP model")? else {
                anyhow::bail!("DUMP");
            };
            for n in 0..400 {
                let (name, how) = match n % 2 {
                    0 => (format!("cold:{n}"), cold),
                    _ => (format!("hot:{n}"), hot),
                };
                let words: [&[u8]; 6] = [
                    b"RESTORE",
                    name.as_bytes(),
                    b"0",
                    &dump,
                    how[0].as_bytes(),
                    how[1].as_bytes(),
                ];
                assert_eq!(client.run(&words)?, Reply::Status("OK".into()));
            }
            let mut written = 0;
            while field(&mut client, "stats", "evicted_keys")? < 100 {
                assert!(written < KEYS, "{policy}, {kind:?}: nothing goes");
                client.run(&["SET", &format!("new:{written}"), &value])?;
                written += 1;
            }
            let count = |client: &mut Client, pattern: &str| -> anyhow::Result<usize> {
                Ok(client.ok(&format!("KEYS {pattern}"))?.elements().len())
            };
            let (cold, hot) = (count(&mut client, "cold:*")?, count(&mut client, "hot:*")?);
            let named = format!("{policy}, {kind:?}: {cold} cold, {hot} hot");
            assert!(hot > cold + 50, "{named}");
        }
    }
    Ok(())
}

#[test]
fn evictions_are_told_and_logged_and_a_lower_limit_works_at_once() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = ["--appendonly", "yes", "--enable-debug-command", "yes"];
    let (server, mut client) = start(Kind::RedRock, folder.path(), "allkeys-lru", &options)?;
    client.ok("CONFIG SET notify-keyspace-events Ee")?;
    let mut listener = server.client()?;
    listener.ok("SUBSCRIBE __keyevent@0__:evicted")?;
    fill(&mut client, "key", false)?;
    let message = listener.receive()?.elements();
    assert!(message[2].text().starts_with("key:"), "{message:?}");

    let limit = field(&mut client, "memory", "maxmemory")? - ROOM_BYTES / 2;
    client.ok(&format!("CONFIG SET maxmemory {limit}"))?;
    let deadline = Instant::now() + WAIT;
    while !is_within_limit(&mut client)? {
        anyhow::ensure!(Instant::now() < deadline, "memory does not shrink");
    }
    client.ok("CONFIG SET maxmemory 0")?;
    let before = (client.ok("DBSIZE")?, client.ok("DEBUG DIGEST")?);
    server.kill()?;
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let mut client = server.client()?;
    assert_eq!((client.ok("DBSIZE")?, client.ok("DEBUG DIGEST")?), before);
    Ok(())
}

/// What came of writing more than memory and a full tier hold.
#[derive(Debug)]
struct Overflow {
    errors: Vec<String>,
    evicted: i64,
    left: i64,
    used_bytes: i64,
}

/// Writes 130 MB that do not compress to a server of 128 MB whose tier's disk has 24 MB.
fn overflow(options: &[&str]) -> anyhow::Result<Option<Overflow>> {
    const COUNT: usize = 13_000;
    let Some(disk) = SmallDisk::mount(24 << 20) else {
        return Ok(None);
    };
    let folder = tempfile::tempdir()?;
    let tier = disk.path().join("tier").display().to_string();
    let tiered = ["--maxmemory", "128mb", "--enable-rocksdb-feature", "yes"];
    let place = ["--rockdbdir", &tier, "--companions", "external"];
    let server = Server::start(
        Kind::RedRock,
        folder.path(),
        &[&tiered[..], &place, options].concat(),
    )?;
    let mut client = server.client()?;
    let mut random = StdRng::seed_from_u64(11);
    let mut errors = Vec::new();
    let mut value = vec![0; VALUE_BYTES];
    for n in 0..COUNT {
        random.fill_bytes(&mut value);
        let key = format!("key:{n}");
        if let Reply::Error(text) = client.run(&[b"SET", key.as_bytes(), &value])? {
            errors.push(text);
            // Each is refused after a wait.
            break;
        }
    }
    let mut names: Vec<String> = vec!["EXISTS".into()];
    names.extend((0..COUNT).map(|n| format!("key:{n}")));
    // At one instant: evictions go on.
    client.ok("MULTI")?;
    client.run(&names)?;
    client.ok("DBSIZE")?;
    client.ok("INFO stats")?;
    let found = client.ok("EXEC")?.elements();
    let [left, size, stats] = &found[..] else {
        anyhow::bail!("{found:?}");
    };
    let (left, evicted) = (
        left.int().unwrap_or(-1),
        number(&stats.text(), "evicted_keys")?,
    );
    assert_eq!(size.int(), Some(left));
    if errors.is_empty() {
        anyhow::ensure!(left + evicted == COUNT as i64, "{left} and {evicted}");
    }
    Ok(Some(Overflow {
        errors,
        evicted,
        left,
        used_bytes: field(&mut client, "memory", "used_memory")?,
    }))
}

#[test]
fn what_a_full_tier_does_not_take_is_evicted_only_where_that_is_asked_for() -> anyhow::Result<()> {
    const OOM: &str = "OOM the tier";
    let not_only = ["--maxmemory-only-for-rocksdb", "no"];
    let lru = ["--maxmemory-policy", "allkeys-lru"];
    let keep = ["--max-hope-hot-keys", "1000000"];
    let cases: [(&[&str], bool); 4] = [
        (&[&not_only[..], &lru].concat(), true),
        (&[&not_only[..], &lru, &keep].concat(), false),
        (&not_only, false),
        (&lru, false),
    ];
    let found = std::thread::scope(|scope| {
        let runs = cases.map(|(options, _)| scope.spawn(move || overflow(options)));
        runs.map(|run| run.join())
    });
    for (found, (options, evicts)) in found.into_iter().zip(cases) {
        let found = found.map_err(|_| anyhow::anyhow!("{options:?} panicked"))?;
        let Some(found) = found? else { return Ok(()) };
        assert_eq!(found.errors.is_empty(), evicts, "{options:?}: {found:?}");
        assert_eq!(found.evicted > 0, evicts, "{options:?}: {found:?}");
        assert!(
            found.errors.iter().all(|text| text.starts_with(OOM)),
            "{found:?}"
        );
        assert!(
            found.left > 2_000 && found.used_bytes < 128 << 20,
            "{found:?}"
        );
    }
    Ok(())
}
