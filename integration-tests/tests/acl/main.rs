//! Access control lists: the same random users and commands on our server and on a real Redis
//! 7.0.15, what happens to clients whose users change, and users that outlive a restart.
//!
//! The seed is printed; `RR_SEED` repeats a run, `RR_SCALE` multiplies the number of rounds.

#![allow(clippy::panic)]

mod clients;
mod differential;
mod restart;
mod vocabulary;

use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;
use std::time::{Duration, Instant};

/// What our server is started with.
const OURS: [&str; 4] = ["--companions", "external", "--appendonly", "no"];

/// Starts a server that may want a password, and waits until it answers anything.
fn start(kind: Kind, folder: &Path, options: &[&str]) -> anyhow::Result<Server> {
    let mut all = match kind {
        Kind::RedRock => OURS.to_vec(),
        Kind::Redis => vec!["--appendonly", "no"],
    };
    all.extend(options);
    let server = Server::spawn(kind, folder, &all)?;
    let deadline = Instant::now() + redrock_integration_tests::scale::PATIENCE;
    loop {
        let answer = server.client().and_then(|mut client| client.run(&["PING"]));
        match answer {
            Ok(Reply::Error(text)) if text.starts_with("LOADING") => {}
            Ok(_) => return Ok(server),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(server.log_text()));
            }
            Err(_) => {}
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The error that a command answers.
fn error(client: &mut Client, line: &str) -> anyhow::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    match client.run(&words)? {
        Reply::Error(text) => Ok(text),
        other => anyhow::bail!("{line}: no error but {other:?}"),
    }
}

/// The texts of an array.
fn texts(reply: Reply) -> Vec<String> {
    reply.elements().iter().map(Reply::text).collect()
}

/// The value of a field among names and values.
fn field(reply: &Reply, name: &str) -> Option<Reply> {
    let elements = reply.clone().elements();
    let pairs = elements.chunks(2);
    pairs
        .filter_map(|pair| Some((pair.first()?, pair.get(1)?)))
        .find(|(found, _)| found.text() == name)
        .map(|(_, value)| value.clone())
}
