//! The faults of a whole request, bounded.

use crate::problem::{FieldError, LISTED, Problem, ProblemCode};

/// Faults of all events so far.
#[derive(Default)]
pub(crate) struct Findings {
    errors: Vec<FieldError>,
    total: usize,
    leading: Option<ProblemCode>,
}

impl Findings {
    /// How many there are.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Adds a fault.
    pub(crate) fn add(&mut self, error: FieldError) {
        self.total += 1;
        if self.errors.len() < LISTED {
            self.errors.push(error);
        }
    }

    /// Adds a fault that has a status of its own: a foreign sender before a too large event.
    pub(crate) fn add_leading(&mut self, code: ProblemCode, error: FieldError) {
        if self.leading != Some(ProblemCode::ForeignSender) {
            self.leading = Some(code);
        }
        self.add(error);
    }

    /// All of them as one problem; `None` when there is no fault.
    pub(crate) fn into_problem(self) -> Option<Problem> {
        let first = self.errors.first()?;
        let code = self.leading.unwrap_or(ProblemCode::InvalidEvent);
        let detail = format!(
            "{} fault(s), nothing was published; the first: {}: {}",
            self.total, first.field, first.message
        );
        Some(Problem {
            errors_total: (self.total > self.errors.len()).then_some(self.total),
            errors: self.errors,
            ..Problem::new(code, detail)
        })
    }
}
