use super::check::{Denial, check};
use super::log::{AclLog, Context, Reason};
use super::rules::{ApplyError, RuleError, changed, merged};
use super::table::{Acl, Users};
use super::user::User;
use super::{category, file};
use crate::command::{Args, registry};

fn words(text: &str) -> Vec<&[u8]> {
    text.split(' ').map(str::as_bytes).collect()
}

fn user(rules: &str) -> User {
    changed(&User::new(false), &words(rules), false).unwrap()
}

fn described(rules: &str) -> String {
    String::from_utf8(user(rules).describe()).unwrap()
}

fn error(rules: &str) -> RuleError {
    match changed(&User::new(false), &words(rules), false) {
        Err(ApplyError::Rule(_, why)) => why,
        other => panic!("{rules}: {other:?}"),
    }
}

fn may(user: &User, command: &str) -> Result<(), Denial> {
    let argv = words(command);
    let args = Args::new(&argv);
    check(user, registry::resolve(&args).unwrap(), &args)
}

#[test]
fn descriptions_bring_the_same_user_back() {
    for rules in [
        "",
        "on nopass ~* &* +@all",
        "on >secret >other ~cached:* %R~read:* %W~write:* %RW~both +get -set",
        "+@all -@dangerous +config|get -config|set +debug|object",
        "-@all +@read -get (~x +set &news.*) (%R~y +@all -@admin)",
        "skip-sanitize-payload off &a &b resetchannels &c +select|0 +select|1",
        "allkeys allchannels allcommands -config +config|get",
        "%R~* %W~* ~other",
    ] {
        let first = user(rules);
        let line = first.describe();
        let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let again = changed(&User::new(true), &parts, true).unwrap();
        assert_eq!(again, first, "{}", String::from_utf8_lossy(&line));
        assert_eq!(again.describe(), line);
    }
}

#[test]
fn descriptions_have_the_form_of_redis() {
    let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    for (rules, line) in [
        ("on", "on sanitize-payload resetchannels -@all".to_owned()),
        (
            "on >secret ~a %R~b &c +get (+@read ~k)",
            format!(
                "on sanitize-payload #{hash} ~a %R~b resetchannels &c -@all +get \
                 (~k resetchannels -@all +@read)"
            ),
        ),
        (
            "nopass allkeys allchannels allcommands",
            "off nopass sanitize-payload ~* &* +@all".to_owned(),
        ),
        (
            "%R~a %W~a +@all -get -config|set -config +GET",
            "off sanitize-payload ~a resetchannels +@all -config +get".to_owned(),
        ),
    ] {
        assert_eq!(described(rules), line, "{rules}");
    }
}

#[test]
fn wrong_rules_are_told_apart() {
    for (rules, why) in [
        ("nonsense", RuleError::Syntax),
        ("%~x", RuleError::Syntax),
        ("%RX~x", RuleError::Syntax),
        ("%", RuleError::Syntax),
        ("+select|", RuleError::Syntax),
        ("+nosuch", RuleError::Unknown),
        ("-nosuch", RuleError::Unknown),
        ("+@nosuch", RuleError::Unknown),
        ("+config|nosuch", RuleError::Unknown),
        ("-select|0", RuleError::Unknown),
        ("~* ~x", RuleError::KeysAfterAll),
        ("&* &x", RuleError::ChannelsAfterAll),
        ("<nosuch", RuleError::NoSuchPassword),
        ("#12", RuleError::BadHash),
        ("!12", RuleError::BadHash),
        (
            "+config|get|maxmemory",
            RuleError::FirstArgumentOfSubcommand,
        ),
        ("(on)", RuleError::Syntax),
    ] {
        assert_eq!(error(rules), why, "{rules}");
    }
}

#[test]
fn selectors_may_stand_in_several_words() {
    let joined = merged(&words("on (~a +get) off")).unwrap();
    assert_eq!(
        joined,
        [b"on".to_vec(), b"(~a +get)".to_vec(), b"off".to_vec()]
    );
    assert_eq!(merged(&words("on (~a +get")), Err(b"(~a".to_vec()));
    let refused = changed(&User::new(false), &words("(~a +get"), false).unwrap_err();
    let text = String::from_utf8(refused.text()).unwrap();
    assert_eq!(
        text,
        "Unmatched parenthesis in acl selector starting at '(~a'."
    );
}

