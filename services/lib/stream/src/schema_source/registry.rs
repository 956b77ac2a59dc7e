//! A client of a Confluent-compatible schema registry: schemas by id, remembered for ever, since a
//! registry never changes an id, and the ids of our own. [R: Confluent's schema registry API]

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bongsu_runtime::Secret;
use reqwest::header::CONTENT_TYPE;
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Unavailable;

/// How long a question may take.
const REQUEST: Duration = Duration::from_secs(5);

/// Where the registry is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrySettings {
    /// Its address, e.g. `https://registry.example`.
    pub url: String,
    /// User for basic authentication.
    #[serde(default)]
    pub username: Option<String>,
    /// Password for basic authentication.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Whether records are written with the registry's ids (Confluent framing). `false` writes Avro
    /// single-object encoding, as without a registry, and only reads what others wrote with ids.
    #[serde(default = "yes")]
    pub write: bool,
}

const fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Answer {
    schema: String,
    #[serde(rename = "schemaType", default)]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    id: i32,
}

/// What a registry says of an error.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Complaint {
    error_code: i32,
    message: String,
}

/// The registry will not do what it was asked.
#[derive(Debug, Clone, Error)]
pub enum RegistryError {
    /// It does not answer, or not as a registry.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// It refuses.
    #[error("the schema registry refuses subject {subject}: {status} {code} {message}")]
    Refused {
        /// Of which subject.
        subject: String,
        /// The HTTP status: 409 is a schema that readers of the present one could not read.
        status: u16,
        /// The registry's own code, 0 when it names none.
        code: i32,
        /// Its words.
        message: String,
    },
}

/// The client.
pub struct Registry {
    settings: RegistrySettings,
    base: Url,
    client: reqwest::Client,
    known: RwLock<BTreeMap<i32, String>>,
}

impl Registry {
    /// A client; opens no connection.
    ///
    /// # Errors
    /// When the address is no URL.
    pub fn new(settings: RegistrySettings) -> Result<Self, Unavailable> {
        // A base whose path does not end in `/` would lose its last segment.
        let base = format!("{}/", settings.url.trim_end_matches('/'));
        let base = Url::parse(&base).map_err(|e| failed(&e))?;
        let client = reqwest::Client::builder()
            .timeout(REQUEST)
            .build()
            .map_err(|e| failed(&e))?;
        Ok(Self {
            settings,
            base,
            client,
            known: RwLock::default(),
        })
    }

    /// The id of a schema under a subject; `None` when the subject or the schema is not registered.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn look_up(&self, subject: &str, schema: &str) -> Result<Option<i32>, RegistryError> {
        let path = ["subjects", subject];
        match self.post(&path, subject, schema).await {
            Ok(id) => Ok(Some(id)),
            Err(RegistryError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Registers a schema under a subject and gives its id; the same schema again has the same id.
    ///
    /// # Errors
    /// [`RegistryError`]; 409 when it is not compatible with what is there.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<i32, RegistryError> {
        let path = ["subjects", subject, "versions"];
        self.post(&path, subject, schema).await
    }

    async fn post(&self, path: &[&str], subject: &str, schema: &str) -> Result<i32, RegistryError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Unavailable::Registry("its address has no path".to_owned()))?
            .pop_if_empty()
            .extend(path);
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/vnd.schemaregistry.v1+json")
            .body(serde_json::json!({ "schema": schema }).to_string());
        let response = self.credentials(request).send().await;
        let response = response.map_err(|e| failed(&e))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|e| failed(&e))?;
        if status.is_success() {
            let named: Named = serde_json::from_slice(&body).map_err(|e| failed(&e))?;
            return Ok(named.id);
        }
        if status.is_server_error() {
            return Err(Unavailable::Registry(format!("it answers {status}")).into());
        }
        let complaint: Complaint = serde_json::from_slice(&body).unwrap_or_default();
        Err(RegistryError::Refused {
            subject: subject.to_owned(),
            status: status.as_u16(),
            code: complaint.error_code,
            message: complaint.message,
        })
    }

    fn credentials(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.settings.username {
            Some(user) => {
                request.basic_auth(user, self.settings.password.as_ref().map(Secret::expose))
            }
            None => request,
        }
    }

    /// The Avro schema with this id.
    pub(super) async fn schema(&self, id: i32) -> Result<Option<String>, Unavailable> {
        if let Some(known) = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
        {
            return Ok(Some(known.clone()));
        }
        let url = self
            .base
            .join(&format!("schemas/ids/{id}"))
            .map_err(|e| failed(&e))?;
        let request = self.credentials(self.client.get(url));
        let response = request.send().await.map_err(|e| failed(&e))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = response.error_for_status().map_err(|e| failed(&e))?;
        let answer: Answer = response.json().await.map_err(|e| failed(&e))?;
        if answer.kind.is_some_and(|kind| kind != "AVRO") {
            return Ok(None);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(id, answer.schema.clone());
        Ok(Some(answer.schema))
    }
}

fn failed(error: &dyn std::fmt::Display) -> Unavailable {
    Unavailable::Registry(error.to_string())
}
