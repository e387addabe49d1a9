//! The command line, with the conventions of redis-server.
//!
//! `redrock-server [file] [--option value...]... [-]`: options become lines of configuration that
//! are read last; `-` as the first or last argument reads standard input.

use super::words::quoted;
use crate::net::parser::split_quoted;
use redrock_log::failpoint;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Run the server.
    Run(CommandLine),
    /// Print the usage.
    Help,
    /// Print the version.
    Version,
}

/// How to run the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandLine {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// Read standard input too.
    pub stdin: bool,
    /// The options, as lines of configuration.
    pub lines: Vec<u8>,
    /// For tests: obey the variable REDROCK_FAILPOINTS. Not told in the usage.
    pub allow_failpoints: bool,
}

/// What `--help` prints.
pub const USAGE: &str = "\
Usage: redrock-server [/path/to/redis.conf] [options] [-]
       redrock-server - (read config from stdin)
       redrock-server -v or --version
       redrock-server -h or --help

Options are those of the configuration file: --<name> <value> [<value>...].
They are also read from the environment: REDROCK_<NAME> with dashes as underscores.
Later sources win: file, stdin, environment, command line.

Examples:
       redrock-server (run the server with default conf)
       echo 'maxmemory 128mb' | redrock-server -
       redrock-server /etc/redis/6379.conf
       redrock-server --port 7777
       redrock-server --port 7777 --replicaof 127.0.0.1 8888
       redrock-server /etc/myredis.conf --loglevel verbose -
       redrock-server --maxmemory 1gb --enable-rocksdb-feature yes
";

/// Reads the arguments, the program's name left out.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Invocation {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut words: &[OsString] = &arguments;
    let mut result = CommandLine::default();
    if words.first().is_some_and(|first| first == failpoint::FLAG) {
        result.allow_failpoints = true;
        words = words.get(1..).unwrap_or_default();
    }
    let given = words.len();
    match words.first().map(|first| first.as_bytes()) {
        Some(b"-v" | b"--version") => return Invocation::Version,
        Some(b"-h" | b"--help") => return Invocation::Help,
        Some(first) if !first.starts_with(b"-") => {
            result.file = words.first().map(PathBuf::from);
            words = words.get(1..).unwrap_or_default();
        }
        _ => {}
    }
    let whole = words.len() == given;
    // Whether the option before has all it needs, so that `--` starts the next.
    let mut complete = true;
    for (i, word) in words.iter().enumerate() {
        let (word, last) = (word.as_bytes(), i + 1 == words.len());
        if word == b"-" && (last || (i == 0 && whole)) {
            result.stdin = true;
        } else if let Some(option) = word.strip_prefix(b"--").filter(|_| complete) {
            if !result.lines.is_empty() {
                result.lines.push(b'\n');
            }
            result.lines.extend_from_slice(option);
            result.lines.push(b' ');
            let name_only = split_quoted(word).is_some_and(|parts| parts.len() == 1);
            let option_follows = words
                .get(i + 1)
                .is_some_and(|next| next.as_bytes().starts_with(b"--"));
            let bare_save = option.eq_ignore_ascii_case(b"save") && (last || option_follows);
            if bare_save {
                // `--save --port 1` from a list of arguments that was empty.
                result.lines.extend_from_slice(b"\"\"");
            }
            complete = !name_only || bare_save;
        } else {
            result.lines.extend_from_slice(&quoted(word));
            result.lines.push(b' ');
            complete = true;
        }
    }
    Invocation::Run(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> CommandLine {
        match parse(arguments.iter().map(OsString::from)) {
            Invocation::Run(line) => line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_become_lines_of_configuration() {
        for (arguments, lines) in [
            (
                &["--port", "7000", "--save", "60", "100"][..],
                "port \"7000\" \nsave \"60\" \"100\" ",
            ),
            (&["--port 7000", "--hz", "5"], "port 7000 \nhz \"5\" "),
            (&["--save", "--port", "1"], "save \"\"\nport \"1\" "),
            (&["--port", "1", "--save"], "port \"1\" \nsave \"\""),
            (
                &["--requirepass", "--x", "--hz", "5"],
                "requirepass \"--x\" \nhz \"5\" ",
            ),
            (&["--requirepass", "a b\""], "requirepass \"a b\\\"\" "),
        ] {
            let line = run(arguments);
            assert_eq!(String::from_utf8_lossy(&line.lines), lines);
            assert_eq!((line.file, line.stdin), (None, false));
        }
    }

    #[test]
    fn failpoints_are_allowed_by_the_first_argument_alone() {
        let line = run(&["--allow-failpoints", "a.conf", "--hz", "5"]);
        assert!(line.allow_failpoints);
        assert_eq!(line.file, Some("a.conf".into()));
        assert_eq!(line.lines, b"hz \"5\" ");
        assert!(run(&["--allow-failpoints", "-"]).stdin);
        assert!(!run(&["--hz", "5", "--allow-failpoints"]).allow_failpoints);
    }

    #[test]
    fn file_and_stdin_come_first_or_last() {
        let line = run(&["a.conf", "--hz", "5", "-"]);
        assert_eq!(line.file, Some("a.conf".into()));
        assert!(line.stdin);
        assert!(run(&["-"]).stdin);
        assert_eq!(parse(["-v".into()]), Invocation::Version);
        assert_eq!(parse(["--help".into()]), Invocation::Help);
    }
}
