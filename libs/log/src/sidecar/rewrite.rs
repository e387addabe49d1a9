//! Sidecars with fewer claims: for bytes that are about to be cut from a segment, and for copies of a
//! segment's beginning.

use std::path::Path;

use super::{Record, SidecarError, SidecarReader, record_position, sidecar_path};
use crate::fs::{Fs, OpenMode, directory_of};

/// Replaces a segment's sidecar by one without claims beyond `position`, durably. To be
/// done **before** the segment is cut: a crash in between leaves a longer segment with an
/// unverified tail, which recovery judges and cuts again; the other order would leave a
/// watermark beyond the end of the file, which looks like damage.
///
/// Does nothing if the segment has no sidecar.
pub fn rewrite_up_to(fs: &dyn Fs, segment: &Path, position: u64) -> Result<(), SidecarError> {
    let Some(reader) = SidecarReader::open(fs, segment)? else {
        return Ok(());
    };
    let path = reader.path().to_owned();
    let directory = directory_of(&path).to_owned();
    let mut name = std::ffi::OsString::from("temp-");
    name.push(path.file_name().unwrap_or_default());
    let temporary = directory.join(name);
    let failed = |source| SidecarError::Io {
        path: path.clone(),
        source,
    };
    write_up_to(fs, &reader, position, &temporary, OpenMode::CreateTruncate)?;
    fs.rename(&temporary, &path).map_err(failed)?;
    fs.sync_dir(&directory).map_err(failed)
}

/// Gives the copy of a segment's first `position` bytes, at `copy`, a sidecar of its own: the
/// original's without claims beyond them. It must not exist; it is synced, its name is not.
///
/// Does nothing if the original has no sidecar.
pub fn copy_up_to(
    fs: &dyn Fs,
    segment: &Path,
    position: u64,
    copy: &Path,
) -> Result<(), SidecarError> {
    match SidecarReader::open(fs, segment)? {
        Some(reader) => write_up_to(
            fs,
            &reader,
            position,
            &sidecar_path(copy),
            OpenMode::CreateNew,
        ),
        None => Ok(()),
    }
}

fn write_up_to(
    fs: &dyn Fs,
    reader: &SidecarReader,
    position: u64,
    target: &Path,
    mode: OpenMode,
) -> Result<(), SidecarError> {
    let failed = |source| SidecarError::Io {
        path: target.to_owned(),
        source,
    };
    let file = fs.open(target, mode).map_err(failed)?;
    file.write_all_at(&reader.header().encode(), 0)
        .map_err(failed)?;
    let mut kept = 0u32;
    reader.each_record(|record: Record| {
        if record.position <= position {
            let bytes = record.encode(reader.header_checksum(), kept);
            file.write_all_at(&bytes, record_position(kept))
                .map_err(failed)?;
            kept += 1;
        }
        // Durable records of earlier positions may follow: go on to the end.
        Ok(true)
    })?;
    file.sync_all().map_err(failed)
}
