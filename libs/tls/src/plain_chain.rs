//! Certificates that OpenSSL takes and webpki does not: of version 1, such as Redis's own script for
//! test certificates makes with OpenSSL 3.0, and those that are an authority's too, such as one
//! that is its own root.
//!
//! They are taken if a trusted certificate **directly** stands behind them: it is the very same one, or
//! it is an authority's that has signed them.

use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::Error;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier};
use x509_cert::der::{Decode as _, Encode as _, Reader as _, SliceReader};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::{Certificate, TbsCertificate, Version};

const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
/// Extensions that may be critical: each is looked at here, or says nothing of what is asked
/// (subject alternative names).
const UNDERSTOOD: [ObjectIdentifier; 4] = [
    ObjectIdentifier::new_unwrap("2.5.29.15"),
    ObjectIdentifier::new_unwrap("2.5.29.17"),
    ObjectIdentifier::new_unwrap("2.5.29.19"),
    ObjectIdentifier::new_unwrap("2.5.29.37"),
];

/// What a peer's certificate is to be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Server,
    Client,
}

/// A trusted certificate.
#[derive(Debug)]
pub(crate) struct Trusted {
    der: CertificateDer<'static>,
    cert: Certificate,
}

impl Trusted {
    pub(crate) fn new(der: CertificateDer<'static>) -> Result<Self, Error> {
        let cert = Certificate::from_der(&der).map_err(|_| Error::BadDer)?;
        Ok(Self { der, cert })
    }

    pub(crate) fn is_valid_at(&self, now: UnixTime) -> bool {
        check_time(self.cert.tbs_certificate(), now).is_ok()
    }

    /// Whether it may sign others.
    fn is_authority(&self) -> bool {
        let tbs = self.cert.tbs_certificate();
        let may_sign = match tbs.get_extension::<KeyUsage>() {
            Ok(usage) => usage.is_none_or(|(_, usage)| usage.key_cert_sign()),
            Err(_) => false,
        };
        let is_ca = match tbs.get_extension::<BasicConstraints>() {
            Ok(Some((_, constraints))) => constraints.ca,
            // As OpenSSL: there was no way to say it.
            Ok(None) => tbs.version() == Version::V1 && tbs.issuer() == tbs.subject(),
            Err(_) => false,
        };
        may_sign && is_ca
    }
}

/// Whether `der` may stand for a peer, as the module says.
pub(crate) fn check<'t>(
    der: &CertificateDer<'_>,
    trusted: impl Iterator<Item = &'t Trusted> + Clone,
    algorithms: &WebPkiSupportedAlgorithms,
    now: UnixTime,
    purpose: Purpose,
) -> Result<(), Error> {
    let cert = Certificate::from_der(der).map_err(|_| Error::BadDer)?;
    let tbs = cert.tbs_certificate();
    check_time(tbs, now)?;
    check_extensions(tbs, purpose)?;
    let valid = trusted.filter(|trusted| trusted.is_valid_at(now));
    if valid.clone().any(|trusted| trusted.der == *der) {
        return Ok(());
    }
    let mut issuers = valid.filter(|trusted| {
        trusted.cert.tbs_certificate().subject() == tbs.issuer() && trusted.is_authority()
    });
    let is_signed = issuers.any(|issuer| {
        let key = issuer.cert.tbs_certificate().subject_public_key_info();
        is_signed_with(&cert, der, key, algorithms)
    });
    match is_signed {
        true => Ok(()),
        false => Err(Error::UnknownIssuer),
    }
}

fn check_time(tbs: &TbsCertificate, now: UnixTime) -> Result<(), Error> {
    let validity = tbs.validity();
    let (from, until) = (
        validity.not_before.to_unix_duration().as_secs(),
        validity.not_after.to_unix_duration().as_secs(),
    );
    if now.as_secs() < from {
        return Err(Error::CertNotValidYet {
            time: now,
            not_before: seconds(from),
        });
    }
    if now.as_secs() > until {
        return Err(Error::CertExpired {
            time: now,
            not_after: seconds(until),
        });
    }
    Ok(())
}

