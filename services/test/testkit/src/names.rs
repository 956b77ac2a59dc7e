//! Names that belong to one test, so that tests share a broker and run side by side.

use uuid::Uuid;

/// Topic prefix and groups of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Fresh names; `test` makes them readable in a broker's log and may hold letters, digits and
    /// `-` (anything else becomes `-`).
    #[must_use]
    pub fn new(test: &str) -> Self {
        let readable: String = test
            .chars()
            .take(40)
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let random = Uuid::new_v4().simple().to_string();
        let short: String = random.chars().take(12).collect();
        Self {
            prefix: format!("t-{readable}-{short}."),
        }
    }

    /// The prefix for all topics of the test, with its final dot.
    #[must_use]
    pub fn topic_prefix(&self) -> &str {
        &self.prefix
    }

    /// A topic of the test.
    #[must_use]
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A consumer group, transactional id or client id of the test.
    #[must_use]
    pub fn group(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tests_of_one_name_share_nothing() {
        let (a, b) = (Names::new("walk/one two"), Names::new("walk/one two"));
        assert_ne!(a, b);
        assert!(a.topic("events").starts_with("t-walk-one-two-"));
        assert!(a.topic("events").ends_with(".events"));
    }
}
