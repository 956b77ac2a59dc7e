//! The settings a drill gives to dispatch: the one place that knows their names.

use std::path::PathBuf;

/// The key every drill signs with, so that signing is part of every figure.
pub(crate) const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Settings of one dispatch process.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) max_in_flight: usize,
    /// Short timeouts, so that a killed worker is missed soon; the same inequality between them,
    /// which dispatch checks at its start: 1.5 s of lease, 2 s of an attempt, its grace, a heartbeat
    /// and the drift fit into a session of 7 s.
    pub(crate) short_session: bool,
    pub(crate) kafka_through_proxy: bool,
    /// Further lines after `[kafka]`, tables of its own included.
    pub(crate) kafka: String,
    /// Further lines of `[dispatch]`.
    pub(crate) dispatch: String,
    /// Further lines of the webhook channel's default account.
    pub(crate) account: String,
    /// The section `store`, for a ledger.
    pub(crate) store: String,
    /// Certificate that the webhook channel must trust.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            max_in_flight: 512,
            short_session: false,
            kafka_through_proxy: false,
            kafka: String::new(),
            dispatch: String::new(),
            account: String::new(),
            store: String::new(),
            ca_file: None,
        }
    }
}

impl Profile {
    /// For drills that kill workers.
    pub(crate) fn short() -> Self {
        Self {
            short_session: true,
            ..Self::default()
        }
    }

    /// The line of an account that is told its limit, in requests per second.
    pub(crate) fn limit(per_second: u32) -> String {
        format!("one_receiver = true\nlimits = {{ per_second = {per_second} }}\n")
    }

    /// For drills in which one provider stands behind all addresses.
    pub(crate) fn one_receiver() -> Self {
        Self {
            account: "one_receiver = true\n".to_owned(),
            ..Self::default()
        }
    }

    /// The line that makes a key which waits this long leave for the side lane.
    pub(crate) fn divert_after(seconds: u32) -> String {
        format!("divert_after = \"{seconds}s\"\n")
    }

    /// The sections `dispatch` and `channels.webhook`.
    pub(crate) fn toml(&self) -> String {
        let session = if self.short_session {
            "session_timeout = \"7s\"\nattempt_timeout = \"2s\"\nlease = \"1500ms\"\n\
             commit_interval = \"500ms\"\ndrain_timeout = \"4s\"\n"
        } else {
            ""
        };
        let client = self.ca_file.as_ref().map_or(String::new(), |path| {
            format!(
                "[channels.webhook.client]\nca_file = \"{}\"\n",
                path.display()
            )
        });
        format!(
            "[dispatch]\nmax_in_flight = {}\n{session}{}\
             [channels.webhook.accounts.default]\nallow_private = true\nsecrets = [\"{SECRET}\"]\n{}{client}",
            self.max_in_flight, self.dispatch, self.account,
        )
    }
}
