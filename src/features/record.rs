//! Documents as they were counted: what their vectors are made of, so that nobody has to read them again.
//!
//! While terms are counted, each thread has ids of its own for those that it meets. When all are counted and the space is made, a
//! [`Recording`] gives each document its counts in the space's ids; terms that are not in the space are left out.

use rayon::prelude::*;

use super::matrix::Id;
use super::{Space, TermCounts};

/// The most bytes that a recording takes, give or take a piece for each thread; it can be larger than the vectors, where few of many terms become features.
pub const MOST_BYTES: u64 = 1 << 29;

/// Pieces that a thread works on before what came of them is put away.
const GROUP: usize = 32;

/// In place of an id: no term of the space.
pub(super) const NOT_KEPT: u32 = u32::MAX;

/// In place of the number of a document's words: there is no document.
const NO_DOCUMENT: u32 = u32::MAX;

/// Added to the id of a term that occurs more than once: the count follows.
const COUNT_FOLLOWS: u32 = 1 << 31;

/// Some documents, one behind the other: the number of words, then for each block the number of terms and these.
#[derive(Debug, Clone, Default)]
pub(super) struct Piece {
    numbers: Vec<u32>,
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

    /// Adds the next block of the document: its terms, with their counts. Whether there was room for their ids.
    pub(super) fn push(&mut self, terms: &[(u32, u32)]) -> bool {
        let Self { numbers } = self;
        numbers.push(u32::try_from(terms.len()).unwrap_or(u32::MAX));
        for (id, count) in terms {
            if *count == 1 {
                numbers.push(*id);
            } else {
                numbers.extend([id | COUNT_FOLLOWS, *count]);
            }
        }
        terms.iter().all(|(id, _)| *id < COUNT_FOLLOWS)
    }

    /// Forgets the documents and keeps the room, which a copy does not have.
    pub(super) fn clear(&mut self) {
        self.numbers.clear();
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> u64 {
        4 * self.numbers.len() as u64
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
            work(Recorded { space, new_ids: &new_ids[shard], rest: &piece.numbers, terms: Vec::new() })
        };
        let mut pieces = pieces.into_iter();
        loop {
            let group: Vec<_> = pieces.by_ref().take(GROUP * rayon::current_num_threads()).collect();
            if group.is_empty() {
                return Ok(());
            }
            let made: Vec<T> = group.into_par_iter().map(&recorded).collect();
            made.into_iter().try_for_each(&mut take)?;
        }
    }
}

impl Recorded<'_> {
    /// A guess at the bytes that the rows of all that is left to read take, where all of its terms are kept.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.rest.len() * size_of::<Id>() + self.rest.len() / 8
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
            self.terms.clear();
            let (terms, new_ids) = (self.number(), &self.new_ids[block]);
            let mut numbers = self.rest.iter();
            for _ in 0..terms {
                let Some(number) = numbers.next() else { break };
                let count = if number & COUNT_FOLLOWS == 0 { 1 } else { numbers.next().copied().unwrap_or(1) };
                // What only a part has was never counted.
                let id = new_ids.get((number & !COUNT_FOLLOWS) as usize);
                self.terms.extend(id.filter(|id| **id != NOT_KEPT).map(|id| (*id, count)));
            }
            self.rest = numbers.as_slice();
            counts.push(self.space, block, &self.terms);
            found(words as usize, block, &self.terms);
        }
        true
    }

    fn number(&mut self) -> u32 {
        self.rest.split_off_first().copied().unwrap_or(NO_DOCUMENT)
    }
}
