//! What is left to do for the client when a request has its outcome.

use super::Outcome;
use crate::command::args::is_word;
use crate::command::effect::Effect;
use crate::net::client::{Client, ReplyMode};
use crate::server::Server;
use crate::tracking::mode;
use std::sync::atomic::Ordering;

/// What CLIENT REPLY makes of a reply that began at `start`; shows the client's new state.
pub(super) fn settle(
    outcome: &Outcome,
    client: &mut Client,
    argv: &[&[u8]],
    start: usize,
    out: &mut Vec<u8>,
) {
    if matches!(outcome, Outcome::Done) {
        end_caching(client, argv);
        match client.reply_mode {
            ReplyMode::On => {}
            ReplyMode::Off if is_subscription(argv) => {}
            ReplyMode::Off => out.truncate(start),
            ReplyMode::SkipNext => client.reply_mode = ReplyMode::Skip,
            ReplyMode::Skip => {
                if !is_subscription(argv) {
                    out.truncate(start);
                }
                client.reply_mode = ReplyMode::On;
            }
        }
        client.reprocessing = false;
    }
    client.take_pushes(out);
    client.publish();
}

/// A command is to be run again: nothing but deletions by expiry can have happened, and what else was
/// told will be told again.
pub(super) fn take_back(server: &Server, effect: &mut Effect) {
    if effect.count() == 0 {
        crate::pubsub::forget_held(server);
    }
    server.settle(effect);
}

/// Whether the answers to a command are messages, which come in any CLIENT REPLY mode.
fn is_subscription(argv: &[&[u8]]) -> bool {
    const NAMES: [&str; 6] = [
        "subscribe",
        "unsubscribe",
        "psubscribe",
        "punsubscribe",
        "ssubscribe",
        "sunsubscribe",
    ];
    let name = argv.first().copied().unwrap_or_default();
    NAMES.iter().any(|known| is_word(name, known))
}

/// `CLIENT CACHING` holds for one command, or for a whole transaction.
fn end_caching(client: &Client, argv: &[&[u8]]) {
    let modes = &client.shared.tracking;
    if modes.load(Ordering::Relaxed) & mode::CACHING == 0 || client.transaction.is_some() {
        return;
    }
    if !argv.first().is_some_and(|name| is_word(name, "client")) {
        modes.fetch_and(!mode::CACHING, Ordering::Relaxed);
    }
}
