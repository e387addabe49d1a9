//! A memory cgroup (version 1 or 2) of a test's own, where the machine lets us create one.
//!
//! What passes its limit is killed by the kernel, whatever is measured from outside.

use anyhow::{Context as _, ensure};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A group with a limit and without swap; removed when dropped, once its processes are gone.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    second_version: bool,
    /// Whether the kernel was told not to swap for it.
    pub swap_is_off: bool,
}

/// Where cgroups of a kind are mounted.
fn mounted(kind: &str, option: &str) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        let fits = fields.next()? == kind;
        let options = fields.next()?;
        let fits = fits && (option.is_empty() || options.split(',').any(|o| o == option));
        fits.then(|| PathBuf::from(path))
    })
}

/// The group of this process, as `/proc/self/cgroup` names it behind a prefix.
fn own_group(is_own: impl Fn(&str) -> bool) -> String {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        is_own(controllers).then(|| path.trim_start_matches('/').to_owned())
    });
    found.unwrap_or_default()
}

fn write(path: &Path, file: &str, text: &str) -> anyhow::Result<()> {
    std::fs::write(path.join(file), text).with_context(|| format!("write {file}"))
}

impl Cgroup {
    /// Makes one that holds `limit_bytes` of memory and page cache.
    ///
    /// # Errors
    /// Says why there can't be one: tests then go without and say so.
    pub fn create(limit_bytes: u64) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("redrock-test-{}-{number}", std::process::id());
        let second = mounted("cgroup2", "").filter(|path| {
            let list = std::fs::read_to_string(path.join("cgroup.controllers"));
            list.is_ok_and(|list| list.split_whitespace().any(|word| word == "memory"))
        });
        if let Some(mount) = second {
            return Self::create_second(&mount, &name, limit_bytes);
        }
        let mount = mounted("cgroup", "memory").context("no memory cgroups are mounted")?;
        let own = own_group(|list| list.split(',').any(|word| word == "memory"));
        let parents = [mount.join(own), mount.clone()];
        let made = parents
            .iter()
            .map(|parent| parent.join(&name))
            .find(|path| std::fs::create_dir(path).is_ok());
        let mut group = Self {
            path: made.context("no memory cgroup may be created")?,
            second_version: false,
            swap_is_off: false,
        };
        write(
            &group.path,
            "memory.limit_in_bytes",
            &limit_bytes.to_string(),
        )?;
        group.swap_is_off = write(&group.path, "memory.swappiness", "0").is_ok();
        Ok(group)
    }

    fn create_second(mount: &Path, name: &str, limit_bytes: u64) -> anyhow::Result<Self> {
        let own = mount.join(own_group(str::is_empty));
        // Processes live in leaves only, so our own group often can't have children with limits.
        for parent in [own.parent().unwrap_or(mount), &own, mount] {
            if !parent.starts_with(mount)
                || parent.join("cgroup.subtree_control").metadata().is_err()
            {
                continue;
            }
            // It may be enabled already, or not be ours to enable: the limit below tells.
            let _ = write(parent, "cgroup.subtree_control", "+memory");
            let path = parent.join(name);
            if std::fs::create_dir(&path).is_err() {
                continue;
            }
            let mut group = Self {
                path,
                second_version: true,
                swap_is_off: false,
            };
            if write(&group.path, "memory.max", &limit_bytes.to_string()).is_ok() {
                group.swap_is_off = write(&group.path, "memory.swap.max", "0").is_ok();
                return Ok(group);
            }
        }
        anyhow::bail!("no cgroup with a memory limit may be created")
    }

    /// The file that takes the ids of processes.
    pub fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// How often the kernel killed a process of the group for its memory.
    pub fn kills(&self) -> anyhow::Result<u64> {
        let file = if self.second_version {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = std::fs::read_to_string(self.path.join(file)).context("read OOM events")?;
        let mut sum = 0;
        let mut found = false;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let counts = matches!(words.next(), Some("oom_kill" | "oom" | "under_oom"));
            found |= counts;
            if counts {
                sum += words.next().context("count")?.parse::<u64>()?;
            }
        }
        ensure!(found, "{file} counts no kills");
        Ok(sum)
    }

    /// The most that the group held so far, page cache included, bytes; 0 if not told.
    pub fn peak_bytes(&self) -> u64 {
        let file = if self.second_version {
            "memory.peak"
        } else {
            "memory.max_usage_in_bytes"
        };
        let text = std::fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its last process may still be on its way out.
        for _ in 0..200 {
            if std::fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        eprintln!("{} could not be removed", self.path.display());
    }
}
