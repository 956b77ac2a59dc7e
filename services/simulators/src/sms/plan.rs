//! What the vendors do: as JSON at `/_sim/plan`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::alimtalk::{ReportMode, ReportPlan};

/// The key of Solapi's twin, unless the plan names others.
pub const SOLAPI_KEY: &str = "NCSTWINKEY000001";
/// Its secret.
pub const SOLAPI_SECRET: &str = "twin-solapi-secret";
/// The account of Twilio's twin, unless the plan names others.
pub const TWILIO_ACCOUNT: &str = "AC00000000000000000000000000000001";
/// Its auth token.
pub const TWILIO_TOKEN: &str = "twin-twilio-token";

/// What the vendors do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Solapi's keys with their secrets.
    pub solapi_keys: BTreeMap<String, String>,
    /// Twilio's accounts with their tokens.
    pub twilio_accounts: BTreeMap<String, String>,
    /// Registered sender numbers; any when empty.
    pub senders: BTreeSet<String>,
    /// Recipients in any sliding second; 0 for no limit.
    pub recipients_per_second: u64,
    /// An error for every request: its word (Solapi) or code (Twilio).
    pub error: Option<String>,
    /// The status it comes with.
    pub error_status: u16,
    /// A code for single recipients when they are taken in, by number: Solapi's status code,
    /// Twilio's error code.
    pub codes: BTreeMap<String, String>,
    /// Numbers that Solapi refuses the whole request for (400), whatever else it holds.
    pub spoiling: BTreeSet<String>,
    /// The longest body Solapi takes, in bytes (413 above); 0 for any.
    pub most_bytes: usize,
    /// The code of a recipient's report, by number: he does not get it.
    pub report_codes: BTreeMap<String, String>,
    /// Reports. `url` and `secret` are Solapi's; Twilio calls the URL of each text and signs with
    /// the account's token.
    pub reports: ReportPlan,
}

impl Default for Plan {
    fn default() -> Self {
        let one = |a: &str, b: &str| BTreeMap::from([(a.to_owned(), b.to_owned())]);
        Self {
            solapi_keys: one(SOLAPI_KEY, SOLAPI_SECRET),
            twilio_accounts: one(TWILIO_ACCOUNT, TWILIO_TOKEN),
            senders: BTreeSet::new(),
            recipients_per_second: 0,
            error: None,
            error_status: 400,
            codes: BTreeMap::new(),
            spoiling: BTreeSet::new(),
            most_bytes: 0,
            report_codes: BTreeMap::new(),
            reports: ReportPlan::default(),
        }
    }
}

impl Plan {
    /// What is wrong with it.
    ///
    /// # Errors
    /// The first fault, naming its field.
    pub fn validate(&self) -> Result<(), String> {
        if !(400..=599).contains(&self.error_status) {
            return Err("error_status must lie between 400 and 599".to_owned());
        }
        if self.reports.forgets_reference {
            return Err("forgets_reference is for AlimTalk's dealers".to_owned());
        }
        let mut reports = self.reports.clone();
        if reports.mode == ReportMode::Webhook && reports.url.is_empty() {
            // Twilio needs none.
            reports.url = "http://none/".to_owned();
        }
        reports.validate()
    }
}
