//! The tier's disk in trouble: full, gone, damaged. Nothing is lost, no value is wrong, all that
//! is refused says why, and what was refused works again when the disk does (DESIGN 7).

mod damage;
mod disk;
mod errors;
mod stuck;
mod told;

use redrock_integration_tests::daemons::{info, until};
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;

/// A server of 128 MB with its tier in `tier`.
fn start(folder: &Path, tier: &Path, options: &[&str]) -> anyhow::Result<Server> {
    let tier = tier.display().to_string();
    let tiered = ["--maxmemory", "128mb", "--enable-rocksdb-feature", "yes"];
    let place = ["--rockdbdir", tier.as_str()];
    Server::start(
        Kind::RedRock,
        folder,
        &[&tiered[..], &place, options].concat(),
    )
}

/// Without companions, which these tests have no use for.
const ALONE: [&str; 2] = ["--companions", "external"];

fn state(client: &mut Client) -> anyhow::Result<String> {
    info(client, "tiering", "tiering_state")
}

/// Waits for a state of the tier.
fn wait_for(client: &mut Client, wanted: &str) -> anyhow::Result<()> {
    let found = until(&format!("the state {wanted}"), || {
        Ok(state(client)? == wanted)
    });
    let Err(error) = found else { return Ok(()) };
    Err(error.context(client.ok("ROCKSTAT")?.text()))
}

fn number(client: &mut Client, field: &str) -> anyhow::Result<u64> {
    Ok(info(client, "tiering", field)?.parse()?)
}

/// A value of `length` bytes that does not compress, another for each `n`.
fn value(n: usize, length: usize) -> Vec<u8> {
    let mut word = n as u64 + 1;
    let next = || {
        // xorshift64*
        word ^= word >> 12;
        word ^= word << 25;
        word ^= word >> 27;
        (word.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn set(client: &mut Client, n: usize, length: usize) -> anyhow::Result<Reply> {
    let key = format!("key:{n}");
    client.run(&[&b"SET"[..], key.as_bytes(), &value(n, length)])
}

fn get(client: &mut Client, n: usize) -> anyhow::Result<Reply> {
    client.run(&["GET", &format!("key:{n}")])
}
