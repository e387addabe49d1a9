//! What clients may take of memory: limits of one, the budget of all, requests and replies that
//! no budget would hold.

use redrock_integration_tests::daemons::until;
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;

const MB: usize = 1 << 20;
/// With this bound all clients together may use an eighth: 20 MB.
const TIERED: [&str; 4] = ["--maxmemory", "160mb", "--enable-rocksdb-feature", "yes"];
const BUDGET_BYTES: usize = 20 * MB;

fn kinds() -> Vec<Kind> {
    match has_redis() {
        true => vec![Kind::RedRock, Kind::Redis],
        false => vec![Kind::RedRock],
    }
}

fn start(kind: Kind, folder: &Path, options: &[&str]) -> anyhow::Result<(Server, Client)> {
    let server = Server::start(kind, folder, options)?;
    let client = server.client()?;
    Ok((server, client))
}

fn field(client: &mut Client, section: &str, name: &str) -> anyhow::Result<Option<i64>> {
    let text = client.ok(&format!("INFO {section}"))?.text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}:")));
    Ok(line.and_then(|value| value.parse().ok()))
}

/// Whether a named client is still there.
fn connected(client: &mut Client, name: &str) -> anyhow::Result<bool> {
    let list = client.ok("CLIENT LIST")?.text();
    Ok(list.contains(&format!(" name={name} ")))
}

fn named(server: &Server, name: &str) -> anyhow::Result<Client> {
    let mut client = server.client()?;
    client.ok(&format!("CLIENT SETNAME {name}"))?;
    Ok(client)
}

fn set_limit(client: &mut Client, value: &str) -> anyhow::Result<()> {
    client.run(&["CONFIG", "SET", "client-output-buffer-limit", value])?;
    Ok(())
}

#[test]
fn a_client_that_reads_too_little_is_closed_as_in_redis() -> anyhow::Result<()> {
    for kind in kinds() {
        let folder = tempfile::tempdir()?;
        let (server, mut client) = start(kind, folder.path(), &[])?;
        client.run(&["SET".to_owned(), "large".into(), "x".repeat(MB)])?;

        // The hard limit, while replies collect and in the middle of one reply.
        set_limit(&mut client, "normal 30000000 0 0")?;
        let mut slow = named(&server, "slow")?;
        (0..10).try_for_each(|_| slow.send(&["GET", "large"]))?;
        until("ten unread replies", || {
            let list = client.ok("CLIENT LIST")?.text();
            let mut slow = list.lines().filter(|line| line.contains("name=slow"));
            Ok(slow.any(|line| line.contains("cmd=get")))
        })?;
        assert!(connected(&mut client, "slow")?, "{kind:?}");
        (0..60).try_for_each(|_| slow.send(&["GET", "large"]))?;
        until("the end of the slow client", || {
            Ok(!connected(&mut client, "slow")?)
        })?;
        set_limit(&mut client, "normal 500000 0 0")?;
        let mut closed = server.client()?;
        assert!(closed.run(&["GET", "large"]).is_err(), "{kind:?}");

        // The soft limit, when its time is over.
        set_limit(&mut client, "normal 0 100000 1")?;
        let mut slow = named(&server, "soft")?;
        (0..20).try_for_each(|_| slow.send(&["GET", "large"]))?;
        until("the end of the soft limit", || {
            Ok(!connected(&mut client, "soft")?)
        })?;

        // Subscribers have limits of their own.
        set_limit(&mut client, "normal 0 0 0 pubsub 8000000 0 0")?;
        let mut subscriber = named(&server, "listener")?;
        subscriber.ok("SUBSCRIBE news")?;
        let message = "m".repeat(MB);
        until("the end of the subscriber", || {
            client.run(&["PUBLISH", "news", &message])?;
            Ok(!connected(&mut client, "listener")?)
        })?;
        if kind == Kind::RedRock {
            let name = "client_output_buffer_limit_disconnections";
            assert_eq!(field(&mut client, "stats", name)?, Some(4));
        }
    }
    Ok(())
}

