//! A set of terms with ids, found by hash and checked by comparison, so that a collision never gives a wrong term.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Terms numbered from 0, in the order in which they were added.
///
/// Each term has a key of eight bytes: most n-grams and half of the words of a text are their own key, with their length. Keys lie in
/// the order of the terms, so that those of terms that were added together are found in one place of memory.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    /// All terms, one after the other.
    terms: String,
    /// For each term, its end in `terms`.
    ends: Vec<usize>,
    /// For each term its key.
    keys: Vec<u64>,
    ids: HashTable<u32>,
}

/// Bytes of the longest term that is its own key.
const SHORT: usize = 7;

/// The highest bit of a key: set where the key is but a hash of the term.
const IS_HASH: u64 = 1 << 63;

/// The key of a term. Two terms with the same key are the same, unless the key is a hash.
///
/// The seed is fixed: look-ups are the same in every run, and no order is ever taken from them.
#[must_use]
pub fn key(term: &[u8]) -> u64 {
    let length = term.len();
    let packed = match length {
        0 => 0,
        1 => u64::from(term[0]),
        // The last bytes, shifted to their place, overlap the first ones where these are the same.
        2..=3 => ends::<2>(term).map(|end| u64::from(u16::from_le_bytes(end))).join(length - 2),
        4..=SHORT => ends::<4>(term).map(|end| u64::from(u32::from_le_bytes(end))).join(length - 4),
        _ => return FixedState::with_seed(0).hash_one(term) | IS_HASH,
    };
    packed | (length as u64) << 56
}

/// The first and the last `N` bytes of `term`, which has no fewer.
fn ends<const N: usize>(term: &[u8]) -> Ends<[u8; N]> {
    let none = &[0; N];
    Ends { first: *term.first_chunk().unwrap_or(none), last: *term.last_chunk().unwrap_or(none) }
}

struct Ends<T> {
    first: T,
    last: T,
}

impl<T> Ends<T> {
    fn map<U>(self, change: impl Fn(T) -> U) -> Ends<U> {
        Ends { first: change(self.first), last: change(self.last) }
    }
}

impl Ends<u64> {
    /// Both in one number, the last `shift` bytes behind the first.
    fn join(self, shift: usize) -> u64 {
        self.first | self.last << (8 * shift)
    }
}

/// Spreads a key over all bits of a table's hash (the multiplier is 2^64 over the golden ratio; Knuth, The Art of Computer Programming, 6.4).
fn spread(key: u64) -> u64 {
    fold(key, 0x9e37_79b9_7f4a_7c15)
}

/// Both halves of a product in one number, of which each bit depends on all of both.
pub(super) fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    let halves = ((product >> 64) as u64, product as u64);
    halves.0 ^ halves.1
}

fn slice<'a>(terms: &'a str, ends: &[usize], id: u32) -> &'a str {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    &terms[start..ends[id]]
}

