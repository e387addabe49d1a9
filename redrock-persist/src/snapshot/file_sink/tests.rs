//! Files of all lengths, and disks that don't take them.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use redrock_log::fs::{Fs as _, FsFile, OpenMode, RealFs};
use rustix::fs::{OFlags, fcntl_getfl};

use super::writer::Writer;

/// A file whose writes fail: those that end beyond a place, and those past the page cache.
#[derive(Debug)]
struct Trouble {
    file: Arc<dyn FsFile>,
    room: u64,
    refuses_direct: bool,
}

impl FsFile for Trouble {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        let fd = self.file.as_fd().expect("a descriptor");
        if self.refuses_direct && fcntl_getfl(fd)?.contains(OFlags::DIRECT) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        if position + bytes.len() as u64 > self.room {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.file.write_at(bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_fd()
    }
}

fn file(path: &Path, room: u64, refuses_direct: bool) -> Arc<dyn FsFile> {
    let file = RealFs.open(path, OpenMode::CreateTruncate).expect("a file");
    Arc::new(Trouble {
        file,
        room,
        refuses_direct,
    })
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7919 / 13) as u8).collect()
}

#[test]
fn a_file_has_what_was_written_whatever_its_length() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    for refuses_direct in [false, true] {
        for length in [
            0,
            1,
            4095,
            4096,
            1 << 20,
            (1 << 20) + 1,
            (9 << 20) + 4096,
            9_999_999,
        ] {
            let file = file(&path, u64::MAX, refuses_direct);
            let mut writer = Writer::start(&file).expect("a writer");
            let whole = bytes(length);
            for piece in whole.chunks(70_001) {
                writer.write(piece).expect("written");
            }
            writer.finish().expect("all of it");
            assert_eq!(std::fs::read(&path).expect("the file"), whole, "{length}");
        }
    }
}

#[test]
fn a_full_disk_is_met_by_a_later_write_or_the_end_and_by_all_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    let piece = bytes(1 << 20);
    for (room, pieces) in [(0, 1), ((2 << 20) + 5, 3), ((2 << 20) + 5, 20)] {
        let file = file(&path, room, false);
        let mut writer = Writer::start(&file).expect("a writer");
        let written = (0..pieces).try_for_each(|_| writer.write(&piece));
        let ended = written.and_then(|()| writer.finish());
        let error = ended.expect_err("no room");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
        assert!(writer.finish().is_err());
    }
}

#[test]
fn one_that_is_given_up_ends_its_thread() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = file(&folder.path().join("file"), u64::MAX, false);
    let mut writer = Writer::start(&file).expect("a writer");
    writer.write(&bytes(3 << 20)).expect("written");
    drop(writer);
    assert_eq!(Arc::strong_count(&file), 1);
}