#[test]
fn a_request_beyond_the_query_buffer_closes_its_client_as_in_redis() -> anyhow::Result<()> {
    for kind in kinds() {
        let folder = tempfile::tempdir()?;
        let (server, mut client) = start(kind, folder.path(), &[])?;
        client.ok("CONFIG SET client-query-buffer-limit 1mb")?;
        let mut large = named(&server, "large")?;
        large.send_raw(b"*2\r\n$3\r\nGET\r\n$3000000\r\n")?;
        // The server may close before all is sent.
        let _ = large.send_raw(&vec![b'x'; 2 * MB]);
        until("the end of the client", || {
            Ok(!connected(&mut client, "large")?)
        })?;
        assert!(large.receive().is_err(), "{kind:?}");
        client.run(&["SET".to_owned(), "fits".into(), "x".repeat(MB / 2)])?;
        assert_eq!(client.ok("STRLEN fits")?.int(), Some(MB as i64 / 2));
    }
    Ok(())
}

#[test]
fn the_largest_clients_leave_first_when_maxmemory_clients_is_reached() -> anyhow::Result<()> {
    for kind in kinds() {
        let folder = tempfile::tempdir()?;
        let (server, mut client) = start(kind, folder.path(), &[])?;
        client.ok("CLIENT NO-EVICT on")?;
        let mut exempt = named(&server, "exempt")?;
        exempt.ok("CLIENT NO-EVICT on")?;
        let mut clients = Vec::new();
        for (name, bytes) in [("small", MB), ("large", 4 * MB), ("medium", 2 * MB)] {
            let mut other = named(&server, name)?;
            other.send_raw(b"*2\r\n$3\r\nGET\r\n$20000000\r\n")?;
            other.send_raw(&vec![b'x'; bytes])?;
            clients.push(other);
        }
        exempt.send_raw(b"*2\r\n$3\r\nGET\r\n$20000000\r\n")?;
        exempt.send_raw(&vec![b'x'; 5 * MB])?;
        until("what they have sent", || {
            let list = client.ok("CLIENT LIST")?.text();
            let large = |field: &str| {
                let bytes = field.strip_prefix("qbuf=").and_then(|n| n.parse().ok());
                bytes.unwrap_or(0usize) >= MB
            };
            Ok(list.split_whitespace().filter(|field| large(field)).count() == 4)
        })?;
        // What a request will need counts once that is known: 20 MB each.
        client.ok("CONFIG SET maxmemory-clients 47mb")?;
        until("the end of the largest", || {
            Ok(!connected(&mut client, "large")?)
        })?;
        assert!(connected(&mut client, "exempt")?, "{kind:?}");
        client.ok("CONFIG SET maxmemory-clients 200000")?;
        until("the end of all", || {
            Ok(!connected(&mut client, "small")? && !connected(&mut client, "medium")?)
        })?;
        assert!(connected(&mut client, "exempt")?, "{kind:?}");
        assert_eq!(
            field(&mut client, "stats", "evicted_clients")?,
            Some(3),
            "{kind:?}"
        );
    }
    Ok(())
}

/// What CLIENT LIST says that a client takes; 0: it is gone.
fn total_memory(client: &mut Client, name: &str) -> anyhow::Result<usize> {
    let list = client.ok("CLIENT LIST")?.text();
    let line = list
        .lines()
        .find(|line| line.contains(&format!(" name={name} ")));
    let mut fields = line.unwrap_or_default().split(' ');
    let bytes = fields.find_map(|field| field.strip_prefix("tot-mem=")?.parse().ok());
    Ok(bytes.unwrap_or(0))
}

