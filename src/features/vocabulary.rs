//! A set of terms with ids, found by hash and checked by comparison, so that a collision never gives a wrong term.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Terms numbered from 0, in the order in which they were added. A model's vocabulary is sorted, so its ids follow the
/// terms' bytes; a vocabulary that counts terms has them as they came.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    /// All terms, one after the other.
    terms: String,
    /// For each term, its end in `terms`.
    ends: Vec<usize>,
    ids: HashTable<u32>,
}

/// A fixed seed: lookups are the same in every run, and no order is ever taken from them.
fn hash(term: &str) -> u64 {
    FixedState::with_seed(0).hash_one(term.as_bytes())
}

fn slice<'a>(terms: &'a str, ends: &[usize], id: u32) -> &'a str {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    &terms[start..ends[id]]
}

impl Vocabulary {
    /// The number of terms.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no term.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The id of `term`, where it is known.
    #[must_use]
    pub fn get(&self, term: &str) -> Option<u32> {
        self.ids.find(hash(term), |id| slice(&self.terms, &self.ends, *id) == term).copied()
    }

    /// The id of `term`, which is added where it is new.
    pub fn intern(&mut self, term: &str) -> u32 {
        let Self { terms, ends, ids } = self;
        let entry = ids.entry(hash(term), |id| slice(terms, ends, *id) == term, |id| hash(slice(terms, ends, *id)));
        match entry {
            hashbrown::hash_table::Entry::Occupied(found) => *found.get(),
            hashbrown::hash_table::Entry::Vacant(place) => {
                let id = u32::try_from(ends.len()).unwrap_or(u32::MAX);
                place.insert(id);
                terms.push_str(term);
                ends.push(terms.len());
                id
            }
        }
    }

    /// The term with this id.
    ///
    /// # Panics
    ///
    /// When `id` is not below [`len`](Self::len).
    #[must_use]
    pub fn term(&self, id: u32) -> &str {
        slice(&self.terms, &self.ends, id)
    }

    /// All terms, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|id| slice(&self.terms, &self.ends, u32::try_from(id).unwrap_or(u32::MAX)))
    }

    /// Whether the terms are in ascending order of their bytes, none twice.
    #[must_use]
    pub fn is_sorted(&self) -> bool {
        self.iter().is_sorted_by(|left, right| left < right)
    }
}

impl<T: AsRef<str>> FromIterator<T> for Vocabulary {
    fn from_iter<I: IntoIterator<Item = T>>(terms: I) -> Self {
        let mut vocabulary = Self::default();
        for term in terms {
            vocabulary.intern(term.as_ref());
        }
        vocabulary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_keep_their_ids_as_the_table_grows() {
        let mut vocabulary = Vocabulary::default();
        for n in 0..5000 {
            assert_eq!(vocabulary.intern(&format!("terme{n}")), n);
        }
        assert_eq!(vocabulary.intern("terme7"), 7);
        assert_eq!(vocabulary.get("terme4999"), Some(4999));
        assert_eq!(vocabulary.get("terme5000"), None);
        assert_eq!(vocabulary.term(42), "terme42");
        assert_eq!(vocabulary.len(), 5000);
    }

    #[test]
    fn sorted_means_strictly_by_bytes() {
        assert!(Vocabulary::from_iter(["a", "ab", "z", "é"]).is_sorted());
        assert!(!Vocabulary::from_iter(["é", "z"]).is_sorted());
    }
}
