//! COMMAND LIST, COUNT and INFO against those of a real Redis, word for word.

use crate::wire::{Connection, Reply};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use std::collections::{BTreeMap, BTreeSet};

/// What of COMMAND INFO is compared, in its order; the last is subcommands, which are compared
/// one by one.
const FIELDS: [&str; 9] = [
    "name",
    "arity",
    "flags",
    "first key",
    "last key",
    "step",
    "categories",
    "tips",
    "key specifications",
];

/// Where Redis 7.2, which we follow, describes a command otherwise than 7.0.15: command, field,
/// and what 7.2 changed.
const CHANGED_IN_7_2: &[(&str, &str, &str)] = &[
    ("acl|deluser", "tips", "for all nodes of a cluster"),
    ("acl|save", "tips", "for all nodes of a cluster"),
    ("acl|setuser", "tips", "for all nodes of a cluster"),
    ("blmove", "flags", "scripts may call it"),
    ("blpop", "flags", "scripts may call it"),
    ("brpop", "flags", "scripts may call it"),
    ("brpoplpush", "flags", "scripts may call it"),
    ("bzpopmax", "flags", "scripts may call it"),
    ("bzpopmin", "flags", "scripts may call it"),
    ("client|setname", "tips", "for all nodes of a cluster"),
    ("cluster|shards", "flags", "answers while data is loaded"),
    ("cluster|slots", "flags", "answers while data is loaded"),
    ("command|getkeys", "arity", "the command may be a word"),
    (
        "command|getkeysandflags",
        "arity",
        "the command may be a word",
    ),
    ("config|resetstat", "tips", "for all nodes of a cluster"),
    ("config|rewrite", "tips", "for all nodes of a cluster"),
    ("latency|reset", "tips", "the nodes' numbers are added"),
    ("msetnx", "tips", "not for several shards any more"),
    ("randomkey", "tips", "one of the shards' answers is taken"),
    ("scan", "tips", "the shards' answers are joined"),
    ("wait", "flags", "blocks, and scripts may call it"),
    ("wait", "categories", "blocks"),
    ("zrank", "arity", "takes WITHSCORE"),
    ("zrevrank", "arity", "takes WITHSCORE"),
];

/// Beginnings of the names of commands that are not there yet.
const ABSENT: &[&str] = &[];

fn names(reply: &Reply) -> BTreeSet<String> {
    let names = reply.elements().iter();
    names
        .map(|name| String::from_utf8_lossy(name.bytes()).into_owned())
        .collect()
}

/// All records of a reply to COMMAND, subcommands' too, by full name.
fn records(reply: &Reply, into: &mut BTreeMap<String, Vec<Reply>>) {
    for record in reply.elements() {
        let fields = record.elements();
        let name = fields.first().map(Reply::bytes).unwrap_or_default();
        into.insert(
            String::from_utf8_lossy(name).into_owned(),
            fields.iter().take(FIELDS.len()).cloned().collect(),
        );
        if let Some(subcommands) = fields.get(FIELDS.len()) {
            records(subcommands, into);
        }
    }
}

/// What a server lists and tells.
struct Told {
    listed: BTreeSet<String>,
    records: BTreeMap<String, Vec<Reply>>,
    by_pattern: BTreeSet<String>,
    by_category: BTreeSet<String>,
}

