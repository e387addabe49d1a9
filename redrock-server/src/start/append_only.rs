//! Loading the append-only files: manifest, base, segments, and what to do about their tails.

use super::directory::{DataDirectory, names};
use super::estimate::{Extent, refuse_what_does_not_fit};
use super::last_segment::{self, Former, LastSegment, sequence};
use super::manifest_trouble;
use super::rdb::{self, CountingReader, RdbOptions};
use super::replay::{Replayer, UnknownCommand};
use crate::config::Config;
use crate::keyspace::cold::warm::WarmStart;
use crate::server::Server;
use anyhow::{Context as _, bail};
use redrock_log::fs::{Fs, FsFile, OpenMode, RealFs};
use redrock_log::manifest::{self, FileEntry, FileKind, Manifest};
use redrock_log::scan::{
    Command, Content, ScanLimits, SegmentScanner, Step, TailContext, TailDecision, decide_tail,
    detect_content, truncate_tail,
};
use redrock_log::sidecar::{FormerEnd, HexId, SidecarReader, Verification, has_stream_bytes};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// What the files held.
#[derive(Debug)]
pub struct LoadedLog {
    pub(super) manifest: Manifest,
    pub(super) last: LastSegment,
    /// Database selected at the end.
    pub database: usize,
    /// Stream offset of the end and the id of the last segment's first byte; `None` if the log
    /// does not end in a segment of ours.
    pub end: Option<(u64, HexId)>,
    /// Stream offset of that segment's first byte; 0 without one.
    pub last_start_offset: u64,
    /// Number of the last listed file; 0 if none is listed.
    pub last_sequence: u64,
}

/// Loads what the manifest names. `None` if there is no log at all.
/// Of a base that `warm` belongs to only the head is.
pub fn load(
    server: &Arc<Server>,
    data: &DataDirectory,
    warm: Option<&WarmStart>,
) -> anyhow::Result<Option<LoadedLog>> {
    let config = server.config();
    let names = names(&config);
    let directory = data.log_directory(&config);
    let fs = data.fs.as_ref();
    let found = manifest::load(fs, &directory, &names)
        .map_err(|error| manifest_trouble::unreadable(&error, &directory.join(names.manifest())))?;
    refuse_base_that_does_not_fit(&config, data, &directory, found.as_ref())?;
    let upgraded =
        manifest::upgrade_single_file(fs, &data.path, &directory, &names, found.as_ref())
            .context("upgrade the single append only file")?;
    if upgraded.is_some() {
        let (file, directory) = (&names.file_name, directory.display());
        tracing::info!(
            "Successfully migrated an old-style AOF configuration ({file} moved into {directory})"
        );
    }
    let Some(manifest) = upgraded.or(found) else {
        manifest_trouble::refuse_orphans(fs, &directory, &names)?;
        warn_of_dump(&config, data);
        return Ok(None);
    };
    let load = Load {
        server,
        fs,
        load_truncated: config.append_only.load_truncated,
        directory,
        warm: warm.map(|warm| (data.path.join(&warm.file), warm)),
    };
    load.run(manifest).map(Some)
}

/// Before anything is moved or read: the base that the manifest names, or the single file.
fn refuse_base_that_does_not_fit(
    config: &Config,
    data: &DataDirectory,
    directory: &Path,
    manifest: Option<&Manifest>,
) -> anyhow::Result<()> {
    let base = manifest.and_then(|manifest| manifest.base.as_ref());
    let listed = base.map(|base| directory.join(&base.name));
    let path = match listed.filter(|path| data.is_file(path)) {
        Some(path) => path,
        None => data.path.join(&config.append_only.file_name),
    };
    if !data.is_file(&path) {
        return Ok(());
    }
    let extent = match path.extension() {
        Some(extension) if extension == "rdb" => Extent::Whole,
        _ => Extent::Preamble,
    };
    refuse_what_does_not_fit(config, data.fs.as_ref(), &path, extent)
}

/// As in Redis the log alone counts where it is on, and it may not be there yet.
fn warn_of_dump(config: &Config, data: &DataDirectory) {
    let path = data.path.join(&config.snapshot.file_name);
    if data.is_file(&path) {
        tracing::warn!(
            "appendonly is on and there is no append only file: the data set is empty, and {} was not \
             loaded. To load it, end the server before it saves, start it with appendonly no, and then \
             turn the log on with CONFIG SET appendonly yes",
            path.display()
        );
    }
}

/// The files of the running log, to be loaded once more (DEBUG LOADAOF). They are only read: the
/// last one is being written, so that nothing of it is cut off.
pub struct Again<'a> {
    load: Load<'a>,
    manifest: Manifest,
}

