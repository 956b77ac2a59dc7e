//! What a client needs to know of the twin: its authority, a key, and a client certificate. Made anew
//! at every start, except for a key that is already there.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use serde::Serialize;
use thiserror::Error;

use super::token::KnownKey;

/// The key's id when nobody says another.
const KEY_ID: &str = "TWINKEY001";
/// The team's id when nobody says another.
const TEAM_ID: &str = "TWINTEAM01";

/// The credentials cannot be made or written.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A certificate cannot be made.
    #[error("a certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot start")]
    Tls(#[from] rustls::Error),
    /// The verifier of client certificates cannot be made.
    #[error("client certificates cannot be checked")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
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

/// What a client is given. `Debug` hides the keys.
#[derive(Clone, Serialize)]
pub struct Credentials {
    /// The authority to trust, as PEM.
    pub ca: String,
    /// The content of a `.p8` file.
    pub key: String,
    /// Its id.
    pub key_id: String,
    /// The team's id.
    pub team_id: String,
    /// A client certificate, as PEM.
    pub certificate: String,
    /// Its key, as PEM.
    pub certificate_key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("key_id", &self.key_id)
            .field("team_id", &self.team_id)
            .finish_non_exhaustive()
    }
}

/// Everything made for one twin.
pub(super) struct Made {
    pub(super) credentials: Credentials,
    pub(super) known: KnownKey,
    pub(super) tls: Arc<ServerConfig>,
}

/// Makes them; with a directory they are written there for clients in other processes.
pub(super) fn make(dir: Option<&Path>) -> Result<Made, CredentialsError> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = "Bongsu simulator authority";
    ca.distinguished_name.push(DnType::CommonName, name);
    let ca_certificate = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    let server_key = KeyPair::generate()?;
    let names = ["localhost", "127.0.0.1", "::1", "simulators", "apns"].map(str::to_owned);
    let mut server = CertificateParams::new(names)?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let server = server.signed_by(&server_key, &issuer)?;

    let client_key = KeyPair::generate()?;
    let mut client = CertificateParams::new(Vec::new())?;
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let name = "Apple Push Services (simulated)";
    client.distinguished_name.push(DnType::CommonName, name);
    let client = client.signed_by(&client_key, &issuer)?;

    let key = provider_key(dir)?;
    let credentials = Credentials {
        ca: ca_certificate.pem(),
        key: key.serialize_pem(),
        key_id: KEY_ID.to_owned(),
        team_id: TEAM_ID.to_owned(),
        certificate: client.pem(),
        certificate_key: client_key.serialize_pem(),
    };
    if let Some(dir) = dir {
        write(dir, &credentials)?;
    }

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca_certificate.der().clone())?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
    let server_key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![server.der().clone()], server_key)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Made {
        known: KnownKey {
            key_id: KEY_ID.to_owned(),
            team_id: TEAM_ID.to_owned(),
            public: key.public_key_raw().to_vec(),
        },
        credentials,
        tls: Arc::new(tls),
    })
}

const KEY_FILE: &str = "AuthKey.p8";

fn provider_key(dir: Option<&Path>) -> Result<KeyPair, CredentialsError> {
    let Some(path) = dir.map(|dir| dir.join(KEY_FILE)) else {
        return Ok(KeyPair::generate()?);
    };
    match std::fs::read_to_string(&path) {
        Ok(pem) => Ok(KeyPair::from_pem(&pem)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(KeyPair::generate()?),
        Err(source) => Err(CredentialsError::File {
            path: path.display().to_string(),
            source,
        }),
    }
}

fn write(dir: &Path, credentials: &Credentials) -> Result<(), CredentialsError> {
    let file = |path: &Path, source| CredentialsError::File {
        path: path.display().to_string(),
        source,
    };
    std::fs::create_dir_all(dir).map_err(|source| file(dir, source))?;
    for (name, text) in [
        ("ca.pem", &credentials.ca),
        (KEY_FILE, &credentials.key),
        ("client.pem", &credentials.certificate),
        ("client.key", &credentials.certificate_key),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|source| file(&path, source))?;
    }
    Ok(())
}
