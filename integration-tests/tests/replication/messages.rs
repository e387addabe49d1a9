//! Messages published on a master reach who listens on its replicas: alone, in transactions, from
//! scripts, across a chain, and after an outage with what else was missed.

use crate::link::{Proxy, companions_up, link_is, same_data, start, synced};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};

/// A real master that begins a full sync at once.
const NO_DELAY: [&str; 2] = ["--repl-diskless-sync-delay", "0"];

/// What subscribers get, as words.
fn words(reply: Reply) -> Vec<String> {
    reply.elements().iter().map(Reply::text).collect()
}

/// A client that listens in all three ways.
fn listener(server: &Server) -> anyhow::Result<Client> {
    let mut client = server.client()?;
    for line in ["SUBSCRIBE news", "PSUBSCRIBE ne*", "SSUBSCRIBE shard"] {
        client.ok(line)?;
    }
    Ok(client)
}

/// The next messages are these, each `channel payload`, and nothing else comes between them.
fn hears(client: &mut Client, messages: &[(&str, &str)]) -> anyhow::Result<()> {
    for (channel, payload) in messages {
        if *channel == "shard" {
            assert_eq!(words(client.receive()?), ["smessage", "shard", payload]);
            continue;
        }
        assert_eq!(words(client.receive()?), ["message", "news", payload]);
        assert_eq!(
            words(client.receive()?),
            ["pmessage", "ne*", "news", payload]
        );
    }
    Ok(())
}

/// Publishes in all ways that there are.
fn publish(master: &mut Client, round: &str) -> anyhow::Result<()> {
    master.ok(&format!("PUBLISH news alone-{round}"))?;
    master.ok(&format!("SPUBLISH shard alone-{round}"))?;
    master.ok("MULTI")?;
    master.ok(&format!("SET in-exec {round}"))?;
    master.ok(&format!("PUBLISH news exec-{round}"))?;
    master.ok(&format!("SPUBLISH shard exec-{round}"))?;
    master.ok("EXEC")?;
    let script = "redis.call('SET', 'by-script', ARGV[1]) redis.call('PUBLISH', 'news', ARGV[1])";
    master.run(&["EVAL", script, "0", &format!("script-{round}")])?;
    Ok(())
}

fn heard(listener: &mut Client, round: &str) -> anyhow::Result<()> {
    let [alone, exec, script] = ["alone", "exec", "script"].map(|how| format!("{how}-{round}"));
    let messages = [
        ("news", alone.as_str()),
        ("shard", &alone),
        ("news", &exec),
        ("shard", &exec),
        ("news", &script),
    ];
    hears(listener, &messages)
}

/// A master of this kind, two of ours behind each other, and a real Redis at the end.
fn through_a_chain(kind: Kind) -> anyhow::Result<()> {
    let folders = [(); 4].map(|()| tempfile::tempdir());
    let [first, second, third, fourth] = folders;
    let (first, second, third, fourth) = (first?, second?, third?, fourth?);
    let options: &[&str] = match kind {
        Kind::Redis => &NO_DELAY,
        Kind::RedRock => &["--appendonly", "yes"],
    };
    let top = start(kind, first.path(), options)?;
    let mut master = top.client()?;
    if kind == Kind::RedRock {
        companions_up(&mut master)?;
    }
    let proxy = Proxy::to(top.port)?;
    let port = proxy.port.to_string();
    let logged = ["--appendonly", "yes", "--replicaof", "127.0.0.1"];
    let middle = start(
        Kind::RedRock,
        second.path(),
        &[&logged[..], &[&port]].concat(),
    )?;
    let mut replica = middle.client()?;
    link_is(&mut replica, "up")?;
    let port = middle.port.to_string();
    // The last of ours keeps no log of its own.
    let unlogged = ["--replicaof", "127.0.0.1", &port];
    let last = start(Kind::RedRock, third.path(), &unlogged)?;
    link_is(&mut last.client()?, "up")?;
    let port = last.port.to_string();
    let redis = start(
        Kind::Redis,
        fourth.path(),
        &["--replicaof", "127.0.0.1", &port],
    )?;
    link_is(&mut redis.client()?, "up")?;
    same_data(&mut master, &mut replica)?;
    let mut here = listener(&middle)?;
    let (mut behind, mut leaf) = (listener(&last)?, listener(&redis)?);
    publish(&mut master, "first")?;
    for client in [&mut here, &mut behind, &mut leaf] {
        heard(client, "first")?;
    }
    // What is published on a replica stays there.
    assert_eq!(replica.ok("PUBLISH news here")?.int(), Some(2));
    hears(&mut here, &[("news", "here")])?;
    proxy.cut();
    link_is(&mut replica, "down")?;
    publish(&mut master, "missed")?;
    proxy.heal();
    link_is(&mut replica, "up")?;
    for client in [&mut here, &mut behind, &mut leaf] {
        heard(client, "missed")?;
    }
    same_data(&mut master, &mut replica)?;
    synced(&mut master, (1, 1))
}

#[test]
fn messages_of_a_real_master_reach_listeners_through_a_chain_and_across_a_cut() -> anyhow::Result<()>
{
    match has_redis() {
        true => through_a_chain(Kind::Redis),
        false => Ok(()),
    }
}

#[test]
fn messages_of_our_master_reach_listeners_through_a_chain_and_across_a_cut() -> anyhow::Result<()> {
    match has_redis() {
        true => through_a_chain(Kind::RedRock),
        false => Ok(()),
    }
}
