//! A client of a Confluent-compatible schema registry: schemas by id, remembered for ever, since a
//! registry never changes an id.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bongsu_runtime::Secret;
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};

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
}

#[derive(Deserialize)]
struct Answer {
    schema: String,
    #[serde(rename = "schemaType", default)]
    kind: Option<String>,
}

pub(super) struct Registry {
    settings: RegistrySettings,
    base: Url,
    client: reqwest::Client,
    known: RwLock<BTreeMap<i32, String>>,
}

impl Registry {
    pub(super) fn new(settings: RegistrySettings) -> Result<Self, Unavailable> {
        let unusable = |e: &dyn std::fmt::Display| Unavailable::Registry(e.to_string());
        // A base whose path does not end in `/` would lose its last segment.
        let base = format!("{}/", settings.url.trim_end_matches('/'));
        let base = Url::parse(&base).map_err(|e| unusable(&e))?;
        let client = reqwest::Client::builder()
            .timeout(REQUEST)
            .build()
            .map_err(|e| unusable(&e))?;
        Ok(Self {
            settings,
            base,
            client,
            known: RwLock::default(),
        })
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
        let failed = |e: &dyn std::fmt::Display| Unavailable::Registry(e.to_string());
        let url = self
            .base
            .join(&format!("schemas/ids/{id}"))
            .map_err(|e| failed(&e))?;
        let mut request = self.client.get(url);
        if let Some(user) = &self.settings.username {
            request = request.basic_auth(user, self.settings.password.as_ref().map(Secret::expose));
        }
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
