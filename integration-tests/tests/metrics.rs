//! The server's figures, scraped and pushed.

use redrock_integration_tests::daemons::until;
use redrock_integration_tests::process::{Kind, Server, free_port};
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

fn page(port: u16, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn figures_are_scraped_and_pushed_where_the_configuration_says() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let text = port.to_string();
    let tiered = ["--maxmemory", "128mb", "--enable-rocksdb-feature", "yes"];
    let options = ["--companions", "external", "--metrics-port", &text];
    let server = Server::start(
        Kind::RedRock,
        folder.path(),
        &[&tiered[..], &options].concat(),
    )?;
    let mut client = server.client()?;
    client.ok("SET a 1")?;
    client.ok("GET a")?;
    client.ok("GET b")?;
    let metrics = page(port, "/metrics")?;
    for line in [
        "redrock_keys 1",
        "redrock_keyspace_hits_total 1",
        "redrock_keyspace_misses_total 1",
        "redrock_connected_clients 1",
        "redrock_tier_state 0",
        "redrock_memory_max_bytes 134217728",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}: {metrics}"
        );
    }
    for path in ["/healthz", "/readyz"] {
        let text = page(port, path)?;
        assert!(
            text.starts_with("HTTP/1.1 200") && text.ends_with("ok\n"),
            "{text}"
        );
    }

    let listener = UdpSocket::bind("127.0.0.1:0")?;
    listener.set_read_timeout(Some(Duration::from_millis(200)))?;
    let target = listener.local_addr()?;
    let refused = client.run(&["CONFIG", "SET", "statsd", "nowhere"])?;
    assert!(format!("{refused:?}").contains("host:port"), "{refused:?}");
    // A host that is not there holds nothing up, and is told once.
    client.ok("CONFIG SET statsd no-such-host.invalid:8125")?;
    until("a told failure", || {
        Ok(server.log_text().contains("statsd can't be reached"))
    })?;
    client.ok(&format!("CONFIG SET statsd {target}:mine"))?;
    let mut buffer = [0; 4096];
    let mut seen = String::new();
    until("gauges and counters", || {
        client.ok("GET a")?;
        if let Ok(length) = listener.recv(&mut buffer) {
            assert!(length <= 1432, "{length}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        Ok(seen.contains("mine.keys:1|g") && seen.contains("mine.keyspace_hits:"))
    })?;
    assert!(seen.lines().all(|line| line.starts_with("mine.")), "{seen}");
    assert_eq!(
        server.log_text().matches("statsd can't be reached").count(),
        1
    );
    Ok(())
}
