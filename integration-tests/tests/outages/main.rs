//! Random kills and cuts, several within one outage, over a master, its replica and a replica of that:
//! whatever it was, they go on where they were, and one full sync is all that each replica ever takes.
//!
//! Every outage is longer than a hundred times `repl-backlog-size`. At the end of each data, expiries and
//! offsets of all three are compared. `RR_SEED` chooses what happens.

mod chain;
mod writer;

use chain::Chain;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use redrock_integration_tests::scale::{between, seed};
use writer::Writer;

/// `repl-backlog-size`, bytes: the smallest.
const BACKLOG_BYTES: u64 = 16 << 10;
/// What is written during an outage.
const OUTAGE_BYTES: u64 = 100 * BACKLOG_BYTES;
/// Members of the chain.
const MEMBERS: usize = 3;

/// What can happen to a member, or to the link from it to its master.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// Server, persister and agent die.
    KillAll(usize),
    /// The agent that replicates dies.
    KillAgent(usize),
    /// The persister dies.
    KillPersister(usize),
    /// The link to the master ends, and new ones are refused.
    Cut(usize),
    /// Nothing comes through any more, though it looks as if it were there, and then it ends.
    Stall(usize),
}

/// One to three troubles, in order; those of one outage may meet the same member.
fn troubles(random: &mut StdRng) -> Vec<Trouble> {
    let one = |random: &mut StdRng| {
        let (member, replica) = (
            random.random_range(0..MEMBERS),
            random.random_range(1..MEMBERS),
        );
        match random.random_range(0..8) {
            0..3 => Trouble::KillAll(member),
            3 => Trouble::KillAgent(member),
            4 => Trouble::KillPersister(member),
            5 | 6 => Trouble::Cut(replica),
            _ => Trouble::Stall(replica),
        }
    };
    let count = random.random_range(1..=3);
    (0..count).map(|_| one(random)).collect()
}

/// One outage with a load on the master, and its end.
fn outage(chain: &mut Chain, random: &mut StdRng) -> anyhow::Result<()> {
    let troubles = troubles(random);
    println!("outage: {troubles:?}");
    let writer = Writer::start(chain.port(0), random.random());
    writer.wait_for(OUTAGE_BYTES / 4)?;
    for trouble in &troubles {
        match *trouble {
            Trouble::KillAll(member) => chain.kill(member)?,
            Trouble::KillAgent(member) => chain.kill_companion(member, "replica")?,
            Trouble::KillPersister(member) => chain.kill_companion(member, "persist")?,
            Trouble::Cut(replica) => chain.link(replica)?.cut(),
            Trouble::Stall(replica) => chain.link(replica)?.stop(true),
        }
    }
    // Somebody must be there to write to.
    chain.start(0)?;
    writer.wait_for(OUTAGE_BYTES)?;
    let mut order = [1, 2];
    order.shuffle(random);
    for replica in order {
        chain.link(replica)?.cut();
        chain.link(replica)?.stop(false);
        chain.link(replica)?.heal();
        chain.start(replica)?;
    }
    chain.wait_linked()?;
    let loaded = writer.stop()?;
    println!(
        "  {} MiB written, {} outages of the writer",
        loaded.bytes >> 20,
        loaded.broken
    );
    chain.compare_offsets()
}

fn outages(options: &[&str], saves: bool) -> anyhow::Result<()> {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut chain = Chain::start_all(options, BACKLOG_BYTES)?;
    let compare_every = between(5, 10);
    for number in 1..=between(5, 50) {
        if saves {
            chain.save_all()?;
        }
        outage(&mut chain, &mut random)?;
        if number % compare_every == 0 {
            chain.compare_data()?;
        }
    }
    chain.compare_data()?;
    chain.check_full_syncs()
}

#[test]
fn with_the_log_on_each_replica_takes_one_full_sync_whatever_happens() -> anyhow::Result<()> {
    outages(&["--appendonly", "yes"], false)
}

#[test]
fn with_saves_alone_each_replica_takes_one_full_sync_whatever_happens() -> anyhow::Result<()> {
    outages(&["--appendonly", "no"], true)
}
