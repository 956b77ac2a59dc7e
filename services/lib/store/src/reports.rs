//! Reports that carry a provider's own id and nothing of ours, kept until their delivery is known.
//!
//! A report may come before the outcome that tells the id, so it waits here; what is never found is
//! given up by whoever asks. Written twice a report is one row.

use std::collections::HashMap;

use bongsu_domain::identity::digest;
use sqlx::FromRow;

use crate::error::StoreError;
use crate::query::capped;
use crate::reads::Backend;
use crate::rows::DeliveryRow;
use crate::table::{Cell, Kind, Statement, Table};

/// A report that waits for its delivery.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct WaitingReport {
    /// The channel's word.
    pub channel: String,
    /// Which of our accounts it came through.
    pub account: String,
    /// The provider's id of the notification.
    pub provider_reference: String,
    /// What tells two reports of one notification apart.
    pub said: String,
    /// The outcome's word.
    pub outcome: String,
    /// The reason's word.
    pub reason: String,
    /// When it happened, milliseconds.
    pub at: i64,
    /// When we were told, milliseconds.
    pub received_at: i64,
    /// When it is looked at next, milliseconds.
    pub look_at: i64,
}

/// A delivery by its provider's id.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct NamedDelivery {
    /// The delivery's UUID in text.
    pub delivery_id: String,
    /// transactional or bulk.
    pub class: String,
    /// Its partition, and that of its receipts.
    pub source_partition: i64,
    channel: String,
    account: String,
    provider_reference: String,
}

/// A report that is due to be looked at, with every delivery that has its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueReport {
    /// The report.
    pub report: WaitingReport,
    /// One in the order of things; none while it is unknown.
    pub deliveries: Vec<NamedDelivery>,
}

impl WaitingReport {
    /// What it is stored under.
    #[must_use]
    pub fn id(&self) -> String {
        let parts = [
            self.channel.as_bytes(),
            self.account.as_bytes(),
            self.provider_reference.as_bytes(),
            self.said.as_bytes(),
        ];
        let digest = digest(&parts);
        digest.iter().take(16).map(|b| format!("{b:02x}")).collect()
    }

    pub(crate) fn cells(&self) -> Vec<Cell> {
        vec![
            self.id().into(),
            self.channel.clone().into(),
            self.account.clone().into(),
            self.provider_reference.clone().into(),
            self.said.clone().into(),
            self.outcome.clone().into(),
            self.reason.clone().into(),
            self.at.into(),
            self.received_at.into(),
            self.look_at.into(),
        ]
    }
}

impl NamedDelivery {
    /// A row's name; none when the provider never gave one, or its partition is not known yet.
    pub(crate) fn of(row: &DeliveryRow) -> Option<Self> {
        Some(Self {
            delivery_id: row.delivery_id.clone(),
            class: row.class.clone(),
            source_partition: row.source_partition?,
            channel: row.channel.clone()?,
            account: row.account.clone()?,
            provider_reference: row.provider_reference.clone()?,
        })
    }

    pub(crate) fn is_of(&self, report: &WaitingReport) -> bool {
        self.provider_reference == report.provider_reference
            && self.account == report.account
            && self.channel == report.channel
    }
}

const COLUMNS: &[(&str, Kind)] = &[
    ("report_id", Kind::Text),
    ("channel", Kind::Text),
    ("account", Kind::Text),
    ("provider_reference", Kind::Text),
    ("said", Kind::Text),
    ("outcome", Kind::Text),
    ("reason", Kind::Text),
    ("at", Kind::Int),
    ("received_at", Kind::Int),
    ("look_at", Kind::Int),
];

/// Reports as they come: the first copy stands.
pub(crate) const WAITING: Table = Table {
    name: "waiting_reports",
    columns: COLUMNS,
    on_conflict: "ON CONFLICT (report_id) DO NOTHING",
};

/// Reports that go on waiting.
pub(crate) const STILL_WAITING: Table = Table {
    name: "waiting_reports",
    columns: COLUMNS,
    on_conflict: "ON CONFLICT (report_id) DO UPDATE SET look_at = excluded.look_at",
};

pub(crate) async fn due<B: Backend>(
    backend: &B,
    now: i64,
    limit: u32,
) -> Result<Vec<DueReport>, StoreError> {
    let mut statement = Statement::new(
        "SELECT channel, account, provider_reference, said, outcome, reason, at, received_at, \
         look_at FROM waiting_reports WHERE look_at <= ",
    );
    statement
        .bind(now)
        .push(" ORDER BY look_at, report_id LIMIT ")
        .bind(capped(limit));
    let reports = backend.fetch::<WaitingReport>(statement).await?;
    if reports.is_empty() {
        return Ok(Vec::new());
    }
    let mut statement = Statement::new(
        "SELECT delivery_id, class, source_partition, channel, account, provider_reference \
         FROM deliveries WHERE source_partition IS NOT NULL AND channel IS NOT NULL \
         AND account IS NOT NULL AND provider_reference IN (",
    );
    for (n, report) in reports.iter().enumerate() {
        if n > 0 {
            statement.push(", ");
        }
        statement.bind(report.provider_reference.clone());
    }
    statement.push(") ORDER BY delivery_id");
    Ok(join(reports, backend.fetch(statement).await?))
}

pub(crate) fn join(reports: Vec<WaitingReport>, named: Vec<NamedDelivery>) -> Vec<DueReport> {
    let mut by_name: HashMap<String, Vec<NamedDelivery>> = HashMap::new();
    for delivery in named {
        let name = delivery.provider_reference.clone();
        by_name.entry(name).or_default().push(delivery);
    }
    reports
        .into_iter()
        .map(|report| {
            let same = by_name.get(&report.provider_reference);
            let own = same.into_iter().flatten().filter(|d| d.is_of(&report));
            DueReport {
                deliveries: own.cloned().collect(),
                report,
            }
        })
        .collect()
}

/// Changes to the reports that wait, all or none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportChanges {
    /// Those that came; one that is there already stays as it is.
    pub came: Vec<WaitingReport>,
    /// Those that go on waiting, with the moment they are looked at next.
    pub later: Vec<WaitingReport>,
    /// Those that are over, by [`WaitingReport::id`].
    pub over: Vec<String>,
}
