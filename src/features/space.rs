//! A feature space: blocks of terms with their idf, and the sparse vector of a document in it.
//!
//! Within a block the value of a term that occurs tf times is (1 + ln tf) · idf, with
//! idf = ln((1 + n) / (1 + df)) + 1 over the n documents that the space was fitted on, df of which have the term
//! (scikit-learn's `TfidfVectorizer(sublinear_tf=True)`). Each block is divided by its Euclidean norm and multiplied by
//! √(w / Σw), w being the block's weight; the blocks stand side by side, in order.
//!
//! Nothing here depends on another document: idf is fixed when the space is fitted, never recomputed.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::lexicon::Relations;
use super::{Document, Lexicon, Occurrence, Vocabulary};
use crate::terms::Reader;

/// What the terms of a block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// Words.
    Words,
    /// Character n-grams of `min` to `max` characters within words, with a space on either side.
    Ngrams {
        /// Characters of the shortest.
        min: usize,
        /// Characters of the longest.
        max: usize,
    },
    /// The concepts of each word, by the space's lexicon; states left out, since which they are says nothing of a stance.
    Concepts,
    /// What stands beside states in a sentence, by the space's lexicon: see [`Relations`].
    Relations,
    /// What a passage looks like and where it stands: see [`super::shape`].
    Shape,
}

/// Characters that end a sentence. Abbreviations end one too often, which costs a relation now and then.
const SENTENCE_END: [char; 4] = ['.', '!', '?', '…'];

/// Whether what follows `c` is quoted, where what stood before it was `quoted`. A quotation that is not closed ends with
/// its passage.
fn within_quotes(quoted: bool, c: char) -> bool {
    match c {
        '«' | '“' | '„' => true,
        '»' | '”' => false,
        '"' => !quoted,
        _ => quoted,
    }
}

/// What part of a document a block reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// All of it.
    Document,
    /// The title, or what stands in for it.
    Title,
    /// What stands outside quotation marks: the source's own voice.
    Own,
    /// What stands within quotation marks: somebody else's.
    Quoted,
}

/// The settings of a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockConfig {
    /// Its name, as explanations give it.
    pub name: String,
    /// What its terms are.
    pub kind: BlockKind,
    /// What it reads.
    pub field: Field,
    /// The least number of documents that must have a term.
    pub min_df: u32,
    /// The greatest number of terms, of which those in the most documents stay; 0: no limit.
    pub max_features: usize,
    /// Its weight beside the other blocks, greater than zero.
    pub weight: f64,
}

/// A block of features.
#[derive(Debug, Clone)]
pub struct Block {
    /// Its settings.
    pub config: BlockConfig,
    /// Its terms, sorted by their bytes.
    pub vocabulary: Vocabulary,
    /// For each term its idf.
    pub idf: Vec<f32>,
}

/// A feature space, fitted.
#[derive(Debug, Clone, Default)]
pub struct Space {
    blocks: Vec<Block>,
    /// For each block its first feature.
    firsts: Vec<u32>,
    /// For each block √(w / Σw).
    scales: Vec<f64>,
    features: usize,
    /// What blocks of concepts and relations read by.
    lexicon: Option<Lexicon>,
}

/// Buffers for making vectors, reused from document to document.
#[derive(Debug, Default)]
pub struct Scratch {
    reader: Reader,
    /// For each feature how often it was seen; all zero between documents.
    counts: Vec<u32>,
    /// The features seen, in the order of their first occurrence.
    touched: Vec<u32>,
    /// For each block the sum of squares, then the factor.
    factors: Vec<f64>,
    /// The vector: feature and value.
    entries: Vec<(u32, f64)>,
}

impl Space {
    /// Puts blocks side by side.
    #[must_use]
    pub fn new(blocks: Vec<Block>) -> Self {
        let total: f64 = blocks.iter().map(|block| block.config.weight).sum();
        let scales = blocks.iter().map(|block| libm::sqrt(block.config.weight / total)).collect();
        let mut firsts = Vec::with_capacity(blocks.len());
        let mut features = 0;
        for block in &blocks {
            firsts.push(u32::try_from(features).unwrap_or(u32::MAX));
            features += block.vocabulary.len();
        }
        Self { blocks, firsts, scales, features, lexicon: None }
    }

