//! Settings: one TOML file, then the environment, then flags; documented by the code that reads
//! them.
//!
//! [`settings!`](crate::settings!) declares a section once and gives its struct, its defaults and
//! the description from which `docs/configuration.md` is generated. [`load`] reports **all** unknown
//! keys and the first wrong type with its path; validation across fields is each section's own and
//! adds to the same list of [`Complaint`]s.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::{Table, Value};

/// One line of the generated configuration reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyDoc {
    /// The key within its section.
    pub key: &'static str,
    /// Rust type, as a hint of the form.
    pub form: &'static str,
    /// Default as TOML.
    pub default: String,
    /// What it means.
    pub doc: String,
}

/// Declares a section of settings: documented fields with defaults.
///
/// Unknown keys are collected by [`load`](crate::settings::load), missing ones take the default.
#[macro_export]
macro_rules! settings {
    ($(#[doc = $sdoc:expr])* pub struct $name:ident { $($(#[doc = $doc:expr])* pub $field:ident : $ty:ty = $default:expr),+ $(,)? }) => {
        $(#[doc = $sdoc])*
        #[derive(Debug, Clone, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(default)]
        pub struct $name { $($(#[doc = $doc])* pub $field: $ty),+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }

        impl $name {
            /// The section's keys with their meaning and defaults, for the generated reference.
            #[must_use]
            pub fn describe() -> Vec<$crate::settings::KeyDoc> {
                let defaults = Self::default();
                vec![$($crate::settings::KeyDoc {
                    key: stringify!($field),
                    form: stringify!($ty),
                    default: $crate::settings::toml_text(&defaults.$field),
                    doc: concat!($($doc, "\n"),*).trim().to_owned(),
                }),+]
            }
        }
    };
}

/// A default as it would be written in TOML; empty for what has no value.
#[must_use]
pub fn toml_text<T: Serialize>(value: &T) -> String {
    Value::try_from(value).map_or_else(|_| String::new(), |v| v.to_string())
}

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key}: {message}")]
pub struct Complaint {
    /// Dotted path of the key.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Complaint {
    /// A complaint about `key`.
    #[must_use]
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }
}

/// The settings cannot be used; every fault is listed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{} fault(s) in the settings:{}", .0.len(), .0.iter().map(|c| format!("\n  {c}")).collect::<String>())]
pub struct SettingsError(pub Vec<Complaint>);

/// Settings that could be read, and what in them means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<T> {
    /// The settings.
    pub settings: T,
    /// Keys nobody reads. Settings with any must be refused; they are handed over so that the faults
    /// of the keys that are known can be told in the same list.
    pub unknown: Vec<Complaint>,
}

/// As [`load_known`], and refuses unknown keys.
///
/// # Errors
/// [`SettingsError`] with every unknown key, or the first syntax or type fault.
pub fn load<T: DeserializeOwned>(
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, SettingsError> {
    let loaded = load_known(text, environment)?;
    if loaded.unknown.is_empty() {
        Ok(loaded.settings)
    } else {
        Err(SettingsError(loaded.unknown))
    }
}

/// Reads settings from TOML text overlaid by `BONGSU__SECTION__KEY` variables.
///
/// A variable's value is read as TOML when it is valid TOML (numbers, booleans, arrays), else as
/// text. Names are case-insensitive.
///
/// # Errors
/// [`SettingsError`] with the first syntax fault, or the first type fault and the unknown keys
/// before it.
pub fn load_known<T: DeserializeOwned>(
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<T>, SettingsError> {
    let mut table: Table = text
        .parse()
        .map_err(|e| SettingsError(vec![syntax_fault(text, &e)]))?;
    let mut texts = std::collections::BTreeMap::new();
    for (name, value) in environment {
        let Some(path) = name.strip_prefix("BONGSU__") else {
            continue;
        };
        let keys: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        set(&mut table, &keys, parse_value(&value))
            .map_err(|m| SettingsError(vec![Complaint::new(name.clone(), m)]))?;
        texts.insert(keys.join("."), (keys, value));
    }
    loop {
        match read(table.clone()) {
            Ok(loaded) => return Ok(loaded),
            Err((path, complaints)) => {
                // `SLOT=1` for a text key: what looked like a number is the text after all.
                let Some((keys, value)) = path.and_then(|p| texts.remove(&p)) else {
                    return Err(SettingsError(complaints));
                };
                set(&mut table, &keys, Value::String(value))
                    .map_err(|m| SettingsError(vec![Complaint::new(keys.join("."), m)]))?;
            }
        }
    }
}

/// Reads a table; on failure the path of a wrong type, and every complaint.
fn read<T: DeserializeOwned>(table: Table) -> Result<Loaded<T>, (Option<String>, Vec<Complaint>)> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(Value::Table(table), &mut track);
    let read: Result<T, _> = serde_ignored::deserialize(deserializer, |path| {
        unknown.push(Complaint::new(
            path.to_string(),
            "unknown key; see docs/configuration.md",
        ));
    });
    match read {
        Ok(settings) => Ok(Loaded { settings, unknown }),
        Err(e) => {
            let path = track.path().to_string();
            unknown.push(Complaint::new(path.clone(), e.message().to_owned()));
            Err((Some(path), unknown))
        }
    }
}

/// Where and what, but never the line itself, as the parser would print it: it may hold a secret.
fn syntax_fault(text: &str, error: &toml::de::Error) -> Complaint {
    let start = error.span().map_or(0, |span| span.start);
    let line = 1 + text.bytes().take(start).filter(|b| *b == b'\n').count();
    Complaint::new("file", format!("line {line}: {}", error.message()))
}

fn parse_value(text: &str) -> Value {
    format!("v = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn set(table: &mut Table, keys: &[String], value: Value) -> Result<(), String> {
    match keys {
        [] => Err("names no key".to_owned()),
        [last] => {
            table.insert(last.clone(), value);
            Ok(())
        }
        [first, rest @ ..] => {
            let entry = table
                .entry(first.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            match entry.as_table_mut() {
                Some(inner) => set(inner, rest, value),
                None => Err(format!("`{first}` is a value, not a section")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Duration;

    settings! {
        /// A section.
        pub struct Section {
            /// How long to wait.
            pub wait: Duration = Duration::secs(3),
            /// How many.
            pub count: u32 = 7,
        }
    }

    #[derive(Debug, PartialEq, Default, serde::Deserialize)]
    #[serde(default)]
    struct All {
        a: Section,
    }

    #[test]
    fn the_environment_overrides_the_file_and_defaults_fill_the_rest() {
        let env = [("BONGSU__A__COUNT".to_owned(), "9".to_owned())];
        let all: All = load("[a]\nwait = \"1s\"\ncount = 8", env).unwrap();
        assert_eq!(
            all.a,
            Section {
                wait: Duration::secs(1),
                count: 9
            }
        );
    }

    #[test]
    fn a_text_from_the_environment_may_look_like_a_number() {
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(default)]
        struct Named {
            slot: String,
        }
        let env = [("BONGSU__SLOT".to_owned(), "1".to_owned())];
        assert_eq!(load::<Named>("", env).unwrap().slot, "1");
    }

    #[test]
    fn every_unknown_key_is_reported() {
        let error = load::<All>("x = 1\n[a]\ny = 2", []).unwrap_err();
        let keys: Vec<_> = error.0.iter().map(|c| c.key.as_str()).collect();
        assert_eq!(keys, ["a.y", "x"]);
    }

    #[test]
    fn a_wrong_type_names_its_path() {
        let error = load::<All>("[a]\nwait = 5", []).unwrap_err();
        assert_eq!(error.0[0].key, "a.wait");
    }

    #[test]
    fn a_fault_of_syntax_names_its_line_without_showing_it() {
        let error = load::<All>("x = 1\nsecret = \"hunter2", []).unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains("line 2") && !told.contains("hunter2"),
            "{told}"
        );
    }

    #[test]
    fn unknown_keys_do_not_hide_the_known_ones() {
        let loaded: Loaded<All> = load_known("x = 1\n[a]\ncount = 8", []).unwrap();
        assert_eq!(loaded.settings.a.count, 8);
        assert_eq!(loaded.unknown.len(), 1);
    }

    #[test]
    fn a_section_describes_itself() {
        let docs = Section::describe();
        assert_eq!(docs[0].key, "wait");
        assert_eq!(docs[0].default, "\"3s\"");
        assert_eq!(docs[0].doc, "How long to wait.");
    }
}
