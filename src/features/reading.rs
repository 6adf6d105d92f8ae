//! Texts as numbered words: read once, used by every head.
//!
//! What a word expands to (its n-grams, concepts, features) depends on the word alone, so words are numbered as they are met,
//! and whoever needs an expansion works it out once for each number ([`super::tally`]). When too many words are known, those
//! that were met once are forgotten, the others get new numbers, and the [generation](Reading::generation) changes.

use std::ops::Range;

use super::{Document, Vocabulary, vocabulary};
use crate::page::Passage;
use crate::terms::Reader;

/// How many words can be known before some are forgotten, which happens before the next text: what the common words of a language
/// expand to is kept, and texts of ever new words can't fill the memory.
#[derive(Debug, Clone, Copy)]
struct Room {
    words: usize,
    bytes: usize,
}

/// For serving, where memory is worth more than a few microseconds.
const SMALL: Room = Room { words: 1 << 15, bytes: 1 << 20 };

/// For training and for streams of texts.
const LARGE: Room = Room { words: 1 << 17, bytes: 1 << 22 };

/// Places for the words met last. Few words make up most of a text, and are found here without the whole table.
const RECENT: usize = 1 << 13;

/// Bytes of the longest word that has such a place: one in six hundred is longer.
const WHOLE: usize = 15;

/// Characters that end a sentence. Abbreviations end one too often, which costs a relation now and then.
const SENTENCE_END: [char; 4] = ['.', '!', '?', '…'];

/// Characters of a stem.
const STEM: usize = 6;

/// Characters of the shortest word that has a stem.
const STEMMED: usize = 4;

/// A word where it stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The word's number.
    pub word: u32,
    /// Whether a sentence ended between the word before it and this one.
    pub begins_sentence: bool,
    /// Whether it stands within quotation marks.
    pub quoted: bool,
    /// Whether it begins with a capital letter.
    pub capitalised: bool,
    /// Whether it is a name or a figure, by its looks: it begins with a capital letter, but no sentence, or with a digit.
    pub named: bool,
}

/// Some tokens of a reading that are read as one stretch: a title, or a passage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Their indices.
    pub tokens: Range<usize>,
    /// Whether title blocks read them.
    pub is_title: bool,
}

/// Texts read as tokens, and the words known so far.
#[derive(Debug)]
pub struct Reading {
    room: Room,
    reader: Reader,
    words: Vocabulary,
    stems: Vocabulary,
    /// For each word its stem.
    stem_of: Vec<Option<u32>>,
    /// Words met last, whole, with their numbers; each in a place that it tells itself.
    recent: Vec<(u128, u32)>,
    /// For each word whether it was met again since words were last forgotten.
    met_again: Vec<bool>,
    tokens: Vec<Token>,
    generation: u64,
    /// For each word of the generation before its number in this one.
    renumbered: Vec<Option<u32>>,
}

impl Default for Reading {
    /// A reading that takes some ten megabytes at most, with what words expand to, unless a single text takes more.
    fn default() -> Self {
        Self {
            room: SMALL,
            reader: Reader::default(),
            words: Vocabulary::default(),
            stems: Vocabulary::default(),
            stem_of: Vec::new(),
            recent: Vec::new(),
            met_again: Vec::new(),
            tokens: Vec::new(),
            generation: 0,
            renumbered: Vec::new(),
        }
    }
}

impl Reading {
    /// A reading that knows four times as many words before it forgets some, in tens of megabytes.
    #[must_use]
    pub fn large() -> Self {
        Self { room: LARGE, ..Self::default() }
    }

    /// Forgets what was read; what is known of words stays, unless there are too many.
    pub fn clear(&mut self) {
        self.tokens.clear();
        if self.words.len() > self.room.words || self.words.bytes() > self.room.bytes {
            self.forget();
        }
    }

