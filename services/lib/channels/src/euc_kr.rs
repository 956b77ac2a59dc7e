//! How Korean carriers measure a text: in bytes of EUC-KR.

/// Bytes of a short text (SMS). [R: Bizgo and Solapi, 2026-08]
pub const SMS_BYTES: usize = 90;
/// Bytes of a long text (LMS). [R: the same]
pub const LMS_BYTES: usize = 2_000;

/// Bytes of a text in EUC-KR: one for ASCII, else two.
#[must_use]
pub fn bytes(text: &str) -> usize {
    text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_counts_one_and_hangul_two() {
        assert_eq!(bytes("주문 17"), 7);
        assert_eq!(bytes(&"가".repeat(45)), SMS_BYTES);
    }
}
