//! What each server logs, and so sends to replicas: the increments of both append-only files must
//! hold the same commands, in the same order, in the same databases and transactions.
//!
//! A reply tells whether a command did its work; only this tells whether a replica or a restart
//! would do it alike, command by command and not just in what is left in the end.

use crate::differences;
use crate::wire::{Words, show};
use anyhow::Context as _;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where both servers write, in their folders.
const INCREMENT: &str = "appendonlydir/appendonly.aof.1.incr.aof";
/// How far apart two times may be, in milliseconds.
const TIME_TOLERANCE_MS: u64 = 20_000;
/// Numbers from here on are taken for times: unix milliseconds of this century.
const FIRST_TIME_MS: u64 = 1_000_000_000_000;
/// Commands of one that the other lacks before the comparison of a family is given up.
const APART_MAX: usize = 24;
/// Commands shown before those that differ.
const SHOWN_BEFORE: usize = 4;

/// A command and its database.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Logged {
    database: Vec<u8>,
    words: Words,
}

/// By database and key.
type Deletions = BTreeMap<(Vec<u8>, Vec<u8>), usize>;

/// What a server logged during one family.
#[derive(Debug, Default)]
struct Stretch {
    commands: Vec<Logged>,
    /// How often a key of a database was deleted alone.
    deletions: Deletions,
}

/// One server's increment, read up to a place.
struct Log {
    path: PathBuf,
    read_bytes: usize,
    database: Vec<u8>,
}

impl Log {
    fn of(folder: &Path) -> Self {
        Self {
            path: folder.join(INCREMENT),
            read_bytes: 0,
            database: b"0".to_vec(),
        }
    }

    /// What was logged since the last call, without SELECT: each server says the database when it
    /// thinks fit.
    fn new_commands(&mut self) -> anyhow::Result<Stretch> {
        let bytes = std::fs::read(&self.path).context("read an increment")?;
        let mut rest = bytes.get(self.read_bytes..).context("it became shorter")?;
        let mut all = Vec::new();
        while !rest.is_empty() {
            let words = command(&mut rest)?;
            match words.as_slice() {
                [name, database] if name.eq_ignore_ascii_case(b"select") => {
                    self.database.clone_from(database);
                }
                _ => all.push(Logged {
                    database: self.database.clone(),
                    words,
                }),
            }
        }
        self.read_bytes = bytes.len();
        Ok(comparable(all))
    }
}

/// Leaves out what is chance or known to differ, and transactions that hold one command then.
///
/// When an expired key is met and deleted is chance, and so whether that is in one transaction
/// with a command that met it: deletions of one key are counted apart. When consumers of groups
/// are made changed with Redis 7.2, see `streams.rs`; that both end up with the same ones shows in
/// XINFO.
fn comparable(commands: Vec<Logged>) -> Stretch {
    let is = |logged: &Logged, wanted: &str| crate::pair::name(&logged.words) == wanted;
    let makes_consumer = |logged: &Logged| {
        let action = logged.words.get(1).map(Vec::as_slice).unwrap_or_default();
        is(logged, "XGROUP") && action.eq_ignore_ascii_case(b"createconsumer")
    };
    let mut stretch = Stretch::default();
    let all = &mut stretch.commands;
    let mut start = None;
    for logged in commands {
        if makes_consumer(&logged) {
            continue;
        }
        if is(&logged, "DEL") && logged.words.len() == 2 {
            let slot = (logged.database, logged.words[1].clone());
            *stretch.deletions.entry(slot).or_default() += 1;
            continue;
        }
        if is(&logged, "MULTI") {
            start = Some(all.len());
        }
        let ended = if is(&logged, "EXEC") {
            start.take()
        } else {
            None
        };
        all.push(logged);
        let Some(start) = ended else {
            continue;
        };
        join_removals(all, start);
        if all.len() - start < 4 {
            all.pop();
            all.remove(start);
        }
    }
    stretch
}

