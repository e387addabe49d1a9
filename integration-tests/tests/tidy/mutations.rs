//! The list of sabotages stays applicable: see `integration-tests/mutations/list.txt`.

use super::text;
use std::collections::BTreeSet;

/// An entry of the list.
#[derive(Debug, Default)]
struct Mutation {
    name: String,
    file: String,
    runs: usize,
    old: String,
    new: String,
}

fn mutations() -> Vec<Mutation> {
    let path = text::root().join("integration-tests/mutations/list.txt");
    let list = std::fs::read_to_string(path).expect("read the list of mutations");
    let mut found: Vec<Mutation> = Vec::new();
    let mut section = "";
    for line in list.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            section = "";
            found.push(Mutation {
                name: name.to_owned(),
                ..Mutation::default()
            });
            continue;
        }
        let Some(mutation) = found.last_mut() else {
            continue;
        };
        if let Some(name) = line.strip_prefix("-- ") {
            section = name;
        } else if section == "old" {
            mutation.old.push_str(&format!("{line}\n"));
        } else if section == "new" {
            mutation.new.push_str(&format!("{line}\n"));
        } else if let Some(file) = line.strip_prefix("file:") {
            mutation.file = file.trim().to_owned();
        } else if line.starts_with("run:") {
            mutation.runs += 1;
        }
    }
    found
}

#[test]
fn every_sabotage_still_applies_to_exactly_one_place() {
    let mutations = mutations();
    assert!(mutations.len() >= 12, "only {} mutations", mutations.len());
    let mut names = BTreeSet::new();
    for mutation in &mutations {
        let Mutation { name, file, .. } = mutation;
        assert!(names.insert(name), "{name} stands twice");
        assert!(mutation.runs > 0, "{name} names no test");
        let (old, new) = (mutation.old.trim_end(), mutation.new.trim_end());
        assert!(!old.is_empty() && old != new, "{name} changes nothing");
        let content = std::fs::read_to_string(text::root().join(file));
        let content = content.unwrap_or_else(|error| panic!("{name}: {file}: {error}"));
        let places = content.matches(old).count();
        assert_eq!(
            places, 1,
            "{name}: its old text occurs {places} times in {file}"
        );
    }
}
