//! `SHA256SUMS`: a checksum for every file of a set, in the form of `sha256sum`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use redrock_log::fs::{Fs, OpenMode, RealFs, read_small};
use redrock_proto::RpcError;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::set::{SUMS_NAME, is_inside};
use crate::error::{Result, io_error};

const READ_BYTES: usize = 1 << 20;
const BYTES_MAX: u64 = 16 << 20;
const DIGITS: usize = 64;

/// Checksums in hexadecimal by path.
pub type Sums = BTreeMap<String, String>;

/// Reads a file and gives its checksum.
pub fn sum_file(path: &Path, cancel: &CancellationToken) -> Result<String> {
    let failed = |error: io::Error| io_error("read", path, &error);
    let file = RealFs.open(path, OpenMode::Read).map_err(failed)?;
    let mut buffer = vec![0_u8; READ_BYTES];
    let (mut hash, mut position) = (Sha256::new(), 0);
    loop {
        if cancel.is_cancelled() {
            return Err(RpcError::cancelled("the backup was aborted"));
        }
        let count = file.read_full_at(&mut buffer, position).map_err(failed)?;
        if count == 0 {
            return Ok(hexadecimal(&hash.finalize()));
        }
        hash.update(buffer.get(..count).unwrap_or(&[]));
        position += count as u64;
    }
}

/// The checksum of bytes.
pub fn sum_bytes(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The text of the list.
pub fn format(sums: &Sums) -> String {
    sums.iter().fold(String::new(), |mut text, (path, sum)| {
        let _ = writeln!(text, "{sum}  {path}");
        text
    })
}

/// Loads the list of a set; the error says what is wrong with it.
pub fn load(fs: &dyn Fs, set: &Path) -> Result<Sums> {
    let path = set.join(SUMS_NAME);
    let bytes =
        read_small(fs, &path, BYTES_MAX).map_err(|error| io_error("read", &path, &error))?;
    let text = String::from_utf8_lossy(&bytes);
    parse(&text)
        .ok_or_else(|| RpcError::corrupt(format!("{} is no list of checksums", path.display())))
}

fn parse(text: &str) -> Option<Sums> {
    let mut sums = Sums::new();
    if !text.ends_with('\n') {
        return None;
    }
    for line in text.lines() {
        let (sum, path) = line.split_at_checked(DIGITS)?;
        let path = path.strip_prefix("  ").filter(|path| is_inside(path))?;
        let plain = sum
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !plain || sums.insert(path.to_owned(), sum.to_owned()).is_some() {
            return None;
        }
    }
    Some(sums)
}

/// Checksums of a former set's files by device and inode: a file that is linked into the next
/// set again is the same, and need not be read again.
pub fn by_inode(set: &Path) -> BTreeMap<(u64, u64, u64), String> {
    let Ok(sums) = load(&RealFs, set) else {
        return BTreeMap::new();
    };
    sums.into_iter()
        .filter_map(|(path, sum)| Some((identity(&set.join(path))?, sum)))
        .collect()
}

/// Device, inode and length.
pub fn identity(path: &Path) -> Option<(u64, u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_back_and_damaged_ones_are_refused() {
        let mut sums = Sums::new();
        sums.insert("a b/c".into(), sum_bytes(b"x"));
        sums.insert("d".into(), sum_bytes(b""));
        let text = format(&sums);
        assert_eq!(parse(&text), Some(sums));
        assert!(
            text.contains("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  d\n")
        );
        for bad in [
            "",
            "abc  d\n",
            &text.replace("  d", "  ../d"),
            &text.replace("e3b0", "E3b0"),
            &text.replace("  d", " d"),
            &format!("{text}{text}"),
            text.trim_end(),
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn files_are_summed_by_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let bytes = vec![3_u8; READ_BYTES + 17];
        std::fs::write(&path, &bytes).unwrap();
        let go = CancellationToken::new();
        assert_eq!(sum_file(&path, &go).unwrap(), sum_bytes(&bytes));
        go.cancel();
        assert!(sum_file(&path, &go).is_err());
    }
}
