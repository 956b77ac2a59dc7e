//! What the dealer does: as JSON at `/_sim/plan`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// How reports are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportMode {
    /// Not at all.
    #[default]
    None,
    /// One `POST` per report to [`ReportPlan::url`].
    Webhook,
    /// Fetched by the customer.
    Polling,
}

/// How reports go wrong. Shares are of all reports, from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportPlan {
    /// How they are given.
    pub mode: ReportMode,
    /// Where they are posted to.
    pub url: String,
    /// What the time is signed with; unsigned when empty.
    pub secret: String,
    /// Milliseconds from the sending to the report.
    pub delay_ms: u64,
    /// Share that comes [`ReportPlan::late_ms`] later.
    pub late_ratio: f64,
    /// How late.
    pub late_ms: u64,
    /// Share that is given twice.
    pub double_ratio: f64,
    /// Share that is held back up to [`ReportPlan::reorder_ms`], so that later ones overtake it.
    pub reorder_ratio: f64,
    /// How long.
    pub reorder_ms: u64,
    /// Whether reports lack the sender's reference, as from a dealer that does not give it
    /// back. Of AlimTalk's dealers only.
    pub forgets_reference: bool,
    /// Share of recipients who do not get it (report 3008).
    pub undelivered_ratio: f64,
    /// Milliseconds before a report that was not acknowledged is posted again; three times at most.
    pub retry_ms: u64,
    /// Posts under way at once.
    pub at_once: usize,
    /// Seed of the decisions.
    pub seed: u64,
}

impl Default for ReportPlan {
    fn default() -> Self {
        Self {
            mode: ReportMode::None,
            url: String::new(),
            secret: String::new(),
            delay_ms: 20,
            late_ratio: 0.0,
            late_ms: 2_000,
            double_ratio: 0.0,
            reorder_ratio: 0.0,
            reorder_ms: 500,
            forgets_reference: false,
            undelivered_ratio: 0.0,
            retry_ms: 1_000,
            at_once: 64,
            seed: 0,
        }
    }
}

/// What the dealer does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Keys it takes; any when empty.
    pub api_keys: BTreeSet<String>,
    /// Clients of OMNI and BizPlus with their passwords; any when empty.
    pub clients: BTreeMap<String, String>,
    /// How long their tokens open the API, in seconds. A new plan makes all tokens void.
    pub token_seconds: u64,
    /// NHN's states of templates by code; `TSC03` (approved) when left out.
    pub template_states: BTreeMap<String, String>,
    /// Recipients in any sliding second; 0 for no limit.
    pub recipients_per_second: u64,
    /// Approved texts by template code; any code when empty.
    pub templates: BTreeMap<String, String>,
    /// A gateway code for every request.
    pub gateway_code: Option<String>,
    /// A service code for every request.
    pub service_code: Option<String>,
    /// A code for single recipients, by number.
    pub codes: BTreeMap<String, String>,
    /// Numbers Kakao does not reach: report 3018, then the failover's when the request has one.
    pub unreachable: BTreeSet<String>,
    /// Reports.
    pub reports: ReportPlan,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            api_keys: BTreeSet::new(),
            clients: BTreeMap::new(),
            token_seconds: 86_400,
            template_states: BTreeMap::new(),
            // [R: bizgo-sdk-comm-go, 2026-08]
            recipients_per_second: 200,
            templates: BTreeMap::new(),
            gateway_code: None,
            service_code: None,
            codes: BTreeMap::new(),
            unreachable: BTreeSet::new(),
            reports: ReportPlan::default(),
        }
    }
}

impl ReportPlan {
    /// What is wrong with it.
    ///
    /// # Errors
    /// The first fault, naming its field.
    pub fn validate(&self) -> Result<(), String> {
        for (name, ratio) in [
            ("late_ratio", self.late_ratio),
            ("double_ratio", self.double_ratio),
            ("reorder_ratio", self.reorder_ratio),
            ("undelivered_ratio", self.undelivered_ratio),
        ] {
            if !(0.0..=1.0).contains(&ratio) {
                return Err(format!("reports.{name} must lie between 0 and 1"));
            }
        }
        if self.mode == ReportMode::Webhook && !self.url.starts_with("http") {
            return Err("reports.url must be the URL reports are posted to".to_owned());
        }
        if self.at_once == 0 {
            return Err("reports.at_once must be at least 1".to_owned());
        }
        Ok(())
    }
}

impl Plan {
    /// What is wrong with it.
    ///
    /// # Errors
    /// The first fault, naming its field.
    pub fn validate(&self) -> Result<(), String> {
        self.reports.validate()
    }
}
