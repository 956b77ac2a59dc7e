//! The limits that publishers can meet, in one place.

/// Bytes of a decoded event (design: 512 KiB; larger audiences are stored, not inlined).
pub const EVENT_BYTES: usize = 512 * 1024;
/// Inline recipients per event; more is an audience.
pub const INLINE_RECIPIENTS: usize = 1_000;
/// Addresses of one inline recipient.
pub const ADDRESSES_PER_RECIPIENT: usize = 64;
/// UTF-8 bytes of a sender, recipient, account or other identifier.
pub const ID_BYTES: usize = 256;
/// UTF-8 bytes of one address (a token, URL or phone number).
pub const ADDRESS_BYTES: usize = 4_096;
/// UTF-8 bytes of a title.
pub const TITLE_BYTES: usize = 1_024;
/// UTF-8 bytes of a body.
pub const BODY_BYTES: usize = 65_536;
/// Entries of `content.data` and of `labels`.
pub const MAP_ENTRIES: usize = 64;
/// The latest accepted expiry, counted from now, in milliseconds (30 days).
pub const LIFETIME_MS: i64 = 30 * 24 * 3_600_000;
