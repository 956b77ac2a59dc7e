//! Asking dealers for reports.
//!
//! Bizgo and OMNI give a batch until it is acknowledged. NHN gives a list of results by the time of
//! their last change; what of its answer is not documented (the wrapper's key, codes as
//! numbers or texts) is read leniently, and an unknown state is not final. [R: icomm-api/bizgo-api-spec
//! reports-webhooks.md, infobank-guide.gitbook.io, NHN Cloud guides, 2026-08]

use bongsu_domain::Timestamp;
use bongsu_domain::target::check_url;
use bongsu_runtime::Clock;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Request};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use super::super::config::{Account, Dealer};
use super::super::session::Session;
use super::super::{infobank, nhn};
use super::Source;
use crate::client::{self, Reach};
use crate::provider::AttemptResult;
use crate::reports::{Fetched, PollError, Told};
use crate::settings::ClientSettings;
use crate::walk::{Ask, Walk};

const BIZGO_PATH: &str = "/api/comm/v1/report/polling";
const OMNI_PATH: &str = "/v1/report/polling";
/// Bytes of a poll's answer: a thousand reports of about 400 bytes, with room.
const POLL_BYTES: usize = 4 * 1024 * 1024;
/// Results of a page of NHN's list. [R: NHN guide]
const PAGE: usize = 1_000;
/// From here on times are written without seconds.
const MINUTE_MS: i64 = 60_000;
/// Korea's offset, in which NHN writes times. [M: from memory]
const KOREA_MS: i64 = 9 * 3_600_000;

/// What a poll needs.
pub(super) struct Poller {
    dealer: Dealer,
    app_key: String,
    client: Client,
    base: Url,
    credential: HeaderValue,
    session: Option<Session>,
    clock: Clock,
    step_ms: i64,
    pub(super) walk: Walk,
}

impl Poller {
    pub(super) fn new(account: &Account, client: &ClientSettings) -> Result<Self, String> {
        let mut credential = HeaderValue::from_str(account.api_key.expose())
            .map_err(|_| "api_key cannot stand in a header".to_owned())?;
        credential.set_sensitive(true);
        let session = account.provider.has_tokens().then(|| {
            let auth = check_url(account.auth(), true).map_err(|e| e.to_string())?;
            let url = auth.join(infobank::token_path(account.provider));
            let url = url.map_err(|e| e.to_string())?;
            Session::new(url, &account.client_id, account.api_key.expose())
        });
        let millis =
            |d: bongsu_runtime::Duration| i64::try_from(d.0.as_millis()).unwrap_or(i64::MAX);
        let reports = &account.reports;
        Ok(Self {
            dealer: account.provider,
            app_key: account.app_key.clone(),
            client: client::build(client, Reach::Anywhere).map_err(|e| e.to_string())?,
            base: check_url(account.base(), true).map_err(|e| e.to_string())?,
            credential,
            session: session.transpose()?,
            clock: Clock::system(),
            step_ms: millis(reports.poll_step),
            walk: Walk::in_steps(
                millis(reports.poll_settle),
                millis(reports.poll_look_back),
                millis(reports.poll_step),
            ),
        })
    }

    fn batch_path(&self) -> &'static str {
        match self.dealer {
            Dealer::Omni => OMNI_PATH,
            Dealer::Bizgo | Dealer::Nhn | Dealer::Bizplus => BIZGO_PATH,
        }
    }

    async fn ask(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        deadline: Instant,
    ) -> Result<client::Answer, PollError> {
        let mut request = Request::new(method, url);
        *request.headers_mut() = headers;
        let asked = client::exchange_up_to(&self.client, request, Vec::new(), deadline, POLL_BYTES);
        asked.await.map_err(|_| PollError::NoAnswer)
    }

    /// Bizgo's and OMNI's envelope: what was asked for.
    async fn infobank(
        &self,
        method: Method,
        path: &str,
        deadline: Instant,
    ) -> Result<Value, PollError> {
        let url = self.base.join(path).map_err(|_| PollError::NoAnswer)?;
        let mut headers = HeaderMap::new();
        let token = match &self.session {
            None => self.credential.clone(),
            Some(session) => session
                .header(&self.client, self.clock.now_millis(), deadline)
                .await
                .map_err(refused_token)?,
        };
        headers.insert(AUTHORIZATION, token.clone());
        let answer = self.ask(method, url, headers, deadline).await?;
        if let (Some(session), 401) = (&self.session, answer.status.as_u16()) {
            session.refused(&token).await;
        }
        let body: Value = serde_json::from_slice(&answer.body).map_err(|_| PollError::NoAnswer)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (code, data) = match self.dealer {
            Dealer::Omni => (text(&body["code"]), &body["data"]),
            Dealer::Bizgo | Dealer::Nhn | Dealer::Bizplus => {
                let gateway = text(&body["common"]["authCode"]);
                let service = text(&body["data"]["code"]);
                let code = if gateway == "A000" { service } else { gateway };
                (code, &body["data"]["data"])
            }
        };
        if code == "A000" {
            Ok(data.clone())
        } else {
            Err(PollError::Refused(code.chars().take(16).collect()))
        }
    }

    pub(super) async fn confirm(&self, id: &str, deadline: Instant) -> Result<(), PollError> {
        let path = format!("{}/{id}", self.batch_path());
        self.infobank(Method::DELETE, &path, deadline)
            .await
            .map(drop)
    }

    /// A page of NHN's results.
    async fn page(&self, ask: &Ask, deadline: Instant) -> Result<Value, PollError> {
        let path = nhn::results_path(&self.app_key);
        let mut url = self.base.join(&path).map_err(|_| PollError::NoAnswer)?;
        url.query_pairs_mut()
            .append_pair("startUpdateDate", &korean(ask.from, self.step_ms))
            .append_pair("endUpdateDate", &korean(ask.until, self.step_ms))
            .append_pair("pageNum", ask.page.as_deref().unwrap_or("1"))
            .append_pair("pageSize", &PAGE.to_string());
        let mut headers = HeaderMap::new();
        headers.insert(nhn::HEADER_SECRET, self.credential.clone());
        let answer = self.ask(Method::GET, url, headers, deadline).await?;
        if answer.status.as_u16() == 429 {
            let wait = answer.headers.get(RETRY_AFTER);
            let wait = wait.and_then(|v| v.to_str().ok()).unwrap_or("unknown");
            return Err(PollError::Refused(format!("429, wait {wait}")));
        }
        let body: Value = serde_json::from_slice(&answer.body).map_err(|_| PollError::NoAnswer)?;
        if body["header"]["isSuccessful"] == Value::Bool(true) {
            return Ok(body);
        }
        let code = body["header"]["resultCode"].to_string();
        Err(PollError::Refused(code.chars().take(16).collect()))
    }
}

