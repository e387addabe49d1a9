//! The thread that writes a snapshot's file: frames in, a synced file out.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redrock_proto::model::record::{Records, decode_header};
use redrock_proto::model::{Begin, Frame, Purpose, ValueChunk};
use redrock_proto::{RpcError, v1};
use tokio::sync::{mpsc, oneshot};

use super::checkpoint_copy::{ColdDatabase, CopyContext, copy_checkpoint};
use super::file_sink::FileSink;
use super::pace::{Pacer, Rate};
use super::rdb_file::{EntryHeader, RdbFile, RdbSummary, damaged};
use super::{Plan, Source};
use crate::data_dir::DataDir;
use crate::error::Result;
use crate::progress::ActionProgress;

/// For the thread to end after it was told to.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// Below the server's own threads, above idle ones.
const NICE: i32 = 10;

/// What the thread is fed with.
#[derive(Debug)]
pub(super) enum Item {
    /// Any frame between the first and the last.
    Frame(Frame),
    /// The stream is whole; these many keys of each database are in the checkpoint.
    End { cold_keys: Vec<u64> },
}

/// The thread, as seen from outside.
#[derive(Debug)]
pub(super) struct Builder {
    result: Option<oneshot::Receiver<Result<RdbSummary>>>,
    cancelled: Arc<AtomicBool>,
}

impl Builder {
    /// Starts the thread.
    pub(super) fn spawn(
        source: &Source,
        plan: Plan,
        begin: Begin,
        frames: mpsc::Receiver<Item>,
        progress: ActionProgress,
    ) -> Result<Builder> {
        let (sender, result) = oneshot::channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let job = Job {
            dir: source.dir.clone(),
            plan,
            begin,
            frames,
            progress,
            cancelled: Arc::clone(&cancelled),
            checkpoint: None,
        };
        std::thread::Builder::new()
            .name("snapshot".into())
            .spawn(move || {
                // Nobody listens any longer if the take was given up.
                let _ = sender.send(job.run());
            })
            .map_err(|error| RpcError::internal(format!("start the snapshot thread: {error}")))?;
        Ok(Builder {
            result: Some(result),
            cancelled,
        })
    }

    /// The file's summary once it is synced. Call once.
    pub(super) async fn finished(&mut self) -> Result<RdbSummary> {
        match self.result.as_mut() {
            Some(result) => result
                .await
                .unwrap_or_else(|_| Err(RpcError::internal("the snapshot thread died"))),
            None => Err(RpcError::internal("the snapshot thread has ended")),
        }
    }

    /// Tells the thread to end and waits for it, so that it does not write into a file that
    /// is about to be removed. The frames' sender must be gone.
    pub(super) async fn stop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        if let Some(result) = self.result.take()
            && !result.is_terminated()
            && tokio::time::timeout(STOP_WAIT, result).await.is_err()
        {
            tracing::warn!("the snapshot thread hangs; its disk may");
        }
    }
}

struct Job {
    dir: DataDir,
    plan: Plan,
    begin: Begin,
    frames: mpsc::Receiver<Item>,
    progress: ActionProgress,
    cancelled: Arc<AtomicBool>,
    checkpoint: Option<PathBuf>,
}

impl Job {
    fn run(mut self) -> Result<RdbSummary> {
        let temporary = self.plan.temporary.clone();
        let sink = FileSink::create(&self.dir, &temporary, self.plan.incremental_fsync)?;
        let mut rdb = RdbFile::begin(sink, &temporary, self.plan.file, &self.begin)?;
        rdb.pause_before_keys(self.plan.key_delay, Arc::clone(&self.cancelled));
        let cold_keys = self.dirty_part(&mut rdb)?;
        rdb.end_dirty_part()?;
        self.dir.pass("snapshot-after-dirty")?;
        // What is changed or leaves memory waits for the part before; for this one nobody does.
        if self.plan.rate == Rate::Automatic && self.plan.purpose != Purpose::Save {
            // Of this thread alone, as Linux has it. Only a wish.
            let _ = rustix::process::setpriority_process(None, NICE);
        }
        if let Some(checkpoint) = self.checkpoint.take() {
            self.cold_part(&mut rdb, &checkpoint, &cold_keys)?;
        }
        self.dir.pass("snapshot-after-cold")?;
        let expected: u64 = self
            .begin
            .databases
            .iter()
            .map(|database| database.keys)
            .sum();
        if rdb.entries() != expected {
            return Err(RpcError::corrupt(format!(
                "{} keys were written where {expected} were due",
                rdb.entries()
            )));
        }
        self.progress.enter(v1::Phase::Finishing);
        let summary = rdb.finish()?;
        self.progress
            .written(summary.written.bytes, summary.written.entries);
        self.dir.pass("snapshot-after-sync")?;
        Ok(summary)
    }

