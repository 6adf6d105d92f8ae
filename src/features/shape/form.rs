//! What a passage looks like by itself.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::PROSE_WORDS;
use super::pattern::{
    CAPITALISED, CLASSES, DIGITS, FIRST, LAST, MARK, MARKS, SENTENCES, ShapeTerms, WORDS, WORDS_AND_LAST, range, share,
};
use crate::features::reading::Token;
use crate::page;

/// What is counted of a passage by itself.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) words: usize,
    sentences: usize,
    /// Words that begin with a capital letter.
    capitalised: usize,
    characters: usize,
    digits: usize,
    /// What the first and the last character is, as an index into [`CLASSES`].
    first: usize,
    pub(super) last: usize,
    pub(super) prose: bool,
    /// What stands in it: a bit for each of [`MARKS`].
    marks: u16,
    /// Its words in one number, for telling repetitions.
    pub(super) key: u64,
}

impl Form {
    /// Looks at a passage, of which these are the tokens and the text.
    pub(super) fn of(tokens: &[Token], text: &str) -> Self {
        let hasher = FixedState::default();
        let class_of = |c: Option<char>| c.map_or(CLASSES.len() - 1, class);
        let (mut characters, mut digits, mut sentences, mut marks) = (0, 0, 0, 0);
        // The two characters before, and whether a sentence ends if nothing but marks that close it stands before the next blank.
        let (mut first, mut second, mut ends) = (' ', ' ', false);
        for c in text.chars() {
            characters += 1;
            marks |= ASCII.get(c as usize).copied().unwrap_or_else(|| mark_of_any(c));
            if c.is_ascii_digit() {
                digits += 1;
                // Two digits around one of the marks that times and dates are written with.
                if first.is_ascii_digit() && matches!(second, ':' | '/' | 'h' | '-') {
                    marks |= DATE;
                }
            }
            if !is_closing(c) {
                sentences += usize::from(ends && c.is_whitespace());
                ends = matches!(c, '.' | '!' | '?' | '…');
            }
            (first, second) = (second, c);
        }
        sentences += usize::from(ends);
        if has_address(text, marks) {
            marks |= ADDRESS;
        }
        if marks & (UPPER_CASE | LOWER_CASE) == UPPER_CASE {
            marks |= CAPITALS;
        }
        let words = tokens.len();
        Self {
            words,
            sentences,
            capitalised: tokens.iter().filter(|token| token.capitalised).count(),
            characters,
            digits,
            first: class_of(text.chars().find(|c| !page::is_ignorable(*c))),
            last: class_of(text.chars().rev().find(|c| !page::is_ignorable(*c) && !c.is_whitespace() && !is_closing(*c))),
            prose: words >= PROSE_WORDS && sentences > 0,
            marks,
            key: tokens.iter().fold(0, |key, token| hasher.hash_one((key, token.word))),
        }
    }

    /// Adds what it looks like to `terms`.
    pub(super) fn terms(&self, terms: &mut ShapeTerms) {
        terms.push(WORDS, range(self.words));
        terms.push(SENTENCES, range(self.sentences));
        terms.push(FIRST, self.first);
        terms.push(LAST, self.last);
        terms.push_two(WORDS_AND_LAST, [range(self.words), self.last]);
        terms.push(CAPITALISED, share(self.capitalised, self.words));
        terms.push(DIGITS, share(self.digits, self.characters));
        (0..MARKS.len()).filter(|mark| self.marks & 1 << mark != 0).for_each(|mark| terms.push(MARK, mark));
    }
}

/// Bits of [`MARKS`], and of what these are told by.
const BAR: u16 = 1 << 0;
const AT: u16 = 1 << 1;
const BRACKETS: u16 = 1 << 2;
const ARROW: u16 = 1 << 3;
const COLON: u16 = 1 << 4;
const QUOTE: u16 = 1 << 5;
const ADDRESS: u16 = 1 << 6;
const DATE: u16 = 1 << 7;
const CAPITALS: u16 = 1 << 8;
const UPPER_CASE: u16 = 1 << 9;
const LOWER_CASE: u16 = 1 << 10;
const FULL_STOP: u16 = 1 << 11;

