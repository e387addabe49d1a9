//! How far the save or rewrite under way is, as the persister tells.

/// How far a save or rewrite is (`current_save_*`); zeros while none is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SaveProgress {
    /// Keys written by it.
    pub keys_done: u64,
    /// Keys it has to write.
    pub keys_total: u64,
    /// Bytes it writes a second.
    pub bytes_per_second: u64,
    /// Seconds that are left if it goes on like that; `None`: not known.
    pub left_s: Option<u64>,
}

impl From<&redrock_proto::v1::Progress> for SaveProgress {
    fn from(progress: &redrock_proto::v1::Progress) -> Self {
        Self {
            keys_done: progress.keys_done,
            keys_total: progress.keys_total,
            bytes_per_second: progress.bytes_per_second,
            left_s: progress.left_ms.map(|left_ms| left_ms.div_ceil(1000)),
        }
    }
}
