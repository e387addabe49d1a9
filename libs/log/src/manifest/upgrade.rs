//! The step from the single append-only file of Redis 6 and older to a manifest.
//!
//! As Redis 7 does: the manifest that names the old file as base 1 is stored first, then
//! the file moves into the append-only directory under its old name. A crash between the
//! two leaves a manifest whose only file is still outside: the next start sees exactly
//! that and repeats the step.

use std::io;
use std::path::Path;

use super::{FileEntry, FileKind, Manifest, Names, store};
use crate::fs::{Fs, directory_of};

/// What the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct UpgradeInputs<'a> {
    /// The single file exists in the data directory.
    pub single_file_exists: bool,
    /// The append-only directory exists.
    pub directory_exists: bool,
    /// A file of that name exists inside the append-only directory.
    pub moved_file_exists: bool,
    /// The manifest, if there is one.
    pub manifest: Option<&'a Manifest>,
}

/// Whether to upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradePlan {
    /// Nothing to do: load what the manifest says.
    NotNeeded,
    /// Store a manifest that names the single file, and move the file.
    MoveSingleFile,
}

/// Decides under Redis's three conditions.
pub fn plan_upgrade(names: &Names, inputs: UpgradeInputs<'_>) -> UpgradePlan {
    if !inputs.single_file_exists {
        return UpgradePlan::NotNeeded;
    }
    let interrupted = |manifest: &Manifest| {
        let lists_only_it = manifest
            .base
            .as_ref()
            .is_none_or(|base| base.name == names.file_name && !inputs.moved_file_exists);
        manifest.incr.is_empty() && lists_only_it
    };
    let needed = !inputs.directory_exists || inputs.manifest.is_none_or(interrupted);
    // A file of that name in the directory would be overwritten: Redis asserts there.
    if needed && !inputs.moved_file_exists {
        UpgradePlan::MoveSingleFile
    } else {
        UpgradePlan::NotNeeded
    }
}

/// Looks at the data directory and upgrades if needed; returns the manifest to load, or
/// `None` if there was nothing to upgrade.
///
/// `data_directory` holds the single file, `directory` is the append-only directory.
pub fn upgrade_single_file(
    fs: &dyn Fs,
    data_directory: &Path,
    directory: &Path,
    names: &Names,
    manifest: Option<&Manifest>,
) -> io::Result<Option<Manifest>> {
    let single = data_directory.join(&names.file_name);
    let moved = directory.join(&names.file_name);
    let plan = plan_upgrade(
        names,
        UpgradeInputs {
            single_file_exists: fs.exists(&single)? && !fs.metadata(&single)?.is_dir,
            directory_exists: fs.exists(directory)?,
            moved_file_exists: fs.exists(&moved)?,
            manifest,
        },
    );
    if plan == UpgradePlan::NotNeeded {
        return Ok(None);
    }
    fs.create_dir(directory)?;
    fs.sync_dir(directory_of(directory))?;
    let upgraded = Manifest {
        base: Some(FileEntry {
            name: names.file_name.clone(),
            sequence: 1,
            kind: FileKind::Base,
            start_offset: None,
            end_offset: None,
        }),
        ..Manifest::default()
    };
    store(fs, directory, names, &upgraded)?;
    fs.rename(&single, &moved)?;
    // The new name first: the file must never be without a durable one.
    fs.sync_dir(directory)?;
    fs.sync_dir(data_directory)?;
    Ok(Some(upgraded))
}
