//! Who does not get in, and what that costs the others: nothing.

use super::Listening;
use anyhow::{Context as _, ensure};
use redrock_integration_tests::daemons::{info, until};
use redrock_integration_tests::resp::Client;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

fn socket(port: u16) -> anyhow::Result<TcpStream> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(redrock_integration_tests::scale::PATIENCE))?;
    Ok(socket)
}

/// Reads until the other side has closed, which it must.
fn read_to_end(socket: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut said = Vec::new();
    match socket.read_to_end(&mut said) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        result => _ = result.context("the end of the connection")?,
    }
    Ok(said)
}

fn told(ours: &Listening) -> usize {
    let text = ours.server.log_text();
    text.matches("Error accepting a client connection: ")
        .count()
}

#[test]
fn what_is_no_handshake_is_closed_and_told_once() -> anyhow::Result<()> {
    let ours = Listening::start(&[])?;
    let long = [&[22, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat();
    let unfinished = [
        &[22, 3, 1, 0x40, 0x00, 1, 0xff, 0xff, 0xff][..],
        &[0; 70_000],
    ]
    .concat();
    let garbage: [&[u8]; 6] = [
        b"PING\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[0xff; 300],
        &long,
        &unfinished,
    ];
    for (at, bytes) in garbage.into_iter().enumerate() {
        let mut socket = socket(ours.tls_port)?;
        // It may be closed before all of it has been written.
        let _cut = socket.write_all(bytes);
        let said = read_to_end(&mut socket)?;
        ensure!(said.len() < 100, "{said:?}");
        until("it is told", || Ok(told(&ours) == at + 1))?;
    }
    // Who leaves without a word is no error, and neither is TLS on the other port one of TLS.
    drop(socket(ours.tls_port)?);
    let mut plain = socket(ours.server.port)?;
    plain.write_all(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 3])?;
    plain.shutdown(std::net::Shutdown::Write)?;
    ensure!(read_to_end(&mut plain)?.len() < 100);
    ours.client()?.ok("PING")?;
    assert_eq!(told(&ours), garbage.len());
    Ok(())
}

#[test]
fn a_handshake_that_stands_still_is_ended_and_holds_nobody_up() -> anyhow::Result<()> {
    let mut ours = Listening::start(&[])?;
    let mut stalled = Vec::new();
    for n in 0..40 {
        let mut socket = socket(ours.tls_port)?;
        // Nothing, or the beginning of something.
        socket.write_all(&[22, 3, 1, 2, 0, 1][..n % 7])?;
        stalled.push(socket);
    }
    until("they are listed", || {
        Ok(info(&mut ours.plain, "clients", "connected_clients")? == "41")
    })?;
    ours.client()?.ok("PING")?;
    // One is killed, the others' time runs out.
    let address = stalled[0].local_addr()?;
    ours.plain.ok(&format!("CLIENT KILL {address}"))?;
    read_to_end(&mut stalled[0])?;
    for socket in &mut stalled[1..] {
        read_to_end(socket)?;
    }
    until("nobody is left", || {
        Ok(info(&mut ours.plain, "clients", "connected_clients")? == "1")
    })?;
    let text = ours.server.log_text();
    assert_eq!(
        text.matches("the handshake took longer than 10 s").count(),
        39
    );
    Ok(())
}

#[test]
fn who_shakes_hands_counts_among_maxclients() -> anyhow::Result<()> {
    let mut ours = Listening::start(&["--maxclients", "3"])?;
    let one = ours.client()?;
    let two = socket(ours.tls_port)?;
    until("both are in", || {
        Ok(info(&mut ours.plain, "clients", "connected_clients")? == "3")
    })?;
    // As in Redis without a word, because no handshake was made.
    ensure!(ours.client().is_err());
    ensure!(Client::connect(ours.server.port)?.ok("PING").is_err());
    assert_eq!(info(&mut ours.plain, "stats", "rejected_connections")?, "2");
    drop(two);
    until("there is room again", || Ok(ours.client().is_ok()))?;
    drop(one);
    Ok(())
}

#[test]
fn certificates_of_clients_are_asked_for_as_configured() -> anyhow::Result<()> {
    let mut ours = Listening::start(&[])?;
    let may = |ours: &Listening, name: &str| -> anyhow::Result<bool> {
        let config = match name {
            "" => ours.made.config_of_nobody()?,
            name => ours.made.config(name)?,
        };
        // In TLSv1.3 a client is done before the server has looked.
        let pinged = Client::connect_tls(ours.tls_port, config).and_then(|mut c| c.ok("PING"));
        Ok(pinged.is_ok())
    };
    for (mode, allowed) in [
        ("yes", &["client", "redis"][..]),
        ("optional", &["client", "redis", ""]),
        ("no", &["client", "redis", "", "stranger", "expired"]),
    ] {
        ours.plain
            .ok(&format!("CONFIG SET tls-auth-clients {mode}"))?;
        for name in ["client", "redis", "", "stranger", "expired"] {
            let is_let_in = may(&ours, name)?;
            assert_eq!(is_let_in, allowed.contains(&name), "{mode} '{name}'");
        }
    }
    let text = ours.server.log_text();
    for part in [
        "peer sent no certificates",
        "UnknownIssuer",
        "certificate expired",
    ] {
        ensure!(text.contains(part), "{part}: {text}");
    }
    Ok(())
}

#[test]
fn what_a_handshake_holds_is_counted_and_bounded() -> anyhow::Result<()> {
    let mut ours = Listening::start(&[])?;
    let mut socket = socket(ours.tls_port)?;
    // The head of a handshake message of 60000 bytes, and most of it, in records of 1000.
    let mut bytes = Vec::new();
    for n in 0..50 {
        bytes.extend_from_slice(&[22, 3, 1, 3, 0xe8]);
        let head: &[u8] = if n == 0 { &[1, 0, 0xea, 0x60] } else { &[] };
        bytes.extend_from_slice(head);
        bytes.extend(std::iter::repeat_n(0, 1000 - head.len()));
    }
    socket.write_all(&bytes)?;
    let address = socket.local_addr()?;
    until("it is counted", || {
        let list = ours.plain.ok("CLIENT LIST")?.text();
        let mut mine = list
            .lines()
            .filter(|line| line.contains(&format!(" addr={address} ")));
        let words = mine.next().unwrap_or_default().split(' ');
        let memory = words
            .filter_map(|word| word.strip_prefix("tot-mem="))
            .next();
        Ok(memory.is_some_and(|bytes| bytes.parse().unwrap_or(0) > 50_000))
    })
}
