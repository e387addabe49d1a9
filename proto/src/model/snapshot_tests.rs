//! Tests of the frames' conversions and of [`FrameOrder`].

use super::super::record::{Access, RecordHeader, encode_header, encode_record};
use super::*;
use crate::error::ErrorCode;

fn begin(keys: &[(u32, u64)]) -> Begin {
    Begin {
        snapshot_id: 7,
        cut_unix_ms: 1_700_000_000_000,
        log_offset: 4711,
        replid: HexId::from_bytes([9; 20]),
        stream_db: Some(0),
        rotated: true,
        segment_seq: 3,
        append_only: true,
        databases: keys
            .iter()
            .map(|(index, keys)| Database {
                index: *index,
                generation: 5,
                keys: *keys,
                expires: 0,
            })
            .collect(),
        functions: vec![Bytes::from_static(b"#!lua name=x\n")],
        aux: vec![("a".into(), Bytes::from_static(b"b"))],
        used_memory_bytes: 1,
    }
}

fn header(database: u32) -> RecordHeader<'static> {
    RecordHeader {
        database,
        expires_unix_ms: None,
        access: Access::Unknown,
        object_type: 0,
        key: b"k",
    }
}

fn records(database: u32, count: u32) -> Frame {
    let mut packed = Vec::new();
    for _ in 0..count {
        encode_record(&mut packed, &header(database), b"\x01v");
    }
    Frame::Records {
        packed: packed.into(),
        count,
    }
}

fn chunk(first: Option<u64>, position: u64, payload: &'static [u8], last: bool) -> Frame {
    let mut packed = Vec::new();
    if let Some(total) = first {
        encode_header(&mut packed, &header(0), total);
    }
    Frame::ValueChunk(ValueChunk {
        header: packed.into(),
        payload_position: position,
        payload: Bytes::from_static(payload),
        last,
    })
}

fn checkpoint() -> Frame {
    let path = SharedPath::field("path", "tier/checkpoint-7").unwrap();
    Frame::CheckpointReady(CheckpointReady {
        path,
        files: 2,
        bytes: 100,
        lease_ms: 5000,
    })
}

fn dirty_end(by_database: &[u64]) -> Frame {
    Frame::DirtyEnd(DirtyEnd {
        records: by_database.iter().sum(),
        records_by_database: by_database.to_vec(),
    })
}

fn end() -> Frame {
    Frame::End(End {
        copy_window_ms: 1,
        pre_images: 0,
        pre_image_bytes: 0,
    })
}

/// Feeds all frames; the first error.
fn check(frames: &[Frame]) -> Result<FrameOrder, RpcError> {
    let mut order = FrameOrder::new();
    for frame in frames {
        order.check(frame)?;
    }
    Ok(order)
}

#[test]
fn frames_survive_the_wire() {
    let failed = Frame::Failed(RpcError::timeout("nobody took it").with_hint("wait"));
    let frames = [
        Frame::Begin(begin(&[(0, 1), (3, 4)])),
        records(0, 2),
        chunk(Some(4), 0, b"ab", false),
        checkpoint(),
        dirty_end(&[1, 2]),
        end(),
        failed,
        Frame::Waiting,
    ];
    for frame in frames {
        assert_eq!(
            Frame::try_from(v1::Frame::from(frame.clone())).unwrap(),
            frame
        );
    }
    assert!(Frame::try_from(v1::Frame { frame: None }).is_err());
}

#[test]
fn a_whole_take_passes_and_tells_the_cold_keys() {
    let order = check(&[
        Frame::Waiting,
        Frame::Begin(begin(&[(0, 10), (2, 3)])),
        records(0, 2),
        checkpoint(),
        chunk(Some(4), 0, b"ab", false),
        Frame::Waiting,
        chunk(None, 2, b"cd", true),
        chunk(Some(0), 0, b"abc", true),
        records(2, 3),
        dirty_end(&[4, 3]),
        end(),
    ])
    .unwrap();
    assert!(order.is_whole());
    assert_eq!(order.cold_keys(), [6, 0]);
}

