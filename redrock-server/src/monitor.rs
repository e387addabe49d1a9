//! MONITOR: every command that runs, as text, to the clients that asked for it.

use crate::command::table::{Spec, flag};
use crate::command::{Args, Context};
use crate::net::client::{Client, ClientShared};
use crate::server::Server;
use parking_lot::RwLock;
use std::borrow::Cow;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The clients in MONITOR. Costs one load while there are none.
#[derive(Debug, Default)]
pub struct Monitors {
    count: AtomicUsize,
    clients: RwLock<Vec<Arc<ClientShared>>>,
}

impl Monitors {
    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// A client listens from now on; false if it did already.
    pub fn add(&self, client: &Arc<ClientShared>) -> bool {
        if client.monitor.swap(true, Ordering::Relaxed) {
            return false;
        }
        let mut clients = self.clients.write();
        clients.push(client.clone());
        self.count.store(clients.len(), Ordering::Relaxed);
        true
    }

    /// A client is gone, or listens no more (RESET).
    pub fn remove(&self, id: u64) {
        let mut clients = self.clients.write();
        for client in clients.iter().filter(|client| client.id == id) {
            client.monitor.store(false, Ordering::Relaxed);
        }
        clients.retain(|client| client.id != id);
        self.count.store(clients.len(), Ordering::Relaxed);
    }

    /// Tells of a command that has just run, without its secrets, unless it is not to be shown.
    pub fn show(&self, ctx: &Context<'_>, spec: &Spec, args: &Args<'_>) {
        if !spec.has(flag::SKIP_MONITOR | flag::ADMIN) {
            let shown = redacted(spec, args.all());
            self.feed(ctx.server, ctx.client, ctx.db.index(), &shown);
        }
    }

    /// Tells of a command that `client` ran in database `db`.
    pub fn feed(&self, server: &Server, client: &Client, db: usize, argv: &[&[u8]]) {
        let line = line(crate::clock::unix_us(), db, client, argv);
        for monitor in &*self.clients.read() {
            server.push(monitor, &line);
        }
    }
}

fn line(now_us: i64, db: usize, client: &Client, argv: &[&[u8]]) -> Vec<u8> {
    let mut line = Vec::with_capacity(64 + argv.iter().map(|arg| arg.len() + 3).sum::<usize>());
    let (seconds, micros) = (now_us / 1_000_000, now_us % 1_000_000);
    let source = match client.is_unix() {
        _ if client.in_script => "lua".to_owned(),
        true => format!("unix:{}", client.shared.addr.trim_end_matches(":0")),
        false => client.shared.addr.clone(),
    };
    // Writing to a vector can't fail.
    let _ = write!(line, "+{seconds}.{micros:06} [{db} {source}]");
    for arg in argv {
        line.push(b' ');
        quote(&mut line, arg);
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// Appends `text` in double quotes with Redis's escapes (`sdscatrepr`).
pub fn quote(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push(b'"');
}

/// A command's arguments without its secrets, for MONITOR and the slow log.
pub fn redacted<'a>(spec: &Spec, argv: &'a [&'a [u8]]) -> Cow<'a, [&'a [u8]]> {
    let hide = |hidden: &dyn Fn(usize) -> bool| {
        let shown =
            |(i, arg): (usize, &&'a [u8])| if hidden(i) { &b"(redacted)"[..] } else { *arg };
        Cow::Owned(argv.iter().enumerate().map(shown).collect())
    };
    let word = |i: usize, text: &str| {
        argv.get(i)
            .is_some_and(|arg| arg.eq_ignore_ascii_case(text.as_bytes()))
    };
    match spec.name {
        "auth" => hide(&|i| i > 0),
        "hello" => match (2..argv.len()).find(|&i| word(i, "auth")) {
            Some(at) => hide(&|i| i == at + 1 || i == at + 2),
            None => Cow::Borrowed(argv),
        },
        "migrate" => match (6..argv.len()).find(|&i| word(i, "auth") || word(i, "auth2")) {
            Some(at) => hide(&|i| i == at + 1 || (i == at + 2 && word(at, "auth2"))),
            None => Cow::Borrowed(argv),
        },
        "acl|setuser" => hide(&|i| i > 1),
        "config|set" => {
            const SECRETS: [&str; 5] = [
                "requirepass",
                "masterauth",
                "masteruser",
                "tls-key-file-pass",
                "tls-client-key-file-pass",
            ];
            let secret =
                |i: usize| i % 2 == 1 && i > 2 && SECRETS.iter().any(|name| word(i - 1, name));
            if (3..argv.len()).any(secret) {
                hide(&secret)
            } else {
                Cow::Borrowed(argv)
            }
        }
        _ => Cow::Borrowed(argv),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_redis_does() {
        let mut out = Vec::new();
        quote(&mut out, b"a\"\\\n\r\t\x07\x08\x00\xff~");
        assert_eq!(out, b"\"a\\\"\\\\\\n\\r\\t\\a\\b\\x00\\xff~\"");
    }

    #[test]
    fn hides_passwords() {
        let check = |name: &'static str, argv: &[&[u8]], shown: &[&[u8]]| {
            let spec = Spec::new(name, 0, 0, |_, _| Ok(()));
            assert_eq!(&*redacted(&spec, argv), shown);
        };
        check(
            "auth",
            &[b"AUTH", b"u", b"p"],
            &[b"AUTH", b"(redacted)", b"(redacted)"],
        );
        check(
            "config|set",
            &[b"config", b"set", b"hz", b"1", b"requirepass", b"p"],
            &[
                b"config",
                b"set",
                b"hz",
                b"1",
                b"requirepass",
                b"(redacted)",
            ],
        );
        check("get", &[b"get", b"auth"], &[b"get", b"auth"]);
        check(
            "hello",
            &[b"hello", b"3", b"AUTH", b"u", b"p", b"SETNAME", b"n"],
            &[
                b"hello",
                b"3",
                b"AUTH",
                b"(redacted)",
                b"(redacted)",
                b"SETNAME",
                b"n",
            ],
        );
    }
}
