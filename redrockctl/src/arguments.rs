//! What can be said on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use redrock_proto::client::SERVER_SOCKET;
use redrock_proto::v1;

/// Administration of a RedRock server.
#[derive(Debug, Parser)]
#[command(name = "redrockctl", version, about, propagate_version = true)]
pub(crate) struct Arguments {
    /// The server's socket (default: run/server.sock in --dir)
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// The server's data directory
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "socket")]
    dir: Option<PathBuf>,

    /// Print JSON: one document, or one a line for actions that go on
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Seconds to wait for an answer; long actions may take longer
    #[arg(long, global = true, default_value_t = 10, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// The socket named, or the one in the data directory.
    pub(crate) fn socket_path(&self) -> PathBuf {
        match (&self.socket, &self.dir) {
            (Some(socket), _) => socket.clone(),
            (None, Some(dir)) => dir.join("run").join(SERVER_SOCKET),
            (None, None) => PathBuf::from("run").join(SERVER_SOCKET),
        }
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Whether the daemon at --socket serves: the server, or a companion by its own socket
    Health,
    /// One page: the server, its companions, its log and saves
    Status,
    /// Where memory goes, of all processes
    Memory,
    /// What is cold, and how the tier performs
    Tier,
    /// Save the data set, or make a backup; waits until it is done
    Snapshot(Snapshot),
    /// Rewrite the append only log; waits until it is done
    Rewrite,
    /// The snapshots and backups on disk
    Backups,
    /// The link to the master, the replicas, the offsets
    Replication,
    /// Hand the master's role to a replica
    Failover(Failover),
    /// Read and change settings
    #[command(subcommand)]
    Config(Config),
    /// Change the log level while running
    LogLevel(LogLevel),
    /// Take no new clients and wait for those there to leave
    Drain(Drain),
    /// Stop the server and its companions
    Shutdown(Shutdown),
}

#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    /// Make a backup, named by the time unless --name is given
    #[arg(long)]
    pub(crate) backup: bool,
    /// Name of the backup
    #[arg(long, requires = "backup", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Failover {
    /// The replica (default: the first that has caught up)
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_target, conflicts_with = "abort")]
    pub(crate) to: Option<(String, u16)>,
    /// Give up after this many seconds
    #[arg(long = "within", value_name = "SECONDS", conflicts_with = "abort",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) within: Option<u64>,
    /// When the time is up, promote the replica although it lags
    #[arg(long, requires = "to", requires = "within")]
    pub(crate) force: bool,
    /// End the failover that is running
    #[arg(long)]
    pub(crate) abort: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Show settings by name or pattern (default: all)
    Get { patterns: Vec<String> },
    /// Change settings, all or none
    Set {
        #[arg(required = true, value_name = "NAME=VALUE", value_parser = parse_setting)]
        settings: Vec<(String, String)>,
        /// Also write them into the configuration file
        #[arg(long)]
        rewrite: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LogLevel {
    #[arg(value_parser = ["debug", "verbose", "notice", "warning", "nothing"])]
    pub(crate) level: String,
    /// Only this daemon (default: all)
    #[arg(long)]
    pub(crate) daemon: Option<Daemon>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Daemon {
    Server,
    Persist,
    Replica,
}

impl Daemon {
    pub(crate) fn to_wire(self) -> v1::DaemonKind {
        match self {
            Daemon::Server => v1::DaemonKind::Server,
            Daemon::Persist => v1::DaemonKind::Persist,
            Daemon::Replica => v1::DaemonKind::Replica,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// Close the clients that are left after this many seconds
    #[arg(long = "within", default_value_t = 30, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) within: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Shutdown {
    /// Save first, whatever the save points say
    #[arg(long, conflicts_with = "nosave")]
    pub(crate) save: bool,
    /// Don't save
    #[arg(long)]
    pub(crate) nosave: bool,
    /// Don't wait for lagging replicas
    #[arg(long)]
    pub(crate) now: bool,
    /// Go even if saving fails
    #[arg(long)]
    pub(crate) force: bool,
}

fn parse_target(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("must be HOST:PORT")?;
    let port: u16 = port.parse().map_err(|_| "the port must be 1 to 65535")?;
    // As in URLs, an IPv6 address may stand in brackets.
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() || port == 0 {
        return Err("must be HOST:PORT".into());
    }
    Ok((host.to_owned(), port))
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok((name.to_ascii_lowercase(), value.to_owned()))
        }
        _ => Err("must be NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_socket_is_found_by_directory_or_by_path() {
        let parse = |words: &[&str]| Arguments::try_parse_from(words).unwrap().socket_path();
        assert_eq!(
            parse(&["redrockctl", "--dir", "/data", "status"]),
            PathBuf::from("/data/run/server.sock")
        );
        assert_eq!(
            parse(&["redrockctl", "status", "--socket", "/s"]),
            PathBuf::from("/s")
        );
        let both = ["redrockctl", "--dir", "/d", "--socket", "/s", "status"];
        assert!(Arguments::try_parse_from(both).is_err());
    }

    #[test]
    fn targets_and_settings_are_checked() {
        assert_eq!(parse_target("[::1]:7000"), Ok(("::1".into(), 7000)));
        assert_eq!(parse_target("host:7000"), Ok(("host".into(), 7000)));
        for bad in ["host", ":7000", "host:0", "host:70000", "host:x"] {
            assert!(parse_target(bad).is_err(), "{bad}");
        }
        assert_eq!(
            parse_setting("Save=900 1"),
            Ok(("save".into(), "900 1".into()))
        );
        assert_eq!(parse_setting("save="), Ok(("save".into(), String::new())));
        assert!(parse_setting("save").is_err());
    }
}
