//! What a command sees of the keyspace: one selected database under the locks.
//!
//! Every change goes through [`Db::before_change`]: it is where snapshots take their pre-image
//! and where a clean entry becomes dirty. No other code may alter an entry's value or expiry.

mod change;
mod look;
mod tell;

use super::position::KeyHash;
use super::{Database, Keyspace};
use crate::command::effect::Effect;
use crate::notify::Notifier;
use crate::value::{
    Object, ObjectType, ValueRef, hash::Hash, list::List, set::Set, stream::Stream, zset::ZSet,
};

/// A collection type that commands ask for by type.
pub trait Collection: Sized {
    /// The value as this type.
    fn of(value: ValueRef<'_>) -> Option<&Self>;
    /// The object as this type, for editing.
    fn of_mut(object: &mut Object) -> Option<&mut Self>;
    /// An empty one.
    fn empty() -> Object;
    /// Number of elements.
    fn size(&self) -> usize;
}

macro_rules! collection {
    ($type:ident) => {
        impl Collection for $type {
            fn of(value: ValueRef<'_>) -> Option<&Self> {
                match value {
                    ValueRef::$type(value) => Some(value),
                    _ => None,
                }
            }
            fn of_mut(object: &mut Object) -> Option<&mut Self> {
                match object {
                    Object::$type(value) => Some(value),
                    _ => None,
                }
            }
            fn empty() -> Object {
                Object::$type($type::new())
            }
            fn size(&self) -> usize {
                self.len()
            }
        }
    };
}
collection!(Hash);
collection!(List);
collection!(Set);
collection!(ZSet);
collection!(Stream);

/// A string value: an integer kept as such, or bytes.
#[derive(Debug, Clone, Copy)]
pub enum StringRef<'a> {
    /// Encoding `int`.
    Int(i64),
    /// Encodings `embstr` and `raw`.
    Bytes(&'a [u8]),
}

impl StringRef<'_> {
    /// The text, written into `digits` if it is an integer.
    pub fn as_bytes<'b>(&'b self, digits: &'b mut itoa::Buffer) -> &'b [u8] {
        match self {
            Self::Int(n) => digits.format(*n).as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// An owned copy of the text.
    pub fn to_vec(&self) -> Vec<u8> {
        self.as_bytes(&mut itoa::Buffer::new()).to_vec()
    }

    /// Length of the text in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes(&mut itoa::Buffer::new()).len()
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What happens to the expiry when a key gets a new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// No expiry, whatever it was.
    Clear,
    /// As it was.
    Keep,
    /// At this time, unix ms.
    At(i64),
}

/// What a key's presence alone tells, without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// The type.
    pub object_type: ObjectType,
    /// The expiry, unix ms.
    pub expire: Option<i64>,
    /// Whether the value is in the tier only.
    pub cold: bool,
}

/// One selected database. See the module.
pub struct Db<'a> {
    pub(super) keyspace: &'a mut Keyspace,
    pub(super) notifier: &'a dyn Notifier,
    pub(super) index: usize,
    now_ms: i64,
    /// False for `CLIENT NO-TOUCH` and for OBJECT, DEBUG and the like.
    pub touch: bool,
    /// Cold values are read under the locks instead of failing with [`CommandError::Cold`]: EXEC
    /// and scripts, which can't be run again once they have changed something.
    pub blocking_reads: bool,
    /// What the command changed so far.
    pub effect: &'a mut Effect,
    /// Changes in `effect` before the command.
    dirty_before: u64,
}

impl<'a> Db<'a> {
    /// Database `index` of a locked keyspace at time `now_ms`.
    pub fn new(
        keyspace: &'a mut Keyspace,
        notifier: &'a dyn Notifier,
        effect: &'a mut Effect,
        index: usize,
        now_ms: i64,
    ) -> Self {
        Self {
            keyspace,
            notifier,
            index,
            now_ms,
            touch: true,
            blocking_reads: false,
            dirty_before: effect.dirty,
            effect,
        }
    }

    /// The same keyspace with another database selected.
    pub fn other(&mut self, index: usize) -> Db<'_> {
        Db {
            keyspace: self.keyspace,
            notifier: self.notifier,
            index,
            now_ms: self.now_ms,
            touch: self.touch,
            blocking_reads: self.blocking_reads,
            effect: self.effect,
            dirty_before: self.dirty_before,
        }
    }

    /// Whether the command may end with [`CommandError::Cold`] or [`CommandError::Busy`] and be run
    /// again: not once it has changed something. What commands look at first does not rule that out: the
    /// tier's filters may answer otherwise a moment later, when RocksDB has made a new file.
    pub(super) fn can_wait(&self) -> bool {
        !self.blocking_reads && self.effect.dirty == self.dirty_before
    }

    /// The selected database's number.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The running command's time, unix ms.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// The keyspace, for administration.
    pub fn keyspace(&mut self) -> &mut Keyspace {
        self.keyspace
    }

    pub(super) fn database(&self) -> &Database {
        &self.keyspace.databases[self.index]
    }

    fn database_mut(&mut self) -> &mut Database {
        &mut self.keyspace.databases[self.index]
    }

    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        self.keyspace.positioner.hash(key)
    }

    /// Number of keys (`DBSIZE`: expired ones that are still there count).
    pub fn len(&self) -> u64 {
        self.database().keys
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