impl<'a> Again<'a> {
    /// Finds them in the data directory `path`; loads nothing yet.
    pub fn find(server: &'a Arc<Server>, path: &Path) -> anyhow::Result<Self> {
        let config = server.config();
        let directory = path.join(&config.append_only.dir_name);
        let found = manifest::load(&RealFs, &directory, &names(&config)).context("AOF manifest")?;
        let load = Load {
            server,
            fs: &RealFs,
            load_truncated: false,
            directory,
            warm: None,
        };
        Ok(Self {
            load,
            manifest: found.context("there is no AOF manifest")?,
        })
    }

    /// Loads them into the live databases.
    pub fn load(self) -> anyhow::Result<()> {
        self.load.run(self.manifest).map(|_| ())
    }
}

struct Load<'a> {
    server: &'a Arc<Server>,
    fs: &'a dyn Fs,
    /// Cut the end off that is no whole command (`aof-load-truncated`).
    load_truncated: bool,
    directory: PathBuf,
    /// The base of which the tier has the rest, and what is known of that.
    warm: Option<(PathBuf, &'a WarmStart)>,
}

impl Load<'_> {
    fn run(&self, manifest: Manifest) -> anyhow::Result<LoadedLog> {
        let entries: Vec<FileEntry> = manifest.files_to_load().cloned().collect();
        let mut total = 0;
        for entry in &entries {
            let path = self.directory.join(&entry.name);
            let metadata = self.fs.metadata(&path).with_context(|| {
                format!(
                    "the AOF manifest names {}, which can't be read. Restore that file from a backup \
                     or a replica",
                    path.display()
                )
            })?;
            total += self
                .warm_start(&path)
                .map_or(metadata.len, |warm| warm.dirty_bytes);
        }
        self.server.loading.set_total(total);
        let mut replayer = Replayer::new(self.server);
        let mut last = LastSegment::Foreign;
        let mut end: Option<Former> = None;
        let mut last_start_offset = 0;
        for (at, entry) in entries.iter().enumerate() {
            let started = Instant::now();
            let later = entries.get(at + 1..).unwrap_or_default();
            last = self.file(&mut replayer, entry, later, end)?;
            end = match &last {
                LastSegment::Ours {
                    end_offset,
                    replid,
                    start_offset,
                    ..
                } => {
                    last_start_offset = *start_offset;
                    let end = FormerEnd {
                        offset: *end_offset,
                        sequence: sequence(entry),
                    };
                    Some(Former {
                        end,
                        replid: *replid,
                    })
                }
                LastSegment::Empty { .. } => end,
                LastSegment::Foreign => None,
            };
            let kind = if entry.kind == FileKind::Base {
                "base"
            } else {
                "incr"
            };
            tracing::info!(
                "DB loaded from {kind} file {}: {:.3} seconds",
                entry.name,
                started.elapsed().as_secs_f64()
            );
        }
        tracing::info!(commands = replayer.commands(), "append only files replayed");
        Ok(LoadedLog {
            last_sequence: manifest.incr.last().map_or(0, sequence),
            manifest,
            last,
            database: replayer.database(),
            end: end.map(|former| (former.end.offset, former.replid)),
            last_start_offset,
        })
    }

    /// Loads one file. `former` is where the one before ended, if it was ours.
    fn file(
        &self,
        replayer: &mut Replayer<'_>,
        entry: &FileEntry,
        later: &[FileEntry],
        former: Option<Former>,
    ) -> anyhow::Result<LastSegment> {
        let fs = self.fs;
        let path = self.directory.join(&entry.name);
        let named = || format!("append only file {}", path.display());
        let file = fs.open(&path, OpenMode::Read).with_context(named)?;
        let sidecar = match entry.kind {
            FileKind::Incr => SidecarReader::open(fs, &path)?,
            _ => None,
        };
        if sidecar.is_none() && file.is_empty().with_context(named)? {
            return Ok(match entry.kind {
                FileKind::Incr => LastSegment::Empty {
                    entry: entry.clone(),
                    path,
                },
                _ => LastSegment::Foreign,
            });
        }
        let verification = match &sidecar {
            Some(sidecar) => Some(sidecar.verify(file.as_ref())?),
            None => None,
        };
        if let (Some(sidecar), Some(verification)) = (&sidecar, &verification)
            && sidecar.is_unbegun(verification, sequence(entry), former.map(|it| it.end))
        {
            let entry = entry.clone();
            return Ok(LastSegment::Empty { entry, path });
        }
        if let (Some(sidecar), Some(former)) = (&sidecar, former) {
            last_segment::refuse_gap(sidecar, entry, former)?;
        }
        replayer.begin_file();
        let position = self
            .preamble(&file, self.warm_start(&path))
            .map_err(|error| super::damaged(&error, &path, "the append only directory"))?;
        let kept = self.commands(
            replayer,
            &file,
            &path,
            position,
            verification.as_ref(),
            entry,
            later,
        )?;
        Ok(match (sidecar, verification) {
            (Some(sidecar), Some(verification)) => {
                let header = sidecar.header();
                LastSegment::Ours {
                    start_offset: header.layout.start_offset,
                    end_offset: header.layout.offset_at(kept),
                    replid: header.replid,
                    entry: entry.clone(),
                    path,
                    verification: Box::new(verification),
                }
            }
            _ => LastSegment::Foreign,
        })
    }

    /// Loads an RDB at the head of a file; the position behind it.
    fn preamble(&self, file: &Arc<dyn FsFile>, warm: Option<&WarmStart>) -> anyhow::Result<u64> {
        if detect_content(file.as_ref())? != Content::Rdb {
            return Ok(0);
        }
        tracing::info!("Reading RDB base file on AOF loading...");
        let options = RdbOptions {
            allow_trailing: true,
            head_bytes: warm.map(|warm| warm.dirty_bytes),
            ..RdbOptions::default()
        };
        let source = CountingReader::new(file.clone(), self.server);
        let facts = rdb::load(self.server, source, options)?;
        tracing::info!("{}", facts.line());
        let Some(warm) = warm else {
            return Ok(facts.end);
        };
        super::warm::complete(self.server, warm)?;
        Ok(file.len()?)
    }

    /// What is known of the file at `path` if only its head is to be loaded.
    fn warm_start(&self, path: &Path) -> Option<&WarmStart> {
        let of_path = self.warm.as_ref().filter(|(file, _)| file == path);
        of_path.map(|(_, warm)| *warm)
    }

    /// Replays the commands from `position` on; the length of what is kept of the file.
    fn commands(
        &self,
        replayer: &mut Replayer<'_>,
        file: &Arc<dyn FsFile>,
        path: &Path,
        position: u64,
        verification: Option<&Verification>,
        entry: &FileEntry,
        later: &[FileEntry],
    ) -> anyhow::Result<u64> {
        // Damage that no crash explains is known before anything is replayed.
        if let Some(damage) = verification.and_then(|checked| checked.durable_damage) {
            bail!(
                "append only file {} is damaged: bytes {} to {} were durable and differ from their \
                 checksum or are missing. Restore the file from a backup or a replica; \
                 `redrock-persist check` shows what can be saved, and with --repair keeps that much",
                path.display(),
                damage.from,
                damage.to
            );
        }
        let mut scanner = SegmentScanner::new(file.as_ref(), position, ScanLimits::default())?;
        let end = loop {
            match scanner
                .next_step()
                .with_context(|| format!("read {}", path.display()))?
            {
                Step::Command(command) => replayer
                    .command(&command)
                    .map_err(|error| not_replayed(error, path, &command))?,
                Step::End(end) => break end,
            }
        };
        let mut followed_by_data = false;
        for next in later {
            let next = self.directory.join(&next.name);
            followed_by_data |= has_stream_bytes(self.fs, &next)?;
        }
        let context = TailContext {
            file_name: &entry.name,
            verification,
            followed_by_data,
            load_truncated: self.load_truncated,
        };
        match decide_tail(&end, context) {
            TailDecision::Clean => Ok(end.file_bytes),
            TailDecision::Refuse {
                position,
                command_index,
                reason,
                way_out,
            } => bail!(
                "{reason} (offset {position} of {}, command {command_index}). What to do: {way_out}",
                path.display()
            ),
            TailDecision::TruncateAt { position, reason } => {
                let seconds = crate::clock::unix_ms() as u64 / 1000;
                let copy = truncate_tail(self.fs, path, position, seconds)?;
                tracing::warn!(
                    reason,
                    position,
                    copy = copy.map(|copy| copy.display().to_string()),
                    "AOF {} truncated: the last bytes were not a whole command; loaded anyway \
                     because aof-load-truncated is enabled",
                    entry.name
                );
                Ok(position)
            }
        }
    }
}

/// The error for a command that can't be replayed: where it is, and the way out where there is one.
fn not_replayed(error: anyhow::Error, path: &Path, command: &Command<'_>) -> anyhow::Error {
    let (path, start, index) = (path.display(), command.start, command.index);
    let place = format!("replay {path} at offset {start} (command {index})");
    if !error.is::<UnknownCommand>() {
        return error.context(place);
    }
    anyhow::anyhow!(
        "{place}: {error}. What to do: load the file with the server that wrote it, a later version or \
         one with modules, or restore the directory from a backup or a replica"
    )
}
