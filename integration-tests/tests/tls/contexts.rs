//! Contexts: what a start refuses, and what CONFIG SET brings in force.

use super::Listening;
use anyhow::{Context as _, ensure};
use redrock_integration_tests::certificates::Certificates;
use redrock_integration_tests::daemons::{info, until};
use redrock_integration_tests::process::{Kind, Server, free_port};
use redrock_integration_tests::resp::{Client, Reply};

/// The error of CONFIG SET.
fn refused(client: &mut Client, words: &[&str]) -> anyhow::Result<String> {
    match client.run(&[&["CONFIG", "SET"], words].concat())? {
        Reply::Error(text) => Ok(text),
        other => anyhow::bail!("{words:?}: {other:?}"),
    }
}

#[test]
fn a_start_with_bad_files_is_refused_with_the_reason() -> anyhow::Result<()> {
    let made = Certificates::new()?;
    std::fs::write(made.path("empty.crt"), "")?;
    let folder = tempfile::tempdir()?;
    let port = free_port()?.to_string();
    let (cert, key, ca) = (
        made.path("server.crt").display().to_string(),
        made.path("server.key").display().to_string(),
        made.path("ca.crt").display().to_string(),
    );
    let gone = made.path("gone.crt").display().to_string();
    let empty = made.path("empty.crt").display().to_string();
    let other = made.path("client.key").display().to_string();
    let tls = ["--tls-port", &port];
    let pair = ["--tls-cert-file", &cert, "--tls-key-file", &key];
    for (options, text) in [
        (vec![], "No tls-cert-file configured!"),
        (
            vec!["--tls-cert-file", &cert],
            "No tls-key-file configured!",
        ),
        (pair.to_vec(), "Either tls-ca-cert-file or tls-ca-cert-dir"),
        (
            [&pair[..], &["--tls-ca-cert-file", &gone]].concat(),
            "Failed to read tls-ca-cert-file",
        ),
        (
            vec!["--tls-cert-file", &empty, "--tls-key-file", &key],
            "Failed to load tls-cert-file",
        ),
        (
            vec!["--tls-cert-file", &cert, "--tls-key-file", &other],
            "the key of tls-key-file is not that of the certificate",
        ),
        (
            [
                &pair[..],
                &["--tls-ca-cert-file", &ca, "--tls-protocols", "TLSv1"],
            ]
            .concat(),
            "Invalid tls-protocols",
        ),
        (
            [
                &pair[..],
                &["--tls-ca-cert-file", &ca, "--tls-ciphers", "AES128-SHA"],
            ]
            .concat(),
            "Failed to configure tls-ciphers",
        ),
    ] {
        let all = [&tls[..], &options].concat();
        let (status, said) = Server::refused(Kind::RedRock, folder.path(), free_port()?, &all)?;
        assert_eq!(status.code(), Some(1), "{said}");
        ensure!(
            said.contains(text) && said.contains("Failed to configure TLS"),
            "{said}"
        );
    }
    // Replication alone needs them too.
    let options = ["--tls-replication", "yes"];
    let (status, said) = Server::refused(Kind::RedRock, folder.path(), free_port()?, &options)?;
    ensure!(
        !status.success() && said.contains("No tls-cert-file"),
        "{said}"
    );
    Ok(())
}

#[test]
fn new_connections_get_what_config_set_brought() -> anyhow::Result<()> {
    let mut ours = Listening::start(&[])?;
    let mut before = ours.client()?;
    // Files of the same names with another certificate, which a new root has issued.
    let (old_ca, old_client) = (
        ours.made.config("client")?,
        ours.made.client(ours.tls_port)?,
    );
    drop(old_client);
    let made = Certificates::new()?;
    for file in ["ca.crt", "server.crt", "server.key"] {
        std::fs::copy(made.path(file), ours.made.path(file))?;
    }
    // Not before it is asked for.
    Client::connect_tls(ours.tls_port, old_ca.clone())?.ok("PING")?;
    let cert = ours.made.path("server.crt").display().to_string();
    ours.plain.ok(&format!("CONFIG SET tls-cert-file {cert}"))?;
    ensure!(Client::connect_tls(ours.tls_port, old_ca).is_err());
    made.client(ours.tls_port)?.ok("PING")?;
    before.ok("PING")?;
    // What is wrong changes nothing.
    std::fs::write(&cert, "nothing")?;
    let text = refused(&mut ours.plain, &["tls-cert-file", &cert])?;
    assert_eq!(
        text,
        "ERR CONFIG SET failed (possibly related to argument 'tls-cert-file') - Unable to update TLS \
         configuration. Check server logs."
    );
    ensure!(ours.server.log_text().contains("no certificate in PEM"));
    let text = refused(&mut ours.plain, &["tls-protocols", "TLSv1.9"])?;
    ensure!(text.ends_with("Check server logs."), "{text}");
    made.client(ours.tls_port)?.ok("PING")?;
    // Both files of another pair at once, and only so.
    let (cert, key) = (made.path("redis.crt"), made.path("redis.key"));
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    refused(&mut ours.plain, &["tls-cert-file", &cert])?;
    let pair = [
        "CONFIG",
        "SET",
        "tls-cert-file",
        &cert,
        "tls-key-file",
        &key,
    ];
    assert_eq!(ours.plain.run(&pair)?.text(), "OK");
    made.client(ours.tls_port)?.ok("PING")?;
    Ok(())
}

