use super::*;

fn sources(
    arguments: &[&str],
    environment: &[(&str, &str)],
    stdin: &str,
    dir: &Path,
) -> Result<Loaded, LoadError> {
    let arguments = arguments.iter().map(OsString::from);
    let super::super::arguments::Invocation::Run(line) = super::super::arguments::parse(arguments)
    else {
        panic!("not a run")
    };
    let environment = environment
        .iter()
        .map(|(n, v)| (OsString::from(n), OsString::from(v)));
    load(&line, environment, &mut stdin.as_bytes(), dir)
}

fn shown(config: &Config, name: &str) -> String {
    String::from_utf8(config.settings.show(find(name.as_bytes()).unwrap().0)).unwrap()
}

#[test]
fn later_sources_win_and_save_lines_add_up_after_the_first() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("redis.conf"),
        "# comment\n\n  PORT 7001 \r\nhz 20\ntimeout 5\nsave 900 1\nsave 60 100\nmaxclients 9\n",
    )
    .unwrap();
    let loaded = sources(
        &["redis.conf", "--maxclients", "12", "--save", "30", "5", "-"],
        &[
            ("REDROCK_MAXCLIENTS", "11"),
            ("REDROCK_TIMEOUT", "7"),
            ("HOME", "/"),
        ],
        "hz 30",
        dir.path(),
    )
    .unwrap();
    let config = loaded.config;
    assert_eq!(
        (config.port, config.hz, config.network.clients_max),
        (7001, 30, 12)
    );
    assert_eq!(config.network.idle_timeout_s, 7);
    assert_eq!(shown(&config, "save"), "900 1 60 100 30 5");
    assert_eq!(
        config.file.as_deref(),
        Some(&*dir.path().join("redis.conf"))
    );
    assert_eq!(loaded.notices, [""; 0]);
}

#[test]
fn includes_may_have_wildcards_and_are_read_where_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    write("conf.d/a.conf", "hz 50\nport 1");
    write("conf.d/b.conf", "hz 60");
    write("conf.d/.hidden.conf", "nonsense");
    write(
        "main.conf",
        "include conf.d/*.conf\nport 2\ninclude none*.conf\n",
    );
    let config = sources(&["main.conf"], &[], "", dir.path()).unwrap().config;
    assert_eq!((config.hz, config.port), (60, 2));
    write("bad.conf", "include missing.conf");
    let error = sources(&["bad.conf"], &[], "", dir.path()).unwrap_err();
    assert!(
        error
            .reason
            .starts_with("Fatal error, can't open config file"),
        "{error}"
    );
    assert!(
        error
            .reason
            .ends_with("missing.conf': No such file or directory"),
        "{error}"
    );
    write("loop.conf", "include loop.conf");
    let error = sources(&["loop.conf"], &[], "", dir.path()).unwrap_err();
    assert_eq!(error.reason, "Too many levels of include");
}

#[test]
fn a_refused_line_is_named_with_its_place_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    for (line, reason) in [
        ("port", "wrong number of arguments"),
        ("port 1 2", "wrong number of arguments"),
        ("port x", "argument couldn't be parsed into an integer"),
        ("requirepass \"a", "Unbalanced quotes in configuration line"),
        ("nope 1", "Bad directive or wrong number of arguments"),
        ("save 1", "Invalid save parameters"),
        ("dir missing", "No such file or directory"),
        (
            "dbfilename a/b",
            "dbfilename can't be a path, just a filename",
        ),
        (
            "client-output-buffer-limit normal 1",
            "Wrong number of arguments in buffer limit configuration.",
        ),
        ("replicaof a 70000", "Invalid master port"),
        ("rename-command nope x", "No such command in rename-command"),
        (
            "rename-command get set",
            "Target command name already exists",
        ),
        ("loadmodule x.so", "Modules can't be loaded here"),
        (
            "sentinel monitor a",
            "sentinel directive while not in sentinel mode",
        ),
    ] {
        std::fs::write(dir.path().join("x.conf"), format!("# first\n{line}\n")).unwrap();
        let error = sources(&["x.conf"], &[], "", dir.path()).unwrap_err();
        let place = (Origin::File(dir.path().join("x.conf")), 2, line.to_owned());
        assert_eq!(
            error,
            LoadError {
                place: Some(place),
                reason: reason.into()
            }
        );
    }
    let error = sources(&["--port", "x"], &[], "", dir.path())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("\n*** FATAL CONFIG FILE ERROR (RedRock "),
        "{error}"
    );
    assert!(
        error.contains("command line\n>>> 'port \"x\"'\nargument couldn't"),
        "{error}"
    );
    let error = sources(
        &[],
        &[("REDROCK_REQUIREPASS", "x"), ("REDROCK_HZ", "y")],
        "",
        dir.path(),
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains(">>> 'REDROCK_HZ=\"y\"'")
    );
}

