//! Masters before Redis 7 that send scripts themselves, later by their digest alone: their texts
//! outlive a restart, and one that is not known costs a full sync.

use crate::link::{companions_up, info, start, until};
use redrock_integration_tests::fake_master::{Answer, FakeMaster};
use redrock_integration_tests::process::Kind;
use redrock_integration_tests::resp::{Client, Reply, encode};
use std::path::Path;

const OF_FILE: &str = "return redis.call('append',KEYS[1],'a')";
const OF_STREAM: &str = "return redis.call('append',KEYS[1],'b')";

/// An RDB without keys, with a script behind where they would be, as Redis 5 and 6 write it.
fn rdb() -> Vec<u8> {
    let length = u8::try_from(OF_FILE.len()).unwrap_or(0);
    assert!(length < 64, "a length of one byte");
    let parts: [&[u8]; 5] = [
        b"REDIS0009\xfa\x03lua",
        &[length],
        OF_FILE.as_bytes(),
        b"\xff",
        &[0; 8],
    ];
    parts.concat()
}

fn digest(client: &mut Client, script: &str) -> anyhow::Result<String> {
    let made = client.run(&["EVAL", "return redis.sha1hex(ARGV[1])", "0", script])?;
    Ok(made.text())
}

fn stream(commands: &[&[&str]]) -> Vec<u8> {
    let mut stream = Vec::new();
    for command in commands {
        encode(&mut stream, command);
    }
    stream
}

/// Whether a server that is started on a folder knows these scripts.
fn are_known(folder: &Path, options: &[&str], digests: [&str; 2]) -> anyhow::Result<()> {
    let server = start(Kind::RedRock, folder, options)?;
    let found = server
        .client()?
        .run(&["SCRIPT", "EXISTS", digests[0], digests[1]])?;
    assert_eq!(found, Reply::Array(vec![Reply::Int(1), Reply::Int(1)]));
    Ok(())
}

#[test]
fn scripts_of_an_old_master_are_in_the_files_made_here() -> anyhow::Result<()> {
    for log in ["no", "yes"] {
        let folder = tempfile::tempdir()?;
        let options = ["--appendonly", log];
        let server = start(Kind::RedRock, folder.path(), &options)?;
        let mut client = server.client()?;
        companions_up(&mut client)?;
        let (a, b) = (
            digest(&mut client, OF_FILE)?,
            digest(&mut client, OF_STREAM)?,
        );
        let commands: [&[&str]; 4] = [
            &["SELECT", "0"],
            &["EVALSHA", &a, "1", "k"],
            &["EVAL", OF_STREAM, "1", "k"],
            &["EVALSHA", &b, "1", "k"],
        ];
        let master = FakeMaster::start(Answer {
            rdb: rdb(),
            cut_at: None,
            stream: stream(&commands),
            id: None,
        })?;
        client.ok(&format!("REPLICAOF 127.0.0.1 {}", master.port))?;
        until("the stream", || Ok(client.ok("GET k")?.text() == "abb"))?;
        assert_eq!(master.full_syncs(), 1);
        // The log's own lines are gone with the next base.
        match log {
            "yes" => {
                until("the log", || {
                    Ok(info(&mut client, "persistence", "aof_enabled")? == "1")
                })?;
                let rewrites = info(&mut client, "persistence", "aof_rewrites")?;
                // The log's beginning may still be on its way.
                until("a rewrite's turn", || {
                    let begun = client.run(&["BGREWRITEAOF"])?;
                    Ok(matches!(begun, Reply::Status(_)))
                })?;
                until("a rewrite", || {
                    Ok(info(&mut client, "persistence", "aof_rewrites")? != rewrites)
                })?;
            }
            _ => drop(client.ok("SAVE")?),
        }
        drop(master);
        server.kill_family()?;
        are_known(folder.path(), &options, [&a, &b])?;
    }
    Ok(())
}

#[test]
fn a_script_whose_text_is_not_known_brings_a_full_sync() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = start(Kind::RedRock, folder.path(), &[])?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    let unknown = "0".repeat(40);
    let commands: [&[&str]; 3] = [
        &["SELECT", "0"],
        &["SET", "k", "1"],
        &["EVALSHA", &unknown, "1", "k"],
    ];
    let mut answer = Answer {
        rdb: rdb(),
        cut_at: None,
        stream: stream(&commands),
        id: None,
    };
    let master = FakeMaster::start(answer.clone())?;
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", master.port))?;
    until("another full sync", || Ok(master.full_syncs() >= 2))?;
    assert!(server.log_text().contains("a full sync is due"));
    answer.stream = stream(&[&["SELECT", "0"], &["SET", "k", "2"]]);
    master.answers(answer);
    until("the stream", || Ok(client.ok("GET k")?.text() == "2"))?;
    Ok(())
}
