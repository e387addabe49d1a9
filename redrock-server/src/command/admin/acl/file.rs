//! ACL LOAD and SAVE: the file is read and written outside the locks.

use crate::acl::file;
use crate::command::dispatch::Deferred;
use crate::command::{Args, CommandError, CommandResult, Context, Reply};
use crate::config::os_error_text;
use crate::server::Server;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const NO_FILE: CommandError = CommandError::fixed(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users \
     via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis \
     configuration file set) in order to store users in the Redis configuration.",
);

/// Does slow work with the ACL file and answers with what came of it.
fn later(
    ctx: &mut Context<'_>,
    work: impl FnOnce(&Arc<Server>, PathBuf) -> CommandResult + Send + 'static,
) -> CommandResult {
    let path = ctx.config.security.acl_file.clone().ok_or(NO_FILE)?;
    let server = ctx.server.handle()?;
    let resp3 = ctx.client.resp3;
    ctx.client.deferred = Some(Deferred(Box::pin(async move {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, resp3);
        match tokio::task::spawn_blocking(move || work(&server, path)).await {
            Ok(Ok(())) => reply.ok(),
            Ok(Err(error)) => reply.error(&error.resp()),
            Err(_) => reply.error(b"ERR the work with the ACL file was interrupted"),
        }
        out
    })));
    Ok(())
}

/// `ACL LOAD`
pub(super) fn load(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let caller = ctx.client.shared.clone();
    later(ctx, move |server, path| {
        let config = server.config();
        let all_channels = config.security.all_channels_by_default;
        let name = path.display().to_string();
        let users = file::load(&path, &name, all_channels)
            .map_err(|errors| CommandError::text(format!("ERR {errors}")))?;
        let mut keyspace = server.keyspace.lock();
        let left = server.acl.replace_all(users);
        for client in server.clients_of(&left) {
            if client.id == caller.id {
                client.closing.store(true, Ordering::Relaxed);
            } else {
                server.kill_client(&client, &mut keyspace);
            }
        }
        Ok(())
    })
}

/// `ACL SAVE`
pub(super) fn save(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    later(ctx, |server, path| {
        let content = file::content(&server.acl.all());
        file::save(&path, &content).map_err(|error| {
            tracing::warn!(path = %path.display(), error = os_error_text(&error), "ACL SAVE failed");
            CommandError::fixed(
                "ERR There was an error trying to save the ACLs. Please check the server logs for \
                 more information",
            )
        })
    })
}
