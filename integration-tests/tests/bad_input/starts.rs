//! The append-only folder's manifest and what it names: damaged, missing, foreign.

use crate::directories::make_fifo;
use crate::tree::{filled, listing, refused, run};
use anyhow::Context as _;
use redrock_integration_tests::process::{Kind, Server, copy_folder, free_port, has_redis};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const APPEND_ONLY: [&str; 2] = ["--appendonly", "yes"];

/// A folder of our own with a log of one segment.
struct Log(TempDir);

impl Log {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        filled(Kind::RedRock, folder.path(), true)?;
        Ok(Self(folder))
    }

    /// A copy of the folder, and its append-only directory.
    fn copy(&self) -> anyhow::Result<(TempDir, PathBuf)> {
        let folder = tempfile::tempdir()?;
        copy_folder(self.0.path(), folder.path())?;
        let directory = folder.path().join("appendonlydir");
        Ok((folder, directory))
    }
}

fn manifest(directory: &Path) -> PathBuf {
    directory.join("appendonly.aof.manifest")
}

/// The one segment in a folder.
pub(crate) fn segment(directory: &Path) -> anyhow::Result<PathBuf> {
    let mut names = std::fs::read_dir(directory)?
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    names
        .find(|path| path.to_string_lossy().ends_with(".incr.aof"))
        .context("no segment")
}

#[test]
fn a_manifest_that_is_none_is_refused_with_the_words_of_redis() -> anyhow::Result<()> {
    let log = Log::new()?;
    for (content, reason) in [
        (&b"garbage\n"[..], "Invalid AOF manifest file format"),
        (b"", "Found an empty AOF manifest"),
        (
            b"file a seq 1 type i",
            "The AOF manifest file contains too long line",
        ),
        (
            b"\0\x01\x02\x03",
            "The AOF manifest file contains too long line",
        ),
        (
            b"file ../../etc/passwd seq 1 type b\n",
            "File can't be a path, just a filename",
        ),
        (
            b"file a.1.base.rdb seq 1 type b\nfile a.2.base.rdb seq 2 type b\n",
            "Found duplicate base file information",
        ),
        (
            b"file a.2.incr.aof seq 2 type i\nfile a.1.incr.aof seq 1 type i\n",
            "Found a non-monotonic sequence number",
        ),
        (b"file a seq 1 type z\n", "Unknown AOF file type"),
    ] {
        let (folder, directory) = log.copy()?;
        std::fs::write(manifest(&directory), content)?;
        if has_redis() {
            let path = folder.path().display().to_string();
            let port = free_port()?.to_string();
            let options = ["--port", &port, "--dir", &path, "--appendonly", "yes"];
            let real = run(Kind::Redis, folder.path(), &options)?;
            assert_eq!(real.code, Some(1), "{real:?}");
            assert!(real.text.contains(reason), "{reason}: {real:?}");
        }
        let fatal = "*** FATAL AOF MANIFEST FILE ERROR ***";
        refused(
            folder.path(),
            &APPEND_ONLY,
            &[fatal, reason, "What to do: "],
        )?;
    }
    Ok(())
}

#[test]
fn without_its_manifest_a_log_with_data_is_not_passed_over() -> anyhow::Result<()> {
    let log = Log::new()?;
    let (folder, directory) = log.copy()?;
    std::fs::remove_file(manifest(&directory))?;
    let reasons = [
        "has no manifest",
        "holds data",
        "What to do: restore the manifest",
    ];
    refused(folder.path(), &APPEND_ONLY, &reasons)?;
    // As told: the manifest written by hand.
    let name = segment(&directory)?;
    let name = name.file_name().context("name")?.to_string_lossy();
    std::fs::write(manifest(&directory), format!("file {name} seq 1 type i\n"))?;
    let server = Server::start(Kind::RedRock, folder.path(), &APPEND_ONLY)?;
    assert_eq!(server.client()?.ok("DBSIZE")?.int(), Some(204));
    // A base alone is data too, a folder with nothing is none.
    let folder = tempfile::tempdir()?;
    let directory = folder.path().join("appendonlydir");
    std::fs::create_dir(&directory)?;
    std::fs::write(directory.join("appendonly.aof.7.base.rdb"), b"REDIS0010")?;
    refused(folder.path(), &APPEND_ONLY, &reasons)?;
    std::fs::remove_file(directory.join("appendonly.aof.7.base.rdb"))?;
    let server = Server::start(Kind::RedRock, folder.path(), &APPEND_ONLY)?;
    assert_eq!(server.client()?.ok("DBSIZE")?.int(), Some(0));
    Ok(())
}

#[test]
fn a_file_that_the_manifest_names_must_be_there() -> anyhow::Result<()> {
    let log = Log::new()?;
    let (folder, directory) = log.copy()?;
    std::fs::remove_file(segment(&directory)?)?;
    let reasons = [
        "the AOF manifest names",
        ".incr.aof",
        "No such file",
        "Restore that file",
    ];
    refused(folder.path(), &APPEND_ONLY, &reasons)?;
    let (folder, directory) = log.copy()?;
    let lines = std::fs::read_to_string(manifest(&directory))?;
    let base = "file appendonly.aof.9.base.rdb seq 9 type b\n";
    std::fs::write(manifest(&directory), format!("{base}{lines}"))?;
    refused(
        folder.path(),
        &APPEND_ONLY,
        &["appendonly.aof.9.base.rdb", "No such file"],
    )?;
    // A base that is there and no RDB, cut short, or of the future.
    for (content, reason) in [
        (
            &b"REDIS0099\xff\0\0\0\0\0\0\0\0"[..],
            "Can't handle RDB format version",
        ),
        (b"REDIS0010\xfe\0", "Unexpected EOF reading RDB file"),
    ] {
        let path = directory.join("appendonly.aof.9.base.rdb");
        std::fs::write(&path, content)?;
        let reasons = [
            reason,
            "appendonly.aof.9.base.rdb",
            "restore the append only directory",
        ];
        refused(folder.path(), &APPEND_ONLY, &reasons)?;
    }
    Ok(())
}

#[test]
fn a_directory_with_a_log_of_ours_serves_again_after_a_refusal() -> anyhow::Result<()> {
    let log = Log::new()?;
    let (folder, directory) = log.copy()?;
    let text = std::fs::read(manifest(&directory))?;
    std::fs::write(manifest(&directory), b"garbage\n")?;
    refused(
        folder.path(),
        &APPEND_ONLY,
        &["Invalid AOF manifest file format"],
    )?;
    std::fs::write(manifest(&directory), text)?;
    let before = listing(&directory)?;
    assert!(before.len() > 2);
    let server = Server::start(Kind::RedRock, folder.path(), &APPEND_ONLY)?;
    assert_eq!(server.client()?.ok("DBSIZE")?.int(), Some(204));
    Ok(())
}

#[test]
fn a_fifo_among_the_log_s_files_is_named_and_not_waited_for() -> anyhow::Result<()> {
    let log = Log::new()?;
    for suffix in [".manifest", ".incr.aof", ".incr.aof.meta"] {
        let (folder, directory) = log.copy()?;
        let entries = std::fs::read_dir(&directory)?.filter_map(Result::ok);
        let mut paths = entries.map(|entry| entry.path());
        let path = paths.find(|path| path.to_string_lossy().ends_with(suffix));
        let path = path.with_context(|| format!("no {suffix}"))?;
        std::fs::remove_file(&path)?;
        make_fifo(&path)?;
        refused(folder.path(), &APPEND_ONLY, &[suffix, "is no regular file"])?;
    }
    Ok(())
}
