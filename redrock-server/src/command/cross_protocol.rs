//! Requests of other protocols: a browser that was tricked into talking to this port.
//!
//! `POST` and `Host:` begin lines of HTTP and are no commands, so that the connection is closed
//! before the body, which may hold commands, is read.

use crate::net::client::Client;
use std::sync::atomic::{AtomicI64, Ordering};

/// The warning is logged at most this often: whoever attacks must not fill the log.
const PAUSE_MS: i64 = 60_000;

/// Whether the first word of a request shows that it is HTTP.
pub fn is_http(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:")
}

/// Tells the operator whom the connection that will be closed came from.
pub fn warn(client: &Client) {
    static LOGGED_MS: AtomicI64 = AtomicI64::new(0);
    let now_ms = crate::clock::unix_ms();
    let last_ms = LOGGED_MS.load(Ordering::Relaxed);
    if now_ms - last_ms < PAUSE_MS {
        return;
    }
    LOGGED_MS.store(now_ms, Ordering::Relaxed);
    tracing::warn!(
        client = client.id(),
        address = client.shared.addr,
        "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: \
         commands to Redis. This is likely due to an attacker attempting to use Cross Protocol \
         Scripting to compromise your Redis instance. Connection aborted."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_http_are_taken_for_it() {
        assert!(is_http(b"POST") && is_http(b"host:"));
        assert!(!is_http(b"host") && !is_http(b"GET") && !is_http(b""));
    }
}
