//! What clients do over TLS is what they do without.

use super::Listening;
use anyhow::{Context as _, ensure};
use redrock_integration_tests::daemons::{info, until};
use redrock_integration_tests::process::has_redis;
use redrock_integration_tests::resp::{Client, Reply, encode};
use std::process::Command;

fn run(program: &str, words: &[String], more: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(words).args(more).output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    ensure!(output.status.success(), "{program}: {text}");
    Ok(text)
}

#[test]
fn redis_s_own_tools_are_served() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    for name in ["server", "redis"] {
        let made = redrock_integration_tests::certificates::Certificates::new()?;
        let mut ours = Listening::start_with(made, name, &[])?;
        let words = ours.made.words("redis", ours.tls_port);
        assert_eq!(run("redis-cli", &words, &["SET", "k", "v"])?.trim(), "OK");
        assert_eq!(run("redis-cli", &words, &["GET", "k"])?.trim(), "v");
        for more in [
            &[
                "-n",
                "20000",
                "-c",
                "50",
                "-P",
                "16",
                "-t",
                "set,get,lrange_100",
            ][..],
            &["-n", "2000", "-c", "20", "-d", "100000", "-t", "set,get"],
            // A connection a request; the last ones are given up in the middle of a handshake.
            &["-n", "200", "-c", "10", "-k", "0", "-t", "ping"],
        ] {
            let text = ours.server.log_text();
            ensure!(!text.contains("Error accepting"), "{text}");
            let text = run("redis-benchmark", &words, &[more, &["--csv"]].concat())?;
            ensure!(!text.contains("rror"), "{text}");
        }
        assert_eq!(ours.plain.ok("GET k")?.text(), "v");
    }
    Ok(())
}

#[test]
fn long_pipelines_and_large_values_arrive_whole() -> anyhow::Result<()> {
    const COUNT: usize = 200_000;
    let mut ours = Listening::start(&[])?;
    for protocols in ["TLSv1.2", "TLSv1.3"] {
        let config = ours.made.config_with("client", Some(protocols))?;
        let mut client = Client::connect_tls(ours.tls_port, config)?;
        let mut pipeline = Vec::new();
        for n in 0..COUNT {
            encode(
                &mut pipeline,
                &["INCR", &format!("count:{protocols}:{}", n % 7)],
            );
        }
        client.send_raw(&pipeline)?;
        for n in 0..COUNT {
            let count = client.receive()?.int().context("a count")?;
            assert_eq!(count as usize, n / 7 + 1);
        }
        let large: Vec<u8> = (0..30_000_000_u32).map(|n| (n >> 5) as u8).collect();
        assert_eq!(client.run(&[&b"SET"[..], b"large", &large])?.text(), "OK");
        ensure!(ours.plain.ok("GET large")? == Reply::Bulk(large.clone()));
        // Replies that nobody takes yet, then all of them.
        for _ in 0..5 {
            client.send(&["GET", "large"])?;
        }
        until("replies wait", || {
            let list = ours.plain.ok("CLIENT LIST TYPE normal")?.text();
            Ok(list.lines().any(|line| {
                let waits = line.split(' ').find_map(|word| word.strip_prefix("omem="));
                waits.is_some_and(|bytes| bytes.len() > 7)
            }))
        })?;
        for _ in 0..5 {
            ensure!(client.receive()? == Reply::Bulk(large.clone()));
        }
        // Slowly, in pieces.
        let mut words = Vec::new();
        encode(&mut words, &["ECHO", &"x".repeat(100_000)]);
        for piece in words.chunks(997) {
            client.send_raw(piece)?;
        }
        assert_eq!(client.receive()?.text().len(), 100_000);
    }
    Ok(())
}

#[test]
fn messages_come_without_being_asked_for() -> anyhow::Result<()> {
    let mut ours = Listening::start(&[])?;
    let mut subscriber = ours.client()?;
    subscriber.ok("SUBSCRIBE news")?;
    let mut watcher = ours.client()?;
    watcher.ok("MONITOR")?;
    let mut waiting = ours.client()?;
    waiting.send(&["BLPOP", "list", "0"])?;
    until("it waits", || {
        Ok(info(&mut ours.plain, "clients", "blocked_clients")? == "1")
    })?;
    let mut other = ours.client()?;
    assert_eq!(other.ok("PUBLISH news hello")?.int(), Some(1));
    let message = subscriber.receive()?.elements();
    assert_eq!(message.last().context("a message")?.text(), "hello");
    other.ok("RPUSH list element")?;
    assert_eq!(waiting.receive()?.elements()[1].text(), "element");
    let mut seen = Vec::new();
    while !seen.iter().any(|line: &String| line.contains("\"RPUSH\"")) {
        seen.push(watcher.receive()?.text());
    }
    // Many at once, and an end.
    for n in 0..20_000 {
        ours.plain
            .send(&["PUBLISH", "news", &format!("message-{n}")])?;
    }
    for n in 0..20_000 {
        let message = subscriber.receive()?.elements();
        assert_eq!(message[2].text(), format!("message-{n}"));
    }
    other.ok("QUIT")?;
    ensure!(other.is_closed_well()?, "no word at the end");
    Ok(())
}

#[test]
fn a_client_is_listed_counted_and_killed_like_any_other() -> anyhow::Result<()> {
    let mut ours = Listening::start(&[])?;
    let before = info(&mut ours.plain, "stats", "total_connections_received")?;
    let mut client = ours.client()?;
    let id = client.ok("CLIENT ID")?.text();
    client.ok("CLIENT SETNAME over-tls")?;
    let list = ours.plain.ok(&format!("CLIENT LIST ID {id}"))?.text();
    let end = format!("laddr=127.0.0.1:{} ", ours.tls_port);
    for part in ["name=over-tls", "user=default", "resp=2", &end] {
        ensure!(list.contains(part), "{list}");
    }
    let after = info(&mut ours.plain, "stats", "total_connections_received")?;
    assert_eq!(before.parse::<u64>()? + 1, after.parse()?);
    // TLS takes memory, which is the client's.
    let memory = |list: &str| -> anyhow::Result<u64> {
        let words = list
            .split(' ')
            .find_map(|word| word.strip_prefix("tot-mem="));
        Ok(words.context("tot-mem")?.trim().parse()?)
    };
    let id = ours.plain.ok("CLIENT ID")?.text();
    let plain = ours.plain.ok(&format!("CLIENT LIST ID {id}"))?.text();
    ensure!(memory(&list)? >= memory(&plain)? + 8192, "{list}{plain}");
    assert_eq!(
        ours.plain.ok("CLIENT KILL TYPE normal SKIPME yes")?.int(),
        Some(1)
    );
    ensure!(client.ok("PING").is_err());
    until("it is gone", || {
        Ok(info(&mut ours.plain, "clients", "connected_clients")? == "1")
    })
}
