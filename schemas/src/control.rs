//! Control records and audit entries to domain types and back.

use bongsu_domain::{Act, Fault, FaultCode, Scope};

use crate::millis::Millis;
use crate::records::{AuditEntry, Control};

impl From<&bongsu_domain::Control> for Control {
    fn from(c: &bongsu_domain::Control) -> Self {
        Self {
            scope: c.scope.to_string(),
            action: c.act.as_str().to_owned(),
            who: c.who.clone(),
            why: c.why.clone(),
            from: c.from.into(),
            until: c.until.map(Millis::from),
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
    Ok(bongsu_domain::Control {
        scope,
        act,
        who: r.who,
        why: r.why,
        from: r.from.into(),
        until: r.until.map(Into::into),
    })
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
        details: c
            .until
            .map(|until| ("until".to_owned(), until.to_rfc3339()))
            .into_iter()
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use bongsu_domain::Timestamp;

    use super::*;

    fn stop() -> bongsu_domain::Control {
        bongsu_domain::Control {
            scope: Scope::Sender("shop-1".into()),
            act: Act::Stop,
            who: "ann".into(),
            why: "a loop".into(),
            from: Timestamp(1_000),
            until: Some(Timestamp(61_000)),
        }
    }

    #[test]
    fn an_act_reads_back_from_its_record() {
        assert_eq!(control_from_record(Control::from(&stop())), Ok(stop()));
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
    }
}