impl Vocabulary {
    /// No terms, with room for so many of so many bytes together.
    #[must_use]
    pub fn with_capacity(terms: usize, bytes: usize) -> Self {
        Self {
            terms: String::with_capacity(bytes),
            ends: Vec::with_capacity(terms),
            keys: Vec::with_capacity(terms),
            ids: HashTable::with_capacity(terms),
        }
    }

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
        let term = term.as_bytes();
        let key = key(term);
        self.ids.find(spread(key), |id| self.is(*id, key, term)).copied()
    }

    /// Whether the term numbered `id` is `term`, whose key is `key`.
    fn is(&self, id: u32, key: u64, term: &[u8]) -> bool {
        self.keys[id as usize] == key && (key & IS_HASH == 0 || self.utf8(id) == term)
    }

    /// The id of `term`, which is added where it is new.
    pub fn intern(&mut self, term: &str) -> u32 {
        self.intern_utf8(term.as_bytes())
    }

    /// [`intern`](Self::intern) of a term that is known to be UTF-8.
    pub(super) fn intern_utf8(&mut self, term: &[u8]) -> u32 {
        let key = key(term);
        let Self { terms, ends, keys, ids } = self;
        let next = u32::try_from(ends.len()).unwrap_or(u32::MAX);
        let is_term = |id: &u32| keys[*id as usize] == key && (key & IS_HASH == 0 || slice(terms, ends, *id).as_bytes() == term);
        let id = *ids.entry(spread(key), is_term, |id| spread(keys[*id as usize])).or_insert(next).get();
        if id == next {
            terms.push_str(std::str::from_utf8(term).unwrap_or_default());
            ends.push(terms.len());
            keys.push(key);
        }
        id
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

    /// The UTF-8 of the term with this id.
    pub(super) fn utf8(&self, id: u32) -> &[u8] {
        self.term(id).as_bytes()
    }

    /// The bytes of all terms.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.terms.len()
    }

    /// Forgets all terms and keeps their room.
    pub fn clear(&mut self) {
        self.terms.clear();
        self.ends.clear();
        self.keys.clear();
        self.ids.clear();
    }

    /// Forgets all terms but those of the ids that stay, which are numbered anew in their order. Nothing is allocated: large blocks that come and go
    /// are what an allocator keeps most memory for.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(usize) -> bool) {
        let Self { terms, ends, keys, ids } = self;
        let mut bytes = std::mem::take(terms).into_bytes();
        let (mut kept, mut length, mut begin) = (0, 0, 0);
        for id in 0..ends.len() {
            let term = std::mem::replace(&mut begin, ends[id])..ends[id];
            if stays(id) {
                let end = length + term.len();
                bytes.copy_within(term, length);
                (ends[kept], keys[kept], length) = (end, keys[id], end);
                kept += 1;
            }
        }
        bytes.truncate(length);
        ends.truncate(kept);
        keys.truncate(kept);
        // Whole terms were moved.
        *terms = String::from_utf8(bytes).unwrap_or_default();
        ids.clear();
        for (id, key) in (0..).zip(&*keys) {
            ids.insert_unique(spread(*key), id, |id| spread(keys[*id as usize]));
        }
    }

    /// All terms, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|id| self.term(u32::try_from(id).unwrap_or(u32::MAX)))
    }
}

impl<T: AsRef<str>> FromIterator<T> for Vocabulary {
    fn from_iter<I: IntoIterator<Item = T>>(terms: I) -> Self {
        let terms = terms.into_iter();
        let mut vocabulary = Self::with_capacity(terms.size_hint().0, 0);
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
    fn terms_that_stay_are_numbered_anew() {
        let terms = ["un", "deux", "extraordinaire", "", "été", "extraordinairement", "six"];
        let mut vocabulary = Vocabulary::from_iter(terms);
        vocabulary.retain(|id| id % 2 == 1);
        assert_eq!(vocabulary.iter().collect::<Vec<_>>(), ["deux", "", "extraordinairement"]);
        assert_eq!((vocabulary.len(), vocabulary.bytes()), (3, 4 + 18));
        assert_eq!(terms.map(|term| vocabulary.get(term)), [None, Some(0), None, Some(1), None, Some(2), None]);
        assert_eq!(["six", "deux", "un"].map(|term| vocabulary.intern(term)), [3, 0, 4]);
        vocabulary.retain(|_| false);
        assert!(vocabulary.is_empty() && vocabulary.get("deux").is_none());
    }

    #[test]
    fn short_and_long_terms_are_told_apart() {
        let (fifteen, sixteen) = ("a".repeat(15), "a".repeat(16));
        let terms = [
            "",
            "a",
            "a\0",
            "aaaaaaa",
            "aaaaaaa\u{7}",
            "aaaaaaaa",
            "é",
            "ééé",
            "éééé",
            "aaaaaaaa\0",
            fifteen.as_str(),
            sixteen.as_str(),
        ];
        let vocabulary = Vocabulary::from_iter(terms);
        assert_eq!(vocabulary.len(), terms.len());
        assert_eq!(terms.map(|term| vocabulary.get(term)), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11].map(Some));
        assert_eq!(vocabulary.iter().collect::<Vec<_>>(), terms);
        assert_eq!(["aa", "aaaaaa", "aaaaaaab"].map(|term| vocabulary.get(term)), [None; 3]);
    }
}
