//! The payload of DUMP and RESTORE: a value with version and checksum.
//!
//! `type byte | payload | RDB version, u16 | CRC-64 of all before, u64`, both
//! little endian.

use crate::crc64::{Crc64, crc64};

/// The newest RDB version whose values can be restored.
pub const VERSION_MAX: u16 = 12;

const FOOTER_BYTES: usize = 10;
const CHECKSUM_BYTES: usize = 8;

/// Why a payload was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// Too short, of a newer version, or damaged: Redis tells none of these
    /// apart. The text is what it answers.
    #[error("DUMP payload version or checksum are wrong")]
    VersionOrChecksum,
    /// The envelope is good but there is no value in it. The text is what Redis
    /// answers, also when the value can't be decoded.
    #[error("Bad data format")]
    BadFormat,
}

/// Appends the payload for a value of `object_type` whose bytes are `body`.
/// `version` is the RDB version that knows the type.
pub fn write(out: &mut Vec<u8>, object_type: u8, body: &[u8], version: u16) {
    let start = out.len();
    out.reserve(1 + body.len() + FOOTER_BYTES);
    out.push(object_type);
    out.extend_from_slice(body);
    seal(out, start, version);
}

/// Completes a payload whose type byte and body are `out[start..]`.
pub fn seal(out: &mut Vec<u8>, start: usize, version: u16) {
    out.extend_from_slice(&version.to_le_bytes());
    let mut crc = Crc64::new();
    crc.update(out.get(start..).unwrap_or(&[]));
    out.extend_from_slice(&crc.value().to_le_bytes());
}

/// Checks the envelope and gives type byte and body (Redis
/// `verifyDumpPayload`; unlike in files a checksum of zero is no exception).
/// The body is not looked at: `object::decode` does that.
pub fn verify(payload: &[u8]) -> Result<(u8, &[u8]), DumpError> {
    split(envelope(payload, true)?)
}

/// Like [`verify`], without comparing the checksum (`DEBUG
/// SET-SKIP-CHECKSUM-VALIDATION`).
pub fn verify_without_checksum(payload: &[u8]) -> Result<(u8, &[u8]), DumpError> {
    split(envelope(payload, false)?)
}

fn split(value: &[u8]) -> Result<(u8, &[u8]), DumpError> {
    let (object_type, body) = value.split_first().ok_or(DumpError::BadFormat)?;
    Ok((*object_type, body))
}

/// Checks version and checksum and gives what is before them.
pub(crate) fn envelope(payload: &[u8], check: bool) -> Result<&[u8], DumpError> {
    let wrong = DumpError::VersionOrChecksum;
    let (summed, checksum) = payload
        .len()
        .checked_sub(CHECKSUM_BYTES)
        .and_then(|at| payload.split_at_checked(at))
        .ok_or(wrong)?;
    let (value, version) = summed.split_last_chunk::<2>().ok_or(wrong)?;
    if u16::from_le_bytes(*version) > VERSION_MAX {
        return Err(wrong);
    }
    if check && checksum != crc64(0, summed).to_le_bytes() {
        return Err(wrong);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `SET k 12` and `DUMP k` in Redis 7.0.
    const DUMP_OF_12: &[u8] = b"\x00\xc0\x0c\x0a\x00";

    #[test]
    fn a_payload_too_short_for_its_footer_is_wrong() {
        for len in 0..10 {
            assert_eq!(
                verify(&vec![0; len]),
                Err(DumpError::VersionOrChecksum),
                "{len}"
            );
        }
    }

    #[test]
    fn an_envelope_without_a_value_is_badly_formatted() {
        let mut payload = 10u16.to_le_bytes().to_vec();
        let crc = crc64(0, &payload);
        payload.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(verify(&payload), Err(DumpError::BadFormat));
    }

    #[test]
    fn newer_versions_are_refused_and_a_zero_checksum_is_no_exception() {
        let mut payload = Vec::new();
        write(&mut payload, 0, b"\x01a", VERSION_MAX + 1);
        assert_eq!(verify(&payload), Err(DumpError::VersionOrChecksum));
        payload.clear();
        write(&mut payload, 0, b"\x01a", 10);
        let crc_at = payload.len() - 8;
        payload[crc_at..].fill(0);
        assert_eq!(verify(&payload), Err(DumpError::VersionOrChecksum));
        assert_eq!(verify_without_checksum(&payload), Ok((0, &b"\x01a"[..])));
    }

    #[test]
    fn layout_is_type_body_version_checksum() {
        let mut payload = Vec::new();
        write(&mut payload, 0, b"\xc0\x0c", 10);
        assert_eq!(&payload[..5], DUMP_OF_12);
        assert_eq!(payload.len(), 13);
    }

    proptest! {
        #[test]
        fn what_is_written_verifies(object_type: u8, body: Vec<u8>, version in 0u16..=12) {
            let mut payload = b"before".to_vec();
            write(&mut payload, object_type, &body, version);
            prop_assert_eq!(verify(&payload[6..]), Ok((object_type, &body[..])));
        }

        #[test]
        fn a_flipped_bit_is_found(body: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let mut payload = Vec::new();
            write(&mut payload, 0, &body, 10);
            let at = at.index(payload.len());
            payload[at] ^= 1 << bit;
            prop_assert!(verify(&payload).is_err());
        }
    }
}
