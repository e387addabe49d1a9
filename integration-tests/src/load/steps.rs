//! What the writers write: step `n` of writer `w` is a function of the seed, so that what a
//! server holds is known from how many steps each writer has done.
//!
//! Writers share no key: each has a prefix, and the cold keys whose number is its own modulo the
//! number of writers. Databases 5 and up hold what is *not* such a function (see
//! [`super::Ledger`]) and are looked at on their own.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Writers of a load.
pub const WRITERS: usize = 4;
/// Steps that a writer sends at once.
pub const PIPELINE: [u64; WRITERS] = [1, 4, 1, 16];
/// The writer whose steps are single commands instead of transactions.
pub const SINGLE: usize = 3;
/// How long it lets a list become before it begins the next.
pub const LIST_LENGTH: u64 = 2000;
/// Names of each kind that a writer uses again and again.
const NAMES: u32 = 120;

/// One command.
pub type Words = Vec<Vec<u8>>;

/// What the steps depend on.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Seed of it all.
    pub seed: u64,
    /// Keys that exist before the first step; most of them are never touched.
    pub cold_keys: u64,
    /// Length of a cold string, bytes.
    pub cold_bytes: usize,
}

/// Words separated by blanks.
pub fn words(line: &str) -> Words {
    line.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

/// A value that does not compress to nothing: hexadecimal digits of its seed.
fn value(random: &mut StdRng, bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 16);
    while out.len() < bytes {
        out.extend_from_slice(format!("{:016x}", random.random::<u64>()).as_bytes());
    }
    out.truncate(bytes);
    out
}

