//! Clients that write as fast as they are served, in pipelines, while something else goes on.
//!
//! Each alternates between keys of its own, whose last value is known, and writes on the loaded
//! data that leave it as it is, so that cold values are touched as well.

use anyhow::Context as _;
use redrock_integration_tests::mixed::Mixed;
use redrock_integration_tests::resp::{Client, Reply, encode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

const WRITERS: u64 = 4;
const PIPELINE: u64 = 16;
/// Keys of one writer; the next round overwrites them.
const SLOTS: u64 = 2000;

pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<anyhow::Result<u64>>>,
    seed: u64,
}

fn key(writer: u64, number: u64) -> String {
    format!("writer:{writer}:{}", number % SLOTS)
}

fn values(seed: u64, writer: u64) -> Mixed {
    Mixed {
        seed: seed.wrapping_add(1 + writer),
        count: 0,
        long_bytes: 1000,
    }
}

fn run(port: u16, writer: u64, data: Mixed, stop: &AtomicBool) -> anyhow::Result<u64> {
    let mut client = Client::connect(port)?;
    let own = values(data.seed, writer);
    let mut number = 0;
    // A stride that meets all keys, in an order of its own for each writer.
    let mut at = writer * data.count / WRITERS;
    while !stop.load(Ordering::Relaxed) {
        let mut bytes = Vec::new();
        let mut sent = 0;
        for _ in 0..PIPELINE / 2 {
            number += 1;
            encode(
                &mut bytes,
                &[b"SET", key(writer, number).as_bytes(), &own.text(number)],
            );
            at = (at + 7919) % data.count;
            sent += 1 + u64::from(data.write_again(&mut bytes, at));
        }
        client.send_raw(&bytes)?;
        for _ in 0..sent {
            if let Reply::Error(text) = client.receive()? {
                anyhow::bail!("writer {writer}: {text}");
            }
        }
    }
    Ok(number)
}

impl Writers {
    /// Starts them.
    pub(crate) fn start(port: u16, data: Mixed) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = |writer| {
            let stop = stop.clone();
            std::thread::spawn(move || run(port, writer, data, &stop))
        };
        Self {
            threads: (0..WRITERS).map(thread).collect(),
            seed: data.seed,
            stop,
        }
    }

    /// Stops them: how many values of its own each wrote.
    pub(crate) fn stop(self) -> anyhow::Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let mut counts = Vec::new();
        for thread in self.threads {
            let count = thread.join().ok().context("a writer panicked")??;
            anyhow::ensure!(count > 0, "a writer wrote nothing");
            counts.push(count);
        }
        Ok(Written {
            counts,
            seed: self.seed,
        })
    }
}

/// What the writers' own keys hold.
pub(crate) struct Written {
    counts: Vec<u64>,
    seed: u64,
}

impl Written {
    /// How many writes there were on own keys.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many keys they left.
    pub(crate) fn keys(&self) -> u64 {
        self.counts.iter().map(|&count| count.min(SLOTS)).sum()
    }

    /// Checks that each key holds its last value.
    pub(crate) fn check(&self, client: &mut Client) -> anyhow::Result<()> {
        for (writer, &count) in (0..).zip(&self.counts) {
            for number in count.saturating_sub(SLOTS) + 1..=count {
                let name = key(writer, number);
                let found = client.run(&["GET", &name])?;
                let wanted = Reply::Bulk(values(self.seed, writer).text(number));
                anyhow::ensure!(found == wanted, "{name} is not write {number}");
            }
        }
        Ok(())
    }
}
