//! Rebalance callbacks: noted while polling, worked off by the poll thread right after.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use super::lock;
use crate::kafka::context::{log_error, log_line};

/// What the group asks for.
pub(super) enum Asked {
    Assign(TopicPartitionList),
    Revoke {
        list: TopicPartitionList,
        lost: bool,
    },
    Failed(String),
}

/// Notes what is asked. While closing it answers at once: nobody works the notes off any more.
#[derive(Default)]
pub(super) struct RebalanceContext {
    asked: Mutex<VecDeque<Asked>>,
    closing: AtomicBool,
}

impl RebalanceContext {
    pub(super) fn take(&self) -> Option<Asked> {
        lock(&self.asked).pop_front()
    }

    pub(super) fn answer_at_once(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

impl ClientContext for RebalanceContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ConsumerContext for RebalanceContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let assign = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let revoke = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            let answered = if assign {
                consumer.incremental_assign(list)
            } else {
                consumer.incremental_unassign(list)
            };
            report(answered, "answering a rebalance while closing");
            return;
        }
        let asked = if assign {
            Asked::Assign(list.clone())
        } else if revoke {
            Asked::Revoke {
                list: list.clone(),
                lost: consumer.assignment_lost(),
            }
        } else {
            Asked::Failed(format!("{kind:?}"))
        };
        lock(&self.asked).push_back(asked);
    }
}

/// Logs a call to librdkafka that failed although nothing can be done about it.
pub(super) fn report(result: KafkaResult<()>, what: &str) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what} failed");
    }
}
