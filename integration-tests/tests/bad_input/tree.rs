//! What a folder holds, so that two looks at it compare, and servers that must refuse to start.

use anyhow::{Context as _, bail};
use redrock_integration_tests::process::{Kind, Server, binary, free_port};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A server that refuses its start has ended by then.
const REFUSAL_WAIT: Duration = redrock_integration_tests::scale::PATIENCE;

/// One entry: kind and permissions, size, time of the last change in ns, content.
type Entry = (u32, u64, i128, Vec<u8>);

/// Everything below `folder`. Left out are the daemons' sockets in `run/`, which hold no data,
/// and the sizes and times of folders.
pub(crate) fn listing(folder: &Path) -> anyhow::Result<BTreeMap<PathBuf, Entry>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = std::fs::symlink_metadata(&path)?;
        let entry = if metadata.is_dir() {
            for child in std::fs::read_dir(&path)? {
                let child = child?;
                if child.file_name() != "run" || !child.file_type()?.is_dir() {
                    left.push(child.path());
                }
            }
            (metadata.mode(), 0, 0, Vec::new())
        } else {
            let at =
                i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
            let content = match metadata.is_file() {
                true => std::fs::read(&path)?,
                false => Vec::new(),
            };
            (metadata.mode(), metadata.len(), at, content)
        };
        found.insert(path, entry);
    }
    Ok(found)
}

/// A server that ended by itself.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

/// Runs a server until it ends: exit code and all that it said.
pub(crate) fn run(kind: Kind, folder: &Path, arguments: &[&str]) -> anyhow::Result<Refusal> {
    let program = match kind {
        Kind::RedRock => binary("redrock-server")?,
        Kind::Redis => "redis-server".into(),
    };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    run_command(command)
}

/// As [`run`], for any command.
pub(crate) fn run_command(mut command: Command) -> anyhow::Result<Refusal> {
    let output = tempfile::NamedTempFile::new()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.reopen()?)
        .stderr(output.reopen()?)
        .spawn()
        .context("start the server")?;
    let deadline = Instant::now() + REFUSAL_WAIT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            let text = std::fs::read_to_string(output.path())?;
            bail!("the server was not refused:\n{text}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // Two descriptors with a position each: what one wrote may be overwritten in part.
    let text = std::fs::read(output.path())?;
    Ok(Refusal {
        code: status.code(),
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}

/// Starts our server over a folder on a free port: it must end with exit code 1, say each of
/// `reasons`, and leave the folder as it was.
pub(crate) fn refused(folder: &Path, options: &[&str], reasons: &[&str]) -> anyhow::Result<()> {
    let port = free_port()?.to_string();
    let path = folder.to_str().context("path")?;
    let arguments = [&["--port", &port, "--dir", path, "--save", ""], options].concat();
    let before = listing(folder)?;
    let refusal = run(Kind::RedRock, folder, &arguments)?;
    unchanged(folder, &before)?;
    for reason in reasons {
        anyhow::ensure!(
            refusal.text.contains(reason),
            "\"{reason}\" was not said:\n{}",
            refusal.text
        );
    }
    anyhow::ensure!(refusal.code == Some(1), "{refusal:?}");
    Ok(())
}

/// Fails if the folder has changed.
pub(crate) fn unchanged(folder: &Path, before: &BTreeMap<PathBuf, Entry>) -> anyhow::Result<()> {
    let after = listing(folder)?;
    for (path, entry) in &after {
        let shown = path.display();
        match before.get(path) {
            None => bail!("{shown} was created"),
            Some(former) => anyhow::ensure!(former == entry, "{shown} was changed"),
        }
    }
    for path in before.keys() {
        anyhow::ensure!(after.contains_key(path), "{} was removed", path.display());
    }
    Ok(())
}

/// Fills a folder with data of all types by a server that then ends in order.
pub(crate) fn filled(kind: Kind, folder: &Path, append_only: bool) -> anyhow::Result<()> {
    let options: &[&str] = match append_only {
        true => &["--appendonly", "yes"],
        false => &[],
    };
    let server = Server::start(kind, folder, options)?;
    let mut client = server.client()?;
    for n in 0..200 {
        client.ok(&format!("SET key:{n} {}", format!("value-{n}-").repeat(5)))?;
        client.ok(&format!("RPUSH list element-{n}"))?;
        client.ok(&format!("HSET hash f{n} v{n}"))?;
        client.ok(&format!("ZADD z {n}.5 m{n}"))?;
        client.ok(&format!("SADD s m{n}"))?;
    }
    if !append_only {
        client.ok("SAVE")?;
    }
    drop(client);
    anyhow::ensure!(server.terminate()?.success(), "the server did not end well");
    Ok(())
}
