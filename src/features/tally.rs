//! How often each term of each block stands in a document: the one way from tokens to features.
//!
//! Nearly all terms lie within a word, and a few thousand words make up nearly all of a text. So a word is expanded to its terms
//! once, when it is first met, and the expansion (ids of n-grams, concepts and the word itself, block by block) is kept under
//! the word's number. A document's terms are then counted word by word: each of its different words adds the number
//! of its occurrences to the counts of its terms. In a fitted space nothing is hashed but the words and the numbers of pairs of them, and no string is made, but for
//! the terms of a passage's shape that hold its words.
//!
//! What a term's id is, [`Terms`] says: a fitted space knows its own terms and no others, a space being fitted numbers what
//! it meets. [`Space::read`](super::Space::read) tells the same terms with the places where they stand; a test holds the
//! two together.

use std::borrow::Borrow;
use std::ops::Range;

use super::lexicon::Relations;
use super::reading::{Part, Reading, Token};
use super::shape::{self, ShapeTerm, ShapeTerms};
use super::space::Standing;
use super::{BlockConfig, BlockKind, Field, Lexicon, Vocabulary};
use crate::terms::Reader;

/// Stands for a term that is not known.
const NONE: u32 = u32::MAX;

/// Stands for what has not been looked up yet.
const UNSEEN: u32 = u32::MAX - 1;

/// Ids that there is room for before a word is expanded; more than all but the longest words have.
const ROOM: usize = 1 << 10;

/// Ids that there is room for from the start, for each word that can be known: about as many as one expands to.
const IDS: usize = 64;

/// Words whose terms are fetched before those of the first are counted.
const AHEAD: usize = 16;

/// Ids in a line of the caches.
const LINE: usize = 16;

/// Gives terms their ids.
pub trait Terms {
    /// The id of `term` among those of its `block`, where it has one; below `u32::MAX - 1`.
    fn id(&mut self, block: usize, term: &str) -> Option<u32>;

    /// The number of terms of a block that have an id so far; all ids are below it.
    fn len(&self, block: usize) -> usize;

    /// Whether an n-gram that has no id is the beginning of none that has one.
    fn has_beginnings(&self, block: usize) -> bool;

    /// The number of a word among those that the pairs of its `block` are made of; none where no pair has it.
    fn half(&self, block: usize, word: &str) -> Option<u32>;

    /// The id of a pair of `words`: each its number there, and that which [`half`](Self::half) gave.
    fn pair(&mut self, block: usize, words: &Vocabulary, pair: [(u32, u32); 2]) -> Option<u32>;
}

/// What is to be counted: blocks, and the lexicon that some of them read by.
#[derive(Debug)]
pub struct Counted<'a, B> {
    /// The blocks.
    pub blocks: &'a [B],
    /// The lexicon.
    pub lexicon: Option<&'a Lexicon>,
}

/// A document as tokens: parts of a reading, and the terms of its shape.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// What was read.
    pub reading: &'a Reading,
    /// The parts of it that are the document.
    pub parts: &'a [Part],
    /// Terms for blocks of kind [`BlockKind::Shape`].
    pub shape: &'a ShapeTerms,
}

/// Counts, and the expansions of words met so far. It belongs to one set of blocks with their terms and to one
/// [`Reading`]: with others it would take one term for another.
#[derive(Debug, Default)]
pub struct Tally {
    expansions: Expansions,
    /// For each block of relations, or of shapes, the id of each relation or [numbered](ShapeTerm::Numbered) term.
    numbered: Vec<Vec<u32>>,
    relations: Relations,
    /// For each word how often it was seen; all zero between fields.
    word_counts: Vec<u32>,
    /// The different words of the whole document, and of the field that was counted last, with their counts.
    words: [Vec<(u32, u32)>; 2],
    /// For each term of a block how often it was seen; all zero between blocks. The narrower they are, the more of them
    /// are at hand: a term counts at most 65,535 times.
    counts: Vec<u16>,
    /// The terms of a block.
    terms: Met,
    /// For each word where its ids lie.
    ids: Vec<Range<usize>>,
}

/// Different terms with their counts, in the order in which they were met.
#[derive(Debug, Default)]
struct Met {
    /// Those behind the last one are of former blocks: to write over them costs nothing, to clear them would.
    all: Vec<(u32, u32)>,
    count: usize,
}

impl Met {
    fn clear(&mut self) {
        self.count = 0;
    }

    fn push(&mut self, id: u32, count: u32) {
        self.room(1)[0] = (id, count);
        self.count += 1;
    }

