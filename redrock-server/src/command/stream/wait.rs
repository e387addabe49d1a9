//! What XREAD and XREADGROUP share: their words, and waiting.

use super::quoting;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::net::client::{BlockRequest, OwnedCommand};
use crate::value::ObjectType;

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    /// Not at all.
    No,
    /// Until this time, unix ms; `None`: for ever.
    Until(Option<i64>),
}

/// What stands before the keys.
pub(super) struct ReadWords<'a> {
    pub(super) block: Block,
    /// 0: no limit.
    pub(super) count: usize,
    pub(super) no_ack: bool,
    /// Group and consumer.
    pub(super) group: Option<(&'a [u8], &'a [u8])>,
    pub(super) keys: &'a [&'a [u8]],
    /// An id for each key, as the client wrote it.
    pub(super) ids: &'a [&'a [u8]],
    /// Where the first id stands.
    pub(super) ids_at: usize,
}

fn only_for_groups(option: &str) -> CommandError {
    CommandError::text(format!(
        "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
    ))
}

fn deadline(args: &Args<'_>, at: usize, now_ms: i64) -> CommandResult<Block> {
    const NO_INTEGER: CommandError =
        CommandError::fixed("ERR timeout is not an integer or out of range");
    let timeout_ms = args.int(at).map_err(|_| NO_INTEGER)?;
    match timeout_ms {
        0 => Ok(Block::Until(None)),
        ..0 => Err(CommandError::fixed("ERR timeout is negative")),
        _ => match timeout_ms.checked_add(now_ms) {
            Some(at_ms) => Ok(Block::Until(Some(at_ms))),
            None => Err(CommandError::fixed("ERR timeout is out of range")),
        },
    }
}

/// Takes the words apart. `groups`: XREADGROUP's. Without a context only the
/// words count.
pub(super) fn parse<'a>(
    args: &Args<'a>,
    groups: bool,
    ctx: Option<&Context<'_>>,
) -> CommandResult<ReadWords<'a>> {
    let mut words = ReadWords {
        block: Block::No,
        count: 0,
        no_ack: false,
        group: None,
        keys: &[],
        ids: &[],
        ids_at: 0,
    };
    let mut at = 1;
    while at < args.len() {
        let more = args.len() - at - 1;
        if more > 0 && args.is(at, "block") {
            if ctx.is_some_and(|ctx| ctx.client.in_script) {
                let text = b" command is not allowed with BLOCK option from scripts";
                let text = [b"ERR ", args.at(0), text].concat();
                return Err(CommandError::Bytes(text));
            }
            at += 1;
            words.block = deadline(args, at, ctx.map_or(0, Context::now_ms))?;
        } else if more > 0 && args.is(at, "count") {
            at += 1;
            words.count = usize::try_from(args.int(at)?).unwrap_or(0);
        } else if more > 0 && args.is(at, "streams") {
            let streams = args.from(at + 1);
            if streams.len() % 2 == 1 {
                return Err(CommandError::text(match groups {
                    true => unbalanced("xreadgroup", '>'),
                    false => unbalanced("xread", '$'),
                }));
            }
            words.ids_at = at + 1 + streams.len() / 2;
            (words.keys, words.ids) = streams.split_at(streams.len() / 2);
            break;
        } else if more > 1 && args.is(at, "group") {
            if !groups {
                return Err(only_for_groups("GROUP"));
            }
            words.group = Some((args.at(at + 1), args.at(at + 2)));
            at += 2;
        } else if args.is(at, "noack") {
            if !groups {
                return Err(only_for_groups("NOACK"));
            }
            words.no_ack = true;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    if words.ids_at == 0 {
        return Err(CommandError::Syntax);
    }
    Ok(words)
}

fn unbalanced(name: &str, symbol: char) -> String {
    format!(
        "ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{symbol}' must be \
         specified."
    )
}

/// Where the keys are, for residency; none if the words are wrong.
pub(super) fn key_positions(args: &Args<'_>) -> Vec<usize> {
    let groups = args.is(0, "xreadgroup");
    match parse(args, groups, None) {
        Ok(words) => (words.ids_at - words.keys.len()..words.ids_at).collect(),
        Err(_) => Vec::new(),
    }
}

/// Waits, or answers as after a timeout. `again` runs when there is something.
pub(super) fn wait(
    ctx: &mut Context<'_>,
    words: &ReadWords<'_>,
    or_gone: bool,
    again: Option<OwnedCommand>,
) {
    match words.block {
        Block::Until(deadline_ms) if !ctx.client.deny_blocking => {
            ctx.client.block = Some(BlockRequest {
                keys: words.keys.iter().map(|key| key.to_vec()).collect(),
                deadline_ms,
                on_timeout: |reply| reply.null_array(),
                wants: ObjectType::Stream,
                or_gone,
                again,
            });
        }
        _ => ctx.reply.null_array(),
    }
}

/// The error of a key or group that is not there.
pub(super) fn no_group(key: &[u8], group: &[u8]) -> CommandError {
    let text = "NOGROUP No such key '{}' or consumer group '{}' in XREADGROUP with GROUP option";
    quoting(text, &[key, group])
}
