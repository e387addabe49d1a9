//! The records of the sorted set commands.

use super::super::table::flag::{BLOCKING, DENYOOM, FAST, MOVABLE_KEYS, READONLY, WRITE};
use super::super::table::{Group, Handler, KeySpec, Spec};
use super::{add, combine, pop, random, range, read, remove, scan};

/// All arguments but the last are keys.
const BEFORE_TIMEOUT: KeySpec = KeySpec::Range {
    first: 1,
    last: -2,
    step: 1,
};
/// A number of keys, and the keys.
const COUNTED: KeySpec = KeySpec::Counted {
    count_at: 1,
    also: 0,
};
/// A number of keys and the keys after another argument.
const COUNTED_SECOND: KeySpec = KeySpec::Counted {
    count_at: 2,
    also: 0,
};
/// A destination, a number of keys, and the keys.
const DESTINATION_COUNTED: KeySpec = KeySpec::Counted {
    count_at: 2,
    also: 1,
};

const fn spec(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Spec {
    Spec::new(name, arity, flags, handler)
        .group(Group::SortedSet)
        .keys(KeySpec::ONE)
}

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    spec("zadd", -4, WRITE | DENYOOM | FAST, add::zadd)
        .doc("1.2.0", "Adds one or more members to a sorted set, or updates their scores. Creates the key if it doesn't exist."),
    spec("zincrby", 4, WRITE | DENYOOM | FAST, add::zincrby)
        .doc("1.2.0", "Increments the score of a member in a sorted set."),
    spec("zrem", -3, WRITE | FAST, remove::zrem)
        .doc("1.2.0", "Removes one or more members from a sorted set. Deletes the sorted set if all members were removed."),
    spec("zremrangebyrank", 4, WRITE, remove::zremrangebyrank)
        .doc("2.0.0", "Removes members in a sorted set within a range of indexes. Deletes the sorted set if all members were removed."),
    spec("zremrangebyscore", 4, WRITE, remove::zremrangebyscore)
        .doc("1.2.0", "Removes members in a sorted set within a range of scores. Deletes the sorted set if all members were removed."),
    spec("zremrangebylex", 4, WRITE, remove::zremrangebylex)
        .doc("2.8.9", "Removes members in a sorted set within a lexicographical range. Deletes the sorted set if all members were removed."),
    spec("zcard", 2, READONLY | FAST, read::zcard)
        .doc("1.2.0", "Returns the number of members in a sorted set."),
    spec("zcount", 4, READONLY | FAST, range::zcount)
        .doc("2.0.0", "Returns the count of members in a sorted set that have scores within a range."),
    spec("zlexcount", 4, READONLY | FAST, range::zlexcount)
        .doc("2.8.9", "Returns the number of members in a sorted set within a lexicographical range."),
    spec("zscore", 3, READONLY | FAST, read::zscore)
        .doc("1.2.0", "Returns the score of a member in a sorted set."),
    spec("zmscore", -3, READONLY | FAST, read::zmscore)
        .doc("6.2.0", "Returns the score of one or more members in a sorted set."),
    spec("zrank", -3, READONLY | FAST, read::zrank)
        .doc("2.0.0", "Returns the index of a member in a sorted set ordered by ascending scores."),
    spec("zrevrank", -3, READONLY | FAST, read::zrevrank)
        .doc("2.0.0", "Returns the index of a member in a sorted set ordered by descending scores."),
    spec("zrange", -4, READONLY, range::zrange)
        .doc("1.2.0", "Returns members in a sorted set within a range of indexes."),
    spec("zrangestore", -5, WRITE | DENYOOM, range::zrangestore)
        .keys(KeySpec::TWO)
        .doc("6.2.0", "Stores a range of members from sorted set in a key."),
    spec("zrevrange", -4, READONLY, range::zrevrange)
        .doc("1.2.0", "Returns members in a sorted set within a range of indexes in reverse order."),
    spec("zrangebyscore", -4, READONLY, range::zrangebyscore)
        .doc("1.0.5", "Returns members in a sorted set within a range of scores."),
    spec("zrevrangebyscore", -4, READONLY, range::zrevrangebyscore)
        .doc("2.2.0", "Returns members in a sorted set within a range of scores in reverse order."),
    spec("zrangebylex", -4, READONLY, range::zrangebylex)
        .doc("2.8.9", "Returns members in a sorted set within a lexicographical range."),
    spec("zrevrangebylex", -4, READONLY, range::zrevrangebylex)
        .doc("2.8.9", "Returns members in a sorted set within a lexicographical range in reverse order."),
    spec("zpopmin", -2, WRITE | FAST, pop::zpopmin)
        .doc("5.0.0", "Returns the lowest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped."),
    spec("zpopmax", -2, WRITE | FAST, pop::zpopmax)
        .doc("5.0.0", "Returns the highest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped."),
    spec("bzpopmin", -3, WRITE | FAST | BLOCKING, pop::bzpopmin)
        .keys(BEFORE_TIMEOUT)
        .doc("5.0.0", "Removes and returns the member with the lowest score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped."),
    spec("bzpopmax", -3, WRITE | FAST | BLOCKING, pop::bzpopmax)
        .keys(BEFORE_TIMEOUT)
        .doc("5.0.0", "Removes and returns the member with the highest score from one or more sorted sets. Blocks until a member available otherwise.  Deletes the sorted set if the last element was popped."),
    spec("zmpop", -4, WRITE | MOVABLE_KEYS, pop::zmpop)
        .keys(COUNTED)
        .doc("7.0.0", "Returns the highest- or lowest-scoring members from one or more sorted sets after removing them. Deletes the sorted set if the last member was popped."),
    spec("bzmpop", -5, WRITE | BLOCKING | MOVABLE_KEYS, pop::bzmpop)
        .keys(COUNTED_SECOND)
        .doc("7.0.0", "Removes and returns a member by score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped."),
    spec("zunion", -3, READONLY | MOVABLE_KEYS, combine::zunion)
        .keys(COUNTED)
        .doc("6.2.0", "Returns the union of multiple sorted sets."),
    spec("zunionstore", -4, WRITE | DENYOOM | MOVABLE_KEYS, combine::zunionstore)
        .keys(DESTINATION_COUNTED)
        .doc("2.0.0", "Stores the union of multiple sorted sets in a key."),
    spec("zinter", -3, READONLY | MOVABLE_KEYS, combine::zinter)
        .keys(COUNTED)
        .doc("6.2.0", "Returns the intersect of multiple sorted sets."),
    spec("zinterstore", -4, WRITE | DENYOOM | MOVABLE_KEYS, combine::zinterstore)
        .keys(DESTINATION_COUNTED)
        .doc("2.0.0", "Stores the intersect of multiple sorted sets in a key."),
    spec("zintercard", -3, READONLY | MOVABLE_KEYS, combine::zintercard)
        .keys(COUNTED)
        .doc("7.0.0", "Returns the number of members of the intersect of multiple sorted sets."),
    spec("zdiff", -3, READONLY | MOVABLE_KEYS, combine::zdiff)
        .keys(COUNTED)
        .doc("6.2.0", "Returns the difference between multiple sorted sets."),
    spec("zdiffstore", -4, WRITE | DENYOOM | MOVABLE_KEYS, combine::zdiffstore)
        .keys(DESTINATION_COUNTED)
        .doc("6.2.0", "Stores the difference of multiple sorted sets in a key."),
    spec("zrandmember", -2, READONLY, random::zrandmember)
        .doc("6.2.0", "Returns one or more random members from a sorted set."),
    spec("zscan", -3, READONLY, scan::zscan)
        .doc("2.8.0", "Iterates over members and scores of a sorted set."),
];
