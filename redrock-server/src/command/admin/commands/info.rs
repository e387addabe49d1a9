//! COMMAND INFO: flags, key positions, ACL categories, tips, key specifications.

use super::facts::{self, BeginSearch, CommandFacts, FindKeys, KeyFacts};
use crate::command::reply::Reply;
use crate::command::table::{Group, KeySpec, Spec, acl, flag};

/// Flags in the order in which they are shown. Others are hidden.
const FLAGS: [(u32, &str); 19] = [
    (flag::WRITE, "write"),
    (flag::READONLY, "readonly"),
    (flag::DENYOOM, "denyoom"),
    (flag::ADMIN, "admin"),
    (flag::PUBSUB, "pubsub"),
    (flag::NOSCRIPT, "noscript"),
    (flag::BLOCKING, "blocking"),
    (flag::LOADING, "loading"),
    (flag::STALE, "stale"),
    (flag::SKIP_MONITOR, "skip_monitor"),
    (flag::SKIP_SLOWLOG, "skip_slowlog"),
    (0, "asking"),
    (flag::FAST, "fast"),
    (flag::NO_AUTH, "no_auth"),
    (flag::NO_MANDATORY_KEYS, "no_mandatory_keys"),
    (flag::NO_ASYNC_LOADING, "no_async_loading"),
    (flag::NO_MULTI, "no_multi"),
    (flag::MOVABLE_KEYS, "movablekeys"),
    (flag::ALLOW_BUSY, "allow_busy"),
];

/// All ACL categories, in Redis's order.
pub(crate) const ACL_CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// A command's ACL categories, in Redis's order.
pub(crate) fn categories(spec: &Spec) -> Vec<&'static str> {
    let facts = facts::of(spec.name);
    let is = |name: &str| facts.categories.contains(&name);
    let scripting = is("scripting") || spec.acl & acl::SCRIPTING != 0;
    let fast = spec.has(flag::FAST);
    let implied = |name: &str| match name {
        "keyspace" => spec.acl & acl::KEYSPACE != 0,
        "write" => spec.has(flag::WRITE),
        "read" => spec.has(flag::READONLY) && !scripting,
        "set" => spec.group == Group::Set,
        "sortedset" => spec.group == Group::SortedSet,
        "list" => spec.group == Group::List,
        "hash" => spec.group == Group::Hash,
        "string" => spec.group == Group::String,
        "bitmap" => spec.group == Group::Bitmap || spec.acl & acl::BITMAP != 0,
        "hyperloglog" => spec.acl & acl::HYPERLOGLOG != 0,
        "geo" => spec.acl & acl::GEO != 0,
        "stream" => spec.group == Group::Stream,
        "pubsub" => spec.has(flag::PUBSUB),
        "admin" => spec.has(flag::ADMIN),
        "fast" => fast,
        "slow" => !fast,
        "blocking" => spec.has(flag::BLOCKING),
        "dangerous" => spec.has(flag::ADMIN) || spec.acl & acl::DANGEROUS != 0,
        "connection" => spec.acl & acl::CONNECTION != 0,
        "transaction" => spec.acl & acl::TRANSACTION != 0,
        "scripting" => scripting,
        _ => false,
    };
    // A container's own record has no group of keys.
    let container = !spec.subcommands.is_empty();
    let grouped = |name: &str| {
        matches!(
            name,
            "set" | "sortedset" | "list" | "hash" | "string" | "bitmap" | "stream"
        )
    };
    ACL_CATEGORIES
        .into_iter()
        .filter(|name| is(name) || (implied(name) && !(container && grouped(name))))
        .collect()
}

