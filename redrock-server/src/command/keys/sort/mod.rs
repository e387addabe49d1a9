//! SORT and SORT_RO.
//!
//! Patterns name keys that nobody declared, so any lookup may find its key cold. All lookups of a
//! step are made before the command gives up, and none comes after a change; what was written of
//! the reply by then is taken back.

mod options;
mod order;
mod pattern;
mod rows;

pub(super) use options::keys;

use crate::acl;
use crate::command::{Args, CommandError, CommandResult, Context, registry};
use crate::keyspace::db::{Db, Expiry};
use crate::notify::Class;
use crate::value::list::{End, List};
use crate::value::{Object, ValueRef};
use options::Options;
use order::Weights;
use pattern::Lookups;
use redrock_rdb::listpack::LpValue;
use rows::Rows;

/// Arguments of one propagated RPUSH.
const PROPAGATED_ARGS_MAX: usize = 256;

/// `SORT key [BY pattern] [LIMIT offset count] [GET pattern ...] [ASC|DESC] [ALPHA] [STORE dst]`
pub(super) fn sort(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let options = Options::parse(args, false, || reads_all_keys(ctx, args))?;
    run(ctx, args, options)
}

/// `SORT_RO`: SORT without STORE.
pub(super) fn sort_ro(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let options = Options::parse(args, true, || reads_all_keys(ctx, args))?;
    run(ctx, args, options)
}

/// Whether the client may read the keys that patterns name.
fn reads_all_keys(ctx: &Context<'_>, args: &Args<'_>) -> bool {
    registry::resolve(args)
        .is_ok_and(|spec| acl::check::may_read_all_keys(&ctx.client.account, spec, args))
}

fn run(ctx: &mut Context<'_>, args: &Args<'_>, mut options: Options<'_>) -> CommandResult {
    // A set has no order of its own: what is stored, and what a script does, must not depend on chance.
    let is_definite = options.store.is_some() || ctx.client.in_script;
    let mut rows = Rows::default();
    let window = match ctx.db.read_any(args.at(1))? {
        None => (0, 0),
        Some(value) => load(value, &mut options, is_definite, &mut rows)?,
    };
    let weights = weigh(&mut ctx.db, &options, &rows)?;
    let order = weights.order(&rows, options.descending);
    let ambiguous = options.store.is_some()
        && matches!(weights, Weights::Texts(_))
        && weights.is_ambiguous(&rows, &order);
    let order = order.get(window.0..window.0 + window.1).unwrap_or_default();
    match options.store {
        None => reply(ctx, &options, &rows, order),
        Some(destination) => store(ctx, &options, &rows, order, destination, ambiguous),
    }
}

/// Fetches the elements, and first index and number of those that are asked for among them once
/// they are sorted. Where order is not wanted no others are fetched; but those of a set are given an
/// order where the result must be definite.
fn load(
    value: ValueRef<'_>,
    options: &mut Options<'_>,
    is_definite: bool,
    rows: &mut Rows,
) -> CommandResult<(usize, usize)> {
    match value {
        ValueRef::List(list) => {
            let (start, count) = options.window(list.len());
            if !options.unsorted {
                rows.extend(list.iter());
                return Ok((start, count));
            }
            let from = if options.descending {
                End::Tail
            } else {
                End::Head
            };
            rows.extend(list.items(from, start).take(count));
            Ok((0, count))
        }
        ValueRef::ZSet(zset) => {
            let len = zset.len();
            let (start, count) = options.window(len);
            if !options.unsorted {
                rows.extend(zset.iter().map(|(member, _)| member));
                return Ok((start, count));
            }
            let end = start + count;
            let ranks = if options.descending {
                len - end..len - start
            } else {
                start..end
            };
            rows.extend(
                zset.range(ranks, options.descending)
                    .map(|(member, _)| member),
            );
            Ok((0, count))
        }
        ValueRef::Set(set) => {
            if options.unsorted && is_definite {
                options.unsorted = false;
                options.alpha = true;
                options.by = None;
            }
            rows.extend(set.iter());
            Ok(options.window(set.len()))
        }
        _ => Err(CommandError::WrongType),
    }
}