#[test]
fn several_words_may_come_as_one() {
    let dir = Path::new("/");
    let config = sources(
        &["--save", "60 1 30 2", "--bind", "::1 127.0.0.1"],
        &[],
        "",
        dir,
    );
    let config = config.unwrap().config;
    assert_eq!(config.snapshot.points.len(), 2);
    assert_eq!(config.network.bind, ["::1", "127.0.0.1"]);
    let config = sources(&["--save", ""], &[("REDROCK_BIND", "")], "", dir)
        .unwrap()
        .config;
    assert!(config.snapshot.points.is_empty());
    assert!(config.network.bind.is_empty());
}

#[test]
fn what_has_no_effect_is_told_once_and_only_when_it_asks_for_something() {
    let text = "io-threads 4\nio-threads 4\nactivedefrag yes\nactiverehashing yes\n\
                list-max-ziplist-value 1";
    let environment = [
        ("REDROCK_PORT", "tcp://10.0.0.1:6379"),
        ("REDROCK_SERVICE_HOST", "x"),
    ];
    let loaded = sources(&["-"], &environment, text, Path::new("/")).unwrap();
    assert_eq!(
        loaded.notices,
        [
            "These options are accepted and have no effect: activedefrag, io-threads",
            "Ignored as no longer in use: list-max-ziplist-value",
            "These environment variables name no option: REDROCK_PORT, REDROCK_SERVICE_HOST",
        ]
    );
    assert_eq!(loaded.config.port, 6379);
}

#[test]
fn renames_are_kept_for_their_owner() {
    let text = "rename-command GET \"\"\nrename-command set get";
    let config = sources(&["-"], &[], text, Path::new("/")).unwrap().config;
    let names: Vec<_> = config
        .security
        .directives
        .iter()
        .map(|d| d.name.as_str())
        .collect();
    assert_eq!(names, ["rename-command", "rename-command"]);
}

#[test]
fn users_are_checked_where_they_stand() {
    let hash = "user a >x #12";
    let both = "user a on\nhz 10\naclfile users.acl";
    for (text, number, part) in [
        (
            "hz 10\nuser alice on nonsense",
            2,
            "'nonsense': Syntax error",
        ),
        ("user a on\nuser b on\nuser a off", 3, "Duplicate user"),
        ("port 1\nuser a on (~x +get", 2, "'(~x'"),
        ("user a +nosuchcommand", 1, "Unknown command or category"),
        (hash, 1, "#...': The password hash"),
        (both, 1, "but not both"),
        ("aclfile users.acl\nuser a on", 2, "but not both"),
    ] {
        let error = sources(&["-"], &[], text, Path::new("/")).unwrap_err();
        let (origin, at, _) = error.place.clone().unwrap();
        assert_eq!((origin, at), (Origin::Stdin, number), "{text}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let text = "user default on >a ~* &* +@all\nuser b on (~x +get) (%R~y +@read)\naclfile \"\"";
    let config = sources(&["-"], &[], text, Path::new("/")).unwrap().config;
    let names: Vec<_> = config.security.directives.iter().map(|d| &d.name).collect();
    assert_eq!(names, ["user", "user"]);
}

#[test]
fn relative_paths_count_from_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    let text = "dir data\nlogfile x.log\nunixsocket s.sock";
    let config = sources(&["-"], &[], text, dir.path()).unwrap().config;
    let data = dir.path().join("data").canonicalize().unwrap();
    assert_eq!(*config.dir, *data);
    assert_eq!(config.observation.log_file, Some(data.join("x.log")));
    assert_eq!(config.network.unix_socket, Some(data.join("s.sock")));
    assert_eq!(config.memory.tier_dir, data.join("tier"));
    assert_eq!(config.companions.socket_dir, data.join("run"));
}

#[test]
fn encoding_limits_have_one_default() {
    assert_eq!(Config::default().limits, crate::value::Limits::default());
}
