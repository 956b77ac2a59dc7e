//! Which database, and opening it.

use std::sync::Arc;

use bongsu_runtime::settings::Complaint;
use bongsu_runtime::{Duration, Secret};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::SqliteConnectOptions;

use crate::error::OpenError;
use crate::postgres::PostgresStore;
use crate::sqlite::SqliteStore;
use crate::store::LedgerStore;

/// Valid on both databases.
pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Less than that cuts off a process that only waited for its turn; far more, PostgreSQL does not take.
const ABANDONED: std::ops::RangeInclusive<std::time::Duration> =
    std::time::Duration::from_secs(1)..=std::time::Duration::from_secs(24 * 3_600);

bongsu_runtime::settings! {
    /// The database of status and statistics.
    pub struct Settings {
        /// `sqlite:PATH` for one machine, `sqlite::memory:` to keep nothing, or
        /// `postgres://user:password@host/database`. `file:PATH` reads the URL from a file.
        pub url: Secret = Secret::new("sqlite:bongsu.db"),
        /// Connections to PostgreSQL, or readers of SQLite (which has one writer besides).
        pub connections: u32 = 8,
        /// How long a call may wait for a free connection.
        pub acquire_timeout: Duration = Duration::secs(5),
        /// How long PostgreSQL keeps a transaction in which nobody says anything, and its locks. Where
        /// a connection dies without a word, those who want the same rows wait for as long. Behind a
        /// pooler that gives each transaction another connection, set
        /// `idle_in_transaction_session_timeout` of the role as well.
        pub abandoned_after: Duration = Duration::secs(15),
    }
}

impl Settings {
    /// Checks the section; `section` is its name in the file.
    #[must_use]
    pub fn complaints(&self, section: &str) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        if let Err(error) = Location::of(&self.url) {
            complaints.push(Complaint::new(format!("{section}.url"), told(&error)));
        }
        if self.connections == 0 {
            complaints.push(Complaint::new(
                format!("{section}.connections"),
                "must be at least 1",
            ));
        }
        if !ABANDONED.contains(&self.abandoned_after.0) {
            complaints.push(Complaint::new(
                format!("{section}.abandoned_after"),
                "must be from 1s to 24h",
            ));
        }
        complaints
    }
}

fn told(error: &OpenError) -> String {
    use std::error::Error as _;
    error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[derive(Debug)]
enum Location {
    Memory,
    File(Box<SqliteConnectOptions>),
    Postgres(Box<PgConnectOptions>),
}

impl Location {
    fn of(url: &Secret) -> Result<Self, OpenError> {
        let url = url.expose();
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            "sqlite" if matches!(url, "sqlite::memory:" | "sqlite://:memory:") => Ok(Self::Memory),
            "sqlite" => url
                .parse()
                .map(|options| Self::File(Box::new(options)))
                .map_err(OpenError::Url),
            "postgres" | "postgresql" => url
                .parse()
                .map(|options| Self::Postgres(Box::new(options)))
                .map_err(OpenError::Url),
            other => Err(OpenError::UnknownScheme {
                scheme: other.chars().take(16).collect(),
            }),
        }
    }
}

/// Opens the store that the settings name and brings its tables to this version.
///
/// # Errors
/// [`OpenError`].
pub async fn open(settings: &Settings) -> Result<Arc<dyn LedgerStore>, OpenError> {
    let acquire = settings.acquire_timeout.0;
    Ok(match Location::of(&settings.url)? {
        Location::Memory => Arc::new(SqliteStore::open_memory(acquire).await?),
        Location::File(options) => {
            Arc::new(SqliteStore::open_file(*options, settings.connections, acquire).await?)
        }
        Location::Postgres(options) => {
            let options = (*options).application_name("bongsu");
            let pool = PgPoolOptions::new()
                .max_connections(settings.connections)
                .acquire_timeout(acquire);
            let store = PostgresStore::open(options, pool, settings.abandoned_after.0);
            Arc::new(store.await?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_named_and_no_password_is_shown() {
        let settings = Settings {
            url: Secret::new("mysql://root:hunter2@db/x"),
            connections: 0,
            abandoned_after: Duration::millis(10),
            ..Settings::default()
        };
        let complaints = settings.complaints("store");
        let keys: Vec<_> = complaints.iter().map(|c| c.key.as_str()).collect();
        assert_eq!(
            keys,
            ["store.url", "store.connections", "store.abandoned_after"]
        );
        assert!(!format!("{complaints:?}").contains("hunter2"));
    }

    #[test]
    fn the_defaults_are_accepted() {
        assert_eq!(Settings::default().complaints("store"), []);
    }
}
