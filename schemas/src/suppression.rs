//! Suppression records to domain types and back.

use std::time::Duration;

use bongsu_domain::{AddressKey, Channel, Hold, Reason};
use bytes::Bytes;

use crate::codec::{Codec, DecodeError, EncodeError};
use crate::frame::SchemaRef;
use crate::lookup::{SchemaLookup, learn_missing};
use crate::millis::Millis;
use crate::records::Suppression;

impl From<&bongsu_domain::Suppression> for Suppression {
    fn from(s: &bongsu_domain::Suppression) -> Self {
        Self {
            channel: s.channel.as_str().to_owned(),
            account: s.account.clone(),
            address_id: s.address_id.clone(),
            app: s.app.clone(),
            hold: s.hold.as_str().to_owned(),
            reason: s.reason.as_str().to_owned(),
            at: s.at.into(),
            registered_at: s.registered_at.map(Millis::from),
            verdicts: i32::try_from(s.verdicts).unwrap_or(i32::MAX),
            first_at: Some(s.first_at.into()),
            by: s.by.clone(),
            why: s.why.clone(),
        }
    }
}

/// What a record of the topic does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SuppressionChange {
    /// This stands for its address.
    Keep(Box<bongsu_domain::Suppression>),
    /// Nothing is held of the address any more.
    Forget(AddressKey),
}

/// A record that says nothing yet, or nothing ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SuppressionFault {
    /// Its schema must be learned first.
    UnknownSchema(SchemaRef),
    /// It means nothing to this version.
    Unreadable(String),
}

/// Reads a record of the `suppressions` topic.
///
/// # Errors
/// [`SuppressionFault`].
pub fn read_suppression(
    codec: &Codec,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<SuppressionChange, SuppressionFault> {
    let unreadable = |why: String| SuppressionFault::Unreadable(why);
    let key = key
        .and_then(|key| std::str::from_utf8(key).ok())
        .and_then(AddressKey::parse)
        .ok_or_else(|| unreadable("its key is not 16 hexadecimal digits".to_owned()))?;
    let Some(value) = value else {
        return Ok(SuppressionChange::Forget(key));
    };
    let record: Suppression = codec.decode(value).map_err(|error| match error {
        DecodeError::UnknownSchema(reference) => SuppressionFault::UnknownSchema(reference),
        DecodeError::Frame(_)
        | DecodeError::WrongRecord { .. }
        | DecodeError::Incompatible { .. }
        | DecodeError::Body(_) => unreadable(error.to_string()),
    })?;
    let channel = Channel::parse(&record.channel).map_err(|e| unreadable(e.to_string()))?;
    let hold = Hold::parse(&record.hold).map_err(|e| unreadable(e.to_string()))?;
    let suppression = bongsu_domain::Suppression {
        channel,
        account: record.account,
        address_id: record.address_id,
        app: record.app,
        hold,
        // A reason of a newer version is no reason to send.
        reason: Reason::parse(&record.reason).unwrap_or(Reason::Withheld),
        at: record.at.into(),
        registered_at: record.registered_at.map(Into::into),
        verdicts: record.verdicts.unsigned_abs(),
        first_at: record.first_at.unwrap_or(record.at).into(),
        by: record.by,
        why: record.why,
    };
    if suppression.key() == key {
        Ok(SuppressionChange::Keep(Box::new(suppression)))
    } else {
        Err(unreadable("its key is not that of its address".to_owned()))
    }
}

/// The same, and learns a missing schema first; see [`learn_missing`].
///
/// # Errors
/// Why it never says anything.
pub async fn learn_suppression(
    codec: &Codec,
    lookup: &dyn SchemaLookup,
    patience: Duration,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<SuppressionChange, String> {
    let mut read = read_suppression(codec, key, value);
    if let Err(SuppressionFault::UnknownSchema(reference)) = read {
        learn_missing(codec, lookup, reference, patience).await?;
        read = read_suppression(codec, key, value);
    }
    read.map_err(|fault| match fault {
        SuppressionFault::UnknownSchema(reference) => format!("schema {reference} stays unknown"),
        SuppressionFault::Unreadable(why) => why,
    })
}

/// Key and value of what is to be written; none as value ends a suppression.
///
/// # Errors
/// When a value does not fit the schema.
pub fn write_suppression(
    codec: &Codec,
    change: &SuppressionChange,
) -> Result<(String, Option<Bytes>), EncodeError> {
    Ok(match change {
        SuppressionChange::Keep(suppression) => {
            let record = Suppression::from(suppression.as_ref());
            (suppression.key().to_string(), Some(codec.encode(&record)?))
        }
        SuppressionChange::Forget(key) => (key.to_string(), None),
    })
}

#[cfg(test)]
mod tests {
    use bongsu_domain::Timestamp;

    use super::*;

    fn suppression() -> bongsu_domain::Suppression {
        bongsu_domain::Suppression {
            channel: Channel::Apns,
            account: "shop".into(),
            address_id: "a-1".into(),
            app: Some("app".into()),
            hold: Hold::Suppressed,
            reason: Reason::InvalidAddress,
            at: Timestamp(200),
            registered_at: Some(Timestamp(100)),
            verdicts: 2,
            first_at: Timestamp(150),
            by: "hygiene".into(),
            why: None,
        }
    }

    #[test]
    fn changes_read_back() {
        let codec = Codec::default();
        let key = suppression().key();
        for change in [
            SuppressionChange::Keep(Box::new(suppression())),
            SuppressionChange::Forget(key),
        ] {
            let (key, value) = write_suppression(&codec, &change).unwrap();
            let read = read_suppression(&codec, Some(key.as_bytes()), value.as_deref());
            assert_eq!(read, Ok(change));
        }
    }

    #[test]
    fn what_means_nothing_is_told_and_a_newer_reason_still_holds() {
        let codec = Codec::default();
        let mut record = Suppression::from(&suppression());
        record.reason = "of_tomorrow".into();
        let value = codec.encode(&record).unwrap();
        let key = suppression().key().to_string();
        let read = |key: &str| read_suppression(&codec, Some(key.as_bytes()), Some(&value));
        assert!(matches!(
            read(&key),
            Ok(SuppressionChange::Keep(s)) if s.reason == Reason::Withheld
        ));
        for wrong in ["", "0000000000000000"] {
            assert!(matches!(read(wrong), Err(SuppressionFault::Unreadable(_))));
        }
    }
}
