//! Text messages to phone numbers, through Solapi (Korea) or Twilio.
//!
//! Beside the four files of every channel: one file per vendor (`solapi`, `twilio`; pure: a text to
//! a request, an answer to results, a report to what it says), and `reports` (callbacks and polls).
//!
//! **Second copies.** Neither vendor recognises a request that is sent again: Solapi removes the
//! same number inside one request only, Twilio nothing. So
//! [`Provider::dedupes`](crate::provider::Provider::dedupes) is false, and a publisher who fears a
//! second copy more than none says `never_resend` or `resend_if_idempotent`. The channel is paid for,
//! so the repeat guard is on unless the settings say otherwise.

pub mod classify;
pub mod config;
pub mod payload;
mod provider;
pub mod reports;
pub mod solapi;
pub mod twilio;

pub use provider::SmsProvider;

use std::sync::Arc;

use bongsu_domain::{Channel, Content};
use bongsu_runtime::Clock;
use bongsu_runtime::settings::Complaint;

use crate::provider::Provider;
use crate::registry::BuildError;
use crate::settings::{ClientSettings, HttpAccount, HttpSettings, ProviderSource, Section};

impl HttpAccount for config::Account {
    const CHANNEL: Channel = Channel::Sms;

    fn complaints(&self, prefix: &str) -> Vec<Complaint> {
        self.validate(prefix)
    }

    fn provider(
        settings: &HttpSettings<Self>,
        worker: &str,
        clock: Clock,
    ) -> Result<Arc<dyn Provider>, BuildError> {
        Ok(Arc::new(SmsProvider::new(settings, worker, clock)?))
    }

    fn report_source(&self, client: &ClientSettings) -> Result<Option<ProviderSource>, String> {
        let source = reports::Source::new(self, client)?;
        Ok(source.map(|source| (self.provider.as_str(), Arc::new(source) as Arc<_>)))
    }

    fn too_large(content: &Content, _whole: bool) -> Option<String> {
        payload::too_large(content)
    }

    fn describe() -> Vec<Section> {
        vec![
            Section::new(
                "accounts.<name>",
                "One account of the SMS channel: a contract with a vendor and a sender number.",
                Self::describe(),
            ),
            Section::new(
                "accounts.<name>.reports",
                "How the account's reports are taken.",
                config::ReportSettings::describe(),
            ),
        ]
    }
}
