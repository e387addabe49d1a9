//! The project's style as a test: what neither rustfmt nor clippy checks.
//!
//! Rules that old code breaks are ratchets: `integration-tests/tidy/*.txt` lists the present
//! offenders with a figure each, which may only shrink. After an improvement (or, with a good
//! reason, a step back) write the lists anew and look at the difference:
//!
//! ```sh
//! RR_TIDY_UPDATE=1 cargo test --release --workspace --test tidy
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod layers;
mod mutations;
mod options;
mod ratchet;
mod rows;
mod source;
mod text;

use ratchet::Ratchet;
use source::SourceFile;

/// Longest file without its in-file test module, in lines.
const FILE_LINES_MAX: usize = 500;
/// Longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;
/// Blocks its thread: only threads made for that may, never a runtime's.
const SLEEPS: &[&str] = &["thread::sleep("];

#[test]
fn files_stay_short() {
    let mut ratchet = Ratchet::load("long_files.txt", FILE_LINES_MAX);
    for file in source::rust_files() {
        ratchet.measure(file.path.clone(), file.product_lines());
    }
    ratchet.finish("lines, a file's in-file tests left out: split by concern");
}

#[test]
fn functions_stay_short() {
    let mut ratchet = Ratchet::load("long_functions.txt", FUNCTION_LINES_MAX);
    for file in source::rust_files() {
        for function in file.functions() {
            ratchet.measure(format!("{}::{}", file.path, function.name), function.lines);
        }
    }
    ratchet.finish("lines in one function");
}

#[test]
fn product_code_sleeps_only_in_threads_of_its_own() {
    let mut ratchet = Ratchet::load("sleeps.txt", 0);
    for file in product_files() {
        ratchet.measure(file.path.clone(), file.count_in_product(SLEEPS));
    }
    ratchet.finish("blocking sleeps outside tests: use the runtime's, or a thread made for it");
}

#[test]
fn nothing_is_marked_as_unfinished() {
    // Put together here, so that this file does not find itself.
    let marks = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X:"],
        ["#[ign", "ore"],
        ["not supported", " yet"],
    ]
    .map(|parts| parts.concat());
    let mut found = Vec::new();
    for file in text::files() {
        for (number, line) in file.content.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                found.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    assert!(
        found.is_empty(),
        "marks of unfinished work:\n{}",
        found.join("\n")
    );
}

#[test]
fn nothing_names_a_directory_of_somebody_s_machine() {
    let folders = ["/ro\u{6f}t/", "/h\u{6f}me/", "/w\u{6f}rk/"];
    let mut found = Vec::new();
    for file in text::files() {
        for (number, line) in file.content.lines().enumerate() {
            if folders.iter().any(|folder| text::names_path(line, folder)) {
                found.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "absolute paths:\n{}", found.join("\n"));
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let silent: Vec<String> = source::rust_files()
        .filter(|file| !file.path.ends_with("/tests.rs"))
        .filter(|file| !file.code.starts_with("//!") && !file.code.starts_with("#!["))
        .map(|file| file.path)
        .collect();
    assert!(
        silent.is_empty(),
        "files without a //! header:\n{}",
        silent.join("\n")
    );
}

fn product_files() -> impl Iterator<Item = SourceFile> {
    source::rust_files()
        .filter(|file| !file.is_test && !file.path.starts_with("integration-tests/"))
}
