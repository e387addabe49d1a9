//! File systems that fill up soon.

use std::path::{Path, PathBuf};

/// A small file system of its own, unmounted at the end.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// A tmpfs of so many bytes; `None` where that is not allowed.
    pub fn mount(bytes: u64) -> Option<Self> {
        let path = tempfile::tempdir().ok()?.keep();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(&path)
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(path));
        }
        eprintln!("skipped: a tmpfs can't be mounted here");
        None
    }

    /// An ext4 of so many bytes in a file, mounted as a loop device; `None` where that is not
    /// allowed. Unlike a tmpfs it is a disk: space is reserved late, and comes back late.
    pub fn mount_ext4(bytes: u64) -> Option<Self> {
        let path = tempfile::tempdir().ok()?.keep();
        let image = path.with_extension("image");
        let file = std::fs::File::create(&image).ok()?;
        file.set_len(bytes).ok()?;
        let run = |program: &str, options: &[&str], more: &[&Path]| {
            let mut command = std::process::Command::new(program);
            let output = command.args(options).args(more).output();
            output.is_ok_and(|output| output.status.success())
        };
        let mounted = run("mkfs.ext4", &["-q", "-F", "-m", "0"], &[&image])
            && run("mount", &["-o", "loop"], &[&image, &path]);
        // The mount holds it as long as it is there.
        let _ = std::fs::remove_file(&image);
        if mounted {
            return Some(Self(path));
        }
        eprintln!("skipped: a loop device can't be mounted here");
        let _ = std::fs::remove_dir(&path);
        None
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
        let _ = std::fs::remove_dir(&self.0);
    }
}
