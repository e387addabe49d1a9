//! Large values from a reader to a sink, without holding them in memory.
//!
//! Only values whose layout stays, or loses a fixed part, can go this way:
//! those of a type that the version knows, and streams, whose consumers lose
//! their active time before version 11. Strings are not compressed.

use std::io::{ErrorKind, Read, Result as IoResult};

use super::error::ObjectError;
use super::input::Input;
use super::types;
use super::walk::{walk_module_fields, walk_value};

/// Bytes copied at once.
const STEP_BYTES: usize = 64 * 1024;

/// The type byte under which [`pipe_value`] writes a superset value for files of
/// `version`; `None` if the value has to be transcoded as a whole, or can't be
/// written at all.
pub fn piped_type(object_type: u8, version: u16) -> Option<u8> {
    if !types::is_superset_type(object_type) {
        None
    } else if types::version_of(object_type) <= version {
        Some(object_type)
    } else {
        (object_type == types::STREAM_LISTPACKS_3).then_some(types::STREAM_LISTPACKS_2)
    }
}

/// Copies one value of the superset form from `reader` to `sink`, in the layout
/// of [`piped_type`]. Gives the number of bytes read. The reader should be
/// buffered. Structure is checked on the way; a reader that ends early gives
/// [`ObjectError::Truncated`], and what was written until then is of no use.
pub fn pipe_value<R: Read>(
    reader: R,
    object_type: u8,
    version: u16,
    sink: impl FnMut(&[u8]) -> IoResult<()>,
) -> Result<u64, ObjectError> {
    let written = piped_type(object_type, version).ok_or(ObjectError::NotInVersion {
        object_type,
        version,
    })?;
    let mut pipe = Pipe {
        reader,
        sink,
        read: 0,
        keep_active: written == object_type,
    };
    walk_value(&mut pipe, object_type)?;
    Ok(pipe.read)
}

/// Reads past module data up to its end mark.
pub(crate) fn skip_module_fields<R: Read>(reader: R) -> Result<(), ObjectError> {
    walk_module_fields(&mut Pipe {
        reader,
        sink: |_: &[u8]| Ok(()),
        read: 0,
        keep_active: true,
    })
}

struct Pipe<R, S> {
    reader: R,
    sink: S,
    read: u64,
    keep_active: bool,
}

impl<R: Read, S: FnMut(&[u8]) -> IoResult<()>> Pipe<R, S> {
    fn fill(&mut self, target: &mut [u8]) -> Result<(), ObjectError> {
        match self.reader.read_exact(target) {
            Ok(()) => {
                self.read += target.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(ObjectError::Truncated {
                offset: self.offset(),
            }),
            Err(error) => Err(ObjectError::Io(error)),
        }
    }
}

impl<R: Read, S: FnMut(&[u8]) -> IoResult<()>> Input for Pipe<R, S> {
    fn offset(&self) -> usize {
        self.read as usize
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ObjectError> {
        let mut array = [0; N];
        self.fill(&mut array)?;
        (self.sink)(&array)?;
        Ok(array)
    }

    fn skip(&mut self, count: u64) -> Result<(), ObjectError> {
        let mut buffer = [0; 512];
        let mut large = Vec::new();
        let mut left = count;
        while left > 0 {
            let step = left.min(STEP_BYTES as u64) as usize;
            let target = if step <= buffer.len() {
                buffer.get_mut(..step).unwrap_or_default()
            } else {
                large.resize(step, 0);
                large.as_mut_slice()
            };
            self.fill(target)?;
            (self.sink)(target)?;
            left -= step as u64;
        }
        Ok(())
    }

    fn consumer_times(&mut self, has_active: bool) -> Result<(), ObjectError> {
        self.array::<8>()?;
        if has_active {
            let mut active = [0; 8];
            self.fill(&mut active)?;
            if self.keep_active {
                (self.sink)(&active)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Target, encode, transcode};

    fn piped(object_type: u8, payload: &[u8], version: u16) -> Result<Vec<u8>, ObjectError> {
        let mut out = Vec::new();
        let read = pipe_value(payload, object_type, version, |bytes| {
            out.extend_from_slice(bytes);
            Ok(())
        })?;
        assert_eq!(read, payload.len() as u64);
        Ok(out)
    }

    /// A stream without entries, with one group and two consumers.
    fn stream() -> Vec<u8> {
        let mut payload = Vec::new();
        for number in [0, 0, 5, 1, 0, 0, 0, 0, 9, 1] {
            encode::length(&mut payload, number);
        }
        encode::string(&mut payload, b"group");
        for number in [5, 1, 3, 0, 2] {
            encode::length(&mut payload, number);
        }
        for name in ["ann", "bob"] {
            encode::string(&mut payload, name.as_bytes());
            payload.extend_from_slice(&1_000u64.to_le_bytes());
            payload.extend_from_slice(&2_000u64.to_le_bytes());
            encode::length(&mut payload, 0);
        }
        payload
    }

    #[test]
    fn streams_lose_the_active_time_as_a_transcoder_drops_it() {
        let payload = stream();
        for version in [10, 11] {
            let target = Target {
                version,
                compress: false,
            };
            let mut expected = Vec::new();
            let transcoded =
                transcode(types::STREAM_LISTPACKS_3, &payload, target, &mut expected).unwrap();
            let out = piped(types::STREAM_LISTPACKS_3, &payload, version).unwrap();
            assert_eq!(out, expected, "version {version}");
            assert_eq!(
                piped_type(types::STREAM_LISTPACKS_3, version),
                Some(transcoded.object_type)
            );
        }
    }

    #[test]
    fn other_values_pass_unchanged_and_cut_ones_fail() {
        let mut payload = Vec::new();
        encode::string(&mut payload, &vec![7; 300_000]);
        assert_eq!(piped(types::STRING, &payload, 10).unwrap(), payload);
        let cut = payload.get(..200_000).unwrap();
        assert!(matches!(
            piped(types::STRING, cut, 10),
            Err(ObjectError::Truncated { .. })
        ));
        assert_eq!(piped_type(types::SET_LISTPACK, 10), None);
        assert_eq!(piped_type(types::HASH_METADATA, 11), None);
    }
}
