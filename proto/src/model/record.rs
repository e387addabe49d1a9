//! The packed record layout of the snapshot stream.
//!
//! `snapshot.proto` (message `Records`) is the reference for the bytes. The
//! encoder appends to a caller's buffer; the decoder borrows from a frame,
//! checks every length before it uses it and allocates nothing.

use crate::error::RpcError;

/// Longest key, in bytes (`proto-max-bulk-len`'s default, Redis's own limit).
pub const KEY_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Longest payload inside a Records frame; longer ones leave in chunks.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

const FLAG_EXPIRY: u8 = 1;
const FLAG_LRU: u8 = 2;
const FLAG_LFU: u8 = 4;

/// How recently or often a key was used, as RDB files keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Unknown,
    /// Seconds since the last use.
    IdleSeconds(u64),
    /// LFU counter, 0 to 255.
    Frequency(u8),
}

/// Everything of a record but its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    pub database: u32,
    /// Unix milliseconds.
    pub expires_unix_ms: Option<i64>,
    pub access: Access,
    /// RDB object type.
    pub object_type: u8,
    pub key: &'a [u8],
}

/// One key with its value in RDB object encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub header: RecordHeader<'a>,
    pub payload: &'a [u8],
}

/// Bytes that don't hold what they should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packed record damaged at byte {position}: {problem}")]
pub struct RecordError {
    /// Position in the frame at which decoding stopped.
    pub position: usize,
    pub problem: &'static str,
}

impl From<RecordError> for RpcError {
    fn from(error: RecordError) -> RpcError {
        RpcError::corrupt(error.to_string())
    }
}

/// Appends a whole record. `payload` should not exceed [`PAYLOAD_BYTES_MAX`].
pub fn encode_record(out: &mut Vec<u8>, header: &RecordHeader<'_>, payload: &[u8]) {
    encode_header(out, header, payload.len() as u64);
    out.extend_from_slice(payload);
}

/// Appends a record without its payload (the `header` of a `ValueChunk`).
/// `payload_bytes` is the length of the whole value, 0 if it isn't known.
pub fn encode_header(out: &mut Vec<u8>, header: &RecordHeader<'_>, payload_bytes: u64) {
    encode_varint(out, u64::from(header.database));
    let mut flags = if header.expires_unix_ms.is_some() {
        FLAG_EXPIRY
    } else {
        0
    };
    match header.access {
        Access::Unknown => {}
        Access::IdleSeconds(_) => flags |= FLAG_LRU,
        Access::Frequency(_) => flags |= FLAG_LFU,
    }
    out.push(flags);
    if let Some(expires) = header.expires_unix_ms {
        out.extend_from_slice(&expires.to_le_bytes());
    }
    match header.access {
        Access::Unknown => {}
        Access::IdleSeconds(seconds) => encode_varint(out, seconds),
        Access::Frequency(frequency) => out.push(frequency),
    }
    out.push(header.object_type);
    encode_varint(out, header.key.len() as u64);
    out.extend_from_slice(header.key);
    encode_varint(out, payload_bytes);
}

/// Decodes the `header` of a `ValueChunk`: the header and the length of the
/// whole payload (0: unknown). Bytes after it are an error.
pub fn decode_header(bytes: &[u8]) -> Result<(RecordHeader<'_>, u64), RecordError> {
    let mut reader = Reader { bytes, position: 0 };
    let decoded = reader.header()?;
    if reader.position != bytes.len() {
        return Err(reader.error("bytes after the header"));
    }
    Ok(decoded)
}

/// The records of one frame, in order. After an error it yields nothing more.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    reader: Reader<'a>,
    failed: bool,
}

impl<'a> Records<'a> {
    pub fn new(packed: &'a [u8]) -> Records<'a> {
        Records {
            reader: Reader {
                bytes: packed,
                position: 0,
            },
            failed: false,
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.reader.position >= self.reader.bytes.len() {
            return None;
        }
        let record = self.reader.record();
        self.failed = record.is_err();
        Some(record)
    }
}

#[derive(Debug, Clone)]
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn record(&mut self) -> Result<Record<'a>, RecordError> {
        let (header, payload_bytes) = self.header()?;
        if payload_bytes > PAYLOAD_BYTES_MAX as u64 {
            return Err(self.error("payload too long for a frame"));
        }
        let payload = self.take(payload_bytes)?;
        Ok(Record { header, payload })
    }

