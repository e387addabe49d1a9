//! The families of commands and how each is driven.

use crate::pair::{CHECKS, Pair};
use crate::templates;
use crate::wire::{Reply, Words};
use crate::words::{Generator, SETUP};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Steps of a family in one protocol at scale 1.
const STEPS: u32 = 450;
/// Steps between comparisons of the whole data sets.
const DATA_INTERVAL: u32 = 150;
/// How long a client may take until it waits, or is served.
const WAIT: Duration = redrock_integration_tests::scale::PATIENCE;
/// Moves everything to disk.
pub(crate) const SPILL: &str = "ROCKALL";

/// A family of commands.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    templates: &'static [&'static str],
    drive: fn(&mut Pair, &mut Generator, &Family, u32) -> anyhow::Result<()>,
}

/// All families.
pub(crate) const FAMILIES: &[Family] = &[
    plain("strings", templates::STRINGS),
    plain("bitmaps", templates::BITMAPS),
    plain("hashes", templates::HASHES),
    plain("lists", templates::LISTS),
    plain("sets", templates::SETS),
    plain("sorted sets", templates::SORTED_SETS),
    plain("hyperloglogs", templates::HYPERLOGLOGS),
    plain("places", templates::PLACES),
    Family {
        name: "streams",
        templates: templates::STREAMS,
        drive: crate::streams::drive,
    },
    Family {
        name: "keys",
        templates: templates::KEYS,
        drive: drive_shared,
    },
    Family {
        name: "transactions",
        templates: templates::TRANSACTIONS,
        drive: drive_shared,
    },
    Family {
        name: "connection",
        templates: templates::CONNECTION,
        drive: drive_shared,
    },
    Family {
        name: "scripts",
        templates: &[],
        drive: crate::scripts::drive,
    },
    Family {
        name: "functions",
        templates: &[],
        drive: crate::functions::drive,
    },
    Family {
        name: "administration",
        templates: &[],
        drive: crate::administration::drive,
    },
    Family {
        name: "users",
        templates: &[],
        drive: crate::users::drive,
    },
    Family {
        name: "publish and subscribe",
        templates: templates::PUBSUB,
        drive: drive_pubsub,
    },
    Family {
        name: "waiting",
        templates: templates::WAITING,
        drive: drive_waiting,
    },
    Family {
        name: "scans",
        templates: &[],
        drive: drive_scans,
    },
];

