//! The two framings that tell a reader which schema wrote the bytes.
//!
//! * Confluent: `00`, 4-byte big-endian schema id, body.
//! * Avro single-object encoding: `C3 01`, 8-byte little-endian Rabin fingerprint of the writer's
//!   parsing canonical form, body.

use thiserror::Error;

/// Which schema wrote a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SchemaRef {
    /// CRC-64-AVRO of the canonical form; its text is in the `schemas` topic.
    Fingerprint(u64),
    /// Id in a Confluent schema registry.
    RegistryId(i32),
}

impl std::fmt::Display for SchemaRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fingerprint(fp) => write!(f, "fingerprint {fp:016x}"),
            Self::RegistryId(id) => write!(f, "registry id {id}"),
        }
    }
}

/// The bytes carry neither framing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the value is neither Avro single-object (C3 01), nor Confluent-framed (00), nor JSON ({{): it starts with {start}"
)]
pub struct FrameError {
    /// The first bytes, hexadecimal.
    pub start: String,
}

/// Splits a value into its schema and body.
///
/// # Errors
/// [`FrameError`] when the value has neither framing.
pub fn unframe(value: &[u8]) -> Result<(SchemaRef, &[u8]), FrameError> {
    if let Some((head, body)) = value.split_first_chunk::<10>()
        && head.starts_with(&[0xC3, 0x01])
    {
        let mut fp = [0; 8];
        fp.copy_from_slice(head.split_at(2).1);
        return Ok((SchemaRef::Fingerprint(u64::from_le_bytes(fp)), body));
    }
    if let Some(([0, a, b, c, d], body)) = value.split_first_chunk::<5>() {
        return Ok((
            SchemaRef::RegistryId(i32::from_be_bytes([*a, *b, *c, *d])),
            body,
        ));
    }
    let start = value
        .iter()
        .take(4)
        .map(|b| format!("{b:02x}"))
        .collect::<Vec<_>>()
        .join(" ");
    Err(FrameError {
        start: if start.is_empty() {
            "nothing".to_owned()
        } else {
            start
        },
    })
}

/// The bytes that go before a body.
#[must_use]
pub fn frame_header(schema: SchemaRef) -> Vec<u8> {
    match schema {
        SchemaRef::Fingerprint(fp) => {
            let mut head = vec![0xC3, 0x01];
            head.extend_from_slice(&fp.to_le_bytes());
            head
        }
        SchemaRef::RegistryId(id) => {
            let mut head = vec![0];
            head.extend_from_slice(&id.to_be_bytes());
            head
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_framings_read_back() {
        for schema in [
            SchemaRef::Fingerprint(0x7275_d51a_3f39_5c8f),
            SchemaRef::RegistryId(7),
        ] {
            let mut value = frame_header(schema);
            value.extend_from_slice(b"body");
            assert_eq!(unframe(&value), Ok((schema, b"body".as_slice())));
        }
    }

    #[test]
    fn other_bytes_are_named() {
        assert_eq!(unframe(b"hi").unwrap_err().start, "68 69");
        assert_eq!(unframe(b"").unwrap_err().start, "nothing");
    }
}
