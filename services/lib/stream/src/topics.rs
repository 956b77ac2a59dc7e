//! What topics should be like, against what they are: a plan, then its safe changes.
//!
//! Planning is pure. Only what cannot harm is ever applied: making a topic that is not there and
//! setting what Bongsu owns. Settings it does not own are left alone. What cannot be changed in
//! place is refused in words.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::error::AdminError;
use crate::port::{Cluster, TopicDescription, TopicSpec};

/// A setting that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingChange {
    /// Kafka's name.
    pub key: String,
    /// Its value on the topic; `None` where the broker's default holds.
    pub from: Option<String>,
    /// What it will be.
    pub to: String,
}

/// What is to be done with one topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Change {
    /// It is not there.
    Create {
        /// Topic.
        name: String,
        /// Number of partitions.
        partitions: i32,
        /// Copies of each.
        replication: i32,
        /// Its settings.
        settings: BTreeMap<String, String>,
    },
    /// Some settings differ.
    ChangeSettings {
        /// Topic.
        name: String,
        /// The settings.
        settings: Vec<SettingChange>,
    },
    /// It differs in a way that cannot be changed in place; nothing of it is touched.
    Refuse {
        /// Topic.
        name: String,
        /// What differs, and what to do about it.
        what: String,
    },
    /// It differs in a way that does no harm and that Bongsu does not change.
    Note {
        /// Topic.
        name: String,
        /// What differs.
        what: String,
    },
    /// It is as it should be.
    Unchanged {
        /// Topic.
        name: String,
    },
}

/// What is to be done, topic by topic in the order of the wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The changes.
    pub changes: Vec<Change>,
}

impl Plan {
    /// Whether a topic is in the way: a service that needs it must not start.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.changes
            .iter()
            .any(|c| matches!(c, Change::Refuse { .. }))
    }

    /// Whether applying it would do nothing.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.changes
            .iter()
            .all(|c| matches!(c, Change::Unchanged { .. } | Change::Note { .. }))
    }
}

/// Compares wishes with what is there. Pure.
#[must_use]
pub fn decide_changes(wishes: &[TopicSpec], found: &BTreeMap<String, TopicDescription>) -> Plan {
    Plan {
        changes: wishes
            .iter()
            .flat_map(|wish| changes(wish, found.get(&wish.name)))
            .collect(),
    }
}

fn changes(wish: &TopicSpec, found: Option<&TopicDescription>) -> Vec<Change> {
    let name = wish.name.clone();
    let Some(found) = found else {
        return vec![Change::Create {
            name,
            partitions: wish.partitions,
            replication: wish.replication,
            settings: wish.settings.clone(),
        }];
    };
    if found.partitions != wish.partitions {
        let what = format!(
            "has {} partitions, should have {}: keys would change their partition, so the number \
             of a live topic cannot change; drain, then make the topic anew",
            found.partitions, wish.partitions
        );
        return vec![Change::Refuse { name, what }];
    }
    let mut changes = Vec::new();
    if found.replication != wish.replication {
        let what = format!(
            "has {} copies, should have {}: move replicas with Kafka's own tools",
            found.replication, wish.replication
        );
        changes.push(Change::Note {
            name: name.clone(),
            what,
        });
    }
    let settings: Vec<_> = wish
        .settings
        .iter()
        .filter(|(key, to)| found.settings.get(*key) != Some(to))
        .map(|(key, to)| SettingChange {
            key: key.clone(),
            from: found.settings.get(key).cloned(),
            to: to.clone(),
        })
        .collect();
    if !settings.is_empty() {
        changes.push(Change::ChangeSettings { name, settings });
    } else if changes.is_empty() {
        changes.push(Change::Unchanged { name });
    }
    changes
}

/// Asks the cluster and plans.
///
/// # Errors
/// When the cluster does not answer.
pub async fn plan(cluster: &dyn Cluster, wishes: &[TopicSpec]) -> Result<Plan, AdminError> {
    let names = wishes.iter().map(|w| w.name.clone()).collect();
    Ok(decide_changes(wishes, &cluster.topics(names).await?))
}

