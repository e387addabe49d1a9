//! From options to the configurations of either side.

use super::keys::{self, Names};
use super::protocols::{self, Protocols};
use super::sessions::SessionCache;
use super::verify::Verifier;
use super::{AuthClients, Options, TlsError, ciphers, files};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;
use std::time::Duration;

const OF_SERVER: Names = Names {
    cert: "tls-cert-file",
    key: "tls-key-file",
    pass: "tls-key-file-pass",
};
const OF_CLIENT: Names = Names {
    cert: "tls-client-cert-file",
    key: "tls-client-key-file",
    pass: "tls-client-key-file-pass",
};

/// A configuration, and what to log of how it came about.
#[derive(Debug)]
pub struct Built<C> {
    /// The configuration.
    pub config: Arc<C>,
    /// Parts of the options that were passed over.
    pub notices: Vec<String>,
}

/// Where we are the server. Reads all files anew.
pub fn server_config(options: &Options) -> Result<Built<ServerConfig>, TlsError> {
    let mut notices = Vec::new();
    let (protocols, provider) = provider(options, &mut notices)?;
    let pair = server_pair(options, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&protocols.versions())?;
    let builder = match options.auth_clients {
        AuthClients::No => builder.with_no_client_auth(),
        asked => {
            let is_mandatory = asked == AuthClients::Yes;
            let verifier = verifier(options, &provider, is_mandatory, &mut notices)?;
            builder.with_client_cert_verifier(Arc::new(verifier))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.ignore_client_order = options.prefer_server_ciphers;
    if options.session_caching {
        let age_max = Duration::from_secs(options.session_cache_timeout_s);
        let cache = SessionCache::new(options.session_cache_size, age_max);
        config.session_storage = Arc::new(cache);
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    let config = Arc::new(config);
    Ok(Built { config, notices })
}

/// Where we are the client: links to a master. Reads all files anew.
pub fn client_config(options: &Options) -> Result<Built<ClientConfig>, TlsError> {
    let mut notices = Vec::new();
    let (protocols, provider) = provider(options, &mut notices)?;
    let pair = client_pair(options, &provider)?;
    let verifier = verifier(options, &provider, true, &mut notices)?;
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&protocols.versions())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.enable_sni = false;
    // A link lasts: nothing is gained by remembering the one before.
    config.resumption = Resumption::disabled();
    let config = Arc::new(config);
    Ok(Built { config, notices })
}

fn provider(
    options: &Options,
    notices: &mut Vec<String>,
) -> Result<(Protocols, Arc<CryptoProvider>), TlsError> {
    let protocols = protocols::parse(options.protocols.as_deref(), notices)?;
    let cipher_suites = ciphers::choose(
        protocols,
        options.ciphers.as_deref(),
        options.cipher_suites.as_deref(),
        notices,
    )?;
    let provider = CryptoProvider {
        cipher_suites,
        ..ring::default_provider()
    };
    Ok((protocols, Arc::new(provider)))
}

fn server_pair(options: &Options, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let cert = options.cert_file.as_deref();
    let key = options.key_file.as_deref();
    let cert = cert.ok_or(TlsError::NotSet(OF_SERVER.cert))?;
    let key = key.ok_or(TlsError::NotSet(OF_SERVER.key))?;
    let pass = options.key_file_pass.as_deref();
    keys::pair(OF_SERVER, cert, key, pass, provider)
}

/// That of the server, unless there is one for us as a client.
fn client_pair(options: &Options, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let Some(cert) = &options.client_cert_file else {
        return server_pair(options, provider);
    };
    let key = options.client_key_file.as_deref();
    let key = key.ok_or(TlsError::NotSet(OF_CLIENT.key))?;
    let pass = options.client_key_file_pass.as_deref();
    keys::pair(OF_CLIENT, cert, key, pass, provider)
}

fn verifier(
    options: &Options,
    provider: &CryptoProvider,
    is_mandatory: bool,
    notices: &mut Vec<String>,
) -> Result<Verifier, TlsError> {
    const FILE: &str = "tls-ca-cert-file";
    const DIR: &str = "tls-ca-cert-dir";
    let mut trusted: Vec<CertificateDer<'static>> = Vec::new();
    if let Some(path) = &options.ca_cert_file {
        trusted.extend(files::certificates(FILE, path)?);
    }
    if let Some(path) = &options.ca_cert_dir {
        trusted.extend(files::directory(DIR, path, notices)?);
    }
    let of_file = options.ca_cert_file.as_ref().map(|path| (FILE, path));
    let of_dir = options.ca_cert_dir.as_ref().map(|path| (DIR, path));
    let Some((option, path)) = of_file.or(of_dir) else {
        return Err(TlsError::NoCa);
    };
    let algorithms = provider.signature_verification_algorithms;
    Verifier::new(trusted, algorithms, is_mandatory).map_err(|error| TlsError::Unusable {
        option,
        path: path.clone(),
        why: format!("a certificate in it is malformed: {error:?}"),
    })
}
