//! The dealer's own state: limit, keys, counts, and what reports are still to be given. Pure, with
//! an injected clock (Unix microseconds).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::envelope::{Sending, fits};
use super::forms::{Form, Said};
use super::plan::{Plan, ReportMode};
use super::reports::{Report, Schedule, Sent};
use crate::sliding::Sliding;

const SECOND_US: u64 = 1_000_000;
/// Recipients of one request. [R: bizgo-api-spec, 2026-08]
const MOST: usize = 200;
/// The same of NHN, and results of a page. [R: NHN guide]
const NHN_MOST: usize = 1_000;
/// Longest memory of a key, in seconds.
const KEY_SECONDS: u64 = 86_400;
/// Keys kept before any is looked at for removal.
const CLEAN: usize = 1_000_000;

/// The dealer's own counts, at `/_sim/dealer`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests with a valid key.
    pub requests: u64,
    /// Tokens given.
    #[serde(default)]
    pub tokens: u64,
    /// Recipients taken.
    pub taken: u64,
    /// Recipients refused because a sliding second was full.
    pub over_limit: u64,
    /// Recipients recognised by their key (A301).
    pub recognised: u64,
    /// Recipients whose text was not their template's.
    pub mismatches: u64,
    /// Reports that came to be, doubles included.
    pub reports: u64,
    /// Reports posted, repeats included.
    pub posted: u64,
    /// Reports acknowledged.
    pub acknowledged: u64,
    /// Reports given up after three repeats.
    pub given_up: u64,
    /// Reports waiting.
    pub waiting: u64,
}

/// What a sending came to.
pub(super) struct Answered {
    pub(super) said: Said,
    /// One per recipient.
    pub(super) statuses: Vec<u16>,
    /// Whether a report was scheduled.
    pub(super) scheduled: bool,
}

/// The state.
pub(super) struct Desk {
    plan: Plan,
    counts: Counts,
    second: Sliding,
    /// Keys with the time they are forgotten.
    keys: HashMap<String, u64>,
    /// Number of keys at which the forgotten ones are removed.
    clean_at: usize,
    requests: u64,
    /// Tokens with the time they end.
    tokens: HashMap<String, u64>,
    schedule: Schedule,
}

/// Proof that a key opens the API.
#[derive(Clone, Copy)]
pub(super) struct Opened;

