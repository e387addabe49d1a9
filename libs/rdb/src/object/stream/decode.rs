//! Decoding the three stream types, with every check of Redis's deep
//! sanitization.

use std::collections::HashMap;

use super::StreamPending;
use super::node::{check_node, first_id_of_node};
use super::{StreamConsumer, StreamGroup, StreamId, StreamMeta, StreamNode, StreamObject};
use crate::listpack::ListPack;
use crate::object::error::ObjectError;
use crate::object::input::{Cursor, Input};
use crate::object::types;

/// Decodes the payload of a stream of any version.
pub fn decode(object_type: u8, payload: &[u8]) -> Result<StreamObject, ObjectError> {
    let mut cursor = Cursor::new(payload);
    let stream = read_stream(&mut cursor, object_type)?;
    cursor.finish()?;
    Ok(stream)
}

fn read_stream(cursor: &mut Cursor<'_>, object_type: u8) -> Result<StreamObject, ObjectError> {
    let node_count = cursor.length()?;
    let mut nodes = Vec::with_capacity(cursor.capacity_for(node_count));
    for _ in 0..node_count {
        nodes.push(read_node(cursor)?);
    }
    let at = cursor.offset();
    nodes.sort_by_key(|node: &StreamNode| node.master_id);
    if nodes
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.master_id == b.master_id))
    {
        return Err(ObjectError::corrupt(
            "stream node with the id of another",
            at,
        ));
    }
    let meta = read_meta(cursor, object_type, &nodes)?;
    if meta.length > 0 && nodes.is_empty() {
        return Err(ObjectError::corrupt("stream length without entries", at));
    }
    let group_count = cursor.length()?;
    let mut groups = Vec::with_capacity(cursor.capacity_for(group_count));
    for _ in 0..group_count {
        groups.push(read_group(cursor, object_type, &meta)?);
    }
    let at = cursor.offset();
    groups.sort_by(|a: &StreamGroup, b| a.name.cmp(&b.name));
    if groups
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.name == b.name))
    {
        return Err(ObjectError::corrupt("duplicate consumer group", at));
    }
    Ok(StreamObject {
        nodes,
        meta,
        groups,
    })
}

fn read_node(cursor: &mut Cursor<'_>) -> Result<StreamNode, ObjectError> {
    let at = cursor.offset();
    let master_id: [u8; 16] = cursor
        .content()?
        .as_ref()
        .try_into()
        .map_err(|_| ObjectError::corrupt("stream node key of a wrong size", at))?;
    let master_id = StreamId::from_bytes(master_id);
    let entries = ListPack::from_bytes(cursor.content()?.into_owned())?;
    check_node(master_id, &entries)?;
    Ok(StreamNode { master_id, entries })
}

fn read_id(cursor: &mut Cursor<'_>) -> Result<StreamId, ObjectError> {
    Ok(StreamId {
        ms: cursor.length()?,
        seq: cursor.length()?,
    })
}

fn read_raw_id(cursor: &mut Cursor<'_>) -> Result<StreamId, ObjectError> {
    Ok(StreamId::from_bytes(cursor.array()?))
}

fn read_meta(
    cursor: &mut Cursor<'_>,
    object_type: u8,
    nodes: &[StreamNode],
) -> Result<StreamMeta, ObjectError> {
    let length = cursor.length()?;
    let last_id = read_id(cursor)?;
    if object_type == types::STREAM_LISTPACKS {
        // What older versions did not keep is estimated as Redis does.
        let mut first_id = StreamId::default();
        for node in nodes {
            if let Some(id) = first_id_of_node(node.master_id, &node.entries)? {
                first_id = id;
                break;
            }
        }
        return Ok(StreamMeta {
            length,
            last_id,
            first_id,
            max_deleted_id: StreamId::default(),
            entries_added: length,
        });
    }
    Ok(StreamMeta {
        length,
        last_id,
        first_id: read_id(cursor)?,
        max_deleted_id: read_id(cursor)?,
        entries_added: cursor.length()?,
    })
}

