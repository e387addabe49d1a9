//! The entries of one stream node: a listpack with a layout of its own.
//!
//! `count, deleted, field count, fields, 0`, then for each entry `flags, ms,
//! seq` (relative to the master id), either the values alone or `field count`
//! and pairs, and the number of elements that the entry took.

use super::StreamId;
use crate::error::Corrupt;
use crate::listpack::{Iter, ListPack, LpValue};

const FLAG_DELETED: i64 = 1;
const FLAG_SAME_FIELDS: i64 = 2;

/// Reads a node's elements and complains with their position.
struct Elements<'a> {
    iter: Iter<'a>,
    read: usize,
}

impl<'a> Elements<'a> {
    fn new(listpack: &'a ListPack) -> Self {
        Self {
            iter: listpack.iter(),
            read: 0,
        }
    }

    fn next(&mut self) -> Result<LpValue<'a>, Corrupt> {
        self.read += 1;
        self.iter
            .next()
            .ok_or(Corrupt::new("stream node ends early", self.read))
    }

    fn int(&mut self) -> Result<i64, Corrupt> {
        let at = self.read;
        self.next()?
            .as_int()
            .ok_or(Corrupt::new("stream node without its number", at))
    }

    /// A number of elements that follow.
    fn count(&mut self) -> Result<u64, Corrupt> {
        let at = self.read;
        u64::try_from(self.int()?).map_err(|_| Corrupt::new("negative count in a stream node", at))
    }

    fn skip(&mut self, count: u64) -> Result<(), Corrupt> {
        for _ in 0..count {
            self.next()?;
        }
        Ok(())
    }
}

struct Entry {
    id: StreamId,
    deleted: bool,
}

struct Header {
    /// Entries in the node, deleted ones included.
    total: u64,
    field_count: u64,
}

fn read_header(elements: &mut Elements<'_>) -> Result<Header, Corrupt> {
    let live = elements.count()?;
    let deleted = elements.count()?;
    let field_count = elements.count()?;
    elements.skip(field_count)?;
    if elements.int()? != 0 {
        return Err(Corrupt::new(
            "stream node without master end mark",
            elements.read,
        ));
    }
    let total = live
        .checked_add(deleted)
        .ok_or(Corrupt::new("impossible entry count in a stream node", 0))?;
    Ok(Header { total, field_count })
}

fn read_entry(
    elements: &mut Elements<'_>,
    master_id: StreamId,
    header: &Header,
) -> Result<Entry, Corrupt> {
    let flags = elements.int()?;
    let ms = elements.int()?;
    let seq = elements.int()?;
    let (fields, extra) = if flags & FLAG_SAME_FIELDS != 0 {
        elements.skip(header.field_count)?;
        (header.field_count, 3)
    } else {
        let fields = elements.count()?;
        elements.skip(fields)?;
        elements.skip(fields)?;
        (fields, fields.saturating_add(4))
    };
    if elements.count()? != fields.saturating_add(extra) {
        return Err(Corrupt::new(
            "stream entry with a wrong element count",
            elements.read,
        ));
    }
    // Redis adds these as unsigned numbers too, wrapping.
    let id = StreamId {
        ms: master_id.ms.wrapping_add_signed(ms),
        seq: master_id.seq.wrapping_add_signed(seq),
    };
    Ok(Entry {
        id,
        deleted: flags & FLAG_DELETED != 0,
    })
}

/// Checks a node's layout (Redis `streamValidateListpackIntegrity`) and gives
/// the number of its live entries.
pub fn check_node(master_id: StreamId, entries: &ListPack) -> Result<u64, Corrupt> {
    let mut elements = Elements::new(entries);
    let header = read_header(&mut elements)?;
    let mut live = 0;
    for _ in 0..header.total {
        live += u64::from(!read_entry(&mut elements, master_id, &header)?.deleted);
    }
    if elements.iter.next().is_some() {
        return Err(Corrupt::new(
            "stream node with elements after its entries",
            elements.read,
        ));
    }
    Ok(live)
}

/// The id of the first entry that is not deleted, if the node has one.
pub fn first_id_of_node(
    master_id: StreamId,
    entries: &ListPack,
) -> Result<Option<StreamId>, Corrupt> {
    let mut elements = Elements::new(entries);
    let header = read_header(&mut elements)?;
    for _ in 0..header.total {
        let entry = read_entry(&mut elements, master_id, &header)?;
        if !entry.deleted {
            return Ok(Some(entry.id));
        }
    }
    Ok(None)
}
