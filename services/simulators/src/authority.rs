//! The test authority of the simulators: every twin speaks TLS with a certificate of it.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use thiserror::Error;

/// Names the certificates are good for.
const NAMES: [&str; 4] = ["localhost", "127.0.0.1", "::1", "simulators"];

/// Certificates or keys cannot be made or written.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// A certificate cannot be made.
    #[error("a certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot start")]
    Tls(#[from] rustls::Error),
    /// The verifier of client certificates cannot be made.
    #[error("client certificates cannot be checked")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// A key cannot be made or read.
    #[error("a key cannot be made or read")]
    Key,
    /// A file cannot be read or written.
    #[error("{path} cannot be read or written")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// An authority of its own for every group of simulators, made anew at every start.
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one.
    ///
    /// # Errors
    /// [`AuthorityError::Certificate`].
    pub fn new() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = "Bongsu simulator authority";
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(Self {
            certificate: params.self_signed(&key)?,
            issuer: Issuer::new(params, key),
        })
    }

    /// The certificate clients are to trust, as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Writes it to `ca.pem` in a directory, which is made when it is not there.
    ///
    /// # Errors
    /// [`AuthorityError::File`].
    pub fn write(&self, dir: &Path) -> Result<(), AuthorityError> {
        write(dir, "ca.pem", &self.pem())
    }

    /// A client's certificate and its key, both as PEM.
    ///
    /// # Errors
    /// [`AuthorityError::Certificate`].
    pub fn client(&self, name: &str) -> Result<(String, String), AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// TLS of a server that speaks `protocols` (ALPN) and takes a client's certificate of this
    /// authority when there is one.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn server(&self, protocols: &[&str]) -> Result<Arc<ServerConfig>, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.der().clone())?;
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)?;
        tls.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        Ok(Arc::new(tls))
    }
}

/// Writes one file into the directory of credentials.
pub(crate) fn write(dir: &Path, name: &str, text: &str) -> Result<(), AuthorityError> {
    let file = |path: &Path, source| AuthorityError::File {
        path: path.display().to_string(),
        source,
    };
    std::fs::create_dir_all(dir).map_err(|source| file(dir, source))?;
    let path = dir.join(name);
    std::fs::write(&path, text).map_err(|source| file(&path, source))
}
