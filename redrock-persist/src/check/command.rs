//! `redrock-persist check <path>`.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use redrock_daemon::role_lock::{Role, is_held};
use redrock_log::fs::RealFs;
use serde_json::{Map, Value, json};

use super::repair::{Action, Plan, carry_out, plan};
use super::{FileReport, Verdict, check_path};
use crate::console::Console;
use crate::data_dir::parent;
use crate::error::Result;
use crate::progress::{ActionProgress, unix_ms};

/// Repairs in one run; more files than that are damaged by more than one cause.
const REPAIRS_MAX: usize = 1000;

/// What was said on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// A file, an append-only folder, or a data directory
    path: PathBuf,
    /// One JSON object a file
    #[arg(long)]
    json: bool,
    /// Tell what each file says about itself: versions, fields, keys by database, offsets, times
    #[arg(long)]
    show: bool,
    /// Repair what does not load: log files are cut, RDB files and manifests written anew from
    /// what can be read; the originals are kept beside them as <name>.damaged-<time>
    #[arg(long)]
    repair: bool,
    /// With --repair: don't ask
    #[arg(long, requires = "repair")]
    yes: bool,
}

/// Checks, and repairs if that is asked for; 0 sound or repaired, 1 damaged, 2 something can't be
/// read or written.
pub fn run(args: &CheckArgs) -> ExitCode {
    let reports = checked(&args.path);
    if reports.is_empty() {
        let path = args.path.display();
        print(&format!("{path}: no RDB or append only files found"));
        return ExitCode::from(2);
    }
    for report in &reports {
        print(&match args.json {
            true => json_line(report, args.show),
            false => text_lines(report, args.show),
        });
    }
    if !args.repair {
        return ExitCode::from(status(&reports));
    }
    match repair(args, reports) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("redrock-persist: {}", error.message);
            if !error.hint.is_empty() {
                eprintln!("hint: {}", error.hint);
            }
            ExitCode::from(2)
        }
    }
}

fn status(reports: &[FileReport]) -> u8 {
    let worst = reports.iter().map(|report| match report.verdict {
        Verdict::Sound | Verdict::Remark(_) => 0,
        Verdict::Damaged(_) => 1,
        Verdict::Unreadable(_) => 2,
    });
    worst.max().unwrap_or(2)
}

/// Repairs one file after the other, looking at all of them again after each: a cut takes what
/// follows out of the manifest, and a new manifest may list other files. Gives the exit status.
fn repair(args: &CheckArgs, mut reports: Vec<FileReport>) -> Result<u8> {
    for _ in 0..REPAIRS_MAX {
        let mut plans = Vec::new();
        for report in &reports {
            plans.extend(plan(report)?);
        }
        for plan in &plans {
            print(&described(plan, args.json));
        }
        let Some(plan) = plans.iter().find(|plan| plan.action != Action::Nothing) else {
            break;
        };
        refuse_if_in_use(&args.path)?;
        if !agreed(args, plan) {
            break;
        }
        for kept in carry_out(plan, unix_ms() / 1000)? {
            print(&match args.json {
                true => json!({ "kept": kept.to_string_lossy() }).to_string(),
                false => format!("the original is kept as {}", kept.display()),
            });
        }
        reports = checked(&args.path);
    }
    Ok(status(&reports))
}

/// Checks, and tells how far it is where it takes long.
fn checked(path: &Path) -> Vec<FileReport> {
    let progress = ActionProgress::new();
    let _console = Console::watch("check", &progress);
    check_path(&RealFs, path, &progress)
}

/// A server that runs would go on in files that are no longer there.
fn refuse_if_in_use(path: &Path) -> Result<()> {
    let folder = match path.is_dir() {
        true => path,
        false => parent(path),
    };
    for folder in [folder, parent(folder)] {
        for role in [Role::Server, Role::Persist] {
            if role.lock_path(folder).exists() && is_held(folder, role).unwrap_or(true) {
                let text = format!("redrock-{} runs on {}", role.name(), folder.display());
                return Err(redrock_proto::RpcError::busy(text).with_hint("stop the server first"));
            }
        }
    }
    Ok(())
}

fn agreed(args: &CheckArgs, plan: &Plan) -> bool {
    if args.yes {
        return true;
    }
    if !std::io::stdin().is_terminal() {
        eprintln!("redrock-persist: nothing is changed without --yes");
        return false;
    }
    eprint!("Repair {}? [y/N] ", plan.path.display());
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn described(plan: &Plan, json: bool) -> String {
    let what = match &plan.action {
        Action::Cut { .. } => "cut",
        Action::Salvage => "write anew",
        Action::Manifest(_) => "write a new manifest",
        Action::Nothing => "can't be repaired",
    };
    match json {
        true => json!({
            "path": plan.path.to_string_lossy(),
            "repair": what,
            "loss": plan.loss,
        })
        .to_string(),
        false => format!("repair: {} {}: {}", what, plan.path.display(), plan.loss),
    }
}

/// A closed pipe ends the output, not the check.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn parts(verdict: &Verdict) -> (&'static str, &str) {
    match verdict {
        Verdict::Sound => ("sound", ""),
        Verdict::Remark(text) => ("remark", text),
        Verdict::Damaged(text) => ("DAMAGED", text),
        Verdict::Unreadable(text) => ("UNREADABLE", text),
    }
}

fn text_lines(report: &FileReport, show: bool) -> String {
    let (word, text) = parts(&report.verdict);
    let mut line = format!("{word:<10} {} ({}", report.path.display(), report.kind);
    if report.kind != "manifest" {
        line.push_str(&format!(
            ", {} bytes, {} keys, {} commands",
            report.bytes, report.keys, report.commands
        ));
    }
    line.push(')');
    if !text.is_empty() {
        line.push_str(": ");
        line.push_str(text);
    }
    for (name, value) in report.facts.iter().filter(|_| show) {
        line.push_str(&format!("\n             {name}: {value}"));
    }
    line
}

fn json_line(report: &FileReport, show: bool) -> String {
    let (word, text) = parts(&report.verdict);
    let mut object = json!({
        "path": report.path.to_string_lossy(),
        "kind": report.kind,
        "bytes": report.bytes,
        "keys": report.keys,
        "commands": report.commands,
        "verdict": word.to_ascii_lowercase(),
        "text": text,
    });
    if show {
        let facts: Map<String, Value> = report
            .facts
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect();
        object["facts"] = Value::Object(facts);
    }
    object.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_file_and_verdict() {
        let report = FileReport {
            path: "a\"b".into(),
            kind: "rdb",
            bytes: 5,
            keys: 2,
            commands: 0,
            verdict: Verdict::Damaged("cut\n".into()),
            facts: vec![("RDB version".into(), "10".into())],
        };
        let read: Value = serde_json::from_str(&json_line(&report, true)).unwrap();
        assert_eq!(read["path"], "a\"b");
        assert_eq!(
            (&read["verdict"], &read["text"]),
            (&"damaged".into(), &"cut\n".into())
        );
        assert_eq!(read["facts"]["RDB version"], "10");
        let text = text_lines(&report, false);
        assert!(text.starts_with("DAMAGED    a\"b (rdb, 5 bytes") && !text.contains("version"));
        assert!(text_lines(&report, true).ends_with("RDB version: 10"));
    }
}