/// Makes and alters what the plan says. Refusals and notes are left alone; so is what follows a
/// failure. Not atomic: stopping in the middle leaves the first part done, and planning again shows
/// the rest.
///
/// # Errors
/// When Kafka refuses a change or does not answer.
pub async fn apply(cluster: &dyn Cluster, plan: &Plan) -> Result<(), AdminError> {
    for change in &plan.changes {
        match change {
            Change::Create {
                name,
                partitions,
                replication,
                settings,
            } => {
                let spec = TopicSpec {
                    name: name.clone(),
                    partitions: *partitions,
                    replication: *replication,
                    settings: settings.clone(),
                };
                cluster.create_topic(spec).await?;
            }
            Change::ChangeSettings { name, settings } => {
                let settings = settings
                    .iter()
                    .map(|s| (s.key.clone(), s.to.clone()))
                    .collect();
                cluster.alter_topic(name, settings).await?;
            }
            Change::Refuse { .. } | Change::Note { .. } | Change::Unchanged { .. } => {}
        }
    }
    Ok(())
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create {
                name,
                partitions,
                replication,
                settings,
            } => {
                write!(f, "+ {name}: {partitions} partitions, {replication} copies")?;
                for (key, value) in settings {
                    write!(f, "\n    + {key} = {value}")?;
                }
                Ok(())
            }
            Self::ChangeSettings { name, settings } => {
                write!(f, "~ {name}")?;
                for change in settings {
                    let from = change.from.as_deref().unwrap_or("(default)");
                    write!(f, "\n    ~ {} = {from} -> {}", change.key, change.to)?;
                }
                Ok(())
            }
            Self::Refuse { name, what } => write!(f, "! {name}: {what}"),
            Self::Note { name, what } => write!(f, "? {name}: {what}"),
            Self::Unchanged { name } => write!(f, "= {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(settings: &[(&str, &str)]) -> TopicSpec {
        TopicSpec {
            name: "bongsu.events".to_owned(),
            partitions: 4,
            replication: 1,
            settings: settings
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        }
    }

    fn found(
        partitions: i32,
        replication: i32,
        settings: &[(&str, &str)],
    ) -> BTreeMap<String, TopicDescription> {
        let settings = wish(settings).settings;
        let topic = TopicDescription {
            partitions,
            replication,
            settings,
        };
        BTreeMap::from([("bongsu.events".to_owned(), topic)])
    }

    #[test]
    fn a_missing_topic_is_made() {
        let plan = decide_changes(&[wish(&[("cleanup.policy", "compact")])], &BTreeMap::new());
        assert!(matches!(
            plan.changes.as_slice(),
            [Change::Create { partitions: 4, .. }]
        ));
        assert_eq!(
            plan.to_string(),
            "+ bongsu.events: 4 partitions, 1 copies\n    + cleanup.policy = compact\n"
        );
    }

    #[test]
    fn foreign_settings_are_left_alone() {
        let wish = wish(&[("retention.ms", "1000")]);
        let found = found(
            4,
            1,
            &[("retention.ms", "1000"), ("segment.bytes", "1048576")],
        );
        assert!(decide_changes(&[wish], &found).is_settled());
    }

    #[test]
    fn a_different_setting_is_shown_with_both_values() {
        let wishes = [wish(&[
            ("retention.ms", "2000"),
            ("cleanup.policy", "delete"),
        ])];
        let plan = decide_changes(&wishes, &found(4, 1, &[("retention.ms", "1000")]));
        assert_eq!(
            plan.to_string(),
            "~ bongsu.events\n    ~ cleanup.policy = (default) -> delete\n    ~ retention.ms = 1000 -> 2000\n"
        );
        assert!(!plan.is_settled());
    }

    #[test]
    fn another_number_of_partitions_is_refused_either_way() {
        for partitions in [2, 8] {
            let plan = decide_changes(&[wish(&[("a", "b")])], &found(partitions, 1, &[]));
            assert!(plan.is_refused());
            assert_eq!(plan.changes.len(), 1);
        }
    }

    #[test]
    fn other_replication_is_only_noted() {
        let plan = decide_changes(&[wish(&[])], &found(4, 3, &[]));
        assert!(matches!(plan.changes.as_slice(), [Change::Note { .. }]));
        assert!(plan.is_settled());
    }

    #[test]
    fn a_plan_is_readable_by_programs() {
        let plan = decide_changes(&[wish(&[])], &found(4, 1, &[]));
        assert_eq!(
            serde_json::to_string(&plan).unwrap(),
            r#"{"changes":[{"action":"unchanged","name":"bongsu.events"}]}"#
        );
    }
}
