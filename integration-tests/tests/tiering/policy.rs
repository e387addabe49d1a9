//! `maxmemory-policy` where values are tiered: which go cold.

use super::{ALONE, fill, start};
use redrock_integration_tests::resp::{Client, Reply};

const VALUE_BYTES: usize = 10_000;
const OFTEN: usize = 400;

/// How many of the keys `often:*` have their value in memory; afterwards none has.
fn hot(client: &mut Client) -> anyhow::Result<usize> {
    let mut words = vec!["ROCKEVICT".to_owned()];
    words.extend((0..OFTEN).map(|n| format!("often:{n}")));
    let fates = client.run(&words)?.elements();
    anyhow::ensure!(fates.len() == OFTEN, "{fates:?}");
    Ok(fates.iter().filter(|fate| fate.text() == "EVICTED").count())
}

fn touch(client: &mut Client, prefix: &str, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    for n in numbers {
        let found = client.run(&["STRLEN", &format!("{prefix}:{n}")])?;
        anyhow::ensure!(found == Reply::Int(VALUE_BYTES as i64), "{prefix}:{n}");
    }
    Ok(())
}

/// Some keys are wanted very often, then many others a few times: how many of the first are hot still.
fn left(policy: &str) -> anyhow::Result<usize> {
    let folder = tempfile::tempdir()?;
    let options = [&ALONE[..], &["--maxmemory-policy", policy]].concat();
    let server = start(folder.path(), "128mb", &options)?;
    let mut client = server.client()?;
    fill(&mut client, "often", 0..OFTEN, VALUE_BYTES)?;
    for _ in 0..20 {
        touch(&mut client, "often", 0..OFTEN)?;
    }
    for from in (0..20_000).step_by(500) {
        fill(&mut client, "late", from..from + 500, VALUE_BYTES)?;
        touch(&mut client, "late", from..from + 500)?;
        touch(&mut client, "late", from..from + 500)?;
    }
    hot(&mut client)
}

#[test]
fn the_policy_says_whether_lately_or_often_used_values_stay_in_memory() -> anyhow::Result<()> {
    let (lru, lfu) = (left("allkeys-lru")?, left("allkeys-lfu")?);
    anyhow::ensure!(lfu > lru + OFTEN / 4, "LRU keeps {lru}, LFU {lfu}");
    Ok(())
}

#[test]
fn a_policy_that_is_changed_counts_from_then_on() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), "128mb", &ALONE)?;
    let mut client = server.client()?;
    client.ok("SET a 1")?;
    client.ok("OBJECT IDLETIME a")?;
    client.ok("CONFIG SET maxmemory-policy volatile-lfu")?;
    client.ok("SET b 1")?;
    let frequency = client.ok("OBJECT FREQ b")?.int();
    anyhow::ensure!(frequency.is_some_and(|f| f >= 5), "{frequency:?}");
    // It is kept when the value goes to disk.
    client.ok("ROCKEVICT b")?;
    assert_eq!(client.ok("OBJECT FREQ b")?.int(), frequency);
    Ok(())
}
