//! What a server holds, in a form that compares, and a workload that makes something to hold.

use crate::resp::{Client, Reply};
use anyhow::bail;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;

/// Every key of a server by database and name: type, expiry and content.
pub type DataSet = BTreeMap<(usize, Vec<u8>), (String, i64, Reply)>;

/// Reads everything; sets and hashes are sorted.
pub fn read(client: &mut Client, databases: usize) -> anyhow::Result<DataSet> {
    let mut all = DataSet::new();
    for db in 0..databases {
        client.ok(&format!("SELECT {db}"))?;
        for key in client.ok("KEYS *")?.elements() {
            let Reply::Bulk(key) = key else {
                bail!("KEYS gave {key:?}")
            };
            let kind = client.run(&[b"TYPE", &key[..]])?.text();
            let expiry = client.run(&[b"PEXPIRETIME", &key[..]])?.int().unwrap_or(-3);
            let content = match kind.as_str() {
                "string" => client.run(&[b"GET", &key[..]])?,
                "list" => client.run(&[b"LRANGE", &key[..], b"0", b"-1"])?,
                "set" => sorted(client.run(&[b"SMEMBERS", &key[..]])?, 1),
                "zset" => client.run(&[b"ZRANGE", &key[..], b"0", b"-1", b"WITHSCORES"])?,
                "hash" => sorted(client.run(&[b"HGETALL", &key[..]])?, 2),
                other => bail!("key of type {other}"),
            };
            all.insert((db, key), (kind, expiry, content));
        }
    }
    client.ok("SELECT 0")?;
    Ok(all)
}

fn sorted(reply: Reply, width: usize) -> Reply {
    let elements = reply.elements();
    let mut groups: Vec<Vec<Reply>> = elements.chunks(width).map(<[Reply]>::to_vec).collect();
    groups.sort();
    Reply::Array(groups.concat())
}

/// Runs `count` random writes on all types over a few databases; the same for the same seed.
pub fn random_writes(client: &mut Client, seed: u64, count: usize) -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    for at in 0..count {
        if at % 50 == 0 {
            client.ok(&format!("SELECT {}", random.random_range(0..3)))?;
        }
        let n: u32 = random.random_range(0..40);
        let m: u32 = random.random_range(0..1000);
        let line = match random.random_range(0..16) {
            0 => format!("SET str:{n} value-{m}"),
            1 => format!("SET str:{n} {m} PX {}", 1_000_000_000 + m),
            2 => format!("INCR count:{n}"),
            3 => format!("APPEND log:{n} {m},"),
            4 => format!("RPUSH list:{n} {m} x y"),
            5 => format!("LPOP list:{n}"),
            6 => format!("SADD set:{n} {m} a b"),
            7 => format!("SPOP set:{n}"),
            8 => format!("ZADD z:{n} {m} m{m} 1.5 half"),
            9 => format!("ZPOPMIN z:{n}"),
            10 => format!("HSET h:{n} f{m} {m} g 1"),
            11 => format!("HINCRBY h:{n} g 3"),
            12 => format!("INCRBYFLOAT f:{n} 0.25"),
            13 => format!("DEL str:{n} list:{n}"),
            14 => format!("PEXPIRE h:{n} {}", 2_000_000_000u64 + u64::from(m)),
            _ => format!("MSET a:{n} 1 b:{n} {m}"),
        };
        client.ok(&line)?;
    }
    client.ok("SELECT 0")?;
    Ok(())
}
