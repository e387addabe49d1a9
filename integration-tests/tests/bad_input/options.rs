//! Configuration that is refused: file, include, command line, standard input, environment.

use crate::tree::{Refusal, listing, run, run_command, unchanged};
use redrock_integration_tests::process::{Kind, Server, binary, free_port, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const FATAL: &str = "*** FATAL CONFIG FILE ERROR";

/// Lines of a configuration file that Redis refuses, which we refuse with the same words.
const LINES: &[&str] = &[
    "foo bar",
    "port",
    "port abc",
    "port 1 2",
    "maxmemory 1xb",
    "save 1",
    "appendonly maybe",
    "appendfsync maybe",
    "set \"a",
    "dir /nonexistent",
    "dir /etc/passwd",
    "databases 0",
    "rename-command NOSUCH x",
    "rename-command GET",
    "unixsocketperm 999",
    "appendfilename a/b",
    "dbfilename a/b",
    "appenddirname a/b",
    "replicaof 127.0.0.1",
    "replicaof x 99999999",
    "client-output-buffer-limit foo 1 2 3",
    "maxclients 0",
    "supervised x",
    "daemonize maybe",
    "syslog-facility x",
    "oom-score-adj-values 1",
    "notify-keyspace-events xyzq",
];

/// What stands behind `*** FATAL CONFIG FILE ERROR ... ***`, without where the line stands.
fn complaint(refusal: &Refusal) -> Vec<&str> {
    let behind = refusal.text.split_once(FATAL).map_or("", |(_, rest)| rest);
    let lines = behind.lines().skip(1).map(str::trim_end);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with("Reading the "))
        .collect()
}

#[test]
fn a_bad_line_in_the_file_is_shown_with_its_number_and_the_reason_of_redis() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut failures = Vec::new();
    for line in LINES {
        let file = folder.path().join("redis.conf");
        std::fs::write(&file, format!("# a comment\n{line}\n"))?;
        let before = listing(folder.path())?;
        let ours = run(Kind::RedRock, folder.path(), &["redis.conf"])?;
        unchanged(folder.path(), &before)?;
        let real = run(Kind::Redis, folder.path(), &["redis.conf"])?;
        let same = complaint(&ours) == complaint(&real) && !complaint(&ours).is_empty();
        if (ours.code, real.code) != (Some(1), Some(1)) || !same {
            failures.push(format!("{line}\n  Redis: {real:?}\n  ours:  {ours:?}"));
        }
        let number = ours.text.contains("redis.conf', at line 2");
        anyhow::ensure!(number, "{}", ours.text);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn files_that_can_not_be_read_are_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let text = "port 0\ninclude none.conf\n";
    std::fs::write(folder.path().join("include.conf"), text)?;
    std::fs::write(folder.path().join("itself.conf"), "include itself.conf\n")?;
    std::fs::create_dir(folder.path().join("folder"))?;
    let before = listing(folder.path())?;
    for (argument, reason) in [
        ("missing.conf", "missing.conf': No such file or directory"),
        ("folder", "folder': Is a directory"),
        ("include.conf", "none.conf': No such file or directory"),
        ("itself.conf", "Too many levels of include"),
    ] {
        let refusal = run(Kind::RedRock, folder.path(), &[argument])?;
        assert_eq!(refusal.code, Some(1), "{refusal:?}");
        assert!(refusal.text.contains(FATAL), "{refusal:?}");
        assert!(refusal.text.contains(reason), "{refusal:?}");
        unchanged(folder.path(), &before)?;
    }
    Ok(())
}

#[test]
fn bad_options_of_the_command_line_are_refused_as_redis_does() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let before = listing(folder.path())?;
    for arguments in [
        &["--foo", "bar"][..],
        &["--foo"],
        &["--maxmemory", "x"],
        &["--maxmemory"],
        &["--port", "70000"],
        &["--appendfsync", "sometimes", "--hz", "10"],
        &["-foo", "bar"],
        &["--save", "60"],
    ] {
        let ours = run(Kind::RedRock, folder.path(), arguments)?;
        let real = run(Kind::Redis, folder.path(), arguments)?;
        assert_eq!((ours.code, real.code), (Some(1), Some(1)), "{ours:?}");
        assert_eq!(complaint(&ours), complaint(&real), "{arguments:?}");
        unchanged(folder.path(), &before)?;
    }
    Ok(())
}

fn with_variable(folder: &Path, name: &str, value: &str) -> anyhow::Result<Refusal> {
    let mut command = Command::new(binary("redrock-server")?);
    command.current_dir(folder).env(name, value);
    command.args(["--port", &free_port()?.to_string()]);
    run_command(command)
}

#[test]
fn bad_options_of_the_environment_and_of_standard_input_are_refused() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let before = listing(folder.path())?;
    let refusal = with_variable(folder.path(), "REDROCK_MAXMEMORY", "x")?;
    assert_eq!(refusal.code, Some(1));
    for part in [
        FATAL,
        "Reading the environment",
        "REDROCK_MAXMEMORY=\"x\"",
        "argument must be a memory value",
    ] {
        assert!(refusal.text.contains(part), "{refusal:?}");
    }
    let script = "echo 'foo bar' | \"$0\" -";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(binary("redrock-server")?);
    command.current_dir(folder.path());
    let refusal = run_command(command)?;
    assert_eq!(refusal.code, Some(1));
    for part in [FATAL, "Reading standard input, at line 1", ">>> 'foo bar'"] {
        assert!(refusal.text.contains(part), "{refusal:?}");
    }
    unchanged(folder.path(), &before)
}

