//! The file that a snapshot is written into.
//!
//! Invariants: what is written goes to the disk every few megabytes, so that neither the page cache nor
//! the final sync grows with the data set; nothing counts before [`FileSink::sync`] returned. An error of a piece is
//! met by one of the next writes, and in any case by the sync.

mod pages;
#[cfg(test)]
mod tests;
mod writer;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redrock_log::fs::{FsFile, OpenMode};

use self::pages::Pages;
use self::writer::Writer;
use crate::data_dir::DataDir;
use crate::error::{Result, io_error};

/// Appends to a file of its own.
#[derive(Debug)]
pub(super) struct FileSink {
    file: Arc<dyn FsFile>,
    path: PathBuf,
    position: u64,
    way: Way,
}

/// How what is written comes to the disk.
#[derive(Debug)]
enum Way {
    /// When the system likes, and with the final sync (`rdb-save-incremental-fsync no`).
    Whenever,
    /// Piece by piece, by a thread of its own.
    Behind(Writer),
    /// Piece by piece, by who writes.
    Here(Pages),
}

impl FileSink {
    /// Creates the file, or empties one that was left behind.
    pub(super) fn create(dir: &DataDir, path: &Path, incremental: bool) -> Result<FileSink> {
        let file = dir.open(path, OpenMode::CreateTruncate)?;
        let way = match incremental {
            false => Way::Whenever,
            true => match Writer::start(&file) {
                Some(writer) => Way::Behind(writer),
                None => Way::Here(Pages::default()),
            },
        };
        Ok(FileSink {
            file,
            path: path.to_owned(),
            position: 0,
            way,
        })
    }

    /// Makes everything durable, the length included.
    pub(super) fn sync(&mut self) -> Result<()> {
        if let Way::Behind(writer) = &mut self.way {
            writer
                .finish()
                .map_err(|error| io_error("write", &self.path, &error))?;
        }
        self.file
            .sync_all()
            .map_err(|error| io_error("sync", &self.path, &error))?;
        pages::drop_from_cache(&*self.file, 0, self.position);
        Ok(())
    }
}

impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.way {
            Way::Behind(writer) => {
                writer.write(bytes)?;
                bytes.len()
            }
            Way::Here(_) | Way::Whenever => self.file.write_at(bytes, self.position)?,
        };
        self.position += count as u64;
        if let Way::Here(pages) = &mut self.way {
            pages.written(&*self.file, self.position)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
