//! XADD and XTRIM.

use super::id::{self, IdText, Wanted};
use super::{node_limits, peek};
use crate::command::args::is_word;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::notify::Class;
use crate::value::stream::{AddError, ID_MAX, ID_MIN, NewId, Stream, Trim, TrimBy};

/// Entries that an approximate trim removes at most, if the client does not say.
const LIMIT_DEFAULT: i64 = 10_000;
const LIMIT_MAX: i64 = 1_000_000;

/// A trim, and where its threshold stands among the words.
struct TrimWords {
    trim: Trim,
    threshold_at: usize,
}

/// What stands before the fields.
struct Options {
    trim: Option<TrimWords>,
    no_create: bool,
    /// `None`: `*`, or no id at all.
    id: Option<Wanted>,
    /// Where the options end: XADD's id.
    end: usize,
}

/// The options while they are read.
#[derive(Default)]
struct Reading {
    by: Option<TrimBy>,
    threshold_at: usize,
    approximate: bool,
    limit: Option<i64>,
    no_create: bool,
    id: Option<Wanted>,
}

impl Reading {
    /// `MAXLEN|MINID [~|=] threshold` at `at`; gives where the threshold stands.
    fn threshold(&mut self, args: &Args<'_>, mut at: usize) -> CommandResult<usize> {
        if self.by.is_some() {
            return Err(CommandError::fixed(
                "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ));
        }
        let is_max_len = args.is(at, "maxlen");
        at += 1;
        self.approximate = false;
        if at + 1 < args.len() && matches!(args.at(at), b"~" | b"=") {
            self.approximate = args.at(at) == b"~";
            at += 1;
        }
        self.by = Some(if is_max_len {
            let max = u64::try_from(args.int(at)?);
            TrimBy::MaxLen(
                max.map_err(|_| CommandError::fixed("ERR The MAXLEN argument must be >= 0."))?,
            )
        } else {
            TrimBy::MinId(id::strict(args.at(at), 0)?)
        });
        self.threshold_at = at;
        Ok(at)
    }

    /// The word at `at`, which is an option; gives where it ends, `None` at XADD's id.
    fn option(&mut self, args: &Args<'_>, at: usize, adds: bool) -> CommandResult<Option<usize>> {
        let word = args.at(at);
        let more = at + 1 < args.len();
        if adds && word == b"*" {
            return Ok(None);
        }
        if more && (is_word(word, "maxlen") || is_word(word, "minid")) {
            return self.threshold(args, at).map(Some);
        }
        if more && is_word(word, "limit") {
            let limit = args.int(at + 1)?;
            if limit < 0 {
                return Err(CommandError::fixed("ERR The LIMIT argument must be >= 0."));
            }
            self.limit = Some(limit);
            return Ok(Some(at + 1));
        }
        if adds && is_word(word, "nomkstream") {
            self.no_create = true;
            return Ok(Some(at));
        }
        if adds {
            self.id = Some(id::wanted(word)?);
            return Ok(None);
        }
        Err(CommandError::Syntax)
    }

    /// How many entries may go.
    fn limit(&self, ctx: &Context<'_>) -> CommandResult<u64> {
        let limit = match self.limit {
            // Our own log has the exact threshold beside the limit that the client gave.
            _ if ctx.client.obeyed => 0,
            Some(_) if !self.approximate => {
                return Err(CommandError::fixed(
                    "ERR syntax error, LIMIT cannot be used without the special ~ option",
                ));
            }
            Some(limit) => limit,
            None if self.approximate => {
                let entries = i64::try_from(ctx.config.streams.node_entries_max);
                match entries.unwrap_or(i64::MAX).saturating_mul(100) {
                    0 => LIMIT_DEFAULT,
                    limit => limit.min(LIMIT_MAX),
                }
            }
            None => 0,
        };
        Ok(limit.unsigned_abs())
    }
}

fn parse(ctx: &Context<'_>, args: &Args<'_>, adds: bool) -> CommandResult<Options> {
    let mut reading = Reading::default();
    let mut at = 2;
    while at < args.len() {
        match reading.option(args, at, adds)? {
            Some(end) => at = end + 1,
            None => break,
        }
    }
    if reading.limit.is_some_and(|limit| limit > 0) && reading.by.is_none() {
        return Err(CommandError::fixed(
            "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
        ));
    }
    if !adds && reading.by.is_none() {
        return Err(CommandError::fixed(
            "ERR syntax error, XTRIM must be called with a trimming strategy",
        ));
    }
    let limit = reading.limit(ctx)?;
    let trim = reading.by.map(|by| TrimWords {
        trim: Trim {
            by,
            approximate: reading.approximate,
            limit,
        },
        threshold_at: reading.threshold_at,
    });
    Ok(Options {
        trim,
        no_create: reading.no_create,
        id: reading.id,
        end: at,
    })
}

/// The threshold that, exactly applied, has the effect of a trim that was approximate.
fn exact_threshold(stream: &Stream, by: TrimBy) -> Vec<u8> {
    match by {
        TrimBy::MaxLen(_) => stream.len().to_string().into_bytes(),
        TrimBy::MinId(_) => IdText::new(stream.first_id_with_tombstones())
            .as_bytes()
            .to_vec(),
    }
}

/// Propagates the words with a trim made exact and an id made whole, if anything changes.
fn propagate(
    ctx: &mut Context<'_>,
    args: &Args<'_>,
    threshold: Option<(usize, Vec<u8>)>,
    id: Option<(usize, IdText)>,
) {
    if threshold.is_none() && id.is_none() {
        return;
    }
    let mut words = args.all().to_vec();
    let mut put = |at: usize, word| {
        if let Some(place) = words.get_mut(at) {
            *place = word;
        }
    };
    if let Some((at, threshold)) = &threshold {
        put(at - 1, b"=");
        put(*at, threshold);
    }
    if let Some((at, id)) = &id {
        put(*at, id.as_bytes());
    }
    ctx.propagate(&words);
}

const ZERO: CommandError =
    CommandError::fixed("ERR The ID specified in XADD must be greater than 0-0");
const EXHAUSTED: CommandError = CommandError::fixed(
    "ERR The stream has exhausted the last possible ID, unable to add more items",
);

fn add_error(error: AddError) -> CommandError {
    CommandError::fixed(match error {
        AddError::NotAbove => {
            "ERR The ID specified in XADD is equal or smaller than the target stream top item"
        }
        AddError::TooLarge => "ERR Elements are too large to be stored",
    })
}

/// `XADD key [NOMKSTREAM] [MAXLEN|MINID [=|~] threshold [LIMIT count]] *|id field value ...`
pub(super) fn xadd(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let options = parse(ctx, args, true)?;
    let pairs = args.from(options.end + 1);
    if pairs.len() < 2 || pairs.len() % 2 == 1 {
        return Err(CommandError::Arity("xadd".into()));
    }
    let wanted = match options.id {
        Some(Wanted::Exact(id)) if id == ID_MIN => return Err(ZERO),
        Some(Wanted::Exact(id)) => NewId::Exact(id),
        Some(Wanted::NextOf(ms)) => NewId::NextOf(ms),
        None => NewId::Auto(u64::try_from(ctx.now_ms()).unwrap_or(0)),
    };
    let key = args.at(1);
    // All that can fail comes before the key comes into being.
    let id = match peek(ctx, key)? {
        None if options.no_create => {
            ctx.reply.null();
            return Ok(());
        }
        None => Stream::new().new_id(wanted),
        Some(stream) if stream.meta().last_id == ID_MAX => return Err(EXHAUSTED),
        Some(stream) => stream.new_id(wanted),
    };
    let id = id.map_err(add_error)?;
    let limits = node_limits(ctx.config);
    let stream = match ctx.db.write::<Stream>(key)? {
        Some(stream) => stream,
        None => ctx.db.write_or_create::<Stream>(key)?,
    };
    stream.add(id, pairs, limits).map_err(add_error)?;
    let mut threshold = None;
    let mut trimmed = false;
    if let Some(words) = &options.trim {
        trimmed = stream.trim(&words.trim) > 0;
        if words.trim.approximate {
            threshold = Some((words.threshold_at, exact_threshold(stream, words.trim.by)));
        }
    }
    let text = IdText::new(id);
    ctx.reply.bulk(text.as_bytes());
    ctx.changed(key, Class::STREAM, "xadd");
    if trimmed {
        ctx.notify(key, Class::STREAM, "xtrim");
    }
    let made = !matches!(wanted, NewId::Exact(_));
    propagate(ctx, args, threshold, made.then_some((options.end, text)));
    ctx.db.signal_if_awaited(key);
    Ok(())
}

/// `XTRIM key MAXLEN|MINID [=|~] threshold [LIMIT count]`
pub(super) fn xtrim(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let options = parse(ctx, args, false)?;
    let key = args.at(1);
    let Some(words) = options.trim else {
        return Err(CommandError::Syntax);
    };
    let Some(stream) = ctx.db.write::<Stream>(key)? else {
        ctx.reply.int(0);
        return Ok(());
    };
    let trimmed = stream.trim(&words.trim);
    let threshold = (trimmed > 0 && words.trim.approximate)
        .then(|| (words.threshold_at, exact_threshold(stream, words.trim.by)));
    ctx.reply.int(trimmed as i64);
    if trimmed > 0 {
        ctx.changed(key, Class::STREAM, "xtrim");
        ctx.db.effect.dirty += trimmed - 1;
        propagate(ctx, args, threshold, None);
    }
    Ok(())
}
