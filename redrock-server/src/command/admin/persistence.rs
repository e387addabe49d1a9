//! SAVE, BGSAVE, BGREWRITEAOF: asked of the persister, awaited outside the locks.

use crate::command::dispatch::Deferred;
use crate::command::table::{Group, Spec, flag};
use crate::command::{Args, CommandError, CommandResult, Context, Reply};

const FLAGS: u32 = flag::ADMIN | flag::NOSCRIPT | flag::NO_ASYNC_LOADING;

/// SAVE.
pub(super) const SAVE: Spec = Spec::new("save", 1, FLAGS | flag::NO_MULTI, save)
    .group(Group::Server)
    .doc("1.0.0", "Synchronously saves the database(s) to disk.");

/// BGSAVE.
pub(super) const BGSAVE: Spec = Spec::new("bgsave", -1, FLAGS, background_save)
    .group(Group::Server)
    .doc("1.0.0", "Asynchronously saves the database(s) to disk.");

/// BGREWRITEAOF.
pub(super) const BGREWRITEAOF: Spec = Spec::new("bgrewriteaof", 1, FLAGS, rewrite)
    .group(Group::Server)
    .doc(
        "1.0.0",
        "Asynchronously rewrites the append-only file to disk.",
    );

/// Makes the reply later: a status line, or an error line.
pub(in crate::command) fn later(
    ctx: &mut Context<'_>,
    work: impl Future<Output = Result<String, String>> + Send + 'static,
) -> CommandResult {
    let resp3 = ctx.client.resp3;
    ctx.client.deferred = Some(Deferred(Box::pin(async move {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, resp3);
        match work.await {
            Ok(status) => reply.simple(&status),
            Err(error) => reply.error(error.as_bytes()),
        }
        out
    })));
    Ok(())
}

fn save(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let services = ctx.server.services()?.clone();
    later(ctx, async move {
        services.save().await.map(|()| "OK".to_owned())
    })
}

fn background_save(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let schedule = match args.len() {
        1 => false,
        2 if args.is(1, "schedule") => true,
        _ => return Err(CommandError::Syntax),
    };
    let services = ctx.server.services()?.clone();
    if ctx.client.deny_blocking {
        // As in Redis: inside a transaction it is for later.
        let handle = services.handle.clone();
        handle.spawn(async move {
            if let Err(error) = services.background_save(true).await {
                tracing::warn!(error, "the scheduled BGSAVE did not begin");
            }
        });
        ctx.reply.simple("Background saving scheduled");
        return Ok(());
    }
    later(ctx, async move {
        services.background_save(schedule).await.map(str::to_owned)
    })
}

fn rewrite(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let services = ctx.server.services()?.clone();
    if ctx.client.deny_blocking {
        let handle = services.handle.clone();
        handle.spawn(async move {
            if let Err(error) = services.rewrite().await {
                tracing::warn!(error, "the scheduled BGREWRITEAOF did not begin");
            }
        });
        ctx.reply
            .simple("Background append only file rewriting scheduled");
        return Ok(());
    }
    later(
        ctx,
        async move { services.rewrite().await.map(str::to_owned) },
    )
}