    fn header(&mut self) -> Result<(RecordHeader<'a>, u64), RecordError> {
        let database = u32::try_from(self.varint()?)
            .ok()
            .filter(|database| *database <= i32::MAX as u32)
            .ok_or_else(|| self.error("database number out of range"))?;
        let flags = self.byte()?;
        let known = FLAG_EXPIRY | FLAG_LRU | FLAG_LFU;
        if flags & !known != 0 || flags & (FLAG_LRU | FLAG_LFU) == FLAG_LRU | FLAG_LFU {
            return Err(self.error("unknown flags"));
        }
        let expires_unix_ms = match flags & FLAG_EXPIRY {
            0 => None,
            _ => Some(i64::from_le_bytes(self.array()?)),
        };
        let access = match flags & (FLAG_LRU | FLAG_LFU) {
            FLAG_LRU => Access::IdleSeconds(self.varint()?),
            FLAG_LFU => Access::Frequency(self.byte()?),
            _ => Access::Unknown,
        };
        let object_type = self.byte()?;
        let key_bytes = self.varint()?;
        if key_bytes > KEY_BYTES_MAX as u64 {
            return Err(self.error("key too long"));
        }
        let key = self.take(key_bytes)?;
        let payload_bytes = self.varint()?;
        Ok((
            RecordHeader {
                database,
                expires_unix_ms,
                access,
                object_type,
                key,
            },
            payload_bytes,
        ))
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], RecordError> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let taken = usize::try_from(count)
            .ok()
            .and_then(|count| rest.get(..count));
        match taken {
            Some(taken) => {
                self.position += taken.len();
                Ok(taken)
            }
            None => Err(self.error("ends early")),
        }
    }

    fn byte(&mut self) -> Result<u8, RecordError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let taken = self.take(N as u64)?;
        taken.try_into().map_err(|_| self.error("ends early"))
    }

    /// Unsigned LEB128 of at most 64 bits.
    fn varint(&mut self) -> Result<u64, RecordError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.error("number too large"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error("number too long"))
    }

    fn error(&self, problem: &'static str) -> RecordError {
        RecordError {
            position: self.position,
            problem,
        }
    }
}

fn encode_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    struct Owned {
        database: u32,
        expires_unix_ms: Option<i64>,
        access: Access,
        object_type: u8,
        key: Vec<u8>,
        payload: Vec<u8>,
    }

    impl Owned {
        fn header(&self) -> RecordHeader<'_> {
            RecordHeader {
                database: self.database,
                expires_unix_ms: self.expires_unix_ms,
                access: self.access,
                object_type: self.object_type,
                key: &self.key,
            }
        }
    }

    fn record() -> impl Strategy<Value = Owned> {
        let access = prop_oneof![
            Just(Access::Unknown),
            any::<u64>().prop_map(Access::IdleSeconds),
            any::<u8>().prop_map(Access::Frequency),
        ];
        (
            0..=i32::MAX as u32,
            any::<Option<i64>>(),
            access,
            any::<u8>(),
            proptest::collection::vec(any::<u8>(), 0..300),
            proptest::collection::vec(any::<u8>(), 0..2000),
        )
            .prop_map(
                |(database, expires_unix_ms, access, object_type, key, payload)| Owned {
                    database,
                    expires_unix_ms,
                    access,
                    object_type,
                    key,
                    payload,
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_again(
            records in proptest::collection::vec(record(), 0..20)
        ) {
            let mut packed = Vec::new();
            for record in &records {
                encode_record(&mut packed, &record.header(), &record.payload);
            }
            let back: Vec<_> = Records::new(&packed).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(back.len(), records.len());
            for (got, sent) in back.iter().zip(&records) {
                prop_assert_eq!(got.header, sent.header());
                prop_assert_eq!(got.payload, sent.payload.as_slice());
            }
        }

        #[test]
        fn a_cut_frame_ends_with_an_error_and_whole_records_before(
            records in proptest::collection::vec(record(), 1..6),
            part in 0.0..1.0_f64,
        ) {
            let mut packed = Vec::new();
            let mut ends = vec![0];
            for record in &records {
                encode_record(&mut packed, &record.header(), &record.payload);
                ends.push(packed.len());
            }
            let cut = (packed.len() as f64 * part) as usize;
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            let results: Vec<_> = Records::new(&packed[..cut]).collect();
            prop_assert_eq!(results.iter().filter(|result| result.is_ok()).count(), whole);
            let clean = ends.contains(&cut);
            prop_assert_eq!(results.last().is_some_and(Result::is_err), !clean);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic_or_run_on(
            bytes in proptest::collection::vec(any::<u8>(), 0..400)
        ) {
            prop_assert!(Records::new(&bytes).count() <= bytes.len());
            let _ = decode_header(&bytes);
        }

        #[test]
        fn headers_round_trip_with_the_length_of_the_whole_value(
            record in record(), payload_bytes: u64
        ) {
            let mut packed = Vec::new();
            encode_header(&mut packed, &record.header(), payload_bytes);
            prop_assert_eq!(
                decode_header(&packed).unwrap(),
                (record.header(), payload_bytes)
            );
            packed.push(0);
            prop_assert!(decode_header(&packed).is_err());
        }
    }

    #[test]
    fn lengths_beyond_the_limits_are_refused_before_they_are_used() {
        let header = RecordHeader {
            database: 0,
            expires_unix_ms: None,
            access: Access::Unknown,
            object_type: 0,
            key: b"k",
        };
        let mut packed = Vec::new();
        encode_header(&mut packed, &header, PAYLOAD_BYTES_MAX as u64 + 1);
        let error = Records::new(&packed).next().unwrap().unwrap_err();
        assert_eq!(error.problem, "payload too long for a frame");

        let mut long_key = vec![0, 0, 0];
        encode_varint(&mut long_key, u64::MAX);
        let error = Records::new(&long_key).next().unwrap().unwrap_err();
        assert_eq!(error.problem, "key too long");
        let error = Records::new(&[0xff; 20]).next().unwrap().unwrap_err();
        assert_eq!(error.problem, "number too large");
        let error = Records::new(&[0, 6, 0]).next().unwrap().unwrap_err();
        assert_eq!(error.problem, "unknown flags");
    }
}
