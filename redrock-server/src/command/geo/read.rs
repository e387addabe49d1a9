//! GEODIST, GEOHASH and GEOPOS.

use super::{distance_text, reply_place, unit_metres};
use crate::command::reply::Reply;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::value::geo::Place;
use crate::value::zset::ZSet;

/// The place of a member.
pub(super) fn place_of(set: &ZSet, member: &[u8]) -> Option<Place> {
    set.score(member).map(Place::of_score)
}

/// `GEODIST key member1 member2 [M | KM | FT | MI]`
pub(super) fn geodist(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let unit = match args.len() {
        4 => 1.0,
        5 => unit_metres(args.at(4))?,
        _ => return Err(CommandError::Syntax),
    };
    let distance = ctx.db.read::<ZSet>(args.at(1))?.and_then(|set| {
        let (from, to) = (place_of(set, args.at(2))?, place_of(set, args.at(3))?);
        Some(from.distance_metres(to) / unit)
    });
    match distance {
        Some(distance) => ctx.reply.bulk(distance_text(distance).as_bytes()),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn each_place(
    ctx: &mut Context<'_>,
    args: &Args<'_>,
    write: fn(&mut Reply<'_>, Option<Place>),
) -> CommandResult {
    let set = ctx.db.read::<ZSet>(args.at(1))?;
    let members = args.from(2);
    ctx.reply.array(members.len());
    for member in members {
        let found = set.and_then(|set| place_of(set, member));
        write(&mut ctx.reply, found);
    }
    Ok(())
}

/// `GEOHASH key [member [member ...]]`
pub(super) fn geohash(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    each_place(ctx, args, |reply, place| match place {
        Some(place) => reply.bulk(&place.geohash()),
        None => reply.null(),
    })
}

/// `GEOPOS key [member [member ...]]`
pub(super) fn geopos(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    each_place(ctx, args, |reply, place| match place {
        Some(place) => reply_place(reply, place),
        None => reply.null_array(),
    })
}
