//! Hit ratios, from the server's own count of commands that waited for the tier.
//!
//! The zipf clients and what disturbs them take turns of some hundred commands, so that the count
//! tells them apart.

use super::lru::Lru;
use super::popular::Popular;
use super::{Values, name, run_all, set_all};
use anyhow::Context as _;
use redrock_integration_tests::resp::{Client, Reply, encode};

const CLIENTS: usize = 8;
const PIPELINE: usize = 16;
/// Keys of a scan, and new ones, in a turn: together as many as the zipf clients read.
const OTHERS: usize = CLIENTS * PIPELINE / 2;

/// A part of the run.
#[derive(Default)]
struct Phase {
    reads: u64,
    cold: u64,
    lru_hits: u64,
}

impl Phase {
    fn ratio(&self) -> f64 {
        1.0 - self.cold as f64 / self.reads as f64
    }
}

struct Bench {
    clients: Vec<Client>,
    control: Client,
    popular: Popular,
    /// All that was asked for, for the simulation.
    asked: Vec<u64>,
}

impl Bench {
    /// Commands that waited for the tier so far.
    fn waits(&mut self) -> anyhow::Result<u64> {
        let text = self.control.ok("ROCKSTAT")?.text();
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix("waiting_commands:"));
        Ok(line.context("waiting_commands")?.trim().parse()?)
    }

    /// Values in memory.
    fn in_memory(&mut self) -> anyhow::Result<u64> {
        let report = self.control.ok("ROCK REPORT")?.elements();
        let at = report.iter().position(|word| word.text() == "in_memory");
        let count = report.get(at.context("in_memory")? + 1);
        Ok(count.and_then(Reply::int).context("a number")? as u64)
    }

    /// A turn of the zipf clients: what they read and how much of it was cold.
    fn turn(&mut self, phase: &mut Phase) -> anyhow::Result<()> {
        let before = self.waits()?;
        for client in &mut self.clients {
            let mut bytes = Vec::new();
            for _ in 0..PIPELINE {
                let key = self.popular.next();
                self.asked.push(key);
                encode(&mut bytes, &["GET", &name(key)]);
            }
            client.send_raw(&bytes)?;
        }
        for client in &mut self.clients {
            for _ in 0..PIPELINE {
                anyhow::ensure!(matches!(client.receive()?, Reply::Bulk(_)), "a key is gone");
            }
        }
        phase.reads += (CLIENTS * PIPELINE) as u64;
        phase.cold += self.waits()? - before;
        Ok(())
    }
}

/// A scan of all keys in steps, and a load of new ones.
struct Others {
    client: Client,
    cursor: String,
    names: Vec<String>,
    next_key: u64,
    values: Values,
}

impl Others {
    /// Reads the next keys of the scan and writes new ones; what was touched, as numbers.
    fn turn(&mut self, asked: &mut Vec<u64>) -> anyhow::Result<()> {
        while self.names.len() < OTHERS {
            let command = ["SCAN", &self.cursor, "COUNT", "256"];
            let mut reply = self.client.run(&command)?.elements();
            let names = reply.pop().context("keys of SCAN")?.elements();
            self.cursor = reply.pop().context("cursor of SCAN")?.text();
            self.names.extend(names.iter().map(Reply::text));
        }
        let mut bytes = Vec::new();
        for name in self.names.drain(..OTHERS) {
            encode(&mut bytes, &["GET", &name]);
            asked.push(name.trim_start_matches("key:").parse()?);
        }
        run_all(&mut self.client, OTHERS, &bytes)?;
        let new = self.next_key..self.next_key + OTHERS as u64;
        self.next_key = new.end;
        asked.extend(new.clone());
        set_all(&mut self.client, new, &self.values)
    }
}

/// Measures; `keys` are there already, written in order.
pub(crate) fn measure(port: u16, keys: u64, operations: u64, seed: u64) -> anyhow::Result<()> {
    let clients = (0..CLIENTS).map(|_| Client::connect(port));
    let mut bench = Bench {
        clients: clients.collect::<anyhow::Result<_>>()?,
        control: Client::connect(port)?,
        popular: Popular::new(keys, seed),
        asked: Vec::new(),
    };
    let turns = operations / (CLIENTS * PIPELINE) as u64;
    let (mut warm, mut quiet, mut mixed) = (Phase::default(), Phase::default(), Phase::default());
    for turn in 0..turns {
        let phase = if turn < turns / 2 {
            &mut warm
        } else {
            &mut quiet
        };
        bench.turn(phase)?;
    }
    let held = bench.in_memory()?;
    let mut others = Others {
        client: Client::connect(port)?,
        cursor: "0".into(),
        names: Vec::new(),
        next_key: keys,
        values: Values::new(seed),
    };
    let mut asked_by_others = Vec::new();
    for _ in 0..turns / 2 {
        bench.turn(&mut mixed)?;
        others.turn(&mut asked_by_others)?;
    }
    let held_mixed = bench.in_memory()?;
    let mut lru = Lru::new(others.next_key, held);
    for key in 0..keys {
        lru.touch(key);
    }
    let (zipf, disturbed) = bench.asked.split_at((warm.reads + quiet.reads) as usize);
    for (at, key) in zipf.iter().enumerate() {
        let phase = if (at as u64) < warm.reads {
            &mut warm
        } else {
            &mut quiet
        };
        phase.lru_hits += u64::from(lru.touch(*key));
    }
    let others = asked_by_others.chunks(2 * OTHERS);
    for (zipf, others) in disturbed.chunks(CLIENTS * PIPELINE).zip(others) {
        mixed.lru_hits += zipf
            .iter()
            .map(|key| u64::from(lru.touch(*key)))
            .sum::<u64>();
        for key in others {
            lru.touch(*key);
        }
    }
    println!("seed {seed}, {keys} keys, {held} values in memory, {held_mixed} at the end");
    println!("| phase | reads | hit ratio | ideal | simulated LRU |\n|---|---|---|---|---|");
    for (name, phase, held) in [
        ("zipf, first half", warm, held),
        ("zipf, second half", quiet, held),
        ("zipf with scan and new keys", mixed, held_mixed),
    ] {
        let (reads, ratio) = (phase.reads, phase.ratio());
        let ideal = bench.popular.ideal(held);
        let lru = phase.lru_hits as f64 / reads as f64;
        println!("| {name} | {reads} | {ratio:.4} | {ideal:.4} | {lru:.4} |");
    }
    Ok(())
}
