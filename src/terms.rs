//! The only tokenizer: reads words out of a text, normalised, with the place of every character in the original.
//!
//! A word is a run of letters, digits, underscores and combining marks (`[\w\u0300-\u036f]+`). It is brought to NFC and
//! then to lower case. Everything else, punctuation and quotation marks included, only separates words: « and ", ’ and ',
//! a no-break space before a colon or none, leave no trace in the terms, so that a model cannot learn a site's
//! typography. Characters without width ([`page::is_ignorable`]) are passed over, also within a word.
//!
//! From a word come the terms: the word itself ([`Word::text`]) and its character n-grams, taken with one space on
//! either side ([`Word::ngrams`]; scikit-learn's `char_wb` on text whose punctuation was replaced by spaces).
//!
//! There are two ways to read. [`Reader::read`] tells of each character where it came from, which explanations need.
//! [`Reader::words`] gives the same words (a property test holds them together) several times as fast: words of ASCII and
//! Latin-1 letters, nearly all of a French text, are lowered byte by byte.

use std::ops::Range;

use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::page;

/// Buffers for reading words; reused from text to text, so that reading allocates nothing in the steady state.
#[derive(Debug, Default)]
pub struct Reader {
    /// The word with one space before and after.
    padded: String,
    /// For each character of `padded`, where it begins there and where it came from.
    characters: Vec<Character>,
    /// The word as received, with the places of its characters.
    raw: Vec<(char, Range<usize>)>,
}

/// Bytes of the longest word that is lowered byte by byte.
const SIMPLE: usize = 64;

/// The first byte of the letters À to ÿ in UTF-8; all are in NFC.
const LATIN_LETTERS: u8 = 0xc3;

/// The second byte of ß, above which they are in lower case; capitals lie 32 below.
const SHARP_S: u8 = 0x9f;

/// The second byte of ×, which is no letter.
const TIMES: u8 = 0x97;

/// The second byte of ÷, which is no letter.
const DIVIDED: u8 = 0xb7;

/// A character of a normalised word.
#[derive(Debug, Clone)]
struct Character {
    /// First byte in the padded word.
    at: usize,
    /// Bytes in the original text; empty for the spaces around the word.
    source: Range<usize>,
}

/// A word as it was read, valid until the next one.
#[derive(Debug, Clone, Copy)]
pub struct Word<'a> {
    padded: &'a str,
    characters: &'a [Character],
}

/// Whether `c` belongs to a word.
fn is_word(c: char) -> bool {
    match c {
        // What a French text has beside letters; found here, it need not be looked up.
        '\u{a0}' | '«' | '»' | '\u{2000}'..='\u{206f}' => false,
        '_' | '\u{300}'..='\u{36f}' => true,
        _ => c.is_alphanumeric(),
    }
}

impl Reader {
    /// Calls `found` for each word of `text`, in order.
    pub fn read(&mut self, text: &str, mut found: impl FnMut(Word<'_>)) {
        self.raw.clear();
        for (at, c) in text.char_indices() {
            if is_word(c) {
                self.raw.push((c, at..at + c.len_utf8()));
            } else if !page::is_ignorable(c) && !self.raw.is_empty() {
                self.emit(&mut found);
            }
        }
        if !self.raw.is_empty() {
            self.emit(&mut found);
        }
    }

    /// The word of which `normalised` is the text, as this reader gave it; its places lie in `normalised` itself.
    pub fn word(&mut self, normalised: &str) -> Word<'_> {
        self.padded.clear();
        self.characters.clear();
        self.push(' ', 0..0);
        normalised.char_indices().for_each(|(at, c)| self.push(c, at..at + c.len_utf8()));
        self.push(' ', normalised.len()..normalised.len());
        Word { padded: &self.padded, characters: &self.characters }
    }

    /// Calls `found` for each word of `text`, in order, with its normalised UTF-8 and its bytes in `text`: the words that
    /// [`read`](Self::read) finds, without the places of their characters.
    pub fn words(&mut self, text: &str, mut found: impl FnMut(&[u8], Range<usize>)) {
        let bytes = text.as_bytes();
        let mut simple = [0_u8; SIMPLE];
        let mut at = 0;
        while at < bytes.len() {
            // The word so far: its length, and its bytes in the text. Behind them, `at` passes over what ends it.
            let (mut length, begin, mut end) = (0, at, at);
            let is_simple = loop {
                let Some(byte) = bytes.get(at).copied() else { break true };
                let second = bytes.get(at + 1).copied().unwrap_or(0);
                if byte.is_ascii_alphanumeric() || byte == b'_' {
                    if length >= SIMPLE {
                        break false;
                    }
                    simple[length] = byte.to_ascii_lowercase();
                    length += 1;
                    at += 1;
                    end = at;
                } else if byte.is_ascii() {
                    at += 1;
                    break true;
                } else if byte == LATIN_LETTERS && second != TIMES && second != DIVIDED {
                    if length + 1 >= SIMPLE {
                        break false;
                    }
                    simple[length] = byte;
                    simple[length + 1] = if second < SHARP_S { second + 0x20 } else { second };
                    length += 2;
                    at += 2;
                    end = at;
                } else {
                    match text[at..].chars().next() {
                        Some(c) if is_word(c) => break false,
                        Some(c) if page::is_ignorable(c) && length > 0 => at += c.len_utf8(),
                        other => {
                            at += other.map_or(1, char::len_utf8);
                            break true;
                        }
                    }
                }
            };
            if !is_simple {
                at = self.raw_word(text, begin);
                let first = self.raw.first().map_or(begin, |(_, source)| source.start);
                let end = self.raw.last().map_or(at, |(_, source)| source.end);
                self.emit(&mut |word| found(word.text().as_bytes(), first..end));
            } else if length > 0 {
                found(&simple[..length], begin..end);
            }
        }
    }

