//! Whose fault a refused key is: the account's, or that of a subscription made for another key.
//!
//! Push services give both the same answer. But a service that took the present key a moment ago does
//! not refuse the account, and a body may name the mismatch; only a row of refusals with nothing
//! accepted between them is more than foreign subscriptions. Bounded: at most [`ORIGINS`] origins.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most origins remembered. There are four large services; one that is forgotten begins anew.
pub const ORIGINS: usize = 1_024;
/// Refusals in a row that are believed to be the subscriptions' own. A key that has become bad costs
/// at most so many deliveries of each service; then the account rests. (D)
pub const IN_A_ROW: u32 = 20;

#[derive(Debug, Default, Clone, Copy)]
struct Record {
    /// Whether the present key was ever accepted.
    accepted: bool,
    /// Refusals since the last acceptance.
    refused: u32,
}

/// What each push service made of an account's key.
#[derive(Debug, Default)]
pub struct Standing(Mutex<HashMap<String, Record>>);

impl Standing {
    fn records(&self) -> MutexGuard<'_, HashMap<String, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, origin: &str, change: impl FnOnce(&mut Record) -> T) -> T {
        let mut records = self.records();
        if let Some(record) = records.get_mut(origin) {
            return change(record);
        }
        if records.len() >= ORIGINS {
            records.clear();
        }
        change(records.entry(origin.to_owned()).or_default())
    }

    /// A service took a push.
    pub fn accepted(&self, origin: &str) {
        self.change(origin, |record| {
            *record = Record {
                accepted: true,
                refused: 0,
            }
        });
    }

    /// A service refused the key; `named` is whether it said that the subscription has another one.
    /// Whether the account is to blame.
    #[must_use]
    pub fn blames_account(&self, origin: &str, named: bool) -> bool {
        self.change(origin, |record| {
            record.refused = record.refused.saturating_add(1);
            !(named || record.accepted) || record.refused > IN_A_ROW
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_after_an_acceptance_is_the_subscriptions() {
        let standing = Standing::default();
        assert!(standing.blames_account("https://a", false));
        standing.accepted("https://a");
        assert!(!standing.blames_account("https://a", false));
        // Another service has accepted nothing yet.
        assert!(standing.blames_account("https://b", false));
        assert!(!standing.blames_account("https://c", true));
    }

    #[test]
    fn a_long_row_of_refusals_is_the_accounts_until_one_is_accepted() {
        let standing = Standing::default();
        for named in [true, false] {
            standing.accepted("https://a");
            for _ in 0..IN_A_ROW {
                assert!(!standing.blames_account("https://a", named));
            }
            assert!(standing.blames_account("https://a", named));
        }
        standing.accepted("https://a");
        assert!(!standing.blames_account("https://a", false));
    }

    #[test]
    fn strangers_origins_do_not_fill_the_memory() {
        let standing = Standing::default();
        for i in 0..2 * ORIGINS {
            standing.accepted(&format!("https://{i}"));
        }
        assert!(standing.records().len() <= ORIGINS);
    }
}
