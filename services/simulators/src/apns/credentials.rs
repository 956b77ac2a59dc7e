//! What a client needs to know of the twin: its authority, a key, and a client certificate. Made anew
//! at every start, except for a key that is already there.

use std::path::Path;
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::ServerConfig;
use serde::Serialize;

use super::token::KnownKey;
use crate::authority::{Authority, AuthorityError, write};

/// The key's id when nobody says another.
const KEY_ID: &str = "TWINKEY001";
/// The team's id when nobody says another.
const TEAM_ID: &str = "TWINTEAM01";

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
pub(super) fn make(authority: &Authority, dir: Option<&Path>) -> Result<Made, AuthorityError> {
    let (certificate, certificate_key) = authority.client("Apple Push Services (simulated)")?;
    let key = provider_key(dir)?;
    let credentials = Credentials {
        ca: authority.pem(),
        key: key.serialize_pem(),
        key_id: KEY_ID.to_owned(),
        team_id: TEAM_ID.to_owned(),
        certificate,
        certificate_key,
    };
    if let Some(dir) = dir {
        for (name, text) in [
            (KEY_FILE, &credentials.key),
            ("client.pem", &credentials.certificate),
            ("client.key", &credentials.certificate_key),
        ] {
            write(dir, name, text)?;
        }
    }
    Ok(Made {
        known: KnownKey {
            key_id: KEY_ID.to_owned(),
            team_id: TEAM_ID.to_owned(),
            public: key.public_key_raw().to_vec(),
        },
        credentials,
        tls: authority.server(&["h2"])?,
    })
}

const KEY_FILE: &str = "AuthKey.p8";

fn provider_key(dir: Option<&Path>) -> Result<KeyPair, AuthorityError> {
    let Some(path) = dir.map(|dir| dir.join(KEY_FILE)) else {
        return Ok(KeyPair::generate()?);
    };
    match std::fs::read_to_string(&path) {
        Ok(pem) => Ok(KeyPair::from_pem(&pem)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(KeyPair::generate()?),
        Err(source) => Err(AuthorityError::File {
            path: path.display().to_string(),
            source,
        }),
    }
}
