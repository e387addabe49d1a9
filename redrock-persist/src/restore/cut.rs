//! Where in the log a target lies: always behind a whole command, outside of MULTI.

use redrock_log::fs::{Fs, OpenMode};
use redrock_log::scan::{ScanLimits, SegmentScanner, Step, StopReason};
use redrock_log::sidecar::SidecarReader;
use redrock_proto::RpcError;

use super::chain::{Chain, Segment};
use super::choose::Target;
use crate::error::{Result, io_error, sidecar_error};

/// A segment, or its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub segment: Segment,
    /// Position behind the last byte taken.
    pub end: u64,
    /// Whether a later piece holds data: nothing is ever appended to or cut from this one.
    pub followed: bool,
}

impl Piece {
    /// Bytes of commands.
    fn has_data(&self) -> bool {
        let prefix = self.segment.place.map_or(0, |place| place.prefix_bytes);
        self.end > prefix
    }

    /// Whether the original can stand for it.
    pub fn is_whole(&self) -> bool {
        self.end == self.segment.bytes
    }

    /// Stream offset of its end, where that is known.
    pub fn end_offset(&self) -> Option<u64> {
        let place = self.segment.place?;
        let behind = self.end.saturating_sub(place.prefix_bytes);
        Some(place.start_offset.saturating_add(behind))
    }
}

/// How far a segment may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// To its end.
    Whole,
    /// No command that ends behind this position.
    Position(u64),
    /// No command behind a `#TS` annotation that is later, unix seconds.
    Annotated(i64),
}

/// The pieces of a chain that make up the data set at the target. Reads the last of them.
pub fn pieces(fs: &dyn Fs, chain: &Chain, target: Target) -> Result<Vec<Piece>> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (index, segment) in chain.segments.iter().enumerate() {
        let later = chain.segments.get(index + 1..).unwrap_or(&[]);
        let end = match goes_on(later, target) {
            true => segment.bytes,
            false => {
                let limit = limit(fs, segment, target)?;
                boundary(fs, segment, limit, later)?
            }
        };
        let cut = end < segment.bytes;
        pieces.push(Piece {
            segment: segment.clone(),
            end,
            followed: false,
        });
        let over = later.first().is_some_and(|next| !reaches(next, target));
        if cut || over {
            break;
        }
    }
    let mut data_behind = false;
    for piece in pieces.iter_mut().rev() {
        piece.followed = data_behind;
        data_behind |= piece.has_data();
    }
    Ok(pieces)
}

/// Whether the target lies in a later segment, so that this one is taken as it is.
fn goes_on(later: &[Segment], target: Target) -> bool {
    let holds_data = |segment: &Segment| match segment.place {
        Some(place) => segment.bytes > place.prefix_bytes,
        None => segment.bytes > 0,
    };
    match target {
        Target::Latest => later.iter().any(holds_data),
        Target::Time { unix_ms } => later
            .iter()
            .filter_map(|segment| segment.place)
            .any(|place| place.begun_ms <= unix_ms),
        Target::Offset(offset) => later
            .iter()
            .filter_map(|segment| segment.place)
            .any(|place| place.start_offset < offset),
    }
}

/// Whether a segment may hold anything of the target.
fn reaches(next: &Segment, target: Target) -> bool {
    match (target, next.place) {
        (Target::Time { unix_ms }, Some(place)) => place.begun_ms <= unix_ms,
        (Target::Offset(offset), Some(place)) => place.start_offset < offset,
        _ => true,
    }
}

