//! Reading the manifest from, and durably writing it to, the append-only directory.

use std::io;
use std::path::Path;

use super::reserve::write_into_reserve;
use super::{Manifest, ManifestError, Names, format, parse};
use crate::fs::{Fs, is_no_space, read_small, write_durably_checked};

/// A manifest is a line per file: what is longer than this is no manifest.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// The temporary name that a store goes through, the same as Redis's.
pub fn temporary_manifest_name(names: &Names) -> String {
    format!("temp-{}", names.manifest())
}

/// Why the manifest could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("can't open the AOF manifest file for reading: {0}")]
    Io(#[from] io::Error),
    /// The file was read but is no valid manifest.
    #[error(transparent)]
    Invalid(#[from] ManifestError),
}

/// Loads the manifest of the append-only directory; `None` if the directory or the file
/// does not exist.
pub fn load(fs: &dyn Fs, directory: &Path, names: &Names) -> Result<Option<Manifest>, LoadError> {
    let path = directory.join(names.manifest());
    match read_small(fs, &path, MANIFEST_BYTES_MAX) {
        Ok(bytes) => Ok(Some(parse(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a manifest the valid one: temporary file, fsync, rename, fsync of the directory. On a
/// full disk the temporary file is the [reserve](super::keep_reserve), if there is one.
///
/// The directory sync also covers the names of segments and bases that were created in it
/// before, as Redis relies on too.
pub fn store(fs: &dyn Fs, directory: &Path, names: &Names, manifest: &Manifest) -> io::Result<()> {
    store_checked(fs, directory, names, manifest, &|| Ok(()))
}

/// As [`store`], with a check just before the rename (companions pass the epoch guard's).
pub fn store_checked(
    fs: &dyn Fs,
    directory: &Path,
    names: &Names,
    manifest: &Manifest,
    check: &dyn Fn() -> io::Result<()>,
) -> io::Result<()> {
    let text = format(manifest);
    if text.is_empty() {
        // Redis refuses to start from an empty manifest; never write one.
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a manifest without files",
        ));
    }
    if text.lines().any(|line| line.len() >= super::LINE_BYTES_MAX) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a manifest line would pass Redis's limit of 1024 bytes",
        ));
    }
    let (path, bytes) = (directory.join(names.manifest()), text.as_bytes());
    match write_durably_checked(fs, &path, bytes, check) {
        Err(full) if is_no_space(&full) => {
            write_into_reserve(fs, directory, &path, bytes, check).map_err(|_| full)
        }
        written => written,
    }
}
