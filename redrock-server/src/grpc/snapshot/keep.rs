//! What becomes of a checkpoint when its file is in place: it goes, or stays for a warm start.

use super::{Lease, SnapshotService, remove_checkpoint};
use crate::config::Config;
use crate::keyspace::cold::ColdStore;
use crate::keyspace::cold::warm::{self, WarmDatabase, WarmStart};
use crate::keyspace::snapshot::CutDatabase;
use redrock_proto::model::{HexId, Purpose};
use redrock_proto::v1;

/// The last cut, as the release of its checkpoint has to know it.
#[derive(Debug)]
pub(super) struct LastCut {
    pub(super) id: u64,
    pub(super) purpose: Purpose,
    pub(super) replid: HexId,
    pub(super) offset: u64,
    /// Whether the log switched segments: its base.
    pub(super) rotated: bool,
    /// Of the positions in the checkpoint.
    pub(super) secret: (u64, u64),
    pub(super) databases: Vec<CutDatabase>,
    /// Keys of each that were dirty; empty until all have been sent.
    pub(super) sent: Vec<u64>,
}

impl LastCut {
    /// Whether it was made for a dump.
    pub(super) fn is_for_dump(&self) -> bool {
        matches!(self.purpose, Purpose::Save | Purpose::BackgroundSave)
    }
}

/// Whether a start would load the file of such a cut.
fn is_loaded_at_start(config: &Config, purpose: Purpose) -> bool {
    match purpose {
        Purpose::Rewrite => true,
        Purpose::Save | Purpose::BackgroundSave => !config.append_only.enabled,
        Purpose::FullSync | Purpose::Backup => false,
    }
}

fn warm_start(cut: &LastCut, file: &v1::ReleaseRequest, store: &ColdStore) -> Option<WarmStart> {
    let is_checked = file.file_crc64 != 0 && file.dirty_crc64 != 0;
    let is_whole = cut.sent.len() == cut.databases.len();
    if !is_checked || !is_whole || file.file_path.contains('\n') {
        return None;
    }
    let of_database = |(cut, sent): (&CutDatabase, &u64)| WarmDatabase {
        index: cut.index,
        generation: cut.generation,
        keys: cut.keys,
        cold: cut.keys.saturating_sub(*sent),
        expires: cut.expires,
        timed: cut.timed,
    };
    Some(WarmStart {
        secret: cut.secret,
        file: file.file_path.clone(),
        file_bytes: file.file_bytes,
        file_crc64: file.file_crc64,
        dirty_bytes: file.dirty_bytes,
        dirty_crc64: file.dirty_crc64,
        databases: cut
            .databases
            .iter()
            .zip(&cut.sent)
            .map(of_database)
            .collect(),
        files: Vec::new(),
        // At least what held at the cut: they never become false.
        timed: store.has_times(),
        large: store.has_large_records(),
    })
}

impl SnapshotService {
    /// Keeps or removes the checkpoint of a cut whose file is in place.
    pub(super) async fn keep_or_release(&self, cut: Option<&LastCut>, file: &v1::ReleaseRequest) {
        let config = self.shared.server.config();
        let wanted = |cut: &&LastCut| {
            config.snapshot.warm_restart && is_loaded_at_start(&config, cut.purpose)
        };
        let start = match cut.filter(wanted) {
            Some(cut) => {
                let keyspace = self.shared.server.keyspace_when_idle().await;
                let store = keyspace.tiering.as_ref().map(|t| t.cold.clone());
                drop(keyspace);
                store.and_then(|store| warm_start(cut, file, &store))
            }
            None => None,
        };
        let held = start.and_then(|start| Some((self.take_lease(file.snapshot_id)?, start)));
        let Some((Lease { path, .. }, start)) = held else {
            self.release_checkpoint(file.snapshot_id);
            return;
        };
        let tier = config.memory.tier_dir.clone();
        let keeping = tokio::task::spawn_blocking(move || {
            warm::keep(&tier, &path, start).inspect_err(|error| {
                tracing::warn!(%error, "the checkpoint can't be kept for a warm start");
                remove_checkpoint(&path);
            })
        });
        // A start without it takes longer, and no more.
        let _told = keeping.await;
    }
}