impl Desk {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            schedule: Schedule::default(),
            plan,
            counts: Counts::default(),
            second: Sliding::default(),
            keys: HashMap::new(),
            clean_at: CLEAN,
            requests: 0,
            tokens: HashMap::new(),
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn set_plan(&mut self, plan: Plan) {
        self.tokens.clear();
        self.plan = plan;
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            waiting: self.schedule.waiting() as u64,
            ..self.counts
        }
    }

    pub(super) fn schedule(&mut self) -> (&mut Schedule, &Plan, &mut Counts) {
        (&mut self.schedule, &self.plan, &mut self.counts)
    }

    /// Whether a credential opens an API: a raw key without any prefix, or a token that was given.
    pub(super) fn opens(&mut self, form: Form, credential: &str, now_us: u64) -> Option<Opened> {
        let opened = match form {
            Form::Bizgo | Form::Nhn => {
                let keys = &self.plan.api_keys;
                let known = keys.is_empty() || keys.contains(credential);
                known && !credential.is_empty() && !credential.contains(' ')
            }
            Form::Omni | Form::Bizplus => {
                let token = credential.strip_prefix("Bearer ");
                let until = token.and_then(|token| self.tokens.get(token));
                until.is_some_and(|until| *until > now_us)
            }
        };
        self.counts.requests += u64::from(opened);
        opened.then_some(Opened)
    }

    /// A token for a client.
    pub(super) fn token(&mut self, id: &str, password: &str, now_us: u64) -> Option<String> {
        let clients = &self.plan.clients;
        let known = clients.is_empty() || clients.get(id).is_some_and(|own| own == password);
        if id.is_empty() || password.is_empty() || !known {
            return None;
        }
        self.counts.tokens += 1;
        let token = format!("t-{now_us:x}-{}", self.counts.tokens);
        let until = now_us + self.plan.token_seconds * SECOND_US;
        self.tokens.insert(token.clone(), until);
        Some(token)
    }

    /// The batch of reports: its id and the reports; none when they are not polled.
    pub(super) fn poll(&mut self, _: Opened, now_us: u64) -> Option<Value> {
        if self.plan.reports.mode != ReportMode::Polling {
            return None;
        }
        let (id, reports) = self.schedule.batch(now_us);
        let reports: Vec<Value> = reports.iter().map(Report::json).collect();
        Some(json!({"reportId": id, "report": reports}))
    }

    pub(super) fn acknowledge(&mut self, id: &str) -> bool {
        let acknowledged = self.schedule.acknowledge(id);
        self.counts.acknowledged += acknowledged as u64;
        acknowledged > 0
    }

    /// NHN's results between two moments, a page of them.
    pub(super) fn results(&self, query: &Query, now_us: u64) -> Vec<Value> {
        let found = self.schedule.listed(query.from_us, query.until_us, now_us);
        let skip = query.page.saturating_sub(1) * query.size;
        let page = found.into_iter().skip(skip).take(query.size);
        page.map(Report::json).collect()
    }

    /// NHN's templates, a page of them.
    pub(super) fn templates(&self, query: &Query) -> Vec<Value> {
        let skip = query.page.saturating_sub(1) * query.size;
        let all = self.plan.templates.iter().skip(skip).take(query.size);
        all.map(|(code, text)| {
            let state = self.plan.template_states.get(code);
            json!({"templateCode": code, "templateName": code, "templateContent": text,
                   "status": state.map_or("TSC03", String::as_str)})
        })
        .collect()
    }

    /// Takes a sending, or says why not.
    pub(super) fn send(&mut self, form: Form, sending: Option<Sending>, now_us: u64) -> Answered {
        let count = sending.as_ref().map_or(1, |s| s.destinations.len().max(1));
        if let Some(code) = &self.plan.gateway_code {
            return whole(Said::Gateway(code.clone()), error_status(code), count);
        }
        let forced = self.plan.service_code.as_deref();
        let code = match (&sending, forced) {
            (_, Some(code)) => Some(code),
            (None, None) => Some("A010"),
            (Some(sending), None) => form_fault(form, sending),
        };
        if let Some(code) = code {
            return whole(Said::Service(code.to_owned()), error_status(code), count);
        }
        let sending = sending.unwrap_or_default();
        let key = sending.idempotency_key.as_ref();
        if key.is_some_and(|key| self.keys.get(key).is_some_and(|until| *until > now_us)) {
            self.counts.recognised += count as u64;
            return whole(Said::Service("A301".to_owned()), 409, count);
        }
        let limit = self.plan.recipients_per_second;
        if !self.second.take(limit, count as u64, now_us) {
            self.counts.over_limit += count as u64;
            return whole(Said::Gateway("A020".to_owned()), 429, count);
        }
        if let (Some(key), Some(ttl)) = (&sending.idempotency_key, sending.idempotency_ttl) {
            if self.keys.len() >= self.clean_at {
                self.keys.retain(|_, until| *until > now_us);
                self.clean_at = CLEAN.max(self.keys.len() * 2);
            }
            self.keys.insert(key.clone(), now_us + ttl * SECOND_US);
        }
        self.take(form, &sending, now_us)
    }

    fn take(&mut self, form: Form, sending: &Sending, now_us: u64) -> Answered {
        self.requests += 1;
        let base = format!("{now_us:x}{:05x}", self.requests);
        let mut statuses = Vec::with_capacity(sending.destinations.len());
        let mut each = Vec::with_capacity(sending.destinations.len());
        let mut scheduled = false;
        for (i, destination) in sending.destinations.iter().enumerate() {
            let code = self.judge(sending, i);
            let key = format!("{base}{i:03}");
            if code == "A000" {
                self.counts.taken += 1;
                let sent = Sent {
                    form,
                    key: &key,
                    destination,
                    failover: sending.failover(),
                };
                let made = self.schedule.add(&self.plan, &sent, now_us);
                self.counts.reports += made;
                scheduled |= made > 0;
            }
            statuses.push(error_status(&code));
            let reference = destination.reference.clone();
            each.push((destination.to.clone(), key, code, reference));
        }
        Answered {
            said: Said::Each(each),
            statuses,
            scheduled,
        }
    }

    /// A recipient's code.
    fn judge(&mut self, sending: &Sending, index: usize) -> String {
        let (Some(destination), Some(step)) = (sending.destinations.get(index), sending.alimtalk())
        else {
            return "A302".to_owned();
        };
        if let Some(code) = self.plan.codes.get(&destination.to) {
            return code.clone();
        }
        let to = &destination.to;
        if !(8..=15).contains(&to.len()) || !to.bytes().all(|b| b.is_ascii_digit()) {
            return "A306".to_owned();
        }
        if step.sender_key.len() != 40 {
            return "A502".to_owned();
        }
        let template = self.plan.templates.get(&step.template_code);
        let unknown = step.template_code.is_empty()
            || (template.is_none() && !self.plan.templates.is_empty());
        if unknown {
            return "A505".to_owned();
        }
        if template.is_some_and(|text| !fits(text, step, &destination.replace_words)) {
            self.counts.mismatches += 1;
            return "A506".to_owned();
        }
        "A000".to_owned()
    }
}

