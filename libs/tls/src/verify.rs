//! Verifying peers' certificates, with rustls' interfaces for either side.

use super::plain_chain::{self, Purpose, Trusted};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::Arc;
use webpki::{EndEntityCert, KeyUsage};

/// Whom we trust. Verifies both servers (for us as a client) and clients.
#[derive(Debug)]
pub(crate) struct Verifier {
    trusted: Vec<(TrustAnchor<'static>, Trusted)>,
    algorithms: WebPkiSupportedAlgorithms,
    /// A client without a certificate is refused.
    is_mandatory: bool,
}

impl Verifier {
    pub(crate) fn new(
        trusted: Vec<CertificateDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
        is_mandatory: bool,
    ) -> Result<Self, webpki::Error> {
        let entry = |der: CertificateDer<'static>| {
            let anchor = webpki::anchor_from_trusted_cert(&der)?.to_owned();
            Ok((anchor, Trusted::new(der)?))
        };
        let trusted: Result<Vec<_>, webpki::Error> = trusted.into_iter().map(entry).collect();
        Ok(Self {
            trusted: trusted?,
            algorithms,
            is_mandatory,
        })
    }

    /// Whether a chain leads to somebody trusted. As with OpenSSL, and unlike webpki alone, the
    /// time of a trusted certificate counts.
    fn check(
        &self,
        peer: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
        purpose: Purpose,
    ) -> Result<(), Error> {
        let valid = self
            .trusted
            .iter()
            .filter(|(_, cert)| cert.is_valid_at(now));
        let anchors: Vec<TrustAnchor<'_>> = valid.map(|(anchor, _)| anchor.clone()).collect();
        let usage = match purpose {
            Purpose::Server => KeyUsage::server_auth(),
            Purpose::Client => KeyUsage::client_auth(),
        };
        let checked = EndEntityCert::try_from(peer).and_then(|cert| {
            cert.verify_for_usage(
                self.algorithms.all,
                &anchors,
                between,
                now,
                usage,
                None,
                None,
            )
            .map(drop)
        });
        use webpki::Error::{CaUsedAsEndEntity, UnknownIssuer, UnsupportedCertVersion};
        let result = match checked {
            Err(UnsupportedCertVersion | CaUsedAsEndEntity | UnknownIssuer) => {
                let trusted = self.trusted.iter().map(|(_, trusted)| trusted);
                plain_chain::check(peer, trusted, &self.algorithms, now, purpose)
            }
            result => result,
        };
        result.map_err(|error| refusal(error).into())
    }

    fn check_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        strict: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        if EndEntityCert::try_from(cert).is_ok() {
            return match strict {
                true => verify_tls13_signature(message, cert, signed, &self.algorithms),
                false => verify_tls12_signature(message, cert, signed, &self.algorithms),
            };
        }
        let signature = (signed.scheme, signed.signature());
        let algorithms = &self.algorithms;
        match plain_chain::is_handshake_signed(message, cert, signature, algorithms, strict) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }
}

/// What the peer is told, and the log.
fn refusal(error: webpki::Error) -> CertificateError {
    match error {
        webpki::Error::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time, not_after }
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::BadDer | webpki::Error::BadDerTime => CertificateError::BadEncoding,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => CertificateError::Other(rustls::OtherError(Arc::new(other))),
    }
}

impl ServerCertVerifier for Verifier {
    /// The name is not looked at: replicas are followed under any name and address, as in Redis.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, now, Purpose::Server)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    /// None, as in Redis: a client shows what it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates, now, Purpose::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
