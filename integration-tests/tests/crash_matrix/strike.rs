//! Who dies where, and what was reached in all.

use crate::Keeping;
use crate::life::Ending;
use crate::procedures::Procedure;
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::collections::BTreeMap;

/// Which daemon is armed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    Server,
    Persister,
    Both,
}

impl Who {
    pub(crate) fn any(random: &mut StdRng) -> Self {
        match random.random_range(0..5) {
            0..2 => Self::Server,
            2..4 => Self::Persister,
            _ => Self::Both,
        }
    }

    /// The list of failpoints for a life that ends in `procedure`.
    pub(crate) fn points(self, procedure: Procedure, random: &mut StdRng) -> String {
        let mut points = Vec::new();
        if !matches!(self, Self::Persister) {
            points.push(point("server", servers(procedure), random));
        }
        if !matches!(self, Self::Server) {
            points.push(point("persist", persisters(procedure), random));
        }
        points.join(",")
    }
}

/// Where a daemon is to die: steps between the first two figures, or operations up to the third.
type Range = (u32, u32, u32);

/// A start takes 20 to 50 steps, most of them in the tier's folder, and a procedure up to 20. A busy log
/// writes and syncs hundreds of times a second.
fn servers(procedure: Procedure) -> Range {
    match procedure {
        Procedure::Start => (1, 50, 60),
        Procedure::Rewrite | Procedure::FlushAll | Procedure::LogAnew => (25, 75, 700),
        _ => (25, 60, 500),
    }
}

/// A session begins with one step, or with five. A save has four, a rewrite and a backup some twenty.
fn persisters(procedure: Procedure) -> Range {
    match procedure {
        Procedure::Start | Procedure::Writes | Procedure::ShutdownNoSave => (1, 5, 8),
        Procedure::Save | Procedure::ShutdownSave | Procedure::Reload => (2, 9, 16),
        _ => (4, 28, 45),
    }
}

/// A point of one daemon.
fn point(daemon: &str, (from, to, all): Range, random: &mut StdRng) -> String {
    let (kind, number) = match random.random_ratio(2, 3) {
        true => ("step", random.random_range(from..=to)),
        false => ("fs", random.random_range(from..=all)),
    };
    let action = match random.random_ratio(2, 3) {
        true => "kill",
        false => "tear",
    };
    format!("{daemon}/{kind}@{number}:{action}")
}

/// What was hit, by procedure.
#[derive(Debug, Default)]
pub(crate) struct Strikes {
    lives: u32,
    hit: BTreeMap<String, u32>,
}

impl Strikes {
    pub(crate) fn add(&mut self, procedure: Procedure, ending: &Ending) {
        self.lives += 1;
        for operation in &ending.hit {
            let key = format!("{procedure:?}: {operation}");
            *self.hit.entry(key).or_default() += 1;
        }
    }

    /// Shows them. A run in which hardly anybody died where it was to die shows nothing.
    pub(crate) fn report(&self, keeping: Keeping, rounds: u64) -> anyhow::Result<()> {
        let deaths: u32 = self.hit.values().sum();
        println!(
            "{keeping:?}: {rounds} rounds, {} armed lives, {deaths} deaths at {} different operations",
            self.lives,
            self.hit.len()
        );
        for (operation, count) in &self.hit {
            println!("  {count} x {operation}");
        }
        anyhow::ensure!(
            u64::from(deaths) * 3 >= rounds,
            "hardly any point was reached"
        );
        Ok(())
    }
}