    /// Forgets the words that were met once; all, where the others would fill more than three quarters of the room.
    fn forget(&mut self) {
        let Self { room, words, stems, stem_of, recent, met_again, renumbered, generation, .. } = self;
        recent.clear();
        let again = words.iter().zip(&*met_again).filter(|(_, again)| **again);
        let (many, long) = again.fold((0, 0), |(many, long), (word, _)| (many + 1, long + word.len()));
        let keeps = many <= room.words / 4 * 3 && long <= room.bytes / 4 * 3;
        let mut numbers = 0..;
        renumbered.clear();
        renumbered.extend(met_again.iter().map(|again| if keeps && *again { numbers.next() } else { None }));
        words.retain(|word| renumbered[word].is_some());
        stems.clear();
        stem_of.clear();
        stem_of.extend(words.iter().map(|word| stem(word).map(|stem| stems.intern(stem))));
        met_again.clear();
        met_again.resize(words.len(), false);
        *generation += 1;
    }

    /// Reads `text`; returns the indices of its tokens, which are valid until [`clear`](Self::clear).
    pub fn read(&mut self, text: &str) -> Range<usize> {
        let Self { reader, words, tokens, stems, stem_of, recent, met_again, .. } = self;
        recent.resize(RECENT, (0, 0));
        let first = tokens.len();
        let (mut end, mut quoted) = (0, false);
        reader.words(text, |word, source| {
            let mut begins_sentence = false;
            // Between most words stands one blank or apostrophe.
            if source.start - end > 1 || !matches!(text.as_bytes().get(end), Some(b' ' | b'\'')) {
                (begins_sentence, quoted) = between(&text[end..source.start], quoted);
            }
            let written = &text[source.clone()];
            let capitalised = is_capitalised(written);
            let named = is_named(written, capitalised, begins_sentence || end == 0);
            end = source.end;
            let word = match whole(word) {
                Some(whole) => {
                    let place = &mut recent[place(whole)];
                    if place.0 != whole {
                        *place = (whole, words.intern_utf8(word));
                    }
                    place.1
                }
                None => words.intern_utf8(word),
            };
            if stem_of.len() < words.len() {
                stem_of.push(stem(words.term(word)).map(|stem| stems.intern(stem)));
                met_again.push(false);
            } else {
                met_again[word as usize] = true;
            }
            tokens.push(Token { word, begins_sentence, quoted, capitalised, named });
        });
        first..tokens.len()
    }

    /// Reads the `passages` of the page `text`; returns the indices of the tokens of each.
    pub fn passages(&mut self, text: &str, passages: &[Passage]) -> Vec<Range<usize>> {
        passages.iter().map(|passage| self.read(passage.text(text))).collect()
    }

    /// Reads a document; returns its parts.
    pub fn document(&mut self, document: &Document<'_>) -> Vec<Part> {
        let segments = document.segments.iter();
        segments.map(|segment| Part { tokens: self.read(segment.text), is_title: segment.is_title }).collect()
    }

    /// How many words can be known before some are forgotten.
    pub(super) fn room(&self) -> usize {
        self.room.words
    }

    /// What was read since [`clear`](Self::clear).
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The words known, by their numbers.
    #[must_use]
    pub fn words(&self) -> &Vocabulary {
        &self.words
    }

    /// The number of a word's stem, its first six characters; words of fewer than four have none.
    ///
    /// # Panics
    ///
    /// When there is no such word.
    #[must_use]
    pub fn stem(&self, word: u32) -> Option<u32> {
        self.stem_of[word as usize]
    }

    /// For each word of the generation before its number in this one, if it was not forgotten.
    #[must_use]
    pub fn renumbered(&self) -> &[Option<u32>] {
        &self.renumbered
    }

