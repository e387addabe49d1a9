//! Repairing what does not load: planned first, done when somebody agrees.
//!
//! - A log file is cut behind its last sound command outside of MULTI. If others hold data behind
//!   it they leave the manifest: a replay never crosses a gap.
//! - An RDB file is written anew from the entries that can be read.
//! - A manifest is written anew from the files in its folder, if they leave no doubt.
//!
//! Nothing is changed in place: a file may be linked into a backup set. The original stays under
//! `<name>.damaged-<unix seconds>`, and the new file takes its name when it is whole and synced.

use std::io;
use std::path::{Path, PathBuf};

use redrock_log::fs::{Fs, OpenMode, RealFs};
use redrock_log::manifest::{self, Manifest, Names};
use redrock_log::scan::{ScanLimits, SegmentScanner, Step, StopReason};
use redrock_log::sidecar::{SidecarReader, copy_up_to, has_stream_bytes, sidecar_path};
use redrock_proto::RpcError;

use super::salvage::{self, Salvaged};
use super::{FileReport, Verdict, rebuild};
use crate::data_dir::parent;
use crate::error::{Result, io_error, manifest_error, sidecar_error};
use crate::place::{TEMPORARY, copy};

/// Names tried for the original when several repairs fall into one second.
const NAMES_MAX: u32 = 100;
/// Places at which commands are looked for behind damage.
const ATTEMPTS_MAX: u32 = 10_000;
const SEARCH_BYTES: usize = 64 * 1024;

/// What would be done about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub path: PathBuf,
    pub action: Action,
    /// What is lost, for people.
    pub loss: String,
}

/// See [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Keep this many bytes of a log file; the manifest in its folder lists no later one.
    Cut {
        position: u64,
        unlisted: Vec<String>,
    },
    /// Write the sound entries of an RDB file anew.
    Salvage,
    /// Replace the manifest.
    Manifest(Manifest),
    /// Nothing can be done; the loss says why.
    Nothing,
}

/// What can be done about a report that is not sound; `None` if nothing has to be.
pub fn plan(report: &FileReport) -> Result<Option<Plan>> {
    let cut = matches!(&report.verdict, Verdict::Remark(_)) && report.kind == "aof";
    if !cut && !matches!(report.verdict, Verdict::Damaged(_)) {
        return Ok(None);
    }
    let path = report.path.clone();
    let (action, loss) = match report.kind {
        "aof" => plan_cut(&path)?,
        "rdb" => {
            let salvaged = salvage::read(&path, None)?;
            (Action::Salvage, salvaged.loss())
        }
        "manifest" => match rebuild::manifest(&path)? {
            Some(manifest) => {
                let files = manifest.files_to_load().count();
                let loss = format!("it will list {files} files that follow each other");
                (Action::Manifest(manifest), loss)
            }
            None => (
                Action::Nothing,
                "the files in its folder do not tell which of them belong together".into(),
            ),
        },
        _ => return Ok(None),
    };
    Ok(Some(Plan { path, action, loss }))
}

fn plan_cut(path: &Path) -> Result<(Action, String)> {
    let failed = |error: io::Error| io_error("read", path, &error);
    let file = RealFs.open(path, OpenMode::Read).map_err(failed)?;
    let bytes = file.len().map_err(failed)?;
    let sidecar = SidecarReader::open(&RealFs, path).map_err(sidecar_error)?;
    let checked = match &sidecar {
        Some(reader) => Some(reader.verify(file.as_ref()).map_err(sidecar_error)?),
        None => None,
    };
    let damage = checked.and_then(|checked| checked.durable_damage);
    let limit = damage.map_or(u64::MAX, |damage| damage.from);
    let mut scanner = SegmentScanner::new(file.as_ref(), 0, ScanLimits::default());
    let scanner = scanner
        .as_mut()
        .map_err(|error| io_error("read", path, error))?;
    let (mut position, mut kept) = (0, 0);
    while let Step::Command(command) = scanner.next_step().map_err(failed)? {
        if command.end > limit {
            break;
        }
        kept += 1;
        position = scanner.safe_position();
    }
    if position == 0 && bytes > 0 && is_rdb(file.as_ref()).map_err(failed)? {
        let text = "it begins with an RDB that can't be read: nothing behind it can be kept";
        return Ok((Action::Nothing, text.into()));
    }
    let lost = count_commands(file.as_ref(), position).map_err(failed)?;
    let unlisted = later_with_data(path)?;
    let mut loss = format!(
        "keeps {position} bytes, {kept} commands at most; loses {} bytes, in which {lost} whole \
         commands can be made out",
        bytes.saturating_sub(position)
    );
    if !unlisted.is_empty() {
        loss.push_str(&format!(
            "; {} can't follow any longer and leave the manifest",
            unlisted.join(", ")
        ));
    }
    Ok((Action::Cut { position, unlisted }, loss))
}

fn is_rdb(file: &dyn redrock_log::fs::FsFile) -> io::Result<bool> {
    let content = redrock_log::scan::detect_content(file)?;
    Ok(content == redrock_log::scan::Content::Rdb)
}

/// Whole commands that can be made out from a position on, damage between them skipped.
fn count_commands(file: &dyn redrock_log::fs::FsFile, from: u64) -> io::Result<u64> {
    let (mut position, mut found) = (from, 0);
    for _ in 0..ATTEMPTS_MAX {
        let mut scanner = SegmentScanner::new(file, position, ScanLimits::default())?;
        let end = loop {
            match scanner.next_step()? {
                Step::Command(_) => found += 1,
                Step::End(end) => break end,
            }
        };
        if matches!(end.reason, StopReason::End | StopReason::OpenMulti { .. }) {
            break;
        }
        match next_command(file, end.position + 1)? {
            Some(next) => position = next,
            None => break,
        }
    }
    Ok(found)
}