fn seconds(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

fn check_extensions(tbs: &TbsCertificate, purpose: Purpose) -> Result<(), Error> {
    let extensions = tbs.extensions().map(Vec::as_slice).unwrap_or_default();
    let is_understood = |id| UNDERSTOOD.contains(id);
    if extensions
        .iter()
        .any(|e| e.critical && !is_understood(&e.extn_id))
    {
        return Err(Error::UnsupportedCriticalExtension);
    }
    let usage = tbs.get_extension::<KeyUsage>().map_err(|_| Error::BadDer)?;
    if usage.is_some_and(|(_, usage)| !usage.digital_signature() && !usage.key_agreement()) {
        return Err(Error::UnknownIssuer);
    }
    let purposes = tbs.get_extension::<ExtendedKeyUsage>();
    let Some((_, purposes)) = purposes.map_err(|_| Error::BadDer)? else {
        return Ok(());
    };
    let wanted = match purpose {
        Purpose::Server => SERVER_AUTH,
        Purpose::Client => CLIENT_AUTH,
    };
    match purposes.0.contains(&wanted) || purposes.0.contains(&ANY_USAGE) {
        true => Ok(()),
        false => Err(Error::UnknownIssuer),
    }
}

/// Whether the certificate's signature was made with `key`'s other half.
fn is_signed_with(
    cert: &Certificate,
    der: &CertificateDer<'_>,
    key: &SubjectPublicKeyInfoOwned,
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let named = cert.signature_algorithm();
    let (Some(signed), Some(algorithm)) = (signed_part(der), contents(named)) else {
        return false;
    };
    // What is signed names the algorithm too.
    if cert.tbs_certificate().signature() != named {
        return false;
    }
    let Some(signature) = cert.signature().as_bytes() else {
        return false;
    };
    let fits = |known: &&&dyn SignatureVerificationAlgorithm| {
        known.signature_alg_id().as_ref() == algorithm
    };
    algorithms
        .all
        .iter()
        .filter(fits)
        .any(|known| is_made_with(*known, key, signed, signature))
}

/// The bytes of the certificate that are signed.
fn signed_part<'d>(der: &'d CertificateDer<'_>) -> Option<&'d [u8]> {
    let whole = AnyRef::from_der(der).ok()?;
    SliceReader::new(whole.value()).ok()?.tlv_bytes().ok()
}

/// The bytes of an algorithm's identifier without the sequence around them, as webpki has them.
fn contents(algorithm: &AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    let whole = algorithm.to_der().ok()?;
    Some(AnyRef::from_der(&whole).ok()?.value().to_vec())
}

fn is_made_with(
    algorithm: &dyn SignatureVerificationAlgorithm,
    key: &SubjectPublicKeyInfoOwned,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let is_kind =
        contents(&key.algorithm).is_some_and(|kind| algorithm.public_key_alg_id().as_ref() == kind);
    let Some(key) = key.subject_public_key.as_bytes().filter(|_| is_kind) else {
        return false;
    };
    algorithm.verify_signature(key, message, signature).is_ok()
}

/// Whether a handshake's signature was made by the owner of such a certificate. In TLSv1.3
/// (`strict`) the scheme names the kind of key too.
pub(crate) fn is_handshake_signed(
    message: &[u8],
    der: &CertificateDer<'_>,
    (scheme, signature): (SignatureScheme, &[u8]),
    algorithms: &WebPkiSupportedAlgorithms,
    strict: bool,
) -> bool {
    let Ok(cert) = Certificate::from_der(der) else {
        return false;
    };
    let key = cert.tbs_certificate().subject_public_key_info();
    let old = [
        SignatureScheme::RSA_PKCS1_SHA256,
        SignatureScheme::RSA_PKCS1_SHA384,
        SignatureScheme::RSA_PKCS1_SHA512,
    ];
    if strict && old.contains(&scheme) {
        return false;
    }
    let known = algorithms
        .mapping
        .iter()
        .find(|(known, _)| *known == scheme);
    let known = known.map(|(_, known)| *known).unwrap_or_default();
    let count = if strict { 1 } else { known.len() };
    let mut tried = known.iter().take(count);
    tried.any(|algorithm| is_made_with(*algorithm, key, message, signature))
}
