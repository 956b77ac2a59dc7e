//! A few texts by name.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Texts by name, in the order of their names: what a publisher says for the receiving program, and its
/// labels.
///
/// Like a `BTreeMap<String, String>`, for the few entries that there are: a delivery that waits holds 48 bytes
/// for each and nothing for none, where the first entry of a tree takes 544. Of two entries of one name the
/// last one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Pairs(Vec<(String, String)>);

/// Names and texts of [`Pairs`].
pub type Iter<'a> = std::iter::Map<
    std::slice::Iter<'a, (String, String)>,
    fn(&'a (String, String)) -> (&'a String, &'a String),
>;

impl Pairs {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&String> {
        self.place(name).ok().map(|at| &self.0[at].1)
    }

    /// Whether there is a text of this name.
    #[must_use]
    pub fn contains_key(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    /// Sets the text of a name; gives the one before. For many at once, collect them: each insertion moves
    /// what is behind it.
    pub fn insert(&mut self, name: String, text: String) -> Option<String> {
        match self.place(&name) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, text)),
            Err(at) => {
                self.0.insert(at, (name, text));
                None
            }
        }
    }

    /// Takes the text of a name away.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        let at = self.place(name).ok()?;
        Some(self.0.remove(at).1)
    }

    /// Takes all away.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Names and texts, in the order of the names.
    pub fn iter(&self) -> Iter<'_> {
        self.0.iter().map(|(name, text)| (name, text))
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|(known, _)| known.as_str().cmp(name))
    }
}

impl FromIterator<(String, String)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        let mut all: Vec<_> = pairs.into_iter().collect();
        // Stable, so that the last of a name stays the last.
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        all.shrink_to_fit();
        Self(all)
    }
}

impl<const N: usize> From<[(String, String); N]> for Pairs {
    fn from(pairs: [(String, String); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl IntoIterator for Pairs {
    type Item = (String, String);
    type IntoIter = std::vec::IntoIter<(String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Pairs {
    type Item = (&'a String, &'a String);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::ops::Index<&str> for Pairs {
    type Output = String;

    /// # Panics
    /// When there is no text of this name.
    #[expect(clippy::panic, reason = "what indexing promises, as for a map")]
    fn index(&self, name: &str) -> &String {
        match self.get(name) {
            Some(text) => text,
            None => panic!("no text of the name {name}"),
        }
    }
}

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Pairs;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        std::iter::from_fn(|| map.next_entry().transpose()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A tree of the same entries says the same in every way.
        #[test]
        fn it_is_a_tree_of_the_same_entries(
            pairs in prop::collection::vec(("[a-c]{0,2}", "[x-z]{0,2}"), 0..12),
            more in prop::collection::vec(("[a-c]{0,2}", "[x-z]{0,2}", any::<bool>()), 0..12),
        ) {
            let mut tree: BTreeMap<String, String> = pairs.iter().cloned().collect();
            let mut flat: Pairs = pairs.into_iter().collect();
            for (name, text, goes) in more {
                prop_assert_eq!(flat.get(&name), tree.get(&name));
                prop_assert_eq!(flat.contains_key(&name), tree.contains_key(&name));
                if goes {
                    prop_assert_eq!(flat.remove(&name), tree.remove(&name));
                } else {
                    prop_assert_eq!(flat.insert(name.clone(), text.clone()), tree.insert(name, text));
                }
            }
            prop_assert!(flat.iter().eq(tree.iter()));
            prop_assert_eq!((flat.len(), flat.is_empty()), (tree.len(), tree.is_empty()));
            let text = serde_json::to_string(&flat).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&tree).unwrap());
            prop_assert_eq!(serde_json::from_str::<Pairs>(&text).unwrap(), flat);
        }
    }

    #[test]
    fn of_two_entries_of_one_name_the_last_counts() {
        let read: Pairs = serde_json::from_str(r#"{"b":"1","a":"2","b":"3"}"#).unwrap();
        assert_eq!(
            read,
            Pairs::from([("a".into(), "2".into()), ("b".into(), "3".into())])
        );
        assert_eq!(read["b"], "3");
    }
}
