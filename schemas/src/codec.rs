//! Avro in both framings.
//!
//! Bytes are read with their **writer's** schema into structs whose missing fields have defaults.
//! A schema this process has not met is [`DecodeError::UnknownSchema`]: the caller fetches its text
//! (topic `schemas`, or the registry), hands it to [`Codec::learn`] and tries again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Once, RwLock};

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::writer::datum::GenericDatumWriter;
use bongsu_domain::Fault;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::convert::{delivery_from_parts, delivery_from_record};
use crate::frame::{FrameError, SchemaRef, frame_header, unframe};
use crate::hot;
use crate::outcome::OutcomeReceipt;
use crate::records::{
    AuditEntry, Control, Delivery, JournalEntry, NotificationEvent, RateShare, Receipt, Suppression,
};

/// The most a single length in a record may claim, in bytes: a damaged length must not allocate.
const MAX_ALLOCATION: usize = 4 * 1024 * 1024;
/// Bytes of the encoding buffer that a thread keeps.
const KEPT: usize = 64 * 1024;
/// Foreign writer schemas kept; each lives as long as the process.
const MAX_LEARNED: usize = 1_000;

/// A record type with its schema.
pub trait AvroRecord: Serialize + DeserializeOwned + 'static {
    /// The record's name within `io.bongsu.v1`.
    const NAME: &'static str;

    /// The current schema, with its writer and fingerprint.
    fn current() -> &'static Current;
}

/// A current schema, parsed once.
pub struct Current {
    /// The `.avsc` text.
    pub text: &'static str,
    /// CRC-64-AVRO of the parsing canonical form.
    pub fingerprint: u64,
    schema: &'static Schema,
    writer: GenericDatumWriter<'static>,
}

impl Current {
    #[expect(
        clippy::expect_used,
        reason = "our own schemas are constants, parsed by every test"
    )]
    fn parse(text: &'static str) -> Self {
        static LIMIT: Once = Once::new();
        LIMIT.call_once(|| {
            let taken = apache_avro::util::max_allocation_bytes(MAX_ALLOCATION);
            debug_assert!(taken <= MAX_ALLOCATION);
        });
        let schema: &'static Schema = Box::leak(Box::new(
            Schema::parse_str(text).expect("our schema parses"),
        ));
        let writer = GenericDatumWriter::builder(schema)
            .human_readable(false)
            .build()
            .expect("our schema resolves");
        Self {
            text,
            fingerprint: fingerprint_of(schema),
            schema,
            writer,
        }
    }
}

macro_rules! avro_record {
    ($type:ident, $file:literal) => {
        impl AvroRecord for $type {
            const NAME: &'static str = stringify!($type);

            fn current() -> &'static Current {
                static CURRENT: LazyLock<Current> =
                    LazyLock::new(|| Current::parse(include_str!(concat!("../avsc/", $file))));
                &CURRENT
            }
        }
    };
}
avro_record!(NotificationEvent, "notification_event.avsc");
avro_record!(Delivery, "delivery.avsc");
avro_record!(Receipt, "receipt.avsc");
avro_record!(JournalEntry, "journal_entry.avsc");
avro_record!(Control, "control.avsc");
avro_record!(AuditEntry, "audit_entry.avsc");
avro_record!(RateShare, "rate_share.avsc");
avro_record!(Suppression, "suppression.avsc");

/// Every current schema, for `topics apply` to publish.
#[must_use]
pub fn current_schemas() -> [&'static Current; 8] {
    [
        NotificationEvent::current(),
        Delivery::current(),
        Receipt::current(),
        JournalEntry::current(),
        Control::current(),
        AuditEntry::current(),
        RateShare::current(),
        Suppression::current(),
    ]
}

fn fingerprint_of(schema: &Schema) -> u64 {
    let digest = schema.fingerprint::<Rabin>();
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(&digest.bytes) {
        *to = *from;
    }
    u64::from_le_bytes(bytes)
}

/// How written values are framed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Framing {
    /// Avro single-object encoding; the schema's text is in the `schemas` topic.
    #[default]
    SingleObject,
    /// Confluent, with the registry's id per record name.
    Confluent(HashMap<&'static str, i32>),
}

