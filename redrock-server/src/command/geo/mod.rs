//! Geospatial commands: sorted sets whose scores are places.

mod add;
mod arguments;
mod read;
mod search;
#[cfg(test)]
mod tests;

use super::Args;
use super::args::is_word;
use super::error::{CommandError, CommandResult};
use super::reply::Reply;
use super::table::{Group, Handler, KeySpec, Spec, acl, flag};
use crate::value::geo::Place;
use crate::value::number::parse_double;

const WRITE: u32 = flag::WRITE | flag::DENYOOM;
const READ: u32 = flag::READONLY;

const fn spec(
    name: &'static str,
    arity: i32,
    flags: u32,
    handler: Handler,
    since: &'static str,
    summary: &'static str,
) -> Spec {
    Spec::new(name, arity, flags, handler)
        .group(Group::Geo)
        .acl(acl::GEO)
        .keys(KeySpec::ONE)
        .doc(since, summary)
}

/// The source, and the key of the last STORE or STOREDIST, which need not be there.
const WITH_STORE: KeySpec = KeySpec::Custom(|args| {
    let mut keys = vec![1];
    let mut at = 5;
    let mut stored = None;
    while at + 1 < args.len() {
        if args.is(at, "store") || args.is(at, "storedist") {
            stored = Some(at + 1);
            at += 1;
        }
        at += 1;
    }
    keys.extend(stored);
    keys
});

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    spec("geoadd", -5, WRITE, add::geoadd, "3.2.0",
        "Adds one or more members to a geospatial index. The key is created if it doesn't exist."),
    spec("geodist", -4, READ, read::geodist, "3.2.0",
        "Returns the distance between two members of a geospatial index."),
    spec("geohash", -2, READ, read::geohash, "3.2.0",
        "Returns members from a geospatial index as geohash strings."),
    spec("geopos", -2, READ, read::geopos, "3.2.0",
        "Returns the longitude and latitude of members from a geospatial index."),
    spec("georadius", -6, WRITE | flag::MOVABLE_KEYS, search::georadius, "3.2.0",
        "Queries a geospatial index for members within a distance from a coordinate, optionally stores the result.")
        .keys(WITH_STORE)
        .first_value(),
    spec("georadius_ro", -6, READ, search::georadius_ro, "3.2.10",
        "Returns members from a geospatial index that are within a distance from a coordinate."),
    spec("georadiusbymember", -5, WRITE | flag::MOVABLE_KEYS, search::georadiusbymember, "3.2.0",
        "Queries a geospatial index for members within a distance from a member, optionally stores the result.")
        .keys(WITH_STORE)
        .first_value(),
    spec("georadiusbymember_ro", -5, READ, search::georadiusbymember_ro, "3.2.10",
        "Returns members from a geospatial index that are within a distance from a member."),
    spec("geosearch", -7, READ, search::geosearch, "6.2.0",
        "Queries a geospatial index for members inside an area of a box or a circle."),
    spec("geosearchstore", -8, WRITE, search::geosearchstore, "6.2.0",
        "Queries a geospatial index for members inside an area of a box or a circle, optionally stores the result.")
        .keys(KeySpec::TWO),
];

/// The place in two arguments.
fn place(args: &Args<'_>, at: usize) -> CommandResult<Place> {
    let place = Place {
        longitude: args.double(at)?,
        latitude: args.double(at + 1)?,
    };
    if place.is_valid() {
        return Ok(place);
    }
    let Place {
        longitude,
        latitude,
    } = place;
    Err(CommandError::text(format!(
        "ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}"
    )))
}

/// The metres of a unit.
fn unit_metres(word: &[u8]) -> CommandResult<f64> {
    const UNITS: [(&str, f64); 4] = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    let known = UNITS.into_iter().find(|(name, _)| is_word(word, name));
    known.map(|(_, metres)| metres).ok_or(CommandError::fixed(
        "ERR unsupported unit provided. please use M, KM, FT, MI",
    ))
}

/// A size, or the error `message`.
fn size(word: &[u8], message: &'static str) -> CommandResult<f64> {
    parse_double(word).ok_or(CommandError::fixed(message))
}

/// A distance with four digits behind the point.
fn distance_text(distance: f64) -> String {
    let scaled = (distance * 10_000.0).round_ties_even();
    // What no integer can hold is what the processor makes of it.
    let value = if scaled.abs() < (1u64 << 63) as f64 {
        scaled as i64
    } else {
        i64::MIN
    };
    let sign = if value < 0 { "-" } else { "" };
    let digits = value.unsigned_abs();
    format!("{sign}{}.{:04}", digits / 10_000, digits % 10_000)
}

/// A coordinate with up to 17 digits behind the point.
fn coordinate_text(value: f64) -> String {
    let text = format!("{value:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".into()
    } else {
        text.into()
    }
}

fn reply_place(reply: &mut Reply<'_>, place: Place) {
    reply.array(2);
    for value in [place.longitude, place.latitude] {
        let text = coordinate_text(value);
        if reply.is_resp3() {
            reply.raw(format!(",{text}\r\n").as_bytes());
        } else {
            reply.bulk(text.as_bytes());
        }
    }
}
