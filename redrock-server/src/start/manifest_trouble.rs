//! A manifest that is damaged or missing: refused with the way out, never guessed.

use anyhow::{Context as _, bail};
use redrock_log::fs::Fs;
use redrock_log::manifest::{LoadError, Names};
use redrock_log::sidecar::has_stream_bytes;
use std::path::Path;

/// A manifest that can't be read, as Redis tells it, with the way out.
pub(super) fn unreadable(error: &LoadError, path: &Path) -> anyhow::Error {
    let path = path.display();
    let told = match error {
        LoadError::Invalid(error) => error.redis_report(),
        LoadError::Io(error) => format!("Can't open the AOF manifest file {path}: {error}"),
    };
    anyhow::anyhow!(
        "{told}\nWhat to do: restore the manifest {path} from a backup or a replica, or write it by \
         hand: a line per file, in order. `redrock-persist check` tells what the files hold. \
         Nothing was changed"
    )
}

/// Without a manifest nobody knows which files hold the data and in which order: to start empty
/// beside files that hold some would look like their loss, and the next rewrite would bury them.
pub(super) fn refuse_orphans(fs: &dyn Fs, directory: &Path, names: &Names) -> anyhow::Result<()> {
    let found = match fs.list(directory) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context(format!("list {}", directory.display())),
    };
    for name in found.iter().filter_map(|name| name.to_str()) {
        let path = directory.join(name);
        let holds_data = match names.incr_sequence(name) {
            Some(_) => has_stream_bytes(fs, &path)?,
            None => names.is_base(name) && fs.metadata(&path).is_ok_and(|file| file.len > 0),
        };
        if holds_data {
            bail!(
                "the append only directory {} has no manifest ({}), but {name} holds data. What to \
                 do: restore the manifest from a backup or a replica, or write it by hand (a line \
                 `file {name} seq 1 type i` per file in order, `type b` for the base); to start \
                 without this data move the files away. Nothing was changed",
                directory.display(),
                names.manifest()
            );
        }
    }
    Ok(())
}
