//! Absolute time on the wire: a number in Avro, a number or RFC 3339 in JSON.

use bongsu_domain::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

/// Milliseconds since the Unix epoch. JSON may also say `"2026-11-24T09:00:00+09:00"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl From<Timestamp> for Millis {
    fn from(t: Timestamp) -> Self {
        Self(t.0)
    }
}

impl From<Millis> for Timestamp {
    fn from(m: Millis) -> Self {
        Self(m.0)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return i64::deserialize(deserializer).map(Self);
        }
        deserializer.deserialize_any(MillisVisitor)
    }
}

struct MillisVisitor;

impl serde::de::Visitor<'_> for MillisVisitor {
    type Value = Millis;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("milliseconds since 1970 or an RFC 3339 time such as 2026-11-24T09:00:00Z")
    }

    fn visit_i64<E>(self, v: i64) -> Result<Millis, E> {
        Ok(Millis(v))
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Millis, E> {
        i64::try_from(v)
            .map(Millis)
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(v), &self))
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Millis, E> {
        Timestamp::parse_rfc3339(v)
            .map(|t| Millis(t.0))
            .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(v), &self))
    }
}
