//! ROCKEVICT, ROCKEVICTHASH, ROCKALL, ROCKMEM: values leave memory for the tier.
//!
//! A dirty value is queued for the tier first and leaves once it is written there; what is
//! changed meanwhile is queued again, for as long as the command is willing to wait.

use super::{later, require_tier};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::keyspace::Keyspace;
use crate::keyspace::tiering::Dropped;
use crate::keyspace::tiering::sweep::{Choice, Hand, Step};
use crate::server::Server;
use crate::value::hash::Hash;
use redrock_rdb::number::parse_i64;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long ROCKEVICT and ROCKALL go on trying.
const PATIENCE: Duration = Duration::from_secs(30);
/// ROCKMEM's time where none is given, as in the 2022 RedRock.
const MEMORY_WAIT_S: i64 = 4;
/// Between two tries: the applier needs a moment.
const PAUSE: Duration = Duration::from_millis(2);
/// Keys at one lock hold.
const KEYS_AT_ONCE: usize = 64;

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    NotFound,
    OnDisk,
    Evicted,
    Busy,
}

impl Fate {
    fn word(self) -> &'static str {
        match self {
            Self::NotFound => "NOT_FOUND",
            Self::OnDisk => "ON_DISK",
            Self::Evicted => "EVICTED",
            Self::Busy => "BUSY",
        }
    }
}

/// One step of a key towards the disk. `None`: not there yet. What leaves memory is freed by the
/// caller, without the lock.
fn step(
    keyspace: &mut Keyspace,
    (db, key): (usize, &[u8]),
    first: bool,
    left: &mut Vec<Dropped>,
) -> Option<Fate> {
    let database = keyspace.database(db)?;
    let hash = database.table.hash(key);
    let there = if first { Fate::OnDisk } else { Fate::Evicted };
    let Some(entry) = database.table.find_value(hash, key) else {
        return Some(there);
    };
    if entry.is_dirty() {
        let room = keyspace
            .tiering
            .as_ref()
            .is_some_and(|tiering| tiering.queue.has_room());
        if room {
            keyspace.spill(db, hash, key);
        }
        return None;
    }
    left.push(keyspace.drop_clean(db, hash, key, false)?);
    Some(Fate::Evicted)
}

/// A step of some keys, at one lock hold.
fn step_all<'a>(
    server: &Server,
    db: usize,
    first: bool,
    keys: impl Iterator<Item = (&'a Vec<u8>, &'a mut Option<Fate>)>,
) {
    let mut left = Vec::new();
    let mut keyspace = server.keyspace.lock();
    for (key, fate) in keys.filter(|(_, fate)| fate.is_none()) {
        *fate = step(&mut keyspace, (db, key), first, &mut left);
    }
    drop(keyspace);
    drop(left);
}

/// Moves keys out; their fates in order.
async fn evict(server: Arc<Server>, db: usize, keys: Vec<Vec<u8>>, known: Vec<bool>) -> Vec<Fate> {
    let mut fates: Vec<Option<Fate>> = known
        .iter()
        .map(|known| (!known).then_some(Fate::NotFound))
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let mut first = true;
    loop {
        for (keys, fates) in keys
            .chunks(KEYS_AT_ONCE)
            .zip(fates.chunks_mut(KEYS_AT_ONCE))
        {
            step_all(&server, db, first, keys.iter().zip(fates));
            // This thread has other clients too.
            tokio::task::yield_now().await;
        }
        first = false;
        if fates.iter().all(Option::is_some) || Instant::now() >= deadline {
            return fates
                .into_iter()
                .map(|fate| fate.unwrap_or(Fate::Busy))
                .collect();
        }
        sleep(PAUSE).await;
    }
}

/// `ROCKEVICT key [key ...]`: a word for each key.
pub(super) fn keys(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    require_tier(ctx)?;
    let keys: Vec<Vec<u8>> = args.from(1).iter().map(|key| key.to_vec()).collect();
    let known = keys
        .iter()
        .map(|key| ctx.db.exists(key))
        .collect::<CommandResult<Vec<bool>>>()?;
    let (server, db) = (ctx.server.handle()?, ctx.db.index());
    later(ctx, evict(server, db, keys, known), |reply, fates| {
        reply.array(fates.len());
        for fate in fates {
            reply.bulk(fate.word().as_bytes());
        }
    })
}

