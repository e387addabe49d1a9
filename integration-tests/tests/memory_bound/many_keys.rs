//! More keys than fit into memory without their values: what leaves no trace there is as exact as what
//! does (DESIGN 7: stubs leave too).

use anyhow::{Context as _, ensure};
use redrock_integration_tests::job::{Job, alone, info, long_wait, until};
use redrock_integration_tests::resp::{Client, Reply, encode};
use redrock_integration_tests::scale::between;
use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

const PIPELINE: u64 = 200;
const LOADERS: u64 = 4;
/// Of so many keys one expires in the year 2100.
const EXPIRING: u64 = 50;
const EXPIRY_MS: i64 = 4_102_444_800_000;
/// Keys that expire in the course of the test, and as many that nothing happens to.
const SHORT_LIVED: u64 = 1000;

/// 16 bytes.
fn key(number: u64) -> String {
    format!("key:{number:012}")
}

/// 32 bytes.
fn value(number: u64) -> String {
    format!("{number:012}:{:019}", number.wrapping_mul(7919))
}

fn number_of(name: &str) -> anyhow::Result<u64> {
    let digits = name.strip_prefix("key:").context("a foreign key")?;
    Ok(digits.parse()?)
}

/// Sends the commands of `make` for all numbers, in pipelines; each reply goes to `check`.
fn for_all(
    client: &mut Client,
    numbers: impl Iterator<Item = u64>,
    make: impl Fn(&mut Vec<u8>, u64),
    check: impl Fn(u64, Reply) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut numbers = numbers.peekable();
    while numbers.peek().is_some() {
        let some: Vec<u64> = numbers.by_ref().take(PIPELINE as usize).collect();
        let mut bytes = Vec::new();
        some.iter().for_each(|number| make(&mut bytes, *number));
        client.send_raw(&bytes)?;
        for number in some {
            let reply = client.receive()?;
            check(number, reply).with_context(|| key(number))?;
        }
    }
    Ok(())
}

fn is_ok(_: u64, reply: Reply) -> anyhow::Result<()> {
    ensure!(reply == Reply::Status("OK".into()), "{reply:?}");
    Ok(())
}

fn load(client: &mut Client, numbers: impl Iterator<Item = u64>) -> anyhow::Result<()> {
    let expiry = EXPIRY_MS.to_string();
    let set = |bytes: &mut Vec<u8>, number| {
        let (key, value) = (key(number), value(number));
        match number % EXPIRING {
            0 => encode(bytes, &["SET", &key, &value, "PXAT", &expiry]),
            _ => encode(bytes, &["SET", &key, &value]),
        }
    };
    for_all(client, numbers, set, is_ok)
}

/// [`load`] of the first `count` keys over some connections at once.
fn load_all(port: u16, count: u64) -> anyhow::Result<()> {
    let share = count.div_ceil(LOADERS);
    std::thread::scope(|scope| {
        let loaders: Vec<_> = (0..LOADERS)
            .map(|n| n * share..count.min((n + 1) * share))
            .map(|range| scope.spawn(|| load(&mut Client::connect(port)?, range)))
            .collect();
        let mut ends = loaders.into_iter().map(|loader| loader.join());
        ends.try_for_each(|end| end.ok().context("a loader panicked")?)
    })
}

fn size(client: &mut Client) -> anyhow::Result<u64> {
    Ok(client.ok("DBSIZE")?.int().context("DBSIZE")?.try_into()?)
}

/// Values, times and absence of some keys.
fn check_some(client: &mut Client, count: u64, step: u64) -> anyhow::Result<()> {
    let some = || (0..count).step_by(step as usize);
    let get = |bytes: &mut Vec<u8>, number| encode(bytes, &["GET", &key(number)]);
    for_all(client, some(), get, |number, reply| {
        ensure!(reply.text() == value(number), "{reply:?}");
        Ok(())
    })?;
    let time = |bytes: &mut Vec<u8>, number| encode(bytes, &["PEXPIRETIME", &key(number)]);
    for_all(client, some(), time, |number, reply| {
        let expected = [-1, EXPIRY_MS][usize::from(number % EXPIRING == 0)];
        ensure!(reply == Reply::Int(expected), "{reply:?}");
        Ok(())
    })?;
    let there = |bytes: &mut Vec<u8>, number| encode(bytes, &["EXISTS", &key(count + number)]);
    for_all(client, some(), there, |_, reply| {
        ensure!(reply == Reply::Int(0), "{reply:?}");
        Ok(())
    })
}

/// SCAN names each key, and none that isn't there; KEYS and RANDOMKEY agree.
fn check_walks(client: &mut Client, count: u64) -> anyhow::Result<()> {
    let mut seen = vec![false; usize::try_from(count)?];
    let mut cursor = "0".to_owned();
    loop {
        let mut reply = client.ok(&format!("SCAN {cursor} COUNT 1000"))?.elements();
        let names = reply.pop().context("keys")?.elements();
        for name in names {
            let number = number_of(&name.text())?;
            let place = seen.get_mut(usize::try_from(number)?);
            *place.with_context(|| format!("{number} was never set"))? = true;
        }
        cursor = reply.pop().context("a cursor")?.text();
        if cursor == "0" {
            break;
        }
    }
    let missed = seen.iter().filter(|seen| !**seen).count();
    ensure!(missed == 0, "SCAN missed {missed} keys");
    let part = count / 1000;
    let matching = client.ok(&format!("KEYS key:{:09}*", part / 2))?.elements();
    ensure!(matching.len() == 1000, "KEYS found {}", matching.len());
    let mut random = HashSet::new();
    for _ in 0..200 {
        let number = number_of(&client.ok("RANDOMKEY")?.text())?;
        ensure!(number < count, "RANDOMKEY gave {number}");
        random.insert(number * 8 / count);
    }
    ensure!(random.len() == 8, "RANDOMKEY gives parts only: {random:?}");
    Ok(())
}

