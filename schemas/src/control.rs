//! Control records and audit entries to domain types and back.

use bongsu_domain::{Act, Backlog, Fault, FaultCode, Scope, Timestamp};

use crate::millis::Millis;
use crate::records::{AuditEntry, Control};

impl From<&bongsu_domain::Control> for Control {
    fn from(c: &bongsu_domain::Control) -> Self {
        let stale_before = match c.backlog {
            Backlog::DropStale(before) => Some(before.into()),
            Backlog::All | Backlog::Newest => None,
        };
        Self {
            scope: c.scope.to_string(),
            action: c.act.as_str().to_owned(),
            who: c.who.clone(),
            why: c.why.clone(),
            from: c.from.into(),
            until: c.until.map(Millis::from),
            backlog: c.backlog.as_str().to_owned(),
            stale_before,
        }
    }
}

/// Reads a control record.
///
/// # Errors
/// The first field that means nothing to this version.
pub fn control_from_record(r: Control) -> Result<bongsu_domain::Control, Fault> {
    let fault = |field: &str, code, message: String| Fault {
        field: field.to_owned(),
        code,
        message,
    };
    let scope: Scope = r
        .scope
        .parse()
        .map_err(|e: bongsu_domain::control::NoScope| {
            fault("scope", FaultCode::Invalid, e.to_string())
        })?;
    let act = Act::parse(&r.action)
        .map_err(|e| fault("action", FaultCode::UnknownWord, e.to_string()))?;
    // A choice that is not understood must not send what the operator wanted dropped.
    let backlog = backlog_of(&r.backlog, r.stale_before.map(Into::into))
        .map_err(|(field, code, message)| fault(field, code, message))?;
    Ok(bongsu_domain::Control {
        scope,
        act,
        who: r.who,
        why: r.why,
        from: r.from.into(),
        until: r.until.map(Into::into),
        backlog,
    })
}

fn backlog_of(
    word: &str,
    stale_before: Option<Timestamp>,
) -> Result<Backlog, (&'static str, FaultCode, String)> {
    match (word, stale_before) {
        ("all", _) => Ok(Backlog::All),
        ("newest", _) => Ok(Backlog::Newest),
        ("drop-stale", Some(before)) => Ok(Backlog::DropStale(before)),
        ("drop-stale", None) => Err((
            "stale_before",
            FaultCode::Invalid,
            "drop-stale needs the moment before which a delivery is stale".to_owned(),
        )),
        _ => Err((
            "backlog",
            FaultCode::UnknownWord,
            format!("the choices are {}", Backlog::WORDS.join(", ")),
        )),
    }
}

/// The audit entry of an act.
#[must_use]
pub fn audit_of(c: &bongsu_domain::Control) -> AuditEntry {
    AuditEntry {
        actor: c.who.clone(),
        at: c.from.into(),
        act: c.act.as_str().to_owned(),
        scope: c.scope.to_string(),
        why: c.why.clone(),
        details: details_of(c).collect(),
    }
}

fn details_of(c: &bongsu_domain::Control) -> impl Iterator<Item = (String, String)> {
    let until = c.until.map(|until| ("until", until.to_rfc3339()));
    let backlog = (c.act == Act::Start).then(|| ("backlog", c.backlog.as_str().to_owned()));
    let stale_before = match c.backlog {
        Backlog::DropStale(before) => Some(("stale_before", before.to_rfc3339())),
        Backlog::All | Backlog::Newest => None,
    };
    [until, backlog, stale_before]
        .into_iter()
        .flatten()
        .map(|(name, text)| (name.to_owned(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop() -> bongsu_domain::Control {
        bongsu_domain::Control {
            scope: Scope::Sender("shop-1".into()),
            act: Act::Stop,
            who: "ann".into(),
            why: "a loop".into(),
            from: Timestamp(1_000),
            until: Some(Timestamp(61_000)),
            backlog: Backlog::All,
        }
    }

    fn start(backlog: Backlog) -> bongsu_domain::Control {
        bongsu_domain::Control {
            act: Act::Start,
            until: None,
            backlog,
            ..stop()
        }
    }

    #[test]
    fn an_act_reads_back_from_its_record() {
        let stale = Backlog::DropStale(Timestamp(500));
        let starts = [Backlog::All, stale, Backlog::Newest].map(start);
        for act in starts.into_iter().chain([stop()]) {
            assert_eq!(control_from_record(Control::from(&act)), Ok(act));
        }
    }

    #[test]
    fn a_choice_that_is_not_understood_is_no_start() {
        let mut record = Control::from(&start(Backlog::Newest));
        record.backlog = "oldest".into();
        let fault = control_from_record(record.clone()).unwrap_err();
        assert_eq!(fault.field, "backlog");
        record.backlog = "drop-stale".into();
        let fault = control_from_record(record).unwrap_err();
        assert_eq!(fault.field, "stale_before");
    }

    #[test]
    fn a_word_of_a_newer_version_is_named() {
        let mut record = Control::from(&stop());
        record.action = "slow".into();
        assert_eq!(control_from_record(record).unwrap_err().field, "action");
        let mut record = Control::from(&stop());
        record.scope = "planet/earth".into();
        assert_eq!(control_from_record(record).unwrap_err().field, "scope");
    }

    #[test]
    fn the_audit_entry_says_who_did_what_and_until_when() {
        let entry = audit_of(&stop());
        assert_eq!(
            (entry.actor.as_str(), entry.act.as_str(), entry.at),
            ("ann", "stop", Millis(1_000))
        );
        assert_eq!(entry.scope, "sender/shop-1");
        assert_eq!(entry.details["until"], "1970-01-01T00:01:01Z");
        assert!(!entry.details.contains_key("backlog"));
        let entry = audit_of(&start(Backlog::DropStale(Timestamp(500))));
        assert_eq!(entry.details["backlog"], "drop-stale");
        assert_eq!(entry.details["stale_before"], "1970-01-01T00:00:00.5Z");
    }
}