#[test]
fn commands_subcommands_and_first_arguments_are_allowed_one_by_one() {
    let some = user("~* +config|get +select|0 +@string -get");
    assert_eq!(may(&some, "config get x"), Ok(()));
    assert_eq!(may(&some, "config set x y"), Err(Denial::Command));
    assert_eq!(may(&some, "select 0"), Ok(()));
    assert_eq!(may(&some, "select 1"), Err(Denial::Command));
    assert_eq!(may(&some, "set a b"), Ok(()));
    assert_eq!(may(&some, "get a"), Err(Denial::Command));
    assert_eq!(may(&some, "auth a"), Ok(()), "everybody may log in");
    let all_but = user("~* +@all -config +config|get");
    assert_eq!(may(&all_but, "config get x"), Ok(()));
    assert_eq!(may(&all_but, "config resetstat"), Err(Denial::Command));
    assert!(!all_but.is_all_powerful());
}

#[test]
fn keys_are_checked_by_how_they_are_used() {
    let some = user("+@all %R~r:* %W~w:* ~b:*");
    for (command, expected) in [
        ("get r:1", Ok(())),
        ("get w:1", Err(Denial::Key(1))),
        ("get b:1", Ok(())),
        ("set w:1 x", Ok(())),
        ("set w:1 x get", Err(Denial::Key(1))),
        ("set b:1 x get", Ok(())),
        ("set r:1 x", Err(Denial::Key(1))),
        ("copy r:1 w:1", Ok(())),
        ("copy r:1 r:2", Err(Denial::Key(2))),
        ("mset w:1 x r:1 x", Err(Denial::Key(3))),
        ("bitfield r:1 get u8 0", Ok(())),
        ("bitfield r:1 set u8 0 1", Err(Denial::Key(1))),
        ("sort r:1 store w:1", Ok(())),
        ("sort r:1 store r:2", Err(Denial::Key(3))),
        ("sunionstore w:1 r:1 r:2 x", Err(Denial::Key(4))),
        ("zunionstore w:1 2 r:1 w:2", Err(Denial::Key(4))),
        ("exists x", Err(Denial::Key(1))),
        ("ping x", Ok(())),
    ] {
        assert_eq!(may(&some, command), expected, "{command}");
    }
}

#[test]
fn channels_are_checked_as_names_and_patterns_as_they_stand() {
    let some = user("+@all &news.*");
    for (command, expected) in [
        ("publish news.a x", Ok(())),
        ("publish x news.a", Err(Denial::Channel(1))),
        ("subscribe news.a news.b", Ok(())),
        ("subscribe news.a b", Err(Denial::Channel(2))),
        ("ssubscribe b", Err(Denial::Channel(1))),
        ("psubscribe news.*", Ok(())),
        ("psubscribe news.a", Err(Denial::Channel(1))),
        ("unsubscribe b", Ok(())),
    ] {
        assert_eq!(may(&some, command), expected, "{command}");
    }
}

#[test]
fn one_selector_must_allow_the_whole_command() {
    let some = user("~a +get (~b +set) (~c +get +set)");
    assert_eq!(may(&some, "get a"), Ok(()));
    assert_eq!(may(&some, "set b x"), Ok(()));
    assert_eq!(may(&some, "get b"), Err(Denial::Key(1)));
    assert_eq!(may(&some, "del b"), Err(Denial::Command));
    assert!(!some.is_all_powerful());
    assert!(user("(~* &* +@all)").is_all_powerful());
}

