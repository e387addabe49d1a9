//! `redrock-persist backup`, `list` and `verify`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use redrock_daemon::role_lock::{PATIENCE, Role, RoleLock, is_held};
use redrock_log::epoch::read_epoch;
use redrock_log::fs::RealFs;
use redrock_proto::client::{PERSIST_SOCKET, Timeouts, connect, next_within};
use redrock_proto::model::{HexId, RunRef};
use redrock_proto::{RpcError, v1};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::list::{self, ListedSet};
use super::make::{Making, remove_surplus};
use super::set::{SetContent, SetManifest};
use super::verify::{Findings, verify};
use crate::error::{Result, io_error};
use crate::moment;
use crate::restore::chain;

/// The persister sends at least one message a second.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Which files a server would load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// The append-only log.
    Log,
    /// The RDB file.
    Dump,
}

/// What was said on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct BackupArgs {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Name of the set; such a set is never removed by backup-keep (default: the time)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Without a server: where sets are kept (default: backup in the data directory)
    #[arg(long, value_name = "DIR")]
    backup_dir: Option<PathBuf>,
    /// Without a server: how many sets that are named by the time to keep; 0 keeps all
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep: usize,
    /// Without a server: what to back up (default: the log if there is one)
    #[arg(long, value_enum)]
    what: Option<What>,
    /// Without a server: name of the append-only folder in the data directory
    #[arg(long, value_name = "NAME", default_value = "appendonlydir")]
    appenddirname: String,
    /// Without a server: name of the RDB file in the data directory
    #[arg(long, value_name = "NAME", default_value = "dump.rdb")]
    dbfilename: String,
    /// With a server: the directory of its sockets (default: run in the data directory)
    #[arg(long, value_name = "DIR")]
    socket_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Where sets are.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// The folder of the sets, or a data directory that holds it as `backup`
    #[arg(default_value = "backup")]
    path: PathBuf,
    /// One JSON object a set
    #[arg(long)]
    json: bool,
}

/// Which sets to verify.
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyArgs {
    /// Sets, folders of sets, or data directories that hold one as `backup`
    #[arg(default_value = "backup")]
    paths: Vec<PathBuf>,
    /// One JSON object a set
    #[arg(long)]
    json: bool,
}

/// Makes a set: the server's persister does it while a server runs.
pub fn backup(args: BackupArgs) -> Result<()> {
    let dir = std::fs::canonicalize(&args.dir)
        .map_err(|error| io_error("open the data directory", &args.dir, &error))?;
    let held = is_held(&dir, Role::Server);
    let running = held.map_err(|error| io_error("look at the server's lock in", &dir, &error))?;
    let made = match running {
        true => beside_server(&args, &dir)?,
        false => without_server(&args, &dir)?,
    };
    let name = made.file_name().unwrap_or_default().to_string_lossy();
    let Some(set) = list::set(&name, made.clone()) else {
        return Err(RpcError::internal(format!("{} is no set", made.display())));
    };
    print(&match args.json {
        true => json_line(&set),
        false => format!("{}\n{}", made.display(), text_line(&set)),
    });
    Ok(())
}

fn without_server(args: &BackupArgs, dir: &Path) -> Result<PathBuf> {
    // No persister starts, and none removes what we are about to link. One whose server has just
    // died may still be about to notice.
    let _lock = runtime()?
        .block_on(RoleLock::acquire_within(dir, Role::Persist, PATIENCE))
        .map_err(|error| RpcError::busy(error.to_string()))?;
    let sets = match &args.backup_dir {
        Some(sets) => sets.clone(),
        None => dir.join("backup"),
    };
    let directory = dir.join(&args.appenddirname);
    let names = match directory.is_dir() {
        true => chain::manifests(&RealFs, &directory)?,
        false => Vec::new(),
    };
    let log = match names.as_slice() {
        [] => None,
        [names] => Some(names),
        _ => {
            let text = format!("{} holds several manifests", directory.display());
            return Err(RpcError::invalid(text)
                .with_hint("move those away that are of no server's appendfilename"));
        }
    };
    let mut making = Making::begin(&sets, args.name.as_deref())?;
    match (args.what, log) {
        (Some(What::Log) | None, Some(names)) => making.place_log(&directory, names)?,
        (Some(What::Log), None) => {
            let text = format!("{} holds no append only files", directory.display());
            return Err(RpcError::not_found(text));
        }
        (Some(What::Dump), _) | (None, None) => {
            let dump = dir.join(&args.dbfilename);
            if !dump.is_file() {
                let text = format!("{} holds nothing to back up", dir.display());
                return Err(RpcError::not_found(text));
            }
            making.place_dump(&dump)?;
        }
    }
    let made = making.finish(&|| Ok(()), &CancellationToken::new())?;
    for name in remove_surplus(&sets, args.keep, &|| Ok(()))? {
        eprintln!("removed {name}");
    }
    Ok(made.path)
}

fn beside_server(args: &BackupArgs, dir: &Path) -> Result<PathBuf> {
    if args.backup_dir.is_some() || args.keep != 0 || args.what.is_some() {
        return Err(RpcError::invalid("a server runs on this data directory").with_hint(
            "backup-dir, backup-keep and what to save are its settings; leave out --backup-dir, \
             --keep and --what",
        ));
    }
    let sockets = match &args.socket_dir {
        Some(sockets) => sockets.clone(),
        None => dir.join("run"),
    };
    let name = args.name.clone().unwrap_or_default();
    let outcome = runtime()?.block_on(ask(&sockets.join(PERSIST_SOCKET), dir, name))?;
    Ok(dir.join(outcome.path))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RpcError::internal(format!("start the runtime: {error}")))
}

