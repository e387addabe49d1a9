//! Every option of the table does something, or says that it does nothing.

use super::{source, text};
use std::collections::{BTreeMap, BTreeSet};

/// Where options are described and turned into the typed configuration: none is put to use there,
/// but for these, which concern the configuration itself.
const CONFIG: &str = "redrock-server/src/config/";
const OF_THE_CONFIGURATION: &[&str] = &["enable-protected-configs", "dir"];
const MAKERS: &[&str] = &[
    "yes_no(", "number(", "bytes(", "choice(", "text(", "unset(", "special(",
];

fn config_file(name: &str) -> String {
    let path = text::root().join(CONFIG).join(name);
    std::fs::read_to_string(&path).expect("read a file of the configuration")
}

/// The first string literal of `code`.
fn literal(code: &str) -> Option<&str> {
    code.split('"').nth(1)
}

/// Each option of the table, and whether it is flagged as one without effect.
fn options(table: &str) -> BTreeMap<String, bool> {
    let (_, records) = table.split_once("const OPTIONS").expect("the table");
    let mut found = BTreeMap::new();
    let mut record = String::new();
    let mut close = |record: &mut String| {
        if let Some(name) = literal(record) {
            found.insert(name.to_owned(), record.contains(".no_effect()"));
        }
        record.clear();
    };
    for line in records.lines() {
        let rest = line.strip_prefix("    ").unwrap_or_default();
        if MAKERS.iter().any(|maker| rest.starts_with(maker)) {
            close(&mut record);
        }
        if !rest.trim_start().starts_with("//") {
            record.push_str(line);
        }
        if line == "];" {
            break;
        }
    }
    close(&mut record);
    found
}

/// The fields of the typed configuration that each option is read into.
fn fields(build: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut field = "";
    for line in build.lines() {
        let code = line.trim_start();
        let name = code.strip_prefix("let ").unwrap_or(code);
        let end = name.find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_');
        let (name, rest) = name.split_at(end.unwrap_or(name.len()));
        if !name.is_empty() && (rest.starts_with(": ") || rest.starts_with(" = ")) {
            field = name;
        }
        for read in code.split("value!(").skip(1) {
            let option = literal(read).expect("the name of an option").to_owned();
            found.entry(option).or_default().insert(field.to_owned());
        }
    }
    found
}

/// Whether `code` reads a field of this name.
fn reads(code: &str, field: &str) -> bool {
    let dotted = format!(".{field}");
    code.match_indices(&dotted).any(|(at, _)| {
        let behind = code
            .get(at + dotted.len()..)
            .and_then(|rest| rest.chars().next());
        !behind.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '(')
    })
}

#[test]
fn every_option_that_is_not_flagged_is_read_somewhere() {
    let options = options(&config_file("table.rs"));
    assert!(
        options.len() > 200,
        "only {} options were found",
        options.len()
    );
    let fields = fields(&config_file("build.rs"));
    assert!(fields.len() > 100, "only {} are read", fields.len());
    let code: String = source::rust_files()
        .filter(|file| !file.is_test && !file.path.starts_with("integration-tests/"))
        .filter(|file| !file.path.starts_with(CONFIG))
        .map(|file| file.code)
        .collect();
    let mut idle = Vec::new();
    for (option, flagged) in &options {
        let by_name = code.contains(&format!("\"{option}\""));
        let by_field = fields
            .get(option)
            .is_some_and(|fields| fields.iter().any(|field| reads(&code, field)));
        let used = by_name || by_field || OF_THE_CONFIGURATION.contains(&option.as_str());
        if !used && !flagged {
            idle.push(option.as_str());
        }
    }
    assert!(
        idle.is_empty(),
        "read by nobody, and not flagged with `no_effect`: {}",
        idle.join(", ")
    );
}

#[test]
fn the_table_and_what_is_read_of_it_are_understood() {
    let table = "pub const OPTIONS: &[OptionSpec] = &[\n    yes_no(\"a\", true),\n    number(\n        \
                 \"b-c\",\n        \"1\",\n    )\n    .no_effect(),\n    // text(\"x\")\n    \
                 text(\"d\", \"\"),\n];\nconst Y: OptionSpec = unset(\"y\");\n";
    let found = options(table);
    let expected = [("a", false), ("b-c", true), ("d", false)];
    assert!(
        found
            .iter()
            .map(|(name, flag)| (name.as_str(), *flag))
            .eq(expected),
        "{found:?}"
    );
    let found = fields(
        "    X {\n        a: yes(value!(read, \"a\")),\n        b: match chosen(\n            \
                        value!(read, \"b-c\")) {\n",
    );
    let flat: Vec<_> = found
        .iter()
        .map(|(name, fields)| (name.as_str(), fields.len()))
        .collect();
    assert_eq!(flat, [("a", 1), ("b-c", 1)]);
    assert!(found["b-c"].contains("b"), "{found:?}");
    assert!(reads("config.append_only.no_fsync;", "no_fsync"));
    assert!(!reads("config.no_fsync_x; x.no_fsync()", "no_fsync"));
}
