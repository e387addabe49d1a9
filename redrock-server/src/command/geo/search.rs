//! GEOSEARCH, GEORADIUS and their relatives.

use super::arguments::{Form, Options};
use super::{distance_text, reply_place};
use crate::command::reply::Reply;
use crate::command::{Args, CommandResult, Context, zset};
use crate::value::Limits;
use crate::value::geo::order::sort_first;
use crate::value::geo::{Area, Place, score_integer};
use crate::value::zset::{AddRule, ScoreRange, ZSet};
use redrock_rdb::listpack::LpValue;
use redrock_rdb::number::IntBuf;

/// A member that was found.
#[derive(Debug, Clone, Copy)]
struct Found<'a> {
    member: LpValue<'a>,
    score: f64,
    place: Place,
    metres: f64,
}

/// All members in an area, or the first `count_max`.
fn members_within<'s>(set: &'s ZSet, area: &Area, count_max: usize) -> Vec<Found<'s>> {
    let mut found = Vec::new();
    for (first, end) in area.score_ranges() {
        let ranks = set.ranks_by_score(&ScoreRange::half_open(first, end));
        for (member, score) in set.range(ranks, false) {
            if found.len() >= count_max {
                return found;
            }
            let place = Place::of_score(score);
            if let Some(metres) = area.distance_within(place) {
                found.push(Found {
                    member,
                    score,
                    place,
                    metres,
                });
            }
        }
    }
    found
}

/// What a search returns, in order.
fn results<'s>(set: &'s ZSet, area: &Area, options: &Options<'_>) -> Vec<Found<'s>> {
    let count = options.count.unwrap_or(usize::MAX);
    let count_max = if options.any { count } else { usize::MAX };
    let mut found = members_within(set, area, count_max);
    // A number of results is one of the nearest.
    let nearest = options.count.is_some() && !options.any;
    if let Some(descending) = options.descending.or(nearest.then_some(false)) {
        sort_first(&mut found, count, descending, |one| one.metres);
    }
    found.truncate(count);
    found
}

fn write(reply: &mut Reply<'_>, found: &[Found<'_>], options: &Options<'_>, unit_metres: f64) {
    let with = [options.with_distance, options.with_hash, options.with_place];
    let fields = 1 + with.iter().filter(|field| **field).count();
    reply.array(found.len());
    for one in found {
        if fields > 1 {
            reply.array(fields);
        }
        reply.item(one.member);
        if options.with_distance {
            reply.bulk(distance_text(one.metres / unit_metres).as_bytes());
        }
        if options.with_hash {
            reply.int(score_integer(one.score));
        }
        if options.with_place {
            reply_place(reply, one.place);
        }
    }
}

/// What is stored: places, or distances.
fn stored(found: &[Found<'_>], distances_in: Option<f64>, limits: &Limits) -> ZSet {
    let mut set = ZSet::new();
    let longest = found.iter().map(|one| one.member.len()).max();
    set.prepare(found.len(), longest.unwrap_or(0), limits);
    for one in found {
        let score = distances_in.map_or(one.score, |unit_metres| one.metres / unit_metres);
        // A distance that is no number, which Redis ends at, is left out.
        set.add(
            score,
            one.member.bytes(&mut IntBuf::default()),
            AddRule::default(),
            limits,
        );
    }
    set
}

fn search(ctx: &mut Context<'_>, args: &Args<'_>, form: Form) -> CommandResult {
    let source = ctx.db.read::<ZSet>(args.at(form.source_at()))?;
    let options = Options::parse(args, form, source)?;
    let found = match (source, options.area()) {
        (Some(set), Some(area)) => Some((results(set, &area, &options), area.unit_metres)),
        _ => None,
    };
    let (found, unit_metres) = found.unwrap_or_default();
    let Some(key) = options.store else {
        write(&mut ctx.reply, &found, &options, unit_metres);
        return Ok(());
    };
    let distances_in = options.store_distances.then_some(unit_metres);
    let result = stored(&found, distances_in, &ctx.config.limits);
    let count = result.len() as u64;
    let event = match form {
        Form::SearchStore => "geosearchstore",
        _ => "georadiusstore",
    };
    zset::store(ctx, key, result, event)?;
    ctx.db.effect.dirty += count.saturating_sub(1);
    Ok(())
}

/// `GEORADIUS key longitude latitude radius M | KM | FT | MI [WITHCOORD] [WITHDIST] [WITHHASH]
/// [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]`
pub(super) fn georadius(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    search(ctx, args, Form::Radius { stores: true })
}

/// As [`georadius`], without STORE.
pub(super) fn georadius_ro(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    search(ctx, args, Form::Radius { stores: false })
}

/// `GEORADIUSBYMEMBER key member radius M | KM | FT | MI` and [`georadius`]'s options.
pub(super) fn georadiusbymember(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    search(ctx, args, Form::RadiusByMember { stores: true })
}

/// As [`georadiusbymember`], without STORE.
pub(super) fn georadiusbymember_ro(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    search(ctx, args, Form::RadiusByMember { stores: false })
}

/// `GEOSEARCH key FROMMEMBER member | FROMLONLAT longitude latitude BYRADIUS radius unit | BYBOX
/// width height unit [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]`
pub(super) fn geosearch(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    search(ctx, args, Form::Search)
}

/// `GEOSEARCHSTORE destination source`, [`geosearch`]'s words, `[STOREDIST]`
pub(super) fn geosearchstore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    search(ctx, args, Form::SearchStore)
}
