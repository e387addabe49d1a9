//! What the tests of this crate share: the corpus, and content that compares
//! whatever the encoding.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use redrock_rdb::file::{
    Entry, EntryMeta, FileError, Item, RdbReader, RdbWriter, ReaderOptions, WriterOptions,
};
use redrock_rdb::listpack::ListPack;
use redrock_rdb::object::{ListNode, Object, ObjectError, StreamObject, Target, Transcoder};

pub(crate) mod redis;

/// A file of the corpus.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) rdb: Vec<u8>,
    pub(crate) json: String,
}

/// The corpus, or `None` with a message if it is not there. `RR_RDB_CORPUS`
/// names its folder, which then must be there under `RR_NO_SKIP`.
pub(crate) fn corpus() -> Option<Vec<Case>> {
    let named = std::env::var_os("RR_RDB_CORPUS").map(PathBuf::from);
    let may_skip = named.is_none() || std::env::var_os("RR_NO_SKIP").is_none();
    let folder = named.unwrap_or_else(|| PathBuf::from("../../../shared/rdb-corpus"));
    let Ok(listing) = std::fs::read_dir(&folder) else {
        assert!(may_skip, "no corpus at {}", folder.display());
        eprintln!("skipped: no corpus at {}", folder.display());
        return None;
    };
    let mut cases: Vec<Case> = listing
        .map(|file| file.expect("list the corpus").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rdb"))
        .map(|path| Case {
            name: path
                .file_stem()
                .expect("a file name")
                .to_string_lossy()
                .into_owned(),
            rdb: std::fs::read(&path).expect("read a dump"),
            json: std::fs::read_to_string(path.with_extension("json")).expect("read its content"),
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(
        cases.len() >= 20,
        "the corpus is incomplete: {} files",
        cases.len()
    );
    Some(cases)
}

/// The files of other servers among the fixtures, by name, sorted; never none.
pub(crate) fn server_files() -> Vec<(String, Vec<u8>)> {
    let folder = "../../integration-tests/fixtures/rdb/servers";
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .expect("the fixtures")
        .map(|file| file.expect("list the fixtures").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rdb"))
        .map(|path| {
            let name = path.file_stem().expect("a file name").to_string_lossy();
            (
                name.into_owned(),
                std::fs::read(&path).expect("read a dump"),
            )
        })
        .collect();
    files.sort();
    assert!(files.len() >= 7, "only {} files", files.len());
    files
}

/// All items of a file.
pub(crate) fn read_items(rdb: &[u8], options: ReaderOptions) -> Result<Vec<Item>, FileError> {
    let mut reader = RdbReader::new(rdb, options)?;
    let mut items = Vec::new();
    while let Some(item) = reader.next_item()? {
        items.push(item);
    }
    Ok(items)
}

/// The entries of a file, each with its database.
pub(crate) fn entries_of(items: Vec<Item>) -> Vec<(u64, Entry)> {
    let mut database = 0;
    let mut entries = Vec::new();
    for item in items {
        match item {
            Item::SelectDb(selected) => database = selected,
            Item::Entry(entry) => entries.push((database, entry)),
            _ => {}
        }
    }
    entries
}

/// Writes the items of a file anew in a version. Hashes with field expiry are left out where it can't
/// hold them, and what is of modules everywhere.
pub(crate) fn rewrite(items: &[Item], version: u16, compress: bool, checksum: bool) -> Vec<u8> {
    let options = WriterOptions { version, checksum };
    let mut transcoder = Transcoder::new(Target {
        version: options.version,
        compress,
    });
    let mut writer = RdbWriter::new(Vec::new(), options).unwrap();
    for item in items {
        match item {
            Item::Aux { key, value } => writer.aux(key, value).unwrap(),
            Item::SelectDb(database) => writer.select_db(*database).unwrap(),
            Item::ResizeDb { keys, expires } => writer.resize_db(*keys, *expires).unwrap(),
            Item::Function(code) => writer.function(code).unwrap(),
            Item::Entry(entry) => {
                let mut body = Vec::new();
                match transcoder.transcode(entry.object_type, &entry.payload, &mut body) {
                    Err(ObjectError::NotInVersion { .. }) => {}
                    Err(error) => panic!("{error}"),
                    Ok(transcoded) => {
                        let meta = EntryMeta {
                            expire_at_ms: entry.expire_at_ms,
                            idle_secs: entry.idle_secs,
                            frequency: entry.frequency,
                        };
                        writer
                            .entry(&entry.key, &meta, transcoded.object_type, &body)
                            .unwrap();
                    }
                }
            }
            Item::ModuleAux(_) | Item::ModuleKey(_) | Item::EmptyKey(_) => {}
        }
    }
    writer.finish().unwrap().0
}

/// A value without its encoding. Scores are held by their bits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    ZSet(BTreeMap<Vec<u8>, f64>),
    Hash(BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>),
    Stream(StreamObject),
}

fn in_pairs(listpack: &ListPack) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all: Vec<Vec<u8>> = listpack.iter().map(|value| value.to_vec()).collect();
    all.chunks(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect()
}

/// The content of `object`.
pub(crate) fn content_of(object: Object) -> Content {
    match object {
        Object::String(bytes) => Content::String(bytes),
        Object::List(nodes) => Content::List(
            nodes
                .into_iter()
                .flat_map(|node| match node {
                    ListNode::Plain(element) => vec![element],
                    ListNode::Packed(elements) => {
                        elements.iter().map(|value| value.to_vec()).collect()
                    }
                })
                .collect(),
        ),
        Object::SetIntset(integers) => Content::Set(
            integers
                .iter()
                .map(|value| value.to_string().into_bytes())
                .collect(),
        ),
        Object::SetListpack(members) => {
            Content::Set(members.iter().map(|value| value.to_vec()).collect())
        }
        Object::Set(members) => Content::Set(members.into_iter().collect()),
        Object::ZSetListpack(members) => Content::ZSet(
            in_pairs(&members)
                .into_iter()
                .map(|(member, score)| {
                    (
                        member,
                        String::from_utf8(score).unwrap().parse().expect("a score"),
                    )
                })
                .collect(),
        ),
        Object::ZSet(members) => Content::ZSet(members.into_iter().collect()),
        Object::HashListpack(pairs) => Content::Hash(
            in_pairs(&pairs)
                .into_iter()
                .map(|(field, value)| (field, (value, None)))
                .collect(),
        ),
        Object::Hash(pairs) => Content::Hash(
            pairs
                .into_iter()
                .map(|(field, value)| (field, (value, None)))
                .collect(),
        ),
        Object::HashTtl(fields) => Content::Hash(
            fields
                .into_iter()
                .map(|(field, value, at)| (field, (value, at)))
                .collect(),
        ),
        Object::Stream(stream) => Content::Stream(stream),
    }
}
