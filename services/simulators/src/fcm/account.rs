//! The service account that the twin knows. Made at the start, except for one that is already there.

use std::path::Path;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use crate::authority::{AuthorityError, write};

const FILE: &str = "service-account.json";
const PROJECT: &str = "twin-project";
const KEY_ID: &str = "twinkey1";
const EMAIL: &str = "push@twin-project.iam.gserviceaccount.com";
/// What assertions are for, whatever the twin's own address is. (M: from memory)
pub(super) const AUDIENCE: &str = "https://oauth2.googleapis.com/token";

/// A service account. `Debug` hides its file, which holds the key.
#[derive(Clone)]
pub struct Account {
    /// The content of its JSON file.
    pub file: String,
    /// The project it may send to.
    pub project: String,
    /// Who signs.
    pub(super) email: String,
    /// The key's id.
    pub(super) key_id: String,
    /// The key's public half.
    pub(super) public: Vec<u8>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct File {
    project_id: String,
    private_key_id: String,
    private_key: String,
    client_email: String,
}

impl Account {
    pub(super) fn make(dir: Option<&Path>) -> Result<Self, AuthorityError> {
        let Some(dir) = dir else {
            return Self::read(new_file()?);
        };
        let path = dir.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(file) => Self::read(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let file = new_file()?;
                write(dir, FILE, &file)?;
                Self::read(file)
            }
            Err(source) => Err(AuthorityError::File {
                path: path.display().to_string(),
                source,
            }),
        }
    }

    fn read(file: String) -> Result<Self, AuthorityError> {
        let read: File = serde_json::from_str(&file).map_err(|_| AuthorityError::Key)?;
        let lines = read.private_key.lines();
        let base64: String = lines.filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(base64).map_err(|_| AuthorityError::Key)?;
        let pair = KeyPair::from_pkcs8(&der).map_err(|_| AuthorityError::Key)?;
        Ok(Self {
            public: pair.public_key().as_ref().to_vec(),
            project: read.project_id,
            email: read.client_email,
            key_id: read.private_key_id,
            file,
        })
    }
}

fn new_file() -> Result<String, AuthorityError> {
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| AuthorityError::Key)?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| AuthorityError::Key)?;
    let base64 = STANDARD.encode(der.as_ref());
    Ok(json!({
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": KEY_ID,
        "private_key": format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n"),
        "client_email": EMAIL,
        "token_uri": AUDIENCE,
    })
    .to_string())
}
