//! Restoring to a point in time, into a new folder.
//!
//! [`chain`] finds what there is, [`choose`] decides what to take, [`cut`] where it ends, [`build`]
//! writes the folder. The sources are only read, and hard-linked where nobody ever changes the
//! file again.

pub mod build;
pub mod chain;
pub mod choose;
pub mod command;
pub mod cut;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use redrock_log::fs::RealFs;
use redrock_log::sidecar::SidecarReader;
use redrock_proto::ErrorCode;

use self::build::Built;
use self::chain::Chain;
use self::choose::{Target, choose};
use self::cut::Piece;
use crate::error::{Result, sidecar_error};
use crate::place::Staging;
use crate::progress::ActionProgress;

/// A running server's rewrite may remove files while we look; then we look again.
const ATTEMPTS_MAX: usize = 3;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Data directories, append-only folders, RDB files, backup sets, folders of sets.
    pub from: Vec<PathBuf>,
    pub into: PathBuf,
    pub target: Target,
    /// Copy what could be linked.
    pub copy: bool,
    /// Now: the log of a data directory is taken to reach until then.
    pub now_unix_ms: u64,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The chain taken.
    pub chain: Chain,
    pub built: Built,
    /// Stream offset reached, where it is known.
    pub offset: Option<u64>,
    /// A time by which everything restored had been done, unix milliseconds, where one is known.
    pub last_write_ms: Option<u64>,
    /// Keys in the base.
    pub keys: u64,
    /// Commands to replay.
    pub commands: u64,
}

/// Restores. Either the new folder is there as a whole when this returns, checked and durable,
/// or it is not there.
pub fn restore(request: &Request, progress: &ActionProgress) -> Result<Restored> {
    let mut attempt = 1;
    loop {
        match attempt_restore(request, progress) {
            Err(error) if error.code == ErrorCode::Busy && attempt < ATTEMPTS_MAX => attempt += 1,
            result => return result,
        }
    }
}

fn attempt_restore(request: &Request, progress: &ActionProgress) -> Result<Restored> {
    let staging = Staging::begin(&request.into)?;
    let mut chains = Vec::new();
    for from in &request.from {
        chains.extend(chain::find(&RealFs, from, request.now_unix_ms)?);
    }
    let chain = choose(&chains, request.target)?;
    let pieces = cut::pieces(&RealFs, chain, request.target)?;
    let built = build::build(staging.path(), chain, &pieces, !request.copy)?;
    let (keys, commands) = build::verify(staging.path(), progress)?;
    let last = last_piece(&pieces);
    let restored = Restored {
        built,
        offset: last.and_then(Piece::end_offset),
        last_write_ms: match last {
            Some(piece) => last_write(piece)?,
            None => Some(chain.begins_ms),
        },
        chain: chain.clone(),
        keys,
        commands,
    };
    staging.commit("restore", &|| Ok(()))?;
    Ok(restored)
}

fn last_piece(pieces: &[Piece]) -> Option<&Piece> {
    let with_bytes = pieces.iter().rev().find(|piece| piece.end > 0);
    with_bytes.or(pieces.last())
}

/// The time of the first record at or behind the end, or else of the file's last change.
fn last_write(piece: &Piece) -> Result<Option<u64>> {
    let segment = &piece.segment;
    let reader = SidecarReader::open(&RealFs, &segment.path).map_err(sidecar_error)?;
    let Some(reader) = reader else {
        return Ok(piece.is_whole().then_some(segment.modified_ms));
    };
    let mut found = None;
    let visit = |checkpoint: redrock_log::sidecar::Checkpoint| {
        found = Some(checkpoint);
        checkpoint.position < piece.end
    };
    reader.each_checkpoint(visit).map_err(sidecar_error)?;
    Ok(match found {
        Some(checkpoint) if checkpoint.position >= piece.end => Some(checkpoint.unix_ms),
        _ => Some(segment.modified_ms),
    })
}
