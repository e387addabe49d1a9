//! `redrock-persist restore`.

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::choose::Target;
use super::{Request, Restored, restore};
use crate::console::Console;
use crate::error::Result;
use crate::moment;
use crate::progress::{ActionProgress, unix_ms};

/// What was said on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct RestoreArgs {
    /// The moment to restore: RFC 3339, such as 2026-11-21T14:03:05Z or
    /// 2026-11-21T15:03:05.250+01:00 (default: the latest)
    #[arg(long, value_name = "TIME", value_parser = moment::parse, conflicts_with = "to_offset")]
    to: Option<u64>,
    /// Restore up to this offset of the replication stream instead
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<u64>,
    /// Where from: a data directory, an append-only folder, a backup set, or a folder of sets;
    /// may be given several times
    #[arg(long, value_name = "PATH", default_value = ".")]
    from: Vec<PathBuf>,
    /// The folder to make, a server's new data directory; must not exist, or be empty
    #[arg(long, value_name = "FOLDER")]
    into: PathBuf,
    /// Copy every file instead of linking those that never change
    #[arg(long)]
    copy: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Restores and reports.
pub fn run(args: RestoreArgs) -> Result<()> {
    let target = match (args.to, args.to_offset) {
        (Some(unix_ms), _) => Target::Time { unix_ms },
        (None, Some(offset)) => Target::Offset(offset),
        (None, None) => Target::Latest,
    };
    let request = Request {
        from: args.from,
        into: args.into,
        target,
        copy: args.copy,
        now_unix_ms: unix_ms(),
    };
    let progress = ActionProgress::new();
    let console = Console::watch("restore", &progress);
    let restored = restore(&request, &progress)?;
    drop(console);
    let text = match args.json {
        true => json_text(&request, &restored),
        false => plain_text(&request, &restored),
    };
    // A closed pipe ends the output, not the restore.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(())
}

fn json_text(request: &Request, restored: &Restored) -> String {
    let built = restored.built;
    json!({
        "into": request.into.to_string_lossy(),
        "from": restored.chain.origin.to_string_lossy(),
        "appendonly": restored.chain.is_log(),
        "offset": restored.offset,
        "last_write": restored.last_write_ms.map(moment::format),
        "base_keys": restored.keys,
        "commands": restored.commands,
        "linked_files": built.linked_files,
        "linked_bytes": built.linked_bytes,
        "copied_files": built.copied_files,
        "copied_bytes": built.copied_bytes,
    })
    .to_string()
}

fn plain_text(request: &Request, restored: &Restored) -> String {
    let (built, into) = (restored.built, request.into.display());
    let last = restored
        .last_write_ms
        .map_or("unknown".into(), moment::format);
    let offset = restored
        .offset
        .map_or(String::new(), |offset| format!(", offset {offset}"));
    let mut text = format!(
        "restored from {} into {into}\nlast write {last}{offset}; base with {} keys, {} commands\n\
         {} files linked ({} bytes), {} copied ({} bytes)\n",
        restored.chain.origin.display(),
        restored.keys,
        restored.commands,
        built.linked_files,
        built.linked_bytes,
        built.copied_files,
        built.copied_bytes,
    );
    match (restored.chain.is_log(), request.target) {
        (true, _) => text.push_str(&format!("start with: --dir {into} --appendonly yes")),
        (false, Target::Time { .. }) => text.push_str(&format!(
            "this is an RDB file: what was so when it was made, not at the time asked for\n\
             start with: --dir {into} --appendonly no"
        )),
        (false, _) => text.push_str(&format!("start with: --dir {into} --appendonly no")),
    }
    text
}