/// A record could not be written.
#[derive(Debug, Error)]
#[error("{name} cannot be encoded: {reason}")]
pub struct EncodeError {
    /// The record's name.
    pub name: &'static str,
    /// What Avro said.
    pub reason: String,
}

/// A value could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The framing is unknown.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The schema is not known here; fetch it, [`Codec::learn`] it, try again.
    #[error("the writer's schema ({0}) is unknown")]
    UnknownSchema(SchemaRef),
    /// The schema describes something else.
    #[error("the value is a {found}, not a {expected}")]
    WrongRecord {
        /// What was asked for.
        expected: &'static str,
        /// What the schema names.
        found: String,
    },
    /// The schema cannot be read as ours.
    #[error("the writer's schema ({schema}) does not fit: {reason}")]
    Incompatible {
        /// The schema.
        schema: SchemaRef,
        /// Where they part.
        reason: String,
    },
    /// The body does not follow its schema.
    #[error("the body does not follow its schema: {0}")]
    Body(String),
}

/// A value is no delivery.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeliveryError {
    /// It cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A field of it is not what fanout writes.
    #[error("{0}")]
    Fault(Fault),
}

impl From<Fault> for DeliveryError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

struct Learned {
    name: String,
    reader: Result<Reader, String>,
}

struct Reader {
    direct: GenericDatumReader<'static>,
    /// For a foreign schema: reads with schema resolution what the direct reader cannot skip (it
    /// stumbles over maps and records in fields that this version does not know).
    resolving: Option<(GenericDatumReader<'static>, &'static Schema)>,
}

impl Reader {
    fn read<T: AvroRecord>(&self, body: &mut &[u8]) -> Result<T, String> {
        let start = *body;
        let direct = self.direct.read_deser(body).map_err(|e| e.to_string());
        match (&self.resolving, direct) {
            (Some((resolving, current)), Err(_)) => {
                *body = start;
                let value = resolving.read_value(body).map_err(|e| e.to_string())?;
                let bytes = GenericDatumWriter::builder(current)
                    .build()
                    .and_then(|w| w.write_value_to_vec(value))
                    .map_err(|e| e.to_string())?;
                GenericDatumReader::builder(current)
                    .human_readable(false)
                    .build()
                    .and_then(|r| r.read_deser(&mut bytes.as_slice()))
                    .map_err(|e| e.to_string())
            }
            (_, direct) => direct,
        }
    }
}

/// Encodes and decodes; shared by reference, safe from any thread.
pub struct Codec {
    framing: Framing,
    learned: RwLock<HashMap<SchemaRef, Arc<Learned>>>,
}

