//! The vendors' own state: limit, used signatures, texts, and what is still to be told. Pure, with an
//! injected clock (Unix microseconds).

use std::collections::{HashMap, HashSet};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::Plan;
use super::solapi::{self, Refused, SAME_SIGNATURE_US};
use super::twilio;
use crate::alimtalk::ReportMode;
use crate::later::{Due, Later, Timing, posts, timing};
use crate::sliding::Sliding;

/// Signatures kept before any is looked at for removal.
const CLEAN: usize = 100_000;

/// The vendors' own counts, at `/_sim/vendors`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests with a valid credential.
    pub requests: u64,
    /// Requests without one.
    pub strangers: u64,
    /// Recipients taken.
    pub taken: u64,
    /// Recipients refused because a sliding second was full.
    pub over_limit: u64,
    /// Reports that came to be: states on the way and doubles included.
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
    pub(super) status: StatusCode,
    pub(super) body: Value,
    /// One per recipient.
    pub(super) statuses: Vec<u16>,
    /// Whether a report was scheduled.
    pub(super) scheduled: bool,
}

/// A report as it is posted.
#[derive(Debug, Clone)]
pub(super) enum Post {
    /// To the plan's URL.
    Solapi {
        /// The list of texts.
        body: Value,
    },
    /// To the text's own URL.
    Twilio {
        /// The URL.
        url: String,
        /// What it is signed with.
        token: String,
        /// The form.
        form: Vec<(&'static str, String)>,
    },
}

/// The state.
pub(super) struct Desk {
    plan: Plan,
    counts: Counts,
    second: Sliding,
    /// Used signatures with the time they are forgotten.
    signatures: HashMap<String, u64>,
    clean_at: usize,
    texts: Vec<solapi::Stored>,
    made: u64,
    later: Later<Post>,
}

impl Desk {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            counts: Counts::default(),
            second: Sliding::default(),
            signatures: HashMap::new(),
            clean_at: CLEAN,
            texts: Vec::new(),
            made: 0,
            later: Later::default(),
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn set_plan(&mut self, plan: Plan) {
        self.plan = plan;
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            waiting: self.later.len() as u64,
            ..self.counts
        }
    }

    /// The next report to be posted, when the plan posts and `open` ones leave room.
    pub(super) fn next(&mut self, open: usize, now_us: u64) -> Option<Result<Due<Post>, u64>> {
        if open >= posts(&self.plan.reports) {
            return None;
        }
        match self.later.next(now_us) {
            Ok(due) => Some(Ok(due)),
            Err(at) => at.map(Err),
        }
    }

    /// What became of a post.
    pub(super) fn posted(&mut self, due: Due<Post>, taken: bool, now_us: u64) {
        self.counts.posted += 1;
        if taken {
            self.counts.acknowledged += 1;
        } else if !self.later.again(due, now_us, self.plan.reports.retry_ms) {
            self.counts.given_up += 1;
        }
    }

