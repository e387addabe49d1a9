//! `docs/commands.md` tells of every command of Redis 7.2 whether it is here. It is made from what
//! a server says of its own table, from the list of Redis's commands and from notes
//! (`fixtures/redis-commands-7.2.tsv`, `fixtures/command-notes.tsv`). After a change of either:
//!
//! ```sh
//! make docs
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::{Client, Reply};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The groups in the order of the document, with their headings.
const GROUPS: &[(&str, &str)] = &[
    ("string", "Strings"),
    ("bitmap", "Bitmaps"),
    ("hyperloglog", "HyperLogLogs"),
    ("list", "Lists"),
    ("hash", "Hashes"),
    ("set", "Sets"),
    ("sorted_set", "Sorted sets"),
    ("geo", "Geospatial"),
    ("stream", "Streams"),
    ("generic", "Keys of any type"),
    ("transactions", "Transactions"),
    ("pubsub", "Publish/subscribe"),
    ("scripting", "Scripts and functions"),
    ("connection", "Connections"),
    ("server", "Server"),
    ("cluster", "Cluster"),
    ("sentinel", "Sentinel"),
];

/// What Redis says of a command; a subcommand's name is `container|name`.
struct Command {
    name: String,
    group: String,
    since: String,
    deprecated: String,
}

/// A line of the notes.
struct Note {
    pattern: String,
    kind: String,
    text: String,
    /// Whether the server answered the line's call with the line's error.
    confirmed: bool,
}

/// What the document says of a command.
enum State {
    Here,
    Refused,
    Absent,
}

fn root() -> std::path::PathBuf {
    "..".into()
}

/// The lines of a table of the fixtures, as fields.
fn table(name: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("integration-tests/fixtures").join(name));
    let text = text.unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

fn redis_commands() -> Vec<Command> {
    let field = |fields: &[String], at: usize| fields.get(at).cloned().unwrap_or_default();
    let rows = table("redis-commands-7.2.tsv");
    rows.iter()
        .map(|fields| Command {
            name: field(fields, 0),
            group: field(fields, 1),
            since: field(fields, 2),
            deprecated: field(fields, 3),
        })
        .collect()
}

fn notes(client: &mut Client) -> Vec<Note> {
    let rows = table("command-notes.tsv");
    rows.iter()
        .map(|fields| {
            let [pattern, kind, text, rest @ ..] = fields.as_slice() else {
                panic!("three fields: {fields:?}");
            };
            let confirmed = match (kind.as_str(), rest) {
                ("refused", [call, error]) => {
                    let words: Vec<&str> = call.split(' ').collect();
                    let reply = client.run(&words).unwrap();
                    matches!(reply, Reply::Error(text) if text.starts_with(error))
                }
                ("note" | "absent", []) => true,
                _ => panic!("a kind and its fields: {fields:?}"),
            };
            Note {
                pattern: pattern.clone(),
                kind: kind.clone(),
                text: text.clone(),
                confirmed,
            }
        })
        .collect()
}

impl Note {
    fn is_of(&self, name: &str) -> bool {
        match self.pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => self.pattern == name,
        }
    }
}

/// What COMMAND DOCS says of each command of the server's table: field by field.
fn served(client: &mut Client) -> BTreeMap<String, BTreeMap<String, String>> {
    let listed = client.ok("COMMAND LIST").unwrap().elements();
    let names: Vec<String> = listed.iter().map(Reply::text).collect();
    let mut served = BTreeMap::new();
    for name in names {
        let docs = client.run(&["COMMAND", "DOCS", &name]).unwrap().elements();
        let fields = docs.into_iter().nth(1).unwrap_or(Reply::Nil).elements();
        let pairs = fields.chunks_exact(2);
        let fields = pairs.map(|pair| (pair[0].text(), pair[1].text())).collect();
        served.insert(name, fields);
    }
    served
}

/// As people write it: `CLIENT KILL`.
fn shown(name: &str) -> String {
    format!("`{}`", name.to_uppercase().replace('|', " "))
}