#[test]
fn users_that_are_wrong_refuse_the_start() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for (line, part) in [
        ("user alice on >secret ~cached:* +nosuch", "Unknown command"),
        ("user default off nonsense", "Syntax error"),
        ("user alice on ~a (~x +get) (e", "Unmatched parenthesis"),
        ("user alice (~x +get", "Unmatched parenthesis"),
    ] {
        std::fs::write(
            folder.path().join("redis.conf"),
            format!("port 0\n{line}\n"),
        )?;
        let before = listing(folder.path())?;
        let refusal = run(Kind::RedRock, folder.path(), &["redis.conf"])?;
        assert_eq!(refusal.code, Some(1), "{refusal:?}");
        for part in [FATAL, "at line 2", line, part] {
            assert!(refusal.text.contains(part), "{part}: {refusal:?}");
        }
        unchanged(folder.path(), &before)?;
    }
    Ok(())
}

/// A server with a configuration file; dropping it kills it.
struct Configured {
    child: Child,
    client: Client,
}

impl Configured {
    fn start(program: &Path, folder: &Path, extra: &[&str]) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(program);
        command.arg(folder.join("redis.conf")).current_dir(folder);
        command.args(["--port", &port.to_string()]).args(extra);
        let mut child = command.stdout(Stdio::null()).spawn()?;
        let deadline = Instant::now() + redrock_integration_tests::scale::PATIENCE;
        loop {
            let answer = Client::connect(port).and_then(|mut client| {
                client.run(&["PING"])?;
                Ok(client)
            });
            match answer {
                Ok(client) => return Ok(Self { child, client }),
                Err(error) if Instant::now() > deadline => {
                    child.kill()?;
                    child.wait()?;
                    return Err(error);
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CONFIG REWRITE of Redis always names the default user.
#[test]
fn a_file_that_redis_rewrote_starts_with_its_password() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    for password in ["", "secret"] {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("redis.conf");
        std::fs::write(&file, "save \"\"\n")?;
        let mut real = Configured::start(Path::new("redis-server"), folder.path(), &[])?;
        if !password.is_empty() {
            real.client.ok("CONFIG SET requirepass secret")?;
        }
        real.client.ok("CONFIG REWRITE")?;
        drop(real);
        let text = std::fs::read_to_string(&file)?;
        anyhow::ensure!(text.contains("user default on"), "{text}");
        let program = binary("redrock-server")?;
        let mut ours = Configured::start(&program, folder.path(), &["--companions", "external"])?;
        if !password.is_empty() {
            let refused = ours.client.run(&["GET", "a"])?;
            assert!(matches!(refused, Reply::Error(text) if text.starts_with("NOAUTH")));
            ours.client.ok("AUTH secret")?;
        }
        // Our own means the same.
        ours.client.ok("CONFIG REWRITE")?;
        let text = std::fs::read_to_string(&file)?;
        assert_eq!(text.matches("user default on").count(), 1, "{text}");
        assert_eq!(text.contains("requirepass"), !password.is_empty(), "{text}");
    }
    Ok(())
}

/// Words of a cluster's clients, and of ours.
const CLUSTER: &[&str] = &[
    "CLUSTER INFO",
    "CLUSTER NODES",
    "CLUSTER SLOTS",
    "CLUSTER SHARDS",
    "CLUSTER KEYSLOT key",
    "CLUSTER RESET",
    "CLUSTER HELP x",
    "CLUSTER nosuch",
    "CLUSTER",
    "READONLY",
    "READWRITE",
    "READONLY x",
    "ASKING",
    "ASKING x",
    "SPUBLISH channel message",
    "CONFIG GET cluster-enabled",
    "CONFIG SET cluster-enabled yes",
    "INFO cluster",
];

#[test]
fn a_cluster_is_refused_and_its_words_answer_as_without_one() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let before = listing(folder.path())?;
    let options = ["--cluster-enabled", "yes"];
    let (status, text) = Server::refused(Kind::RedRock, folder.path(), free_port()?, &options)?;
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(
        text.contains("cluster-enabled yes is not supported: start with cluster-enabled no"),
        "{text}"
    );
    assert_eq!(listing(folder.path())?, before);
    if !has_redis() {
        return Ok(());
    }
    let mut found = Vec::new();
    for kind in [Kind::Redis, Kind::RedRock] {
        let folder = tempfile::tempdir()?;
        let server = Server::start(kind, folder.path(), &["--cluster-enabled", "no"])?;
        let mut client = server.client()?;
        let answer = |line: &&'static str| {
            let words: Vec<&str> = line.split(' ').collect();
            Ok((*line, client.run(&words)?))
        };
        let answers = CLUSTER.iter().map(answer);
        found.push(answers.collect::<anyhow::Result<Vec<_>>>()?);
    }
    assert_eq!(found[1], found[0]);
    Ok(())
}
