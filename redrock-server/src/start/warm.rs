//! Whether the tier can be gone on with: it must belong to the file that this start would load.

use super::directory::{DataDirectory, names};
use crate::config::Config;
use crate::keyspace::cold::warm::{self, WarmStart};
use crate::server::Server;
use redrock_log::fs::{FsFile, OpenMode};
use redrock_log::manifest;
use redrock_rdb::crc64::Crc64;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of the checksum at a file's end.
const CHECKSUM_BYTES: u64 = 8;
const READ_BYTES: usize = 1 << 20;

/// What the start can go on with; `None` if all is to be loaded from the file, which always can be.
pub fn find(server: &Server, config: &Config, data: &DataDirectory) -> Option<WarmStart> {
    if !config.memory.tiering || !config.snapshot.warm_restart {
        return None;
    }
    let found = warm::read(&config.memory.tier_dir).and_then(|start| {
        let Some(start) = start else { return Ok(None) };
        matches(server, config, data, &start).map(|()| Some(start))
    });
    found.unwrap_or_else(|why| {
        tracing::info!("The tier's kept checkpoint is not used, all is loaded: {why}");
        None
    })
}

/// Whether the checkpoint is of the same cut as the file that is to be loaded, and that file's
/// head is whole.
fn matches(
    server: &Server,
    config: &Config,
    data: &DataDirectory,
    start: &WarmStart,
) -> Result<(), String> {
    let positioner = server.keyspace.lock().positioner();
    if positioner.secret() != start.secret {
        return Err("it was exchanged a moment ago".to_owned());
    }
    let wanted = file_to_load(config, data)?;
    let of_start = data.path.join(&start.file);
    if wanted != of_start {
        return Err(format!(
            "it belongs to {}, not to {}",
            of_start.display(),
            wanted.display()
        ));
    }
    let file = data.fs.open(&wanted, OpenMode::Read);
    let file = file.map_err(|error| format!("{}: {error}", wanted.display()))?;
    same_file(&file, start).map_err(|why| format!("{} {why}", wanted.display()))
}

/// The RDB file that this start would load.
fn file_to_load(config: &Config, data: &DataDirectory) -> Result<PathBuf, String> {
    if !config.append_only.enabled {
        return Ok(data.path.join(&config.snapshot.file_name));
    }
    let directory = data.log_directory(config);
    let found = manifest::load(data.fs.as_ref(), &directory, &names(config));
    let manifest = found
        .map_err(|error| error.to_string())?
        .ok_or("there is no log")?;
    let base = manifest.base.ok_or("the log has no base")?;
    Ok(directory.join(base.name))
}

fn same_file(file: &Arc<dyn FsFile>, start: &WarmStart) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("can't be read: {error}");
    let length = file.len().map_err(failed)?;
    if length != start.file_bytes || start.dirty_bytes > length {
        return Err(format!("has {length} bytes, not {}", start.file_bytes));
    }
    let mut checksum = [0; CHECKSUM_BYTES as usize];
    let at = length.saturating_sub(CHECKSUM_BYTES);
    file.read_full_at(&mut checksum, at).map_err(failed)?;
    if u64::from_le_bytes(checksum) != start.file_crc64 {
        return Err("is another file of that name".to_owned());
    }
    let mut crc = Crc64::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut position = 0;
    while position < start.dirty_bytes {
        let left = usize::try_from(start.dirty_bytes - position).unwrap_or(READ_BYTES);
        let part = &mut buffer[..left.min(READ_BYTES)];
        let count = file.read_full_at(part, position).map_err(failed)?;
        if count < part.len() {
            return Err("became shorter".to_owned());
        }
        crc.update(part);
        position += count as u64;
    }
    if crc.value() != start.dirty_crc64 {
        return Err("is damaged at its head".to_owned());
    }
    Ok(())
}

/// The head of the file has been loaded: with what the tier holds it is all of it.
pub fn complete(server: &Server, warm: &WarmStart) -> anyhow::Result<()> {
    let completed = server.keyspace.lock().complete_cold(warm);
    completed.map_err(|why| {
        let tier = &server.config().memory.tier_dir;
        let hint = match warm::discard(tier) {
            Ok(_) => "The tier's kept checkpoint is given up: start again, and all is loaded from the file",
            Err(_) => "Start with --warm-restart no: all is then loaded from the file",
        };
        anyhow::anyhow!("{why}. {hint}")
    })?;
    let cold: u64 = warm.databases.iter().map(|d| d.cold).sum();
    tracing::info!("The tier goes on with {cold} keys of {}", warm.file);
    Ok(())
}
