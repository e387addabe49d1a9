//! Random bytes and damaged requests to the port: the server lives, answers as Redis does, and
//! serves everybody else.

use crate::wire::{Pair, ask, line, none, shown};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use redrock_integration_tests::resp::Client;
use redrock_integration_tests::scale::{between, seed};
use std::sync::atomic::{AtomicBool, Ordering};

/// Requests to damage. None of them, however damaged, ends or empties the server.
const REQUESTS: &[&str] = &[
    "SET fuzz:a 1",
    "GET fuzz:a",
    "APPEND fuzz:a xyz",
    "RPUSH fuzz:l 1 2 3",
    "LRANGE fuzz:l 0 -1",
    "HSET fuzz:h f v",
    "HGET fuzz:h f",
    "SADD fuzz:s m",
    "ZADD fuzz:z 1 m",
    "ZRANGE fuzz:z 0 -1",
    "ECHO text",
    "PING",
];

/// A few requests, some bytes of them changed, doubled, dropped or cut off.
fn damaged(random: &mut StdRng) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..REQUESTS.len());
        let text = REQUESTS.get(at).copied().unwrap_or("PING");
        if random.random_bool(0.2) {
            input.extend_from_slice(text.as_bytes());
            input.extend_from_slice(b"\r\n");
        } else {
            input.extend(line(text));
        }
    }
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..input.len());
        match random.random_range(0..4) {
            0 => input[at] = random.random(),
            1 => input.insert(at, random.random()),
            2 => drop(input.remove(at)),
            _ => {
                input[at] = *b"*$:+-0123456789\r\n \"'\0"
                    .get(random.random_range(0..21))
                    .unwrap_or(&0)
            }
        }
        if input.is_empty() {
            return input;
        }
    }
    if random.random_bool(0.2) {
        input.truncate(random.random_range(0..=input.len()));
    }
    input
}

fn noise(random: &mut StdRng) -> Vec<u8> {
    let mut input = vec![0; random.random_range(1..2000)];
    random.fill_bytes(&mut input);
    if random.random_bool(0.5) {
        input.insert(0, b'*');
    }
    input
}

#[test]
fn random_bytes_neither_end_the_server_nor_disturb_its_clients() -> anyhow::Result<()> {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let Some(pair) = Pair::start(&[])? else {
        return Ok(());
    };
    let pair = pair.ready()?;
    let rounds = between(1_500, 200_000);
    let stop = AtomicBool::new(false);
    let (port, real) = (pair.ours.port, pair.real.port);
    let (failures, served) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let other = scope.spawn(|| well_behaved(port, &stop));
        let mut work = || -> anyhow::Result<Vec<String>> {
            let mut failures = Vec::new();
            for round in 0..rounds {
                let input = match round % 3 {
                    0 => noise(&mut random),
                    _ => damaged(&mut random),
                };
                let (theirs, ours) = (ask(real, &input)?, ask(port, &input)?);
                if theirs != ours {
                    failures.push(format!(
                        "round {round}: {}\n  Redis: {}\n  ours:  {}",
                        shown(&input),
                        shown(&theirs),
                        shown(&ours)
                    ));
                }
            }
            Ok(failures)
        };
        let failures = work();
        stop.store(true, Ordering::Relaxed);
        let served = match other.join() {
            Ok(served) => served?,
            Err(_) => anyhow::bail!("the other client panicked"),
        };
        Ok((failures?, served))
    })?;
    println!("{served} requests of another client were served meanwhile");
    assert!(served > 0);
    none(failures, rounds as usize);
    let log = pair.ours.log_text();
    assert!(!log.contains("panicked"), "{log}");
    let mut client = pair.ours.client()?;
    assert_eq!(client.ok("PING")?.text(), "PONG");
    Ok(())
}

/// Counts up a key of its own and reads it back; how often.
fn well_behaved(port: u16, stop: &AtomicBool) -> anyhow::Result<u64> {
    let mut client = Client::connect(port)?;
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        client.ok(&format!("SET mine {count}"))?;
        let found = client.ok("GET mine")?.text();
        anyhow::ensure!(found == count.to_string(), "{found} instead of {count}");
        count += 1;
    }
    Ok(count)
}
