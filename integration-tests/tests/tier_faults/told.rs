//! What is told of the tier to those who watch the server.

use redrock_integration_tests::daemons::until;
use redrock_proto::client::{Timeouts, connect};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// What `grpc.health.v1` says of the tier, and of the server as a whole.
fn by_grpc(folder: &Path) -> anyhow::Result<[ServingStatus; 2]> {
    let socket = folder.join("run").join("server.sock");
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let channel = connect(socket, Timeouts::default()).await?;
        let mut client = HealthClient::new(channel);
        let mut found = [ServingStatus::Unknown; 2];
        for (service, found) in ["redrock.tier", ""].into_iter().zip(&mut found) {
            let service = service.to_owned();
            let reply = client.check(HealthCheckRequest { service }).await?;
            *found = reply.into_inner().status();
        }
        Ok(found)
    })
}

/// What `/healthz` and `/readyz` say, which must be 200.
fn by_http(port: u16) -> anyhow::Result<[String; 2]> {
    let mut found = [String::new(), String::new()];
    for (path, found) in ["/healthz", "/readyz"].into_iter().zip(&mut found) {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        anyhow::ensure!(text.starts_with("HTTP/1.1 200"), "{path}: {text}");
        text.lines().last().unwrap_or_default().clone_into(found);
    }
    Ok(found)
}

/// Waits until all is told to be well, by both at once: what one is told may be a moment older.
pub(crate) fn wait_served(folder: &Path, port: u16) -> anyhow::Result<()> {
    until("a tier that is served", || {
        // The socket comes a little after the port.
        let served = by_grpc(folder).is_ok_and(|told| told == [ServingStatus::Serving; 2]);
        Ok(served && by_http(port)? == ["ok", "ok"])
    })
}

/// Waits until a tier that is served is told to be as `wanted` begins.
pub(crate) fn wait_told(folder: &Path, port: u16, wanted: &str) -> anyhow::Result<()> {
    until("the words on the tier", || {
        let told = by_http(port)?;
        let worded = told.iter().all(|told| told.starts_with(wanted));
        Ok(worded && by_grpc(folder)? == [ServingStatus::Serving; 2])
    })
}

/// Waits until a tier in trouble is told, which is no reason to send clients elsewhere.
pub(crate) fn wait_not_served(folder: &Path, port: u16) -> anyhow::Result<()> {
    until("a tier that is not served", || {
        let told = by_http(port)?;
        let worded = told
            .iter()
            .all(|told| told.starts_with("ok, but the tier is "));
        Ok(worded && by_grpc(folder)? == [ServingStatus::NotServing, ServingStatus::Serving])
    })
}
