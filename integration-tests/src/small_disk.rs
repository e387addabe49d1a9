//! File systems of their own for tests: they fill up soon, and their disks can fail.

use crate::daemons::until;
use anyhow::{Context as _, ensure};
use rustix::fs::{Advice, fadvise};
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `EXT4_IOC_SHUTDOWN`: from then on the file system neither reads nor writes.
const SHUTDOWN: Opcode = opcode::read::<u32>(b'X', 125);
/// What its journal has not written is lost (`EXT4_GOING_FLAGS_NOLOGFLUSH`).
const SHUTDOWN_WITHOUT_FLUSH: u32 = 2;

/// A small file system of its own, unmounted at the end.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    /// What is behind a loop device; its name is gone.
    image: Option<File>,
}

impl SmallDisk {
    /// A tmpfs of so many bytes; `None` where that is not allowed.
    pub fn mount(bytes: u64) -> Option<Self> {
        let path = tempfile::tempdir().ok()?.keep();
        let size = format!("size={bytes}");
        if runs("mount", &["-t", "tmpfs", "-o", &size, "tmpfs"], &[&path]) {
            return Some(Self { path, image: None });
        }
        eprintln!("skipped: a tmpfs can't be mounted here");
        let _ = std::fs::remove_dir(&path);
        None
    }

    /// An ext4 of so many bytes in a file, mounted as a loop device; `None` where that is not
    /// allowed. Unlike a tmpfs it is a disk: space is reserved late, and comes back late.
    pub fn mount_ext4(bytes: u64) -> Option<Self> {
        Self::mount_image(bytes, &[], "loop")
    }

    /// The same without a journal, so that it goes on after failures of its device, and read-only
    /// after an error of its own ([`Self::turn_read_only`]).
    pub fn mount_ext4_that_fails(bytes: u64) -> Option<Self> {
        let format = ["-b", "4096", "-O", "^has_journal"];
        Self::mount_image(bytes, &format, "loop,errors=remount-ro")
    }

    fn mount_image(bytes: u64, format: &[&str], mount: &str) -> Option<Self> {
        let path = tempfile::tempdir().ok()?.keep();
        let image = path.with_extension("image");
        let file = File::create_new(&image).ok()?;
        file.set_len(bytes).ok()?;
        let file = File::options().read(true).write(true).open(&image).ok()?;
        let format = [&["-q", "-F", "-m", "0"], format].concat();
        let mounted = runs("mkfs.ext4", &format, &[&image])
            && runs("mount", &["-o", mount], &[&image, &path]);
        // The mount holds it as long as it is there.
        let _ = std::fs::remove_file(&image);
        if mounted {
            return Some(Self {
                path,
                image: Some(file),
            });
        }
        eprintln!("skipped: a loop device can't be mounted here");
        let _ = std::fs::remove_dir(&path);
        None
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its device ends at `at` from now on: what lies behind can't be read or written. What was there.
    pub fn cut(&self, at: u64) -> anyhow::Result<Vec<u8>> {
        let image = self.image.as_ref().context("no image")?;
        self.sync()?;
        let length = image.metadata()?.len();
        let mut rest = vec![0; usize::try_from(length.saturating_sub(at))?];
        image.read_exact_at(&mut rest, at)?;
        image.set_len(at)?;
        self.tell_length()?;
        Ok(rest)
    }

    /// The device is as it was before it was [cut](Self::cut) at `at`.
    pub fn mend(&self, at: u64, rest: &[u8]) -> anyhow::Result<()> {
        let image = self.image.as_ref().context("no image")?;
        image.write_all_at(rest, at)?;
        self.tell_length()
    }

    /// All that was written to it is on its device.
    pub fn sync(&self) -> anyhow::Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.path)?)?)
    }

    /// The power goes: what was written and not synced is lost, but for what the kernel has happened
    /// to write. Processes live on, unlike a machine's, and meet errors: freeze them before.
    pub fn lose_power(&self) -> anyhow::Result<()> {
        let root = File::open(&self.path)?;
        // SAFETY: the call takes a pointer to a number, which it only reads.
        unsafe { ioctl(&root, Setter::<SHUTDOWN, u32>::new(SHUTDOWN_WITHOUT_FLUSH)) }
            .context("shut the file system down")
    }

    /// It is mounted again, and no page of it is cached: what is read was on its device. Who has
    /// files of it open must be about to end.
    pub fn mount_again(&self) -> anyhow::Result<()> {
        let device = Path::new("/dev").join(self.device()?);
        // Without a user it would let go of the image, which has no name.
        let used = File::open(&device)?;
        until("a disk that nobody uses", || {
            Ok(runs("umount", &[], &[&self.path]))
        })?;
        ensure!(runs("mount", &[], &[&device, &self.path]), "mount it again");
        drop(used);
        Ok(())
    }

    fn tell_length(&self) -> anyhow::Result<()> {
        let device = PathBuf::from("/dev").join(self.device()?);
        ensure!(runs("losetup", &["-c"], &[&device]), "losetup -c");
        Ok(())
    }

    /// As an ext4 does that finds its own data wrong. There is no way back but mounting it anew.
    pub fn turn_read_only(&self) -> anyhow::Result<()> {
        let trigger = Path::new("/sys/fs/ext4")
            .join(self.device()?)
            .join("trigger_fs_error");
        std::fs::write(trigger, "a test").context("make an error of the file system")
    }

    /// The name of the loop device.
    fn device(&self) -> anyhow::Result<String> {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let path = self.path.display().to_string();
        let device = mounts.lines().find_map(|line| {
            let mut words = line.split(' ');
            let device = words.next()?.strip_prefix("/dev/")?;
            (words.next()? == path).then(|| device.to_owned())
        });
        device.context("it is not mounted")
    }
}

/// Has the next reads of a folder's files come from the disk.
pub fn forget_cached(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let file = File::open(entry?.path())?;
        if file.metadata()?.is_file() {
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// A folder that is mounted once more over itself, as read-only; unmounted at the end. What was
/// opened before can still be written.
#[derive(Debug)]
pub struct ReadOnlyFolder(PathBuf);

impl ReadOnlyFolder {
    /// `None` where that is not allowed.
    pub fn mount(folder: &Path) -> Option<Self> {
        if !runs("mount", &["--bind"], &[folder, folder]) {
            eprintln!("skipped: a folder can't be mounted here");
            return None;
        }
        let mounted = Self(folder.to_owned());
        mounted.remount("ro").ok()?;
        Some(mounted)
    }

    /// It can be written again.
    pub fn make_writable(&self) -> anyhow::Result<()> {
        self.remount("rw")
    }

    fn remount(&self, how: &str) -> anyhow::Result<()> {
        let options = format!("remount,bind,{how}");
        ensure!(runs("mount", &["-o", &options], &[&self.0]), "remount");
        Ok(())
    }
}

impl Drop for ReadOnlyFolder {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.path);
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// As soon as nobody uses it, which is after the server has gone.
fn unmount(path: &Path) {
    let _ = Command::new("umount").arg("-l").arg(path).status();
}

/// Whether a program succeeds.
fn runs(program: &str, options: &[&str], more: &[&Path]) -> bool {
    let output = Command::new(program).args(options).args(more).output();
    output.is_ok_and(|output| output.status.success())
}
