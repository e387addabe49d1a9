//! Why the options make no context. Texts name option and file, and what to do.

use std::io;
use std::path::PathBuf;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// An option that is needed is not set.
    #[error("No {0} configured!")]
    NotSet(&'static str),
    /// Nobody could be verified.
    #[error(
        "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster, \
         tls-replication or tls-auth-clients are enabled!"
    )]
    NoCa,
    /// A file or directory can't be read.
    #[error("Failed to read {option} '{}': {error}", path.display())]
    Unreadable {
        /// The option that names it.
        option: &'static str,
        /// What it names.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What a file holds is of no use.
    #[error("Failed to load {option} '{}': {why}", path.display())]
    Unusable {
        /// The option that names it.
        option: &'static str,
        /// What it names.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Key and certificate are of two pairs.
    #[error("the key of {key_option} is not that of the certificate in {cert_option}")]
    Mismatch {
        /// The option of the key.
        key_option: &'static str,
        /// The option of the certificate.
        cert_option: &'static str,
    },
    /// `tls-protocols`
    #[error(
        "Invalid tls-protocols specified. Use a combination of 'TLSv1.2' and 'TLSv1.3'{}",
        if *.only_old { ": this server speaks no older ones." } else { "." }
    )]
    Protocols {
        /// All that was named is older than TLSv1.2.
        only_old: bool,
    },
    /// `tls-ciphers` or `tls-ciphersuites`
    #[error("Failed to configure {option} '{value}': {why}")]
    Ciphers {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// Why.
        why: String,
    },
    /// rustls refuses the combination.
    #[error("Failed to configure TLS: {0}")]
    Library(#[from] rustls::Error),
}
