//! Certificates that the `openssl` program makes when tests run, and clients that show them.

use crate::process::free_port;
use crate::resp::Client;
use anyhow::{Context as _, ensure};
use redrock_tls::{Options, client_config};
use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A root `ca`, and of it: `server` and `client` (version 3), `redis` (version 1, as Redis's own
/// script makes it) and `expired`; `stranger` of another root, `other`.
#[derive(Debug)]
pub struct Certificates {
    dir: tempfile::TempDir,
}

/// Purposes of a certificate of version 3.
const LEAF: &str = "keyUsage=digitalSignature,keyEncipherment\nbasicConstraints=CA:FALSE\n";

#[derive(Debug)]
struct Nothing;

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

impl Certificates {
    /// Makes them all.
    pub fn new() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let made = Self { dir };
        std::fs::write(made.dir.path().join("leaf"), LEAF)?;
        for root in ["ca", "other"] {
            made.openssl(&format!(
                "req -x509 -newkey rsa:2048 -nodes -keyout {root}.key -sha256 -days 10 -subj \
                 /O=Test/CN={root} -out {root}.crt"
            ))?;
        }
        for (name, root, version) in [
            ("server", "ca", 3),
            ("client", "ca", 3),
            ("redis", "ca", 1),
            ("stranger", "other", 3),
        ] {
            made.issue(name, root, version)?;
        }
        made.issue_expired("expired")?;
        Ok(made)
    }

    /// The path of `NAME.crt` or `NAME.key`.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn openssl(&self, words: &str) -> anyhow::Result<()> {
        let mut command = Command::new("openssl");
        let command = command.args(words.split_whitespace());
        let output = command.current_dir(self.dir.path()).output();
        let output = output.context("run openssl: scripts/install-deps.sh test installs it")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl {words}: {told}");
        Ok(())
    }

    fn request(&self, name: &str) -> anyhow::Result<()> {
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -keyout {name}.key -subj /O=Test/CN={name} -out {name}.csr"
        ))
    }

    /// Makes a certificate of this name anew.
    pub fn issue(&self, name: &str, root: &str, version: u32) -> anyhow::Result<()> {
        self.request(name)?;
        let extensions = if version == 3 { "-extfile leaf" } else { "" };
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {root}.crt -CAkey {root}.key -CAcreateserial -sha256 -days \
             10 {extensions} -out {name}.crt"
        ))
    }

    /// One whose time was the first of 2020.
    fn issue_expired(&self, name: &str) -> anyhow::Result<()> {
        self.request(name)?;
        let config = "[ca]\ndefault_ca=own\n[own]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\n\
                      default_md=sha256\npolicy=any\n[any]\norganizationName=optional\n\
                      commonName=supplied\n";
        std::fs::write(self.path("authority"), config)?;
        std::fs::write(self.path("index"), "")?;
        self.openssl(&format!(
            "ca -batch -config authority -in {name}.csr -cert ca.crt -keyfile ca.key -startdate \
             20200101000000Z -enddate 20200102000000Z -notext -extfile leaf -out {name}.crt"
        ))
    }

    /// What a client that has the certificate of this name connects with; `ca` is trusted.
    pub fn config(&self, name: &str) -> anyhow::Result<Arc<ClientConfig>> {
        self.config_with(name, None)
    }

    /// The same, speaking only these protocols.
    pub fn config_with(
        &self,
        name: &str,
        protocols: Option<&str>,
    ) -> anyhow::Result<Arc<ClientConfig>> {
        let options = Options {
            cert_file: Some(self.path(&format!("{name}.crt"))),
            key_file: Some(self.path(&format!("{name}.key"))),
            ca_cert_file: Some(self.path("ca.crt")),
            protocols: protocols.map(str::to_owned),
            ..Options::default()
        };
        Ok(client_config(&options)?.config)
    }

    /// What a client without any certificate connects with.
    pub fn config_of_nobody(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let mut config = (*self.config("client")?).clone();
        config.client_auth_cert_resolver = Arc::new(Nothing);
        Ok(Arc::new(config))
    }

    /// A client with the certificate `client`.
    pub fn client(&self, port: u16) -> anyhow::Result<Client> {
        Client::connect_tls(port, self.config("client")?)
    }

    /// Options of a server with the certificate of this name.
    pub fn options(&self, name: &str) -> Vec<String> {
        let file = |file: String| self.path(&file).display().to_string();
        vec![
            "--tls-cert-file".into(),
            file(format!("{name}.crt")),
            "--tls-key-file".into(),
            file(format!("{name}.key")),
            "--tls-ca-cert-file".into(),
            file("ca.crt".into()),
        ]
    }

    /// The same with a free port for TLS, which is returned too.
    pub fn listening(&self, name: &str) -> anyhow::Result<(u16, Vec<String>)> {
        let port = free_port()?;
        let mut options = self.options(name);
        options.extend(["--tls-port".into(), port.to_string()]);
        Ok((port, options))
    }

    /// Words for `redis-cli` and `redis-benchmark`.
    pub fn words(&self, name: &str, port: u16) -> Vec<String> {
        let file = |file: String| self.path(&file).display().to_string();
        let mut words = vec!["-p".into(), port.to_string(), "--tls".into()];
        for (word, kind) in [("--cert", "crt"), ("--key", "key")] {
            words.extend([word.into(), file(format!("{name}.{kind}"))]);
        }
        words.extend(["--cacert".into(), file("ca.crt".into())]);
        words
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}
