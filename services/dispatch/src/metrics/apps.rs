//! Apps as labels: they come from events, so their number is bounded.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use opentelemetry::{StringValue, Value};

/// Apps told apart; later ones are counted as `other`.
pub(super) const MAX_APPS: usize = 32;
/// Bytes of an app's name above which it is `other` too: no label is that long.
const MAX_BYTES: usize = 128;

/// The apps met so far; clones share them. Memory: `MAX_APPS` names.
#[derive(Debug, Clone, Default)]
pub(super) struct Apps {
    known: Arc<RwLock<HashSet<Arc<str>>>>,
}

impl Apps {
    /// The label of an app: its name for the first `MAX_APPS`, `other` for the rest, `none` without.
    pub(super) fn label(&self, app: Option<&str>) -> Value {
        let Some(app) = app else {
            return Value::from("none");
        };
        if let Some(name) = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(app)
        {
            return Value::String(StringValue::from(Arc::clone(name)));
        }
        if app.len() > MAX_BYTES {
            return Value::from("other");
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_APPS && !known.contains(app) {
            return Value::from("other");
        }
        let name: Arc<str> = app.into();
        known.insert(Arc::clone(&name));
        Value::String(StringValue::from(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_apps_keep_their_names_and_the_rest_is_other() {
        let apps = Apps::default();
        for n in 0..MAX_APPS {
            let name = format!("app-{n}");
            assert_eq!(apps.label(Some(&name)).as_str(), name);
        }
        assert_eq!(apps.label(Some("late")).as_str(), "other");
        assert_eq!(apps.label(Some("app-0")).as_str(), "app-0");
        assert_eq!(apps.label(None).as_str(), "none");
        let long = "x".repeat(MAX_BYTES + 1);
        assert_eq!(Apps::default().label(Some(&long)).as_str(), "other");
    }
}