#[test]
fn protocols_and_ciphers_are_those_that_are_set() -> anyhow::Result<()> {
    let mut ours = Listening::start(&[])?;
    let speaks = |ours: &Listening, version: &str| -> anyhow::Result<bool> {
        let config = ours.made.config_with("client", Some(version))?;
        Ok(Client::connect_tls(ours.tls_port, config).is_ok())
    };
    for (set, old, new) in [
        ("TLSv1.2", true, false),
        ("TLSv1.3", false, true),
        ("TLSv1.1 TLSv1.2 TLSv1.3", true, true),
        ("", true, true),
    ] {
        assert_eq!(
            ours.plain
                .run(&["CONFIG", "SET", "tls-protocols", set])?
                .text(),
            "OK"
        );
        let found = (speaks(&ours, "TLSv1.2")?, speaks(&ours, "TLSv1.3")?);
        assert_eq!(found, (old, new), "{set}");
    }
    ensure!(
        ours.server
            .log_text()
            .contains("TLSv1.1 is not supported and left out")
    );
    let ecdsa = "ECDHE-ECDSA-AES128-GCM-SHA256";
    let words = [
        "CONFIG",
        "SET",
        "tls-ciphers",
        ecdsa,
        "tls-protocols",
        "TLSv1.2",
    ];
    assert_eq!(ours.plain.run(&words)?.text(), "OK");
    ensure!(!speaks(&ours, "TLSv1.2")?, "the key is one of RSA");
    ours.plain.ok("CONFIG SET tls-ciphers DEFAULT:-AES128")?;
    ensure!(speaks(&ours, "TLSv1.2")?);
    for words in [
        ["tls-ciphers", "AES128-SHA256"],
        ["tls-dh-params-file", "x"],
    ] {
        let known = words[0] == "tls-ciphers";
        let result = ours.plain.run(&[&["CONFIG", "SET"], &words[..]].concat())?;
        assert_eq!(
            matches!(result, Reply::Error(_)),
            known,
            "{words:?} {result:?}"
        );
    }
    Ok(())
}

#[test]
fn the_port_moves_comes_and_goes_at_run_time() -> anyhow::Result<()> {
    let mut ours = Listening::start(&[])?;
    let mut before = ours.client()?;
    let (next, taken) = (free_port()?, std::net::TcpListener::bind("127.0.0.1:0")?);
    ours.plain.ok(&format!("CONFIG SET tls-port {next}"))?;
    ours.made.client(next)?.ok("PING")?;
    ensure!(ours.client().is_err());
    before.ok("PING")?;
    let port = taken.local_addr()?.port().to_string();
    let text = refused(&mut ours.plain, &["tls-port", &port])?;
    ensure!(
        text.ends_with("Unable to listen on this port. Check server logs."),
        "{text}"
    );
    ours.made.client(next)?.ok("PING")?;
    ours.plain.ok("CONFIG SET tls-port 0")?;
    ensure!(ours.made.client(next).is_err());
    // The ports change places.
    ours.plain.ok(&format!("CONFIG SET tls-port {next}"))?;
    let (port, tls_port) = (next.to_string(), ours.server.port.to_string());
    let words = ["CONFIG", "SET", "port", &port, "tls-port", &tls_port];
    assert_eq!(ours.plain.run(&words)?.text(), "OK");
    Client::connect(next)?.ok("PING")?;
    ours.made.client(ours.server.port)?.ok("PING")?;
    // And only the one with TLS stays.
    ours.plain.ok("CONFIG SET port 0")?;
    ensure!(Client::connect(next).is_err());
    let mut client = ours.made.client(ours.server.port)?;
    assert_eq!(info(&mut client, "server", "tcp_port")?, tls_port);
    Ok(())
}

#[test]
fn a_server_may_listen_with_tls_alone_and_begin_with_it_later() -> anyhow::Result<()> {
    let made = Certificates::new()?;
    let folder = tempfile::tempdir()?;
    let (tls_port, words) = made.listening("server")?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let alone = [&words[..], &["--port", "0"]].concat();
    let mut server = Server::spawn(Kind::RedRock, folder.path(), &alone)?;
    until("it answers", || {
        ensure!(server.ended()?.is_none(), "{}", server.log_text());
        let pong = made
            .client(tls_port)
            .and_then(|mut client| client.ok("PING"));
        Ok(pong.is_ok())
    })?;
    let text = server.log_text();
    ensure!(
        text.contains(&format!("Ready to accept connections tls, port {tls_port}")),
        "{text}"
    );
    // It says nothing any more.
    let _closed = made.client(tls_port)?.ok("SHUTDOWN");
    server.wait_exit()?;

    let folder = tempfile::tempdir()?;
    let server = Server::start(Kind::RedRock, folder.path(), &[])?;
    let mut plain = server.client()?;
    let port = free_port()?;
    let text = refused(&mut plain, &["tls-port", &port.to_string()])?;
    ensure!(
        text.ends_with("Unable to update TLS configuration. Check server logs."),
        "{text}"
    );
    let words = made.options("server");
    let mut set = vec!["CONFIG".to_owned(), "SET".to_owned()];
    set.extend(
        words
            .iter()
            .map(|word| word.trim_start_matches("--").to_owned()),
    );
    set.extend(["tls-port".to_owned(), port.to_string()]);
    assert_eq!(plain.run(&set)?.text(), "OK");
    made.client(port).context("the new port")?.ok("PING")?;
    Ok(())
}