/// First key, last key, step as the old form of key positions has them, and whether that form
/// does not tell all (`movablekeys`); see Redis's `populateCommandLegacyRangeSpec`.
fn legacy_range(facts: &CommandFacts, spec: &Spec) -> (i64, i64, i64, bool) {
    if facts.keys.is_empty() {
        return match spec.keys {
            KeySpec::Range { first, last, step } => (first as i64, last.into(), step as i64, false),
            KeySpec::None => (0, 0, 0, false),
            KeySpec::Counted { .. } | KeySpec::Custom(_) => (0, 0, 0, true),
        };
    }
    let absolute = |first: usize, last: i64| if last >= 0 { last + first as i64 } else { last };
    if let [
        KeyFacts {
            begin: BeginSearch::Index(first),
            find: FindKeys::Range(last, step, _),
            ..
        },
    ] = facts.keys[..]
    {
        let movable = facts.keys.iter().any(|key| key.has("incomplete"));
        return (first as i64, absolute(first, last), step as i64, movable);
    }
    let mut movable = false;
    let mut range: Option<(usize, i64)> = None;
    for key in &facts.keys {
        let (BeginSearch::Index(first), FindKeys::Range(last, 1, _)) = (key.begin, key.find) else {
            movable = true;
            continue;
        };
        if range.is_some_and(|(_, last)| last != first as i64 - 1) {
            movable = true;
            continue;
        }
        movable |= key.has("incomplete");
        let last = absolute(first, last);
        range = Some(match range {
            // Negative ends are the largest, as unsigned numbers.
            Some((start, end)) => (start.min(first), (end as u64).max(last as u64) as i64),
            None => (first, last),
        });
    }
    match range {
        Some((first, last)) => (first as i64, last, 1, movable),
        None => (0, 0, 0, true),
    }
}

fn write_words(reply: &mut Reply<'_>, words: &[&str]) {
    reply.set(words.len());
    for word in words {
        reply.simple(word);
    }
}

/// One command's record, its subcommands' within.
pub(super) fn write(reply: &mut Reply<'_>, spec: &Spec) {
    let facts = facts::of(spec.name);
    let (first, last, step, movable) = legacy_range(facts, spec);
    let flags: Vec<&str> = FLAGS
        .into_iter()
        .filter(|(bit, name)| match *name {
            "movablekeys" => movable,
            "asking" => matches!(spec.name, "restore-asking"),
            _ => spec.has(*bit),
        })
        .map(|(_, name)| name)
        .collect();
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.int(spec.arity.into());
    write_words(reply, &flags);
    for n in [first, last, step] {
        reply.int(n);
    }
    let categories: Vec<String> = categories(spec)
        .into_iter()
        .map(|name| format!("@{name}"))
        .collect();
    write_words(
        reply,
        &categories.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    reply.set(facts.tips.len());
    for tip in &facts.tips {
        reply.bulk(tip.as_bytes());
    }
    reply.set(facts.keys.len());
    for key in &facts.keys {
        write_key_spec(reply, key);
    }
    if spec.subcommands.is_empty() {
        reply.set(0);
    } else {
        reply.array(spec.subcommands.len());
        for sub in spec.subcommands {
            write(reply, sub);
        }
    }
}

fn write_key_spec(reply: &mut Reply<'_>, key: &KeyFacts) {
    reply.map(3 + usize::from(!key.notes.is_empty()));
    if !key.notes.is_empty() {
        reply.bulk(b"notes");
        reply.bulk(key.notes.as_bytes());
    }
    reply.bulk(b"flags");
    write_words(reply, &key.flags);
    reply.bulk(b"begin_search");
    let head = |reply: &mut Reply<'_>, kind: &str, fields: usize| {
        reply.map(2);
        reply.bulk(b"type");
        reply.bulk(kind.as_bytes());
        reply.bulk(b"spec");
        reply.map(fields);
    };
    let number = |reply: &mut Reply<'_>, name: &str, value: i64| {
        reply.bulk(name.as_bytes());
        reply.int(value);
    };
    match key.begin {
        BeginSearch::Unknown => head(reply, "unknown", 0),
        BeginSearch::Index(index) => {
            head(reply, "index", 1);
            number(reply, "index", index as i64);
        }
        BeginSearch::Keyword(word, from) => {
            head(reply, "keyword", 2);
            reply.bulk(b"keyword");
            reply.bulk(word.as_bytes());
            number(reply, "startfrom", from);
        }
    }
    reply.bulk(b"find_keys");
    match key.find {
        FindKeys::Unknown => head(reply, "unknown", 0),
        FindKeys::Range(last, step, limit) => {
            head(reply, "range", 3);
            number(reply, "lastkey", last);
            number(reply, "keystep", step as i64);
            number(reply, "limit", limit as i64);
        }
        FindKeys::KeyNum(count, first, step) => {
            head(reply, "keynum", 3);
            number(reply, "keynumidx", count as i64);
            number(reply, "firstkey", first as i64);
            number(reply, "keystep", step as i64);
        }
    }
}
