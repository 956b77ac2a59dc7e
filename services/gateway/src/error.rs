//! Why the gateway does not start, or stops.

use std::net::SocketAddr;

use bongsu_runtime::TaskDied;
use bongsu_runtime::settings::SettingsError;
use bongsu_stream::error::{AdminError, ProduceError};
use thiserror::Error;

/// The gateway cannot start or go on.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// The settings contradict themselves.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Topics it writes to do not exist.
    #[error("the topics {} do not exist; run `bongsu topics apply`", .0.join(", "))]
    TopicsMissing(Vec<String>),
    /// The two classes have different numbers of partitions.
    #[error(
        "{first} has {first_partitions} partitions and {second} has {second_partitions}; \
         both must have the same number, see `bongsu topics plan`"
    )]
    PartitionsDiffer {
        /// Topic of transactional events.
        first: String,
        /// Its partitions.
        first_partitions: i32,
        /// Topic of bulk events.
        second: String,
        /// Its partitions.
        second_partitions: i32,
    },
    /// Kafka could not be asked about topics.
    #[error("the topics cannot be looked at")]
    Kafka(#[from] AdminError),
    /// No producer.
    #[error("no producer")]
    Producer(#[from] ProduceError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address of the settings.
        address: SocketAddr,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// A part died.
    #[error(transparent)]
    Task(#[from] TaskDied),
    /// Shutdown left work behind.
    #[error(
        "{connections} connection(s) and {records} record(s) were still open at the drain deadline"
    )]
    DrainMissed {
        /// Connections cut.
        connections: usize,
        /// Records not acknowledged; their publishers got no 202.
        records: usize,
    },
}
