//! Finding a base by the id that a replica names.
//!
//! The files say themselves what they are, so that neither the agent nor the persister need know of
//! a transfer that one of them died in, and a base that has been replaced is found while something
//! keeps it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use redrock_log::backlog;
use redrock_proto::model::{Base, HexId, SharedPath};
use redrock_rdb::file::{Item, RdbReader, ReaderOptions};

use crate::snapshot_id::SnapshotId;

/// In the append-only directory.
const BASE_SUFFIX: &str = ".base.rdb";
/// Of the head of a file, read at once; what is wanted lies in there.
const HEAD_BUFFER_BYTES: usize = 4096;
/// Aux fields are shorter.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// The base of this id and the open file, if one is there that the peer can read. Blocks on the disk.
pub(super) fn find(
    data_dir: &Path,
    appenddirname: &str,
    id: SnapshotId,
    version_max: u32,
) -> Option<(Base, File)> {
    for directory in [data_dir.join(appenddirname), backlog::directory(data_dir)] {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_base = name.to_str().is_some_and(|name| {
                let is_for_replicas = backlog::is_base(name) && name != backlog::TEMPORARY_BASE;
                name.ends_with(BASE_SUFFIX) || is_for_replicas
            });
            let path = entry.path();
            if !is_base {
                continue;
            }
            match look_at(data_dir, &path, id) {
                Ok(Some(found)) if found.0.rdb_version <= version_max => return Some(found),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, path = %path.display(), "a base is left out");
                }
            }
        }
    }
    None
}

fn look_at(data_dir: &Path, path: &Path, id: SnapshotId) -> io::Result<Option<(Base, File)>> {
    let file = File::open(path)?;
    if file.metadata()?.len() != id.bytes || SnapshotId::of(&file, id.bytes, id.offset)? != Some(id)
    {
        return Ok(None);
    }
    let Some((version, replid, offset)) = head(&file) else {
        return Ok(None);
    };
    if offset != id.offset {
        return Ok(None);
    }
    let base = Base {
        path: SharedPath::new(data_dir, path),
        bytes: id.bytes,
        rdb_version: version.into(),
        replid,
        offset,
        stream_db: None,
        segments: vec![],
        holder: String::new(),
    };
    Ok(Some((base, file)))
}

/// Version, id and offset of the stream; `None` if the file is none of ours.
fn head(file: &File) -> Option<(u16, HexId, u64)> {
    let options = ReaderOptions {
        verify_checksum: false,
        allow_trailing: true,
        value_bytes_max: VALUE_BYTES_MAX,
        ..ReaderOptions::default()
    };
    let source = BufReader::with_capacity(HEAD_BUFFER_BYTES, FromStart { file, position: 0 });
    let mut reader = RdbReader::new(source, options).ok()?;
    let (mut replid, mut offset, mut is_ours) = (None, None, false);
    while let Ok(Some(Item::Aux { key, value })) = reader.next_item() {
        let value = String::from_utf8(value).unwrap_or_default();
        match key.as_slice() {
            b"repl-id" => replid = HexId::parse(&value),
            b"repl-offset" => offset = value.parse().ok(),
            b"redrock-ver" => is_ours = true,
            _ => {}
        }
    }
    is_ours.then_some((reader.version(), replid?, offset?))
}

/// Reads without moving the file's own position.
struct FromStart<'a> {
    file: &'a File,
    position: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(target, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use redrock_rdb::file::{RdbWriter, WriterOptions};

    use super::*;

    const REPLID: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A base of ours at an offset; its id.
    fn write(path: &Path, offset: u64, key: &str) -> SnapshotId {
        let mut bytes = vec![];
        let mut writer = RdbWriter::new(&mut bytes, WriterOptions::default()).unwrap();
        writer.aux(b"redrock-ver", b"1").unwrap();
        writer.aux(b"repl-id", REPLID.as_bytes()).unwrap();
        writer
            .aux(b"repl-offset", offset.to_string().as_bytes())
            .unwrap();
        writer.aux(b"note", key.as_bytes()).unwrap();
        writer.finish().unwrap();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &bytes).unwrap();
        let length = bytes.len() as u64;
        let file = File::open(path).unwrap();
        SnapshotId::of(&file, length, offset).unwrap().unwrap()
    }

    #[test]
    fn bases_are_found_in_both_places_by_what_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let one = write(&root.join("aof/appendonly.aof.1.base.rdb"), 70, "one");
        let two = write(&root.join("aof/appendonly.aof.2.base.rdb"), 70, "two");
        let three = write(&root.join("repl/base.1.rdb"), 90, "one");
        let other = write(&root.join("repl/temp-base.rdb"), 90, "four");
        let find = |id, version| super::find(root, "aof", id, version).map(|found| found.0);
        for (id, name) in [
            (one, "appendonly.aof.1.base.rdb"),
            (two, "appendonly.aof.2.base.rdb"),
            (three, "base.1.rdb"),
        ] {
            let base = find(id, 12).unwrap();
            assert!(base.path.resolve(root).ends_with(name));
            assert_eq!((base.offset, base.bytes), (id.offset, id.bytes));
            assert_eq!(base.replid, HexId::parse(REPLID).unwrap());
            assert!(find(id, 8).is_none(), "a version that the peer can't read");
        }
        let crc64 = one.crc64 ^ 1;
        assert!(find(SnapshotId { crc64, ..one }, 12).is_none());
        assert!(find(SnapshotId { offset: 71, ..one }, 12).is_none());
        let bytes = one.bytes + 1;
        assert!(find(SnapshotId { bytes, ..one }, 12).is_none());
        assert!(find(other, 12).is_none(), "one that is being written");
        std::fs::remove_dir_all(root.join("repl")).unwrap();
        assert!(find(three, 12).is_none());
    }
}