/// `ROCKEVICTHASH key field [field ...]`: a word for each field. A collection goes to disk as a
/// whole: all fields go where one goes.
pub(super) fn hash_fields(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    require_tier(ctx)?;
    let key = args.at(1).to_vec();
    let hash = ctx.db.read::<Hash>(&key)?;
    let fields: Vec<bool> = args
        .from(2)
        .iter()
        .map(|field| hash.is_some_and(|hash| hash.contains(field)))
        .collect();
    let known = hash.is_some();
    let (server, db) = (ctx.server.handle()?, ctx.db.index());
    later(
        ctx,
        evict(server, db, vec![key], vec![known]),
        move |reply, fates| {
            let fate = fates.first().copied().unwrap_or(Fate::NotFound);
            reply.array(fields.len());
            for found in fields {
                let fate = if found { fate } else { Fate::NotFound };
                reply.bulk(fate.word().as_bytes());
            }
        },
    )
}

/// Drops values until `bytes` are free, everything has been dropped, or the time is over. Values
/// dropped and their bytes.
async fn sweep(server: Arc<Server>, bytes: u64, patience: Duration) -> (u64, u64) {
    let all = Step {
        drop_values: true,
        drop_stubs: false,
        spill: true,
        choice: Choice::All,
    };
    let deadline = Instant::now() + patience;
    let (mut hand, mut values, mut released) = (Hand::default(), 0_u64, 0_u64);
    let mut left_in_round = false;
    while released < bytes && Instant::now() < deadline {
        let swept = server.keyspace.lock().sweep(&mut hand, all);
        values += swept.dropped.len() as u64;
        released += swept.dropped_bytes as u64;
        left_in_round |= swept.spilled > 0 || swept.queue_full || !swept.dropped.is_empty();
        let (wrapped, full) = (swept.wrapped, swept.queue_full);
        drop(swept);
        if wrapped {
            // A round that found nothing to do, with nothing on its way, was the last.
            let idle = {
                let keyspace = server.keyspace.lock();
                keyspace
                    .tiering
                    .as_ref()
                    .is_none_or(|tiering| tiering.queue.is_empty())
            };
            if !left_in_round && idle {
                break;
            }
            left_in_round = false;
            sleep(PAUSE).await;
        } else if full {
            sleep(PAUSE).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
    (values, released)
}

/// `ROCKALL`: how many values left memory.
pub(super) fn all(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    require_tier(ctx)?;
    let server = ctx.server.handle()?;
    later(
        ctx,
        sweep(server, u64::MAX, PATIENCE),
        |reply, (values, _)| {
            reply.int(i64::try_from(values).unwrap_or(i64::MAX));
        },
    )
}

/// `ROCKMEM size [timeout]`: bytes of memory that were freed. The size may have a unit, the
/// timeout is in seconds.
pub(super) fn memory(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    const BAD_SIZE: CommandError = CommandError::fixed("ERR size is not a number of bytes");
    const BAD_TIME: CommandError =
        CommandError::fixed("ERR timeout is not an integer or out of range");
    require_tier(ctx)?;
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let bytes = parse_size(args.at(1)).ok_or(BAD_SIZE)?;
    let seconds = match args.get(2) {
        None => MEMORY_WAIT_S,
        Some(timeout) => parse_i64(timeout)
            .filter(|s| (1..=86_400).contains(s))
            .ok_or(BAD_TIME)?,
    };
    let patience = Duration::from_secs(seconds.unsigned_abs());
    let server = ctx.server.handle()?;
    later(
        ctx,
        sweep(server, bytes, patience),
        |reply, (_, released)| {
            reply.int(i64::try_from(released).unwrap_or(i64::MAX));
        },
    )
}

/// Bytes, with the units of redis.conf; not none.
fn parse_size(text: &[u8]) -> Option<u64> {
    redrock_daemon::size::parse_size(text).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_units_of_the_configuration() {
        assert_eq!(parse_size(b"77"), Some(77));
        assert_eq!(parse_size(b"2MB"), Some(2 << 20));
        assert_eq!(parse_size(b"3k"), Some(3000));
        assert_eq!(parse_size(b"99999999999999999999"), Some(u64::MAX));
        for bad in [&b""[..], b"0", b"-1", b"1x", b"mb"] {
            assert_eq!(parse_size(bad), None);
        }
    }
}
