//! Phone numbers: one form for all ways to write them.

use thiserror::Error;

/// Why a text is no phone number. Never holds the text: it is personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PhoneError {
    /// Something else than digits, spaces, `-`, `.`, brackets and a leading `+`.
    #[error("holds characters that are in no phone number; write +82 10 1234 5678")]
    Character,
    /// Neither an international number nor a Korean one.
    #[error("names no country; write +82 10 1234 5678, or 010-1234-5678 for Korea")]
    Country,
    /// Too few or too many digits.
    #[error("has the wrong number of digits; write +82 10 1234 5678")]
    Length,
}

/// A phone number as country code and subscriber number, digits only (E.164 without its `+`).
/// `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Phone(String);

impl std::fmt::Debug for Phone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Phone(***)")
    }
}

/// Korea's country code, which a number with a leading 0 is taken to have: AlimTalk and Solapi are
/// services of Korea, and their publishers write numbers as they are dialled there.
const KOREA: &str = "82";

impl Phone {
    /// Reads a number: `+82 10 1234 5678`, `0082 10…`, `8210…`, `010-1234-5678`.
    ///
    /// # Errors
    /// [`PhoneError`].
    pub fn parse(text: &str) -> Result<Self, PhoneError> {
        let text = text.trim();
        let (plus, rest) = match text.strip_prefix('+') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut digits = String::with_capacity(rest.len());
        for c in rest.chars() {
            match c {
                '0'..='9' => digits.push(c),
                ' ' | '-' | '.' | '(' | ')' => {}
                _ => return Err(PhoneError::Character),
            }
        }
        let national = |rest: &str| format!("{KOREA}{}", rest.trim_start_matches('0'));
        let digits = if plus {
            digits
        } else if let Some(rest) = digits.strip_prefix("00") {
            rest.to_owned()
        } else if let Some(rest) = digits.strip_prefix('0') {
            national(rest)
        } else if digits.starts_with(KOREA) {
            digits
        } else {
            return Err(PhoneError::Country);
        };
        // `+82 010…` is written often and means `+82 10…`.
        let digits = match digits.strip_prefix(KOREA) {
            Some(rest) => national(rest),
            None => digits,
        };
        let subscriber = digits.strip_prefix(KOREA).map(str::len);
        if !(8..=15).contains(&digits.len()) || subscriber.is_some_and(|n| !(8..=10).contains(&n)) {
            return Err(PhoneError::Length);
        }
        if digits.starts_with('0') {
            return Err(PhoneError::Country);
        }
        Ok(Self(digits))
    }

    /// Country code and subscriber number.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// Whether it is a number of Korea.
    #[must_use]
    pub fn is_korean(&self) -> bool {
        self.0.starts_with(KOREA)
    }

    /// As it is dialled in Korea: `01012345678`, and other countries' numbers with their code but
    /// without `+`.
    #[must_use]
    pub fn dialled_in_korea(&self) -> String {
        match self.0.strip_prefix(KOREA) {
            Some(rest) => format!("0{rest}"),
            None => self.0.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_number_is_one_number() {
        for text in [
            "010-1234-5678",
            "01012345678",
            " 010 1234 5678 ",
            "+82 10-1234-5678",
            "+82 (0)10 1234 5678",
            "821012345678",
            "0082 10 1234 5678",
        ] {
            let phone = Phone::parse(text).unwrap();
            assert_eq!(phone.digits(), "821012345678", "{text}");
            assert_eq!(phone.dialled_in_korea(), "01012345678", "{text}");
        }
        let abroad = Phone::parse("+1 415 555 2671").unwrap();
        assert_eq!(abroad.dialled_in_korea(), "14155552671");
        assert!(!abroad.is_korean());
        assert_eq!(format!("{abroad:?}"), "Phone(***)");
    }

    #[test]
    fn what_is_no_number_is_told_why() {
        for (text, error) in [
            ("", PhoneError::Country),
            ("1234567890", PhoneError::Country),
            ("010-1234", PhoneError::Length),
            ("+82 10 1234 5678 9", PhoneError::Length),
            ("+1234567890123456", PhoneError::Length),
            ("010-abcd-5678", PhoneError::Character),
            ("not an address", PhoneError::Character),
        ] {
            assert_eq!(Phone::parse(text), Err(error), "{text}");
        }
    }
}
