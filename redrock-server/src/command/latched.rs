//! Which commands wait for keys that are being sent to another server
//! ([`crate::keyspace::latches`]).

use super::args::Args;
use super::dispatch::Wait;
use super::registry;
use super::table::{Group, Spec, flag};
use crate::keyspace::latches::Latches;
use crate::net::client::Client;

/// Whether a command may change a latched key. One that writes without naming its keys (FLUSHALL,
/// SWAPDB, scripts) may change any.
pub fn may_change(latches: &Latches, spec: &Spec, args: &Args<'_>) -> bool {
    if latches.is_empty() || !spec.has(flag::WRITE | flag::MAY_REPLICATE) {
        return false;
    }
    if spec.group == Group::Scripting {
        return true;
    }
    let (mut named, mut latched) = (false, false);
    spec.keys.visit(args, |at| {
        named = true;
        latched |= latches.holds(args.at(at));
    });
    latched || (!named && spec.has(flag::WRITE))
}

/// What a command waits for that [`may_change`] a latched key, or EXEC with such a command.
pub fn wait(latches: &Latches, client: &Client, spec: &Spec, args: &Args<'_>) -> Option<Wait> {
    if latches.is_empty() {
        return None;
    }
    let waits = match client.transaction.as_ref().filter(|_| spec.name == "exec") {
        None => may_change(latches, spec, args),
        Some(transaction) => {
            let mut queued = transaction.commands.iter().zip(&transaction.specs);
            queued.any(|(command, spec)| may_change(latches, spec, &Args::new(&command.argv())))
        }
    };
    waits.then(|| Wait::Latched(latches.released()))
}

/// As [`may_change`], for a command that is not resolved yet.
pub fn may_change_unresolved(latches: &Latches, args: &Args<'_>) -> bool {
    !latches.is_empty() && registry::resolve(args).is_ok_and(|spec| may_change(latches, spec, args))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(latches: &Latches, command: &str) -> bool {
        let argv: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        may_change_unresolved(latches, &Args::new(&argv))
    }

    #[test]
    fn what_may_change_a_latched_key_waits_and_nothing_else() {
        let mut latches = Latches::default();
        assert!(!changes(&latches, "SET a 1"));
        latches.take([&b"a"[..]]);
        for command in [
            "SET a 1",
            "DEL b a",
            "RENAME b a",
            "MOVE a 1",
            "COPY b a DB 1",
            "PFCOUNT a",
            "FLUSHALL",
            "SWAPDB 0 1",
            "SORT b STORE a",
            "BLMOVE b a LEFT RIGHT 0",
            "MIGRATE h 1 a 0 0",
            "MIGRATE h 1  0 0 KEYS b a",
        ] {
            assert!(changes(&latches, command), "{command}");
        }
        for command in [
            "GET a",
            "SET b 1",
            "PUBLISH a x",
            "SORT a",
            "PFCOUNT b",
            "PING",
        ] {
            // SORT is a write, as in Redis.
            assert_eq!(changes(&latches, command), command == "SORT a", "{command}");
        }
    }
}
