//! A limit with a list of old offenders, whose figures may only shrink.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// One rule.
#[derive(Debug)]
pub(crate) struct Ratchet {
    list: PathBuf,
    limit: usize,
    allowed: BTreeMap<String, usize>,
    measured: BTreeMap<String, usize>,
}

impl Ratchet {
    /// The rule whose offenders stand in `integration-tests/tidy/<name>`, one `figure name` a
    /// line; everything else stays at or below `limit`.
    pub(crate) fn load(name: &str, limit: usize) -> Ratchet {
        let list = Path::new("tidy").join(name);
        let content = std::fs::read_to_string(&list).unwrap_or_default();
        let mut allowed = BTreeMap::new();
        for line in content.lines() {
            let (figure, item) = line
                .split_once(' ')
                .unwrap_or_else(|| panic!("{name}: bad line {line:?}"));
            allowed.insert(item.to_owned(), figure.parse().expect("a figure"));
        }
        Ratchet {
            list,
            limit,
            allowed,
            measured: BTreeMap::new(),
        }
    }

    /// Notes what `item` measures; of two with one name the larger counts.
    pub(crate) fn measure(&mut self, item: String, figure: usize) {
        let known = self.measured.entry(item).or_default();
        *known = figure.max(*known);
    }

    /// Fails if an item passes both the limit and its own figure. What has shrunk is printed:
    /// failing on it would turn each merge of two improvements red.
    pub(crate) fn finish(self, what: &str) {
        assert!(!self.measured.is_empty(), "nothing was measured");
        if std::env::var_os("RR_TIDY_UPDATE").is_some() {
            self.write();
            return;
        }
        let mut worse = String::new();
        for (item, figure) in &self.measured {
            let allowed = self.allowed.get(item).copied().unwrap_or(0).max(self.limit);
            if *figure > allowed {
                let _ = writeln!(worse, "  {item}: {figure}, at most {allowed}");
            }
        }
        for (item, allowed) in &self.allowed {
            let now = self.measured.get(item).copied().unwrap_or(0);
            if now < *allowed {
                println!(
                    "{item} has shrunk from {allowed} to {now}: RR_TIDY_UPDATE=1 lowers its figure"
                );
            }
        }
        assert!(worse.is_empty(), "{what}:\n{worse}");
    }

    fn write(&self) {
        let mut content = String::new();
        for (item, figure) in self
            .measured
            .iter()
            .filter(|(_, figure)| **figure > self.limit)
        {
            let _ = writeln!(content, "{figure} {item}");
        }
        std::fs::write(&self.list, content).expect("write the list");
    }
}
