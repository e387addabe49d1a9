//! Log lines with Redis's levels, to standard output or a file.
//!
//! Text lines look as Redis's (`pid:role date mark message`), so that tools
//! made for them go on working; `json` gives one object a line. The level can
//! change while running. A log file is opened for appending; after a rotation
//! [`LogHandle::reopen`] opens the name anew.
//!
//! What the levels mean: `warning` needs somebody's look, `notice` is what an
//! operator wants to read in production, `verbose` follows single connections
//! and jobs, `debug` follows single steps.

mod text;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

/// Redis's `loglevel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    Debug,
    Verbose,
    Notice,
    Warning,
    Nothing,
}

impl Level {
    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Verbose => "verbose",
            Level::Notice => "notice",
            Level::Warning => "warning",
            Level::Nothing => "nothing",
        }
    }

    fn filter(self) -> Targets {
        let own = match self {
            Level::Debug => LevelFilter::TRACE,
            Level::Verbose => LevelFilter::DEBUG,
            Level::Notice => LevelFilter::INFO,
            Level::Warning => LevelFilter::WARN,
            Level::Nothing => LevelFilter::OFF,
        };
        // The libraries below trace each frame: that drowns our own lines.
        let foreign = own.min(LevelFilter::WARN);
        Targets::new()
            .with_default(foreign)
            .with_target("redrock", own)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is no log level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("argument must be one of: debug, verbose, notice, warning, nothing")]
pub struct UnknownLevel;

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(name: &str) -> Result<Level, UnknownLevel> {
        [
            Level::Debug,
            Level::Verbose,
            Level::Notice,
            Level::Warning,
            Level::Nothing,
        ]
        .into_iter()
        .find(|level| level.name().eq_ignore_ascii_case(name))
        .ok_or(UnknownLevel)
    }
}

/// Shape of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// What to log, and where to.
#[derive(Debug, Clone)]
pub struct LogConfig {
    pub level: Level,
    pub format: Format,
    /// `None`: standard output.
    pub file: Option<PathBuf>,
    /// Letter after the pid: `M` master, `S` replica (both the server), `P`
    /// persister, `A` replica agent.
    pub role: char,
}

impl LogConfig {
    /// `notice`, text, standard output.
    pub fn new(role: char) -> LogConfig {
        LogConfig {
            level: Level::Notice,
            format: Format::Text,
            file: None,
            role,
        }
    }
}

/// Changes logging while it runs. Clones are the same.
#[derive(Clone)]
pub struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
    level: Arc<RwLock<Level>>,
    sink: Sink,
    role: Arc<AtomicU8>,
}

impl LogHandle {
    pub fn level(&self) -> Level {
        *self.level.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_level(&self, level: Level) -> anyhow::Result<()> {
        let mut present = self.level.write().unwrap_or_else(PoisonError::into_inner);
        self.filter
            .reload(level.filter())
            .context("change the log level")?;
        *present = level;
        Ok(())
    }

    /// The letter after the pid, for a server that changes its role.
    pub fn set_role(&self, role: char) {
        self.role.store(role_byte(role), Ordering::Relaxed);
    }

    /// Opens the log file anew by its name; nothing for standard output. On an
    /// error lines go on into the file that is open.
    pub fn reopen(&self) -> io::Result<()> {
        self.sink.reopen()
    }
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogHandle")
            .field("level", &self.level())
            .finish_non_exhaustive()
    }
}

/// Starts logging for the whole process. Fails if the log file can't be
/// opened, or if it was called before.
pub fn init(config: &LogConfig) -> anyhow::Result<LogHandle> {
    let (handle, subscriber) = build(config)?;
    subscriber
        .try_init()
        .context("logging was started before")?;
    Ok(handle)
}

type BoxedSubscriber = Box<dyn tracing::Subscriber + Send + Sync>;

fn build(config: &LogConfig) -> anyhow::Result<(LogHandle, BoxedSubscriber)> {
    let sink = Sink::open(config.file.as_deref())?;
    let (filter, filter_handle) = reload::Layer::new(config.level.filter());
    let role = Arc::new(AtomicU8::new(role_byte(config.role)));
    let registry = Registry::default().with(filter);
    let subscriber: BoxedSubscriber = match config.format {
        Format::Text => {
            let format = text::RedisLines::new(Arc::clone(&role));
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .event_format(format)
                .with_writer(sink.clone());
            Box::new(registry.with(layer))
        }
        Format::Json => {
            let layer = tracing_subscriber::fmt::layer()
                .json()
                .with_writer(sink.clone());
            Box::new(registry.with(layer))
        }
    };
    let level = Arc::new(RwLock::new(config.level));
    Ok((
        LogHandle {
            filter: filter_handle,
            level,
            sink,
            role,
        },
        subscriber,
    ))
}

