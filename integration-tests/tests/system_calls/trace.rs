//! Reads what `strace -ff -y` wrote: which process each thread belongs to, how processes were
//! born, and which files each of them changed.

use anyhow::{Context as _, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// How a process came to be.
#[derive(Debug, Clone)]
struct Birth {
    pid: u32,
    parent: u32,
    call: String,
}

/// A change of the file system, with the path below the data directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Made, and not there before.
    Create(String),
    /// Opened for writing.
    Open(String),
    /// The first got the name of the second.
    Rename(String, String),
    /// The name is gone.
    Unlink(String),
}

/// A whole trace.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Program by process.
    programs: BTreeMap<u32, String>,
    births: Vec<Birth>,
    changes: BTreeMap<String, BTreeMap<Change, usize>>,
}

/// One thread's lines.
struct Thread {
    id: u32,
    lines: Vec<String>,
}

impl Trace {
    /// Reads the files `calls.TID` of a folder; only paths below `root` count.
    pub(crate) fn read(traces: &Path, root: &Path) -> anyhow::Result<Self> {
        let threads = threads(traces)?;
        let mut trace = Self::default();
        // Threads belong to the process of the thread that made them.
        let mut parents: BTreeMap<u32, (u32, bool, String)> = BTreeMap::new();
        for thread in &threads {
            for line in thread.lines.iter().filter(|line| is_birth(line)) {
                if let Some(child) = result(line).and_then(|text| text.parse().ok()) {
                    let same = line.contains("CLONE_THREAD");
                    parents.insert(child, (thread.id, same, line.clone()));
                }
            }
        }
        let process_of = |mut id: u32| {
            while let Some((parent, true, _)) = parents.get(&id) {
                id = *parent;
            }
            id
        };
        for (child, (parent, same, call)) in &parents {
            if !same {
                trace.births.push(Birth {
                    pid: *child,
                    parent: process_of(*parent),
                    call: call.clone(),
                });
            }
        }
        for thread in &threads {
            let process = process_of(thread.id);
            for line in &thread.lines {
                if line.starts_with("execve(") && result(line) == Some("0") {
                    let path = quoted(line).into_iter().next().unwrap_or_default();
                    let name = path.file_name().unwrap_or_default();
                    let name = name.to_string_lossy().into_owned();
                    trace.programs.insert(process, name);
                }
            }
        }
        for thread in &threads {
            let program = trace.program(process_of(thread.id));
            let changes = trace.changes.entry(program).or_default();
            for line in &thread.lines {
                if let Some(change) = change(line, root) {
                    *changes.entry(change).or_default() += 1;
                }
            }
        }
        Ok(trace)
    }

    fn program(&self, process: u32) -> String {
        let program = self.programs.get(&process);
        program
            .cloned()
            .unwrap_or_else(|| format!("process {process}"))
    }

    /// Processes are born by `vfork` or what amounts to it: the memory is shared until `execve`,
    /// nothing is copied. The server starts its two companions; they start nothing.
    pub(crate) fn check_births(&self) -> anyhow::Result<()> {
        let mut children = Vec::new();
        for birth in &self.births {
            let parent = self.program(birth.parent);
            let call = &birth.call;
            let shares = call.starts_with("vfork(")
                || (call.contains("CLONE_VM") && call.contains("CLONE_VFORK"));
            ensure!(shares, "{parent} was copied: {call}");
            ensure!(
                parent == "redrock-server",
                "{parent} started a process: {call}"
            );
            children.push(self.program(birth.pid));
        }
        children.sort();
        ensure!(
            children == ["redrock-persist", "redrock-replica"],
            "{children:?}"
        );
        Ok(())
    }

    /// Each daemon changes only what is its own (DESIGN: the process that owns a file).
    pub(crate) fn check_files(&self) -> anyhow::Result<()> {
        for (program, changes) in &self.changes {
            for change in changes.keys() {
                let fine = match program.as_str() {
                    "redrock-server" => server_may(change),
                    "redrock-persist" => persister_may(change),
                    "redrock-replica" => agent_may(change),
                    _ => false,
                };
                ensure!(fine, "{program} did {change:?}");
            }
        }
        let of = |program: &str| self.changes.get(program).context("no changes");
        // The one manifest that the server writes is the log's first.
        let server = of("redrock-server")?;
        let manifests: usize = server
            .iter()
            .filter(|(change, _)| matches!(change, Change::Rename(_, to) if is_manifest(to)))
            .map(|(_, count)| count)
            .sum();
        ensure!(manifests == 1, "the server wrote {manifests} manifests");
        // What must have been seen, else the trace shows nothing.
        let persister = of("redrock-persist")?;
        let names: BTreeSet<&str> = persister.keys().filter_map(Change::renamed_to).collect();
        for wanted in ["dump.rdb", "manifest", ".base.rdb"] {
            if !names.iter().any(|name| name.ends_with(wanted)) {
                bail!("the persister made no {wanted}: {names:?}");
            }
        }
        Ok(())
    }
}

impl Change {
    fn renamed_to(&self) -> Option<&str> {
        match self {
            Self::Rename(_, to) => Some(to),
            _ => None,
        }
    }

    fn paths(&self) -> Vec<&str> {
        match self {
            Self::Create(path) | Self::Open(path) | Self::Unlink(path) => vec![path],
            Self::Rename(from, to) => vec![from, to],
        }
    }
}

fn is_manifest(path: &str) -> bool {
    path.ends_with(".manifest")
}

