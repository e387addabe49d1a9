//! What a look for a key finds in memory: an entry with its value, or a stub.

use super::entry::{Entry, NewValue};
use super::stubs::Stub;
use crate::value::{ObjectType, ValueRef};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// Its value.
    Value(&'a Entry),
    /// Its value is in the tier only.
    Stub(Stub<'a>),
}

impl<'a> Found<'a> {
    /// The key.
    pub fn key(self) -> &'a [u8] {
        match self {
            Self::Value(entry) => entry.key(),
            Self::Stub(stub) => stub.key,
        }
    }

    /// The value, if it is in memory.
    pub fn value(self) -> Option<ValueRef<'a>> {
        match self {
            Self::Value(entry) => entry.value(),
            Self::Stub(_) => None,
        }
    }

    /// Whether the value is in the tier only.
    pub fn is_stub(self) -> bool {
        matches!(self, Self::Stub(_))
    }

    /// The type.
    pub fn object_type(self) -> ObjectType {
        match self {
            Self::Value(entry) => entry.object_type(),
            Self::Stub(stub) => stub.object_type,
        }
    }

    /// The expiry in unix ms.
    pub fn expire(self) -> Option<i64> {
        match self {
            Self::Value(entry) => entry.expire(),
            Self::Stub(stub) => stub.expire,
        }
    }

    /// When the first field of a hash expires, unix ms.
    pub fn field_time(self) -> Option<i64> {
        match self {
            Self::Value(entry) => entry.field_time(),
            Self::Stub(stub) => stub.fields,
        }
    }

    /// The first time at which there is something to delete here: the key, or a field of a value
    /// in memory; `i64::MAX` if there never is.
    pub fn due_ms(self) -> i64 {
        match self {
            Self::Value(entry) => entry.due_ms(),
            Self::Stub(stub) => stub.expire.unwrap_or(i64::MAX),
        }
    }

    /// 24 bits of LRU clock or LFU counter.
    pub fn access(self) -> u32 {
        match self {
            Self::Value(entry) => entry.access(),
            Self::Stub(stub) => stub.access,
        }
    }

    /// Whether the value is known to no tier record (I6).
    pub fn is_dirty(self) -> bool {
        match self {
            Self::Value(entry) => entry.is_dirty(),
            Self::Stub(_) => false,
        }
    }

    /// Whether a put of the value is queued and not applied yet.
    pub fn is_in_flight(self) -> bool {
        match self {
            Self::Value(entry) => entry.is_in_flight(),
            Self::Stub(stub) => stub.in_flight,
        }
    }
}

impl<'a> Stub<'a> {
    /// What stays in memory of an entry of which the value is in the tier.
    pub fn of(entry: &'a Entry) -> Self {
        Self {
            key: entry.key(),
            object_type: entry.object_type(),
            expire: entry.expire(),
            fields: entry.field_time(),
            access: entry.access(),
            in_flight: entry.is_in_flight(),
        }
    }

    /// An entry without a value, for [`super::HotTable::unpack_stub`].
    pub fn to_entry(self) -> Entry {
        let value = match self.fields {
            Some(ms) => NewValue::TimedStub(ms),
            None => NewValue::Stub(self.object_type),
        };
        let mut entry = Entry::new(self.key, value, self.expire);
        entry.set_access(self.access);
        entry.set_in_flight(self.in_flight);
        entry
    }
}
