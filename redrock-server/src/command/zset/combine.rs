//! ZUNION, ZINTER, ZDIFF, their storing forms, and ZINTERCARD.
//!
//! Inputs are sorted sets, or sets whose members all have score 1. All are looked up before anything
//! else, and shared, so that they can be walked together. The shares are dropped before the
//! destination changes: it may be one of them.

use super::super::{Args, CommandError, CommandResult, Context};
use super::{element, elements_header, store};
use crate::value::number::parse_double;
use crate::value::set::Set;
use crate::value::zset::{self, ZSet};
use crate::value::{Object, ValueRef};
use hashbrown::HashMap;
use redrock_rdb::listpack::LpValue;
use redrock_rdb::number::{IntBuf, parse_i64};
use std::sync::Arc;

/// How the inputs are combined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What is done with the result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is the reply.
    Reply,
    /// It is stored in the key before the number of inputs.
    Store,
    /// Its size is the reply.
    Count,
}

/// AGGREGATE
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    /// Adds another input's score. Infinities of both signs make 0, as in Redis.
    fn add(self, total: &mut f64, score: f64) {
        match self {
            Self::Sum => *total = not_nan(*total + score),
            Self::Min if score < *total => *total = score,
            Self::Max if score > *total => *total = score,
            Self::Min | Self::Max => {}
        }
    }
}

fn not_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// One input while it is read.
#[derive(Clone, Copy)]
enum Input<'a> {
    Missing,
    ZSet(&'a ZSet),
    /// Members of score 1.
    Set(&'a Set),
}

impl<'a> Input<'a> {
    fn of(value: Option<ValueRef<'a>>) -> CommandResult<Self> {
        match value {
            None => Ok(Self::Missing),
            Some(ValueRef::ZSet(set)) => Ok(Self::ZSet(set)),
            Some(ValueRef::Set(set)) => Ok(Self::Set(set)),
            Some(_) => Err(CommandError::WrongType),
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Missing => 0,
            Self::ZSet(set) => set.len(),
            Self::Set(set) => set.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Self::Missing => None,
            Self::ZSet(set) => set.score(member),
            Self::Set(set) => set.contains(member).then_some(1.0),
        }
    }

    /// Visits all elements, until `visit` says that it has enough.
    fn each(self, mut visit: impl FnMut(&[u8], f64) -> bool) {
        let mut visit =
            |member: LpValue<'_>, score| visit(member.bytes(&mut IntBuf::default()), score);
        match self {
            Self::Missing => {}
            Self::ZSet(set) => {
                set.iter().all(|(member, score)| visit(member, score));
            }
            Self::Set(set) => {
                set.iter().all(|member| visit(member, 1.0));
            }
        }
    }
}

/// An input as it is held: without a value if there is no such key.
struct Source {
    value: Option<Arc<Object>>,
    weight: f64,
}

impl Source {
    fn look_up(ctx: &mut Context<'_>, key: &[u8]) -> CommandResult<Self> {
        Input::of(ctx.db.read_any(key)?)?;
        let value = ctx.db.share(key);
        Ok(Self { value, weight: 1.0 })
    }

    fn input(&self) -> Input<'_> {
        let value = self.value.as_deref().map(Object::as_value_ref);
        // Its type was checked.
        Input::of(value).unwrap_or(Input::Missing)
    }

    /// A score as it counts.
    fn weighted(&self, score: f64) -> f64 {
        not_nan(self.weight * score)
    }
}

struct Plan {
    sources: Vec<Source>,
    aggregate: Aggregate,
    with_scores: bool,
    /// LIMIT of ZINTERCARD.
    limit: usize,
}

impl Plan {
    /// Looks the inputs up and parses the options behind them, in this order as Redis does.
    fn parse(
        ctx: &mut Context<'_>,
        args: &Args<'_>,
        name: &str,
        operation: Operation,
        outcome: Outcome,
    ) -> CommandResult<Self> {
        let count_at = if outcome == Outcome::Store { 2 } else { 1 };
        let count = args.int(count_at)?;
        if count < 1 {
            let text = format!("ERR at least 1 input key is needed for '{name}' command");
            return Err(CommandError::text(text));
        }
        let first = count_at + 1;
        let end = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .saturating_add(first);
        let keys = args.all().get(first..end).ok_or(CommandError::Syntax)?;
        let mut sources = Vec::with_capacity(keys.len());
        for &key in keys {
            sources.push(Source::look_up(ctx, key)?);
        }
        let mut plan = Self {
            sources,
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: usize::MAX,
        };
        plan.parse_options(args, end, operation, outcome)?;
        Ok(plan)
    }