/// Makes one removal of those that a transaction consists of: Redis 7.0 logs SPOP with a count
/// element by element, 7.2 many at once.
fn join_removals(all: &mut Vec<Logged>, start: usize) {
    let [_, removals @ .., _] = &all[start..] else {
        return;
    };
    let of = |logged: &Logged| logged.words.get(..2).map(<[_]>::to_vec);
    let Some(first) = removals.first().and_then(of) else {
        return;
    };
    let joins = |logged: &Logged| of(logged).as_ref() == Some(&first);
    if crate::pair::name(&first) != "SREM" || !removals.iter().all(joins) {
        return;
    }
    let elements = |logged: &Logged| logged.words[2..].to_vec();
    let elements: Words = removals.iter().flat_map(elements).collect();
    all[start + 1].words.truncate(2);
    all[start + 1].words.extend(elements);
    let end = all.len() - 1;
    all.drain(start + 2..end);
}

/// Takes one command from the front.
fn command(rest: &mut &[u8]) -> anyhow::Result<Words> {
    let count = length(rest, b'*')?;
    let mut words = Words::with_capacity(count.min(64));
    for _ in 0..count {
        let len = length(rest, b'$')?;
        let word = rest.get(..len).context("a word is cut off")?;
        words.push(word.to_vec());
        *rest = rest.get(len + 2..).context("a word is cut off")?;
    }
    Ok(words)
}

/// Takes a line with a length from the front.
fn length(rest: &mut &[u8], kind: u8) -> anyhow::Result<usize> {
    let end = rest.iter().position(|byte| *byte == b'\r');
    let line = &rest[..end.context("a line is cut off")?];
    let (&found, digits) = line.split_first().context("an empty line")?;
    anyhow::ensure!(found == kind, "{} is no length", line.escape_ascii());
    let number = std::str::from_utf8(digits)?.parse()?;
    *rest = rest.get(line.len() + 2..).context("a line is cut off")?;
    Ok(number)
}

/// Both servers' logs.
pub(crate) struct Propagation {
    ours: Log,
    theirs: Log,
}

impl Propagation {
    pub(crate) fn of(ours: &Path, theirs: &Path) -> Self {
        Self {
            ours: Log::of(ours),
            theirs: Log::of(theirs),
        }
    }

    /// Compares what both logged since the last call: the number of commands, and what differs.
    pub(crate) fn compare(&mut self, context: &str) -> anyhow::Result<(usize, Vec<String>)> {
        let ours = self.ours.new_commands().context("ours")?;
        let theirs = self.theirs.new_commands().context("theirs")?;
        let mut found = apart(&ours.commands, &theirs.commands, context);
        if !met_alike(&ours.deletions, &theirs.deletions) {
            let (ours, theirs) = (&ours.deletions, &theirs.deletions);
            found.push(format!(
                "{context}: deletions, ours {}, theirs {}",
                only_of(ours, theirs),
                only_of(theirs, ours)
            ));
        }
        Ok((ours.commands.len(), found))
    }
}

/// Whether both deleted alike. One key may have expired just before the end, when one server had met
/// it and the other had not.
fn met_alike(ours: &Deletions, theirs: &Deletions) -> bool {
    let slots: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let count = |of: &Deletions, slot| of.get(slot).copied().unwrap_or_default();
    let apart = slots
        .into_iter()
        .map(|slot| count(ours, slot).abs_diff(count(theirs, slot)));
    apart.sum::<usize>() <= 1
}

/// Deletions that another server counts otherwise, to be shown.
fn only_of(one: &Deletions, other: &Deletions) -> String {
    let differ = one
        .iter()
        .filter(|(slot, count)| other.get(*slot) != Some(*count));
    let shown = differ.map(|((database, key), count)| {
        let (database, key) = (database.escape_ascii(), key.escape_ascii());
        format!("{database}:{key} {count} times ")
    });
    shown.collect()
}

