//! TLS: clients, refusals, CONFIG SET, and links between servers, ours and a real Redis.
//!
//! Certificates are made by the `openssl` program when a test begins.

mod clients;
mod contexts;
mod links;
mod refusals;

use redrock_integration_tests::certificates::Certificates;
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::Client;

/// A server that listens with TLS too.
struct Listening {
    server: Server,
    tls_port: u16,
    /// Without TLS.
    plain: Client,
    made: Certificates,
    _folder: tempfile::TempDir,
}

impl Listening {
    fn start(options: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(Certificates::new()?, "server", options)
    }

    fn start_with(made: Certificates, name: &str, options: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (tls_port, words) = made.listening(name)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let all = [&words[..], options].concat();
        let server = Server::start(Kind::RedRock, folder.path(), &all)?;
        let plain = server.client()?;
        Ok(Self {
            server,
            tls_port,
            plain,
            made,
            _folder: folder,
        })
    }

    fn client(&self) -> anyhow::Result<Client> {
        self.made.client(self.tls_port)
    }
}
