//! The same random users, logins and commands on both servers.

use super::vocabulary::{command, rules};
use super::{error, field, start, texts};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redrock_integration_tests::process::{Kind, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::collections::BTreeSet;

const USERS: [&str; 4] = ["default", "alice", "bob", "carol"];

/// Connections to both servers that say the same.
struct Both {
    ours: Client,
    theirs: Client,
}

/// 7.2's words in those of 7.0.
fn in_words_of_7_0(text: &str) -> String {
    if let Some((_, rest)) = text.split_once(" has no permissions to ") {
        let start = if text.starts_with("NOPERM") {
            "NOPERM this user"
        } else {
            "This user"
        };
        return format!("{start} has no permissions to {rest}");
    }
    let one_of = |what: &str| {
        format!("NOPERM this user has no permissions to access one of the {what} used as arguments")
    };
    match text {
        "NOPERM No permissions to access a key" => one_of("keys"),
        "NOPERM No permissions to access a channel" => one_of("channels"),
        other => other.to_owned(),
    }
}

fn normal(reply: Reply) -> Reply {
    match reply {
        Reply::Error(text) => Reply::Error(in_words_of_7_0(&text)),
        Reply::Bulk(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Reply::Bulk(in_words_of_7_0(&text).into_bytes()),
            Err(error) => Reply::Bulk(error.into_bytes()),
        },
        other => other,
    }
}

impl Both {
    fn ask(&mut self, words: &[String]) -> anyhow::Result<(Reply, Reply)> {
        Ok((self.ours.run(words)?, self.theirs.run(words)?))
    }

    /// The common answer.
    fn same(&mut self, words: &[String], context: &str) -> anyhow::Result<Reply> {
        let (ours, theirs) = self.ask(words)?;
        let (ours, theirs) = (normal(ours), normal(theirs));
        anyhow::ensure!(
            ours == theirs || is_known(words, &ours, &theirs),
            "{context}\n{words:?}\n  ours   {ours:?}\n  theirs {theirs:?}"
        );
        Ok(ours)
    }
}

/// Where 7.2 answers otherwise.
fn is_known(words: &[String], ours: &Reply, theirs: &Reply) -> bool {
    let text = |reply: &Reply| match reply {
        Reply::Error(text) => text.clone(),
        other => other.text(),
    };
    let (ours, theirs) = (text(ours), text(theirs));
    let name = words.first().map(|word| word.to_ascii_lowercase());
    match name.as_deref() {
        // 7.0 asks for all keys before it looks at BY and GET, 7.2 at those that need it.
        Some("sort" | "sort_ro") => ours.contains("of SORT denied") && theirs.contains("of SORT"),
        _ => false,
    }
}

fn owned(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// What GETUSER says but the command rules, which 7.0 words anew.
fn shown(client: &mut Client, user: &str) -> anyhow::Result<Vec<Reply>> {
    let reply = client.run(&["ACL", "GETUSER", user])?;
    // New users of 7.0 have no flag for the default.
    let flags = field(&reply, "flags")
        .map(Reply::elements)
        .unwrap_or_default();
    let is_told = |flag: &Reply| flag.text() != "sanitize-payload";
    let flags = Reply::Array(flags.into_iter().filter(is_told).collect());
    let mut facts: Vec<Reply> = ["passwords", "keys", "channels"]
        .iter()
        .filter_map(|name| field(&reply, name))
        .chain([flags])
        .collect();
    for selector in field(&reply, "selectors")
        .map(Reply::elements)
        .unwrap_or_default()
    {
        facts.extend(
            ["keys", "channels"]
                .iter()
                .filter_map(|name| field(&selector, name)),
        );
    }
    // We write this pattern so that it can be read back when others follow.
    for fact in &mut facts {
        if let Reply::Bulk(rules) = fact {
            *rules = String::from_utf8_lossy(rules)
                .replace("%RW~*", "~*")
                .into_bytes();
        }
    }
    Ok(facts)
}

/// Entries of ACL LOG without what need not be the same.
fn denials(client: &mut Client) -> anyhow::Result<Vec<Vec<String>>> {
    let entries = client.run(&["ACL", "LOG", "1000"])?.elements();
    let facts = |entry: &Reply| {
        ["count", "reason", "context", "object", "username"]
            .iter()
            .filter_map(|name| Some(field(entry, name)?.text()))
            .collect()
    };
    Ok(entries.iter().map(facts).collect())
}

/// Changes a user on both, then tries commands as that user.
fn step(admin: &mut Both, random: &mut StdRng, connect: &Connect<'_>) -> anyhow::Result<()> {
    let user = USERS[random.random_range(1..USERS.len())];
    let mut words = owned(&format!("ACL SETUSER {user}"));
    words.extend(rules(random));
    let said = words.join(" ");
    admin.same(&words, "SETUSER")?;
    let (ours, theirs) = (
        shown(&mut admin.ours, user)?,
        shown(&mut admin.theirs, user)?,
    );
    anyhow::ensure!(
        ours == theirs,
        "{said}\n  ours   {ours:?}\n  theirs {theirs:?}"
    );
    round_trip(&mut admin.ours, user)?;
    for _ in 0..10 {
        let mut words = owned(&format!("ACL DRYRUN {user}"));
        words.extend(command(random));
        admin.same(&words, &said)?;
    }
    let mut session = connect()?;
    let password = ["one", "two", ""][random.random_range(0..3)];
    session.same(&["AUTH".into(), user.into(), password.into()], &said)?;
    for _ in 0..20 {
        let words = command(random);
        session.same(&words, &said)?;
    }
    if random.random_bool(0.1) {
        admin.same(&owned(&format!("ACL DELUSER {user} nobody")), "")?;
    }
    Ok(())
}

type Connect<'a> = dyn Fn() -> anyhow::Result<Both> + 'a;

/// A user made from our line of another is described by the same line.
fn round_trip(client: &mut Client, user: &str) -> anyhow::Result<()> {
    let find = |client: &mut Client, user: &str| -> anyhow::Result<Option<String>> {
        let lines = texts(client.run(&["ACL", "LIST"])?);
        let start = format!("user {user} ");
        Ok(lines
            .iter()
            .find_map(|line| line.strip_prefix(&start).map(str::to_owned)))
    };
    let Some(line) = find(client, user)? else {
        return Ok(());
    };
    let mut words = vec!["ACL", "SETUSER", "copy"];
    words.extend(line.split(' '));
    anyhow::ensure!(client.run(&words)? == Reply::Status("OK".into()), "{line}");
    let copy = find(client, "copy")?;
    client.ok("ACL DELUSER copy")?;
    anyhow::ensure!(copy.as_ref() == Some(&line), "{line}\n{copy:?}");
    Ok(())
}

#[test]
fn users_may_do_what_redis_lets_them_do() {
    if !has_redis() {
        return;
    }
    let told = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seed = told("RR_SEED").unwrap_or(1);
    println!("seed {seed} (RR_SEED repeats it)");
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let ours = start(Kind::RedRock, folders[0].path(), &[]).unwrap();
    let theirs = start(Kind::Redis, folders[1].path(), &[]).unwrap();
    let connect = || {
        Ok(Both {
            ours: ours.client()?,
            theirs: theirs.client()?,
        })
    };
    let mut admin = connect().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    for number in 0..150 * told("RR_SCALE").unwrap_or(1) {
        if let Err(error) = step(&mut admin, &mut random, &connect) {
            panic!("step {number}, seed {seed}: {error:?}");
        }
        if number % 25 == 0 {
            let (ours, theirs) = (
                denials(&mut admin.ours).unwrap(),
                denials(&mut admin.theirs).unwrap(),
            );
            assert_eq!(ours, theirs, "step {number}, seed {seed}");
            admin.same(&owned("ACL LOG RESET"), "").unwrap();
            admin.same(&owned("ACL USERS"), "").unwrap();
            admin.same(&owned("FLUSHALL"), "").unwrap();
        }
    }
}

/// All forms of the commands, right and wrong.
const FORMS: &[&str] = &[
    "ACL",
    "ACL NOSUCH",
    "ACL CAT",
    "ACL CAT nosuch",
    "ACL CAT a b",
    "ACL DELUSER",
    "ACL DELUSER default",
    "ACL DELUSER nobody",
    "ACL DRYRUN nobody get k",
    "ACL DRYRUN default nosuch k",
    "ACL DRYRUN default get",
    "ACL DRYRUN default config nosuch",
    "ACL DRYRUN default get k",
    "ACL GENPASS 0",
    "ACL GENPASS 4097",
    "ACL GENPASS x",
    "ACL GENPASS 1 2",
    "ACL GETUSER nobody",
    "ACL GETUSER",
    "ACL HELP",
    "ACL LOAD",
    "ACL SAVE",
    "ACL LOG",
    "ACL LOG x",
    "ACL LOG -5",
    "ACL LOG 1 2",
    "ACL LOG RESET",
    "ACL SETUSER",
    "ACL SETUSER a on (~x +get",
    "ACL SETUSER a on (~x +get -get )",
    "ACL SETUSER a resetpass nopass (",
    "ACL USERS",
    "ACL USERS x",
    "ACL WHOAMI",
    "AUTH x",
    "AUTH nobody x",
    "AUTH a b c",
    "HELLO 2 AUTH nobody x",
    "CLIENT KILL USER nobody",
    "ACL SETUSER default >secret",
    "AUTH wrong",
    "AUTH secret",
    "CONFIG SET requirepass other",
    "AUTH secret",
    "AUTH other",
    "AUTH default other",
    "CONFIG SET requirepass \"\"",
];

#[test]
fn forms_of_the_commands_answer_as_redis() {
    if !has_redis() {
        return;
    }
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let ours = start(Kind::RedRock, folders[0].path(), &[]).unwrap();
    let theirs = start(Kind::Redis, folders[1].path(), &[]).unwrap();
    let mut both = Both {
        ours: ours.client().unwrap(),
        theirs: theirs.client().unwrap(),
    };
    for line in FORMS {
        let words: Vec<String> = owned(line)
            .iter()
            .map(|word| word.replace("\"\"", ""))
            .collect();
        both.same(&words, line).unwrap();
    }
    let generated = both.ours.ok("ACL GENPASS 5").unwrap().text();
    assert!(generated.len() == 2 && generated.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let spaced = ["ACL", "SETUSER", "a b", "on"].map(str::to_owned);
    both.same(&spaced, "").unwrap();
    assert!(
        error(&mut both.ours, "ACL SETUSER a +config|get|x")
            .unwrap()
            .contains("first-arg")
    );
}

#[test]
fn categories_hold_the_commands_that_redis_puts_there() {
    if !has_redis() {
        return;
    }
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let ours = start(Kind::RedRock, folders[0].path(), &[]).unwrap();
    let theirs = start(Kind::Redis, folders[1].path(), &[]).unwrap();
    let (mut ours, mut theirs) = (ours.client().unwrap(), theirs.client().unwrap());
    let commands = |client: &mut Client| -> BTreeSet<String> {
        texts(client.ok("COMMAND LIST").unwrap())
            .into_iter()
            .collect()
    };
    let (known, real): (BTreeSet<_>, BTreeSet<_>) = (commands(&mut ours), commands(&mut theirs));
    let within = |client: &mut Client, category: &str| -> BTreeSet<String> {
        let names = texts(client.run(&["ACL", "CAT", category]).unwrap());
        let both = |name: &String| {
            let command = name.split('|').next().unwrap_or_default().to_owned();
            known.contains(&command)
                && real.contains(&command)
                && !NEW_IN_7_2.contains(&name.as_str())
        };
        names.into_iter().filter(both).collect()
    };
    for category in texts(ours.ok("ACL CAT").unwrap()) {
        let (ours, theirs) = (within(&mut ours, &category), within(&mut theirs, &category));
        let differ = ours.symmetric_difference(&theirs);
        // WAIT blocks in 7.2 only.
        let differ: Vec<_> = differ
            .filter(|name| (category.as_str(), name.as_str()) != ("blocking", "wait"))
            .collect();
        assert!(differ.is_empty(), "{category}: {differ:?}");
    }
}

/// Subcommands that 7.0 has not.
const NEW_IN_7_2: [&str; 4] = [
    "client|no-touch",
    "client|setinfo",
    "cluster|myshardid",
    "module|help",
];
