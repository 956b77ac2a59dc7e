//! E-mail through a relay that speaks SMTP (RFC 5321). Beside the usual four files: `session` is one
//! connection, `pool` the kept ones of an account, `verp` the return path that brings a bounce back
//! to its delivery, `reports` reads bounces (RFC 3464), `policy` counts refusals for policy's sake.
//!
//! Messages and commands are lettre's; connecting and TLS are ours, so that the certificates are the
//! same as everywhere and it is known whether the final dot has left.

pub mod classify;
pub mod config;
pub mod payload;
mod policy;
mod pool;
mod provider;
pub mod reports;
mod session;
pub mod verp;

pub use provider::EmailProvider;

use std::sync::Arc;

use bongsu_domain::Channel;
use bongsu_runtime::Clock;
use bongsu_runtime::settings::Complaint;

use crate::provider::Provider;
use crate::registry::BuildError;
use crate::settings::{ChannelSettings, NamedSource, Section};

impl ChannelSettings for config::EmailSettings {
    const CHANNEL: Channel = Channel::Email;

    fn in_use(&self) -> bool {
        !self.accounts.is_empty()
    }

    fn validate(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        for (name, account) in &self.accounts {
            complaints.extend(account.validate(&format!("channels.email.accounts.{name}")));
        }
        complaints.extend(self.egress.validate("channels.email.egress"));
        complaints
    }

    fn provider(&self, worker: &str, _clock: Clock) -> Result<Arc<dyn Provider>, BuildError> {
        Ok(Arc::new(EmailProvider::new(self, worker)?))
    }

    fn report_sources(&self) -> Result<Vec<NamedSource>, BuildError> {
        let mut sources: Vec<NamedSource> = Vec::new();
        for (name, account) in &self.accounts {
            let made = reports::Source::new(account).map_err(|message| BuildError::Account {
                channel: Self::CHANNEL.as_str(),
                account: name.clone(),
                message,
            })?;
            if let Some(source) = made {
                sources.push((reports::PROVIDER, name.clone(), Arc::new(source)));
            }
        }
        Ok(sources)
    }

    fn describe() -> Vec<Section> {
        vec![
            Section::new(
                "accounts.<name>",
                "One account of the e-mail channel: a relay and who speaks through it.",
                config::Account::describe(),
            ),
            Section::new(
                "accounts.<name>.reports",
                "How the account's bounces are taken.",
                config::ReportSettings::describe(),
            ),
        ]
    }
}
