//! Kakao AlimTalk: notifications by approved templates to phone numbers, through a dealer.
//!
//! Beside the four files of every channel: `template` (the text to the letter), one file per dealer
//! (`bizgo`, `nhn`, `infobank` for its two older APIs; pure: letters to a request, an answer to
//! results), `session` (the older APIs' tokens), `catalogue` (templates pulled from a dealer), and
//! `reports` (a dealer's callbacks and polls).
//!
//! **Idempotency.** A dealer's key belongs to a request, not to a recipient. With one recipient per
//! request (the default) the key is the delivery's id, the same on every attempt of this and any
//! later process, so that no resend makes a second copy. With larger batches the key is a hash of
//! the batch's delivery ids: the same batch sent again is recognised, one that was made up anew
//! after an unseen answer is not, and [`Provider::dedupes`](crate::provider::Provider::dedupes)
//! says so. Rates are counted in recipients, so batches save requests, not quota.

pub mod bizgo;
mod catalogue;
pub mod classify;
pub mod config;
pub mod infobank;
pub mod nhn;
pub mod payload;
mod provider;
pub mod reports;
mod session;
pub mod template;

pub use provider::AlimTalkProvider;

use std::sync::Arc;

use bongsu_domain::{Channel, Content};
use bongsu_runtime::Clock;
use bongsu_runtime::settings::Complaint;

use crate::provider::Provider;
use crate::registry::BuildError;
use crate::settings::{ClientSettings, HttpAccount, HttpSettings, ProviderSource, Section};

impl HttpAccount for config::Account {
    const CHANNEL: Channel = Channel::AlimTalk;

    fn complaints(&self, prefix: &str) -> Vec<Complaint> {
        self.validate(prefix)
    }

    fn provider(
        settings: &HttpSettings<Self>,
        worker: &str,
        clock: Clock,
    ) -> Result<Arc<dyn Provider>, BuildError> {
        Ok(Arc::new(AlimTalkProvider::new(settings, worker, clock)?))
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
                "One account of the AlimTalk channel: a contract with a dealer and a sender profile.",
                Self::describe(),
            ),
            Section::new(
                "accounts.<name>.failover",
                "The dealer's own failover to text messages.",
                config::Failover::describe(),
            ),
            Section::new(
                "accounts.<name>.reports",
                "How the account's reports are taken.",
                config::ReportSettings::describe(),
            ),
            Section::new(
                "accounts.<name>.reports.fields",
                "The names of a report's fields.",
                config::ReportFields::describe(),
            ),
        ]
    }
}
