//! Query strings: known names only, each at most once.

use std::collections::BTreeMap;

use http::Uri;

use crate::problem::{FieldError, Problem, ProblemCode};

/// The parameters of one request.
#[derive(Debug, Default)]
pub(crate) struct Query {
    values: BTreeMap<&'static str, String>,
    faults: Vec<FieldError>,
}

impl Query {
    /// Reads the query of `uri`; a name that is not in `known` is a fault: a misspelt `dry_run`
    /// must not publish.
    pub(crate) fn read(uri: &Uri, known: &[&'static str]) -> Self {
        let mut query = Self::default();
        let pairs: Vec<(String, String)> = match axum::extract::Query::try_from_uri(uri) {
            Ok(axum::extract::Query(pairs)) => pairs,
            Err(e) => {
                query.fault("(query)", e.body_text());
                Vec::new()
            }
        };
        for (name, value) in pairs {
            match known.iter().find(|k| **k == name) {
                None => {
                    let name: String = name.chars().take(64).collect();
                    query.fault(
                        name,
                        format!("unknown parameter; known are {}", known.join(", ")),
                    );
                }
                Some(name) => {
                    if query.values.insert(name, value).is_some() {
                        query.fault(*name, "is given twice; give it once");
                    }
                }
            }
        }
        query
    }

    /// The text of a parameter.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<String> {
        self.values.remove(name)
    }

    /// A parameter read by `parse`; `None` when absent or faulty.
    pub(crate) fn parsed<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.take(name)?;
        let value = parse(&text);
        if value.is_none() {
            self.fault(name, format!("must be {expected}"));
        }
        value
    }

    pub(crate) fn fault(&mut self, name: impl Into<String>, message: impl Into<String>) {
        self.faults.push(FieldError::new(name, "invalid", message));
    }

    /// All faults as one problem.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        let Some(first) = self.faults.first() else {
            return Ok(());
        };
        Err(Problem {
            errors: self.faults.clone(),
            ..Problem::new(
                ProblemCode::Malformed,
                format!("the query: {}: {}", first.field, first.message),
            )
        })
    }
}