const fn plain(name: &'static str, templates: &'static [&'static str]) -> Family {
    Family {
        name,
        templates,
        drive: drive_plain,
    }
}

/// Runs one family on connections in one protocol.
pub(crate) fn run(
    family: &Family,
    pair: &mut Pair,
    protocol: &str,
    seed: u64,
    scale: u32,
) -> anyhow::Result<()> {
    pair.line(CHECKS, "FLUSHALL")?;
    for at in 0..CHECKS {
        pair.line(at, &format!("HELLO {protocol}"))?;
    }
    for line in SETUP {
        pair.line(0, line)?;
    }
    let random = StdRng::seed_from_u64(seed);
    let mut generator = Generator {
        random,
        damaged_percent: 7,
    };
    (family.drive)(pair, &mut generator, family, STEPS * scale)?;
    pair.compare_data()
}

/// One connection; touched keys are compared now and then, everything rarely.
fn drive_plain(
    pair: &mut Pair,
    generator: &mut Generator,
    family: &Family,
    steps: u32,
) -> anyhow::Result<()> {
    for step in 1..=steps {
        pair.spill(SPILL)?;
        let words = generator.command(family.templates);
        pair.run(0, &words)?;
        if generator.below(4) == 0 {
            pair.compare_touched(&words)?;
        }
        if step % DATA_INTERVAL == 0 {
            pair.compare_data()?;
        }
        if pair.is_hopeless() {
            break;
        }
    }
    Ok(())
}

/// Several connections in turn, each with a state of its own.
fn drive_shared(
    pair: &mut Pair,
    generator: &mut Generator,
    family: &Family,
    steps: u32,
) -> anyhow::Result<()> {
    for step in 1..=steps {
        pair.spill(SPILL)?;
        let at = generator.below(CHECKS as u32) as usize;
        let words = generator.command(family.templates);
        pair.run(at, &words)?;
        if step % DATA_INTERVAL == 0 {
            pair.compare_data()?;
        }
        if pair.is_hopeless() {
            break;
        }
    }
    Ok(())
}

/// After each command all connections compare what was pushed to them.
fn drive_pubsub(
    pair: &mut Pair,
    generator: &mut Generator,
    family: &Family,
    steps: u32,
) -> anyhow::Result<()> {
    for _ in 0..steps {
        let words = generator.command(family.templates);
        // 7.0 pushes a client's own message before the reply to PUBLISH, 7.2 after it, so the
        // one that publishes does not subscribe.
        let at = match crate::pair::name(&words).ends_with("PUBLISH") {
            true => CHECKS - 1,
            false => generator.below(CHECKS as u32 - 1) as usize,
        };
        pair.run_until_ping(at, &words)?;
        for other in 0..CHECKS {
            pair.run_until_ping(other, &Words::new())?;
        }
        if pair.is_hopeless() {
            break;
        }
    }
    Ok(())
}

/// One client waits, another writes until it is served, or it is unblocked.
fn drive_waiting(
    pair: &mut Pair,
    generator: &mut Generator,
    family: &Family,
    steps: u32,
) -> anyhow::Result<()> {
    let ids = pair.both(1, "CLIENT ID")?;
    for _ in 0..steps / 6 {
        pair.line(0, "DEL k0 k1 k2 k3 k4 done")?;
        let wrong = generator.undamaged(templates::WAITING_WRONG);
        pair.run(1, &wrong)?;
        pair.spill(SPILL)?;
        let waiting = generator.undamaged(family.templates);
        pair.send(1, &waiting)?;
        await_blocked(pair, [true, true])?;
        let serving = match &waiting[0][..2] {
            b"BZ" => templates::SERVING_SORTED_SETS,
            b"XR" => templates::SERVING_STREAMS,
            _ => templates::SERVING_LISTS,
        };
        let mut served = false;
        for _ in 0..generator.below(5) {
            let serving = generator.undamaged(serving);
            pair.run(0, &serving)?;
            if !blocked(pair)?[1] {
                served = true;
                break;
            }
        }
        if !served {
            unblock(pair, &ids, generator.pick(&["TIMEOUT", "ERROR"]))?;
        }
        pair.receive(1, &waiting)?;
        pair.compare_data()?;
        if pair.is_hopeless() {
            break;
        }
    }
    Ok(())
}

fn unblock(pair: &mut Pair, ids: &[Reply; 2], how: &str) -> anyhow::Result<()> {
    let command = |id: &Reply| {
        let id = id.bytes().to_vec();
        vec![
            b"CLIENT".to_vec(),
            b"UNBLOCK".to_vec(),
            id,
            how.as_bytes().to_vec(),
        ]
    };
    pair.each(CHECKS, [command(&ids[0]), command(&ids[1])])
}

/// Whether a client waits, on either server.
fn blocked(pair: &mut Pair) -> anyhow::Result<[bool; 2]> {
    let infos = pair.both(CHECKS, "INFO clients")?;
    Ok(infos.map(|info| {
        let text = String::from_utf8_lossy(info.bytes()).into_owned();
        !text.contains("blocked_clients:0")
    }))
}

fn await_blocked(pair: &mut Pair, wanted: [bool; 2]) -> anyhow::Result<()> {
    let deadline = Instant::now() + WAIT;
    while blocked(pair)? != wanted {
        anyhow::ensure!(Instant::now() < deadline, "a client does not begin to wait");
    }
    Ok(())
}

/// Whole iterations, compared as sets, each over what random commands have made.
fn drive_scans(
    pair: &mut Pair,
    generator: &mut Generator,
    _family: &Family,
    steps: u32,
) -> anyhow::Result<()> {
    const FILL: [&str; 8] = [
        "SADD $own $I",
        "SADD $own $MM",
        "HSET $own $MV",
        "ZADD $own $SM",
        "HSET $own $mv",
        "SREM $own $MM",
        "SET $m $v",
        "DEL $own",
    ];
    for _ in 0..steps / 8 {
        for _ in 0..4 {
            pair.run(0, &generator.command(&FILL))?;
        }
        pair.spill(SPILL)?;
        let start = generator.expand(
            "SCAN|HSCAN~$own|SSCAN~$own|ZSCAN~$own 0 ?MATCH~$pattern ?COUNT~1|COUNT~7|COUNT~1000",
        );
        let [ours, theirs] = pair.both_scans(0, &start)?;
        if ours != theirs {
            let show =
                |all: BTreeSet<Vec<Reply>>| Reply::Many(b'~', all.into_iter().flatten().collect());
            pair.report(&crate::wire::show(&start), &show(ours), &show(theirs));
        }
        if pair.is_hopeless() {
            break;
        }
    }
    Ok(())
}
