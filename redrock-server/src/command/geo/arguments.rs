//! The arguments of searches. Redis looks the source up first: what the words mean depends on it.

use super::read::place_of;
use super::{place, size, unit_metres};
use crate::command::{Args, CommandError, CommandResult};
use crate::value::geo::{Area, Place, Shape};
use crate::value::zset::ZSet;

/// The commands that search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// GEORADIUS, and whether it may store.
    Radius { stores: bool },
    /// GEORADIUSBYMEMBER, and whether it may store.
    RadiusByMember { stores: bool },
    /// GEOSEARCH.
    Search,
    /// GEOSEARCHSTORE.
    SearchStore,
}

impl Form {
    fn is_search(self) -> bool {
        matches!(self, Self::Search | Self::SearchStore)
    }

    /// Where the source's key is.
    pub(super) fn source_at(self) -> usize {
        if self == Self::SearchStore { 2 } else { 1 }
    }

    fn takes_store(self) -> bool {
        matches!(
            self,
            Self::Radius { stores: true } | Self::RadiusByMember { stores: true }
        )
    }
}

/// What is asked for.
#[derive(Debug, Default)]
pub(super) struct Options<'a> {
    pub(super) with_distance: bool,
    pub(super) with_hash: bool,
    pub(super) with_place: bool,
    /// Sorted by distance, and whether the farthest comes first.
    pub(super) descending: Option<bool>,
    /// Number of results.
    pub(super) count: Option<usize>,
    /// Any so many results, not the nearest.
    pub(super) any: bool,
    /// Where to store the result.
    pub(super) store: Option<&'a [u8]>,
    /// Store distances in place of places.
    pub(super) store_distances: bool,
    centre: Option<Place>,
    from_member: bool,
    from_place: bool,
    shape: Option<(Shape, f64)>,
}

/// Circle and unit in two arguments.
fn circle(args: &Args<'_>, at: usize) -> CommandResult<(Shape, f64)> {
    let radius = size(args.at(at), "ERR need numeric radius")?;
    if radius < 0.0 {
        return Err(CommandError::fixed("ERR radius cannot be negative"));
    }
    Ok((Shape::Circle { radius }, unit_metres(args.at(at + 1))?))
}

/// Box and unit in three arguments.
fn rectangle(args: &Args<'_>, at: usize) -> CommandResult<(Shape, f64)> {
    let width = size(args.at(at), "ERR need numeric width")?;
    let height = size(args.at(at + 1), "ERR need numeric height")?;
    if width < 0.0 || height < 0.0 {
        return Err(CommandError::fixed(
            "ERR height or width cannot be negative",
        ));
    }
    let unit = unit_metres(args.at(at + 2))?;
    Ok((Shape::Rectangle { width, height }, unit))
}

fn member_place(set: &ZSet, member: &[u8]) -> CommandResult<Place> {
    place_of(set, member).ok_or(CommandError::fixed(
        "ERR could not decode requested zset member",
    ))
}

impl<'a> Options<'a> {
    /// Parses all arguments, given the source if there is one.
    pub(super) fn parse(args: &Args<'a>, form: Form, source: Option<&ZSet>) -> CommandResult<Self> {
        let mut options = Self::default();
        let mut at = match form {
            Form::Radius { .. } => {
                options.centre = Some(place(args, 2)?);
                options.shape = Some(circle(args, 4)?);
                6
            }
            Form::RadiusByMember { .. } => {
                // Without a source not even the radius is looked at.
                if let Some(set) = source {
                    options.centre = Some(member_place(set, args.at(2))?);
                    options.shape = Some(circle(args, 3)?);
                }
                5
            }
            Form::Search => 2,
            Form::SearchStore => {
                options.store = Some(args.at(1));
                3
            }
        };
        while at < args.len() {
            at += options.word(args, at, form, source)?;
        }
        options.check(args, form)?;
        Ok(options)
    }

