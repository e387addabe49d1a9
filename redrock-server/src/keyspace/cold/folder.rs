//! The tier's folder: wiped at each start, so it is to be ours beyond doubt.

use super::{ColdError, io};
use redrock_log::failpoint::counted;
use redrock_log::fs::{Fs as _, RealFs, open_regular, remove_tree};
use std::io::Read as _;
use std::path::Path;

/// File that marks a folder as a tier, which may be wiped.
pub const MARKER: &str = "REDROCK_TIER";
const MARKER_TEXT: &str = "This folder is RedRock's spill tier: values that did not fit into \
memory.\nIt is rebuilt at every start from the append-only file or the RDB file,\nand it is NOT \
a backup: copying it saves nothing. See the README.\n";

/// Wipes a tier folder but for the name `kept`, or refuses one that isn't ours. The caller holds the
/// data directory's lock and the port.
pub(super) fn prepare(path: &Path, kept: Option<&str>) -> Result<(), ColdError> {
    inspect(path)?;
    std::fs::create_dir_all(path).map_err(io("create", path))?;
    let marker = path.join(MARKER);
    counted(&marker, || std::fs::write(&marker, MARKER_TEXT)).map_err(io("write", &marker))?;
    for entry in std::fs::read_dir(path).map_err(io("read", path))? {
        let entry = entry.map_err(io("read", path))?;
        let is_kept = kept.is_some_and(|kept| entry.file_name() == kept);
        let entry = entry.path();
        if entry != marker && !is_kept {
            let removed = if entry.is_dir() {
                remove_tree(&entry)
            } else {
                RealFs.unlink(&entry)
            };
            removed.map_err(io("remove", &entry))?;
        }
    }
    Ok(())
}

/// Whether the folder may be wiped: it is missing, empty, or has the marker with our text, which
/// a file of that name alone is not.
pub(super) fn inspect(path: &Path) -> Result<(), ColdError> {
    let mut entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("read", path)(error)),
    };
    // A crash can leave the marker cut short.
    let is_ours = || {
        let read = || {
            let marker = path.join(MARKER);
            let file = open_regular(std::fs::OpenOptions::new().read(true), &marker)?;
            let mut text = Vec::new();
            file.take(MARKER_TEXT.len() as u64 + 1)
                .read_to_end(&mut text)?;
            Ok::<_, std::io::Error>(text)
        };
        read().is_ok_and(|text| MARKER_TEXT.as_bytes().starts_with(&text))
    };
    if entries.next().is_some() && !is_ours() {
        return Err(ColdError::Foreign(path.to_owned()));
    }
    Ok(())
}
