//! A feature space: blocks of terms with their idf, and the sparse vector of a document in it.
//!
//! Within a block the value of a term that occurs tf times is (1 + ln tf) · idf, with
//! idf = ln((1 + n) / (1 + df)) + 1 over the n documents that the space was fitted on, df of which have the term
//! (scikit-learn's `TfidfVectorizer(sublinear_tf=True)`). Each block is divided by its Euclidean norm and multiplied by
//! √(w / Σw), w being the block's weight; the blocks stand side by side, in order.
//!
//! Nothing here depends on another document: idf is fixed when the space is fitted, never recomputed.

use std::borrow::Borrow;
use std::ops::Range;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::bigrams::Bigrams;
use super::counter::{Counting, Shown};
use super::lexicon::Relations;
use super::reading::{between, is_capitalised, is_named};
use super::shape::ShapeTerm;
use super::tally::{Counted, Tally, Terms, Tokens};
use super::{Document, Lexicon, Occurrence, Vocabulary};
use crate::spill::Memory;
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
    /// Two words that follow one another in a sentence, a space between them.
    Bigrams,
    /// The concepts of each word, by the space's lexicon; states left out, since which they are says nothing of a stance.
    Concepts,
    /// What stands beside states in a sentence, by the space's lexicon: see [`Relations`].
    Relations,
    /// What a passage looks like and where it stands: see [`super::shape`].
    Shape,
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
    /// The source's own voice without names and figures, which tell of whom it speaks and not how.
    OwnCommon,
    /// The same of the first and the last so many words of the document, names and quotations counted: where a source says what it thinks.
    Edges {
        /// The number of words at either end.
        words: usize,
    },
}

/// How a word stands in its document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// Whether it stands within quotation marks.
    pub(super) quoted: bool,
    /// Whether it is a name or a figure; see [`Token::named`](super::reading::Token::named).
    pub(super) named: bool,
    /// Whether it stands in the title, or in what stands in for it.
    pub(super) is_title: bool,
    /// Words of the document before it.
    pub(super) before: usize,
    /// Words of the document from it on.
    pub(super) from: usize,
}

impl Field {
    /// Whether a word is read that stands so.
    pub(super) fn reads(self, Standing { quoted, named, is_title, before, from }: Standing) -> bool {
        match self {
            Self::Document => true,
            Self::Title => is_title,
            Self::Own => !quoted,
            Self::Quoted => quoted,
            Self::OwnCommon => !quoted && !named,
            Self::Edges { words } => !quoted && !named && (before < words || from <= words),
        }
    }
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
    /// Its terms; in a trained block the frequent ones come first.
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
    /// For each block whether its terms have their beginnings among them; see [`Terms::has_beginnings`].
    with_beginnings: Vec<bool>,
    /// For each block its pairs of words, where it has any.
    bigrams: Vec<Option<Bigrams>>,
}

/// How much a term counts that occurs so often in a document: 1 + ln tf.
#[derive(Debug, Clone, Copy)]
pub struct Damping(&'static [f64; DAMPED]);

/// Counts whose damping is kept at hand.
const DAMPED: usize = 256;

static DAMPING: LazyLock<[f64; DAMPED]> = LazyLock::new(|| std::array::from_fn(|count| 1.0 + log(count)));

/// (1 + ln tf) · idf of a term that occurs so often.
#[must_use]
pub(super) fn tf_idf(damping: Damping, count: u32, idf: f32) -> f64 {
    damping.of(count) * f64::from(idf)
}

#[expect(clippy::cast_precision_loss, reason = "no text has 2^52 occurrences of a term")]
fn log(count: usize) -> f64 {
    libm::log(count as f64)
}

impl Damping {
    /// The function, ready for use.
    #[must_use]
    pub fn new() -> Self {
        Self(&DAMPING)
    }

    /// 1 + ln `count`, for a count above zero.
    #[must_use]
    pub fn of(self, count: u32) -> f64 {
        self.0.get(count as usize).copied().unwrap_or_else(|| 1.0 + log(count as usize))
    }
}

impl Default for Damping {
    fn default() -> Self {
        Self::new()
    }
}

impl Terms for &Space {
    fn id(&mut self, block: usize, term: &str) -> Option<u32> {
        self.blocks[block].vocabulary.get(term)
    }

    fn len(&self, block: usize) -> usize {
        self.blocks[block].vocabulary.len()
    }

    fn has_beginnings(&self, block: usize) -> bool {
        self.with_beginnings[block]
    }

    fn half(&self, block: usize, word: &str) -> Option<u32> {
        self.bigrams[block].as_ref()?.word(word)
    }

    fn pair(&mut self, block: usize, _: &Vocabulary, [(_, first), (_, second)]: [(u32, u32); 2]) -> Option<u32> {
        self.bigrams[block].as_ref()?.id(first, second)
    }
}

/// Whether each n-gram of a block that is longer than the shortest has the n-gram that is shorter by its last character beside it. So it
/// is where the most frequent n-grams were chosen, since a document that has one has its beginning too.
fn has_beginnings(block: &Block) -> bool {
    let BlockKind::Ngrams { min, .. } = block.config.kind else { return false };
    let mut terms = block.vocabulary.iter();
    terms.all(|term| match term.char_indices().next_back() {
        Some((last, _)) if term[..last].chars().nth(min - 1).is_some() => block.vocabulary.get(&term[..last]).is_some(),
        _ => true,
    })
}

/// A document's vector as it was counted: the value of a term is (1 + ln tf) · idf times the factor of its block.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TermCounts {
    /// The terms of all blocks, with their counts.
    terms: Vec<(u32, u32)>,
    /// For each block the end of its terms, and its factor.
    ends: Vec<(usize, f64)>,
}