    /// Writes the stream up to its end; gives the cold keys by database.
    fn dirty_part(&mut self, rdb: &mut RdbFile) -> Result<Vec<u64>> {
        loop {
            match self.next_item()? {
                Item::End { cold_keys } => return Ok(cold_keys),
                Item::Frame(Frame::Records { packed, .. }) => {
                    for record in Records::new(&packed) {
                        let record = record?;
                        rdb.value(&EntryHeader::from(&record.header), record.payload)?;
                        self.progress.written(rdb.bytes(), rdb.entries());
                    }
                }
                Item::Frame(Frame::ValueChunk(chunk)) => self.large_value(rdb, chunk)?,
                Item::Frame(Frame::CheckpointReady(ready)) => {
                    self.checkpoint = Some(ready.path.resolve(self.dir.root()));
                }
                Item::Frame(Frame::DirtyEnd(_)) => self.progress.enter(v1::Phase::Copying),
                Item::Frame(_) => return Err(RpcError::corrupt("a frame out of order")),
            }
            self.progress.written(rdb.bytes(), rdb.entries());
        }
    }

    fn next_item(&mut self) -> Result<Item> {
        self.frames
            .blocking_recv()
            .ok_or_else(|| RpcError::cancelled("the snapshot was given up"))
    }

    fn large_value(&mut self, rdb: &mut RdbFile, first: ValueChunk) -> Result<()> {
        let packed_header = first.header.clone();
        let (header, _) = decode_header(&packed_header)?;
        let header = EntryHeader::from(&header);
        let mut reader = ChunkReader {
            job: self,
            piece: first.payload,
            last: first.last,
        };
        rdb.large_value(&header, &mut reader)?;
        if reader.is_at_end() {
            Ok(())
        } else {
            Err(damaged(&header, "bytes after the value's end"))
        }
    }

    fn cold_part(
        &self,
        rdb: &mut RdbFile,
        checkpoint: &std::path::Path,
        keys: &[u64],
    ) -> Result<()> {
        self.progress.enter(v1::Phase::Copying);
        let databases: Vec<ColdDatabase> = self
            .begin
            .databases
            .iter()
            .zip(keys)
            .map(|(database, keys)| ColdDatabase {
                database: *database,
                keys: *keys,
            })
            .collect();
        copy_checkpoint(
            checkpoint,
            &databases,
            &mut CopyContext {
                rdb,
                pacer: Pacer::new(self.plan.rate, Instant::now()),
                progress: &self.progress,
                cancelled: &self.cancelled,
            },
        )
    }
}

/// The pieces of one large value as a reader; ends behind its last piece.
struct ChunkReader<'a> {
    job: &'a mut Job,
    piece: Bytes,
    last: bool,
}

impl ChunkReader<'_> {
    fn is_at_end(&self) -> bool {
        self.last && self.piece.is_empty()
    }
}

impl Read for ChunkReader<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if self.last {
                return Ok(0);
            }
            match self.job.next_item().map_err(io::Error::other)? {
                Item::Frame(Frame::ValueChunk(chunk)) => {
                    self.piece = chunk.payload;
                    self.last = chunk.last;
                }
                // The checkpoint's frame may come anywhere before the end.
                Item::Frame(Frame::CheckpointReady(ready)) => {
                    self.job.checkpoint = Some(ready.path.resolve(self.job.dir.root()));
                }
                _ => return Err(io::Error::other("a value's pieces are interrupted")),
            }
        }
        let count = self.piece.len().min(target.len());
        let taken = self.piece.split_to(count);
        if let Some(target) = target.get_mut(..count) {
            target.copy_from_slice(&taken);
        }
        Ok(count)
    }
}
