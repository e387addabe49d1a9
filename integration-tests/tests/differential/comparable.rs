//! Replies in the form in which both servers must agree: what Redis gives in no order is sorted, random
//! picks are compared by their shape, times within a tolerance, ids not at all.

use crate::wire::Reply;

/// How far apart two times may be, in the unit of the reply.
const TIME_TOLERANCE: i64 = 20_000;
/// Commands whose reply's order Redis leaves open.
const UNORDERED: [&str; 7] = [
    "SMEMBERS", "SUNION", "SINTER", "SDIFF", "HKEYS", "HVALS", "KEYS",
];
/// Commands that pick at random, or return cursors of their own.
const RANDOM: [&str; 10] = [
    "SRANDMEMBER",
    "HRANDFIELD",
    "ZRANDMEMBER",
    "SPOP",
    "RANDOMKEY",
    "SCAN",
    "HSCAN",
    "SSCAN",
    "ZSCAN",
    "TIME",
];

/// Whether these are times that are close.
pub(crate) fn close_times(name: &str, ours: &Reply, theirs: &Reply) -> bool {
    let timed = ["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"].contains(&name);
    match (timed, ours.int(), theirs.int()) {
        (true, Some(ours), Some(theirs)) => {
            ours > 0 && theirs > 0 && (ours - theirs).abs() < TIME_TOLERANCE
        }
        _ => false,
    }
}

/// The form of a reply in which both servers must agree.
pub(crate) fn comparable(name: &str, sub: &str, reply: &Reply) -> Reply {
    if reply.is_error() {
        return comparable_error(name, reply);
    }
    let special = match name {
        "ACL" => crate::users::comparable(sub, reply),
        _ => crate::administration::comparable(name, sub, reply),
    };
    if let Some(special) = special {
        return special;
    }
    let sorted = |elements: &[Reply], width: usize| {
        let mut groups: Vec<_> = elements.chunks(width).map(<[Reply]>::to_vec).collect();
        groups.sort();
        groups.concat()
    };
    match (name, sub, reply) {
        ("FUNCTION", "LIST", _) => sorted_deeply(reply),
        ("HGETALL", _, Reply::Many(kind, elements)) => Reply::Many(*kind, sorted(elements, 2)),
        ("PUBSUB", "CHANNELS" | "SHARDCHANNELS", Reply::Many(kind, elements)) => {
            Reply::Many(*kind, sorted(elements, 1))
        }
        ("HELLO", _, Reply::Many(kind, elements)) => Reply::Many(*kind, without_identity(elements)),
        ("OBJECT", "IDLETIME", Reply::Line(b':', _)) | ("CLIENT", "ID", Reply::Line(b':', _)) => {
            Reply::Null(b':')
        }
        (_, _, Reply::Many(kind, elements)) if UNORDERED.contains(&name) => {
            Reply::Many(*kind, sorted(elements, 1))
        }
        ("SCAN" | "HSCAN" | "SSCAN" | "ZSCAN", _, Reply::Many(kind, _)) => {
            Reply::Many(*kind, Vec::new())
        }
        _ if RANDOM.contains(&name) => shape(reply),
        _ if name.starts_with('X') => crate::streams::comparable(name, reply),
        _ if name.starts_with('Z') || name.starts_with("BZ") => exact_numbers(reply),
        _ => reply.clone(),
    }
}

/// Which of several functions that exist a library is refused for is chance.
fn comparable_error(name: &str, reply: &Reply) -> Reply {
    match reply {
        Reply::Line(kind, text)
            if name == "FUNCTION"
                && text.starts_with(b"ERR Function ")
                && text.ends_with(b" already exists") =>
        {
            Reply::Line(*kind, b"ERR Function already exists".to_vec())
        }
        Reply::Line(kind, text) if text.starts_with(b"NOPERM") => {
            // 7.2 names the user in some of these.
            let about = ["key", "channel", "command"].into_iter().find(|about| {
                let mut windows = text.windows(about.len());
                windows.any(|window| window == about.as_bytes())
            });
            Reply::Line(*kind, format!("NOPERM {}", about.unwrap_or("")).into())
        }
        other => other.clone(),
    }
}

/// All that is in a reply, in an order of its own: of libraries and functions there is none.
fn sorted_deeply(reply: &Reply) -> Reply {
    match reply {
        Reply::Many(kind, elements) => {
            let mut inner: Vec<_> = elements.iter().map(sorted_deeply).collect();
            inner.sort();
            Reply::Many(*kind, inner)
        }
        other => other.clone(),
    }
}

/// HELLO's reply without version, id and modules.
fn without_identity(elements: &[Reply]) -> Vec<Reply> {
    let pairs = elements.chunks(2).map(|pair| match pair {
        [key, _] if [b"version", &b"id"[..], b"modules"].contains(&key.bytes()) => {
            vec![key.clone()]
        }
        pair => pair.to_vec(),
    });
    pairs.flatten().collect()
}

/// Kinds and counts without contents.
fn shape(reply: &Reply) -> Reply {
    match reply {
        Reply::Many(kind, elements) => {
            let inner: Vec<_> = elements.iter().map(shape).collect();
            Reply::Many(*kind, inner)
        }
        Reply::Line(kind, _) => Reply::Line(*kind, Vec::new()),
        Reply::Bulk(kind, _) => Reply::Bulk(*kind, Vec::new()),
        null => null.clone(),
    }
}

/// Numbers in one notation: Redis 7.0 prints scores with 17 digits, 7.2 the shortest form.
pub(crate) fn exact_numbers(reply: &Reply) -> Reply {
    let canonical = |bytes: &[u8]| -> Vec<u8> {
        let is_number = bytes.len() >= 16 || bytes.contains(&b'.') || bytes.contains(&b'e');
        let number = std::str::from_utf8(bytes).ok().filter(|_| is_number);
        match number.and_then(|text| text.parse::<f64>().ok()) {
            Some(number) => format!("{number:?}").into(),
            None => bytes.to_vec(),
        }
    };
    match reply {
        Reply::Many(kind, elements) => {
            Reply::Many(*kind, elements.iter().map(exact_numbers).collect())
        }
        Reply::Line(b',', bytes) => Reply::Line(b',', canonical(bytes)),
        Reply::Bulk(kind, bytes) => Reply::Bulk(*kind, canonical(bytes)),
        other => other.clone(),
    }
}