/// Its log and what belongs to it, its tier, the files about its run, its socket. The manifests
/// are counted apart.
fn server_may(change: &Change) -> bool {
    let own = |path: &str| {
        path.starts_with("tier/")
            || path.starts_with("run/server.sock")
            || ["redrock-server.lock", "redrock.epoch", "replication.state"]
                .contains(&path.trim_start_matches("temp-"))
    };
    let logged = |path: &str| {
        path.ends_with(".incr.aof")
            || path.ends_with(".incr.aof.meta")
            || path.ends_with("/redrock.ballast")
    };
    match change {
        Change::Open(path) | Change::Create(path) => own(path) || logged(path) || is_manifest(path),
        Change::Rename(_, to) => own(to) || is_manifest(to),
        Change::Unlink(path) => own(path),
    }
}

/// RDB files, bases and manifests under a temporary name and by rename; it makes a segment, which
/// only the server writes to, and removes what the log no longer needs.
fn persister_may(change: &Change) -> bool {
    let own = |path: &str| {
        path == "redrock-persist.lock"
            || path.starts_with("run/persist.sock")
            || path.starts_with("temp-")
            || path.starts_with("appendonlydir/temp-")
            || path == "appendonlydir/redrock.reserve"
            || path == "appendonlydir/redrock.backlog"
    };
    match change {
        Change::Open(path) => own(path),
        Change::Create(path) => own(path) || path.ends_with(".incr.aof"),
        Change::Rename(from, to) => {
            let result = to == "dump.rdb" || to.ends_with(".base.rdb") || is_manifest(to);
            own(from) && (own(to) || result)
        }
        Change::Unlink(path) => own(path) || path.starts_with("appendonlydir/"),
    }
}

/// Its spool and its sockets: it only reads what it feeds to replicas.
fn agent_may(change: &Change) -> bool {
    change.paths().into_iter().all(|path| {
        path == "redrock-replica.lock"
            || path.starts_with("run/replica.sock")
            || path.starts_with("run/handoff.sock")
            || path.starts_with("spool/")
    })
}

impl fmt::Display for Trace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for birth in &self.births {
            let (parent, child) = (self.program(birth.parent), self.program(birth.pid));
            writeln!(out, "{parent} -> {child}: {}", birth.call)?;
        }
        for (program, changes) in &self.changes {
            writeln!(out, "{program}:")?;
            for (change, count) in changes {
                let tier = change.paths().iter().all(|path| path.starts_with("tier/"));
                if !tier {
                    writeln!(out, "  {count} x {change:?}")?;
                }
            }
        }
        Ok(())
    }
}

fn threads(traces: &Path) -> anyhow::Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir(traces)? {
        let path = entry?.path();
        let id = path.extension().and_then(|id| id.to_str()?.parse().ok());
        let bytes = std::fs::read(&path)?;
        threads.push(Thread {
            id: id.with_context(|| format!("the thread of {}", path.display()))?,
            lines: String::from_utf8_lossy(&bytes)
                .lines()
                .map(str::to_owned)
                .collect(),
        });
    }
    ensure!(!threads.is_empty(), "an empty trace");
    Ok(threads)
}

fn is_birth(line: &str) -> bool {
    ["clone(", "clone3(", "fork(", "vfork("]
        .iter()
        .any(|call| line.starts_with(call))
}

/// What a call returned, without the path that `-y` adds.
fn result(line: &str) -> Option<&str> {
    let (_, result) = line.rsplit_once(") = ")?;
    let word = result.split([' ', '<']).next()?;
    (!word.starts_with('-')).then_some(word)
}

/// The strings among the arguments. A relative path follows the directory that it is relative
/// to, which `-y` shows: `unlinkat(9</data/tier>, "000004.log", 0)`.
fn quoted(line: &str) -> Vec<PathBuf> {
    let parts: Vec<&str> = line.split('"').collect();
    let mut paths = Vec::new();
    for pair in parts.chunks_exact(2) {
        let [before, text] = pair else { continue };
        let folder = before
            .strip_suffix(">, ")
            .and_then(|before| before.rsplit_once('<'))
            .map_or("", |(_, folder)| folder);
        paths.push(Path::new(folder).join(text));
    }
    paths
}

/// What a line changes below `root`, if it succeeded.
fn change(line: &str, root: &Path) -> Option<Change> {
    result(line)?;
    let (call, _) = line.split_once('(')?;
    let mut paths = quoted(line).into_iter().map(|path| below(&path, root));
    match call {
        "open" | "openat" | "openat2" | "creat" | "truncate" => {
            let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "creat(", "truncate("]
                .iter()
                .any(|word| line.contains(word));
            let how = match line.contains("O_EXCL") {
                true => Change::Create,
                false => Change::Open,
            };
            writes.then(|| paths.next()?.map(how))?
        }
        "rename" | "renameat" | "renameat2" | "link" | "linkat" | "symlink" | "symlinkat" => {
            let (from, to) = (paths.next()?, paths.next()?);
            let outside = || "(elsewhere)".to_owned();
            (from.is_some() || to.is_some())
                .then(|| Change::Rename(from.unwrap_or_else(outside), to.unwrap_or_else(outside)))
        }
        "unlink" | "unlinkat" => paths.next()?.map(Change::Unlink),
        _ => None,
    }
}

/// The path below `root`; relative ones are: the server's working directory is there, and its
/// companions name all paths from the root. `None` for anything else.
fn below(path: &Path, root: &Path) -> Option<String> {
    let path = match path.is_absolute() {
        true => path.strip_prefix(root).ok()?,
        false => path,
    };
    let clean: PathBuf = path
        .components()
        .filter(|part| !matches!(part, std::path::Component::CurDir))
        .collect();
    Some(clean.to_string_lossy().into_owned())
}
