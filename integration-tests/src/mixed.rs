//! A large data set of all types that is a function of its seed: written and checked in pipelines,
//! never held in memory.
//!
//! Most values have a kilobyte; a few collections have 32 KiB and very few 1 MiB, in the encodings
//! for large ones. All of it compresses to about half, as real data often does. Some keys expire in the year 2100, some while the
//! test runs: those must be gone afterwards.

use crate::resp::{Client, Reply, encode};
use anyhow::{Context as _, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

const PIPELINE: usize = 64;
/// Connections that read back at once.
const CHECKERS: u64 = 4;
const TEXT_BYTES: usize = 1000;
const ELEMENT_BYTES: usize = 64;
/// Far enough ahead never to strike within a test: the year 2100, milliseconds.
const EXPIRY_MS: &str = "4102444800000";
/// The life of a key that does not outlive the test, milliseconds.
const SHORT_LIFE_MS: &str = "1000";
/// How long active expiry may take after the last key's time, beyond what a slow machine needs.
const EXPIRY_WAIT: Duration = Duration::from_secs(300);

/// `count` keys, most of them of about a kilobyte.
#[derive(Debug, Clone, Copy)]
pub struct Mixed {
    /// What every value follows from.
    pub seed: u64,
    /// How many keys are written.
    pub count: u64,
    /// What every tenth of them has, a string: few keys then make much data.
    pub long_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    TextWithExpiry,
    ShortLived,
    Hash,
    List,
    Set,
    SortedSet,
}

fn shape(at: u64) -> Shape {
    match at % 20 {
        0 | 1 => Shape::Hash,
        2 => Shape::List,
        3 => Shape::Set,
        4 => Shape::SortedSet,
        5 => Shape::TextWithExpiry,
        6 if at % 40 == 6 => Shape::ShortLived,
        _ => Shape::Text,
    }
}

/// How many elements a collection has. The first five of twenty are the collections.
fn elements_count(at: u64) -> usize {
    match (at % 50_000, at % 2500) {
        (0..5, _) => 16 << 10,
        (_, 0..5) => 512,
        _ => 16,
    }
}

fn key(at: u64) -> Vec<u8> {
    format!("mixed:{at}").into_bytes()
}

impl Mixed {
    /// The name of a key.
    pub fn key(&self, at: u64) -> Vec<u8> {
        key(at)
    }

    /// How many keys are there once the short-lived ones are gone.
    pub fn live_count(&self) -> u64 {
        let short_lived = (self.count + 33) / 40;
        self.count - short_lived
    }

    /// The string value of a key.
    pub fn text(&self, at: u64) -> Vec<u8> {
        let is_long = shape(at) == Shape::Text && at % 8 == 7;
        let length = if is_long { self.long_bytes } else { TEXT_BYTES };
        self.bytes(at, length, length)
    }

    /// What all of it takes at least, without names and overhead.
    pub fn total_bytes(&self) -> u64 {
        self.count / 10 * self.long_bytes as u64 + self.count / 10 * 9 * TEXT_BYTES as u64
    }

    /// Random bytes, the second half of each `part` of them like the first.
    fn bytes(&self, at: u64, length: usize, part: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut random = StdRng::seed_from_u64(self.seed ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for part in bytes.chunks_mut(part) {
            let (first, second) = part.split_at_mut(part.len() / 2);
            random.fill_bytes(first);
            second.copy_from_slice(first);
        }
        bytes
    }

    /// Name (or score) and content of each element of a collection, in order.
    fn elements(&self, at: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let bytes = self.bytes(at, elements_count(at) * ELEMENT_BYTES, ELEMENT_BYTES);
        let parts = bytes.chunks(ELEMENT_BYTES).map(<[u8]>::to_vec);
        let name = |n: u64| n.to_string().into_bytes();
        (0..).map(name).zip(parts).collect()
    }

    fn write(&self, out: &mut Vec<u8>, at: u64) {
        let (shape, key) = (shape(at), key(at));
        let mut command: Vec<Vec<u8>> = match shape {
            Shape::Text => vec![b"SET".to_vec(), key, self.text(at)],
            Shape::TextWithExpiry => {
                let expiry = [b"PXAT".to_vec(), EXPIRY_MS.into()];
                [vec![b"SET".to_vec(), key, self.text(at)], expiry.to_vec()].concat()
            }
            Shape::ShortLived => vec![b"PSETEX".to_vec(), key, SHORT_LIFE_MS.into(), self.text(at)],
            Shape::Hash => vec![b"HSET".to_vec(), key],
            Shape::List => vec![b"RPUSH".to_vec(), key],
            Shape::Set => vec![b"SADD".to_vec(), key],
            Shape::SortedSet => vec![b"ZADD".to_vec(), key],
        };
        if matches!(
            shape,
            Shape::Hash | Shape::List | Shape::Set | Shape::SortedSet
        ) {
            for (name, content) in self.elements(at) {
                if matches!(shape, Shape::Hash | Shape::SortedSet) {
                    command.push(name);
                }
                command.push(content);
            }
        }
        encode(out, &command);
    }

    /// Appends a write that leaves a key as [`Self::load`] made it; false: there is none.
    pub fn write_again(&self, out: &mut Vec<u8>, at: u64) -> bool {
        let possible = !matches!(shape(at), Shape::List | Shape::ShortLived);
        if possible {
            self.write(out, at);
        }
        possible
    }

    fn ask(out: &mut Vec<u8>, at: u64) {
        let key = key(at);
        let (name, rest): (&[u8], &[&[u8]]) = match shape(at) {
            Shape::Text | Shape::TextWithExpiry | Shape::ShortLived => (b"GET", &[]),
            Shape::Hash => (b"HGETALL", &[]),
            Shape::List => (b"LRANGE", &[b"0", b"-1"]),
            Shape::Set => (b"SMEMBERS", &[]),
            Shape::SortedSet => (b"ZRANGE", &[b"0", b"-1", b"WITHSCORES"]),
        };
        encode(out, &[&[name, &key], rest].concat());
        encode(out, &[b"PEXPIRETIME", &key[..]]);
    }

    fn is_right(&self, at: u64, reply: Reply) -> bool {
        let bulk = |bytes: Vec<u8>| Reply::Bulk(bytes);
        let shape = shape(at);
        match shape {
            Shape::Text | Shape::TextWithExpiry => return reply == bulk(self.text(at)),
            Shape::ShortLived => return reply == Reply::Nil,
            _ => {}
        }
        let mut found = reply.elements();
        let elements = self.elements(at);
        match shape {
            Shape::List => found == elements.into_iter().map(|e| bulk(e.1)).collect::<Vec<_>>(),
            Shape::Set => {
                let mut wanted: Vec<_> = elements.into_iter().map(|e| bulk(e.1)).collect();
                wanted.sort();
                found.sort();
                found == wanted
            }
            Shape::SortedSet => {
                let wanted = elements.into_iter().flat_map(|e| [bulk(e.1), bulk(e.0)]);
                found == wanted.collect::<Vec<_>>()
            }
            _ => {
                let mut pairs: Vec<_> = found.chunks(2).map(<[Reply]>::to_vec).collect();
                pairs.sort();
                let pair = |e: (Vec<u8>, Vec<u8>)| vec![bulk(e.0), bulk(e.1)];
                let mut wanted: Vec<_> = elements.into_iter().map(pair).collect();
                wanted.sort();
                pairs == wanted
            }
        }
    }

    /// Writes all of it; any error reply ends it.
    pub fn load(&self, client: &mut Client) -> anyhow::Result<()> {
        let all: Vec<u64> = (0..self.count).collect();
        for batch in all.chunks(PIPELINE) {
            let mut bytes = Vec::new();
            batch.iter().for_each(|&at| self.write(&mut bytes, at));
            client.send_raw(&bytes)?;
            for at in batch {
                if let Reply::Error(text) = client.receive()? {
                    bail!("write of key {at}: {text}");
                }
            }
        }
        Ok(())
    }

    /// Waits until the short-lived keys have been removed by active expiry: nobody asks for them.
    pub fn wait_expired(&self, client: &mut Client) -> anyhow::Result<()> {
        let deadline = Instant::now() + EXPIRY_WAIT;
        let wanted = i64::try_from(self.live_count())?;
        loop {
            let size = client.ok("DBSIZE")?.int().context("DBSIZE")?;
            if size <= wanted {
                ensure!(size == wanted, "DBSIZE is {size}, not {wanted}");
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{size} keys, not {wanted}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Reads all of it back, over some connections at once: values and expiries. Call
    /// [`Self::wait_expired`] before.
    pub fn check(&self, port: u16) -> anyhow::Result<()> {
        let share = self.count.div_ceil(CHECKERS).max(1);
        std::thread::scope(|scope| {
            let checkers: Vec<_> = (0..CHECKERS)
                .map(|n| n * share..self.count.min((n + 1) * share))
                .map(|range| scope.spawn(|| self.check_some(&mut Client::connect(port)?, range)))
                .collect();
            let join = |checker: ScopedJoinHandle<'_, anyhow::Result<()>>| {
                checker.join().ok().context("a checker panicked")?
            };
            checkers.into_iter().try_for_each(join)
        })
    }

    /// Reads some of it back.
    pub fn check_some(
        &self,
        client: &mut Client,
        which: impl IntoIterator<Item = u64>,
    ) -> anyhow::Result<()> {
        let which: Vec<u64> = which.into_iter().collect();
        for batch in which.chunks(PIPELINE) {
            let mut bytes = Vec::new();
            batch.iter().for_each(|&at| Self::ask(&mut bytes, at));
            client.send_raw(&bytes)?;
            for &at in batch {
                let (value, expiry) = (client.receive()?, client.receive()?);
                let error = match &value {
                    Reply::Error(text) => text.as_str(),
                    _ => "",
                };
                let shape = shape(at);
                ensure!(
                    self.is_right(at, value.clone()),
                    "{shape:?} mixed:{at} is wrong {error}"
                );
                let wanted = match shape {
                    Shape::TextWithExpiry => EXPIRY_MS,
                    Shape::ShortLived => "-2",
                    _ => "-1",
                };
                ensure!(
                    expiry.text() == wanted,
                    "expiry of mixed:{at} is {expiry:?}"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lived_keys_are_counted() {
        for count in 0..200 {
            let mixed = Mixed {
                seed: 1,
                count,
                long_bytes: TEXT_BYTES,
            };
            let live = (0..count).filter(|&at| shape(at) != Shape::ShortLived);
            assert_eq!(mixed.live_count(), live.count() as u64, "{count}");
        }
    }

    #[test]
    fn a_tenth_of_the_keys_is_long() {
        let mixed = Mixed {
            seed: 1,
            count: 400,
            long_bytes: 5000,
        };
        let long = (0..mixed.count).filter(|&at| mixed.text(at).len() == 5000);
        assert_eq!(long.count(), 40);
        assert_eq!(mixed.total_bytes(), 40 * 5000 + 360 * 1000);
    }
}
