//! Reading an RDB from front to back, values included.

use std::collections::BTreeMap;
use std::sync::Arc;

use redrock_log::fs::FsFile;
use redrock_rdb::file::{Item, ModuleTally, RdbReader, ReaderOptions};
use redrock_rdb::object::decode;

use super::Verdict;
use crate::progress::ActionProgress;
use crate::rdb_head::FileReader;

/// Keys between two updates of the progress.
const PROGRESS_KEYS: u64 = 1024;

/// What was found in a sound file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RdbContent {
    /// Keys that a load finds.
    pub keys: u64,
    /// Where the RDB ends; more may follow in an append-only file.
    pub end: u64,
    /// Keys with empty collections, which a load leaves out.
    pub empty: u64,
    /// What a load leaves out because it is modules' own.
    pub modules: ModuleTally,
    /// Version, fields and sizes, for people.
    pub facts: Vec<(String, String)>,
}

impl RdbContent {
    /// Sound, or what a load would leave out.
    pub(super) fn verdict(&self) -> Verdict {
        let mut remarks = Vec::new();
        if !self.modules.is_empty() {
            let (keys, modules) = (self.modules.keys(), &self.modules);
            remarks.push(format!("{keys} keys belong to modules ({modules})"));
        }
        if self.empty > 0 {
            remarks.push(format!("{} keys are empty", self.empty));
        }
        match remarks.is_empty() {
            true => Verdict::Sound,
            false => Verdict::Remark(format!("{}; a load leaves them out", remarks.join("; "))),
        }
    }
}

/// Checks the RDB at the start of `file`; the error is the text for people.
pub(super) fn check_rdb(
    file: &Arc<dyn FsFile>,
    allow_trailing: bool,
    progress: &ActionProgress,
) -> Result<RdbContent, String> {
    let options = ReaderOptions {
        allow_trailing,
        ..ReaderOptions::default()
    };
    let source = FileReader::new(Arc::clone(file));
    let mut reader = RdbReader::new(source, options).map_err(|error| error.to_string())?;
    let mut found = RdbContent::default();
    let (mut database, mut facts) = (0, Facts::default());
    while let Some(item) = reader.next_item().map_err(|error| error.to_string())? {
        facts.note(&item);
        match item {
            Item::Entry(entry) => {
                found.keys += 1;
                if let Err(error) = decode(entry.object_type, &entry.payload) {
                    return Err(format!("{error} ({})", reader.place_of(&entry.key)));
                }
                if found.keys % PROGRESS_KEYS == 0 {
                    progress.written(reader.offset(), found.keys);
                }
            }
            Item::SelectDb(number) => database = number,
            Item::EmptyKey(_) => found.empty += 1,
            Item::ModuleKey(skipped) => found.modules.add_key(database, &skipped),
            Item::ModuleAux(module) => found.modules.add_piece(&module),
            Item::Aux { .. } | Item::ResizeDb { .. } | Item::Function(_) => {}
        }
    }
    found.end = reader.offset();
    found.facts = facts.finish(reader.version());
    Ok(found)
}

/// Fields that are told; a damaged file may have any number.
const FIELDS_MAX: usize = 64;
const FIELD_BYTES_MAX: usize = 256;

/// What a file says about itself, gathered while it is read.
#[derive(Debug, Default)]
struct Facts {
    fields: Vec<(String, String)>,
    database: u64,
    /// Keys, and those that expire, by database.
    sizes: BTreeMap<u64, (u64, u64)>,
    functions: u64,
    modules: u64,
}

impl Facts {
    fn note(&mut self, item: &Item) {
        match item {
            Item::Aux { key, value } if self.fields.len() < FIELDS_MAX => {
                let text = |bytes: &[u8]| {
                    let shown = bytes.get(..FIELD_BYTES_MAX).unwrap_or(bytes);
                    shown.escape_ascii().to_string()
                };
                self.fields.push((text(key), text(value)));
            }
            Item::SelectDb(database) => self.database = *database,
            Item::Function(_) => self.functions += 1,
            Item::ModuleAux(_) => self.modules += 1,
            Item::Entry(entry) => {
                let size = self.sizes.entry(self.database).or_default();
                size.0 += 1;
                size.1 += u64::from(entry.expire_at_ms.is_some());
            }
            _ => {}
        }
    }

    fn finish(self, version: u16) -> Vec<(String, String)> {
        let mut facts = vec![("RDB version".to_owned(), version.to_string())];
        facts.extend(self.fields);
        for (what, count) in [
            ("function libraries", self.functions),
            ("data of modules", self.modules),
        ] {
            if count > 0 {
                facts.push((what.to_owned(), count.to_string()));
            }
        }
        let sizes = self.sizes.into_iter().take(FIELDS_MAX);
        facts.extend(sizes.map(|(database, (keys, expires))| {
            let text = format!("{keys} keys, {expires} of them expire");
            (format!("db{database}"), text)
        }));
        facts
    }
}
