//! DUMP and RESTORE.

use crate::command::args::is_word;
use crate::command::effect::deletion;
use crate::command::string::expire_time;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::config::Config;
use crate::notify::Class;
use crate::value::codec;
use redrock_rdb::dump;
use redrock_rdb::object::{Target, Transcoder};

const BAD_FORMAT: CommandError = CommandError::fixed("ERR Bad data format");

/// The version of the RDB format that payloads are written in, and whether they are compressed.
fn target(config: &Config) -> Target {
    let version = u16::try_from(config.snapshot.rdb_version).unwrap_or(10);
    Target {
        version,
        compress: config.snapshot.compress,
    }
}

/// `DUMP key`
pub(super) fn dump(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let Some(value) = ctx.db.read_any(args.at(1))? else {
        ctx.reply.null();
        return Ok(());
    };
    let mut record = Vec::new();
    codec::encode(value, &mut record);
    let Some((type_byte, payload)) = record.split_first() else {
        return Err(BAD_FORMAT);
    };
    let target = target(ctx.config);
    let mut body = Vec::with_capacity(payload.len());
    let written = Transcoder::new(target)
        .transcode(*type_byte, payload, &mut body)
        .map_err(|error| CommandError::text(format!("ERR {error}")))?;
    let mut out = Vec::with_capacity(body.len() + 16);
    dump::write(&mut out, written.object_type, &body, target.version);
    ctx.reply.bulk(&out);
    Ok(())
}

/// RESTORE's options.
#[derive(Debug, Default)]
struct Options {
    replace: bool,
    absolute: bool,
    idle_s: Option<u64>,
    freq: Option<u8>,
}

impl Options {
    fn parse(args: &Args<'_>) -> CommandResult<Self> {
        let mut options = Self::default();
        let mut at = 4;
        while let Some(word) = args.get(at) {
            let more = at + 1 < args.len();
            if is_word(word, "replace") {
                options.replace = true;
            } else if is_word(word, "absttl") {
                options.absolute = true;
            } else if is_word(word, "idletime") && more && options.freq.is_none() {
                at += 1;
                let idle_s = u64::try_from(args.int(at)?)
                    .map_err(|_| CommandError::fixed("ERR Invalid IDLETIME value, must be >= 0"))?;
                options.idle_s = Some(idle_s);
            } else if is_word(word, "freq") && more && options.idle_s.is_none() {
                at += 1;
                let freq = u8::try_from(args.int(at)?).map_err(|_| {
                    CommandError::fixed("ERR Invalid FREQ value, must be >= 0 and <= 255")
                })?;
                options.freq = Some(freq);
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }
}

/// `RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]`
pub(super) fn restore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let options = Options::parse(args)?;
    let key = args.at(1);
    let exists = ctx.db.exists(key)?;
    if exists && !options.replace {
        return Err(CommandError::fixed(
            "BUSYKEY Target key name already exists.",
        ));
    }
    let ttl = args.int(2)?;
    if ttl < 0 {
        return Err(CommandError::fixed("ERR Invalid TTL value, must be >= 0"));
    }
    let (type_byte, payload) =
        dump::verify(args.at(3)).map_err(|error| CommandError::text(format!("ERR {error}")))?;
    let value =
        codec::decode_payload(type_byte, payload, &ctx.config.limits).map_err(|_| BAD_FORMAT)?;
    let expire = match ttl {
        0 => None,
        at_ms if options.absolute => Some(at_ms),
        ms => Some(ms.saturating_add(ctx.now_ms())),
    };
    if let Some(at_ms) = expire
        && expire_time::is_past(&mut ctx.db, at_ms)
    {
        if exists {
            ctx.db.remove(key)?;
            ctx.propagate(&[deletion(ctx.config.memory.lazy_server_delete), key]);
            ctx.changed(key, Class::GENERIC, "del");
        }
        ctx.reply.ok();
        return Ok(());
    }
    // A dump may be compressed: the value takes more than the command was charged for.
    let growth = value.memory_bytes().saturating_sub(args.at(3).len());
    ctx.server.charge(growth as u64);
    ctx.db.restore(key, value.as_new_value(), expire)?;
    if let (Some(at_ms), false) = (expire, options.absolute) {
        let mut digits = itoa::Buffer::new();
        let mut words = args.all().to_vec();
        if let Some(word) = words.get_mut(2) {
            *word = digits.format(at_ms).as_bytes();
        }
        words.push(b"ABSTTL");
        ctx.propagate(&words);
    }
    ctx.db.set_access(key, options.idle_s, options.freq);
    ctx.changed(key, Class::GENERIC, "restore");
    ctx.reply.ok();
    Ok(())
}
