//! SIGHUP: accounts change without a restart.
//!
//! The settings are read anew, and every channel's provider is made of them. Only when all could be
//! made are they put in use; else everything stays as it was and the fault is logged. What else a file
//! says waits for the next start: limits that have been paced already, and callbacks of reports, too.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bongsu_channels::provider::Provider;
use bongsu_channels::replaceable::Replaceable;
use bongsu_domain::Channel;
use bongsu_runtime::{Clock, Shutdown};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, Service};

type Used = (Channel, Arc<Replaceable>);

/// The providers in use, by channel.
#[derive(Clone, Default)]
pub(crate) struct Providers(Arc<Mutex<Vec<Used>>>);

impl Providers {
    /// Wraps a provider so that it can be replaced.
    pub(crate) fn add(&self, channel: Channel, provider: Arc<dyn Provider>) -> Arc<dyn Provider> {
        let replaceable = Arc::new(Replaceable::new(provider));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((channel, Arc::clone(&replaceable)));
        replaceable
    }

    /// Makes all of them anew, or none; how many.
    fn replace(&self, config: &Config, worker: &str, clock: Clock) -> anyhow::Result<usize> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut made = Vec::with_capacity(all.len());
        for (channel, _) in all.iter() {
            made.push(bongsu_channels::build(
                *channel,
                &config.channels,
                worker,
                clock,
            )?);
        }
        for ((_, replaceable), next) in all.iter().zip(made) {
            replaceable.replace(next);
        }
        Ok(all.len())
    }
}

/// What a reload needs.
pub(crate) struct Reload {
    /// The settings' file; without one only the environment is read, which cannot change.
    pub(crate) file: Option<PathBuf>,
    pub(crate) services: Vec<Service>,
    pub(crate) providers: Providers,
    pub(crate) worker: Arc<str>,
    pub(crate) clock: Clock,
}

impl Reload {
    /// Obeys every SIGHUP until the shutdown.
    pub(crate) async fn watch(self, shutdown: Shutdown) -> std::io::Result<()> {
        let mut asked = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                // Both branches are cancel safe.
                biased;
                () = shutdown.requested() => return Ok(()),
                _ = asked.recv() => match self.once() {
                    Ok(channels) => tracing::info!(channels, "accounts are read anew"),
                    Err(error) => tracing::error!(
                        error = format!("{error:#}"),
                        "the settings are not taken; everything stays as it was"
                    ),
                },
            }
        }
    }

    fn once(&self) -> anyhow::Result<usize> {
        let config = Config::read(self.file.as_deref(), &self.services)?;
        self.providers.replace(&config, &self.worker, self.clock)
    }
}