fn refused_token(result: AttemptResult) -> PollError {
    if result == AttemptResult::AccountFault {
        PollError::Refused("the token".to_owned())
    } else {
        PollError::NoAnswer
    }
}

/// A time as NHN writes it.
fn korean(at_ms: i64, step_ms: i64) -> String {
    let text = Timestamp(at_ms.saturating_add(KOREA_MS)).to_rfc3339();
    let length = if step_ms < MINUTE_MS { 19 } else { 16 };
    let written = text.get(..length).unwrap_or(&text);
    written.replace('T', " ")
}

/// The results of a page: the first list of objects that name a request.
fn results(body: &Value) -> Option<&Vec<Value>> {
    let wrapped = body.as_object()?.values();
    let lists = wrapped.filter_map(|value| match value {
        Value::Array(list) => Some(list),
        Value::Object(inner) => inner.values().find_map(Value::as_array),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    });
    lists
        .into_iter()
        .find(|list| list.iter().all(|item| !item["requestId"].is_null()))
}

impl Source {
    /// A batch that is given until it is acknowledged.
    pub(super) async fn poll_batch(&self, deadline: Instant) -> Result<Option<Fetched>, PollError> {
        let path = self.poller.batch_path();
        let data = self.poller.infobank(Method::GET, path, deadline).await?;
        let (Some(id), Some(list)) = (data["reportId"].as_str(), data["report"].as_array()) else {
            return Ok(None);
        };
        if list.is_empty() {
            return Ok(None);
        }
        let told = list
            .iter()
            .map(|fields| {
                self.infobank(fields).unwrap_or_else(|error| {
                    tracing::warn!(%error, "a polled report cannot be read");
                    // Kept as it came, with those that have no reference.
                    self.told(String::new(), "", "", &json!({ "unread": fields }))
                })
            })
            .collect();
        Ok(Some(Fetched {
            id: id.to_owned(),
            told,
        }))
    }

    /// The next page of NHN's list that tells anything final.
    pub(super) async fn poll_list(&self, deadline: Instant) -> Result<Option<Fetched>, PollError> {
        let poller = &self.poller;
        while let Some(ask) = poller.walk.ask(poller.clock.now_millis()) {
            let page = match poller.page(&ask, deadline).await {
                Ok(page) => page,
                Err(error) => {
                    poller.walk.restart();
                    return Err(error);
                }
            };
            let list = results(&page).map(Vec::as_slice).unwrap_or_default();
            let number: usize = ask
                .page
                .as_deref()
                .and_then(|n| n.parse().ok())
                .unwrap_or(1);
            let next = (list.len() >= PAGE).then(|| (number + 1).to_string());
            let id = poller.walk.fetched(&ask, next);
            let told: Vec<Told> = list.iter().filter_map(|hook| self.hook(hook)).collect();
            if told.is_empty() {
                poller.walk.confirm(&id);
                continue;
            }
            return Ok(Some(Fetched { id, told }));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_koreas_minutes() {
        assert_eq!(korean(1_795_600_800_000, MINUTE_MS), "2026-11-25 19:00");
        assert_eq!(korean(1_795_600_859_999, MINUTE_MS), "2026-11-25 19:00");
        assert_eq!(korean(1_795_600_859_999, 1_000), "2026-11-25 19:00:59");
    }

    #[test]
    fn the_list_is_found_under_any_name() {
        let item = json!({"requestId": "r"});
        for body in [
            json!({"header": {}, "messageSearchResultResponse": {"messages": [item], "totalCount": 1}}),
            json!({"header": {}, "messages": [item]}),
        ] {
            assert_eq!(results(&body).map(Vec::len), Some(1), "{body}");
        }
        assert_eq!(results(&json!({"header": {}})), None);
    }
}