/// Position of the next asterisk at the beginning of a line.
fn next_command(file: &dyn redrock_log::fs::FsFile, from: u64) -> io::Result<Option<u64>> {
    const MARK: &[u8] = b"\r\n*";
    let mut window = vec![0_u8; SEARCH_BYTES];
    let mut position = from.saturating_sub(2);
    loop {
        let count = file.read_full_at(&mut window, position)?;
        let bytes = window.get(..count).unwrap_or(&[]);
        if let Some(at) = bytes.windows(MARK.len()).position(|part| part == MARK) {
            return Ok(Some(position + at as u64 + 2));
        }
        if count < window.len() {
            return Ok(None);
        }
        position += (count - MARK.len() + 1) as u64;
    }
}

/// The manifest that lists a file, with its names.
fn manifest_of(path: &Path) -> Result<Option<(Names, Manifest)>> {
    let directory = parent(path);
    for names in crate::restore::chain::manifests(&RealFs, directory)? {
        let loaded = manifest::load(&RealFs, directory, &names).map_err(manifest_error)?;
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(manifest) = loaded
            && manifest
                .incr
                .iter()
                .any(|entry| Some(entry.name.as_str()) == name)
        {
            return Ok(Some((names, manifest)));
        }
    }
    Ok(None)
}

/// Names of listed log files with data behind this one.
fn later_with_data(path: &Path) -> Result<Vec<String>> {
    let Some((_, manifest)) = manifest_of(path)? else {
        return Ok(Vec::new());
    };
    let name = path.file_name().unwrap_or_default();
    let later = manifest
        .incr
        .iter()
        .skip_while(|entry| name != entry.name.as_str())
        .skip(1);
    let mut names = Vec::new();
    for entry in later {
        let other = parent(path).join(&entry.name);
        if has_stream_bytes(&RealFs, &other).map_err(sidecar_error)? {
            names.push(entry.name.clone());
        }
    }
    Ok(names)
}

/// Does what was planned; gives where originals are kept. A death at any step leaves files for
/// which the same repair can be planned again.
pub fn carry_out(plan: &Plan, unix_seconds: u64) -> Result<Vec<PathBuf>> {
    let path = &plan.path;
    match &plan.action {
        Action::Nothing => Ok(Vec::new()),
        Action::Cut { position, unlisted } => cut(path, *position, unlisted, unix_seconds),
        Action::Salvage => {
            let kept = keep(path, unix_seconds)?;
            let temporary = temporary(path);
            let _: Salvaged = salvage::read(path, Some(&temporary))?;
            replace(&temporary, path)?;
            Ok(vec![kept])
        }
        Action::Manifest(manifest) => {
            let kept = keep(path, unix_seconds)?;
            let names = rebuild::names(path)?;
            manifest::store(&RealFs, parent(path), &names, manifest)
                .map_err(|error| io_error("write", path, &error))?;
            Ok(vec![kept])
        }
    }
}

fn cut(path: &Path, position: u64, unlisted: &[String], unix_seconds: u64) -> Result<Vec<PathBuf>> {
    let mut kept = vec![keep(path, unix_seconds)?];
    if let (false, Some((names, mut manifest))) = (unlisted.is_empty(), manifest_of(path)?) {
        manifest
            .incr
            .retain(|entry| !unlisted.contains(&entry.name));
        manifest::store(&RealFs, parent(path), &names, &manifest)
            .map_err(|error| io_error("write the manifest beside", path, &error))?;
        for name in unlisted {
            let other = parent(path).join(name);
            kept.push(keep(&other, unix_seconds)?);
            unlink(&sidecar_path(&other))?;
            unlink(&other)?;
        }
    }
    let temporary = temporary(path);
    unlink(&temporary)?;
    unlink(&sidecar_path(&temporary))?;
    copy(path, &temporary, position)?;
    copy_up_to(&RealFs, path, position, &temporary).map_err(sidecar_error)?;
    // The sidecar last: one that claims more than there is looks like damage and is repaired again,
    // while behind one that claims less damage that parses would pass for commands.
    replace(&temporary, path)?;
    if sidecar_path(&temporary).exists() {
        replace(&sidecar_path(&temporary), &sidecar_path(path))?;
    }
    Ok(kept)
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent(path).join(format!("{TEMPORARY}repair-{name}"))
}

/// Gives the original, and its sidecar, a second name.
fn keep(path: &Path, unix_seconds: u64) -> Result<PathBuf> {
    for attempt in 0..NAMES_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{unix_seconds}"));
        if attempt > 0 {
            name.push(format!("-{attempt}"));
        }
        let kept = PathBuf::from(name);
        match crate::place::link_or_copy_new(path, &kept)? {
            false => continue,
            true => {
                let sidecar = sidecar_path(path);
                if sidecar.exists() {
                    crate::place::link_or_copy_new(&sidecar, &sidecar_path(&kept))?;
                }
                RealFs
                    .sync_dir(parent(path))
                    .map_err(|error| io_error("sync the folder of", path, &error))?;
                return Ok(kept);
            }
        }
    }
    Err(RpcError::internal(format!(
        "no name is left for a copy of {}",
        path.display()
    )))
}

fn replace(from: &Path, to: &Path) -> Result<()> {
    RealFs
        .rename(from, to)
        .and_then(|()| RealFs.sync_dir(parent(to)))
        .map_err(|error| io_error("replace", to, &error))
}

/// Removes a name; one that is gone is fine.
fn unlink(path: &Path) -> Result<()> {
    match RealFs.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path, &error))
        }
        _ => Ok(()),
    }
}
