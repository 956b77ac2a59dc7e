//! Shutdown in two steps and readiness that means something.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

/// Asks everything to drain. Clones share the same request.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// Nothing is asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the drain; calling it again changes nothing.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Whether the drain was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits for the request. Cancel safe.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// A child that can be asked alone, and is asked whenever its parent is.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            token: self.token.child_token(),
        }
    }

    /// Requests the drain at SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When the signal cannot be listened to.
    #[cfg(unix)]
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        crate::tasks::detach("signals", async move {
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            shutdown.request();
        });
        Ok(())
    }
}

/// What each component says of itself; a service is ready when every component is.
#[derive(Debug, Clone, Default)]
pub struct Health {
    components: Arc<Mutex<BTreeMap<String, Result<(), String>>>>,
}

impl Health {
    /// No component registered: not ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers or changes a component: ready, or the reason why not.
    pub fn set(&self, component: &str, state: Result<(), String>) {
        let mut components = self
            .components
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        components.insert(component.to_owned(), state);
    }

    /// What is not ready, with its reason; empty when all is well. A service with no component yet
    /// is `starting`.
    #[must_use]
    pub fn unready(&self) -> BTreeMap<String, String> {
        let components = self
            .components
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if components.is_empty() {
            return BTreeMap::from([("service".to_owned(), "starting".to_owned())]);
        }
        components
            .iter()
            .filter_map(|(name, state)| state.clone().err().map(|why| (name.clone(), why)))
            .collect()
    }
}