/// The runs of commands in which two logs differ.
fn apart(ours: &[Logged], theirs: &[Logged], context: &str) -> Vec<String> {
    let (mut at, mut other, mut found) = (0, 0, Vec::new());
    while at < ours.len() || other < theirs.len() {
        if let (Some(a), Some(b)) = (ours.get(at), theirs.get(other))
            && same(a, b)
        {
            (at, other) = (at + 1, other + 1);
            continue;
        }
        let Some((skipped, others)) = meet(&ours[at..], &theirs[other..]) else {
            let rest = (shown(&ours[at..]), shown(&theirs[other..]));
            found.push(format!(
                "{context}: the logs part\n{}  ours\n{}  theirs\n{}",
                shown(&ours[at.saturating_sub(SHOWN_BEFORE)..at]),
                rest.0,
                rest.1
            ));
            break;
        };
        let (mine, their) = (&ours[at..at + skipped], &theirs[other..other + others]);
        if differences::known_in_logs(&words(mine), &words(their)).is_none() {
            found.push(format!(
                "{context}: logged otherwise, after\n{}  ours\n{}  theirs\n{}",
                shown(&ours[at.saturating_sub(SHOWN_BEFORE)..at]),
                shown(mine),
                shown(their)
            ));
        }
        (at, other) = (at + skipped, other + others);
    }
    found
}

fn words(commands: &[Logged]) -> Vec<&Words> {
    commands.iter().map(|logged| &logged.words).collect()
}

/// The least number of commands to leave out of each so that both go on alike.
fn meet(ours: &[Logged], theirs: &[Logged]) -> Option<(usize, usize)> {
    if ours.len().max(theirs.len()) < APART_MAX {
        let ends = (ours.len(), theirs.len());
        return find(ours, theirs).or(Some(ends));
    }
    find(ours, theirs)
}

fn find(ours: &[Logged], theirs: &[Logged]) -> Option<(usize, usize)> {
    (1..APART_MAX).find_map(|sum| {
        (0..=sum).map(|mine| (mine, sum - mine)).find(|pair| {
            let (a, b) = (ours.get(pair.0), theirs.get(pair.1));
            a.zip(b).is_some_and(|(a, b)| same(a, b))
        })
    })
}

fn shown(commands: &[Logged]) -> String {
    let lines = commands.iter().take(APART_MAX).map(|logged| {
        let database = logged.database.escape_ascii();
        format!("    {database}: {}\n", show(&logged.words))
    });
    lines.collect()
}

/// Whether two logged commands are the same, but for what is random, for times, and for the
/// payloads of RESTORE: each server gets what it dumped.
fn same(ours: &Logged, theirs: &Logged) -> bool {
    let is_open = |words: &Words, at: usize| match crate::pair::name(words).as_str() {
        "SREM" => at > 1,
        "RESTORE" => at == 3,
        _ => false,
    };
    // A transaction begins in the database of what was logged before, which may be a deletion.
    let is_open_database = matches!(crate::pair::name(&ours.words).as_str(), "MULTI");
    (is_open_database || ours.database == theirs.database)
        && ours.words.len() == theirs.words.len()
        && ours
            .words
            .iter()
            .zip(&theirs.words)
            .enumerate()
            .all(|(at, (a, b))| a == b || same_time(a, b) || is_open(&ours.words, at))
}

/// Whether both are times, or ids of a stream's entries with such, that are close.
fn same_time(ours: &[u8], theirs: &[u8]) -> bool {
    let time = |word: &[u8]| -> Option<u64> {
        let text = std::str::from_utf8(word).ok()?;
        let time = text.split('-').next()?.parse().ok()?;
        (time >= FIRST_TIME_MS).then_some(time)
    };
    match (time(ours), time(theirs)) {
        (Some(a), Some(b)) => a.abs_diff(b) < TIME_TOLERANCE_MS,
        _ => false,
    }
}