    /// Takes the option at an argument; how many arguments it has taken.
    fn word(
        &mut self,
        args: &Args<'a>,
        at: usize,
        form: Form,
        source: Option<&ZSet>,
    ) -> CommandResult<usize> {
        let left = args.len() - at - 1;
        let is = |word: &str| args.is(at, word);
        if is("withdist") {
            self.with_distance = true;
        } else if is("withhash") {
            self.with_hash = true;
        } else if is("withcoord") {
            self.with_place = true;
        } else if is("any") {
            self.any = true;
        } else if is("asc") {
            self.descending = Some(false);
        } else if is("desc") {
            self.descending = Some(true);
        } else if is("count") && left >= 1 {
            let count = args.int(at + 1)?;
            let count = usize::try_from(count).ok().filter(|count| *count > 0);
            self.count = Some(count.ok_or(CommandError::fixed("ERR COUNT must be > 0"))?);
            return Ok(2);
        } else if (is("store") || is("storedist")) && left >= 1 && form.takes_store() {
            self.store = Some(args.at(at + 1));
            self.store_distances = is("storedist");
            return Ok(2);
        } else if is("storedist") && form == Form::SearchStore {
            self.store_distances = true;
        } else if form.is_search() {
            return self.search_word(args, at, source);
        } else {
            return Err(CommandError::Syntax);
        }
        Ok(1)
    }

    /// As [`Options::word`], the words that only GEOSEARCH has.
    fn search_word(
        &mut self,
        args: &Args<'a>,
        at: usize,
        source: Option<&ZSet>,
    ) -> CommandResult<usize> {
        let left = args.len() - at - 1;
        let is = |word: &str| args.is(at, word);
        let is_box = matches!(self.shape, Some((Shape::Rectangle { .. }, _)));
        let is_circle = matches!(self.shape, Some((Shape::Circle { .. }, _)));
        if is("frommember") && left >= 1 && !self.from_place {
            if let Some(set) = source {
                self.centre = Some(member_place(set, args.at(at + 1))?);
            }
            self.from_member = true;
            Ok(2)
        } else if is("fromlonlat") && left >= 2 && !self.from_member {
            self.centre = Some(place(args, at + 1)?);
            self.from_place = true;
            Ok(3)
        } else if is("byradius") && left >= 2 && !is_box {
            self.shape = Some(circle(args, at + 1)?);
            Ok(3)
        } else if is("bybox") && left >= 3 && !is_circle {
            self.shape = Some(rectangle(args, at + 1)?);
            Ok(4)
        } else {
            Err(CommandError::Syntax)
        }
    }

    fn check(&self, args: &Args<'_>, form: Form) -> CommandResult {
        if self.store.is_some() && (self.with_distance || self.with_hash || self.with_place) {
            return Err(CommandError::fixed(if form == Form::SearchStore {
                "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            } else {
                "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and \
                 WITHCOORD options"
            }));
        }
        // The command's name is quoted as it was sent.
        let needs_one = |of: &str| {
            let name = args.at(0).split(|byte| *byte == 0).next();
            let start = format!("ERR exactly one of {of} can be specified for ");
            CommandError::Bytes([start.as_bytes(), name.unwrap_or_default()].concat())
        };
        if form.is_search() && !(self.from_member || self.from_place) {
            return Err(needs_one("FROMMEMBER or FROMLONLAT"));
        }
        if form.is_search() && self.shape.is_none() {
            return Err(needs_one("BYRADIUS and BYBOX"));
        }
        if self.any && self.count.is_none() {
            return Err(CommandError::fixed(
                "ERR the ANY argument requires COUNT argument",
            ));
        }
        Ok(())
    }

    /// Where to search; nothing only if there is no source.
    pub(super) fn area(&self) -> Option<Area> {
        let (shape, unit_metres) = self.shape?;
        Some(Area {
            centre: self.centre?,
            shape,
            unit_metres,
        })
    }
}
