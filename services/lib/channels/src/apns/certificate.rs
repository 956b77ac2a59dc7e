//! A client certificate and its private key, and how long the certificate lives.

use bongsu_runtime::Secret;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// An identity cannot be read. Never holds what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// There is no certificate in the text.
    #[error("holds no certificate; it begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// The certificate's bytes mean nothing.
    #[error("holds a certificate that cannot be read")]
    BadCertificate,
    /// There is no private key in the text.
    #[error("holds no private key; write the certificate's key as PEM without a password")]
    NoKey,
}

impl IdentityError {
    /// The key of the settings it is about.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::NoCertificate | Self::BadCertificate => "certificate",
            Self::NoKey => "certificate_key",
        }
    }
}

/// What a connection proves itself with.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    not_after_millis: i64,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("not_after_millis", &self.not_after_millis)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads a certificate with its issuers, and its key; both are PEM.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn read(certificate: &Secret, key: &Secret) -> Result<Self, IdentityError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.expose().as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| IdentityError::BadCertificate)?;
        let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|_| IdentityError::BadCertificate)?;
        let not_after = parsed.validity().not_after.timestamp();
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
            .map_err(|_| IdentityError::NoKey)?;
        Ok(Self {
            not_after_millis: not_after.saturating_mul(1_000),
            chain,
            key,
        })
    }

    /// When the certificate ends, in epoch milliseconds.
    #[must_use]
    pub const fn not_after_millis(&self) -> i64 {
        self.not_after_millis
    }

    /// The certificate with its issuers.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    /// Its private key.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_when_it_ends() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let certificate = params.self_signed(&key).unwrap();
        let read = Identity::read(
            &Secret::new(certificate.pem()),
            &Secret::new(key.serialize_pem()),
        )
        .unwrap();
        assert_eq!(read.not_after_millis(), 1_927_843_200_000);
        let swapped = Identity::read(
            &Secret::new(key.serialize_pem()),
            &Secret::new(certificate.pem()),
        );
        assert_eq!(swapped.unwrap_err(), IdentityError::NoCertificate);
        let no_key = Identity::read(&Secret::new(certificate.pem()), &Secret::default());
        assert_eq!(no_key.unwrap_err(), IdentityError::NoKey);
    }
}
