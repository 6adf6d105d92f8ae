//! Documents as they were counted: what their vectors are made of, so that nobody has to read them again.
//!
//! While terms are counted, each thread has ids of its own for those that it meets. When all are counted and the space is made, a
//! [`Recording`] gives each document its counts in the space's ids; terms that are not in the space are left out.

use rayon::prelude::*;

use super::{Space, TermCounts};

/// The most bytes that a recording takes, give or take a piece for each thread; it can be larger than the vectors, where few of many terms become features.
pub const MOST_BYTES: u64 = 1 << 29;

/// Pieces that a thread works on before what came of them is put away.
const GROUP: usize = 32;

/// In place of an id: no term of the space.
pub(super) const NOT_KEPT: u32 = u32::MAX;

/// In place of the number of a document's words: there is no document.
const NO_DOCUMENT: u32 = u32::MAX;

/// In place of a count that has no room in a byte.
const MANY: u8 = 0;

/// Some documents, one behind the other. Whether a term occurs once can't be foreseen, so there is no branch that depends on it, in writing or in
/// reading.
#[derive(Debug, Clone, Default)]
pub(super) struct Piece {
    /// Of each document the number of words, then for each block the number of terms and their ids.
    numbers: Vec<u32>,
    /// For each term how often it occurs, or [`MANY`].
    counts: Vec<u8>,
    /// Of those the counts.
    many: Vec<u32>,
}

/// All documents, in the order in which they were counted.
#[derive(Debug)]
pub struct Recording {
    /// Pieces, each with the thread that counted it.
    pieces: Vec<(usize, Piece)>,
    new_ids: NewIds,
}

/// For each thread, block and id of a term its id in the space, or [`NOT_KEPT`].
pub(super) type NewIds = Vec<Vec<Vec<u32>>>;

/// Reads a piece.
#[derive(Debug)]
pub struct Recorded<'a> {
    space: &'a Space,
    new_ids: &'a [Vec<u32>],
    rest: &'a [u32],
    counts: &'a [u8],
    many: &'a [u32],
    terms: Vec<(u32, u32)>,
}

impl Piece {
    /// Begins a document of so many words.
    pub(super) fn begin(&mut self, words: usize) {
        self.numbers.push(u32::try_from(words).map_or(NO_DOCUMENT - 1, |words| words.min(NO_DOCUMENT - 1)));
    }

    /// Adds a place without a document.
    pub(super) fn push_none(&mut self) {
        self.numbers.push(NO_DOCUMENT);
    }

    /// Adds the next block of the document: its terms, with their counts.
    pub(super) fn push(&mut self, terms: &[(u32, u32)]) {
        let Self { numbers, counts, many } = self;
        numbers.push(u32::try_from(terms.len()).unwrap_or(u32::MAX));
        numbers.extend(terms.iter().map(|(id, _)| id));
        counts.extend(terms.iter().map(|(_, count)| u8::try_from(*count).unwrap_or(MANY)));
        many.extend(terms.iter().map(|(_, count)| count).filter(|count| u8::try_from(**count).is_err()));
    }

    /// Forgets the documents and keeps the room, which a copy does not have.
    pub(super) fn clear(&mut self) {
        let Self { numbers, counts, many } = self;
        numbers.clear();
        counts.clear();
        many.clear();
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> u64 {
        (size_of_val(&*self.numbers) + size_of_val(&*self.counts) + size_of_val(&*self.many)) as u64
    }
}

impl Recording {
    /// Of pieces in order, each with the thread that counted it, and the ids that the terms of all threads have got.
    pub(super) fn new(pieces: Vec<(usize, Piece)>, new_ids: NewIds) -> Self {
        Self { pieces, new_ids }
    }

    /// Gives `take` what `work` makes of each piece, in order; `space` is the one that was made of the same count. Pieces are forgotten as they are
    /// worked on.
    ///
    /// # Errors
    ///
    /// The first error of `take`.
    pub fn try_for_each<T: Send, E>(
        self,
        space: &Space,
        work: impl Fn(Recorded<'_>) -> T + Send + Sync,
        mut take: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { pieces, new_ids } = self;
        let recorded = |(shard, piece): (usize, Piece)| {
            let Piece { numbers, counts, many } = &piece;
            work(Recorded { space, new_ids: &new_ids[shard], rest: numbers, counts, many, terms: Vec::new() })
        };
        let mut pieces = pieces.into_iter();
        loop {
            let group: Vec<_> = pieces.by_ref().take(GROUP * rayon::current_num_threads()).collect();
            if group.is_empty() {
                return Ok(());
            }
            let made: Vec<T> = group.into_par_iter().with_max_len(1).map(&recorded).collect();
            made.into_iter().try_for_each(&mut take)?;
        }
    }
}

impl Recorded<'_> {
    /// The number of terms that are left to read, those that are not in the space among them.
    #[must_use]
    pub fn terms(&self) -> usize {
        self.counts.len()
    }

    /// Whether all was read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Puts the next document's vector into `counts`, as [`Space::counts`] does; `found` is told how many words it has, and of each block its terms
    /// with their counts. Returns false where there is no document.
    pub fn next(&mut self, counts: &mut TermCounts, mut found: impl FnMut(usize, usize, &[(u32, u32)])) -> bool {
        counts.clear();
        let words = self.number();
        if words == NO_DOCUMENT {
            return false;
        }
        for block in 0..self.new_ids.len() {
            let length = self.number() as usize;
            let Self { space, new_ids, rest, counts: rest_counts, many, terms } = self;
            let ids = rest.split_off(..length).unwrap_or_default();
            let id_counts = rest_counts.split_off(..length).unwrap_or_default();
            terms.resize(length, (0, 0));
            let mut kept = 0;
            for (id, count) in ids.iter().zip(id_counts) {
                // What only a part has was never counted.
                let id = new_ids[block].get(*id as usize).copied().unwrap_or(NOT_KEPT);
                let count = if *count == MANY { many.split_off_first().copied().unwrap_or(1) } else { u32::from(*count) };
                terms[kept] = (id, count);
                kept += usize::from(id != NOT_KEPT);
            }
            terms.truncate(kept);
            counts.push(space, block, terms);
            found(words as usize, block, terms);
        }
        true
    }

    fn number(&mut self) -> u32 {
        self.rest.split_off_first().copied().unwrap_or(NO_DOCUMENT)
    }
}