    /// Room for so many more.
    fn room(&mut self, more: usize) -> &mut [(u32, u32)] {
        if self.all.len() - self.count < more {
            self.all.resize(2 * (self.count + more), (0, 0));
        }
        &mut self.all[self.count..]
    }

    fn terms(&mut self) -> &mut [(u32, u32)] {
        &mut self.all[..self.count]
    }
}

/// What words expand to.
#[derive(Debug, Default)]
struct Expansions {
    reader: Reader,
    generation: u64,
    /// For each word and slot where its ids begin and end in `ids`; [`UNSEEN`] before they are needed. Slots are the blocks, and
    /// the word's concepts after the last of them.
    bounds: Vec<(u32, u32)>,
    ids: Vec<u32>,
    concepts: Vec<u16>,
}

impl Expansions {
    /// Makes room for the words of `reading`.
    fn prepare(&mut self, reading: &Reading, slots: usize) {
        if self.generation + 1 == reading.generation() {
            self.renumber(reading.renumbered(), slots);
        } else if self.generation != reading.generation() {
            self.bounds.clear();
            self.ids.clear();
        }
        self.generation = reading.generation();
        if self.bounds.capacity() == 0 {
            // Memory that was never written to is none; what a growing vector leaves behind is.
            self.bounds.reserve_exact(reading.room() * slots);
            self.ids.reserve_exact(reading.room() * IDS);
        }
        self.bounds.resize(reading.words().len() * slots, (UNSEEN, UNSEEN));
    }

    /// Keeps the expansions of the words that got a new number, all in their places.
    fn renumber(&mut self, renumbered: &[Option<u32>], slots: usize) {
        let Self { bounds, ids, .. } = self;
        // New numbers follow the order of the old ones, so that nothing is overwritten that is still to be moved.
        let mut kept = 0;
        for (old, _) in renumbered.iter().enumerate().filter(|(_, new)| new.is_some()) {
            bounds.copy_within(old * slots..(old + 1) * slots, kept);
            kept += slots;
        }
        bounds.truncate(kept);
        // Ids lie in the order in which words were expanded.
        let mut order: Vec<u32> = (0..bound(kept)).filter(|at| bounds[*at as usize].0 != UNSEEN).collect();
        order.sort_unstable_by_key(|at| bounds[*at as usize]);
        let mut end = 0;
        for at in order {
            let bounds = &mut bounds[at as usize];
            let old = bounds.0 as usize..bounds.1 as usize;
            let begin = end;
            end += old.len();
            ids.copy_within(old, begin);
            *bounds = (bound(begin), bound(end));
        }
        ids.truncate(end);
    }

    /// Where in [`ids`](Self::ids) those of a word for a slot lie.
    fn of<B: Borrow<BlockConfig>>(
        &mut self,
        counted: &Counted<'_, B>,
        terms: &mut impl Terms,
        reading: &Reading,
        (word, slot): (u32, usize),
    ) -> Range<usize> {
        let at = word as usize * (counted.blocks.len() + 1) + slot;
        if self.bounds[at].0 == UNSEEN {
            let begin = self.ids.len();
            if self.ids.capacity() - begin < ROOM {
                // A vector that doubles would keep half of the memory unused.
                self.ids.reserve_exact(ROOM + begin / 4);
            }
            self.expand(counted, terms, slot, reading.words().term(word));
            self.bounds[at] = (bound(begin), bound(self.ids.len()));
        }
        let (begin, end) = self.bounds[at];
        begin as usize..end as usize
    }

    /// Adds the ids of `word` for `slot` to `ids`.
    fn expand<B: Borrow<BlockConfig>>(&mut self, counted: &Counted<'_, B>, terms: &mut impl Terms, slot: usize, word: &str) {
        let Self { reader, ids, concepts, .. } = self;
        let word = reader.word(word);
        let mut look_up = |lexicon: &Lexicon| lexicon.look_up(word, concepts);
        let Some(config) = counted.blocks.get(slot) else {
            counted.lexicon.into_iter().for_each(look_up);
            ids.extend(concepts.iter().map(|concept| u32::from(*concept)));
            return;
        };
        match config.borrow().kind {
            BlockKind::Words => ids.extend(terms.id(slot, word.text())),
            BlockKind::Ngrams { min, max } => {
                let has_beginnings = terms.has_beginnings(slot);
                word.for_each_beginning(min..max + 1, |ngram| {
                    let id = terms.id(slot, ngram);
                    ids.extend(id);
                    id.is_some() || !has_beginnings
                });
            }
            BlockKind::Concepts => {
                if let Some(lexicon) = counted.lexicon {
                    look_up(lexicon);
                    let concepts = concepts.iter().filter(|concept| !lexicon.is_country(**concept));
                    ids.extend(concepts.filter_map(|concept| terms.id(slot, lexicon.name(*concept))));
                }
            }
            BlockKind::Bigrams => ids.extend(terms.half(slot, word.text())),
            BlockKind::Relations | BlockKind::Shape => {}
        }
    }
}