/// Finds what the elements are compared by.
fn weigh(db: &mut Db<'_>, options: &Options<'_>, rows: &Rows) -> CommandResult<Weights> {
    if options.unsorted {
        return Ok(Weights::Native);
    }
    let mut lookups = Lookups::default();
    let weights = match (&options.by, options.alpha) {
        (None, true) => Weights::Elements,
        (Some(by), true) => Weights::Texts(
            rows.iter()
                .map(|row| lookups.text(db, by, row, |text| text.map(<[u8]>::to_vec)))
                .collect(),
        ),
        (by, false) => {
            let mut bad = false;
            let mut parse = |text: Option<&[u8]>| {
                let number = text.map_or(Some(0.0), order::number);
                bad |= number.is_none();
                number.unwrap_or_default()
            };
            let mut numbers = Vec::with_capacity(rows.len());
            for row in rows.iter() {
                numbers.push(match by {
                    None => parse(Some(row)),
                    Some(by) => lookups.text(db, by, row, &mut parse),
                });
            }
            lookups.finish()?;
            if bad {
                return Err(CommandError::fixed(
                    "ERR One or more scores can't be converted into double",
                ));
            }
            Weights::Numbers(numbers)
        }
    };
    lookups.finish()?;
    Ok(weights)
}

fn reply(
    ctx: &mut Context<'_>,
    options: &Options<'_>,
    rows: &Rows,
    order: &[usize],
) -> CommandResult {
    let written = ctx.reply.len();
    let mut lookups = Lookups::default();
    ctx.reply.array(order.len() * options.get.len().max(1));
    for row in order.iter().map(|at| rows.get(*at)) {
        if options.get.is_empty() {
            ctx.reply.bulk(row);
        }
        for pattern in &options.get {
            lookups.text(&mut ctx.db, pattern, row, |text| ctx.reply.opt_bulk(text));
        }
    }
    let result = lookups.finish();
    if result.is_err() {
        ctx.reply.truncate(written);
    }
    result
}

fn store(
    ctx: &mut Context<'_>,
    options: &Options<'_>,
    rows: &Rows,
    order: &[usize],
    destination: &[u8],
    ambiguous: bool,
) -> CommandResult {
    let sorted = order.iter().map(|at| rows.get(*at));
    if options.get.is_empty() {
        return store_elements(ctx, sorted, destination, ambiguous);
    }
    let mut lookups = Lookups::default();
    let mut results = Rows::default();
    for row in sorted {
        for pattern in &options.get {
            lookups.text(&mut ctx.db, pattern, row, |text| {
                results.push(LpValue::Str(text.unwrap_or_default()));
            });
        }
    }
    lookups.finish()?;
    store_elements(ctx, results.iter(), destination, ambiguous)
}

fn store_elements<'a>(
    ctx: &mut Context<'_>,
    elements: impl Iterator<Item = &'a [u8]> + Clone,
    destination: &[u8],
    ambiguous: bool,
) -> CommandResult {
    let list = List::from_elements(elements.clone(), &ctx.config.limits);
    let len = list.len();
    if len > 0 {
        ctx.db
            .set_object(destination, Object::List(list), Expiry::Clear)?;
        ctx.db.signal_ready(destination);
        ctx.changed(destination, Class::LIST, "sortstore");
        ctx.db.effect.dirty += len as u64 - 1;
        if ambiguous {
            propagate_elements(ctx, destination, elements);
        }
    } else if ctx.db.remove(destination)? {
        ctx.changed(destination, Class::GENERIC, "del");
    }
    ctx.reply.len_int(len);
    Ok(())
}

/// Propagates what was stored instead of the command. Redis propagates the command, but where
/// weights are equal another server, or this one after a restart, may order the elements
/// otherwise.
fn propagate_elements<'a>(
    ctx: &mut Context<'_>,
    destination: &[u8],
    elements: impl Iterator<Item = &'a [u8]>,
) {
    ctx.propagate(&[b"DEL", destination]);
    let mut command: Vec<&[u8]> = vec![b"RPUSH", destination];
    for element in elements {
        command.push(element);
        if command.len() >= PROPAGATED_ARGS_MAX {
            ctx.propagate(&command);
            command.truncate(2);
        }
    }
    if command.len() > 2 {
        ctx.propagate(&command);
    }
}
