//! Private keys: PKCS#8, encrypted or not, and the older forms for RSA and EC, all in PEM.

use super::{TlsError, files};
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::path::Path;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED_END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
/// The header of a key that is encrypted in the older way.
const LEGACY: &str = "Proc-Type: 4,ENCRYPTED";

/// The options of a pair, for errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    pub(crate) cert: &'static str,
    pub(crate) key: &'static str,
    pub(crate) pass: &'static str,
}

/// Loads a certificate, those above it, and its key.
pub(crate) fn pair(
    names: Names,
    cert_file: &Path,
    key_file: &Path,
    pass: Option<&str>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = files::certificates(names.cert, cert_file)?;
    let unusable = |why: String| TlsError::Unusable {
        option: names.key,
        path: key_file.to_owned(),
        why,
    };
    let bytes = files::read(names.key, key_file)?;
    let key = parse(&bytes, pass, names.pass).map_err(unusable)?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| unusable(error.to_string()))?;
    let of_cert = chain.first().and_then(public_key);
    let of_cert = of_cert.ok_or_else(|| TlsError::Unusable {
        option: names.cert,
        path: cert_file.to_owned(),
        why: "its first certificate is malformed".to_owned(),
    })?;
    // rustls would look itself, but takes no certificate of version 1.
    if key.public_key().is_some_and(|key| key.as_ref() != of_cert) {
        return Err(TlsError::Mismatch {
            key_option: names.key,
            cert_option: names.cert,
        });
    }
    Ok(CertifiedKey::new(chain, key))
}

/// The public key of a certificate, as a `SubjectPublicKeyInfo`.
fn public_key(cert: &CertificateDer<'static>) -> Option<Vec<u8>> {
    let cert = Certificate::from_der(cert).ok()?;
    let key = cert.tbs_certificate().subject_public_key_info();
    key.to_der().ok()
}

fn parse(
    bytes: &[u8],
    pass: Option<&str>,
    pass_option: &str,
) -> Result<PrivateKeyDer<'static>, String> {
    let text = String::from_utf8_lossy(bytes);
    if let Some(pem) = encrypted_part(&text) {
        let pass = pass.ok_or_else(|| format!("it is encrypted, set {pass_option}"))?;
        return decrypt(pem, pass, pass_option);
    }
    if text.contains(LEGACY) {
        return Err(
            "it is encrypted in an old way that is not supported, convert it with `openssl pkcs8 \
             -topk8`"
                .to_owned(),
        );
    }
    PrivateKeyDer::from_pem_slice(bytes)
        .map_err(|error| format!("no private key in PEM is in it ({error})"))
}

fn encrypted_part(text: &str) -> Option<&str> {
    let from = text.find(ENCRYPTED)?;
    let rest = text.get(from..)?;
    let end = rest.find(ENCRYPTED_END)? + ENCRYPTED_END.len();
    rest.get(..end)
}

fn decrypt(pem: &str, pass: &str, pass_option: &str) -> Result<PrivateKeyDer<'static>, String> {
    let malformed = "its encryption is of a kind that is not supported, use PBES2 with AES as \
                     `openssl pkcs8 -topk8` does";
    let (_label, document) =
        SecretDocument::from_pem(pem).map_err(|error| format!("it is malformed: {error}"))?;
    let sealed = EncryptedPrivateKeyInfoRef::from_der(document.as_bytes())
        .map_err(|_| malformed.to_owned())?;
    let key = sealed
        .decrypt(pass)
        .map_err(|_| format!("it can't be decrypted: {pass_option} is wrong, or {malformed}"))?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}