impl Codec {
    /// A codec that writes with `framing` and reads both.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let codec = Self {
            framing,
            learned: RwLock::default(),
        };
        for current in current_schemas() {
            codec.remember(SchemaRef::Fingerprint(current.fingerprint), current.schema);
            let id = match (&codec.framing, current.schema.name()) {
                (Framing::Confluent(ids), Some(name)) => ids.get(name.name()).copied(),
                (Framing::Confluent(_), None) | (Framing::SingleObject, _) => None,
            };
            if let Some(id) = id {
                codec.remember(SchemaRef::RegistryId(id), current.schema);
            }
        }
        codec
    }

    /// Writes a record, framed.
    ///
    /// # Errors
    /// [`EncodeError`] when a value does not fit its schema.
    pub fn encode<T: AvroRecord>(&self, record: &T) -> Result<Bytes, EncodeError> {
        self.write::<T>(|out| T::current().writer.write_ser(out, record).map(drop))
    }

    /// Writes the receipt of an outcome, framed.
    ///
    /// # Errors
    /// [`EncodeError`] when the framing does not know receipts.
    pub fn encode_outcome(&self, receipt: &OutcomeReceipt<'_>) -> Result<Bytes, EncodeError> {
        self.write::<Receipt>(|out| {
            hot::write_outcome(out, receipt);
            Ok(())
        })
    }

    fn write<T: AvroRecord>(
        &self,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), apache_avro::Error>,
    ) -> Result<Bytes, EncodeError> {
        thread_local! {
            /// Encoded in here and copied out once its length is known.
            static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let schema = match &self.framing {
            Framing::SingleObject => SchemaRef::Fingerprint(T::current().fingerprint),
            Framing::Confluent(ids) => {
                SchemaRef::RegistryId(*ids.get(T::NAME).ok_or_else(|| EncodeError {
                    name: T::NAME,
                    reason: "no registry id is known".to_owned(),
                })?)
            }
        };
        SCRATCH.with_borrow_mut(|out| {
            out.clear();
            out.extend(frame_header(schema));
            let value = body(out).map(|()| Bytes::copy_from_slice(out));
            out.shrink_to(KEPT);
            value.map_err(|e| EncodeError {
                name: T::NAME,
                reason: e.to_string(),
            })
        })
    }

    /// Reads a framed delivery as dispatch needs it.
    ///
    /// # Errors
    /// [`DeliveryError`].
    pub fn decode_delivery(&self, value: &[u8]) -> Result<bongsu_domain::Delivery, DeliveryError> {
        let current = SchemaRef::Fingerprint(Delivery::current().fingerprint);
        if let Ok((schema, body)) = unframe(value)
            && schema == current
            && let Some(raw) = hot::read_delivery(body)
        {
            return Ok(delivery_from_parts(raw)?);
        }
        Ok(delivery_from_record(self.decode::<Delivery>(value)?)?)
    }

    /// Reads a framed value.
    ///
    /// # Errors
    /// [`DecodeError`]; `UnknownSchema` is the only one that may go away.
    pub fn decode<T: AvroRecord>(&self, value: &[u8]) -> Result<T, DecodeError> {
        let (schema, mut body) = unframe(value)?;
        let learned = {
            let known = self
                .learned
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            known.get(&schema).cloned()
        };
        let learned = learned.ok_or(DecodeError::UnknownSchema(schema))?;
        if learned.name != T::NAME {
            return Err(DecodeError::WrongRecord {
                expected: T::NAME,
                found: learned.name.clone(),
            });
        }
        let reader = learned
            .reader
            .as_ref()
            .map_err(|reason| DecodeError::Incompatible {
                schema,
                reason: reason.clone(),
            })?;
        let record = reader.read(&mut body).map_err(DecodeError::Body)?;
        if body.is_empty() {
            Ok(record)
        } else {
            Err(DecodeError::Body(format!(
                "{} bytes are left over",
                body.len()
            )))
        }
    }

    /// Remembers a writer's schema under its reference.
    ///
    /// # Errors
    /// When the text is no Avro schema of a named record.
    pub fn learn(&self, reference: SchemaRef, text: &str) -> Result<(), String> {
        {
            let known = self
                .learned
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if known.contains_key(&reference) {
                return Ok(());
            }
            if known.len() >= MAX_LEARNED {
                return Err(format!("more than {MAX_LEARNED} writer schemas"));
            }
        }
        let schema = Schema::parse_str(text).map_err(|e| e.to_string())?;
        if schema.name().is_none() {
            return Err("the schema is not a named record".to_owned());
        }
        // Readers borrow their schema for the life of the process; MAX_LEARNED bounds the memory.
        self.remember(reference, Box::leak(Box::new(schema)));
        Ok(())
    }

    fn remember(&self, reference: SchemaRef, schema: &'static Schema) {
        let name = schema
            .name()
            .map_or_else(String::new, |n| n.name().to_owned());
        let reader = match current_schemas()
            .into_iter()
            .find(|c| c.schema.name().is_some_and(|n| n.name() == name))
        {
            None => Err("no record of this version has this name".to_owned()),
            Some(current) => compatible_reader(schema, current.schema),
        };
        let mut known = self
            .learned
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        known.insert(reference, Arc::new(Learned { name, reader }));
    }
}

fn compatible_reader(writer: &'static Schema, reader: &'static Schema) -> Result<Reader, String> {
    SchemaCompatibility::can_read(writer, reader).map_err(|e| e.to_string())?;
    let direct = GenericDatumReader::builder(writer)
        .human_readable(false)
        .build()
        .map_err(|e| e.to_string())?;
    let resolving = if fingerprint_of(writer) == fingerprint_of(reader) {
        None
    } else {
        let generic = GenericDatumReader::builder(writer)
            .reader_schema(reader)
            .build()
            .map_err(|e| e.to_string())?;
        Some((generic, reader))
    };
    Ok(Reader { direct, resolving })
}

impl Default for Codec {
    fn default() -> Self {
        Self::new(Framing::SingleObject)
    }
}
