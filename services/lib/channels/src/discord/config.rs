//! `channels.discord.accounts.<name>`.

use std::time::Duration;

use bongsu_domain::target::check_url;
use bongsu_runtime::settings::Complaint;
use serde::{Deserialize, Serialize};

use super::form::USERNAME_CHARS;
use crate::limits::Limits;
use crate::provider::StrikeLimit;

/// Where Discord lives. [R: discord-api-docs, 2026-08]
pub const API_BASE: &str = "https://discord.com";
/// Requests a second from one public IP address: webhook calls carry no bot's credential and are
/// counted by it. In force unless `channels.discord.egress.per_second` says otherwise. [R: same]
pub const EGRESS_PER_SECOND: u32 = 50;
/// Bad answers (401, 403, 404, 429) from one public IP address that bring a ban of it. [R: same; it
/// does not name 404, which is counted here to be safe (D)]
pub const STRIKES: StrikeLimit = StrikeLimit {
    strikes: 10_000,
    window: Duration::from_mins(10),
};

/// A kind of mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mention {
    /// `@role`.
    Roles,
    /// `@user`.
    Users,
    /// `@everyone` and `@here`.
    Everyone,
}

bongsu_runtime::settings! {
    /// One account of the Discord channel. The credential is in each address: whoever knows a
    /// webhook's URL may write to it.
    pub struct Account {
        /// Scheme, host and port of the API, without a path; another one for simulators and proxies.
        pub api_base: String = API_BASE.to_owned(),
        /// The name shown instead of the webhook's own, 1 to 80 characters; empty for the webhook's.
        pub username: String = String::new(),
        /// Kinds of mention in texts that are let through: `roles`, `users`, `everyone`. None,
        /// because a publisher's user must not ping a guild.
        pub mentions: Vec<Mention> = Vec::new(),
        /// Whether to wait until Discord has stored the text, so that what it cannot store is an
        /// error; slower.
        pub wait: bool = false,
        /// Whether up to ten consecutive embeds to one webhook share a request, as far as they fit.
        /// Each keeps its own outcome; ten of them cost one request of every limit.
        pub pack: bool = false,
        /// Requests at once to a webhook of which Discord has announced nothing yet (5 in 2 s were
        /// observed); 0 for no limit.
        pub burst: u8 = 5,
        /// Requests to one webhook in any minute, which Discord announces nowhere (30 were observed,
        /// for all webhooks of one channel together); 0 for no limit.
        pub per_minute: u8 = 30,
        /// Limits of the account. What Discord says of each webhook is obeyed without any.
        pub limits: Limits = Limits::default(),
    }
}

impl Account {
    /// What is wrong; `prefix` is the account's path in the settings.
    #[must_use]
    pub fn validate(&self, prefix: &str) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        // The operator writes it, so private hosts are fine.
        match check_url(&self.api_base, true) {
            Ok(url) if url.path() == "/" && url.query().is_none() => {}
            Ok(_) => complaints.push(Complaint::new(
                format!("{prefix}.api_base"),
                "has a path; write scheme, host and port only",
            )),
            Err(error) => complaints.push(Complaint::new(
                format!("{prefix}.api_base"),
                error.to_string(),
            )),
        }
        if self.username.chars().count() > USERNAME_CHARS {
            complaints.push(Complaint::new(
                format!("{prefix}.username"),
                "is longer than 80 characters",
            ));
        }
        complaints.extend(self.limits.validate(&format!("{prefix}.limits")));
        complaints
    }
}
