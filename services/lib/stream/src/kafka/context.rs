//! The client context of admin, tail and look-up clients, and librdkafka's log lines in ours.

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

/// Writes a log line of librdkafka's.
pub(super) fn log_line(level: RDKafkaLogLevel, facility: &str, text: &str) {
    if facility.starts_with("TXN") {
        // What a transaction met reaches its caller, who knows whether it is worth a warning.
        tracing::info!(target: "librdkafka", facility, "{text}");
        return;
    }
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{text}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, "{text}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{text}"),
    }
}

/// Writes a global error of a client's. librdkafka recovers from these by itself; what it does not
/// recover from reaches the caller as the error of an operation.
pub(super) fn log_error(error: &KafkaError, reason: &str) {
    if matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF)) {
        // The end of a tail: asked for, and no error.
        return;
    }
    tracing::warn!(target: "librdkafka", %error, reason, "kafka client error");
}

/// A context that only logs.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl ClientContext for Plain {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ConsumerContext for Plain {}
