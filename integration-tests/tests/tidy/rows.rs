//! Each row of what is promised for RDB files (D), the log (E), restores (F) and replication (G) has a
//! test that shows it: `integration-tests/fixtures/semantics-rows.tsv`.

use super::text;
use std::collections::{BTreeMap, BTreeSet};

/// How many rows each part has.
const PARTS: [(char, usize); 4] = [('D', 8), ('E', 7), ('F', 4), ('G', 8)];
/// Lines between a test's attribute and its name: further attributes.
const ATTRIBUTES_MAX: usize = 4;

/// Whether `code` has a test of this name.
fn has_test(code: &str, name: &str) -> bool {
    let (plain, starts) = (format!("fn {name}("), |line: &str| {
        let line = line.trim();
        line == "#[test]" || line.starts_with("#[tokio::test")
    });
    let lines: Vec<&str> = code.lines().collect();
    lines.iter().enumerate().any(|(at, line)| {
        let from = at.saturating_sub(ATTRIBUTES_MAX);
        let before = lines.get(from..at).unwrap_or_default();
        let own = before.iter().rev().take_while(|line| !line.contains("fn "));
        line.contains(&plain) && own.into_iter().any(|line| starts(line))
    })
}

#[test]
fn every_row_has_a_test_and_every_test_that_is_named_exists() {
    let path = text::root().join("integration-tests/fixtures/semantics-rows.tsv");
    let list = std::fs::read_to_string(path).expect("read the list of rows");
    let mut shown: BTreeMap<&str, (&str, BTreeSet<&str>)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[row, row_text, test] = &fields[..] else {
            panic!("not three fields: {line:?}");
        };
        let (known, tests) = shown.entry(row).or_insert((row_text, BTreeSet::new()));
        if *known != row_text || !tests.insert(test) {
            wrong.push(format!(
                "{row}: another text, or a test that stands twice: {line}"
            ));
        }
        let (file, name) = test.rsplit_once("::").expect("file::test");
        let code = std::fs::read_to_string(text::root().join(file)).unwrap_or_default();
        if !has_test(&code, name) {
            wrong.push(format!("{row}: {test} does not exist"));
        }
    }
    let rows = PARTS
        .iter()
        .flat_map(|(part, count)| (1..=*count).map(move |n| format!("{part}{n}")));
    let rows: BTreeSet<String> = rows.collect();
    for row in &rows {
        if !shown.contains_key(row.as_str()) {
            wrong.push(format!("{row} has no test"));
        }
    }
    wrong.extend(
        shown
            .keys()
            .filter(|row| !rows.contains(**row))
            .map(|row| format!("{row} is no row")),
    );
    assert!(
        wrong.is_empty(),
        "semantics-rows.tsv:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_test_is_known_by_its_attribute() {
    let code = "#[test]\nfn one() {\n}\n\nfn two() {\n}\n\n    #[tokio::test(flavor = \"x\")]\n    #[cfg(a)]\n    \
                async fn three() {\n";
    assert!(has_test(code, "one") && has_test(code, "three"));
    assert!(!has_test(code, "two") && !has_test(code, "on") && !has_test(code, "four"));
}
