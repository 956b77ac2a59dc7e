//! Mailboxes: one form for the ways to write an e-mail address, and nothing that could end a line.

use thiserror::Error;
use url::Host;

/// Why a text is no mailbox. Never holds the text: it is personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is no e-mail address; write name@example.com")]
pub struct MailboxError;

/// A mailbox: `local@domain`, the domain in ASCII and lower case. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    text: String,
    at: usize,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox(***)")
    }
}

/// Bytes before the `@` at most. [R: RFC 5321, 4.5.3.1.1]
const LOCAL_BYTES: usize = 64;
/// Bytes in all. [R: RFC 5321, 4.5.3.1.3, less the brackets]
const BYTES: usize = 254;
/// What stands in a local part beside letters, digits and what lies beyond ASCII. [R: RFC 5322,
/// 3.2.3; a quoted local part is nowhere in use and not taken]
const ATOM: &str = "!#$%&'*+-/=?^_`{|}~.";

impl Mailbox {
    /// Reads `name@example.com`. A domain beyond ASCII becomes its ASCII form; an address in brackets
    /// (`name@[192.0.2.1]`) is not taken.
    ///
    /// # Errors
    /// [`MailboxError`].
    pub fn parse(text: &str) -> Result<Self, MailboxError> {
        let (local, domain) = text.trim().rsplit_once('@').ok_or(MailboxError)?;
        let dotted = local.starts_with('.') || local.ends_with('.') || local.contains("..");
        let allowed = |c: char| {
            c.is_ascii_alphanumeric()
                || ATOM.contains(c)
                || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
        };
        let fits = (1..=LOCAL_BYTES).contains(&local.len());
        if !fits || dotted || !local.chars().all(allowed) {
            return Err(MailboxError);
        }
        let Ok(Host::Domain(domain)) = Host::parse(domain) else {
            return Err(MailboxError);
        };
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let text = format!("{local}@{domain}");
        if !domain.split('.').all(label) || text.len() > BYTES {
            return Err(MailboxError);
        }
        Ok(Self {
            text,
            at: local.len(),
        })
    }

    /// The whole of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the `@`.
    #[must_use]
    pub fn local(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    /// What stands behind it.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ways_to_write_one_mailbox_are_one() {
        let read = |text| Mailbox::parse(text).unwrap().as_str().to_owned();
        assert_eq!(read(" Ann+x@Example.COM "), "Ann+x@example.com");
        assert_eq!(read("a@bücher.example"), "a@xn--bcher-kva.example");
        assert_eq!(read("사용자@example.com"), "사용자@example.com");
        let mailbox = Mailbox::parse("ann@example.com").unwrap();
        assert_eq!((mailbox.local(), mailbox.domain()), ("ann", "example.com"));
        assert_eq!(format!("{mailbox:?}"), "Mailbox(***)");
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in [
            "",
            "ann",
            "@example.com",
            "ann@",
            "a b@example.com",
            "ann@exa mple.com",
            "ann@example.com\r\nRCPT TO:<eve@example.com>",
            "ann\r\n@example.com",
            "ann@example.com>",
            "<ann@example.com>",
            "\"a\"@example.com",
            "a,b@example.com",
            "ann@127.0.0.1",
            "ann@[127.0.0.1]",
            ".ann@example.com",
            "a..n@example.com",
            "ann@-x.com",
            "ann@x..com",
        ] {
            assert_eq!(Mailbox::parse(bad), Err(MailboxError), "{bad}");
        }
        let long = format!("{}@example.com", "a".repeat(65));
        assert_eq!(Mailbox::parse(&long), Err(MailboxError));
    }

    proptest! {
        #[test]
        fn nothing_that_ends_a_line_or_an_address_gets_through(text in any::<String>()) {
            if let Ok(mailbox) = Mailbox::parse(&text) {
                let bad = |c: char| c.is_control() || c.is_whitespace() || "<>\"(),:;\\[]".contains(c);
                prop_assert!(!mailbox.as_str().contains(bad));
            }
        }
    }
}
