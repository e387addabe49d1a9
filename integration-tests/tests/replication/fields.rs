//! INFO replication and ROLE have the fields and the forms of Redis on both ends.

use crate::link::{companions_up, link_is, number, same_data, start};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::collections::BTreeSet;
use std::path::Path;

/// Names of the fields of INFO replication.
fn fields(client: &mut Client) -> anyhow::Result<BTreeSet<String>> {
    let text = client.ok("INFO replication")?.text();
    let names = text.lines().filter_map(|line| line.split_once(':'));
    Ok(names.map(|(name, _)| name.to_owned()).collect())
}

/// What kinds of elements a reply has, numbers and texts left out.
fn form(reply: &Reply) -> String {
    match reply {
        Reply::Array(elements) => {
            let forms: Vec<String> = elements.iter().map(form).collect();
            format!("[{}]", forms.join(" "))
        }
        Reply::Bulk(text) if text.iter().all(u8::is_ascii_digit) => "digits".into(),
        Reply::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
        Reply::Int(_) => "int".into(),
        other => format!("{other:?}"),
    }
}

struct Two {
    _servers: [Server; 2],
    master: Client,
    replica: Client,
}

fn pair(kinds: [Kind; 2], folders: [&Path; 2]) -> anyhow::Result<Two> {
    let append_only = ["--appendonly", "yes"];
    let master = start(kinds[0], folders[0], &append_only)?;
    let mut client = master.client()?;
    if kinds[0] == Kind::RedRock {
        companions_up(&mut client)?;
    }
    let port = master.port.to_string();
    let options = [&append_only[..], &["--replicaof", "127.0.0.1", &port]].concat();
    let replica = start(kinds[1], folders[1], &options)?;
    let mut other = replica.client()?;
    link_is(&mut other, "up")?;
    same_data(&mut client, &mut other)?;
    Ok(Two {
        _servers: [master, replica],
        master: client,
        replica: other,
    })
}

#[test]
fn both_ends_show_what_redis_shows() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let folders: Vec<_> = (0..6)
        .map(|_| tempfile::tempdir())
        .collect::<Result<_, _>>()?;
    let folder = |n: usize| folders[n].path();
    let mut real = pair([Kind::Redis, Kind::Redis], [folder(0), folder(1)])?;
    let mut over = pair([Kind::RedRock, Kind::Redis], [folder(2), folder(3)])?;
    let mut under = pair([Kind::Redis, Kind::RedRock], [folder(4), folder(5)])?;
    assert_eq!(fields(&mut over.master)?, fields(&mut real.master)?);
    assert_eq!(fields(&mut under.replica)?, fields(&mut real.replica)?);
    let role = |client: &mut Client| client.ok("ROLE").map(|reply| form(&reply));
    assert_eq!(role(&mut over.master)?, role(&mut real.master)?);
    assert_eq!(role(&mut under.replica)?, role(&mut real.replica)?);
    // The figures of the backlog belong together, once the second's look has seen them.
    let offset = number(&mut over.master, "replication", "master_repl_offset")?;
    let first = number(
        &mut over.master,
        "replication",
        "repl_backlog_first_byte_offset",
    )?;
    let length = number(&mut over.master, "replication", "repl_backlog_histlen")?;
    assert!(first + length >= offset, "{first} {length} {offset}");
    let size = number(&mut over.master, "replication", "repl_backlog_size")?;
    assert!(size >= 1 << 30, "{size}");
    let applied = number(&mut under.replica, "replication", "slave_repl_offset")?;
    let read = number(&mut under.replica, "replication", "slave_read_repl_offset")?;
    assert!(applied > 0 && read >= applied, "{read} {applied}");
    Ok(())
}