fn whole(said: Said, each: u16, count: usize) -> Answered {
    Answered {
        said,
        statuses: vec![each; count],
        scheduled: false,
    }
}

/// The code for a request that cannot be taken as it stands.
fn form_fault(form: Form, sending: &Sending) -> Option<&'static str> {
    let most = match form {
        Form::Bizgo => MOST,
        Form::Nhn => NHN_MOST,
        Form::Omni | Form::Bizplus => 1,
    };
    if sending.destinations.is_empty() {
        return Some("A302");
    }
    if sending.destinations.len() > most {
        return Some("A318");
    }
    if sending.alimtalk().is_none() {
        return Some("A303");
    }
    match (&sending.idempotency_key, sending.idempotency_ttl) {
        (Some(_), None) => Some("A309"),
        (Some(key), Some(ttl)) if key.len() > 200 || ttl > KEY_SECONDS => Some("A309"),
        _ => None,
    }
}

/// What a list is asked for.
pub(super) struct Query {
    pub(super) from_us: u64,
    pub(super) until_us: u64,
    pub(super) page: usize,
    pub(super) size: usize,
}

impl Query {
    /// Reads NHN's query: times of Korea, with or without seconds, pages from 1.
    pub(super) fn parse(query: &str) -> Self {
        let text = |name: &str| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(n, _)| n == name).map(|(_, v)| v.into_owned())
        };
        let number = |name: &str, usual| text(name).and_then(|t| t.parse().ok()).unwrap_or(usual);
        let time = |name: &str| minute(&text(name)?);
        Self {
            from_us: time("startUpdateDate").unwrap_or(0),
            until_us: time("endUpdateDate").unwrap_or(u64::MAX),
            page: number("pageNum", 1),
            size: number("pageSize", 15).clamp(1, NHN_MOST),
        }
    }
}

fn minute(text: &str) -> Option<u64> {
    let seconds = if text.len() > 16 { "" } else { ":00" };
    let rfc = format!("{}{seconds}+09:00", text.replace(' ', "T"));
    let at = time::OffsetDateTime::parse(&rfc, &time::format_description::well_known::Rfc3339);
    u64::try_from(at.ok()?.unix_timestamp_nanos() / 1_000).ok()
}

