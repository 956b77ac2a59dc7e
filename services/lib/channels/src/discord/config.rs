//! `channels.discord.accounts.<name>`.

use bongsu_domain::target::check_url;
use bongsu_runtime::settings::Complaint;

use crate::limits::Limits;

/// Where Discord lives. [R: discord-api-docs, 2026-08]
pub const API_BASE: &str = "https://discord.com";

bongsu_runtime::settings! {
    /// One account of the Discord channel. The credential is in each address: whoever knows a
    /// webhook's URL may write to it.
    pub struct Account {
        /// Scheme, host and port of the API, without a path; another one for simulators and proxies.
        pub api_base: String = API_BASE.to_owned(),
        /// The name shown instead of the webhook's own, 1 to 80 characters; empty for the webhook's.
        pub username: String = String::new(),
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
        if self.username.chars().count() > 80 {
            complaints.push(Complaint::new(
                format!("{prefix}.username"),
                "is longer than 80 characters",
            ));
        }
        complaints.extend(self.limits.validate(&format!("{prefix}.limits")));
        complaints
    }
}
