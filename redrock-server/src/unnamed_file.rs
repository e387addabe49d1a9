//! Files without a name, for what is too large for memory and belongs to nobody after us.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

static NEXT_NAME: AtomicU64 = AtomicU64::new(0);

/// Makes one for reading and writing in `folder`. It has a name for a moment, which says what it is
/// for; what a kill leaves behind then is removed with other temporary files.
pub fn create(folder: &Path, purpose: &str) -> io::Result<File> {
    let number = NEXT_NAME.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(
        "temp-{purpose}-{}-{number}.spool",
        std::process::id()
    ));
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
