//! Bytes that a former process wrote and may have failed to sync.
//!
//! The kernel counts the pages of a failed sync as clean: whoever opens the file later reads them,
//! and no sync writes them. So what no sync is known to have covered is written once more, as it
//! is, before a sync is believed.
//!
//! This is no cure for all that a failing disk does: the kernel may drop such pages altogether, and
//! ext4 does not write those again whose blocks the failed write had just been given. What is
//! certain to be good is a new file, which a rewrite makes.

use std::io;

use crate::fs::{FsFile, is_no_space};

/// Bytes held at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Writes the bytes of a file from `from` up to `to`, or its end, as they are. Syncs nothing.
pub(super) fn write_again(file: &dyn FsFile, from: u64, to: u64) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut at = from;
    while at < to {
        let wanted = usize::try_from(to - at).map_or(PIECE_BYTES, |rest| rest.min(PIECE_BYTES));
        let piece = buffer.get_mut(..wanted).unwrap_or_default();
        let count = file.read_full_at(piece, at)?;
        if count == 0 {
            break;
        }
        match file.write_all_at(piece.get(..count).unwrap_or_default(), at) {
            // Only where a file system gives what is overwritten a new place: a full disk is no
            // reason not to start.
            Err(error) if is_no_space(&error) => break,
            written => written?,
        }
        at += count as u64;
    }
    Ok(())
}
