//! DEBUG HTSTATS, HTSTATS-KEY, STRUCTSIZE: how tables are filled, in Redis's words.

use crate::command::{Args, CommandError, CommandResult, Context};
use crate::keyspace::hot::entry::Entry;
use crate::value::{Object, ValueRef};

/// The text for a table of so many places and elements.
fn stats(title: &str, size: usize, elements: usize) -> String {
    if elements == 0 {
        return format!(
            "Hash table 0 stats ({title}):\nNo stats available for empty dictionaries\n"
        );
    }
    format!("Hash table 0 stats ({title}):\n table size: {size}\n number of elements: {elements}\n")
}

pub(super) fn htstats(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let index = usize::try_from(args.int(2)?).ok();
    let keyspace = ctx.db.keyspace();
    let Some(database) = index.and_then(|index| keyspace.database(index)) else {
        return Err(CommandError::fixed("ERR Out of range database"));
    };
    let elements = database.table.len();
    let size = elements.next_power_of_two();
    let expires = database.expires as usize;
    let text = format!(
        "[Dictionary HT]\n{}[Expires HT]\n{}",
        stats("main hash table", size, elements),
        stats("main hash table", expires.next_power_of_two(), expires)
    );
    ctx.reply.verbatim(text.as_bytes(), "txt");
    Ok(())
}

pub(super) fn htstats_key(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let Some(value) = ctx.db.peek(args.at(2))? else {
        return Err(CommandError::NoSuchKey);
    };
    let elements = match value {
        ValueRef::Set(set) if set.encoding() == "hashtable" => set.len(),
        ValueRef::Hash(hash) if hash.encoding() == "hashtable" => hash.len(),
        ValueRef::ZSet(zset) if zset.encoding() == "skiplist" => zset.len(),
        _ => {
            return Err(CommandError::fixed(
                "ERR The value stored at the specified key is not represented using an hash table",
            ));
        }
    };
    let text = stats("main hash table", elements.next_power_of_two(), elements);
    ctx.reply.verbatim(text.as_bytes(), "txt");
    Ok(())
}

/// Sizes of our own structures.
pub(super) fn struct_sizes() -> String {
    format!(
        "bits:{} entry:{} object:{}",
        usize::BITS,
        size_of::<Entry>(),
        size_of::<Object>()
    )
}