    /// Takes the characters of the word that begins at `begin` into `raw`; returns where it ends.
    fn raw_word(&mut self, text: &str, begin: usize) -> usize {
        self.raw.clear();
        for (at, c) in text[begin..].char_indices() {
            if is_word(c) {
                self.raw.push((c, begin + at..begin + at + c.len_utf8()));
            } else if !page::is_ignorable(c) {
                return begin + at;
            }
        }
        text.len()
    }

    /// Normalises the word in `raw`, hands it over and clears it.
    fn emit(&mut self, found: &mut impl FnMut(Word<'_>)) {
        self.padded.clear();
        self.characters.clear();
        let first = self.raw.first().map_or(0, |(_, source)| source.start);
        self.push(' ', first..first);
        let raw = std::mem::take(&mut self.raw);
        if is_nfc_quick(raw.iter().map(|(c, _)| *c)) == IsNormalized::Yes {
            for (c, source) in &raw {
                self.push_lower(*c, source);
            }
        } else {
            for cluster in raw.chunk_by(|_, (c, _)| !is_boundary(*c)) {
                let source = cluster[0].1.start..cluster[cluster.len() - 1].1.end;
                for c in cluster.iter().map(|(c, _)| *c).nfc() {
                    self.push_lower(c, &source);
                }
            }
        }
        self.raw = raw;
        let last = self.raw.last().map_or(0, |(_, source)| source.end);
        self.push(' ', last..last);
        self.raw.clear();
        found(Word { padded: &self.padded, characters: &self.characters });
    }

    fn push_lower(&mut self, c: char, source: &Range<usize>) {
        if c.is_ascii() {
            self.push(c.to_ascii_lowercase(), source.clone());
        } else {
            for lower in c.to_lowercase() {
                self.push(lower, source.clone());
            }
        }
    }

    fn push(&mut self, c: char, source: Range<usize>) {
        self.characters.push(Character { at: self.padded.len(), source });
        self.padded.push(c);
    }
}

/// Whether NFC never joins `c` to what stands before it (Unicode Standard Annex 15, section 9): a starter that the
/// quick check calls normalised.
fn is_boundary(c: char) -> bool {
    canonical_combining_class(c) == 0 && is_nfc_quick(std::iter::once(c)) == IsNormalized::Yes
}

impl<'a> Word<'a> {
    /// The word, in NFC and lower case.
    #[must_use]
    pub fn text(self) -> &'a str {
        &self.padded[1..self.padded.len() - 1]
    }

    /// Characters of the padded word: those of the word, and two.
    #[must_use]
    pub fn length(self) -> usize {
        self.characters.len()
    }