#[test]
fn what_goes_beyond_maxmemory_clients_is_closed_before_the_next_command() -> anyhow::Result<()> {
    const LIMIT: usize = 3 * MB;
    for kind in kinds() {
        let folder = tempfile::tempdir()?;
        let (server, mut client) = start(kind, folder.path(), &["--enable-debug-command", "yes"])?;
        client.ok("CLIENT NO-EVICT on")?;
        client.ok(&format!("CONFIG SET maxmemory-clients {LIMIT}"))?;
        // No periodic work helps.
        client.ok("DEBUG PAUSE-CRON 1")?;

        // Commands that wait for EXEC.
        let mut queues = named(&server, "queues")?;
        queues.ok("MULTI")?;
        let value = "x".repeat(MB);
        let closed = (0..4).any(|_| queues.run(&["SET", "key", &value]).is_err());
        assert!(
            closed && total_memory(&mut client, "queues")? == 0,
            "{kind:?}"
        );

        // Messages that nobody reads.
        let mut listens = named(&server, "listens")?;
        listens.ok("SUBSCRIBE news")?;
        let message = "m".repeat(MB / 5);
        let mut largest = 0;
        for _ in 0..400 {
            let bytes = total_memory(&mut client, "listens")?;
            largest = largest.max(bytes);
            if bytes == 0 {
                break;
            }
            client.run(&["PUBLISH", "news", &message])?;
        }
        assert_eq!(total_memory(&mut client, "listens")?, 0, "{kind:?}");
        assert!((MB..LIMIT).contains(&largest), "{kind:?}: {largest}");

        // A request that was only announced.
        let mut announces = named(&server, "announces")?;
        announces.send_raw(format!("*2\r\n$3\r\nGET\r\n${LIMIT}\r\nx").as_bytes())?;
        until("the end of the announcing client", || {
            Ok(total_memory(&mut client, "announces")? == 0)
        })?;
        client.ok("DEBUG PAUSE-CRON 0")?;
    }
    Ok(())
}

#[test]
fn a_request_or_reply_beyond_the_budget_is_refused_and_its_client_goes_on() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = start(Kind::RedRock, folder.path(), &TIERED)?;
    let refused = |reply: Reply| match reply {
        Reply::Error(text) => assert!(text.contains("'maxmemory'"), "{text}"),
        other => panic!("{other:?}"),
    };
    // A bulk of the longest length that the protocol allows.
    let piece = vec![b'x'; MB];
    client.send_raw(b"*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$536870912\r\n")?;
    for _ in 0..512 {
        client.send_raw(&piece)?;
    }
    client.send_raw(b"\r\n")?;
    refused(client.receive()?);
    // Many arguments that are too much together, in a transaction.
    client.ok("MULTI")?;
    let words: Vec<&[u8]> = std::iter::once(&b"RPUSH"[..])
        .chain(std::iter::repeat_n(&piece[..MB / 2], 60))
        .collect();
    refused(client.run(&words)?);
    let text = format!("{:?}", client.run(&["EXEC"])?);
    assert!(text.contains("EXECABORT"), "{text}");
    assert_eq!(client.ok("EXISTS large")?.int(), Some(0));

    let value = "v".repeat(MB);
    for _ in 0..30 {
        client.run(&["RPUSH", "list", &value])?;
    }
    refused(client.run(&["LRANGE", "list", "0", "-1"])?);
    client.ok("MULTI")?;
    client.ok("SET done 1")?;
    client.ok("LRANGE list 0 -1")?;
    refused(client.run(&["EXEC"])?);
    // What a command changed stays, however long its reply.
    assert_eq!(client.ok("GET done")?.text(), "1");
    assert_eq!(client.ok("LRANGE list 0 4")?.elements().len(), 5);
    let large = "y".repeat(15 * MB);
    client.run(&["SET", "large", &large])?;
    assert_eq!(client.ok("STRLEN large")?.int(), Some(15 * MB as i64));
    let peak = server.peak_bytes()?;
    assert!(peak < 224 << 20, "{} MB", peak >> 20);
    Ok(())
}