async fn ask(socket: &Path, dir: &Path, name: String) -> Result<v1::Outcome> {
    let epoch = read_epoch(&RealFs, dir)
        .map_err(|error| RpcError::internal(error.to_string()))?
        .ok_or_else(|| RpcError::unavailable("the server is still starting"))?;
    let run_id = std::str::from_utf8(&epoch.run_id)
        .ok()
        .and_then(HexId::parse)
        .ok_or_else(|| RpcError::internal("the epoch file names no run id"))?;
    let run = RunRef {
        run_id,
        epoch: epoch.number,
    };
    let channel = connect(socket, Timeouts::default()).await?;
    let mut client = v1::persist_client::PersistClient::new(channel);
    let request = v1::BackupRequest {
        run: run.to_wire(),
        name,
    };
    let mut progress = client.backup(request).await?.into_inner();
    while let Some(message) = next_within(&mut progress, SILENCE_MAX).await? {
        if message.phase() == v1::Phase::Done {
            return Ok(message.outcome.unwrap_or_default());
        }
    }
    Err(
        RpcError::unavailable("the persister stopped telling about the backup")
            .with_hint("`redrock-persist list` shows whether it was made"),
    )
}

/// Shows the sets of a folder, oldest first.
pub fn list(args: ListArgs) -> Result<()> {
    for set in list::sets(&folder_of_sets(&args.path))? {
        print(&match args.json {
            true => json_line(&set),
            false => text_line(&set),
        });
    }
    Ok(())
}

/// The folder itself, or `backup` in a data directory.
fn folder_of_sets(path: &Path) -> PathBuf {
    let inside = path.join("backup");
    match inside.is_dir() {
        true => inside,
        false => path.to_owned(),
    }
}

/// Verifies sets: 0 all are sound, 1 one is damaged, 2 one can't be read.
pub fn run_verify(args: &VerifyArgs) -> ExitCode {
    let mut status = 0;
    for path in &args.paths {
        let sets = match list::set(&path.to_string_lossy(), path.clone()) {
            Some(set) => Ok(vec![set]),
            None => list::sets(&folder_of_sets(path)),
        };
        let sets = match sets {
            Ok(sets) if sets.is_empty() => {
                eprintln!("redrock-persist: {} holds no backup sets", path.display());
                status = 2;
                continue;
            }
            Ok(sets) => sets,
            Err(error) => {
                eprintln!("redrock-persist: {}", error.message);
                status = 2;
                continue;
            }
        };
        for set in sets {
            let findings = verify(&set.path, &CancellationToken::new());
            status = status.max(
                match (findings.unreadable.is_empty(), findings.is_sound()) {
                    (false, _) => 2,
                    (true, false) => 1,
                    (true, true) => 0,
                },
            );
            print(&match args.json {
                true => verified_json(&set, &findings),
                false => verified_text(&set, &findings),
            });
        }
    }
    ExitCode::from(status)
}

/// A closed pipe ends the output, not the work.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn content(manifest: &SetManifest) -> &'static str {
    match manifest.content {
        SetContent::Log => "log",
        SetContent::Dump => "dump",
    }
}

fn text_line(set: &ListedSet) -> String {
    match &set.manifest {
        Err(why) => format!("{}  UNREADABLE: {why}", set.name),
        Ok(manifest) => format!(
            "{}  {}  from {} to {}  {} bytes, {} of its own",
            set.name,
            content(manifest),
            moment::format(manifest.begins_unix_ms),
            moment::format(manifest.covered_unix_ms),
            manifest.bytes(),
            set.unique_bytes,
        ),
    }
}

fn json_line(set: &ListedSet) -> String {
    let (name, path) = (&set.name, set.path.to_string_lossy());
    match &set.manifest {
        Err(why) => json!({ "name": name, "path": path, "error": why }),
        Ok(manifest) => json!({
            "name": name,
            "path": path,
            "content": content(manifest),
            "made": moment::format(manifest.made_unix_ms),
            "begins": moment::format(manifest.begins_unix_ms),
            "covered": moment::format(manifest.covered_unix_ms),
            "first_offset": manifest.stream.as_ref().map(|stream| stream.first_offset),
            "last_offset": manifest.stream.as_ref().map(|stream| stream.last_offset),
            "files": manifest.files.len(),
            "bytes": manifest.bytes(),
            "unique_bytes": set.unique_bytes,
        }),
    }
    .to_string()
}

fn verified_text(set: &ListedSet, findings: &Findings) -> String {
    if findings.is_sound() {
        let (files, bytes) = (findings.files, findings.bytes);
        return format!("{}  sound: {files} files, {bytes} bytes", set.name);
    }
    let damaged = findings.damaged.iter().map(|found| ("DAMAGED", found));
    let unreadable = findings
        .unreadable
        .iter()
        .map(|found| ("UNREADABLE", found));
    let lines: Vec<String> = damaged
        .chain(unreadable)
        .map(|(word, (file, text))| format!("{}  {word}  {file}: {text}", set.name))
        .collect();
    lines.join("\n")
}

fn verified_json(set: &ListedSet, findings: &Findings) -> String {
    let list = |found: &[(String, String)]| -> Vec<serde_json::Value> {
        let entries = found.iter();
        entries
            .map(|(file, text)| json!({ "file": file, "text": text }))
            .collect()
    };
    json!({
        "name": set.name,
        "path": set.path.to_string_lossy(),
        "sound": findings.is_sound(),
        "files": findings.files,
        "bytes": findings.bytes,
        "damaged": list(&findings.damaged),
        "unreadable": list(&findings.unreadable),
    })
    .to_string()
}