fn role_byte(role: char) -> u8 {
    u8::try_from(role).unwrap_or(b'?')
}

/// Where lines go. Each line is one `write`, so lines of several processes
/// that share an appended file don't mix.
#[derive(Clone)]
enum Sink {
    Stdout,
    File {
        path: PathBuf,
        file: Arc<RwLock<Arc<File>>>,
    },
}

impl Sink {
    fn open(path: Option<&Path>) -> anyhow::Result<Sink> {
        let Some(path) = path else {
            return Ok(Sink::Stdout);
        };
        let file = append_to(path)
            .with_context(|| format!("Can't open the log file: {}", path.display()))?;
        Ok(Sink::File {
            path: path.to_owned(),
            file: Arc::new(RwLock::new(Arc::new(file))),
        })
    }

    fn reopen(&self) -> io::Result<()> {
        if let Sink::File { path, file } = self {
            let fresh = Arc::new(append_to(path)?);
            *file.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

enum SinkWriter {
    Stdout(io::Stdout),
    File(Arc<File>),
}

impl Write for SinkWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self {
            SinkWriter::Stdout(stdout) => stdout.write(line),
            SinkWriter::File(file) => file.as_ref().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            SinkWriter::Stdout(stdout) => stdout.flush(),
            SinkWriter::File(_) => Ok(()),
        }
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = SinkWriter;

    fn make_writer(&'a self) -> SinkWriter {
        match self {
            Sink::Stdout => SinkWriter::Stdout(io::stdout()),
            Sink::File { file, .. } => {
                let file = file.read().unwrap_or_else(PoisonError::into_inner);
                SinkWriter::File(Arc::clone(&file))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn logged(config: &LogConfig, path: &Path, work: impl FnOnce(&LogHandle)) -> String {
        let (handle, subscriber) = build(config).unwrap();
        tracing::subscriber::with_default(subscriber, || work(&handle));
        fs::read_to_string(path).unwrap()
    }

    fn config(dir: &tempfile::TempDir) -> (LogConfig, PathBuf) {
        let path = dir.path().join("server.log");
        (
            LogConfig {
                file: Some(path.clone()),
                ..LogConfig::new('M')
            },
            path,
        )
    }

    #[test]
    fn text_lines_look_as_those_of_redis() {
        let dir = tempfile::tempdir().unwrap();
        let (config, path) = config(&dir);
        let lines = logged(&config, &path, |handle| {
            tracing::info!(port = 7000, "Ready to accept connections");
            handle.set_role('S');
            let _span = tracing::info_span!("conn", id = 5).entered();
            tracing::warn!("oops");
        });
        let lines: Vec<&str> = lines.lines().collect();
        assert!(
            lines[0].starts_with(&format!("{}:M ", std::process::id())),
            "{lines:?}"
        );
        assert!(
            lines[0].ends_with(" * Ready to accept connections port=7000"),
            "{lines:?}"
        );
        assert!(
            lines[1].starts_with(&format!("{}:S ", std::process::id())),
            "{lines:?}"
        );
        assert!(lines[1].ends_with(" # conn{id=5}: oops"), "{lines:?}");
    }

    #[test]
    fn the_level_can_change_while_running() {
        let dir = tempfile::tempdir().unwrap();
        let (config, path) = config(&dir);
        let lines = logged(&config, &path, |handle| {
            tracing::debug!("before");
            handle.set_level(Level::Verbose).unwrap();
            tracing::debug!("after");
            tracing::trace!("too fine");
            handle.set_level(Level::Nothing).unwrap();
            tracing::error!("silenced");
            assert_eq!(handle.level(), Level::Nothing);
        });
        assert_eq!(lines.lines().count(), 1);
        assert!(lines.contains(" - after"));
    }

    #[test]
    fn a_rotated_file_is_left_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let (config, path) = config(&dir);
        let rotated = dir.path().join("server.log.1");
        let fresh = logged(&config, &path, |handle| {
            tracing::info!("first");
            fs::rename(&path, &rotated).unwrap();
            tracing::info!("second");
            handle.reopen().unwrap();
            tracing::info!("third");
        });
        assert_eq!(fs::read_to_string(rotated).unwrap().lines().count(), 2);
        assert!(fresh.contains("third") && fresh.lines().count() == 1);
    }

    #[test]
    fn json_lines_hold_fields() {
        let dir = tempfile::tempdir().unwrap();
        let (mut config, path) = config(&dir);
        config.format = Format::Json;
        let lines = logged(&config, &path, |_| tracing::warn!(keys = 3, "loaded"));
        assert!(lines.contains("\"keys\":3") && lines.contains("\"message\":\"loaded\""));
    }

    #[test]
    fn levels_are_named_as_in_redis() {
        assert_eq!("WARNING".parse(), Ok(Level::Warning));
        assert_eq!("info".parse::<Level>(), Err(UnknownLevel));
    }
}
