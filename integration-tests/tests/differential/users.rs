//! Users: random rules, what they allow, and commands run as users that may do little.

use crate::families::Family;
use crate::pair::{CHECKS, Pair};
use crate::templates;
use crate::wire::{Reply, Words};
use crate::words::Generator;

/// Steps between comparisons of the whole data sets.
const DATA_INTERVAL: u32 = 150;

const RULES: &[&str] = &[
    "on",
    "on",
    "off",
    "nopass",
    "resetpass",
    ">p1",
    ">p1",
    "<p1",
    ">p2",
    "<p2",
    "#2413fb3709b05939f04cf2e92f7d0897fc2596f9ad0b8a9ea855c7bfebaae892",
    "!2413fb3709b05939f04cf2e92f7d0897fc2596f9ad0b8a9ea855c7bfebaae892",
    "#zz",
    "!00",
    "~*",
    "~k*",
    "~k1",
    "%R~k*",
    "%W~k2",
    "%RW~k3",
    "%X~k",
    "%~",
    "allkeys",
    "resetkeys",
    "&*",
    "&k*",
    "&k1",
    "allchannels",
    "resetchannels",
    "+@all",
    "-@all",
    "+@read",
    "+@write",
    "-@write",
    "+@string",
    "+@list",
    "-@dangerous",
    "-@fast",
    "+@keyspace",
    "+get",
    "-get",
    "+set",
    "-set",
    "+mget",
    "+config|get",
    "-config|set",
    "+client|id",
    "-client|list",
    "+acl|whoami",
    "+object|encoding",
    "+xgroup",
    "+@nosuch",
    "+nosuch",
    "-nosuch|x",
    "+get|x",
    "+select|0",
    "+config|get|x",
    "allcommands",
    "nocommands",
    "reset",
    "(~a* +get)",
    "(+@all ~k1)",
    "(%R~k2 +@read)",
    "(on)",
    "(",
    ")",
    "(+nosuch)",
    "clearselectors",
    "sanitize-payload",
    "skip-sanitize-payload",
    "x",
    "",
];

const COMMANDS: &[&str] = &[
    "ACL GETUSER u1|u2|u3|nosuch|default",
    "ACL LIST",
    "ACL USERS",
    "ACL WHOAMI",
    "ACL DELUSER u1|u2|nosuch ?u3",
    "ACL DELUSER default",
    "ACL CAT ?nosuch",
    "ACL GENPASS ?0|1|256|4096|4097|-1|x",
    "ACL LOG ?RESET|0|1|x|-1",
    "ACL SAVE",
    "ACL LOAD",
    "ACL x",
    "ACL DRYRUN u1|u2|nosuch nosuch",
    "ACL DRYRUN u1",
];

fn set(generator: &mut Generator) -> Words {
    let mut words = generator.undamaged(&["ACL SETUSER u1|u2|u3"]);
    for _ in 0..generator.below(6) {
        words.push(generator.pick(RULES).into());
    }
    words
}

/// A command whose keys and categories vary.
fn work(generator: &mut Generator) -> Words {
    let families = [
        templates::STRINGS,
        templates::LISTS,
        templates::HASHES,
        templates::SETS,
        templates::SORTED_SETS,
    ];
    let family = families[generator.below(families.len() as u32) as usize];
    generator.undamaged(family)
}

