//! Expected against received: what was lost, what nobody expected, what came twice. Pure.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::recorder::Seen;
use crate::report::{LISTED, delivery_key, delivery_name, key};

/// The list of expected deliveries cannot be read.
#[derive(Debug, Error)]
#[error("the expected deliveries cannot be read: {0}")]
pub struct ExpectedError(#[from] serde_json::Error);

/// One expected delivery: by its id, or by event and, where given, sender and address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Item {
    /// A delivery id.
    Id(String),
    /// A delivery id, as an object.
    Delivery {
        /// The id.
        delivery_id: String,
    },
    /// An event, at one address or at any.
    Event(EventAt),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct EventAt {
    event_id: String,
    sender: Option<String>,
    #[serde(alias = "address")]
    path: Option<String>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(alias = "events")]
    event_ids: Vec<String>,
    sender: Option<String>,
    #[serde(alias = "address")]
    path: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    List(Vec<Item>),
    Group(Group),
    Item(Item),
}

/// Everything that is expected to arrive.
#[derive(Debug, Default)]
pub struct Expected {
    names: Vec<String>,
    index: HashMap<u128, usize>,
    /// Which combinations of fields were used, so that only those are looked up.
    shapes: Vec<Shape>,
}

/// Which fields identify an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Delivery,
    Event { sender: bool, path: bool },
}

impl Expected {
    /// Reads JSON values one after the other (so NDJSON too): delivery ids as texts, objects
    /// `{"delivery_id"}` or `{"event_id", "sender"?, "path"?}`, arrays of these, or a group
    /// `{"sender"?, "path"?, "event_ids": […]}`. A path may be written as the whole URL.
    ///
    /// # Errors
    /// [`ExpectedError`] with the place.
    pub fn parse(body: &[u8]) -> Result<Self, ExpectedError> {
        let mut expected = Self::default();
        for part in serde_json::Deserializer::from_slice(body).into_iter::<Part>() {
            match part? {
                Part::List(items) => items.into_iter().for_each(|item| expected.add(item)),
                Part::Item(item) => expected.add(item),
                Part::Group(group) => {
                    for event_id in group.event_ids {
                        expected.add(Item::Event(EventAt {
                            event_id,
                            sender: group.sender.clone(),
                            path: group.path.clone(),
                        }));
                    }
                }
            }
        }
        Ok(expected)
    }

    fn add(&mut self, item: Item) {
        let (shape, key, name) = match item {
            Item::Id(id) | Item::Delivery { delivery_id: id } => {
                (Shape::Delivery, delivery(&id), id)
            }
            Item::Event(at) => {
                let path = at.path.as_deref().map(address_path);
                let shape = Shape::Event {
                    sender: at.sender.is_some(),
                    path: path.is_some(),
                };
                let key = event(&at.event_id, at.sender.as_deref(), path.as_deref());
                let name = match path {
                    Some(path) => format!("{} to {path}", at.event_id),
                    None => at.event_id,
                };
                (shape, key, name)
            }
        };
        if !self.shapes.contains(&shape) {
            self.shapes.push(shape);
        }
        let next = self.names.len();
        if *self.index.entry(key).or_insert(next) == next {
            self.names.push(name);
        }
    }

    /// The expected item a request belongs to.
    fn find(&self, seen: &Seen<'_>) -> Option<usize> {
        self.shapes.iter().find_map(|shape| {
            let key = match *shape {
                Shape::Delivery => delivery(seen.delivery_id),
                Shape::Event { sender, path } => event(
                    seen.event_id,
                    sender.then_some(seen.sender),
                    path.then_some(seen.path),
                ),
            };
            self.index.get(&key).copied()
        })
    }
}

fn delivery(id: &str) -> u128 {
    key(&["delivery", id])
}

fn event(event_id: &str, sender: Option<&str>, path: Option<&str>) -> u128 {
    key(&[
        "event",
        event_id,
        if sender.is_some() { "s" } else { "" },
        sender.unwrap_or_default(),
        if path.is_some() { "p" } else { "" },
        path.unwrap_or_default(),
    ])
}

/// The path by which a simulator knows an address: URLs lose scheme and host, Discord webhooks
/// their token.
pub(crate) fn address_path(address: &str) -> String {
    let path = match address.split_once("://") {
        Some((_, rest)) => rest
            .find('/')
            .map_or("/", |at| rest.get(at..).unwrap_or("/")),
        None => address,
    };
    match path.split_once("/webhooks/") {
        Some((_, rest)) => format!("/webhooks/{}", rest.split('/').next().unwrap_or(rest)),
        None => path.to_owned(),
    }
}

/// What a comparison found. Requests answered with an error do not count as received.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Distinct items expected.
    pub expected: u64,
    /// Of those, received at least once.
    pub received: u64,
    /// Expected and not received.
    pub lost_count: u64,
    /// Up to 100 of them.
    pub lost: Vec<String>,
    /// Distinct deliveries received that nobody expected.
    pub unexpected_count: u64,
    /// Up to 100 of them.
    pub unexpected: Vec<String>,
    /// Extra copies of deliveries, expected or not.
    pub duplicates: u64,
    /// Up to 100 of the deliveries that came more than once.
    pub duplicate_deliveries: Vec<String>,
}