fn bound(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Tally {
    /// Counts the terms of `tokens`. Calls `found` once for each block, in order, with its terms and their counts: none twice,
    /// in the order of their first word (of their first occurrence, where they lie in no word).
    pub fn count<B: Borrow<BlockConfig>>(
        &mut self,
        counted: &Counted<'_, B>,
        terms: &mut impl Terms,
        tokens: &Tokens<'_>,
        mut found: impl FnMut(usize, &[(u32, u32)]),
    ) {
        self.expansions.prepare(tokens.reading, counted.blocks.len() + 1);
        self.numbered.resize_with(counted.blocks.len(), Vec::new);
        let mut counted_fields = [None; 2];
        for (block, config) in counted.blocks.iter().enumerate() {
            let BlockConfig { kind, field, .. } = *config.borrow();
            self.terms.clear();
            match kind {
                BlockKind::Words | BlockKind::Ngrams { .. } | BlockKind::Concepts => {
                    let of = usize::from(field != Field::Document);
                    if counted_fields[of].replace(field) != Some(field) {
                        self.count_words(tokens, field, of);
                    }
                    let Self { expansions, words, ids, counts, terms: seen, .. } = self;
                    // All places first: a processor can wait for many of them at once, but for none behind a word's terms.
                    let words = &words[of];
                    ids.clear();
                    ids.extend(words.iter().map(|(word, _)| expansions.of(counted, terms, tokens.reading, (*word, block))));
                    make_room(counts, terms.len(block));
                    for (words, places) in words.chunks(AHEAD).zip(ids.chunks(AHEAD)) {
                        // The same for their terms: one in each cache line.
                        let lines = places.iter().flat_map(|ids| ids.clone().step_by(LINE));
                        std::hint::black_box(lines.fold(0, |all, at| all ^ expansions.ids[at]));
                        for ((_, count), ids) in words.iter().zip(places) {
                            let ids = &expansions.ids[ids.clone()];
                            if kind == BlockKind::Words {
                                // Different words are different terms.
                                ids.iter().for_each(|id| seen.push(*id, *count));
                            } else {
                                add_all(counts, seen, ids, *count);
                            }
                        }
                    }
                }
                BlockKind::Bigrams => self.count_bigrams(counted, terms, tokens, (block, field)),
                BlockKind::Relations => self.count_relations(counted, terms, tokens, (block, field)),
                BlockKind::Shape => self.count_shape(terms, tokens.shape, block),
            }
            if kind != BlockKind::Words {
                for (id, count) in self.terms.terms() {
                    *count = u32::from(std::mem::take(&mut self.counts[*id as usize]));
                }
            }
            found(block, self.terms.terms());
        }
    }

    /// Counts the words that a block of `field` reads into `words[to]`.
    fn count_words(&mut self, tokens: &Tokens<'_>, field: Field, to: usize) {
        let Self { word_counts, words, .. } = self;
        let words = &mut words[to];
        let Tokens { reading, parts, .. } = tokens;
        let word_count = reading.words().len();
        word_counts.resize(word_counts.len().max(word_count), 0);
        words.clear();
        let mut walk = Walk::new(parts);
        for part in parts.iter().filter(|part| field != Field::Title || part.is_title) {
            // As in `add_all`, there is nothing to guess.
            let tokens = &reading.tokens()[part.tokens.clone()];
            let mut end = words.len();
            words.resize(end + tokens.len(), (0, 0));
            for token in tokens {
                let reads = field.reads(walk.next(token, part));
                let count = &mut word_counts[token.word as usize];
                words[end].0 = token.word;
                end += usize::from(reads && *count == 0);
                *count += u32::from(reads);
            }
            words.truncate(end);
        }
        for (word, count) in words {
            *count = std::mem::take(&mut word_counts[*word as usize]);
        }
    }

    /// Counts the pairs of words that follow one another in a sentence, and are both read.
    fn count_bigrams<B: Borrow<BlockConfig>>(
        &mut self,
        counted: &Counted<'_, B>,
        terms: &mut impl Terms,
        tokens: &Tokens<'_>,
        (block, field): (usize, Field),
    ) {
        let Self { expansions, counts, terms: found, .. } = self;
        let mut walk = Walk::new(tokens.parts);
        for part in tokens.parts {
            let mut last = None;
            for token in &tokens.reading.tokens()[part.tokens.clone()] {
                let before = std::mem::take(&mut last).filter(|_| !token.begins_sentence);
                if !field.reads(walk.next(token, part)) {
                    continue;
                }
                let half = expansions.of(counted, terms, tokens.reading, (token.word, block));
                last = expansions.ids[half].first().map(|half| (token.word, *half));
                if let (Some(first), Some(second)) = (before, last) {
                    let id = terms.pair(block, tokens.reading.words(), [first, second]);
                    id.into_iter().for_each(|id| add_one(counts, found, (id, terms.len(block))));
                }
            }
        }
    }

    fn count_shape(&mut self, terms: &mut impl Terms, shape: &ShapeTerms, block: usize) {
        let Self { numbered, counts, terms: found, .. } = self;
        let ids = &mut numbered[block];
        ids.resize(shape::NUMBERS, UNSEEN);
        for term in shape.iter() {
            let id = match term {
                ShapeTerm::Open(name) => terms.id(block, name),
                ShapeTerm::Numbered(number) => known(&mut ids[usize::from(number)], || terms.id(block, term.name())),
            };
            id.into_iter().for_each(|id| add_one(counts, found, (id, terms.len(block))));
        }
    }

    fn count_relations<B: Borrow<BlockConfig>>(
        &mut self,
        counted: &Counted<'_, B>,
        terms: &mut impl Terms,
        tokens: &Tokens<'_>,
        (block, field): (usize, Field),
    ) {
        let Some(lexicon) = counted.lexicon else { return };
        let Self { expansions, numbered, relations, counts, terms: found, .. } = self;
        let ids = &mut numbered[block];
        ids.resize(lexicon.relations().len(), UNSEEN);
        relations.clear();
        let mut walk = Walk::new(tokens.parts);
        for part in tokens.parts {
            relations.end_sentence();
            for token in &tokens.reading.tokens()[part.tokens.clone()] {
                let standing = walk.next(token, part);
                if token.begins_sentence {
                    relations.end_sentence();
                }
                let concepts = expansions.of(counted, terms, tokens.reading, (token.word, counted.blocks.len()));
                let concepts = expansions.ids[concepts].iter().filter_map(|concept| u16::try_from(*concept).ok());
                relations.next(lexicon, concepts, |relation| {
                    if !field.reads(standing) {
                        return;
                    }
                    let id = known(&mut ids[relation], || terms.id(block, &lexicon.relations()[relation]));
                    id.into_iter().for_each(|id| add_one(counts, found, (id, terms.len(block))));
                });
            }
        }
    }
}

/// A walk over the tokens of a document, which tells how each stands.
struct Walk {
    before: usize,
    from: usize,
}

impl Walk {
    fn new(parts: &[Part]) -> Self {
        Self { before: 0, from: parts.iter().map(|part| part.tokens.len()).sum() }
    }

    /// How the next token stands, which is of `part`.
    fn next(&mut self, token: &Token, part: &Part) -> Standing {
        let Self { before, from } = *self;
        *self = Self { before: before + 1, from: from - 1 };
        Standing { quoted: token.quoted, named: token.named, is_title: part.is_title, before, from }
    }
}

/// The id of a term that is kept under a number, looked up where it was [`UNSEEN`].
fn known(id: &mut u32, look_up: impl FnOnce() -> Option<u32>) -> Option<u32> {
    if *id == UNSEEN {
        *id = look_up().unwrap_or(NONE);
    }
    (*id != NONE).then_some(*id)
}

/// Makes room for so many counts.
fn make_room(counts: &mut Vec<u16>, terms: usize) {
    if counts.len() < terms {
        counts.resize(terms, 0);
    }
}

/// Counts an occurrence of a term by itself, which is one of so many `terms`.
fn add_one(counts: &mut Vec<u16>, seen: &mut Met, (id, terms): (u32, usize)) {
    make_room(counts, terms);
    add_all(counts, seen, &[id], 1);
}

/// Adds `more` to the count of each of the `ids`, and those that are new to `seen`.
///
/// Whether a term is new can't be foreseen, and a processor that guesses wrong waits for the count to arrive from memory. So
/// there is nothing to guess: each id is written behind the last one seen, and counts as seen only where it is new.
fn add_all(counts: &mut [u16], seen: &mut Met, ids: &[u32], more: u32) {
    let more = u16::try_from(more).unwrap_or(u16::MAX);
    let room = seen.room(ids.len());
    let mut new = 0;
    for id in ids {
        let count = &mut counts[*id as usize];
        room[new].0 = *id;
        new += usize::from(*count == 0);
        *count = count.saturating_add(more);
    }
    seen.count += new;
}
