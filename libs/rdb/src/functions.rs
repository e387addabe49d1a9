//! The payload of FUNCTION DUMP and FUNCTION RESTORE: the sources of libraries, each as in an RDB
//! file, with version and checksum as behind a DUMP of a value.

use crate::dump::{self, DumpError};
use crate::file::opcode;
use crate::object::{Cursor, ObjectError, Target, Transcoder, encode, types};

/// Why a payload was not accepted. The texts are what Redis answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FunctionsError {
    /// The envelope is not good.
    #[error(transparent)]
    Envelope(#[from] DumpError),
    /// Something else than a library is in it.
    #[error("given type is not a function")]
    NotAFunction,
    /// A library in the form of release candidates of Redis 7.0.
    #[error("Pre-GA function format not supported")]
    PreGa,
    /// A library's text can't be read.
    #[error("Failed loading library payload")]
    Text,
}

/// Writes the payload of these libraries.
pub fn dump<'a>(
    sources: impl Iterator<Item = &'a [u8]>,
    target: Target,
) -> Result<Vec<u8>, ObjectError> {
    let mut transcoder = Transcoder::new(target);
    let (mut out, mut text) = (Vec::new(), Vec::new());
    for source in sources {
        text.clear();
        encode::string(&mut text, source);
        out.push(opcode::FUNCTION2);
        transcoder.transcode(types::STRING, &text, &mut out)?;
    }
    dump::seal(&mut out, 0, target.version);
    Ok(out)
}

/// Reads the libraries of a payload.
pub fn restore(payload: &[u8]) -> Result<Vec<Vec<u8>>, FunctionsError> {
    let content = dump::envelope(payload, true)?;
    let mut cursor = Cursor::new(content);
    let mut sources = Vec::new();
    while cursor.remaining() > 0 {
        match cursor.take(1) {
            Ok([opcode::FUNCTION2]) => {}
            Ok([opcode::FUNCTION_PRE_GA]) => return Err(FunctionsError::PreGa),
            _ => return Err(FunctionsError::NotAFunction),
        }
        let source = cursor.content().map_err(|_| FunctionsError::Text)?;
        sources.push(source.into_owned());
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target {
        version: 10,
        compress: true,
    };

    fn dumped(sources: &[&[u8]]) -> Vec<u8> {
        dump(sources.iter().copied(), TARGET).unwrap()
    }

    #[test]
    fn what_was_dumped_is_restored_in_order() {
        let long = b"#!lua name=long\n".repeat(50);
        let cases: [&[&[u8]]; 3] = [&[], &[b"#!lua name=a\n"], &[&long, b"12", b""]];
        for sources in cases {
            assert_eq!(restore(&dumped(sources)).unwrap(), sources);
        }
        assert!(dumped(&[&long]).len() < long.len(), "not compressed");
        // As Redis 7.0: FUNCTION DUMP without libraries.
        assert_eq!(dumped(&[])[..2], [10, 0]);
    }

    #[test]
    fn other_payloads_are_refused() {
        let good = dumped(&[b"#!lua name=a\n"]);
        let sealed = |body: &[u8]| {
            let mut payload = body.to_vec();
            dump::seal(&mut payload, 0, 10);
            payload
        };
        let body = &good[..good.len() - 10];
        for (payload, error) in [
            (good[1..].to_vec(), DumpError::VersionOrChecksum.into()),
            (sealed(b"\x00\x01a"), FunctionsError::NotAFunction),
            (sealed(b"\xf6\x01a"), FunctionsError::PreGa),
            (sealed(&body[..body.len() - 1]), FunctionsError::Text),
        ] {
            assert_eq!(restore(&payload), Err(error), "{payload:?}");
        }
    }
}
