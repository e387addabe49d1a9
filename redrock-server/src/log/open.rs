//! Going on with a segment that recovery has opened.

use super::EffectLog;
use super::state::LogKind;
use redrock_log::sidecar::HexId;
use redrock_log::writer::SegmentWriter;
use std::sync::atomic::Ordering;

/// A segment to write to, opened by recovery.
#[derive(Debug)]
pub struct OpenSegment {
    /// The writer, at the end of the segment.
    pub segment: SegmentWriter,
    /// Its number in the manifest.
    pub sequence: u64,
    /// Whom the log is for.
    pub kind: LogKind,
    /// Replication id of the stream.
    pub replid: HexId,
    /// Database selected at the end of the segment.
    pub database: usize,
}

impl EffectLog {
    /// Starts appending to a segment that recovery has opened. Before the first command.
    pub fn open(&self, open: OpenSegment) {
        let mut writer = self.writer.lock();
        let offset = open.segment.offset();
        let mut syncer = self.syncer.lock();
        *syncer = Some(open.segment.syncer());
        let durable = open.segment.syncer().durable_offset().min(offset);
        self.durable.store(durable, Ordering::Release);
        self.written.store(offset, Ordering::Release);
        self.appended.store(offset, Ordering::Release);
        {
            let mut stream = self.stream.lock();
            stream.enter(&open.segment, open.sequence, open.kind);
            stream.replid = open.replid;
        }
        self.pending.lock().select(open.database);
        writer.segment = Some(open.segment);
        let for_replicas = open.kind == LogKind::Replication;
        self.for_replicas.store(for_replicas, Ordering::Release);
        self.covered_ms.store(self.elapsed_ms(), Ordering::Release);
        self.open.store(true, Ordering::Release);
        self.enabled.store(true, Ordering::Release);
        drop(syncer);
        drop(writer);
        self.publish();
    }
}
