//! Commands of the set family.

mod algebra;
mod basic;
mod random;

use super::table::{Group, Handler, KeySpec, Spec, flag};

const ADD: u32 = flag::WRITE | flag::DENYOOM | flag::FAST;
const REMOVE: u32 = flag::WRITE | flag::FAST;
const LOOK: u32 = flag::READONLY | flag::FAST;
const WALK: u32 = flag::READONLY;
const STORE: u32 = flag::WRITE | flag::DENYOOM;

const fn spec(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Spec {
    Spec::new(name, arity, flags, handler)
        .group(Group::Set)
        .keys(KeySpec::ONE)
}

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    spec("sadd", -3, ADD, basic::sadd).doc(
        "1.0.0",
        "Adds one or more members to a set. Creates the key if it doesn't exist.",
    ),
    spec("scard", 2, LOOK, basic::scard).doc("1.0.0", "Returns the number of members in a set."),
    spec("sdiff", -2, WALK, algebra::sdiff)
        .keys(KeySpec::ALL)
        .doc("1.0.0", "Returns the difference of multiple sets."),
    spec("sdiffstore", -3, STORE, algebra::sdiffstore)
        .keys(KeySpec::ALL)
        .doc("1.0.0", "Stores the difference of multiple sets in a key."),
    spec("sinter", -2, WALK, algebra::sinter)
        .keys(KeySpec::ALL)
        .doc("1.0.0", "Returns the intersect of multiple sets."),
    spec("sintercard", -3, WALK, algebra::sintercard)
        .keys(KeySpec::Counted { count_at: 1, also: 0 })
        .doc("7.0.0", "Returns the number of members of the intersect of multiple sets."),
    spec("sinterstore", -3, STORE, algebra::sinterstore)
        .keys(KeySpec::ALL)
        .doc("1.0.0", "Stores the intersect of multiple sets in a key."),
    spec("sismember", 3, LOOK, basic::sismember)
        .doc("1.0.0", "Determines whether a member belongs to a set."),
    spec("smembers", 2, WALK, basic::smembers).doc("1.0.0", "Returns all members of a set."),
    spec("smismember", -3, LOOK, basic::smismember)
        .doc("6.2.0", "Determines whether multiple members belong to a set."),
    spec("smove", 4, REMOVE, basic::smove)
        .keys(KeySpec::TWO)
        .doc("1.0.0", "Moves a member from one set to another."),
    spec("spop", -2, REMOVE, random::spop).doc(
        "1.0.0",
        "Returns one or more random members from a set after removing them. Deletes the set if the last member was popped.",
    ),
    spec("srandmember", -2, WALK, random::srandmember)
        .doc("1.0.0", "Get one or multiple random members from a set"),
    spec("srem", -3, REMOVE, basic::srem).doc(
        "1.0.0",
        "Removes one or more members from a set. Deletes the set if the last member was removed.",
    ),
    spec("sscan", -3, WALK, basic::sscan).doc("2.8.0", "Iterates over members of a set."),
    spec("sunion", -2, WALK, algebra::sunion)
        .keys(KeySpec::ALL)
        .doc("1.0.0", "Returns the union of multiple sets."),
    spec("sunionstore", -3, STORE, algebra::sunionstore)
        .keys(KeySpec::ALL)
        .doc("1.0.0", "Stores the union of multiple sets in a key."),
];
