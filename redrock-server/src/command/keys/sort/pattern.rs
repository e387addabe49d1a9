//! `BY` and `GET` patterns: names of other keys made from an element.

use crate::command::{CommandError, CommandResult};
use crate::keyspace::db::Db;
use crate::value::{ObjectType, ValueRef};
use redrock_rdb::number::{IntBuf, format_i64};

/// A parsed pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern<'a> {
    /// `#`: the element itself.
    Element,
    /// No `*`: there is nothing to look up.
    Constant,
    /// A key, the element put between two texts; of a hash if there is a field.
    Key {
        before: &'a [u8],
        after: &'a [u8],
        field: Option<&'a [u8]>,
    },
}

impl<'a> Pattern<'a> {
    /// Parses a pattern. `->` names a field only after the `*`, and if something follows it.
    pub(super) fn parse(pattern: &'a [u8]) -> Self {
        if pattern == b"#" {
            return Self::Element;
        }
        let Some(star) = pattern.iter().position(|byte| *byte == b'*') else {
            return Self::Constant;
        };
        let (before, rest) = pattern.split_at(star);
        let rest = rest.get(1..).unwrap_or_default();
        let arrow = rest.windows(2).position(|pair| pair == b"->");
        match arrow.map(|at| (rest.get(..at), rest.get(at + 2..))) {
            Some((Some(after), Some(field))) if !field.is_empty() => Self::Key {
                before,
                after,
                field: Some(field),
            },
            _ => Self::Key {
                before,
                after: rest,
                field: None,
            },
        }
    }
}

/// Looks up what patterns name, and remembers what is not in memory: so that one run of the
/// command finds all cold keys, not just the first.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    key: Vec<u8>,
    cold: Option<CommandError>,
}

impl Lookups {
    /// Calls `found` with the text that `pattern` names for `element`, `None` if there is none
    /// (or it is not in memory: then [`Lookups::finish`] fails).
    pub(super) fn text<R>(
        &mut self,
        db: &mut Db<'_>,
        pattern: &Pattern<'_>,
        element: &[u8],
        found: impl FnOnce(Option<&[u8]>) -> R,
    ) -> R {
        let (before, after, field) = match *pattern {
            Pattern::Element => return found(Some(element)),
            Pattern::Constant => return found(None),
            Pattern::Key {
                before,
                after,
                field,
            } => (before, after, field),
        };
        self.key.clear();
        self.key.extend_from_slice(before);
        self.key.extend_from_slice(element);
        self.key.extend_from_slice(after);
        let mut digits = IntBuf::default();
        let cutoff_ms = db.field_cutoff();
        match (db.read_any(&self.key), field) {
            (Ok(Some(ValueRef::Int(n))), None) => found(Some(format_i64(n, &mut digits))),
            (Ok(Some(ValueRef::Str(bytes))), None) => found(Some(bytes)),
            (Ok(Some(ValueRef::Hash(hash))), Some(field)) => {
                match hash.lookup(field, cutoff_ms).value() {
                    Some(value) => found(Some(value.bytes(&mut digits))),
                    None => found(None),
                }
            }
            (Ok(_), _) => found(None),
            (Err(error), _) => {
                let wanted = if field.is_some() {
                    ObjectType::Hash
                } else {
                    ObjectType::String
                };
                self.note_cold(db, wanted, error);
                found(None)
            }
        }
    }

    /// Remembers a failed lookup, unless the value would be of no use once it is read.
    fn note_cold(&mut self, db: &mut Db<'_>, wanted: ObjectType, error: CommandError) {
        let usable = match db.presence(&self.key) {
            Ok(presence) => presence.is_none_or(|found| found.object_type == wanted),
            Err(_) => true,
        };
        if usable {
            note_cold(db, &self.key);
            self.cold.get_or_insert(error);
        }
    }

    /// Fails with the first lookup that failed, if any did.
    pub(super) fn finish(&mut self) -> CommandResult {
        self.cold.take().map_or(Ok(()), Err)
    }
}

/// Asks for a key to be read from disk together with the others that this command misses.
fn note_cold(_db: &mut Db<'_>, _key: &[u8]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_keys_and_fields_as_redis_does() {
        let key = |before, after, field| Pattern::Key {
            before,
            after,
            field,
        };
        for (text, expected) in [
            (&b"#"[..], Pattern::Element),
            (b"", Pattern::Constant),
            (b"nosort", Pattern::Constant),
            (b"##", Pattern::Constant),
            (b"w_*", key(&b"w_"[..], &b""[..], None)),
            (b"*", key(b"", b"", None)),
            (b"a*b*c", key(b"a", b"b*c", None)),
            (b"h_*->f", key(b"h_", b"", Some(b"f"))),
            (b"h_*_x->f->g", key(b"h_", b"_x", Some(b"f->g"))),
            (b"h_*->", key(b"h_", b"->", None)),
            (b"a->b*", key(b"a->b", b"", None)),
        ] {
            assert_eq!(Pattern::parse(text), expected, "{}", text.escape_ascii());
        }
    }
}