fn limit(fs: &dyn Fs, segment: &Segment, target: Target) -> Result<Limit> {
    let unix_ms = match target {
        Target::Latest => return Ok(Limit::Whole),
        Target::Offset(offset) => {
            let place = segment.place.ok_or_else(|| {
                let name = segment.path.display();
                RpcError::not_found(format!("{name} was not written by us: it has no offsets"))
            })?;
            let behind = offset.saturating_sub(place.start_offset);
            return Ok(Limit::Position(place.prefix_bytes.saturating_add(behind)));
        }
        Target::Time { unix_ms } => unix_ms,
    };
    let reader = SidecarReader::open(fs, &segment.path).map_err(sidecar_error)?;
    let Some(reader) = reader else {
        return Ok(match segment.modified_ms <= unix_ms {
            true => Limit::Whole,
            false => Limit::Annotated(i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX)),
        });
    };
    let summary = reader.summary().map_err(sidecar_error)?;
    let reached = reader.checkpoint_at(unix_ms).map_err(sidecar_error)?;
    let position = reached.map_or(0, |reached| reached.position);
    // What no record covers was written between the last one and the file's last change.
    let all = position == summary.checked_position
        && (position >= segment.bytes || segment.modified_ms <= unix_ms);
    Ok(match all {
        true => Limit::Whole,
        false => Limit::Position(position),
    })
}

/// The last position within the limit behind a whole command outside of MULTI.
fn boundary(fs: &dyn Fs, segment: &Segment, limit: Limit, later: &[Segment]) -> Result<u64> {
    let path = &segment.path;
    let failed = |error| io_error("read", path, &error);
    let prefix = segment.place.map_or(0, |place| place.prefix_bytes);
    if segment.bytes <= prefix {
        return Ok(segment.bytes);
    }
    let file = fs.open(path, OpenMode::Read).map_err(failed)?;
    let mut scanner =
        SegmentScanner::new(file.as_ref(), prefix, ScanLimits::default()).map_err(failed)?;
    let (mut end, mut dated) = (prefix, !matches!(limit, Limit::Annotated(_)));
    loop {
        let behind = match scanner.next_step().map_err(failed)? {
            Step::Command(command) => command.end,
            Step::End(stop) if dated => {
                judge(fs, segment, &stop.reason, end, later)?;
                return Ok(end);
            }
            Step::End(_) => return Err(without_times(segment)),
        };
        let within = match (limit, scanner.last_timestamp()) {
            // Bytes that came after we looked at the length are left out.
            (Limit::Whole, _) => behind <= segment.bytes,
            (Limit::Position(position), _) => behind <= position,
            // What has no annotation before it is older than the first one.
            (Limit::Annotated(_), None) => true,
            (Limit::Annotated(second), Some(annotated)) => {
                let within = annotated <= second;
                if !within && !dated {
                    return Err(without_times(segment));
                }
                dated = true;
                within
            }
        };
        if !within {
            return Ok(end);
        }
        end = scanner.safe_position();
    }
}

fn without_times(segment: &Segment) -> RpcError {
    let name = segment.path.display();
    RpcError::not_found(format!(
        "{name} holds no times before the one that is wanted"
    ))
    .with_hint(
        "it was written by Redis without aof-timestamp-enabled: only its whole can be restored",
    )
}

/// A tail that a crash left may be cut, anything else is damage.
fn judge(
    fs: &dyn Fs,
    segment: &Segment,
    reason: &StopReason,
    end: u64,
    later: &[Segment],
) -> Result<()> {
    let durable = match SidecarReader::open(fs, &segment.path).map_err(sidecar_error)? {
        Some(reader) => reader.summary().map_err(sidecar_error)?.durable_position,
        None => 0,
    };
    let text = match reason {
        StopReason::End => return Ok(()),
        StopReason::Incomplete | StopReason::OpenMulti { .. } if later.is_empty() => return Ok(()),
        StopReason::Incomplete | StopReason::OpenMulti { .. } => {
            let empty = later
                .iter()
                .all(|next| next.bytes <= next.place.map_or(0, |place| place.prefix_bytes));
            if empty {
                return Ok(());
            }
            "a command or transaction is not whole".to_owned()
        }
        StopReason::BadFormat { at, .. } if segment.place.is_some() && *at >= durable => {
            return Ok(());
        }
        StopReason::BadFormat { at, reason } => format!("{reason} at position {at}"),
        StopReason::TooLarge { reason } => (*reason).to_owned(),
    };
    let name = segment.path.display();
    Err(
        RpcError::corrupt(format!("{name}: {text} (sound up to {end})")).with_hint(
            "restore to an earlier time, or see `redrock-persist check --repair` on a copy",
        ),
    )
}
