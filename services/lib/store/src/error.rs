//! What can go wrong with the database, and who must act.

use thiserror::Error;

/// What kind of fault it is: the only input to retry decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// It may work again by itself.
    Transient,
    /// It will not work, however often it is tried.
    Permanent,
    /// A person must mend the settings or the database.
    Misconfigured,
}

/// The database could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The URL names no backend.
    #[error(
        "store.url must be `sqlite:PATH`, `sqlite::memory:` or `postgres://user@host/database`, \
         and names the scheme `{scheme}`"
    )]
    UnknownScheme {
        /// What stands before the colon; the rest may hold a password.
        scheme: String,
    },
    /// The URL cannot be read.
    #[error("store.url cannot be read")]
    Url(#[source] sqlx::Error),
    /// The database does not answer or refuses us.
    #[error("the {backend} store cannot be opened")]
    Connect {
        /// Which one.
        backend: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The tables could not be brought to this version.
    #[error("the tables of the {backend} store cannot be brought to this version")]
    Migrate {
        /// Which one.
        backend: &'static str,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
}

/// A read or a write failed; nothing was written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database failed or refused.
    #[error("the store failed to {operation}")]
    Database {
        /// What it was asked for.
        operation: &'static str,
        /// Why it did not.
        #[source]
        source: sqlx::Error,
    },
    /// Another writer changed the same deliveries at the same time, several times in a row.
    #[error("another writer keeps changing the same deliveries")]
    Contended,
    /// A stored row is not what this version writes.
    #[error("the stored {what} `{value}` is not known to this version")]
    Unreadable {
        /// What it should be.
        what: &'static str,
        /// What it is.
        value: String,
    },
    /// The store was asked to fail (only by tests and simulations).
    #[error("the store is unavailable")]
    Unavailable,
}

impl StoreError {
    /// The kind of fault.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Contended | Self::Unavailable => ErrorClass::Transient,
            Self::Unreadable { .. } => ErrorClass::Misconfigured,
            Self::Database { source, .. } => class_of(source),
        }
    }

    pub(crate) fn database(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { operation, source }
    }

    /// Two writers met; the same transaction may simply be run again.
    pub(crate) fn is_serialization(&self) -> bool {
        let Self::Database {
            source: sqlx::Error::Database(error),
            ..
        } = self
        else {
            return false;
        };
        // Serialization failure and deadlock of PostgreSQL.
        matches!(error.code().as_deref(), Some("40001" | "40P01"))
    }
}

fn class_of(error: &sqlx::Error) -> ErrorClass {
    let sqlx::Error::Database(error) = error else {
        // Connections, pools and protocols: the next connection may do better.
        return ErrorClass::Transient;
    };
    let code = error.code().unwrap_or_default();
    if code.len() != 5 {
        return sqlite_class(&code);
    }
    match code.split_at_checked(2).map_or("", |(class, _)| class) {
        // Data exceptions, broken constraints, limits exceeded: the same data fails again.
        "22" | "23" | "54" => ErrorClass::Permanent,
        // Wrong password, no such database, no such table, no right to it.
        "28" | "3D" | "42" => ErrorClass::Misconfigured,
        _ => ErrorClass::Transient,
    }
}

/// Primary result codes are the low byte of SQLite's extended ones.
fn sqlite_class(code: &str) -> ErrorClass {
    match code.parse::<u32>().map_or(0, |c| c & 0xff) {
        // Too big, constraint, mismatch, range.
        18 | 19 | 20 | 25 => ErrorClass::Permanent,
        // Error in the statement, permission, corrupt, cannot open, schema, not a database.
        1 | 3 | 11 | 14 | 17 | 26 => ErrorClass::Misconfigured,
        _ => ErrorClass::Transient,
    }
}
