//! The same random commands, valid and not, to our server and to a real Redis 7.0.15: replies in
//! RESP2 and RESP3, digests of touched keys and of the whole data set, encodings, and the commands
//! that both log must agree.
//! What differs between Redis 7.2 and 7.0 by design stands in `differences.rs`.
//!
//! The seed is printed; `RR_SEED` repeats a run, `RR_SCALE` multiplies the number of commands.

#![allow(clippy::panic)]

mod administration;
mod command_table;
mod comparable;
mod debug;
mod differences;
mod families;
mod functions;
mod pair;
mod propagation;
mod scripts;
mod streams;
mod templates;
mod users;
mod wire;
mod words;

use pair::Pair;
use propagation::Propagation;
use redrock_integration_tests::daemons::companions_up;
use redrock_integration_tests::process::{Kind, Server, has_redis};

/// How our server is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Without tiering.
    Off,
    /// With tiering and more memory than the data needs.
    On,
    /// With tiering; everything is moved to disk before each step.
    Cold,
}

/// Factor of the sizes.
fn scale() -> u32 {
    let told = std::env::var("RR_SCALE")
        .ok()
        .and_then(|text| text.parse().ok());
    told.unwrap_or(1)
}

/// The seed of this run, printed.
fn seed() -> u64 {
    let told = std::env::var("RR_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = told.unwrap_or(1);
    println!("seed {seed} (RR_SEED repeats it)");
    seed
}

fn options(mode: Mode) -> Vec<&'static str> {
    let mut options = vec!["--appendonly", "yes", "--appendfsync", "no"];
    options.extend(["--enable-debug-command", "yes"]);
    match mode {
        Mode::Off => options.extend(["--enable-rocksdb-feature", "no"]),
        Mode::On | Mode::Cold => {
            options.extend(["--enable-rocksdb-feature", "yes", "--maxmemory", "128mb"]);
        }
    }
    options
}

/// Runs all families against both servers.
fn run(mode: Mode) -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let ours = Server::start(Kind::RedRock, folders[0].path(), &options(mode))?;
    companions_up(&mut ours.client()?)?;
    let logged = ["--appendonly", "yes", "--appendfsync", "no"];
    let theirs = Server::start(Kind::Redis, folders[1].path(), &logged)?;
    let mut propagation = Propagation::of(folders[0].path(), folders[1].path());
    let seed = seed();
    let mut found = Vec::new();
    let (mut commands, mut logged_commands) = (0, 0);
    for (number, family) in families::FAMILIES.iter().enumerate() {
        for protocol in ["2", "3"] {
            let context = format!("{}, RESP{protocol}, {mode:?}, seed {seed}", family.name);
            let mut pair = Pair::connect(&ours, &theirs, &context)?;
            pair.spills = mode == Mode::Cold;
            let seed = seed.wrapping_add(number as u64 * 2 + u64::from(protocol == "3"));
            let outcome = families::run(family, &mut pair, protocol, seed, scale());
            commands += pair.commands;
            found.extend(pair.into_found());
            if let Err(error) = outcome {
                found.push(format!("{context}: {error:?}\n"));
            }
            let (count, apart) = propagation.compare(&context)?;
            logged_commands += count;
            found.extend(apart);
        }
    }
    println!("{mode:?}: {commands} commands, {logged_commands} logged");
    assert!(commands > 1000, "hardly anything was compared");
    assert!(logged_commands > 1000, "hardly anything was logged");
    assert!(
        found.is_empty(),
        "{} differences:\n{}",
        found.len(),
        found.join("\n")
    );
    Ok(())
}

#[test]
fn without_tiering_everything_answers_as_redis() {
    run(Mode::Off).unwrap();
}

#[test]
fn with_tiering_everything_answers_as_redis() {
    run(Mode::On).unwrap();
}

#[test]
fn with_everything_on_disk_everything_answers_as_redis() {
    run(Mode::Cold).unwrap();
}