#[test]
fn passwords_count_while_the_user_is_on() {
    let mut some = user("on >a >b");
    assert!(some.accepts(b"a") && some.accepts(b"b") && !some.accepts(b"c"));
    some = changed(&some, &words("<a"), false).unwrap();
    assert!(!some.accepts(b"a") && some.accepts(b"b"));
    some = changed(&some, &words("nopass"), false).unwrap();
    assert!(some.accepts(b"anything"));
    some = changed(&some, &words("off"), false).unwrap();
    assert!(!some.accepts(b"anything"));
    some = changed(&some, &words("on resetpass"), false).unwrap();
    assert!(!some.accepts(b"anything") && !some.accepts(b""));
}

#[test]
fn accounts_follow_their_rules_and_removed_ones_allow_nothing() {
    let acl = Acl::new(Some(b"secret"));
    assert!(acl.password_needed() && !acl.default_is_open());
    assert!(acl.authenticate(b"default", b"secret").is_some());
    acl.set_default_password(None);
    assert!(!acl.password_needed());
    acl.put(b"alice", user("on nopass ~* &* +@all"));
    let alice = acl.authenticate(b"alice", b"").unwrap();
    assert!(!alice.is_restricted());
    acl.put(b"alice", user("on nopass ~* +@all"));
    assert!(alice.is_restricted());
    assert!(acl.remove(b"alice") && !acl.remove(b"alice") && !acl.remove(b"default"));
    assert_eq!(may(&alice.user(), "get x"), Err(Denial::Command));
    acl.put(b"bob", User::new(false));
    let users = Users::from([
        (b"carol".to_vec(), user("on")),
        (b"default".to_vec(), user("on")),
    ]);
    assert_eq!(acl.replace_all(users), [b"bob".to_vec()]);
    let names: Vec<_> = acl
        .all()
        .iter()
        .map(|account| account.name().to_vec())
        .collect();
    assert_eq!(names, [b"carol".to_vec(), b"default".to_vec()]);
    assert!(acl.password_needed() && acl.default_account().is_restricted());
}

#[test]
fn files_are_read_whole_or_not_at_all() {
    let accounts = Acl::new(None);
    accounts.put(b"alice", user("on >x ~a +get (~b +set)"));
    let text = file::content(&accounts.all());
    let users = file::parse(&text, "f", false).unwrap();
    assert_eq!(users.len(), 2);
    assert_eq!(
        users[b"alice".as_slice()],
        *accounts.find(b"alice").unwrap().user()
    );
    for (text, part) in [
        (
            "\nuser a on\nnonsense",
            "f:3 should start with user keyword",
        ),
        (
            "user a on\nuser a off",
            "Duplicate user 'a' found on line 2",
        ),
        (
            "user a +nosuch ~* ~x nonsense",
            "f:1: Error in applying operation '+nosuch'",
        ),
        ("user a ~* ~x nonsense", "f:1: Adding a pattern after the *"),
        ("user a (~x +get", "f:1: Unmatched parenthesis"),
        ("user a\x0bb on", "contains invalid characters"),
    ] {
        let error = file::parse(text.as_bytes(), "f", false).unwrap_err();
        assert!(error.contains(part), "{error}");
        assert!(error.ends_with("no change to the previously active ACL rules was performed"));
    }
}

#[test]
fn denials_that_repeat_are_one_entry_and_old_ones_leave() {
    let mut log = AclLog::default();
    let command = (Reason::Command, Context::TopLevel);
    let mut add = |object: &[u8], now_ms| log.add(command, object, b"u", Vec::new(), now_ms, 2);
    add(b"a", 0);
    add(b"b", 1);
    add(b"a", 60_000);
    add(b"a", 120_001);
    let shown: Vec<_> = log
        .newest(10)
        .map(|e| (e.object.clone(), e.count, e.id))
        .collect();
    assert_eq!(shown, [(b"a".to_vec(), 1, 2), (b"a".to_vec(), 2, 0)]);
    log.clear();
    assert_eq!(log.newest(10).len(), 0);
}

#[test]
fn every_command_has_a_category_of_speed() {
    let speeds = category::bit(b"FAST").unwrap() | category::bit(b"slow").unwrap();
    for spec in registry::numbered() {
        assert_eq!(
            (category::of(spec) & speeds).count_ones(),
            1,
            "{}",
            spec.name
        );
    }
    assert_eq!(category::bit(b"all"), None);
}