/// The bits of ASCII, which most characters are.
const ASCII: [u16; 128] = {
    let mut bits = [0; 128];
    let mut c = 0;
    while c < bits.len() {
        #[expect(clippy::cast_possible_truncation, reason = "below 128")]
        let of = mark(c as u8 as char);
        bits[c] = of;
        c += 1;
    }
    bits
};

/// What a character is a mark of; letters of other alphabets than ASCII's left out.
const fn mark(c: char) -> u16 {
    match c {
        'a'..='z' => LOWER_CASE,
        'A'..='Z' => UPPER_CASE,
        '|' | '•' | '›' | '>' | '»' | '·' | '/' => BAR,
        '@' | '#' | '©' => AT,
        '[' | ']' | '{' | '}' => BRACKETS,
        '→' | '←' | '↑' | '↓' | '▶' | '►' | '✔' | '★' => ARROW,
        ':' => COLON,
        '«' | '"' | '“' => QUOTE,
        '.' => FULL_STOP,
        _ => 0,
    }
}

/// What any character is a mark of.
fn mark_of_any(c: char) -> u16 {
    match mark(c) {
        0 if c.is_lowercase() => LOWER_CASE,
        0 if c.is_alphabetic() => UPPER_CASE,
        mark => mark,
    }
}

/// Whether a link or the name of a site stands in `text`, which has such marks.
fn has_address(text: &str, marks: u16) -> bool {
    (marks & FULL_STOP != 0 && ["www.", ".com", ".net", ".org"].iter().any(|mark| text.contains(mark)))
        || (marks & LOWER_CASE != 0 && text.contains("http"))
}

/// Marks that may close a sentence after its full stop.
fn is_closing(c: char) -> bool {
    matches!(c, '"' | '»' | '”' | '’' | '\'' | ')' | ']')
}

/// What a character is, as an index into [`CLASSES`].
fn class(c: char) -> usize {
    match c {
        '.' => 0,
        '!' | '?' => 1,
        '…' => 2,
        ':' | ';' | ',' => 3,
        '-' | '–' | '—' | '•' | '*' | '►' | '>' | '→' | '·' | '|' => 4,
        '«' | '"' | '“' | '\'' | '‘' => 5,
        '(' | '[' | '{' => 6,
        c if c.is_uppercase() => 7,
        c if c.is_alphabetic() => 8,
        c if c.is_numeric() => 9,
        _ => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_inside_quotation_marks_ends_a_sentence_and_a_decimal_does_not() {
        assert_eq!(Form::of(&[], "Il a dit « non. » Puis 1.000 hommes sont partis (hier).").sentences, 2);
        assert_eq!(CLASSES[Form::of(&[], "« Nous restons ! »").last], "call");
    }

    #[test]
    fn marks_are_seen_in_any_alphabet() {
        let marks = |text: &str| {
            let form = Form::of(&[], text);
            let held = |mark: &usize| form.marks & 1 << mark != 0;
            (0..MARKS.len()).filter(held).map(|mark| MARKS[mark]).collect::<Vec<_>>()
        };
        assert_eq!(marks("Le 3-4, 12h30"), ["has=date"]);
        assert_eq!(marks("ÉTÉ › ZÜRICH: 3 h"), ["has=bar", "has=colon"]);
        assert_eq!(marks("ÉTÉ [ZÜRICH] →"), ["has=brackets", "has=arrow", "capitals"]);
        assert_eq!(marks("« WWW.SITE.NET » @"), ["has=bar", "has=at", "has=quote", "capitals"]);
        assert_eq!(marks("www.site.net"), ["has=address"]);
        assert_eq!(marks("Ελλάδα"), [""; 0]);
        assert_eq!(marks("中文"), ["capitals"]);
    }
}