    /// Whether a header opens Solapi's API; a signature does so once.
    pub(super) fn opens_solapi(&mut self, header: &str, now_us: u64) -> Result<(), &'static str> {
        let opened = solapi::opens(&self.plan, header, now_us).and_then(|signature| {
            if self.signatures.len() >= self.clean_at {
                self.signatures.retain(|_, until| *until > now_us);
                self.clean_at = CLEAN.max(self.signatures.len() * 2);
            }
            let until = self.signatures.entry(signature).or_insert(0);
            if *until > now_us {
                return Err("DuplicatedSignature");
            }
            *until = now_us + SAME_SIGNATURE_US;
            Ok(())
        });
        match opened {
            Ok(()) => self.counts.requests += 1,
            Err(_) => self.counts.strangers += 1,
        }
        opened
    }

    /// A request of Solapi's.
    pub(super) fn send_solapi(&mut self, header: &str, body: &[u8], now_us: u64) -> Answered {
        let sending = solapi::Sending::parse(body);
        let count = sending.as_ref().map_or(1, |s| s.messages.len().max(1));
        let whole = |status: StatusCode, word: &str| Answered {
            status,
            body: solapi::error(word),
            statuses: vec![status.as_u16(); count],
            scheduled: false,
        };
        if let Err(word) = self.opens_solapi(header, now_us) {
            return whole(StatusCode::FORBIDDEN, word);
        }
        if let Some(word) = &self.plan.error {
            return whole(self.forced(), word);
        }
        if self.plan.most_bytes > 0 && body.len() > self.plan.most_bytes {
            return whole(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge");
        }
        let spoils = |message: &solapi::Message| self.plan.spoiling.contains(&message.to);
        let sending = sending.filter(|sending| !sending.messages.iter().any(spoils));
        let Some(sending) = sending.filter(solapi::Sending::is_formed) else {
            return whole(StatusCode::BAD_REQUEST, "ValidationError");
        };
        if !self.within_limit(count, now_us) {
            return whole(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests");
        }
        let mut numbers = HashSet::new();
        let mut refused = Vec::new();
        let mut statuses = Vec::with_capacity(count);
        let mut scheduled = false;
        for message in &sending.messages {
            let twice = !numbers.insert(message.to.clone()) && !sending.allow_duplicates;
            self.made += 1;
            let id = format!("M4V{now_us:016}{:010}", self.made);
            let code = solapi::judge(&self.plan, message, twice);
            statuses.push(if code == "2000" { 200 } else { 400 });
            if code == "2000" {
                scheduled |= self.take_solapi(message, id, now_us);
            } else {
                refused.push(Refused { message, id, code });
            }
        }
        Answered {
            status: StatusCode::OK,
            body: solapi::answer(count, &refused, now_us),
            statuses,
            scheduled,
        }
    }

    /// Keeps a text and schedules its report; whether there is one.
    fn take_solapi(&mut self, message: &solapi::Message, id: String, now_us: u64) -> bool {
        self.counts.taken += 1;
        let when = timing(&self.plan.reports, self.made, now_us);
        let code = self.final_code(&message.to, when, "3040");
        let stored = message.store(id, code.unwrap_or_else(|| "4000".to_owned()), now_us, when);
        let body = Value::Array(vec![stored.at(u64::MAX)]);
        let mode = self.plan.reports.mode;
        if mode == ReportMode::Polling {
            self.counts.reports += 1;
        }
        self.texts.push(stored);
        mode == ReportMode::Webhook && self.plan.reports.url.starts_with("http") && {
            self.tell(when, Post::Solapi { body });
            true
        }
    }

    /// A page of Solapi's list.
    pub(super) fn list(&self, query: &str, now_us: u64) -> Value {
        solapi::page(&self.texts, query, now_us)
    }

    /// A request of Twilio's.
    pub(super) fn send_twilio(
        &mut self,
        header: &str,
        account: &str,
        body: &[u8],
        now_us: u64,
    ) -> Answered {
        let error = |status: StatusCode, code: &str| Answered {
            status,
            body: twilio::error(status, code),
            statuses: vec![status.as_u16()],
            scheduled: false,
        };
        let token = self.plan.twilio_accounts.get(account).cloned();
        let Some(token) = token.filter(|token| twilio::opens(header, account, token)) else {
            self.counts.strangers += 1;
            return error(StatusCode::UNAUTHORIZED, "20003");
        };
        self.counts.requests += 1;
        if let Some(code) = &self.plan.error {
            return error(self.forced(), code);
        }
        if !self.within_limit(1, now_us) {
            return error(StatusCode::TOO_MANY_REQUESTS, "20429");
        }
        let text = twilio::Text::parse(body);
        if let Some(code) = twilio::fault(&self.plan, &text) {
            return error(StatusCode::BAD_REQUEST, &code);
        }
        self.counts.taken += 1;
        self.made += 1;
        let sid = format!("SM{now_us:020x}{:012x}", self.made);
        let when = timing(&self.plan.reports, self.made, now_us);
        let code = self.final_code(&text.number(), when, "30003");
        let scheduled = self.plan.reports.mode == ReportMode::Webhook && text.callback.is_some();
        if let (Some(url), true) = (&text.callback, scheduled) {
            let post = |status: &str, code: Option<&str>| Post::Twilio {
                url: url.clone(),
                token: token.clone(),
                form: text.report(account, &sid, status, code),
            };
            let sent = post("sent", None);
            let last = match &code {
                Some(code) => post("undelivered", Some(code)),
                None => post("delivered", None),
            };
            let on_the_way = Timing {
                due_us: now_us + when.due_us.saturating_sub(now_us) / 2,
                doubled: false,
                ..when
            };
            self.tell(on_the_way, sent);
            self.tell(when, last);
        }
        Answered {
            status: StatusCode::CREATED,
            body: text.answer(account, &sid),
            statuses: vec![201],
            scheduled,
        }
    }

    fn tell(&mut self, when: Timing, post: Post) {
        self.counts.reports += 1;
        if when.doubled {
            self.counts.reports += 1;
            self.later.push(when.due_us + 1_000, post.clone());
        }
        self.later.push(when.due_us, post);
    }

    /// The code of a text that does not arrive.
    fn final_code(&self, number: &str, when: Timing, usual: &str) -> Option<String> {
        let own = self.plan.report_codes.get(number).cloned();
        own.or_else(|| when.undelivered.then(|| usual.to_owned()))
    }

    fn within_limit(&mut self, count: usize, now_us: u64) -> bool {
        let limit = self.plan.recipients_per_second;
        let within = self.second.take(limit, count as u64, now_us);
        if !within {
            self.counts.over_limit += count as u64;
        }
        within
    }

    fn forced(&self) -> StatusCode {
        StatusCode::from_u16(self.plan.error_status).unwrap_or(StatusCode::BAD_REQUEST)
    }
}