impl TermCounts {
    /// Forgets the document.
    pub(super) fn clear(&mut self) {
        self.terms.clear();
        self.ends.clear();
    }

    /// Adds the terms of the next `block` of `space`, with their counts.
    pub(super) fn push(&mut self, space: &Space, block: usize, terms: &[(u32, u32)]) {
        self.terms.extend_from_slice(terms);
        self.ends.push((self.terms.len(), space.factor(block, terms)));
    }

    /// For each block its index, its terms with their counts, and its factor.
    pub fn blocks(&self) -> impl Iterator<Item = (usize, &[(u32, u32)], f64)> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        let blocks = begins.zip(&self.ends).enumerate();
        blocks.map(|(block, (begin, (end, factor)))| (block, &self.terms[begin..*end], *factor))
    }
}

impl Borrow<BlockConfig> for Block {
    fn borrow(&self) -> &BlockConfig {
        &self.config
    }
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
        let with_beginnings = blocks.iter().map(has_beginnings).collect();
        let pairs = |block: &Block| (block.config.kind == BlockKind::Bigrams).then(|| Bigrams::new(&block.vocabulary));
        let bigrams = blocks.iter().map(pairs).collect();
        Self { blocks, firsts, scales, features, lexicon: None, with_beginnings, bigrams }
    }

    /// The same space with a lexicon, which blocks of concepts and relations need: without it they have no terms.
    #[must_use]
    pub fn with_lexicon(self, lexicon: Option<Lexicon>) -> Self {
        Self { lexicon, ..self }
    }

    /// Learns vocabulary and idf of each block from `documents`, in memory; see [`Counting`].
    #[must_use]
    pub fn fit(configs: Vec<BlockConfig>, lexicon: Option<Lexicon>, documents: &[&Document<'_>]) -> Self {
        let mut counting = Counting::new(configs, lexicon, &Memory::default());
        let shown: Vec<Shown<'_>> = documents.iter().map(|document| Shown { document: Some(document), lead: None }).collect();
        counting.count(&shown);
        counting.finish_in_memory().0
    }

    /// What a [`Tally`] counts in this space.
    #[must_use]
    pub fn counted(&self) -> Counted<'_, Block> {
        Counted { blocks: &self.blocks, lexicon: self.lexicon.as_ref() }
    }

    /// The first feature of a block.
    ///
    /// # Panics
    ///
    /// When there is no such block.
    #[must_use]
    pub fn first(&self, block: usize) -> u32 {
        self.firsts[block]
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

    /// Reports every term of `document` for every block that is `wanted`, known or not, with the place where it stands. Slower than a
    /// [`Tally`], which counts the same terms.
    pub fn read<'a>(
        &self,
        reader: &mut Reader,
        document: &'a Document<'a>,
        wanted: impl Fn(usize) -> bool,
        mut found: impl FnMut(Occurrence<'a, '_>),
    ) {
        let blocks: Vec<(usize, &BlockConfig)> =
            self.blocks.iter().map(|block| &block.config).enumerate().filter(|(block, _)| wanted(*block)).collect();
        if blocks.is_empty() {
            return;
        }
        let reads_concepts = |kind: BlockKind| matches!(kind, BlockKind::Concepts | BlockKind::Relations);
        let lexicon = self.lexicon.as_ref().filter(|_| blocks.iter().any(|(_, config)| reads_concepts(config.kind)));
        let (mut relations, mut concepts, mut completed) = (Relations::default(), Vec::new(), Vec::new());
        let mut from = 0;
        document.segments.iter().for_each(|segment| reader.read(segment.text, |_| from += 1));
        let mut before = 0;
        // For each block the word before, where it is read.
        let mut halves: Vec<Option<String>> = vec![None; self.blocks.len()];
        for segment in &document.segments {
            relations.end_sentence();
            halves.fill(None);
            let (mut end, mut quoted) = (0, false);
            reader.read(segment.text, |word| {
                let source = word.source();
                let begins_sentence;
                (begins_sentence, quoted) = between(&segment.text[end..source.start], quoted);
                let written = &segment.text[source.clone()];
                let named = is_named(written, is_capitalised(written), begins_sentence || end == 0);
                let standing = Standing { quoted, named, is_title: segment.is_title, before, from };
                (before, from) = (before + 1, from - 1);
                end = source.end;
                completed.clear();
                concepts.clear();
                if let Some(lexicon) = lexicon {
                    if begins_sentence {
                        relations.end_sentence();
                    }
                    lexicon.look_up(word, &mut concepts);
                    let terms = lexicon.relations();
                    relations.next(lexicon, concepts.iter().copied(), |term| completed.push(terms[term].as_str()));
                }
                for (block, config) in blocks.iter().copied() {
                    let half = halves[block].take().filter(|_| !begins_sentence);
                    if !config.field.reads(standing) {
                        continue;
                    }
                    let mut found = |term: &str, characters: Range<usize>| {
                        let characters = (characters.start, characters.end);
                        found(Occurrence { block, term, word: Some((segment, word)), characters });
                    };
                    let whole = 1..word.length() - 1;
                    match config.kind {
                        BlockKind::Words => found(word.text(), whole),
                        BlockKind::Ngrams { min, max } => {
                            word.ngrams(min..max + 1).for_each(|(term, characters)| found(term, characters));
                        }
                        BlockKind::Concepts => {
                            for (lexicon, concept) in
                                lexicon.iter().flat_map(|lexicon| concepts.iter().map(move |of| (lexicon, *of)))
                            {
                                if !lexicon.is_country(concept) {
                                    found(lexicon.name(concept), whole.clone());
                                }
                            }
                        }
                        BlockKind::Bigrams => {
                            halves[block] = Some(word.text().to_owned());
                            half.into_iter().for_each(|half| found(&format!("{half} {}", word.text()), whole.clone()));
                        }
                        BlockKind::Relations => completed.iter().for_each(|term| found(term, whole.clone())),
                        BlockKind::Shape => {}
                    }
                }
            });
        }
        for (block, _) in blocks.iter().copied().filter(|(_, config)| config.kind == BlockKind::Shape) {
            for term in document.shape.iter().map(ShapeTerm::name) {
                found(Occurrence { block, term, word: None, characters: (0, 0) });
            }
        }
    }

    /// Adds a block's part of a document's vector to `entries`: the features of its `terms`, which come with their counts, and their values.
    pub(crate) fn push_entries(&self, block: usize, terms: &[(u32, u32)], entries: &mut Vec<(u32, f64)>) {
        let (damping, first) = (Damping::new(), self.firsts[block]);
        let (idf, factor) = (&self.blocks[block].idf, self.factor(block, terms));
        let value = |term: u32, count: u32| tf_idf(damping, count, idf[term as usize]) * factor;
        entries.extend(terms.iter().map(|(term, count)| (first + term, value(*term, *count))));
    }

    /// Puts the vector of a document into `counts`, as counts and factors. `tally` belongs to this space; `found` is called for each block, in order, with its terms and their counts.
    pub fn counts(
        &self,
        tally: &mut Tally,
        tokens: &Tokens<'_>,
        counts: &mut TermCounts,
        mut found: impl FnMut(usize, &[(u32, u32)]),
    ) {
        counts.clear();
        tally.count(&self.counted(), &mut &*self, tokens, |block, terms| {
            counts.push(self, block, terms);
            found(block, terms);
        });
    }

    /// What brings the terms of a block, whose values are (1 + ln tf) · idf, to the norm of the block.
    fn factor(&self, block: usize, terms: &[(u32, u32)]) -> f64 {
        let (damping, idf) = (Damping::new(), &self.blocks[block].idf);
        let mut squares = 0.0;
        for (term, count) in terms {
            let value = tf_idf(damping, *count, idf[*term as usize]);
            squares += value * value;
        }
        if squares > 0.0 { self.scales[block] / libm::sqrt(squares) } else { 0.0 }
    }
}

/// ln((1 + n) / (1 + df)) + 1: as if one more document had every term once (scikit-learn's `smooth_idf`).
#[must_use]
pub fn idf(documents: u32, df: u32) -> f64 {
    libm::log((1.0 + f64::from(documents)) / (1.0 + f64::from(df))) + 1.0
}

#[cfg(test)]
mod tests;