/// The fold that compares.
#[derive(Debug)]
pub struct Compare {
    expected: Expected,
    met: Vec<bool>,
    copies: HashMap<u128, u64>,
    result: Comparison,
}

impl Compare {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(expected: Expected) -> Self {
        Self {
            met: vec![false; expected.names.len()],
            expected,
            copies: HashMap::new(),
            result: Comparison::default(),
        }
    }

    /// Takes the next request.
    pub fn see(&mut self, seen: &Seen<'_>) {
        if seen.is_error() {
            return;
        }
        let copies = self.copies.entry(delivery_key(seen)).or_default();
        *copies += 1;
        if *copies > 1 {
            self.result.duplicates += 1;
        }
        if *copies == 2 {
            list(&mut self.result.duplicate_deliveries, delivery_name(seen));
        }
        match self.expected.find(seen) {
            Some(item) => {
                if let Some(met) = self.met.get_mut(item) {
                    *met = true;
                }
            }
            None if *copies == 1 => {
                self.result.unexpected_count += 1;
                list(&mut self.result.unexpected, delivery_name(seen));
            }
            None => {}
        }
    }

    /// The result.
    #[must_use]
    pub fn finish(mut self) -> Comparison {
        self.result.expected = self.expected.names.len() as u64;
        for (met, name) in self.met.iter().zip(self.expected.names) {
            if *met {
                self.result.received += 1;
            } else {
                self.result.lost_count += 1;
                list(&mut self.result.lost, name);
            }
        }
        self.result
    }
}

fn list(items: &mut Vec<String>, item: String) {
    if items.len() < LISTED {
        items.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'a>(delivery_id: &'a str, event_id: &'a str, path: &'a str, status: u16) -> Seen<'a> {
        Seen {
            n: 0,
            read_us: 0,
            answered_us: Some(0),
            status: Some(status),
            delivery_id,
            event_id,
            sender: "s",
            path,
            seq: None,
            worker: "",
            attempt: 1,
        }
    }

    fn compare(expected: &str, requests: &[Seen<'_>]) -> Comparison {
        let mut compare = Compare::new(Expected::parse(expected.as_bytes()).unwrap());
        requests.iter().for_each(|r| compare.see(r));
        compare.finish()
    }

    #[test]
    fn every_form_of_the_list_finds_losses_copies_and_strangers() {
        let requests = [
            seen("d1", "e1", "/hook/a", 200),
            seen("d1", "e1", "/hook/a", 200),
            seen("d2", "e2", "/hook/a", 503),
            seen("d3", "e3", "/hook/a", 200),
        ];
        for expected in [
            r#"["d1", "d2"]"#,
            "\"d1\"\n\"d2\"\n",
            r#"{"delivery_id": "d1"} {"delivery_id": "d2"}"#,
            r#"[{"event_id": "e1", "sender": "s", "path": "/hook/a"}, {"event_id": "e2"}]"#,
            r#"{"sender": "s", "event_ids": ["e1", "e2", "e2"]}"#,
            r#"{"event_ids": ["e1", "e2"], "address": "http://127.0.0.1:1/hook/a"}"#,
        ] {
            let found = compare(expected, &requests);
            let counts = (found.expected, found.received, found.lost_count);
            assert_eq!(counts, (2, 1, 1), "{expected}");
            assert_eq!(
                (found.duplicates, found.unexpected_count),
                (1, 1),
                "{expected}"
            );
            assert_eq!(found.unexpected, ["d3"], "{expected}");
            assert!(["d2", "e2", "e2 to /hook/a"].contains(&found.lost[0].as_str()));
        }
        assert!(Expected::parse(b"{\"x\": 1}").is_err());
    }

    #[test]
    fn an_event_at_two_addresses_is_no_copy_and_a_path_tells_them_apart() {
        let requests = [
            seen("d1", "e", "/hook/a", 200),
            seen("d2", "e", "/hook/b", 200),
        ];
        assert_eq!(compare(r#"{"event_id": "e"}"#, &requests).duplicates, 0);
        let found = compare(
            r#"{"event_id":"e","path":"/hook/a"} {"event_id":"e","path":"/hook/c"}"#,
            &requests,
        );
        assert_eq!(found.lost, ["e to /hook/c"]);
        assert_eq!(found.unexpected, ["d2"]);
    }

    #[test]
    fn addresses_become_the_paths_they_are_seen_under() {
        assert_eq!(address_path("https://h.example/hook/a?x=1"), "/hook/a?x=1");
        assert_eq!(address_path("/hook/a"), "/hook/a");
        assert_eq!(
            address_path("https://discord.com/api/webhooks/12/secret"),
            "/webhooks/12"
        );
    }
}
