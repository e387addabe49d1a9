//! The arguments that all companions of a server share.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::logging::{Format, Level, LogConfig};

/// Which server a companion works for, and how it logs.
#[derive(Debug, Clone, clap::Args)]
pub struct CompanionArgs {
    /// Data directory, that of the server.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// Directory of the Unix sockets; `<dir>/run` if not given.
    #[arg(long, value_name = "DIR")]
    pub socket_dir: Option<PathBuf>,

    /// Stop when this process, our parent, has gone. Without it the daemon goes on when its
    /// server restarts.
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,

    /// Work for this run of the server only; needs --epoch.
    #[arg(long, value_name = "ID", requires = "epoch")]
    pub run_id: Option<String>,

    /// Number of that run.
    #[arg(long, value_name = "N", requires = "run_id")]
    pub epoch: Option<u64>,

    /// debug, verbose, notice, warning or nothing. The server's `loglevel` takes over.
    #[arg(long, value_name = "LEVEL", default_value = "notice")]
    pub log_level: Level,

    /// Log file; standard output if not given.
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// One JSON object a log line.
    #[arg(long)]
    pub log_json: bool,
}

impl CompanionArgs {
    /// The data directory, which must be there, as an absolute path.
    pub fn data_dir(&self) -> anyhow::Result<PathBuf> {
        std::fs::canonicalize(&self.dir)
            .with_context(|| format!("open the data directory {}", self.dir.display()))
    }

    /// The directory of the sockets.
    pub fn socket_dir(&self, data_dir: &Path) -> PathBuf {
        match &self.socket_dir {
            Some(dir) => dir.clone(),
            None => data_dir.join("run"),
        }
    }

    /// Id and epoch of the only run to work for, if one is named; both unchecked.
    pub fn run(&self) -> Option<(&str, u64)> {
        self.run_id.as_deref().zip(self.epoch)
    }

    /// Where and how to log; `role` is the letter of log lines.
    pub fn log_config(&self, role: char) -> LogConfig {
        LogConfig {
            level: self.log_level,
            format: match self.log_json {
                true => Format::Json,
                false => Format::Text,
            },
            file: self.log_file.clone(),
            role,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        companion: CompanionArgs,
    }

    fn parse(arguments: &[&str]) -> Result<CompanionArgs, clap::Error> {
        let arguments = ["program"].iter().chain(arguments);
        Program::try_parse_from(arguments).map(|program| program.companion)
    }

    #[test]
    fn a_run_is_named_by_id_and_epoch_together() {
        let both = parse(&["--run-id", "abc", "--epoch", "7"]).unwrap();
        assert_eq!(both.run(), Some(("abc", 7)));
        assert_eq!(parse(&[]).unwrap().run(), None);
        for half in [["--run-id", "abc"], ["--epoch", "7"]] {
            assert!(parse(&half).is_err(), "{half:?}");
        }
    }

    #[test]
    fn sockets_are_in_the_data_directory_unless_told() {
        let told = parse(&["--socket-dir", "/s"]).unwrap();
        assert_eq!(told.socket_dir(Path::new("/d")), Path::new("/s"));
        let untold = parse(&[]).unwrap();
        assert_eq!(untold.socket_dir(Path::new("/d")), Path::new("/d/run"));
    }

    #[test]
    fn a_data_directory_that_is_not_there_is_named() {
        let error = parse(&["--dir", "/no/such/folder"]).unwrap().data_dir();
        let text = error.unwrap_err().to_string();
        assert_eq!(text, "open the data directory /no/such/folder");
    }
}