fn told(kind: Kind, protocol: &str) -> anyhow::Result<Told> {
    let folder = tempfile::tempdir()?;
    let options: &[&str] = match kind {
        Kind::Redis => &[],
        Kind::RedRock => &["--companions", "external"],
    };
    let server = Server::start(kind, folder.path(), options)?;
    let mut client = Connection::open(server.port)?;
    client.run(&["HELLO", protocol])?;
    let all = client.run(&["COMMAND"])?;
    let count = client.run(&["COMMAND", "COUNT"])?.int();
    assert_eq!(count, Some(all.elements().len() as i64), "{kind:?}");
    let (mut found, mut again) = (BTreeMap::new(), BTreeMap::new());
    records(&all, &mut found);
    // In any order: that of Redis's hash table, which may change from one call to the next.
    records(&client.run(&["COMMAND", "INFO"])?, &mut again);
    assert_eq!(found, again, "{kind:?}");
    let mut list = |words: &[&str]| -> anyhow::Result<_> {
        let reply = client.run(&[&["COMMAND", "LIST"], words].concat())?;
        let listed = names(&reply);
        assert_eq!(listed.len(), reply.elements().len(), "a name twice");
        Ok(listed)
    };
    let told = Told {
        listed: list(&[])?,
        by_pattern: list(&["FILTERBY", "PATTERN", "C*|*"])?,
        by_category: list(&["FILTERBY", "ACLCAT", "Connection"])?,
        records: found,
    };
    assert!(list(&["FILTERBY", "MODULE", "none"])?.is_empty());
    assert!(list(&["FILTERBY", "ACLCAT", "none"])?.is_empty());
    for wrong in [&["x"][..], &["FILTERBY"], &["FILTERBY", "x", "y"]] {
        let reply = client.run(&[&["COMMAND", "LIST"], wrong].concat())?;
        assert_eq!(reply.bytes(), b"ERR syntax error", "{kind:?} {wrong:?}");
    }
    // One by one, and in any case.
    for name in ["Get", "CONFIG|get", "none", "config|none", "get|x"] {
        let one = client.run(&["COMMAND", "INFO", name])?;
        let known = found_record(&told.records, name);
        let record = one.elements().first().map(Reply::elements);
        assert_eq!(
            record.and_then(|fields| fields.get(..FIELDS.len())),
            known,
            "{kind:?} {name}"
        );
    }
    Ok(told)
}

fn found_record<'a>(records: &'a BTreeMap<String, Vec<Reply>>, name: &str) -> Option<&'a [Reply]> {
    records.get(&name.to_lowercase()).map(Vec::as_slice)
}

/// Of what both know: the names that only one of two lists has.
fn apart(
    ours: &BTreeSet<String>,
    theirs: &BTreeSet<String>,
    known: &Told,
    other: &Told,
) -> Vec<String> {
    ours.symmetric_difference(theirs)
        .filter(|name| known.listed.contains(*name) && other.listed.contains(*name))
        .cloned()
        .collect()
}

#[test]
fn commands_are_listed_and_described_as_by_redis() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    for protocol in ["2", "3"] {
        let (ours, theirs) = (told(Kind::RedRock, protocol)?, told(Kind::Redis, protocol)?);
        for told in [&ours, &theirs] {
            let described: BTreeSet<String> = told.records.keys().cloned().collect();
            assert_eq!(told.listed, described, "COMMAND LIST and COMMAND");
        }
        let missing: Vec<_> = theirs
            .listed
            .difference(&ours.listed)
            .filter(|name| !ABSENT.iter().any(|start| name.starts_with(start)))
            .collect();
        assert!(missing.is_empty(), "only Redis lists {missing:?}");
        for (a, b) in [
            (&ours.by_pattern, &theirs.by_pattern),
            (&ours.by_category, &theirs.by_category),
        ] {
            let apart: Vec<_> = apart(a, b, &ours, &theirs);
            assert!(apart.is_empty(), "only one of both filters {apart:?}");
        }
        let mut differ = Vec::new();
        for (name, record) in &ours.records {
            let Some(other) = theirs.records.get(name) else {
                continue;
            };
            for ((field, a), b) in FIELDS.iter().zip(record).zip(other) {
                let changed = CHANGED_IN_7_2
                    .iter()
                    .any(|(command, what, _)| command == name && what == field);
                if (a == b) == changed {
                    differ.push(format!("{name}, {field}: {a:?}, Redis {b:?}"));
                }
            }
        }
        assert!(differ.is_empty(), "{differ:#?}");
    }
    Ok(())
}
