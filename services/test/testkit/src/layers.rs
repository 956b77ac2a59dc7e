//! The layer rule as code: dependencies only point down, services never import each other.
//!
//! Reads `cargo metadata`; called by this crate's own tests, so that an edge that goes up or
//! sideways fails `scripts/test`.

use std::process::Command;

use serde::Deserialize;

use crate::root;

/// What `cargo metadata --no-deps` tells of the workspace.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

/// Where a crate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Layer 0 (the ground) to 7 (the executable, and what composes services as it does).
    Layer(u8),
    /// Test side: a dev-dependency of anybody, a dependency of the executable alone.
    TestSide,
}

/// Every crate with its place. A new crate is added here, or the test says so.
const PLACES: &[(&str, Place)] = &[
    ("bongsu-domain", Place::Layer(0)),
    ("bongsu-schemas", Place::Layer(1)),
    ("bongsu-policy", Place::Layer(1)),
    ("bongsu-runtime", Place::Layer(2)),
    ("bongsu-stream", Place::Layer(3)),
    ("bongsu-store", Place::Layer(4)),
    ("bongsu-suppressions", Place::Layer(4)),
    ("bongsu-channels", Place::Layer(5)),
    ("bongsu-gateway", Place::Layer(6)),
    ("bongsu-fanout", Place::Layer(6)),
    ("bongsu-dispatch", Place::Layer(6)),
    ("bongsu-scheduler", Place::Layer(6)),
    ("bongsu-ledger", Place::Layer(6)),
    ("bongsu-recovery", Place::Layer(6)),
    ("bongsu-console", Place::Layer(6)),
    ("bongsu", Place::Layer(7)),
    // Composes whole services as the executable does, on the local log.
    ("bongsu-simulation", Place::Layer(7)),
    ("bongsu-simulators", Place::TestSide),
    ("bongsu-testkit", Place::TestSide),
    ("bongsu-loadgen", Place::TestSide),
    ("bongsu-fuzz", Place::TestSide),
];

/// Crates that must stay ignorant of what lies below them, beyond the layer rule: (crate, all it may
/// know of ours).
const IGNORANT: &[(&str, &[&str])] = &[
    // Stands on the types alone; the wire does not know decisions.
    ("bongsu-schemas", &["bongsu-domain"]),
    // Pure decisions over pure types.
    ("bongsu-policy", &["bongsu-domain"]),
    // What an executable needs once; knows nothing of deliveries.
    ("bongsu-runtime", &[]),
    // Generic over the payload.
    ("bongsu-stream", &["bongsu-runtime"]),
    // A provider's twin must not share code, and so mistakes, with what it checks.
    ("bongsu-simulators", &["bongsu-runtime"]),
];

/// The metadata of this workspace.
///
/// # Panics
/// When cargo cannot be asked.
#[must_use]
pub fn metadata() -> Metadata {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap_or_else(|e| panic!("cargo metadata cannot be run: {e}"));
    if !output.status.success() {
        panic!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("cargo metadata cannot be read: {e}"))
}

/// Every edge that breaks the rule, as a sentence.
#[must_use]
pub fn faults(metadata: &Metadata) -> Vec<String> {
    let mut found = Vec::new();
    for package in &metadata.packages {
        if place(&package.name).is_none() {
            found.push(format!(
                "{} has no place; add it to the table in testkit's layers.rs",
                package.name
            ));
            continue;
        }
        // Only crates of this repository have a path.
        let ours = package.dependencies.iter().filter(|d| d.path.is_some());
        found.extend(ours.filter_map(|d| fault(&package.name, d)));
    }
    found
}

fn place(name: &str) -> Option<Place> {
    PLACES.iter().find(|(n, _)| *n == name).map(|(_, p)| *p)
}

fn fault(name: &str, dependency: &Dependency) -> Option<String> {
    let dev = dependency.kind.as_deref() == Some("dev");
    let (from, to) = (place(name)?, place(&dependency.name)?);
    let rule = match (from, to) {
        (_, Place::TestSide) if dev => return None,
        (Place::Layer(7) | Place::TestSide, Place::TestSide) => None,
        (Place::Layer(_), Place::TestSide) => Some("may be a dev-dependency only"),
        (Place::Layer(from), Place::Layer(to)) if to > from => Some("goes up"),
        (Place::Layer(from), Place::Layer(to)) if to == from => Some("goes sideways"),
        (Place::TestSide, Place::Layer(6..)) if !dev => Some("goes up"),
        (Place::Layer(_) | Place::TestSide, Place::Layer(_)) => None,
    };
    let rule = rule.or_else(|| {
        let (_, known) = IGNORANT.iter().find(|(n, _)| *n == name)?;
        (!dev && !known.contains(&dependency.name.as_str())).then_some("is more than it may know")
    })?;
    Some(format!("{name} -> {}: {rule}", dependency.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, dependency: &str, kind: Option<&str>) -> Vec<String> {
        faults(&Metadata {
            packages: vec![Package {
                name: name.into(),
                dependencies: vec![Dependency {
                    name: dependency.into(),
                    kind: kind.map(str::to_owned),
                    path: Some("/".into()),
                }],
            }],
        })
    }

    #[test]
    fn down_is_allowed_up_and_sideways_are_not() {
        assert!(of("bongsu-dispatch", "bongsu-channels", None).is_empty());
        assert_eq!(
            of("bongsu-store", "bongsu-channels", None),
            ["bongsu-store -> bongsu-channels: goes up"]
        );
        assert_eq!(
            of("bongsu-dispatch", "bongsu-fanout", Some("dev")),
            ["bongsu-dispatch -> bongsu-fanout: goes sideways"]
        );
    }

    #[test]
    fn the_test_side_is_for_tests_and_for_the_executable() {
        assert!(of("bongsu-dispatch", "bongsu-simulators", Some("dev")).is_empty());
        assert!(of("bongsu", "bongsu-simulators", None).is_empty());
        assert_eq!(of("bongsu-dispatch", "bongsu-simulators", None).len(), 1);
    }

    #[test]
    fn the_stream_knows_no_domain() {
        assert_eq!(of("bongsu-stream", "bongsu-domain", None).len(), 1);
    }

    #[test]
    fn a_crate_without_a_place_is_named() {
        assert_eq!(of("bongsu-new", "bongsu-domain", None).len(), 1);
    }
}
