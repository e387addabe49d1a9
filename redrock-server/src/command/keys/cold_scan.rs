//! SCAN, KEYS and RANDOMKEY where some keys are on disk only.
//!
//! They read the tier in order, which takes its time: on a reader thread, while the client waits
//! and the others go on. Within EXEC there is no waiting, so they read under the locks.

use crate::command::dispatch::Deferred;
use crate::command::hash::scan::{ScanOptions, reply_items};
use crate::command::{CommandError, CommandResult, Context, Reply};
use crate::keyspace::cold::{ColdError, ColdStore};
use crate::keyspace::position::POSITION_END;
use crate::keyspace::tiering::scan::{ScanRequest, ScannedKey, scan};
use crate::server::Server;
use crate::value::glob;
use redrock_rdb::listpack::LpValue;
use std::sync::Arc;

/// Keys brought by one step of KEYS.
const KEYS_STEP: usize = 1024;

type Step = Result<(Vec<ScannedKey>, u64), ColdError>;
type Walk<'a> = &'a mut dyn FnMut(ScanRequest) -> Step;

/// Writes a reply from as many steps as `walk` is asked for.
type Work = Box<dyn FnOnce(&mut Reply<'_>, Walk<'_>) -> Result<(), ColdError> + Send>;

/// `SCAN` once its options are parsed.
pub(super) fn scan_keys(
    ctx: &mut Context<'_>,
    cursor: u64,
    options: &ScanOptions<'_>,
) -> CommandResult {
    let request = request(ctx, cursor, options.count);
    let pattern = options.pattern.map(<[u8]>::to_vec);
    let type_name = options.type_name.map(<[u8]>::to_vec);
    answer(
        ctx,
        Box::new(move |reply, walk| {
            let (mut keys, next) = walk(request)?;
            keys.retain(|key| {
                let name = key.object_type.name().as_bytes();
                pattern
                    .as_ref()
                    .is_none_or(|p| glob::matches(p, &key.key, false))
                    && type_name
                        .as_ref()
                        .is_none_or(|wanted| wanted.eq_ignore_ascii_case(name))
            });
            let items: Vec<LpValue<'_>> = keys.iter().map(|key| LpValue::Str(&key.key)).collect();
            reply_items(reply, if next >= POSITION_END { 0 } else { next }, &items);
            Ok(())
        }),
    )
}

/// `KEYS pattern`
pub(super) fn keys(ctx: &mut Context<'_>, pattern: &[u8]) -> CommandResult {
    let mut request = request(ctx, 0, KEYS_STEP);
    let pattern = pattern.to_vec();
    answer(
        ctx,
        Box::new(move |reply, walk| {
            let start = reply.deferred();
            let mut count = 0;
            while request.from < POSITION_END {
                let (keys, next) = walk(request)?;
                for key in keys
                    .iter()
                    .filter(|key| glob::matches(&pattern, &key.key, false))
                {
                    reply.bulk(&key.key);
                    count += 1;
                }
                request.from = next;
            }
            reply.finish_array(start, count);
            Ok(())
        }),
    )
}

/// `RANDOMKEY`: the first key behind a random position.
pub(super) fn random_key(ctx: &mut Context<'_>) -> CommandResult {
    let mut request = request(ctx, rand::random_range(0..POSITION_END), 1);
    answer(
        ctx,
        Box::new(move |reply, walk| {
            // To the end, then once more from the start.
            for _ in 0..2 {
                while request.from < POSITION_END {
                    let (keys, next) = walk(request)?;
                    if let Some(key) = keys.first() {
                        reply.bulk(&key.key);
                        return Ok(());
                    }
                    request.from = next;
                }
                request.from = 0;
            }
            reply.null();
            Ok(())
        }),
    )
}

fn request(ctx: &Context<'_>, from: u64, count: usize) -> ScanRequest {
    ScanRequest {
        index: ctx.db.index(),
        from,
        count,
        record_bytes_max: None,
        now_ms: ctx.now_ms(),
    }
}

fn failed(error: &ColdError) -> CommandError {
    CommandError::tier(error)
}

fn answer(ctx: &mut Context<'_>, work: Work) -> CommandResult {
    if ctx.db.blocking_reads {
        return answer_now(ctx, work);
    }
    let server = ctx.server.handle()?;
    let resp3 = ctx.reply.is_resp3();
    ctx.client.deferred = Some(Deferred(Box::pin(async move {
        read(server, resp3, work).await
    })));
    Ok(())
}

/// Under the locks.
fn answer_now(ctx: &mut Context<'_>, work: Work) -> CommandResult {
    let keyspace = ctx.db.keyspace();
    let Some(store) = keyspace
        .tiering
        .as_ref()
        .map(|tiering| tiering.cold.clone())
    else {
        return Err(CommandError::fixed("ERR the tier is not open"));
    };
    work(
        &mut ctx.reply,
        &mut |request: ScanRequest| match keyspace.begin_scan(&store, &request) {
            Some(instant) => instant.finish(&request),
            None => Ok((Vec::new(), POSITION_END)),
        },
    )
    .map_err(|error| failed(&error))
}

async fn read(server: Arc<Server>, resp3: bool, work: Work) -> Vec<u8> {
    let run = move |server: &Server, store: &ColdStore| {
        let mut out = Vec::new();
        let walked = work(
            &mut Reply::new(&mut out, resp3),
            &mut |request: ScanRequest| scan(&server.keyspace, store, request),
        );
        if let Err(error) = walked {
            out.clear();
            Reply::new(&mut out, resp3).error(&failed(&error).resp());
        }
        out
    };
    match server.readers.run(run).await {
        Some(out) => out,
        None => b"-ERR the server is shutting down\r\n".to_vec(),
    }
}
