//! The sources of scripts by their digest, for EVALSHA. Unbounded, as in Redis: SCRIPT FLUSH empties
//! it.

use super::flags::{self, Flags};
use super::kept::Kept;
use crate::command::error::CommandResult;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use sha1::{Digest as _, Sha1};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A SHA1 in lower-case hexadecimal digits.
pub type ScriptDigest = [u8; 40];

/// What an entry takes beside its source: digest, table slot, counters; bytes.
const ENTRY_BYTES: usize = 136;

/// A cached script.
#[derive(Debug, Clone)]
pub struct CachedScript {
    /// Its text.
    pub source: Arc<[u8]>,
    /// What it says of itself.
    pub flags: Flags,
    /// Length of the line that says so.
    pub first_line_bytes: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct ScriptCache {
    scripts: RwLock<HashMap<ScriptDigest, CachedScript>>,
    /// Those that go into RDB files.
    kept: Mutex<Kept>,
    source_bytes: AtomicUsize,
    /// Changes whenever the cache is emptied.
    generation: AtomicU64,
}

/// The digest of any bytes.
pub fn digest(bytes: &[u8]) -> ScriptDigest {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digest = [0; 40];
    for (pair, byte) in digest.chunks_exact_mut(2).zip(Sha1::digest(bytes)) {
        if let [high, low] = pair {
            *high = DIGITS[usize::from(byte >> 4)];
            *low = DIGITS[usize::from(byte & 15)];
        }
    }
    digest
}

/// A digest as a client wrote it.
pub fn parse_digest(text: &[u8]) -> Option<ScriptDigest> {
    let digest: ScriptDigest = text.try_into().ok()?;
    Some(digest.map(|byte| byte.to_ascii_lowercase()))
}

impl ScriptCache {
    /// A script.
    pub fn get(&self, digest: &ScriptDigest) -> Option<CachedScript> {
        self.scripts.read().get(digest).cloned()
    }

    /// What a script says of itself.
    pub fn flags(&self, digest: &ScriptDigest) -> Option<Flags> {
        Some(self.scripts.read().get(digest)?.flags)
    }

    /// Whether a script is there.
    pub fn contains(&self, digest: &ScriptDigest) -> bool {
        self.scripts.read().contains_key(digest)
    }

    /// Adds a script that compiles.
    pub fn add(&self, digest: ScriptDigest, script: CachedScript) {
        let bytes = script.source.len();
        if self.scripts.write().insert(digest, script).is_none() {
            self.source_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// A master or a log has sent a script, or wants it by its digest: our RDB files are to have it.
    pub fn keep(&self, digest: &ScriptDigest) {
        if let Some(script) = self.scripts.read().get(digest) {
            self.kept.lock().want(digest, script.source.len());
        }
    }

    /// The texts that RDB files are to have.
    pub fn kept(&self) -> Vec<Arc<[u8]>> {
        let scripts = self.scripts.read();
        let kept = self.kept.lock();
        let found = kept.digests().filter_map(|digest| scripts.get(digest));
        found.map(|script| script.source.clone()).collect()
    }

    /// A script that an RDB file has kept. It is compiled when it is wanted.
    pub fn restore(&self, source: &[u8]) -> CommandResult {
        let (flags, first_line_bytes) = flags::of_script(source)?;
        let digest = digest(source);
        let script = CachedScript {
            source: source.into(),
            flags,
            first_line_bytes,
        };
        self.add(digest, script);
        self.keep(&digest);
        Ok(())
    }

    /// Forgets all.
    pub fn clear(&self) {
        let mut scripts = self.scripts.write();
        *self.kept.lock() = Kept::default();
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.source_bytes.store(0, Ordering::Relaxed);
        *scripts = HashMap::new();
    }

    /// Changes whenever the cache is emptied: what was compiled before is of no use.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Number of scripts.
    pub fn len(&self) -> usize {
        self.scripts.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of sources and entries.
    pub fn memory_bytes(&self) -> usize {
        self.source_bytes.load(Ordering::Relaxed) + self.len() * ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_has_kept_is_kept_again_until_all_is_flushed() {
        let cache = ScriptCache::default();
        cache.restore(b"return 1").unwrap();
        let restored = digest(b"return 1");
        assert!(cache.contains(&restored));
        assert_eq!(cache.kept(), [Arc::from(&b"return 1"[..])]);
        assert!(cache.restore(b"#!lua nonsense=1\nreturn 2").is_err());
        cache.clear();
        cache.keep(&restored);
        assert!(cache.kept().is_empty() && cache.is_empty());
    }

    #[test]
    fn digests_are_hexadecimal_and_found_in_any_case() {
        let script = digest(b"return 1");
        assert_eq!(&script, b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(parse_digest(&script.to_ascii_uppercase()), Some(script));
        assert_eq!(parse_digest(b"e0"), None);
    }
}
