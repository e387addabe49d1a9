//! TLS as Redis's `tls-*` options ask for it, on rustls: what server and agent share.
//!
//! Files and option texts come in, rustls configurations go out; no sockets and no runtime. What
//! rustls can't do is refused with the option's name, or passed over with a notice (ADR 18).
//!
//! What must hold:
//! - a peer's chain is verified as Redis does with OpenSSL's defaults: up to a certificate of
//!   `tls-ca-cert-file` or `tls-ca-cert-dir`, by time and purpose, and **without looking at host names**;
//! - nothing that a peer sends makes this panic, and no file is read beyond a bound.

mod ciphers;
mod configs;
mod error;
mod files;
mod keys;
mod plain_chain;
mod protocols;
mod sessions;
mod verify;

pub use configs::{Built, client_config, server_config};
pub use error::TlsError;

use std::path::{Path, PathBuf};

/// `tls-auth-clients`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthClients {
    /// No certificate is asked for.
    No,
    /// A client without a valid certificate is refused.
    #[default]
    Yes,
    /// A client may have none; one that it has must be valid.
    Optional,
}

/// The `tls-*` options that make up a context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `tls-cert-file`: the certificate and those between it and its root.
    pub cert_file: Option<PathBuf>,
    /// `tls-key-file`
    pub key_file: Option<PathBuf>,
    /// `tls-key-file-pass`
    pub key_file_pass: Option<String>,
    /// `tls-client-cert-file`: what we show as a client; else that of the server.
    pub client_cert_file: Option<PathBuf>,
    /// `tls-client-key-file`
    pub client_key_file: Option<PathBuf>,
    /// `tls-client-key-file-pass`
    pub client_key_file_pass: Option<String>,
    /// `tls-ca-cert-file`
    pub ca_cert_file: Option<PathBuf>,
    /// `tls-ca-cert-dir`: certificates in files named by the hash of their subject.
    pub ca_cert_dir: Option<PathBuf>,
    /// `tls-auth-clients`
    pub auth_clients: AuthClients,
    /// `tls-protocols`; else TLSv1.2 and TLSv1.3.
    pub protocols: Option<String>,
    /// `tls-ciphers`, for TLSv1.2.
    pub ciphers: Option<String>,
    /// `tls-ciphersuites`, for TLSv1.3.
    pub cipher_suites: Option<String>,
    /// `tls-prefer-server-ciphers`
    pub prefer_server_ciphers: bool,
    /// `tls-session-caching`
    pub session_caching: bool,
    /// `tls-session-cache-size`, sessions; 0: as many as the bound of bytes allows.
    pub session_cache_size: usize,
    /// `tls-session-cache-timeout`, seconds.
    pub session_cache_timeout_s: u64,
}

impl Options {
    /// The same with paths that begin in `dir` unless they are absolute.
    pub fn within(mut self, dir: &Path) -> Self {
        let paths = [
            &mut self.cert_file,
            &mut self.key_file,
            &mut self.client_cert_file,
            &mut self.client_key_file,
            &mut self.ca_cert_file,
            &mut self.ca_cert_dir,
        ];
        for path in paths.into_iter().flatten() {
            *path = dir.join(&*path);
        }
        self
    }
}