#[test]
fn slow_readers_hold_a_bounded_part_and_get_every_reply() -> anyhow::Result<()> {
    const REPLIES: usize = 100;
    let folder = tempfile::tempdir()?;
    let (server, mut client) = start(Kind::RedRock, folder.path(), &TIERED)?;
    let value = "z".repeat(MB / 4);
    client.run(&["SET", "value", &value])?;
    let mut readers = Vec::new();
    for n in 0..6 {
        let mut reader = named(&server, &format!("reader{n}"))?;
        (0..REPLIES).try_for_each(|_| reader.send(&["GET", "value"]))?;
        readers.push(reader);
    }
    // All that nobody reads would be 150 MB.
    let unread = |client: &mut Client| -> anyhow::Result<usize> {
        let list = client.ok("CLIENT LIST")?.text();
        let omem = list
            .split_whitespace()
            .filter_map(|field| field.strip_prefix("omem="));
        Ok(omem.filter_map(|bytes| bytes.parse::<usize>().ok()).sum())
    };
    until("unread replies", || Ok(unread(&mut client)? > 6 * MB))?;
    assert!(unread(&mut client)? < BUDGET_BYTES);
    assert_eq!(client.ok("PING")?.text(), "PONG");
    for reader in &mut readers {
        for number in 0..REPLIES {
            assert_eq!(
                reader.receive()?.text().len(),
                value.len(),
                "reply {number}"
            );
        }
    }
    assert_eq!(field(&mut client, "stats", "evicted_clients")?, Some(0));
    let peak = server.peak_bytes()?;
    assert!(peak < 160 << 20, "{} MB", peak >> 20);
    Ok(())
}

#[test]
fn above_the_budget_the_largest_client_is_closed_and_the_others_are_served() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = start(Kind::RedRock, folder.path(), &TIERED)?;
    let mut senders = Vec::new();
    for n in 0..12 {
        let mut sender = named(&server, &format!("sender{n}"))?;
        sender.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4000000\r\n")?;
        // Those closed meanwhile may find their socket gone.
        let _ = sender.send_raw(&vec![b'x'; 3_900_000]);
        senders.push(sender);
    }
    until("the end of the largest", || {
        Ok(field(&mut client, "stats", "evicted_clients")? >= Some(7))
    })?;
    let mut served = 0;
    for mut sender in senders {
        let rest = sender.send_raw(&[&vec![b'x'; 100_000][..], b"\r\n"].concat());
        served += usize::from(rest.and_then(|()| sender.receive()).is_ok());
    }
    // Each takes 4 MB of 20.
    assert!((3..=5).contains(&served), "{served}");
    assert_eq!(client.ok("STRLEN k")?.int(), Some(4_000_000));
    Ok(())
}

#[test]
fn large_values_of_many_clients_at_once_are_all_stored_one_after_the_other() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = start(Kind::RedRock, folder.path(), &TIERED)?;
    // Each takes 8 MB of 20.
    let value = |n: u8| vec![b'a' + n; 8_000_000];
    let sender = |n: u8| {
        let mut sender = named(&server, &format!("sender{n}"))?;
        Ok(move || -> anyhow::Result<()> {
            for _ in 0..3 {
                let stored = sender.run(&[b"SET".as_slice(), &[b'k', n], &value(n)])?;
                anyhow::ensure!(stored.text() == "OK", "{stored:?}");
            }
            Ok(())
        })
    };
    let senders: Vec<_> = (0..12).map(sender).collect::<anyhow::Result<_>>()?;
    std::thread::scope(|scope| {
        let running: Vec<_> = senders.into_iter().map(|s| scope.spawn(s)).collect();
        let ended = running.into_iter().map(|sender| sender.join());
        ended.collect::<Result<anyhow::Result<Vec<()>>, _>>()
    })
    .map_err(|_| anyhow::anyhow!("a sender panicked"))??;
    for n in 0..12 {
        let found = client.run(&[b"GET".as_slice(), &[b'k', n]])?;
        assert!(found == Reply::Bulk(value(n)), "value {n}");
    }
    assert_eq!(field(&mut client, "stats", "evicted_clients")?, Some(0));
    let peak = server.peak_bytes()?;
    assert!(peak < 224 << 20, "{} MB", peak >> 20);
    Ok(())
}
