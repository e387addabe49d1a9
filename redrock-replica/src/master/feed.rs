//! Reading the stream out of segment files, from any offset on.
//!
//! Invariants: the `SELECT` prefix of a segment is skipped; nothing beyond the
//! log's written offset is read; a segment that is no longer appended to is
//! read to its end, then the one that begins there follows. The buffer is all
//! the memory that a replica costs, however far it lags.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use redrock_log::segment::SegmentLayout;
use redrock_proto::model::LogState;

use super::catalog;
use crate::context::Context;

/// Read at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// A place in the stream, with the segment that holds it open.
#[derive(Debug)]
pub(crate) struct Cursor {
    context: Arc<Context>,
    path: PathBuf,
    file: Arc<File>,
    layout: SegmentLayout,
    /// Next byte to read.
    pub(crate) offset: u64,
    buffer: Vec<u8>,
}

impl Cursor {
    /// Opens the segment that holds `offset`. An error if none does any more.
    pub(crate) async fn open(
        context: &Arc<Context>,
        log: &LogState,
        offset: u64,
    ) -> anyhow::Result<Cursor> {
        let segment = find(context, log, offset).await?;
        Ok(Cursor {
            context: Arc::clone(context),
            path: segment.0,
            file: segment.1,
            layout: segment.2,
            offset,
            buffer: Vec::with_capacity(BUFFER_BYTES),
        })
    }

    /// The next bytes, at most a buffer full; empty if there are none yet.
    /// [`advance`](Cursor::advance) by what was used of them.
    pub(crate) async fn read(&mut self, log: &LogState) -> anyhow::Result<&[u8]> {
        self.buffer.clear();
        if self.offset >= log.written_offset {
            return Ok(&[]);
        }
        let current = log.segment.as_ref().context("the log was switched off")?;
        let is_current = current.path.resolve(&self.context.data_dir) == self.path;
        let end = match is_current {
            true => log.written_offset,
            false => self.finished_end()?.min(log.written_offset),
        };
        if self.offset < end {
            self.fill(end).await?;
            return Ok(&self.buffer);
        }
        if is_current {
            bail!("segment {} is shorter than told", self.path.display());
        }
        let (path, file, layout) = find(&self.context, log, self.offset).await?;
        if path == self.path {
            bail!("no segment follows {}", self.path.display());
        }
        (self.path, self.file, self.layout) = (path, file, layout);
        // The new one may be finished as well, or just be begun.
        let is_current = current.path.resolve(&self.context.data_dir) == self.path;
        let end = match is_current {
            true => log.written_offset,
            false => self.finished_end()?.min(log.written_offset),
        };
        self.fill(end).await?;
        Ok(&self.buffer)
    }

    pub(crate) fn advance(&mut self, bytes: u64) {
        self.offset += bytes;
    }

    /// End of a segment that is no longer appended to.
    fn finished_end(&self) -> anyhow::Result<u64> {
        let bytes = self.file.metadata().context("look at a segment")?.len();
        Ok(self.layout.offset_at(bytes))
    }

    async fn fill(&mut self, end: u64) -> anyhow::Result<()> {
        let position = self
            .layout
            .position_of(self.offset)
            .context("the offset lies before the segment")?;
        let wanted = end.saturating_sub(self.offset).min(BUFFER_BYTES as u64) as usize;
        let file = Arc::clone(&self.file);
        let mut buffer = std::mem::take(&mut self.buffer);
        let reading = tokio::task::spawn_blocking(move || {
            buffer.resize(wanted, 0);
            let result = file.read_exact_at(&mut buffer, position);
            (buffer, result)
        });
        let (buffer, result) = reading.await.context("read a segment")?;
        self.buffer = buffer;
        result.with_context(|| format!("read segment {}", self.path.display()))
    }
}

/// The segment that holds `offset`, opened.
async fn find(
    context: &Arc<Context>,
    log: &LogState,
    offset: u64,
) -> anyhow::Result<(PathBuf, Arc<File>, SegmentLayout)> {
    let (context, log) = (Arc::clone(context), log.clone());
    let finding = tokio::task::spawn_blocking(move || {
        let state = catalog::replication_state(&context.data_dir, &log);
        let appenddirname = context.settings().appenddirname;
        let found = catalog::scan(&context.data_dir, &appenddirname, &log);
        let chain = catalog::chain(found, &log, &context.data_dir, &state);
        let segment = catalog::holding(&chain, offset)
            .with_context(|| format!("offset {offset} is no longer in the log"))?;
        let file = File::open(&segment.path)
            .with_context(|| format!("open segment {}", segment.path.display()))?;
        Ok((segment.path.clone(), Arc::new(file), segment.layout))
    });
    finding.await.context("look for a segment")?
}
