//! Small numbers of the accounts of a channel, so that hot paths compare numbers.

use std::sync::{Mutex, PoisonError};

/// Names by number, grown as accounts turn up.
#[derive(Debug, Default)]
pub struct Accounts(Mutex<Vec<String>>);

impl Accounts {
    /// The number of an account, the same for the life of the process.
    #[must_use]
    pub fn number(&self, account: &str) -> u32 {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = names.iter().position(|name| name == account);
        let at = at.unwrap_or_else(|| {
            names.push(account.to_owned());
            names.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_keeps_its_number() {
        let accounts = Accounts::default();
        assert_eq!(accounts.number("a"), 0);
        assert_eq!(accounts.number("b"), 1);
        assert_eq!(accounts.number("a"), 0);
    }
}