    /// The same space with a lexicon, which blocks of concepts and relations need: without it they have no terms.
    #[must_use]
    pub fn with_lexicon(self, lexicon: Option<Lexicon>) -> Self {
        Self { lexicon, ..self }
    }

    /// Learns vocabulary and idf of each block from `documents`.
    #[must_use]
    pub fn fit<'a>(
        configs: Vec<BlockConfig>,
        lexicon: Option<Lexicon>,
        documents: impl IntoIterator<Item = Document<'a>>,
    ) -> Self {
        let empty = |config| Block { config, vocabulary: Vocabulary::default(), idf: Vec::new() };
        let reading = Self::new(configs.into_iter().map(empty).collect()).with_lexicon(lexicon);
        let mut counters: Vec<Counter> = reading.blocks.iter().map(|_| Counter::default()).collect();
        let mut reader = Reader::default();
        let mut total = 0;
        for document in documents {
            total += 1;
            reading.read(&mut reader, &document, |occurrence| counters[occurrence.block].count(occurrence.term, total));
        }
        let Self { blocks, lexicon, .. } = reading;
        let blocks = blocks.into_iter().zip(counters);
        Self::new(blocks.map(|(block, counter)| counter.select(block.config, total)).collect()).with_lexicon(lexicon)
    }

    /// The lexicon, where there is one.
    #[must_use]
    pub fn lexicon(&self) -> Option<&Lexicon> {
        self.lexicon.as_ref()
    }

    /// For each block the norm of its part of a vector: √(w / Σw).
    #[must_use]
    pub fn scales(&self) -> &[f64] {
        &self.scales
    }

    /// The blocks, in order.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The number of features of all blocks.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }

    /// The block of a feature and the feature's term.
    ///
    /// # Panics
    ///
    /// When `feature` is not below [`features`](Self::features).
    #[must_use]
    pub fn term(&self, feature: u32) -> (usize, &str) {
        let block = self.firsts.partition_point(|first| *first <= feature) - 1;
        // Blocks without terms share their first feature with the next; the last of them has it.
        (block, self.blocks[block].vocabulary.term(feature - self.firsts[block]))
    }

    /// The feature of a term of a block, where it is known.
    #[must_use]
    pub fn feature(&self, block: usize, term: &str) -> Option<u32> {
        self.blocks[block].vocabulary.get(term).map(|id| self.firsts[block] + id)
    }

    /// Reports every term of `document` for every block, known or not.
    pub fn read<'a>(&self, reader: &mut Reader, document: &'a Document<'a>, mut found: impl FnMut(Occurrence<'a, '_>)) {
        let (mut relations, mut concepts, mut completed) = (Relations::default(), Vec::new(), Vec::new());
        for segment in &document.segments {
            relations.end_sentence();
            let (mut end, mut quoted) = (0, false);
            reader.read(segment.text, |word| {
                let source = word.source();
                let between = &segment.text[end..source.start];
                end = source.end;
                quoted = between.chars().fold(quoted, within_quotes);
                if let Some(lexicon) = &self.lexicon {
                    if between.contains(SENTENCE_END) {
                        relations.end_sentence();
                    }
                    completed.clear();
                    lexicon.look_up(word, &mut concepts);
                    relations.next(lexicon, &concepts, |term| completed.push(term));
                }
                for (block, Block { config, .. }) in self.blocks.iter().enumerate() {
                    let reads = match config.field {
                        Field::Document => true,
                        Field::Title => segment.is_title,
                        Field::Own => !quoted,
                        Field::Quoted => quoted,
                    };
                    if !reads {
                        continue;
                    }
                    let at = |term, characters: Range<usize>| Occurrence {
                        block,
                        term,
                        word: Some((segment, word)),
                        characters: (characters.start, characters.end),
                    };
                    match config.kind {
                        BlockKind::Words => found(at(word.text(), 1..word.length() - 1)),
                        BlockKind::Ngrams { min, max } => {
                            word.ngrams(min..max + 1).for_each(|(term, characters)| found(at(term, characters)));
                        }
                        BlockKind::Concepts => {
                            for (lexicon, concept) in
                                self.lexicon.iter().flat_map(|lexicon| concepts.iter().map(move |of| (lexicon, *of)))
                            {
                                if !lexicon.is_country(concept) {
                                    found(at(lexicon.name(concept), 1..word.length() - 1));
                                }
                            }
                        }
                        BlockKind::Relations => completed.iter().for_each(|term| found(at(term, 1..word.length() - 1))),
                        BlockKind::Shape => {}
                    }
                }
            });
        }
        for (block, _) in self.blocks.iter().enumerate().filter(|(_, block)| block.config.kind == BlockKind::Shape) {
            for term in &document.shape {
                found(Occurrence { block, term, word: None, characters: (0, 0) });
            }
        }
    }

    /// The vector of `document`: features in the order of their first occurrence, and their values.
    pub fn vector<'s>(&self, scratch: &'s mut Scratch, document: &Document<'_>) -> &'s [(u32, f64)] {
        let Scratch { reader, counts, touched, factors, entries } = scratch;
        if counts.len() < self.features {
            counts.resize(self.features, 0);
        }
        self.read(reader, document, |occurrence| {
            if let Some(feature) = self.feature(occurrence.block, occurrence.term) {
                let count = &mut counts[feature as usize];
                if *count == 0 {
                    touched.push(feature);
                }
                *count = count.saturating_add(1);
            }
        });
        factors.clear();
        factors.resize(self.blocks.len(), 0.0);
        entries.clear();
        for feature in touched.drain(..) {
            let block = self.block_of(feature);
            let idf = f64::from(self.blocks[block].idf[(feature - self.firsts[block]) as usize]);
            let value = (1.0 + libm::log(f64::from(std::mem::take(&mut counts[feature as usize])))) * idf;
            factors[block] += value * value;
            entries.push((feature, value));
        }
        for (factor, scale) in factors.iter_mut().zip(&self.scales) {
            *factor = if *factor > 0.0 { scale / libm::sqrt(*factor) } else { 0.0 };
        }
        for (feature, value) in entries.iter_mut() {
            *value *= factors[self.block_of(*feature)];
        }
        entries
    }

    fn block_of(&self, feature: u32) -> usize {
        self.firsts.partition_point(|first| *first <= feature) - 1
    }
}

