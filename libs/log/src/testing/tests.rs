use super::*;
use crate::fs::{read_small, write_durably};

fn write(fs: &PowerLossFs, path: &Path, bytes: &[u8]) -> Arc<dyn FsFile> {
    let file = fs.open(path, OpenMode::CreateKeep).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

#[test]
fn a_synced_file_in_an_unsynced_directory_is_lost() {
    let fs = PowerLossFs::new("/d");
    let path = Path::new("/d/a");
    write(&fs, path, b"abc").sync_data().unwrap();
    fs.crash(CrashMode::DropAll);
    assert!(!fs.exists(path).unwrap());
}

#[test]
fn a_synced_name_keeps_only_the_synced_bytes() {
    let fs = PowerLossFs::new("/d");
    let path = Path::new("/d/a");
    let file = write(&fs, path, b"abc");
    file.sync_data().unwrap();
    fs.sync_dir(Path::new("/d")).unwrap();
    file.write_all_at(b"def", 3).unwrap();
    fs.crash(CrashMode::DropAll);
    assert_eq!(fs.content(path).unwrap(), b"abc");
    assert!(file.len().is_err(), "handles do not outlive the crash");
}

#[test]
fn an_unsynced_rename_may_leave_either_file_but_write_durably_never_a_mixture() {
    for seed in 0..200 {
        for point in 0..8 {
            let fs = PowerLossFs::new("/d");
            let path = Path::new("/d/a");
            write_durably(&fs, path, b"old").unwrap();
            fs.lose_power_after(point);
            let result = write_durably(&fs, path, b"newer");
            fs.crash(CrashMode::Scattered { seed });
            let content = fs.content(path).unwrap();
            let accepted: &[&[u8]] = if result.is_ok() {
                &[b"newer"]
            } else {
                &[b"old", b"newer"]
            };
            assert!(
                accepted.contains(&content.as_slice()),
                "seed {seed} point {point}: {content:?}"
            );
        }
    }
}

#[test]
fn a_failed_sync_loses_the_pages_even_if_the_next_one_succeeds() {
    let fs = PowerLossFs::new("/d");
    let path = Path::new("/d/a");
    let file = write(&fs, path, b"abc");
    fs.sync_dir(Path::new("/d")).unwrap();
    fs.fail_after(0, libc::EIO);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    fs.crash(CrashMode::DropAll);
    assert_eq!(fs.content(path).unwrap(), b"");
}

#[test]
fn a_full_disk_gives_a_short_write_then_enospc() {
    let fs = PowerLossFs::new("/d");
    let file = write(&fs, Path::new("/d/a"), b"abc");
    fs.set_capacity_bytes(Some(5));
    assert_eq!(file.write_at(b"defg", 3).unwrap(), 2);
    let error = file.write_at(b"fg", 5).unwrap_err();
    assert!(crate::fs::is_no_space(&error));
    assert_eq!(read_small(&fs, Path::new("/d/a"), 10).unwrap(), b"abcde");
}

#[test]
fn files_of_a_directory_that_was_never_synced_into_its_parent_are_lost() {
    let fs = PowerLossFs::new("/d");
    fs.create_dir(Path::new("/d/sub")).unwrap();
    write_durably(&fs, Path::new("/d/sub/a"), b"abc").unwrap();
    fs.crash(CrashMode::DropAll);
    assert!(!fs.exists(Path::new("/d/sub/a")).unwrap());
    assert!(!fs.exists(Path::new("/d/sub")).unwrap());
}
