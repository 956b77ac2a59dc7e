//! Tables as data, so that both databases write all of them with one function each.

use std::fmt::Write as _;

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Int,
}

/// A value to write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cell {
    Text(Option<String>),
    Int(Option<i64>),
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        Self::Text(text.map(storable))
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(Some(storable(text)))
    }
}

impl From<Option<i64>> for Cell {
    fn from(number: Option<i64>) -> Self {
        Self::Int(number)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

/// PostgreSQL takes no NUL in a text and would refuse the whole batch, for ever.
pub(crate) fn storable(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

/// A table to write to.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
    pub(crate) on_conflict: &'static str,
}

impl Table {
    fn column_list(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }

    /// One array per column.
    pub(crate) fn unnest_sql(&self) -> String {
        let arrays: Vec<_> = self
            .columns
            .iter()
            .zip(1..)
            .map(|((_, kind), n)| match kind {
                Kind::Text => format!("${n}::text[]"),
                Kind::Int => format!("${n}::bigint[]"),
            })
            .collect();
        format!(
            "INSERT INTO {} ({}) SELECT * FROM UNNEST({}) {}",
            self.name,
            self.column_list(),
            arrays.join(", "),
            self.on_conflict
        )
    }

    /// `rows` rows of placeholders.
    pub(crate) fn values_sql(&self, rows: usize) -> String {
        let mut sql = format!("INSERT INTO {} ({}) VALUES ", self.name, self.column_list());
        let marks = vec!["?"; self.columns.len()].join(",");
        for row in 0..rows {
            let comma = if row == 0 { "" } else { "," };
            // Writing to a string cannot fail.
            write!(sql, "{comma}({marks})").unwrap_or_default();
        }
        sql.push(' ');
        sql.push_str(self.on_conflict);
        sql
    }
}

/// A read with its values, in the order of `$1`, `$2`, ...
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) binds: Vec<Cell>,
}

impl Statement {
    pub(crate) fn new(sql: &str) -> Self {
        Self {
            sql: sql.to_owned(),
            binds: Vec::new(),
        }
    }

    /// Appends text as it is.
    pub(crate) fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Appends a value.
    pub(crate) fn bind(&mut self, value: impl Into<Cell>) -> &mut Self {
        self.binds.push(value.into());
        write!(self.sql, "${}", self.binds.len()).unwrap_or_default();
        self
    }
}