/// Counts in how many documents each term is.
#[derive(Debug, Default)]
struct Counter {
    vocabulary: Vocabulary,
    /// For each term the documents that have it, and the last of them.
    seen: Vec<(u32, u32)>,
}

impl Counter {
    /// Counts an occurrence in `document`, numbered from 1.
    fn count(&mut self, term: &str, document: u32) {
        let id = self.vocabulary.intern(term) as usize;
        if id == self.seen.len() {
            self.seen.push((0, 0));
        }
        let (df, last) = &mut self.seen[id];
        if *last != document {
            *last = document;
            *df += 1;
        }
    }

    /// Keeps the terms that `config` wants, sorted, with their idf over `total` documents.
    fn select(self, config: BlockConfig, total: u32) -> Block {
        let mut kept: Vec<(u32, &str)> =
            self.seen.iter().map(|(df, _)| *df).zip(self.vocabulary.iter()).filter(|(df, _)| *df >= config.min_df).collect();
        if config.max_features > 0 && kept.len() > config.max_features {
            kept.sort_unstable_by(|(left_df, left), (right_df, right)| right_df.cmp(left_df).then(left.cmp(right)));
            kept.truncate(config.max_features);
        }
        kept.sort_unstable_by_key(|(_, term)| *term);
        #[expect(clippy::cast_possible_truncation, reason = "idf is stored in single precision")]
        let idf = kept.iter().map(|(df, _)| idf(total, *df) as f32).collect();
        Block { idf, vocabulary: kept.iter().map(|(_, term)| term).collect(), config }
    }
}

/// ln((1 + n) / (1 + df)) + 1: as if one more document had every term once (scikit-learn's `smooth_idf`).
#[must_use]
pub fn idf(documents: u32, df: u32) -> f64 {
    libm::log((1.0 + f64::from(documents)) / (1.0 + f64::from(df))) + 1.0
}

#[cfg(test)]
mod tests;