    fn parse_options(
        &mut self,
        args: &Args<'_>,
        mut at: usize,
        operation: Operation,
        outcome: Outcome,
    ) -> CommandResult {
        let weighted = operation != Operation::Difference && outcome != Outcome::Count;
        while at < args.len() {
            let left = args.len() - at;
            if weighted && left > self.sources.len() && args.is(at, "weights") {
                for source in &mut self.sources {
                    at += 1;
                    source.weight = parse_double(args.at(at))
                        .ok_or(CommandError::fixed("ERR weight value is not a float"))?;
                }
            } else if weighted && left >= 2 && args.is(at, "aggregate") {
                at += 1;
                self.aggregate = match () {
                    () if args.is(at, "sum") => Aggregate::Sum,
                    () if args.is(at, "min") => Aggregate::Min,
                    () if args.is(at, "max") => Aggregate::Max,
                    () => return Err(CommandError::Syntax),
                };
            } else if outcome == Outcome::Reply && args.is(at, "withscores") {
                self.with_scores = true;
            } else if outcome == Outcome::Count && left >= 2 && args.is(at, "limit") {
                at += 1;
                let message = "ERR LIMIT can't be negative";
                let limit = parse_i64(args.at(at)).and_then(|n| usize::try_from(n).ok());
                let limit = limit.ok_or(CommandError::fixed(message))?;
                self.limit = if limit == 0 { usize::MAX } else { limit };
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        Ok(())
    }

    /// The combined elements, in no order.
    fn run(&self, operation: Operation) -> Vec<(Vec<u8>, f64)> {
        match operation {
            Operation::Union => self.union(),
            Operation::Intersection => {
                let mut elements = Vec::new();
                self.intersect(|member, score| {
                    elements.push((member.to_vec(), score));
                    true
                });
                elements
            }
            Operation::Difference => self.difference(),
        }
    }

    fn union(&self) -> Vec<(Vec<u8>, f64)> {
        let mut totals: HashMap<Vec<u8>, f64> = HashMap::new();
        for source in &self.sources {
            source.input().each(|member, score| {
                let score = source.weighted(score);
                match totals.get_mut(member) {
                    Some(total) => self.aggregate.add(total, score),
                    None => {
                        totals.insert(member.to_vec(), score);
                    }
                }
                true
            });
        }
        totals.into_iter().collect()
    }

    /// Visits the members of all inputs with their scores, until `visit` says that it has enough.
    fn intersect(&self, mut visit: impl FnMut(&[u8], f64) -> bool) {
        let Some((smallest, others)) = self.sources.split_first() else {
            return;
        };
        smallest.input().each(|member, score| {
            let mut total = smallest.weighted(score);
            for source in others {
                let Some(score) = source.input().score(member) else {
                    return true;
                };
                self.aggregate.add(&mut total, source.weight * score);
            }
            visit(member, total)
        });
    }

    /// How many members all inputs have, up to the limit.
    fn count(&self) -> usize {
        let mut count = 0;
        self.intersect(|_, _| {
            count += 1;
            count < self.limit
        });
        count
    }

    fn difference(&self) -> Vec<(Vec<u8>, f64)> {
        let Some((first, others)) = self.sources.split_first() else {
            return Vec::new();
        };
        let mut left: HashMap<Vec<u8>, f64> = HashMap::with_capacity(first.input().len());
        first.input().each(|member, score| {
            left.insert(member.to_vec(), score);
            true
        });
        for source in others {
            let input = source.input();
            // Whichever is smaller is walked, the other one asked.
            if input.len() < left.len() {
                input.each(|member, _| {
                    left.remove(member);
                    true
                });
            } else {
                left.retain(|member, _| input.score(member).is_none());
            }
        }
        left.into_iter().collect()
    }
}

fn combine(
    ctx: &mut Context<'_>,
    args: &Args<'_>,
    name: &'static str,
    operation: Operation,
    outcome: Outcome,
) -> CommandResult {
    let mut plan = Plan::parse(ctx, args, name, operation, outcome)?;
    if operation != Operation::Difference {
        // The order in which scores are added up, which floating point shows, is Redis's.
        plan.sources.sort_by_key(|source| source.input().len());
    }
    if outcome == Outcome::Count {
        ctx.reply.len_int(plan.count());
        return Ok(());
    }
    let mut result = plan.run(operation);
    let with_scores = plan.with_scores;
    drop(plan);
    zset::sort(&mut result);
    let sorted = result
        .iter()
        .map(|(member, score)| (LpValue::Str(member), *score));
    if outcome == Outcome::Store {
        let result = ZSet::from_sorted(sorted, &ctx.config.limits);
        return store(ctx, args.at(1), result, name);
    }
    elements_header(&mut ctx.reply, result.len(), with_scores);
    sorted.for_each(|one| element(&mut ctx.reply, one, with_scores));
    Ok(())
}

/// `ZUNION numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]`
pub(super) fn zunion(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    combine(ctx, args, "zunion", Operation::Union, Outcome::Reply)
}

/// `ZINTER numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]`
pub(super) fn zinter(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    combine(ctx, args, "zinter", Operation::Intersection, Outcome::Reply)
}

/// `ZDIFF numkeys key [key ...] [WITHSCORES]`
pub(super) fn zdiff(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    combine(ctx, args, "zdiff", Operation::Difference, Outcome::Reply)
}

/// `ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS ...] [AGGREGATE SUM|MIN|MAX]`
pub(super) fn zunionstore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    combine(ctx, args, "zunionstore", Operation::Union, Outcome::Store)
}

/// `ZINTERSTORE destination numkeys key [key ...] [WEIGHTS ...] [AGGREGATE SUM|MIN|MAX]`
pub(super) fn zinterstore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    combine(
        ctx,
        args,
        "zinterstore",
        Operation::Intersection,
        Outcome::Store,
    )
}

/// `ZDIFFSTORE destination numkeys key [key ...]`
pub(super) fn zdiffstore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    combine(
        ctx,
        args,
        "zdiffstore",
        Operation::Difference,
        Outcome::Store,
    )
}

/// `ZINTERCARD numkeys key [key ...] [LIMIT limit]`
pub(super) fn zintercard(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    combine(
        ctx,
        args,
        "zintercard",
        Operation::Intersection,
        Outcome::Count,
    )
}