/// Transactions that watch keys without a trace in memory.
fn check_watch(client: &mut Client, other: &mut Client, count: u64) -> anyhow::Result<()> {
    for (at, touched) in [(count / 3, false), (count / 2, true)] {
        let key = key(at);
        client.ok(&format!("WATCH {key}"))?;
        if touched {
            other.ok(&format!("PEXPIREAT {key} {EXPIRY_MS}"))?;
        }
        client.ok("MULTI")?;
        client.ok("PING")?;
        let done = client.ok("EXEC")?;
        ensure!((done == Reply::Nil) == touched, "{key}: {done:?}");
        other.ok(&format!("SET {key} {}", value(at)))?;
    }
    Ok(())
}

/// What exists is replaced, not added; what is deleted is counted off.
fn check_counts(client: &mut Client, count: u64) -> anyhow::Result<()> {
    let some = || (0..count).step_by((count / 500) as usize);
    let absent = |bytes: &mut Vec<u8>, number| encode(bytes, &["SETNX", &key(number), "x"]);
    for_all(client, some(), absent, |_, reply| {
        ensure!(reply == Reply::Int(0), "{reply:?}");
        Ok(())
    })?;
    load(client, some())?;
    ensure!(size(client)? == count, "a key counts twice");
    let del = |bytes: &mut Vec<u8>, number| encode(bytes, &["DEL", &key(number)]);
    for_all(client, some(), del, |_, reply| {
        ensure!(reply == Reply::Int(1), "{reply:?}");
        Ok(())
    })?;
    let left = size(client)?;
    ensure!(left == count - some().count() as u64, "{left} are left");
    load(client, some())
}

/// Keys whose times pass while nothing of them is in memory: each is gone on time, and said to be.
fn check_expiry(job: &mut Job, count: u64) -> anyhow::Result<()> {
    let step = (count / SHORT_LIVED / 2) as usize;
    let some = || (1..count).step_by(step).take(SHORT_LIVED as usize);
    let (client, mut listener) = (&mut job.client, job.server.client()?);
    client.ok("CONFIG SET notify-keyspace-events Ex")?;
    let life = Duration::from_secs(2);
    let due = SystemTime::now() + life;
    let due_ms = due.duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
    let expire = |bytes: &mut Vec<u8>, number| {
        encode(bytes, &["PEXPIREAT", &key(number), &due_ms.to_string()]);
    };
    listener.ok("SUBSCRIBE __keyevent@0__:expired")?;
    listener.set_reply_wait(long_wait())?;
    for_all(client, some(), expire, |_, reply| {
        ensure!(reply == Reply::Int(1), "{reply:?}");
        Ok(())
    })?;
    let mut waiting: HashSet<u64> = some().collect();
    while !waiting.is_empty() {
        let message = listener.receive()?.elements();
        let name = message.last().context("a message")?.text();
        let number = number_of(&name)?;
        ensure!(SystemTime::now() >= due, "{name} expired too soon");
        ensure!(waiting.remove(&number), "{name} expired twice or unasked");
    }
    ensure!(
        client
            .run(&["CONFIG", "SET", "notify-keyspace-events", ""])?
            .text()
            == "OK"
    );
    let left = size(client)?;
    ensure!(left == count - some().count() as u64, "{left} are left");
    load(client, some())
}

#[test]
fn keys_that_do_not_fit_into_memory_are_as_exact_as_others() -> anyhow::Result<()> {
    let _alone = alone();
    let count = between(1_200_000, 50_000_000);
    let folder = tempfile::tempdir()?;
    let mut job = Job::start_within(between(128, 400), "many keys", folder.path(), &[])?;
    job.wait_companions()?;
    let began = Instant::now();
    load_all(job.server.port, count)?;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!("many keys: {count} keys of 16 bytes with 32, {rate:.0} a second");
    ensure!(size(&mut job.client)? == count, "DBSIZE after the load");
    let stubs_gone = info(&mut job.client, "tiering", "tiering_dropped_stubs")?;
    println!("many keys: stubs dropped {stubs_gone}");
    ensure!(stubs_gone.parse::<u64>()? > 0, "all stubs are in memory");
    job.end_phase("load of small keys")?;
    check_some(&mut job.client, count, count / 5000)?;
    let mut other = job.server.client()?;
    check_watch(&mut job.client, &mut other, count)?;
    check_counts(&mut job.client, count)?;
    check_expiry(&mut job, count)?;
    job.end_phase("reads, counts, transactions, expiry")?;
    job.client.set_reply_wait(long_wait())?;
    check_walks(&mut job.client, count)?;
    job.end_phase("SCAN, KEYS, RANDOMKEY")?;
    let client = &mut job.client;
    until("a save's end", || {
        Ok(info(client, "persistence", "rdb_bgsave_in_progress")? == "0")
    })?;
    job.kill()
}
