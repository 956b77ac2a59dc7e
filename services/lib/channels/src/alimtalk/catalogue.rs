//! The templates of an account, and how they are kept up to date where the dealer gives them (NHN).
//! [R: NHN Cloud guides, 2026-05]
//!
//! What was pulled replaces the settings' templates of the same code, its approval state included; a
//! template the dealer does not name any more is that of the settings again. While nothing was ever
//! pulled the account sends nothing, because nobody knows what is approved; afterwards a failed pull
//! leaves what is there.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Client, Method, Request};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::nhn;
use super::template::{Prepared, Status, Template};
use crate::client;

/// Templates of a page. [R: NHN guide]
const PAGE: usize = 1_000;
/// Bytes of a page.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Pages that are read at most.
const PAGES: usize = 100;
/// How long a failed pull is not tried again.
const TROUBLE: Duration = Duration::from_secs(5);

/// An account's templates by code.
pub(super) type Templates = BTreeMap<String, Prepared>;

/// The templates of an account.
pub(super) struct Catalogue {
    own: Templates,
    present: RwLock<Arc<Templates>>,
    source: Option<Source>,
}

/// Where they are pulled from.
pub(super) struct Source {
    pub(super) url: Url,
    pub(super) credential: HeaderValue,
    pub(super) refresh: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pulled: bool,
    next: Option<Instant>,
}

impl Source {
    pub(super) fn new(url: Url, credential: HeaderValue, refresh: Duration) -> Self {
        Self {
            url,
            credential,
            refresh,
            state: Mutex::default(),
        }
    }
}

/// Nothing is known of the dealer's templates yet.
pub(super) struct Unknown;

impl Catalogue {
    pub(super) fn new(own: Templates, source: Option<Source>) -> Self {
        Self {
            present: RwLock::new(Arc::new(own.clone())),
            own,
            source,
        }
    }

    fn present(&self) -> Arc<Templates> {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&present)
    }

    /// The templates, pulled anew when they are too old. One caller at a time pulls; while something
    /// was pulled before, the others go on with that.
    ///
    /// Cancel safety: a dropped pull is made again by whoever comes next.
    pub(super) async fn templates(
        &self,
        client: &Client,
        deadline: Instant,
    ) -> Result<Arc<Templates>, Unknown> {
        let Some(source) = &self.source else {
            return Ok(self.present());
        };
        let mut state = match source.state.try_lock() {
            Ok(state) => state,
            Err(_) => {
                let waited = tokio::time::timeout_at(deadline, source.state.lock()).await;
                let state = waited.map_err(|_| Unknown)?;
                return if state.pulled {
                    Ok(self.present())
                } else {
                    Err(Unknown)
                };
            }
        };
        if state.next.is_none_or(|next| next <= Instant::now()) {
            match pull(source, client, deadline).await {
                Ok(pulled) => {
                    let mut all = self.own.clone();
                    all.extend(pulled);
                    *self.present.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
                    state.pulled = true;
                    state.next = Some(Instant::now() + source.refresh);
                }
                Err(why) => {
                    tracing::warn!(%why, "the dealer's templates cannot be pulled");
                    state.next = Some(Instant::now() + TROUBLE.min(source.refresh));
                }
            }
        }
        if state.pulled {
            Ok(self.present())
        } else {
            Err(Unknown)
        }
    }
}

async fn pull(source: &Source, client: &Client, deadline: Instant) -> Result<Templates, String> {
    let mut all = Templates::new();
    for number in 1..=PAGES {
        let mut url = source.url.clone();
        url.query_pairs_mut()
            .append_pair("pageNum", &number.to_string())
            .append_pair("pageSize", &PAGE.to_string());
        let mut request = Request::new(Method::GET, url);
        let credential = source.credential.clone();
        request.headers_mut().insert(nhn::HEADER_SECRET, credential);
        let asked = client::exchange_up_to(client, request, Vec::new(), deadline, PAGE_BYTES);
        let answer = asked.await.map_err(|_| "no answer".to_owned())?;
        let page = read(&answer.body)
            .ok_or_else(|| format!("the answer {} is no list", answer.status.as_u16()))?;
        let count = page.len();
        all.extend(page.into_iter().flatten());
        if count < PAGE {
            return Ok(all);
        }
    }
    Err(format!("more than {} templates", PAGES * PAGE))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    template_code: String,
    #[serde(default)]
    template_content: String,
    #[serde(default)]
    template_title: Option<String>,
    status: Option<String>,
    template_status: Option<String>,
}

/// The templates of a page; one that cannot be read, or is of another form, is none.
fn read(body: &[u8]) -> Option<Vec<Option<(String, Prepared)>>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    if body["header"]["isSuccessful"] != Value::Bool(true) {
        return None;
    }
    let list = body["templateListResponse"]["templates"]
        .as_array()
        .or_else(|| body["templates"].as_array())?;
    Some(list.iter().map(one).collect())
}

fn one(template: &Value) -> Option<(String, Prepared)> {
    let listed = Listed::deserialize(template).ok()?;
    let status = listed.status.or(listed.template_status)?;
    let read = Template {
        text: listed.template_content,
        title: listed.template_title.unwrap_or_default(),
        status: status_of(&status),
    };
    match read.prepare() {
        Ok(prepared) => Some((listed.template_code, prepared)),
        Err(fault) => {
            tracing::warn!(template = listed.template_code, %fault, "a template cannot be read");
            None
        }
    }
}

/// What a state of the dealer's means. An unknown one is not approved.
fn status_of(word: &str) -> Status {
    match word {
        "TSC01" => Status::Requested,
        "TSC02" => Status::Review,
        "TSC03" => Status::Approved,
        "TSC04" => Status::Rejected,
        _ => Status::Stopped,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::template::TemplateFault;
    use super::*;

    #[test]
    fn a_page_gives_texts_and_states() {
        let template = |code: &str, status: &str| {
            json!({"templateCode": code, "templateContent": "#{a} b", "status": status,
                   "templateName": "n"})
        };
        let body = json!({"header": {"isSuccessful": true, "resultCode": 0},
            "templateListResponse": {"totalCount": 5, "templates": [
                template("a", "TSC01"), template("b", "TSC02"), template("c", "TSC03"),
                template("d", "TSC04"), template("e", "TSC99"), {"templateCode": "f"}]}});
        let read = read(body.to_string().as_bytes()).unwrap();
        assert_eq!(read.len(), 6);
        assert!(read[5].is_none());
        let values = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let filled: Vec<_> = read
            .into_iter()
            .flatten()
            .map(|(_, template)| template.fill(&values))
            .collect();
        let not = Err(TemplateFault::NotApproved);
        let text = Ok("1 b".to_owned());
        assert_eq!(filled, [not.clone(), not.clone(), text, not.clone(), not]);
        assert!(super::read(b"{}").is_none());
        assert!(super::read(br#"{"header":{"isSuccessful":false}}"#).is_none());
    }
}
