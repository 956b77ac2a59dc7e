//! What is wrong with a publisher's input: always a field, a code and the way out.

use serde::Serialize;

use crate::channel::vocabulary;

vocabulary!(
    /// The bounded kinds of faults, for programs and for labels.
    FaultCode, "fault code", {
        /// A required field is absent or empty.
        Missing = "missing",
        /// The value has the wrong type or form.
        Invalid = "invalid",
        /// The word is not in its vocabulary.
        UnknownWord = "unknown_word",
        /// The channel does not exist.
        UnknownChannel = "unknown_channel",
        /// A limit is exceeded.
        TooLarge = "too_large",
        /// The expiry has passed already.
        Expired = "expired",
        /// Understood, but not built in this version.
        NotBuilt = "not_built",
        /// Needs stored recipients, which this version does not have.
        NotAvailable = "not_available",
        /// Two fields contradict each other.
        Contradiction = "contradiction",
    }
);

/// One fault of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Path of the field from the event's root: `target.recipients[3].addresses[0].channel`.
    pub field: String,
    /// The kind.
    pub code: FaultCode,
    /// What is wrong and what to write instead. Never contains an address.
    pub message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// All faults of one input, collected so that a publisher mends them in one go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Adds a fault.
    pub fn add(&mut self, field: impl Into<String>, code: FaultCode, message: impl Into<String>) {
        self.0.push(Fault {
            field: field.into(),
            code,
            message: message.into(),
        });
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The code that names the whole refusal: the first fault's.
    #[must_use]
    pub fn leading_code(&self) -> Option<FaultCode> {
        self.0.first().map(|f| f.code)
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            if i == 8 {
                return write!(f, "and {} more", self.0.len() - i);
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
