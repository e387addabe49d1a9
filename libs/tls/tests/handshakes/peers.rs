//! Two sides that shake hands in memory.

use super::certificates::Certificates;
use redrock_tls::{Options, client_config, server_config};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection,
    SignatureScheme,
};
use std::io::{Read as _, Write as _};
use std::sync::Arc;

/// How a handshake went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) version: ProtocolVersion,
    pub(crate) cipher: String,
    pub(crate) kind: HandshakeKind,
}

/// Certificate and key of this name, and `ca` to trust.
pub(crate) fn options(made: &Certificates, name: &str) -> Options {
    Options {
        cert_file: Some(made.crt(name)),
        key_file: Some(made.key(name)),
        ca_cert_file: Some(made.crt("ca")),
        ..Options::default()
    }
}

#[derive(Debug)]
struct Nothing;

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A client that has no certificate to show.
pub(crate) fn without_certificate(options: &Options) -> Arc<ClientConfig> {
    let mut config = (*client_config(options).unwrap().config).clone();
    config.client_auth_cert_resolver = Arc::new(Nothing);
    Arc::new(config)
}

/// A handshake and a few words both ways; the error is what the first who refused says.
pub(crate) fn shake(server: &Options, client: &Options) -> Result<Outcome, String> {
    shake_with(server, client_config(client).unwrap().config)
}

pub(crate) fn shake_with(server: &Options, client: Arc<ClientConfig>) -> Result<Outcome, String> {
    shake_configs(server_config(server).unwrap().config, client)
}

pub(crate) fn shake_configs(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> Result<Outcome, String> {
    let name = ServerName::try_from("any.example").unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    client.writer().write_all(b"ping").unwrap();
    server.writer().write_all(b"pong").unwrap();
    let mut said = (Vec::new(), Vec::new());
    while said.0.len() < 4 || said.1.len() < 4 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        let mut moved = rest.len();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server
                .process_new_packets()
                .map_err(|e| format!("server: {e:?}"))?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        moved += rest.len();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client
                .process_new_packets()
                .map_err(|e| format!("client: {e:?}"))?;
        }
        let mut chunk = [0; 16];
        if let Ok(count) = server.reader().read(&mut chunk) {
            said.0.extend_from_slice(&chunk[..count]);
        }
        if let Ok(count) = client.reader().read(&mut chunk) {
            said.1.extend_from_slice(&chunk[..count]);
        }
        assert!(moved > 0, "nobody says anything any more");
    }
    assert_eq!(
        (said.0.as_slice(), said.1.as_slice()),
        (&b"ping"[..], &b"pong"[..])
    );
    let cipher = server.negotiated_cipher_suite().unwrap();
    Ok(Outcome {
        version: server.protocol_version().unwrap(),
        cipher: format!("{:?}", cipher.suite()),
        kind: client.handshake_kind().unwrap(),
    })
}