    /// Changes when the numbers of words do.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// A word of up to [`WHOLE`] bytes as a number, with its length; never zero, since no word is empty.
fn whole(word: &[u8]) -> Option<u128> {
    let length = word.len();
    match length {
        // These are their own keys, with their length.
        0..=7 => Some(vocabulary::key(word).into()),
        8..=WHOLE => {
            // The last bytes, shifted to their place, overlap the first ones where these are the same.
            let first = u64::from_le_bytes(*word.first_chunk()?);
            let last = u64::from_le_bytes(*word.last_chunk()?);
            Some(u128::from(first) | u128::from(last) << (8 * (length - 8)) | (length as u128) << (8 * WHOLE))
        }
        _ => None,
    }
}

/// The place of a word among [`RECENT`], from both halves, each made different from zero.
#[expect(clippy::cast_possible_truncation, reason = "halves are taken, and of the fold only the lowest bits are wanted")]
fn place(whole: u128) -> usize {
    let (low, high) = (whole as u64, (whole >> 64) as u64);
    vocabulary::fold(low ^ 0x9e37_79b9_7f4a_7c15, high ^ 0xc2b2_ae3d_27d4_eb4f) as usize & (RECENT - 1)
}

/// Whether a word as it stands in a text looks like a name or a figure.
pub(super) fn is_named(word: &str, capitalised: bool, begins_sentence: bool) -> bool {
    capitalised && !begins_sentence || word.as_bytes().first().is_some_and(u8::is_ascii_digit)
}

/// Whether a word as it stands in a text begins with a capital letter.
pub(super) fn is_capitalised(word: &str) -> bool {
    match word.as_bytes().first() {
        Some(first) if first.is_ascii() => first.is_ascii_uppercase(),
        _ => word.starts_with(char::is_uppercase),
    }
}

fn stem(word: &str) -> Option<&str> {
    word.chars().nth(STEMMED - 1)?;
    Some(word.char_indices().nth(STEM).map_or(word, |(end, _)| &word[..end]))
}

/// Whether a sentence ends in what stands between two words, and whether the second is quoted where the first was `quoted`.
#[must_use]
pub fn between(text: &str, quoted: bool) -> (bool, bool) {
    (text.contains(SENTENCE_END), text.chars().fold(quoted, within_quotes))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_sentences_quotations_and_capitals() {
        let mut reading = Reading::default();
        let range = reading.read("Il a dit : « Non. Été »… Il « part");
        let tokens: Vec<String> = reading.tokens()[range]
            .iter()
            .map(|token| {
                let mark = |holds: bool, mark: &'static str| if holds { mark } else { "" };
                let (begins, quoted, capital) =
                    (mark(token.begins_sentence, "."), mark(token.quoted, "\""), mark(token.capitalised, "^"));
                format!("{begins}{quoted}{capital}{}", reading.words().term(token.word))
            })
            .collect();
        assert_eq!(tokens, ["^il", "a", "dit", "\"^non", ".\"^été", ".^il", "\"part"]);
        // The same word has the same number, in whatever case; a quotation ends with its text.
        let range = reading.read("IL");
        assert_eq!(
            reading.tokens()[range],
            [Token { word: 0, begins_sentence: false, quoted: false, capitalised: true, named: false }]
        );
    }

    #[test]
    fn words_are_forgotten_when_there_are_too_many() {
        let mut reading = Reading::default();
        let text: String = (0..=SMALL.words).map(|n| format!("mot{n} ")).collect();
        assert_eq!(reading.read(&text).len(), SMALL.words + 1);
        assert_eq!(reading.read("mot7 mot5 mot7").len(), 3);
        assert_eq!((reading.generation(), reading.words().len()), (0, SMALL.words + 1));
        reading.clear();
        // The two that were met again stay, in the order of their numbers.
        assert_eq!((reading.generation(), reading.words().len(), reading.tokens().len()), (1, 2, 0));
        assert_eq!(reading.words().iter().collect::<Vec<_>>(), ["mot5", "mot7"]);
        assert_eq!(reading.renumbered()[4..8], [None, Some(0), None, Some(1)]);
        // Where all were met again, all are forgotten.
        reading.read(&text);
        reading.read(&text);
        reading.clear();
        assert_eq!((reading.generation(), reading.words().len()), (2, 0));
    }
}
