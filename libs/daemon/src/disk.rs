//! How much of the disk what has no size of its own may use.

use std::path::Path;

/// The least, bytes.
const SHARE_BYTES_MIN: u64 = 1 << 30;

/// 10 % of the disk that holds `directory`, and at least 1 GB: what an automatic size means.
pub fn automatic_share(directory: &Path) -> u64 {
    let disk = rustix::fs::statvfs(directory).map_or(0, |stat| stat.f_blocks * stat.f_frsize);
    (disk / 10).max(SHARE_BYTES_MIN)
}

/// What an automatic backlog is: such a share, or the size that was given for one in memory, as whoever set
/// that counts on it.
pub fn automatic_backlog(directory: &Path, bytes_min: u64) -> u64 {
    automatic_share(directory).max(bytes_min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_not_there_gives_the_least() {
        assert_eq!(automatic_share(Path::new("/none/such")), SHARE_BYTES_MIN);
        assert!(automatic_share(Path::new("/")) >= SHARE_BYTES_MIN);
        let backlog = |bytes_min| automatic_backlog(Path::new("/none/such"), bytes_min);
        assert_eq!(backlog(1 << 20), SHARE_BYTES_MIN);
        assert_eq!(backlog(1 << 40), 1 << 40);
    }
}
