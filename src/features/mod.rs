//! From terms to feature vectors: vocabularies, tf-idf, and what a passage's shape tells.
//!
//! - [`vocabulary`]: the terms of a block and their ids
//! - `bigrams`: pairs of words as terms
//! - [`lexicon`]: words and the concepts that they stand for
//! - [`reading`]: texts as numbered words
//! - [`tally`]: how often each term stands in a document
//! - [`counter`]: in how many documents each term is, for a space to be made
//! - [`record`]: documents as they were counted, for their vectors to be made of
//! - [`space`]: blocks of features with their idf; a [`Document`] becomes a sparse vector
//! - [`score`]: the sums of a document's weights, without the vector
//! - [`shape`]: a passage's form and surroundings as terms
//! - [`matrix`]: the vectors of a whole corpus

mod bigrams;
pub mod counter;
pub mod lexicon;
pub mod matrix;
pub mod reading;
pub mod record;
pub mod score;
pub mod shape;
pub mod space;
pub mod tally;
pub mod vocabulary;

use std::ops::Range;

use crate::terms::{Reader, Word};

pub use counter::{Counting, Shown};
pub use lexicon::Lexicon;
pub use matrix::{Cursor, SparseMatrix, SparseRows};
pub use reading::{Part, Reading};
pub use record::Recording;
pub use score::Scorer;
pub use shape::ShapeTerms;
pub use space::{Block, BlockConfig, BlockKind, Field, Space, TermCounts};
pub use tally::{Tally, Tokens};
pub use vocabulary::Vocabulary;

/// Where a segment of a document stands in what the caller sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The article's title.
    Title,
    /// The article's text.
    Text,
}

/// A stretch of the caller's article that counts towards a document.
#[derive(Debug, Clone)]
pub struct Segment<'a> {
    /// The stretch itself.
    pub text: &'a str,
    /// The field that it stands in.
    pub origin: Origin,
    /// Its first byte there.
    pub begin: usize,
    /// Whether title blocks read it: it is the title, or stands in for it.
    pub is_title: bool,
}

impl Segment<'_> {
    /// Bytes in the caller's field of a range of this segment.
    #[must_use]
    pub fn place(&self, within: &Range<usize>) -> Range<usize> {
        self.begin + within.start..self.begin + within.end
    }
}

/// What is classified as a whole: some text, and terms that tell its shape.
#[derive(Debug, Clone, Default)]
pub struct Document<'a> {
    /// The text, in order.
    pub segments: Vec<Segment<'a>>,
    /// Terms for blocks of kind [`BlockKind::Shape`].
    pub shape: ShapeTerms,
}

impl<'a> Document<'a> {
    /// The document of an article: its title, where there is one, and the `body` passages of its `text`. Without a
    /// title, the passage numbered `headline` of the body stands in for it; the document has it once all the same.
    #[must_use]
    pub fn article(title: &'a str, text: &'a str, body: impl IntoIterator<Item = Range<usize>>, headline: usize) -> Self {
        let titled = !crate::page::is_empty(title);
        let mut segments = Vec::new();
        if titled {
            segments.push(Segment { text: title, origin: Origin::Title, begin: 0, is_title: true });
        }
        for (at, range) in body.into_iter().enumerate() {
            let is_title = !titled && at == headline;
            segments.push(Segment { text: &text[range.clone()], origin: Origin::Text, begin: range.start, is_title });
        }
        Self { segments, shape: ShapeTerms::default() }
    }

    /// The same document cut after the first `words` words of its text; the title stays whole. Nothing where there is no more
    /// text than that.
    #[must_use]
    pub fn lead(&self, words: usize) -> Option<Self> {
        let mut reader = Reader::default();
        let mut segments = Vec::new();
        let mut read = 0;
        for segment in &self.segments {
            if segment.origin == Origin::Title {
                segments.push(segment.clone());
                continue;
            }
            let mut end = 0;
            reader.read(segment.text, |word| {
                if read < words {
                    end = word.source().end;
                }
                read += 1;
            });
            if end > 0 {
                segments.push(Segment { text: &segment.text[..end], ..segment.clone() });
            }
        }
        (read > words).then(|| Self { segments, shape: self.shape.clone() })
    }

    /// The document of a single passage of a page.
    #[must_use]
    pub fn passage(text: &'a str, range: Range<usize>) -> Self {
        Self::article("", text, [range], 0)
    }
}

/// One occurrence of a term, as [`Space::read`] reports it.
#[derive(Debug, Clone, Copy)]
pub struct Occurrence<'a, 'w> {
    /// Index of the block.
    pub block: usize,
    /// The term.
    pub term: &'w str,
    /// The segment and word that it was read from; nothing for a term of shape.
    pub word: Option<(&'a Segment<'a>, Word<'w>)>,
    /// Its characters in the padded word: the first, and one past the last; see [`Word::source_of`].
    pub characters: (usize, usize),
}

impl Occurrence<'_, '_> {
    /// The field and the bytes in it where the term stands; nothing for a term of shape.
    #[must_use]
    pub fn place(&self) -> Option<(Origin, Range<usize>)> {
        let (segment, word) = self.word?;
        let (first, end) = self.characters;
        Some((segment.origin, segment.place(&word.source_of(first..end))))
    }

    /// The field and the bytes in it of the word that holds the term; nothing for a term of shape.
    #[must_use]
    pub fn word_place(&self) -> Option<(Origin, Range<usize>)> {
        self.word.map(|(segment, word)| (segment.origin, segment.place(&word.source())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_is_the_title_and_the_first_words() {
        let text = "Un deux, trois.\nQuatre cinq.";
        let document = Document::article("Le titre", text, [0..15, 16..28], 0);
        let texts = |words| document.lead(words).map(|lead| lead.segments.iter().map(|segment| segment.text).collect::<Vec<_>>());
        assert_eq!(texts(2), Some(vec!["Le titre", "Un deux"]));
        assert_eq!(texts(4), Some(vec!["Le titre", "Un deux, trois", "Quatre"]));
        assert_eq!(texts(5), None);
        assert_eq!(document.lead(4).unwrap().segments[2].begin, 16);
    }
}
