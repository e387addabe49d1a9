//! `redrock-persist check <path>`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use redrock_log::fs::RealFs;

use super::{FileReport, Verdict, check_path};
use crate::progress::ActionProgress;

/// Checks and prints; 0 sound, 1 damaged, 2 unreadable.
pub fn run(path: &Path, json: bool) -> ExitCode {
    let reports = check_path(&RealFs, path, &ActionProgress::new());
    let mut out = std::io::stdout().lock();
    let mut status = if reports.is_empty() { 2 } else { 0 };
    if reports.is_empty() {
        let _ = writeln!(out, "{}: no RDB or append only files found", path.display());
    }
    for report in &reports {
        let line = if json {
            json_line(report)
        } else {
            text_line(report)
        };
        // A closed pipe ends the output, not the check.
        let _ = writeln!(out, "{line}");
        status = status.max(match report.verdict {
            Verdict::Sound | Verdict::Remark(_) => 0,
            Verdict::Damaged(_) => 1,
            Verdict::Unreadable(_) => 2,
        });
    }
    ExitCode::from(status)
}

fn parts(verdict: &Verdict) -> (&'static str, &str) {
    match verdict {
        Verdict::Sound => ("sound", ""),
        Verdict::Remark(text) => ("remark", text),
        Verdict::Damaged(text) => ("DAMAGED", text),
        Verdict::Unreadable(text) => ("UNREADABLE", text),
    }
}

fn text_line(report: &FileReport) -> String {
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
    line
}

fn json_line(report: &FileReport) -> String {
    let (word, text) = parts(&report.verdict);
    let mut line = String::from("{\"path\":");
    push_json_string(&mut line, &report.path.to_string_lossy());
    line.push_str(&format!(
        ",\"kind\":\"{}\",\"bytes\":{},\"keys\":{},\"commands\":{},\"verdict\":\"{}\",\"text\":",
        report.kind,
        report.bytes,
        report.keys,
        report.commands,
        word.to_ascii_lowercase()
    ));
    push_json_string(&mut line, text);
    line.push('}');
    line
}

fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if (control as u32) < 0x20 => {
                out.push_str(&format!("\\u{:04x}", control as u32));
            }
            other => out.push(other),
        }
    }
    out.push('"');
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
        };
        assert_eq!(
            json_line(&report),
            r#"{"path":"a\"b","kind":"rdb","bytes":5,"keys":2,"commands":0,"verdict":"damaged","text":"cut\u000a"}"#
        );
        assert!(text_line(&report).starts_with("DAMAGED    a\"b (rdb, 5 bytes"));
    }
}
