//! Discord: webhook executions.

pub mod address;
pub mod buckets;
pub mod classify;
pub mod config;
pub mod form;
pub mod payload;
mod provider;

pub use provider::DiscordProvider;

use std::sync::Arc;

use bongsu_domain::{Channel, Content};
use bongsu_runtime::Clock;
use bongsu_runtime::settings::Complaint;

use crate::provider::Provider;
use crate::registry::BuildError;
use crate::settings::{HttpAccount, HttpSettings, Section};

impl HttpAccount for config::Account {
    const CHANNEL: Channel = Channel::Discord;
    const OPTIONAL: bool = true;

    fn complaints(&self, prefix: &str) -> Vec<Complaint> {
        self.validate(prefix)
    }

    fn provider(
        settings: &HttpSettings<Self>,
        worker: &str,
        clock: Clock,
    ) -> Result<Arc<dyn Provider>, BuildError> {
        Ok(Arc::new(DiscordProvider::new(settings, worker, clock)?))
    }

    fn too_large(content: &Content, whole: bool) -> Option<String> {
        payload::too_large(content, whole)
    }

    fn describe() -> Vec<Section> {
        vec![Section::new(
            "accounts.<name>",
            "One account of the Discord channel.",
            Self::describe(),
        )]
    }
}
