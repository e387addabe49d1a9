//! XREAD.

use super::id::{self, IdText, c_text};
use super::range::reply_entries;
use super::wait::{ReadWords, parse, wait};
use crate::command::{Args, CommandError, CommandResult, Context, Reply};
use crate::net::client::OwnedCommand;
use crate::value::stream::{ID_MAX, ID_MIN, Stream, StreamId, next_id};

/// An array of pairs of key and entries; in RESP3 a map.
pub(super) struct Streams {
    start: Option<crate::command::reply::Deferred>,
    count: usize,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            start: None,
            count: 0,
        }
    }

    /// The next stream; its entries follow.
    pub(super) fn begin(&mut self, reply: &mut Reply<'_>, key: &[u8]) {
        if self.start.is_none() {
            self.start = Some(reply.deferred());
        }
        self.count += 1;
        if !reply.is_resp3() {
            reply.array(2);
        }
        reply.bulk(key);
    }

    /// Ends the reply; false if there were no streams.
    pub(super) fn finish(self, reply: &mut Reply<'_>) -> bool {
        let Some(start) = self.start else {
            return false;
        };
        if reply.is_resp3() {
            reply.finish_map(start, self.count);
        } else {
            reply.finish_array(start, self.count);
        }
        true
    }
}

/// The ids after which the client wants entries.
fn after_ids(ctx: &mut Context<'_>, words: &ReadWords<'_>) -> CommandResult<Vec<StreamId>> {
    let mut after = Vec::with_capacity(words.ids.len());
    for (key, word) in words.keys.iter().zip(words.ids) {
        let stream = ctx.db.read::<Stream>(key)?;
        after.push(match c_text(word) {
            b"$" => stream.map_or(ID_MIN, |stream| stream.meta().last_id),
            b">" => {
                return Err(CommandError::fixed(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP \
                     <group> <consumer> option.",
                ));
            }
            _ => id::strict(word, 0)?,
        });
    }
    Ok(after)
}

/// The words with `$` replaced by what it meant when the client began to wait.
fn again(args: &Args<'_>, words: &ReadWords<'_>, after: &[StreamId]) -> Option<OwnedCommand> {
    if !words.ids.iter().any(|word| c_text(word) == b"$") {
        return None;
    }
    let texts: Vec<IdText> = after.iter().map(|id| IdText::new(*id)).collect();
    let mut argv = args.all().to_vec();
    let ids = argv.iter_mut().skip(words.ids_at);
    for (word, text) in ids.zip(&texts) {
        if c_text(word) == b"$" {
            *word = text.as_bytes();
        }
    }
    Some(OwnedCommand::new(&argv))
}

/// `XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]`
pub(super) fn xread(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let words = parse(args, false, Some(ctx))?;
    let after = after_ids(ctx, &words)?;
    let count = match words.count {
        0 => usize::MAX,
        count => count,
    };
    let reply_start = ctx.reply.len();
    let mut streams = Streams::new();
    for (key, after) in words.keys.iter().zip(&after) {
        let stream = match ctx.db.read::<Stream>(key) {
            Ok(stream) => stream,
            Err(error) => {
                ctx.reply.truncate(reply_start);
                return Err(error);
            }
        };
        let Some((stream, start)) = stream.zip(next_id(*after)) else {
            continue;
        };
        if stream.is_empty() || stream.last_entry_id() <= *after {
            continue;
        }
        streams.begin(&mut ctx.reply, key);
        reply_entries(&mut ctx.reply, stream.range(start, ID_MAX), count);
    }
    if !streams.finish(&mut ctx.reply) {
        let again = again(args, &words, &after);
        wait(ctx, &words, false, again);
    }
    Ok(())
}
