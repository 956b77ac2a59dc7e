//! The receipt of an outcome as dispatch writes it, once per delivery: the same bytes as
//! [`Receipt`](crate::Receipt), borrowed from the delivery.

use bongsu_domain::Pairs;
use serde::Serialize;

use crate::Millis;

/// A [`Receipt`](crate::Receipt) of kind `outcome`, field by field.
#[derive(Debug, Clone, Serialize)]
#[serde(rename = "Receipt")]
#[expect(missing_docs, reason = "each field is documented at `Receipt`")]
pub struct OutcomeReceipt<'a> {
    pub kind: &'a str,
    pub receipt_id: String,
    pub delivery_id: Option<String>,
    pub event_id: &'a str,
    pub sender: &'a str,
    pub class: &'a str,
    pub purpose: &'a str,
    pub category: Option<&'a str>,
    pub channel: Option<&'a str>,
    pub account: Option<&'a str>,
    pub recipient: Option<&'a str>,
    pub address_id: Option<&'a str>,
    pub platform: Option<&'a str>,
    pub app: Option<&'a str>,
    pub registered_at: Option<Millis>,
    pub outcome: &'a str,
    pub reason: &'a str,
    pub detail: Option<&'a str>,
    pub attempts: i32,
    pub at: Millis,
    pub accepted_at: Option<Millis>,
    pub expires_at: Option<Millis>,
    pub content_hash: String,
    pub step: i32,
    pub origin: &'a str,
    pub campaign_id: Option<&'a str>,
    pub schedule_id: Option<&'a str>,
    pub replay_id: Option<&'a str>,
    pub possible_duplicate: bool,
    pub provider_reference: Option<&'a str>,
    pub worker_id: Option<&'a str>,
    pub source_topic: Option<&'a str>,
    pub source_partition: Option<i32>,
    pub source_offset: Option<i64>,
    pub labels: &'a Pairs,
}
