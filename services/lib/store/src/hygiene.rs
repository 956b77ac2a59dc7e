//! Suppressions to be looked at, and the guard's memory of what providers said.
//!
//! The `suppressions` topic is the truth; the ledger keeps its table beside it, so that a person can
//! ask. The windows move in the transaction of the receipts that they count.

use bongsu_domain::{AddressKey, Channel, Hold, Reason, Suppression, Timestamp};
use sqlx::FromRow;

use crate::error::StoreError;
use crate::query::capped;
use crate::reads::Backend;
use crate::table::{Cell, Kind, Statement, Table};

/// Words on the addresses of one scope in one minute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub struct WindowRow {
    /// The channel's word.
    pub channel: String,
    /// The account.
    pub account: String,
    /// The app; empty for none.
    pub app: String,
    /// Begin of the minute, milliseconds.
    pub minute: i64,
    /// All words.
    pub told: i64,
    /// Those that said dead.
    pub dead: i64,
}

/// Which suppressions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuppressionQuery {
    /// Of this channel.
    pub channel: Option<Channel>,
    /// Of this account.
    pub account: Option<String>,
    /// Of this address.
    pub address_id: Option<String>,
    /// Continue after this one.
    pub after: Option<AddressKey>,
    /// At most so many.
    pub limit: u32,
}

impl SuppressionQuery {
    /// Whether one is asked for.
    pub(crate) fn wants(&self, s: &Suppression) -> bool {
        self.channel.is_none_or(|c| c == s.channel)
            && self.account.as_ref().is_none_or(|a| *a == s.account)
            && self.address_id.as_ref().is_none_or(|a| *a == s.address_id)
            && self.after.is_none_or(|key| s.key() > key)
    }

    pub(crate) fn most(&self) -> i64 {
        capped(self.limit)
    }
}

pub(crate) const WINDOWS: Table = Table {
    name: "hygiene_windows",
    columns: &[
        ("channel", Kind::Text),
        ("account", Kind::Text),
        ("app", Kind::Text),
        ("minute", Kind::Int),
        ("told", Kind::Int),
        ("dead", Kind::Int),
    ],
    on_conflict: "ON CONFLICT (channel, account, app, minute) DO UPDATE SET \
        told = hygiene_windows.told + excluded.told, \
        dead = hygiene_windows.dead + excluded.dead",
};

/// `$1` milliseconds are kept.
pub(crate) const FORGET_WINDOWS: &str = "DELETE FROM hygiene_windows \
    WHERE minute < (SELECT MAX(minute) FROM hygiene_windows) - $1";

impl WindowRow {
    pub(crate) fn cells(self) -> Vec<Cell> {
        vec![
            self.channel.into(),
            self.account.into(),
            self.app.into(),
            self.minute.into(),
            self.told.into(),
            self.dead.into(),
        ]
    }
}

pub(crate) const SUPPRESSIONS: Table = Table {
    name: "suppressions",
    columns: &[
        ("address_key", Kind::Text),
        ("channel", Kind::Text),
        ("account", Kind::Text),
        ("address_id", Kind::Text),
        ("app", Kind::Text),
        ("hold", Kind::Text),
        ("reason", Kind::Text),
        ("since", Kind::Int),
        ("registered_at", Kind::Int),
        ("verdicts", Kind::Int),
        ("first_at", Kind::Int),
        ("who", Kind::Text),
        ("why", Kind::Text),
    ],
    on_conflict: "ON CONFLICT (address_key) DO UPDATE SET \
        channel = excluded.channel, account = excluded.account, \
        address_id = excluded.address_id, app = excluded.app, hold = excluded.hold, \
        reason = excluded.reason, since = excluded.since, \
        registered_at = excluded.registered_at, verdicts = excluded.verdicts, \
        first_at = excluded.first_at, who = excluded.who, why = excluded.why",
};

/// A row of `suppressions`.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct SuppressionRow {
    channel: String,
    account: String,
    address_id: String,
    app: Option<String>,
    hold: String,
    reason: String,
    since: i64,
    registered_at: Option<i64>,
    verdicts: i64,
    first_at: i64,
    who: String,
    why: Option<String>,
}

pub(crate) fn suppression_cells(s: &Suppression) -> Vec<Cell> {
    vec![
        s.key().to_string().into(),
        s.channel.as_str().to_owned().into(),
        s.account.clone().into(),
        s.address_id.clone().into(),
        s.app.clone().into(),
        s.hold.as_str().to_owned().into(),
        s.reason.as_str().to_owned().into(),
        s.at.0.into(),
        s.registered_at.map(|t| t.0).into(),
        i64::from(s.verdicts).into(),
        s.first_at.0.into(),
        s.by.clone().into(),
        s.why.clone().into(),
    ]
}

impl SuppressionRow {
    fn read(self) -> Result<Suppression, StoreError> {
        let unreadable = |what: &'static str| {
            move |e: bongsu_domain::UnknownWord| StoreError::Unreadable {
                what,
                value: e.word,
            }
        };
        Ok(Suppression {
            channel: Channel::parse(&self.channel).map_err(unreadable("channel"))?,
            account: self.account,
            address_id: self.address_id,
            app: self.app,
            hold: Hold::parse(&self.hold).map_err(unreadable("hold"))?,
            reason: Reason::parse(&self.reason).map_err(unreadable("reason"))?,
            at: Timestamp(self.since),
            registered_at: self.registered_at.map(Timestamp),
            verdicts: u32::try_from(self.verdicts).unwrap_or(u32::MAX),
            first_at: Timestamp(self.first_at),
            by: self.who,
            why: self.why,
        })
    }
}

pub(crate) async fn windows<B: Backend>(
    backend: &B,
    since: i64,
) -> Result<Vec<WindowRow>, StoreError> {
    let mut statement = Statement::new(
        "SELECT channel, account, app, minute, told, dead FROM hygiene_windows WHERE minute >= ",
    );
    statement
        .bind(since)
        .push(" ORDER BY channel, account, app, minute");
    backend.fetch(statement).await
}

pub(crate) async fn suppressions<B: Backend>(
    backend: &B,
    query: &SuppressionQuery,
) -> Result<Vec<Suppression>, StoreError> {
    let mut statement = Statement::new("SELECT * FROM suppressions WHERE address_key > ");
    statement.bind(query.after.map_or_else(String::new, |key| key.to_string()));
    let filters = [
        ("channel", query.channel.map(|c| c.as_str().to_owned())),
        ("account", query.account.clone()),
        ("address_id", query.address_id.clone()),
    ];
    for (column, wanted) in filters {
        if let Some(wanted) = wanted {
            statement
                .push(" AND ")
                .push(column)
                .push(" = ")
                .bind(wanted);
        }
    }
    statement
        .push(" ORDER BY address_key LIMIT ")
        .bind(query.most());
    let rows = backend.fetch::<SuppressionRow>(statement).await?;
    rows.into_iter().map(SuppressionRow::read).collect()
}

/// Changes to the table of suppressions, all or none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuppressionChanges {
    /// Whether everything else is to be forgotten first: the topic was read whole.
    pub replace: bool,
    /// To be kept; one per address.
    pub kept: Vec<Suppression>,
    /// To be forgotten.
    pub gone: Vec<AddressKey>,
}
