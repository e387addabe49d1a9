//! CLIENT PAUSE and UNPAUSE.

use crate::command::{Args, CommandError, CommandResult, Context};
use crate::state::{PauseBy, PauseMode};

pub(super) fn pause(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let mode = match args.get(3) {
        _ if args.len() > 4 => return Err(super::unknown(args)),
        None => PauseMode::All,
        Some(_) if args.is(3, "all") => PauseMode::All,
        Some(_) if args.is(3, "write") => PauseMode::Write,
        Some(_) => {
            return Err(CommandError::fixed(
                "ERR CLIENT PAUSE mode must be WRITE or ALL",
            ));
        }
    };
    let bad = |text: &'static str| CommandError::fixed(text);
    let timeout_ms = args
        .int(2)
        .map_err(|_| bad("ERR timeout is not an integer or out of range"))?;
    if timeout_ms < 0 {
        return Err(bad("ERR timeout is negative"));
    }
    let end_ms = crate::clock::unix_ms()
        .checked_add(timeout_ms)
        .ok_or(bad("ERR timeout is out of range"))?;
    let pause = &ctx.server.state.pause;
    pause.start(PauseBy::Client, end_ms, mode);
    // Its own end: FAILOVER's pause has none, and nobody would take that back.
    ctx.db.keyspace().expiry_paused_until_ms = pause.end_of(PauseBy::Client);
    ctx.reply.ok();
    Ok(())
}

pub(super) fn unpause(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let pause = &ctx.server.state.pause;
    pause.lift(PauseBy::Client);
    ctx.db.keyspace().expiry_paused_until_ms = 0;
    ctx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;
    use crate::state::{PauseBy, PauseMode};

    #[test]
    fn during_a_failover_a_pause_keeps_its_own_end() {
        let mut bench = Bench::new(|_, _, _, _| String::new(), &[]);
        let failover = |bench: &Bench| {
            let pause = &bench.server.state.pause;
            pause.start(PauseBy::Failover, i64::MAX, PauseMode::Write);
        };
        failover(&bench);
        let before = crate::clock::unix_ms();
        bench.run("CLIENT PAUSE 60000");
        let end_ms = bench.keyspace.expiry_paused_until_ms;
        assert!((before + 60_000..=crate::clock::unix_ms() + 60_000).contains(&end_ms));
        bench.run("CLIENT UNPAUSE");
        assert_eq!(bench.keyspace.expiry_paused_until_ms, 0);
        assert!(bench.server.state.pause.is_on(), "the failover's");
    }

    #[test]
    fn a_random_key_is_found_where_all_have_expired_and_none_may_go() {
        let mut bench = Bench::new(|_, _, _, _| String::new(), &["SET k v PX 10"]);
        bench.now_ms += 20;
        bench.keyspace.expiry_paused_until_ms = i64::MAX;
        assert_eq!(bench.text("RANDOMKEY"), "$1 k");
        // Then it goes, and there is none.
        bench.keyspace.expiry_paused_until_ms = 0;
        assert_eq!(bench.text("RANDOMKEY"), "$-1");
    }
}
