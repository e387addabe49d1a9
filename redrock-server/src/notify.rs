//! Classes of keyspace events (`notify-keyspace-events`), Redis's `NOTIFY_*`.

/// One class, a bit of the configured mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class(pub u32);

impl Class {
    /// `K`: `__keyspace@db__` channels.
    pub const KEYSPACE: Self = Self(1 << 0);
    /// `E`: `__keyevent@db__` channels.
    pub const KEYEVENT: Self = Self(1 << 1);
    /// `g`
    pub const GENERIC: Self = Self(1 << 2);
    /// `$`
    pub const STRING: Self = Self(1 << 3);
    /// `l`
    pub const LIST: Self = Self(1 << 4);
    /// `s`
    pub const SET: Self = Self(1 << 5);
    /// `h`
    pub const HASH: Self = Self(1 << 6);
    /// `z`
    pub const ZSET: Self = Self(1 << 7);
    /// `x`
    pub const EXPIRED: Self = Self(1 << 8);
    /// `e`
    pub const EVICTED: Self = Self(1 << 9);
    /// `t`
    pub const STREAM: Self = Self(1 << 10);
    /// `m`
    pub const KEY_MISS: Self = Self(1 << 11);
    /// `d`
    pub const MODULE: Self = Self(1 << 13);
    /// `n`
    pub const NEW: Self = Self(1 << 14);
    /// `A`: all but key misses and new keys.
    pub const ALL: u32 = 0b10_0111_1111_1100;

    const LETTERS: [(u8, u32); 14] = [
        (b'g', 1 << 2),
        (b'$', 1 << 3),
        (b'l', 1 << 4),
        (b's', 1 << 5),
        (b'h', 1 << 6),
        (b'z', 1 << 7),
        (b'x', 1 << 8),
        (b'e', 1 << 9),
        (b't', 1 << 10),
        (b'd', 1 << 13),
        (b'K', 1 << 0),
        (b'E', 1 << 1),
        (b'm', 1 << 11),
        (b'n', 1 << 14),
    ];

    /// Parses the option's letters; `None` names an unknown letter.
    pub fn parse_mask(text: &str) -> Option<u32> {
        text.bytes().try_fold(0, |mask, letter| match letter {
            b'A' => Some(mask | Self::ALL),
            _ => Self::LETTERS
                .iter()
                .find(|(l, _)| *l == letter)
                .map(|(_, bit)| mask | bit),
        })
    }

    /// The option's letters for a mask, in the order in which Redis prints them.
    pub fn format_mask(mask: u32) -> String {
        let mut text = String::new();
        let all = mask & Self::ALL == Self::ALL;
        if all {
            text.push('A');
        }
        for (letter, bit) in Self::LETTERS {
            if mask & bit != 0 && !(all && Self::ALL & bit != 0) {
                text.push(letter.into());
            }
        }
        text
    }
}

/// Where the keyspace tells what happened to keys.
pub trait Notifier {
    /// A keyspace event. The implementation checks the configured mask.
    fn notify(&self, class: Class, event: &'static str, key: &[u8], db: usize);
    /// Whether keys whose time has come are hidden and not deleted for now (CLIENT PAUSE).
    fn expiry_rests(&self) -> bool {
        false
    }
}