/// The status under which a recipient is counted.
fn error_status(code: &str) -> u16 {
    match code {
        "A000" | "0" => 200,
        "A301" | "-1005" => 409,
        "A020" => 429,
        _ if code.starts_with("A9") => 500,
        _ => 400,
    }
}

#[cfg(test)]
mod tests {
    use super::super::forms::answer;
    use super::*;

    fn sending(to: &[&str], key: Option<&str>) -> Option<Sending> {
        let destinations: Vec<Value> = to.iter().map(|to| json!({"to": to})).collect();
        let body = json!({
            "destinations": destinations,
            "messageFlow": [{"alimtalk": {"senderKey": "k".repeat(40), "templateCode": "t"}}],
            "idempotencyKey": key,
            "idempotencyTtl": key.map(|_| 60),
        });
        Sending::parse(body.to_string().as_bytes())
    }

    const TO: &str = "01012345678";

    fn http(answered: &Answered) -> u16 {
        answer(Form::Bizgo, &answered.said).0.as_u16()
    }

    #[test]
    fn recipients_are_counted_in_every_sliding_second() {
        let mut desk = Desk::new(Plan {
            recipients_per_second: 3,
            ..Plan::default()
        });
        let mut send =
            |n: usize, at| http(&desk.send(Form::Bizgo, sending(&vec![TO; n], None), at));
        assert_eq!(send(2, 0), 200);
        assert_eq!(send(2, 500_000), 429, "all or none");
        assert_eq!(send(1, 600_000), 200);
        assert_eq!(send(1, 999_999), 429);
        assert_eq!(send(2, 1_000_000), 200);
        assert_eq!(send(1, 1_599_999), 429);
        assert_eq!(send(1, 1_600_000), 200);
        assert_eq!(desk.counts().over_limit, 4);
    }

    #[test]
    fn a_key_is_remembered_for_its_time_unless_nothing_was_taken() {
        let mut desk = Desk::new(Plan {
            recipients_per_second: 1,
            ..Plan::default()
        });
        let mut statuses = |key, at| {
            desk.send(Form::Bizgo, sending(&[TO], Some(key)), at)
                .statuses
        };
        assert_eq!(statuses("a", 0), [200]);
        assert_eq!(statuses("b", 1), [429]);
        assert_eq!(statuses("a", 2), [409]);
        assert_eq!(statuses("b", 1_000_001), [200]);
        assert_eq!(statuses("a", 59_999_999), [409]);
        assert_eq!(statuses("a", 60_000_000), [200]);
    }

    #[test]
    fn errors_come_inside_of_a_success() {
        let mut desk = Desk::new(Plan {
            templates: [("t".to_owned(), "#{name}".to_owned())].into(),
            codes: [("01000000000".to_owned(), "A324".to_owned())].into(),
            ..Plan::default()
        });
        let mut codes = |sending: Option<Sending>| {
            let answered = desk.send(Form::Bizgo, sending, 0);
            assert_eq!(http(&answered), 200);
            let body = answer(Form::Bizgo, &answered.said).1;
            let whole = body["data"]["code"].as_str().unwrap().to_owned();
            let each = body["data"]["data"]["destinations"].as_array();
            let each: Vec<String> = each
                .into_iter()
                .flatten()
                .map(|d| d["code"].as_str().unwrap().to_owned())
                .collect();
            (whole, each)
        };
        assert_eq!(codes(None), ("A010".into(), vec![]));
        assert_eq!(codes(sending(&[], None)), ("A302".into(), vec![]));
        assert_eq!(codes(sending(&[TO; 201], None)), ("A318".into(), vec![]));
        assert_eq!(
            codes(sending(&["x", TO, "01000000000"], None)),
            (
                "A000".into(),
                vec!["A306".into(), "A506".into(), "A324".into()]
            )
        );
        let mut keyed = sending(&[TO], Some("k")).unwrap();
        keyed.idempotency_ttl = None;
        assert_eq!(codes(Some(keyed)), ("A309".into(), vec![]));
    }
}
