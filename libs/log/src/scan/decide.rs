//! What to do about the end of a segment: a pure decision.

use super::{ScanEnd, StopReason};
use crate::sidecar::Verification;

/// What the decision needs beside the scan.
#[derive(Debug, Clone, Copy)]
pub struct TailContext<'a> {
    /// Name of the segment, for messages.
    pub file_name: &'a str,
    /// The check against the sidecar; `None` for a segment without one (Redis wrote it).
    pub verification: Option<&'a Verification>,
    /// Whether a later segment holds stream bytes. A tail can be missing only at the end
    /// of the log: replay never crosses a gap. (A later segment that is empty or holds
    /// nothing but its prefix is no follower.)
    pub followed_by_data: bool,
    /// `aof-load-truncated`.
    pub load_truncated: bool,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TailDecision {
    /// Every byte belongs to a replayable command.
    Clean,
    /// Cut the file at `position`, keeping a copy of what is cut.
    TruncateAt {
        /// New length of the file.
        position: u64,
        /// Why.
        reason: String,
    },
    /// Refuse the start.
    Refuse {
        /// Position of the damage.
        position: u64,
        /// 0-based number of the command that can't be read, counted from the scan's start.
        command_index: u64,
        /// What is wrong.
        reason: String,
        /// What the operator can do.
        way_out: &'static str,
    },
}

// Not `redis-check-aof --fix`: it cuts a segment and leaves its sidecar, which then proves damage.
const RESTORE: &str = "restore the file from a backup or a replica; \
    `redrock-persist check` shows what can be saved, and with --repair keeps that much";
const FIX: &str = "restore the file from a backup or a replica, or run `redrock-persist check \
    --repair` on it, which cuts it there and keeps the original beside it";
const ALLOW: &str = "run `redrock-persist check --repair` on it, which cuts it there and keeps the \
    original beside it, or set 'aof-load-truncated' to yes and restart the server";

/// Decides as DESIGN section 5 says: replay every complete command outside an open MULTI,
/// cut from the first byte that does not parse, refuse damage at or before the durable
/// watermark. Without a sidecar, Redis's rules: a short tail may be cut, a bad byte never.
pub fn decide_tail(end: &ScanEnd, context: TailContext<'_>) -> TailDecision {
    let name = context.file_name;
    let refuse = |position, reason: String, way_out| TailDecision::Refuse {
        position,
        command_index: end.commands,
        reason,
        way_out,
    };
    if let Some(damage) = context
        .verification
        .and_then(|checked| checked.durable_damage)
    {
        return refuse(
            damage.from,
            format!(
                "bytes {}..{} of {name} were durable and are damaged or missing",
                damage.from, damage.to
            ),
            RESTORE,
        );
    }
    let durable = context.verification.map(|checked| checked.durable_position);
    let reason = match &end.reason {
        StopReason::End => return TailDecision::Clean,
        StopReason::TooLarge { reason } => {
            return refuse(
                end.position,
                format!("{reason} at offset {} of {name}", end.position),
                FIX,
            );
        }
        StopReason::BadFormat { at, reason } => {
            if durable.is_none_or(|durable| *at < durable) {
                return refuse(
                    *at,
                    format!(
                        "Bad file format reading the append only file {name}: {reason}, at offset {at}"
                    ),
                    FIX,
                );
            }
            format!("{reason} at offset {at}, behind the last sync")
        }
        StopReason::Incomplete => {
            format!("the command at offset {} is incomplete", end.position)
        }
        StopReason::OpenMulti { multi_start } => {
            format!("the transaction at offset {multi_start} has no EXEC")
        }
    };
    if context.followed_by_data {
        return refuse(
            end.position,
            format!(
                "{reason}, and {name} is not the last file: the truncated file is not the last file"
            ),
            FIX,
        );
    }
    if !context.load_truncated {
        return refuse(
            end.position,
            format!("Unexpected end of file reading the append only file {name}: {reason}"),
            ALLOW,
        );
    }
    TailDecision::TruncateAt {
        position: end.safe_position,
        reason,
    }
}
