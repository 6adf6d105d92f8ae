//! Pairs of words as terms: two that follow one another, with a space between them.
//!
//! They are the only terms that do not lie within a word, so that no word's expansion holds them. A fitted space numbers the words that its pairs are made
//! of: nearly all pairs of a text are told to be unknown, and the others found, by numbers, and no string is made.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::Vocabulary;

/// The pairs of a fitted block.
#[derive(Debug, Clone)]
pub(super) struct Bigrams {
    /// The words that pairs are made of.
    words: Vocabulary,
    /// For each pair of numbers the term's id.
    ids: HashMap<(u32, u32), u32, FixedState>,
}

impl Bigrams {
    /// The pairs of `vocabulary`; terms that are none are found nowhere.
    pub(super) fn new(vocabulary: &Vocabulary) -> Self {
        let mut words = Vocabulary::default();
        let mut ids = HashMap::with_hasher(FixedState::default());
        for (term, id) in vocabulary.iter().zip(0..) {
            if let Some((first, second)) = term.split_once(' ') {
                ids.insert((words.intern(first), words.intern(second)), id);
            }
        }
        Self { words, ids }
    }

    /// The number of a word that some pair has.
    pub(super) fn word(&self, word: &str) -> Option<u32> {
        self.words.get(word)
    }

    /// The id of a pair of such words.
    pub(super) fn id(&self, first: u32, second: u32) -> Option<u32> {
        self.ids.get(&(first, second)).copied()
    }
}
