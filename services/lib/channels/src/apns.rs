//! APNs: pushes to Apple's devices over HTTP/2, on [our own HTTP/2](crate::http2) (docs/adr/0001).

pub mod certificate;
pub mod classify;
pub mod config;
pub mod options;
pub mod payload;
mod provider;
pub mod token;

pub use provider::ApnsProvider;

use std::sync::Arc;

use bongsu_domain::{Channel, Content};
use bongsu_runtime::Clock;
use bongsu_runtime::settings::Complaint;

use crate::provider::Provider;
use crate::registry::BuildError;
use crate::settings::{ChannelSettings, Section};

impl ChannelSettings for config::ApnsSettings {
    const CHANNEL: Channel = Channel::Apns;

    fn in_use(&self) -> bool {
        !self.accounts.is_empty()
    }

    fn validate(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        for (name, account) in &self.accounts {
            complaints.extend(account.validate(&format!("channels.apns.accounts.{name}")));
        }
        complaints.extend(self.connection.validate("channels.apns.connection"));
        complaints.extend(self.egress.validate("channels.apns.egress"));
        complaints
    }

    fn provider(&self, worker: &str, clock: Clock) -> Result<Arc<dyn Provider>, BuildError> {
        Ok(Arc::new(ApnsProvider::new(self, worker, clock)?))
    }

    fn too_large(content: &Content, _whole: bool) -> Option<String> {
        payload::too_large(content)
    }

    fn describe() -> Vec<Section> {
        vec![
            Section::new(
                "accounts.<name>",
                "One account of the APNs channel; there is none by default.",
                config::Account::describe(),
            ),
            Section::new(
                "connection",
                "How the APNs channel keeps its connections.",
                config::Connections::describe(),
            ),
        ]
    }
}