fn read_group(
    cursor: &mut Cursor<'_>,
    object_type: u8,
    meta: &StreamMeta,
) -> Result<StreamGroup, ObjectError> {
    let name = cursor.content()?.into_owned();
    let last_id = read_id(cursor)?;
    let entries_read = if object_type == types::STREAM_LISTPACKS {
        estimate_entries_read(meta, last_id)
    } else {
        // Redis writes -1 for unknown as an unsigned number.
        let count = cursor.length()?;
        (count != u64::MAX).then_some(count)
    };
    let pending_count = cursor.length()?;
    let mut pending = Vec::with_capacity(cursor.capacity_for(pending_count));
    for _ in 0..pending_count {
        pending.push(StreamPending {
            id: read_raw_id(cursor)?,
            delivery_time_ms: cursor.time_ms()?,
            delivery_count: cursor.length()?,
        });
    }
    let at = cursor.offset();
    pending.sort_by_key(|entry| entry.id);
    if pending
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.id == b.id))
    {
        return Err(ObjectError::corrupt("duplicate pending entry", at));
    }
    let consumers = read_consumers(cursor, object_type, &pending)?;
    Ok(StreamGroup {
        name,
        last_id,
        entries_read,
        pending,
        consumers,
    })
}

fn read_consumers(
    cursor: &mut Cursor<'_>,
    object_type: u8,
    pending: &[StreamPending],
) -> Result<Vec<StreamConsumer>, ObjectError> {
    let mut owned: HashMap<StreamId, bool> =
        pending.iter().map(|entry| (entry.id, false)).collect();
    let consumer_count = cursor.length()?;
    let mut consumers = Vec::with_capacity(cursor.capacity_for(consumer_count));
    for _ in 0..consumer_count {
        let name = cursor.content()?.into_owned();
        let seen_time_ms = cursor.time_ms()?;
        let active_time_ms = if object_type == types::STREAM_LISTPACKS_3 {
            cursor.time_ms()?
        } else {
            seen_time_ms
        };
        let id_count = cursor.length()?;
        let mut ids = Vec::with_capacity(cursor.capacity_for(id_count));
        for _ in 0..id_count {
            let at = cursor.offset();
            let id = read_raw_id(cursor)?;
            match owned.get_mut(&id) {
                None => {
                    let reason = "consumer's entry is not pending in its group";
                    return Err(ObjectError::corrupt(reason, at));
                }
                Some(true) => {
                    return Err(ObjectError::corrupt("pending entry of two consumers", at));
                }
                Some(taken) => *taken = true,
            }
            ids.push(id);
        }
        ids.sort_unstable();
        consumers.push(StreamConsumer {
            name,
            seen_time_ms,
            active_time_ms,
            pending: ids,
        });
    }
    let at = cursor.offset();
    if owned.values().any(|taken| !taken) {
        return Err(ObjectError::corrupt("pending entry without consumer", at));
    }
    consumers.sort_by(|a, b| a.name.cmp(&b.name));
    if consumers
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.name == b.name))
    {
        return Err(ObjectError::corrupt("duplicate consumer", at));
    }
    Ok(consumers)
}

/// How many entries a group has read, guessed from its last id for streams that
/// did not count (Redis `streamEstimateDistanceFromFirstEverEntry`, where
/// nothing was ever deleted as far as is known).
fn estimate_entries_read(meta: &StreamMeta, id: StreamId) -> Option<u64> {
    if meta.entries_added == 0 {
        return Some(0);
    }
    // `entries_added` is the length here, so an empty stream ended above.
    match id.cmp(&meta.last_id) {
        std::cmp::Ordering::Equal => return Some(meta.entries_added),
        std::cmp::Ordering::Greater => return None,
        std::cmp::Ordering::Less => {}
    }
    match id.cmp(&meta.first_id) {
        std::cmp::Ordering::Less => Some(meta.entries_added.saturating_sub(meta.length)),
        std::cmp::Ordering::Equal => Some(
            meta.entries_added
                .saturating_sub(meta.length)
                .saturating_add(1),
        ),
        std::cmp::Ordering::Greater => None,
    }
}