/// Drives the family: two connections are users, another one changes them.
pub(crate) fn drive(
    pair: &mut Pair,
    generator: &mut Generator,
    _family: &Family,
    steps: u32,
) -> anyhow::Result<()> {
    pair.line(CHECKS, "ACL LOG RESET")?;
    for step in 1..=steps {
        pair.spill(crate::families::SPILL)?;
        match generator.below(10) {
            0..3 => pair.run(0, &set(generator))?,
            3 => {
                let words = generator.command(COMMANDS);
                let reply = pair.run(0, &words)?;
                if words.get(1).is_some_and(|word| word == b"DELUSER") {
                    // Who is deleted is disconnected.
                    pair.open_anew(&[1, 2])?;
                }
                reply
            }
            4 => {
                let mut words = generator.undamaged(&["ACL DRYRUN u1|u2|u3"]);
                words.extend(work(generator));
                pair.run(0, &words)?
            }
            5 => {
                let at = 1 + generator.below(2) as usize;
                let words = generator.undamaged(&[
                    "AUTH u1|u2|u3|nosuch p1|p1|p2|x",
                    "AUTH u1|u2 p1",
                    "ACL WHOAMI",
                    "PUBLISH k1|x v",
                    "CONFIG GET hz",
                    "SELECT 0|1",
                    "RESET",
                ]);
                pair.run(at, &words)?
            }
            _ => {
                let at = 1 + generator.below(2) as usize;
                pair.run(at, &work(generator))?
            }
        };
        if step % DATA_INTERVAL == 0 {
            pair.compare_data()?;
        }
        if pair.is_hopeless() {
            break;
        }
    }
    pair.line(CHECKS, "ACL DELUSER u1 u2 u3")?;
    Ok(())
}

/// Replies in a form in which both must agree; `None`: as they are.
pub(crate) fn comparable(sub: &str, reply: &Reply) -> Option<Reply> {
    match (sub, reply) {
        ("GENPASS", _) => Some(Reply::Null(b'$')),
        ("USERS", Reply::Many(kind, users)) => {
            let mut users = users.clone();
            users.sort();
            Some(Reply::Many(*kind, users))
        }
        ("CAT", Reply::Many(kind, names)) => {
            let mut names = names.clone();
            names.sort();
            Some(Reply::Many(*kind, names))
        }
        ("LIST", Reply::Many(kind, users)) => {
            let mut users: Vec<_> = users.iter().map(without_commands).collect();
            users.sort();
            Some(Reply::Many(*kind, users))
        }
        ("GETUSER", Reply::Many(..)) => Some(without_default(&without(reply, &["commands"]))),
        ("DRYRUN", Reply::Bulk(kind, text)) => {
            let start = text.windows(4).position(|window| window == b" has");
            let text = text.get(start.unwrap_or_default()..).unwrap_or_default();
            Some(Reply::Bulk(*kind, text.to_vec()))
        }
        ("LOG", Reply::Many(kind, entries)) => {
            let entries = entries.iter().map(|entry| {
                without(
                    entry,
                    &[
                        "age-seconds",
                        "client-info",
                        "entry-id",
                        "timestamp-created",
                        "timestamp-last-updated",
                    ],
                )
            });
            Some(Reply::Many(*kind, entries.collect()))
        }
        _ => None,
    }
}

/// A user's line without the rules about commands: 7.0 writes another list of the same meaning.
fn without_commands(line: &Reply) -> Reply {
    let Reply::Bulk(kind, text) = line else {
        return line.clone();
    };
    let words = text.split(|byte| *byte == b' ');
    let kept = words.filter(|word| {
        let word = word.strip_prefix(b"(").unwrap_or(word);
        !word.starts_with(b"+") && !word.starts_with(b"-") && word != DEFAULT_FLAG
    });
    Reply::Bulk(*kind, kept.collect::<Vec<_>>().join(&b' '))
}

/// 7.2 shows this flag of those who never had another one, too.
const DEFAULT_FLAG: &[u8] = b"sanitize-payload";

fn without_default(user: &Reply) -> Reply {
    match user {
        Reply::Many(kind, elements) => {
            let kept = elements.iter().filter(|one| one.bytes() != DEFAULT_FLAG);
            Reply::Many(*kind, kept.map(without_default).collect())
        }
        other => other.clone(),
    }
}

/// A map, given as pairs, without some of its fields, and so the maps in it.
fn without(map: &Reply, fields: &[&str]) -> Reply {
    let Reply::Many(kind, elements) = map else {
        return map.clone();
    };
    let is_field = |name: &Reply| fields.iter().any(|field| field.as_bytes() == name.bytes());
    let mut kept = Vec::new();
    for pair in elements.chunks(2) {
        match pair {
            [name, _] if is_field(name) => {}
            [name, value] => kept.extend([name.clone(), without(value, fields)]),
            rest => kept.extend(rest.iter().map(|element| without(element, fields))),
        }
    }
    Reply::Many(*kind, kept)
}