#[test]
fn frames_in_the_wrong_place_are_refused() {
    let first = || Frame::Begin(begin(&[(0, 10)]));
    let wrong: Vec<(&str, Vec<Frame>)> = vec![
        ("nothing before begin", vec![records(0, 1)]),
        ("two begins", vec![first(), first()]),
        (
            "records inside a value",
            vec![first(), chunk(Some(4), 0, b"a", false), records(0, 1)],
        ),
        (
            "a piece of no value",
            vec![first(), chunk(None, 0, b"a", true)],
        ),
        (
            "a gap in a value",
            vec![
                first(),
                chunk(Some(9), 0, b"a", false),
                chunk(None, 2, b"a", true),
            ],
        ),
        (
            "a short value",
            vec![first(), chunk(Some(9), 0, b"a", true)],
        ),
        (
            "an overlong value",
            vec![first(), chunk(Some(1), 0, b"ab", false)],
        ),
        (
            "end inside a value",
            vec![first(), chunk(Some(4), 0, b"a", false), dirty_end(&[1])],
        ),
        (
            "records after the end",
            vec![first(), checkpoint(), dirty_end(&[0]), records(0, 1)],
        ),
        ("two checkpoints", vec![first(), checkpoint(), checkpoint()]),
        ("end without dirty end", vec![first(), checkpoint(), end()]),
        (
            "a lost record",
            vec![first(), records(0, 1), dirty_end(&[2])],
        ),
        ("too many keys", vec![first(), records(0, 11)]),
        ("an unknown database", vec![first(), records(1, 1)]),
        (
            "cold keys without a checkpoint",
            vec![first(), records(0, 1), dirty_end(&[1]), end()],
        ),
        (
            "frames after the end",
            vec![
                first(),
                records(0, 10),
                dirty_end(&[10]),
                end(),
                checkpoint(),
            ],
        ),
    ];
    for (name, frames) in wrong {
        let error = check(&frames).err().map(|error| error.code);
        assert_eq!(error, Some(ErrorCode::Corrupt), "{name}");
    }
}

#[test]
fn a_failed_take_gives_its_own_error() {
    let failed = Frame::Failed(RpcError::new(ErrorCode::NoSpace, "full"));
    let error = check(&[Frame::Begin(begin(&[])), failed]).unwrap_err();
    assert_eq!(error.code, ErrorCode::NoSpace);
}

#[test]
fn take_requests_are_validated() {
    let wire = |purpose: v1::Purpose, rotate: Option<u64>, bytes: u32| v1::TakeRequest {
        run: None,
        purpose: purpose.into(),
        rotate_to_segment: rotate,
        frame_bytes_max: bytes,
    };
    let take = TakeRequest::try_from(&wire(v1::Purpose::Rewrite, Some(4), 0)).unwrap();
    assert_eq!(take.rotate_to_segment, Some(4));
    assert_eq!(take.frame_bytes_max, 256 * 1024);
    for bad in [
        wire(v1::Purpose::Unspecified, None, 0),
        wire(v1::Purpose::Rewrite, None, 0),
        wire(v1::Purpose::Save, Some(0), 0),
        wire(v1::Purpose::Save, None, 1),
    ] {
        assert_eq!(
            TakeRequest::try_from(&bad).unwrap_err().code,
            ErrorCode::Invalid
        );
    }
}

#[test]
fn a_cut_with_impossible_counts_is_invalid() {
    let mut wire = v1::Begin::from(begin(&[(0, 1)]));
    wire.databases[0].expires = 2;
    assert!(Begin::try_from(wire).is_err());
    let mut wire = v1::Begin::from(begin(&[(1, 1), (0, 1)]));
    assert!(Begin::try_from(wire.clone()).is_err());
    wire.databases.clear();
    wire.replid = "no".into();
    assert!(Begin::try_from(wire).is_err());
}