impl Plan {
    fn random(&self, writer: usize, n: u64) -> StdRng {
        let stream = (writer as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        StdRng::seed_from_u64(self.seed ^ stream ^ n.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// The command that makes a cold key: mostly strings, some of each other type.
    pub fn cold(&self, key: u64) -> Words {
        let mut random = self.random(WRITERS, key);
        let name = format!("cold:{key}");
        let (command, width) = match key % 40 {
            1 => ("HSET", 2),
            2 => ("RPUSH", 1),
            3 => ("SADD", 1),
            4 => ("ZADD", 2),
            _ => ("SET", 0),
        };
        let mut words = vec![command.into(), name.into_bytes()];
        if width == 0 {
            words.push(value(&mut random, self.cold_bytes));
        }
        for at in 0..self.cold_bytes / 20 * width.min(1) {
            if width == 2 {
                words.push(format!("{at}").into_bytes());
            }
            let element = match command {
                "ZADD" => format!("m{at}").into_bytes(),
                _ => value(&mut random, 16),
            };
            words.push(element);
        }
        words
    }

    /// Step `n` (from 1 on) of a writer. `extra` goes in front of the last command, in the same
    /// transaction if there is one.
    pub fn step(&self, writer: usize, n: u64, extra: &[Words]) -> Vec<Words> {
        if writer == SINGLE {
            let list = (n - 1) / LIST_LENGTH;
            return vec![words(&format!("RPUSH w{writer}:log:{list} {n}"))];
        }
        let mut random = self.random(writer, n);
        // The members of the group: equal in every consistent state.
        let mut step = vec![
            words("MULTI"),
            words(&format!("INCR w{writer}:count")),
            words(&format!("HINCRBY w{writer}:counts n 1")),
        ];
        for _ in 0..random.random_range(1..5) {
            step.push(self.change(&mut random, writer, n));
        }
        if let Some(flush) = other_databases(writer, n) {
            step.extend(flush);
        }
        step.extend_from_slice(extra);
        step.push(words(&format!("INCRBYFLOAT w{writer}:float 0.5")));
        step.push(words("EXEC"));
        step
    }

    fn cold_name(&self, random: &mut StdRng, writer: usize) -> String {
        let own = (self.cold_keys / WRITERS as u64).max(1);
        let key = random.random_range(0..own) * WRITERS as u64 + writer as u64;
        format!("cold:{key}")
    }

    /// One change; what it does may fail inside the transaction, always in the same way.
    fn change(&self, random: &mut StdRng, w: usize, n: u64) -> Words {
        let (a, b) = (random.random_range(0..NAMES), random.random_range(0..NAMES));
        let cold = self.cold_name(random, w);
        let bytes = match random.random_range(0..20) {
            0 => random.random_range(20_000..60_000),
            1..5 => random.random_range(500..4000),
            _ => random.random_range(1..100),
        };
        let far = 4_000_000_000_000u64 + n;
        let line = match random.random_range(0..24) {
            0..3 => {
                let mut set = words(&format!("SET w{w}:k:{a}"));
                set.push(value(random, bytes));
                return set;
            }
            3 => format!("SET w{w}:k:{a} {n} PXAT {far}"),
            4 => format!("APPEND w{w}:k:{a} {n},"),
            5 => format!("DEL w{w}:k:{a} w{w}:l:{b} w{w}:z:{a}"),
            6 => format!("RENAME w{w}:k:{a} w{w}:k:{b}"),
            7 => format!("COPY w{w}:h:{a} w{w}:h:{b} REPLACE"),
            8 => format!("PEXPIREAT w{w}:h:{a} {far}"),
            9 => format!("PEXPIREAT w{w}:s:{a} 1000"),
            10 => format!("PERSIST w{w}:k:{a}"),
            11 => format!("SADD w{w}:s:{a} {} x{b} {b}", n % 400),
            12 => format!("SUNIONSTORE w{w}:s:{a} w{w}:s:{b} w{w}:s:0"),
            13 => format!("SREM w{w}:s:{a} x{b} {b}"),
            14 => format!("ZADD w{w}:z:{a} {n} m{b} 0.25 q"),
            15 => format!("ZINCRBY w{w}:z:{a} 1.5 m{b}"),
            16 => format!("HSET w{w}:h:{a} f{b} {n}"),
            17 => format!("LPUSH w{w}:l:{a} {n} {b}"),
            18 => format!("RPOP w{w}:l:{a} 3"),
            19 => format!("MOVE w{w}:k:{a} 4"),
            20 => format!("SET {cold} new-{n}"),
            21 => format!("PEXPIREAT {cold} {far}"),
            22 => format!("RENAME {cold} w{w}:was-cold:{a}"),
            _ => format!("DEL {cold}"),
        };
        words(&line)
    }
}

/// Writer 0 has database 1 to itself and flushes it; writer 1 has 2 and 3 and swaps them.
fn other_databases(writer: usize, n: u64) -> Option<Vec<Words>> {
    let lines = match (writer, n % 50) {
        (0, 0) => vec!["SELECT 1".into(), "FLUSHDB".into()],
        (0, _) => vec!["SELECT 1".into(), format!("SET f:{n} {n}")],
        (1, 7) => vec!["SELECT 2".into(), "SWAPDB 2 3".into()],
        (1, 33) => vec!["SELECT 3".into(), "FLUSHDB ASYNC".into()],
        (1, _) => vec!["SELECT 2".into(), format!("APPEND s:{} {n}", n % 20)],
        _ => return None,
    };
    let mut flush: Vec<Words> = lines.iter().map(|line: &String| words(line)).collect();
    flush.push(words("SELECT 0"));
    Some(flush)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_same_each_time_and_differs_from_the_next() {
        let plan = Plan {
            seed: 7,
            cold_keys: 100,
            cold_bytes: 100,
        };
        assert_eq!(plan.step(1, 5, &[]), plan.step(1, 5, &[]));
        assert_ne!(plan.step(1, 5, &[]), plan.step(1, 6, &[]));
        assert_ne!(plan.step(0, 5, &[]), plan.step(2, 5, &[]));
        assert_eq!(plan.cold(41).len(), 12);
    }
}