    /// The first `length` characters of the word.
    ///
    /// # Panics
    ///
    /// When the word has fewer: [`length`](Self::length) less two.
    #[must_use]
    pub fn beginning(self, length: usize) -> &'a str {
        self.slice(1..1 + length)
    }

    /// The word's bytes in the text that it was read from.
    #[must_use]
    pub fn source(self) -> Range<usize> {
        self.source_of(0..self.characters.len())
    }

    /// The n-grams of `sizes` characters of the word with one space on either side, shortest first, each with the
    /// indices of its characters (for [`source_of`](Self::source_of)). As in scikit-learn, a padded word that is not
    /// longer than the largest size comes whole once, and nothing comes of a size beyond it.
    pub fn ngrams(self, sizes: Range<usize>) -> impl Iterator<Item = (&'a str, Range<usize>)> {
        let length = self.characters.len();
        sizes
            .take_while(move |size| *size <= length)
            .flat_map(move |size| (0..=length - size).map(move |first| (self.slice(first..first + size), first..first + size)))
    }

    /// The n-grams that [`ngrams`](Self::ngrams) gives, in another order: those that begin with the same character one
    /// after the other, shortest first, as long as `found` wants a longer one.
    pub fn for_each_beginning(self, sizes: Range<usize>, mut found: impl FnMut(&'a str) -> bool) {
        let length = self.characters.len();
        for first in 0..length {
            for size in sizes.clone().take_while(|size| first + size <= length) {
                if !found(self.slice(first..first + size)) {
                    break;
                }
            }
        }
    }

    /// The bytes in the original text of the characters `of` the padded word.
    #[must_use]
    pub fn source_of(self, of: Range<usize>) -> Range<usize> {
        self.characters[of.start].source.start..self.characters[of.end - 1].source.end
    }

    fn slice(self, of: Range<usize>) -> &'a str {
        let end = self.characters.get(of.end).map_or(self.padded.len(), |character| character.at);
        &self.padded[self.characters[of.start].at..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        Reader::default().read(text, |word| words.push(word.text().to_owned()));
        words
    }

    fn ngrams(text: &str, sizes: Range<usize>) -> Vec<(String, String)> {
        let mut ngrams = Vec::new();
        Reader::default().read(text, |word| {
            for (ngram, of) in word.ngrams(sizes.clone()) {
                ngrams.push((ngram.to_owned(), text[word.source_of(of)].to_owned()));
            }
        });
        ngrams
    }

    #[test]
    fn punctuation_and_typography_leave_no_trace() {
        let expected = ["l", "armée", "a", "dit", "non", "2", "500", "hommes", "x_y"];
        assert_eq!(words("L’armée a dit : « Non ! » 2 500 hommes, x_y"), expected);
        assert_eq!(words("L'armée a dit: \"Non!\" – 2\u{202f}500 hommes… x_y"), expected);
    }

    #[test]
    fn composes_then_lowers_and_passes_over_what_has_no_width() {
        assert_eq!(words("E\u{301}TAT soli\u{ad}darite\u{301} a\u{200b}b"), ["état", "solidarité", "ab"]);
        // Yoruba: dot below and acute; the acute has no composed form here and stays apart.
        assert_eq!(words("Ẹ\u{301}KỌ\u{301}"), ["ẹ\u{301}kọ\u{301}"]);
    }

    #[test]
    fn ngrams_of_a_word_by_hand() {
        let expected = [" é", "ét", "té", "é ", " ét", "été", "té "].map(String::from);
        let found = ngrams("Été", 2..4);
        assert_eq!(found.iter().map(|(ngram, _)| ngram.clone()).collect::<Vec<_>>(), expected);
        assert_eq!(
            found.iter().map(|(_, source)| source.as_str()).collect::<Vec<_>>(),
            ["É", "Ét", "té", "é", "Ét", "Été", "té"]
        );
    }

    #[test]
    fn a_short_word_comes_whole_once_and_in_no_larger_size() {
        let found: Vec<String> = ngrams("à", 2..6).into_iter().map(|(ngram, _)| ngram).collect();
        assert_eq!(found, [" à", "à ", " à "]);
    }

    #[test]
    fn places_point_into_the_original_across_composition() {
        let text = "Re\u{301}union";
        assert_eq!(ngrams(text, 2..3)[1], ("ré".to_owned(), "Re\u{301}".to_owned()));
        let mut sources = Vec::new();
        Reader::default().read("« l’a\u{301}me »", |word| sources.push(word.source()));
        // « is two bytes, ’ three, the accent two.
        assert_eq!(sources, [3..4, 7..12]);
    }

    proptest! {
        #[test]
        fn any_text_gives_words_in_order_on_character_boundaries(text in r"(?s)([a-zé\u{301}\u{200d}İ가각ᄀ ᅡᆨ’.]|.){0,60}") {
            let mut end = 0;
            Reader::default().read(&text, |word| {
                let source = word.source();
                assert!(end <= source.start && source.start < source.end && text.is_char_boundary(source.start) && text.is_char_boundary(source.end));
                end = source.end;
                for (_, of) in word.ngrams(2..6) {
                    let source = word.source_of(of);
                    assert!(text.get(source).is_some());
                }
            });
        }

        #[test]
        fn both_ways_of_reading_give_the_same_words(
            text in r"(?s)([a-zA-Z_éÀ-ÿ×÷ßœŒ\u{301}\u{200d}\u{ad}İ가ᄀ ᅡ’«»\u{a0}.-]|.){0,80}", long in "[a-cé]{60,70}( [b-e]{62,66})?",
        ) {
            for text in [&text, &long] {
                let (mut slow, mut fast) = (Vec::new(), Vec::new());
                Reader::default().read(text, |word| slow.push((word.text().as_bytes().to_vec(), word.source())));
                Reader::default().words(text, |word, source| fast.push((word.to_vec(), source)));
                prop_assert_eq!(slow, fast);
            }
        }

        #[test]
        fn a_word_equals_its_normal_form_lowered(text in r"([a-zéÀ-ÿ\u{301}\u{323}가각])([a-zéÀ-ÿ\u{301}\u{323}가각]){0,8}") {
            let whole: String = text.nfc().flat_map(char::to_lowercase).collect();
            if whole.chars().all(is_word) {
                prop_assert_eq!(words(&text).concat(), whole);
            }
        }
    }
}