/// What is to be said of a command; panics if nobody says why it is not there.
fn state(command: &Command, here: bool, notes: &[Note]) -> (State, Vec<String>) {
    let of = |kind: &str| -> Vec<String> {
        let found = notes
            .iter()
            .filter(|note| note.kind == kind && note.confirmed && note.is_of(&command.name));
        found.map(|note| note.text.clone()).collect()
    };
    let (state, mut said) = if !here {
        let reasons = of("absent");
        assert!(
            !reasons.is_empty(),
            "{} is not there: say why in integration-tests/fixtures/command-notes.tsv",
            command.name
        );
        (State::Absent, reasons)
    } else {
        match of("refused") {
            reasons if reasons.is_empty() => (State::Here, Vec::new()),
            reasons => (State::Refused, reasons),
        }
    };
    if here {
        said.extend(of("note"));
    }
    if !command.deprecated.is_empty() {
        said.push(format!("deprecated since {}", command.deprecated));
    }
    (state, said)
}

const HEAD: &str = "# Commands

Every command and subcommand of Redis 7.2.6, and whether it is here. **yes**: with the replies,
errors and effects of Redis, which tests compare command by command; what differs stands beside it.
**refused**: known, and always answered with Redis's error for a feature that is off. **no**:
unknown, with the reason. The commands of the disk tier are in [commands-rock.md](commands-rock.md).

Made by `make docs` from the server's own table; a test fails when this file is out of date.
";

fn document(
    commands: &[Command],
    served: &BTreeMap<String, BTreeMap<String, String>>,
    notes: &[Note],
) -> String {
    let mut body = String::new();
    let mut counts = [0; 3];
    for (group, heading) in GROUPS {
        write!(
            body,
            "\n## {heading}\n\n| Command | Since | Here | Notes |\n|---|---|---|---|\n"
        )
        .unwrap();
        for command in commands.iter().filter(|command| command.group == *group) {
            let here = served.contains_key(&command.name);
            let (state, said) = state(command, here, notes);
            let (place, word) = match state {
                State::Here => (0, "yes"),
                State::Refused => (1, "refused"),
                State::Absent => (2, "no"),
            };
            counts[place] += 1;
            let (name, since) = (shown(&command.name), &command.since);
            writeln!(body, "| {name} | {since} | {word} | {} |", said.join("; ")).unwrap();
        }
    }
    let [here, refused, absent] = counts;
    let total = commands.len();
    assert_eq!(total, here + refused + absent, "a group is missing");
    let own = served
        .keys()
        .filter(|name| !commands.iter().any(|command| command.name == **name));
    let since = |name: &str| served.get(name).and_then(|fields| fields.get("since"));
    let is_later = |name: &&String| {
        since(name).is_some_and(|since| since.starts_with("7.4") || since.starts_with("8."))
    };
    let (later, own): (Vec<&String>, Vec<&String>) = own.partition(is_later);
    let list = |names: Vec<&String>| {
        let names: Vec<String> = names.into_iter().map(|name| shown(name)).collect();
        names.join(", ")
    };
    let (later, own) = (list(later), list(own));
    format!(
        "{HEAD}\nOf {total}: {here} yes, {refused} refused, {absent} no. From later versions of \
         Redis: {later}. Only here: {own}.\n{body}"
    )
}

#[test]
fn the_document_of_commands_is_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--companions", "external"];
    let server = Server::start(Kind::RedRock, folder.path(), &options).unwrap();
    let mut client = server.client().unwrap();
    let (commands, served) = (redis_commands(), served(&mut client));
    // The table says of each command what Redis says.
    for command in &commands {
        if let Some(fields) = served.get(&command.name) {
            let said = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
            let facts = (said("group"), said("since"));
            // COMMAND DOCS writes the group with a dash.
            let expected = command.group.replace('_', "-");
            assert_eq!(
                facts,
                (expected.as_str(), command.since.as_str()),
                "{}",
                command.name
            );
        }
    }
    let new = document(&commands, &served, &notes(&mut client));
    let path = root().join("docs/commands.md");
    if std::env::var_os("RR_TIDY_UPDATE").is_some() {
        std::fs::write(&path, new).unwrap();
        return;
    }
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    let first = old.lines().zip(new.lines()).find(|(old, new)| old != new);
    assert!(
        old == new,
        "docs/commands.md is out of date: run `make docs`. Now there, and as it should be: {first:#?}"
    );
}
