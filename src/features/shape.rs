//! What a passage looks like and where it stands, as terms of the form `key=value`.
//!
//! A headline, a menu or a notice gives itself away less by its words than by its shape: it is short, ends without a
//! full stop, stands among its like, far from running prose, and shares no word with the article. Quantities are cut
//! into ranges, so that each becomes a term like any other and is weighed, stored and explained like one.
//!
//! Prose is a passage of at least [`PROSE_WORDS`] words in which a sentence ends; an article is mostly that, and the
//! place of a passage is told from the nearest prose. Words are compared by their first six characters
//! ([`Reading::stem`]), so that *coopération* in a title meets *coopérer* in the text.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::fast::FixedState;

use super::reading::{Reading, Token};
use crate::page::{self, Passage};

/// Words of the shortest passage that counts as prose.
pub const PROSE_WORDS: usize = 20;

/// Characters that are kept of a passage's first words.
const BEGINNING: usize = 16;

/// A page that was read: its passages, with the tokens of each.
#[derive(Debug)]
pub struct Page<'a> {
    /// Its text.
    pub text: &'a str,
    /// Its passages, in order.
    pub passages: &'a [Passage],
    /// What its passages were read into.
    pub reading: &'a Reading,
    /// For each passage its tokens there.
    pub tokens: &'a [Range<usize>],
}

impl Page<'_> {
    /// The tokens of the passage numbered `at`.
    fn tokens(&self, at: usize) -> &[Token] {
        &self.reading.tokens()[self.tokens[at].clone()]
    }

    /// The stems of its longer words, in order.
    fn stems(&self, at: usize) -> impl Iterator<Item = u32> {
        self.tokens(at).iter().filter_map(|token| self.reading.stem(token.word))
    }
}

/// Terms of a passage's shape, one after the other; reused from passage to passage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShapeTerms {
    text: String,
    ends: Vec<usize>,
}

impl ShapeTerms {
    /// Forgets all terms and keeps their room.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// Adds the term that is made of `parts`.
    fn push<'p>(&mut self, parts: impl IntoIterator<Item = &'p str>) {
        self.text.extend(parts);
        self.ends.push(self.text.len());
    }

    /// The terms.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| &self.text[begin..*end])
    }
}

/// What is counted of a passage by itself.
#[derive(Debug)]
struct Form {
    words: usize,
    sentences: usize,
    /// Words that begin with a capital letter.
    capitalised: usize,
    digits: usize,
    first: &'static str,
    last: &'static str,
    prose: bool,
    /// Its words in one number, for telling repetitions.
    key: u64,
}

/// The shapes of all passages of a page.
#[derive(Debug)]
pub struct Shapes<'a> {
    page: &'a Page<'a>,
    forms: Vec<Form>,
    /// The passages that are prose.
    prose: Vec<usize>,
    /// In how many of them a stem stands, and the last of these.
    prose_stems: HashMap<u32, (usize, usize), FixedState>,
    /// How often the same words make a passage.
    keys: HashMap<u64, usize, FixedState>,
    /// For each passage how many share its line.
    beside: Vec<usize>,
}

impl<'a> Shapes<'a> {
    /// Looks at the passages of `page`.
    #[must_use]
    pub fn new(page: &'a Page<'a>) -> Self {
        let Page { text, passages, .. } = *page;
        let forms: Vec<Form> =
            passages.iter().enumerate().map(|(at, passage)| form(page.tokens(at), passage.text(text))).collect();
        let prose: Vec<usize> = (0..forms.len()).filter(|at| forms[*at].prose).collect();
        let mut prose_stems: HashMap<u32, (usize, usize), FixedState> = HashMap::with_hasher(FixedState::default());
        for at in &prose {
            for stem in page.stems(*at) {
                let (count, last) = prose_stems.entry(stem).or_insert((0, usize::MAX));
                if *last != *at {
                    *last = *at;
                    *count += 1;
                }
            }
        }
        let mut keys: HashMap<u64, usize, FixedState> = HashMap::with_hasher(FixedState::default());
        for form in &forms {
            *keys.entry(form.key).or_default() += 1;
        }
        let lines = passages.chunk_by(|left, right| left.line == right.line);
        let beside = lines.flat_map(|line| std::iter::repeat_n(line.len(), line.len())).collect();
        Self { page, forms, prose, prose_stems, keys, beside }
    }

    /// Puts the terms of the passage numbered `at` into `terms`.
    ///
    /// # Panics
    ///
    /// When there is no such passage.
    pub fn terms(&self, at: usize, terms: &mut ShapeTerms) {
        let form = &self.forms[at];
        terms.clear();
        own(form, self.page.passages[at].text(self.page.text), terms);
        self.begins(at, terms);
        self.place(at, terms);
        let itself = usize::from(form.prose);
        let (mut shared, mut stems) = (0, 0);
        for stem in self.page.stems(at) {
            stems += 1;
            shared += usize::from(self.prose_stems.get(&stem).is_some_and(|(count, _)| *count > itself));
        }
        let share = |shared| if self.prose.len() > itself { ratio(shared, stems) } else { "none" };
        terms.push(["shared=", share(shared)]);
        if !form.prose {
            terms.push(["short-shared=", share(shared)]);
            terms.push(["short-shared-words=", range(shared)]);
        }
        if form.words > 0 && self.keys.get(&form.key).is_some_and(|count| *count > 1) {
            terms.push(["repeated"]);
        }
    }

    /// Terms of its first words: "Par", "Lire aussi", "Publié dans". Noise between paragraphs is told by how it begins.
    fn begins(&self, at: usize, terms: &mut ShapeTerms) {
        let words = self.page.reading.words();
        let begin = |token: &Token| {
            let word = words.term(token.word);
            word.char_indices().nth(BEGINNING).map_or(word, |(end, _)| &word[..end])
        };
        if let [first, rest @ ..] = self.page.tokens(at) {
            terms.push(["begins=", begin(first)]);
            if let [second, ..] = rest {
                terms.push(["begins=", begin(first), " ", begin(second)]);
            }
        }
    }

    /// Terms of where the passage stands.
    fn place(&self, at: usize, terms: &mut ShapeTerms) {
        let Self { page: Page { passages, .. }, forms, prose, .. } = self;
        let before = prose.partition_point(|other| *other < at);
        let after = prose.len() - prose.partition_point(|other| *other <= at);
        let nearest_before = prose[..before].last().map(|other| at - other);
        let nearest_after = prose.get(prose.len() - after).map(|other| other - at);
        let is_prose = if forms[at].prose { "prose" } else { "short" };
        let side = match (before > 0, after > 0) {
            (true, true) => "between",
            (true, false) => "after",
            (false, true) => "before",
            (false, false) => "alone",
        };
        let distance = |nearest: Option<usize>| nearest.map_or("none", range);
        terms.push(["beside=", range(self.beside[at] - 1)]);
        terms.push([is_prose, " ", side]);
        terms.push([is_prose, " before=", distance(nearest_before), " after=", distance(nearest_after)]);
        terms.push(["to-prose=", distance(nearest_after)]);
        terms.push(["from-prose=", distance(nearest_before)]);
        terms.push(["prose-before=", range(before)]);
        terms.push(["prose-after=", range(after)]);
        terms.push(["from-start=", range(at)]);
        terms.push(["from-end=", range(passages.len() - 1 - at)]);
        for (name, other) in [("previous", at.checked_sub(1)), ("next", Some(at + 1).filter(|next| *next < passages.len()))] {
            let Some(other) = other else {
                terms.push([name, "=none"]);
                continue;
            };
            let form = &forms[other];
            terms.push([name, "=", range(form.words), " last=", form.last]);
            terms.push([name, " gap=", gap(passages[at].line.abs_diff(passages[other].line))]);
            if form.prose {
                terms.push([name, "=prose"]);
            }
        }
    }
}

/// What lies between two passages that are this many lines apart.
fn gap(lines: usize) -> &'static str {
    match lines {
        0 => "blanks",
        1 => "line",
        2 => "empty",
        _ => "far",
    }
}

/// Terms of a passage by itself.
fn own(form: &Form, text: &str, terms: &mut ShapeTerms) {
    terms.push(["words=", range(form.words)]);
    terms.push(["sentences=", range(form.sentences)]);
    terms.push(["first=", form.first]);
    terms.push(["last=", form.last]);
    terms.push(["words=", range(form.words), " last=", form.last]);
    terms.push(["capitalised=", ratio(form.capitalised, form.words)]);
    let marks = Marks::of(text);
    terms.push(["digits=", ratio(form.digits, marks.characters)]);
    let found = [
        ("has=bar", marks.bar),
        ("has=at", marks.at),
        ("has=brackets", marks.brackets),
        ("has=arrow", marks.arrow),
        ("has=colon", marks.colon),
        ("has=quote", marks.quote),
        ("has=address", has_address(text, &marks)),
        ("has=date", marks.date),
        ("capitals", marks.letters && !marks.lower_case),
    ];
    found.iter().filter(|(_, holds)| *holds).for_each(|(term, _)| terms.push([*term]));
}

/// The characters of a passage that tell something, found in one walk.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a mark of its own")]
struct Marks {
    characters: usize,
    bar: bool,
    at: bool,
    brackets: bool,
    arrow: bool,
    colon: bool,
    quote: bool,
    full_stop: bool,
    /// Two digits around one of the marks that times and dates are written with.
    date: bool,
    letters: bool,
    lower_case: bool,
}

impl Marks {
    fn of(text: &str) -> Self {
        let mut marks = Self::default();
        // The two characters before.
        let (mut first, mut second) = (' ', ' ');
        for c in text.chars() {
            marks.characters += 1;
            match c {
                'a'..='z' => marks.lower_case = true,
                'A'..='Z' => marks.letters = true,
                '0'..='9' => marks.date |= first.is_ascii_digit() && matches!(second, ':' | '/' | 'h' | '-'),
                '|' | '•' | '›' | '>' | '»' | '·' | '/' => marks.bar = true,
                '@' | '#' | '©' => marks.at = true,
                '[' | ']' | '{' | '}' => marks.brackets = true,
                '→' | '←' | '↑' | '↓' | '▶' | '►' | '✔' | '★' => marks.arrow = true,
                ':' => marks.colon = true,
                '«' | '"' | '“' => marks.quote = true,
                '.' => marks.full_stop = true,
                c if !c.is_ascii() => {
                    marks.letters |= c.is_alphabetic();
                    marks.lower_case |= c.is_lowercase();
                }
                _ => {}
            }
            (first, second) = (second, c);
        }
        marks.letters |= marks.lower_case;
        marks
    }
}

/// Whether a link or the name of a site stands in `text`.
fn has_address(text: &str, marks: &Marks) -> bool {
    (marks.full_stop && ["www.", ".com", ".net", ".org"].iter().any(|mark| text.contains(mark)))
        || (marks.lower_case && text.contains("http"))
}

fn form(tokens: &[Token], text: &str) -> Form {
    let hasher = FixedState::default();
    let mut form = Form {
        words: tokens.len(),
        sentences: 0,
        capitalised: tokens.iter().filter(|token| token.capitalised).count(),
        digits: text.bytes().filter(u8::is_ascii_digit).count(),
        first: text.chars().find(|c| !page::is_ignorable(*c)).map_or("none", class),
        last: text.chars().rev().find(|c| !page::is_ignorable(*c) && !c.is_whitespace() && !is_closing(*c)).map_or("none", class),
        prose: false,
        key: tokens.iter().fold(0, |key, token| hasher.hash_one((key, token.word))),
    };
    let mut characters = text.chars().filter(|c| !is_closing(*c)).peekable();
    while let Some(c) = characters.next() {
        if matches!(c, '.' | '!' | '?' | '…') && characters.peek().is_none_or(|next| next.is_whitespace()) {
            form.sentences += 1;
        }
    }
    form.prose = form.words >= PROSE_WORDS && form.sentences > 0;
    form
}

/// Marks that may close a sentence after its full stop.
fn is_closing(c: char) -> bool {
    matches!(c, '"' | '»' | '”' | '’' | '\'' | ')' | ']')
}

fn class(c: char) -> &'static str {
    match c {
        '.' => "stop",
        '!' | '?' => "call",
        '…' => "ellipsis",
        ':' | ';' | ',' => "comma",
        '-' | '–' | '—' | '•' | '*' | '►' | '>' | '→' | '·' | '|' => "bullet",
        '«' | '"' | '“' | '\'' | '‘' => "quote",
        '(' | '[' | '{' => "bracket",
        c if c.is_uppercase() => "capital",
        c if c.is_alphabetic() => "letter",
        c if c.is_numeric() => "digit",
        _ => "other",
    }
}

/// A count as one of twelve ranges.
fn range(count: usize) -> &'static str {
    match count {
        0 => "0",
        1 => "1",
        2 => "2",
        3..=4 => "3-4",
        5..=7 => "5-7",
        8..=12 => "8-12",
        13..=19 => "13-19",
        20..=34 => "20-34",
        35..=59 => "35-59",
        60..=119 => "60-119",
        120..=249 => "120-249",
        _ => "250-",
    }
}

/// A share as one of six ranges.
fn ratio(part: usize, whole: usize) -> &'static str {
    if whole == 0 {
        return "empty";
    }
    match part * 100 / whole {
        0 => "0",
        1..=19 => "1-19",
        20..=39 => "20-39",
        40..=59 => "40-59",
        60..=79 => "60-79",
        _ => "80-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(page: &str) -> Vec<Vec<String>> {
        let passages = page::split(page);
        let mut reading = Reading::default();
        let tokens = reading.passages(page, &passages);
        let page = Page { text: page, passages: &passages, reading: &reading, tokens: &tokens };
        let shapes = Shapes::new(&page);
        let mut terms = ShapeTerms::default();
        let mut of = |at| {
            shapes.terms(at, &mut terms);
            terms.iter().map(str::to_owned).collect()
        };
        (0..passages.len()).map(&mut of).collect()
    }

    fn has(terms: &[String], term: &str) -> bool {
        terms.iter().any(|other| other == term)
    }

    const PROSE: &str = "Les deux ministres ont signé mardi un accord qui prévoit la formation de cent officiers par an, \
                         des bourses et des stages communs. Il entre en vigueur au printemps.";

    #[test]
    fn a_headline_before_an_article_and_its_title() {
        let page = format!("Météo du jour    Le prix du mil recule\nAccord sur la formation des officiers\n{PROSE}");
        let terms = of(&page);
        assert_eq!(terms.len(), 4);
        for term in [
            "words=3-4",
            "last=letter",
            "beside=1",
            "short before",
            "short-shared=0",
            "to-prose=3-4",
            "previous=none",
            "next gap=blanks",
        ] {
            assert!(has(&terms[0], term), "{term} of {:?}", terms[0]);
        }
        for term in ["words=5-7", "beside=0", "short-shared=80-", "next=prose", "previous gap=line"] {
            assert!(has(&terms[2], term), "{term} of {:?}", terms[2]);
        }
        for term in ["words=20-34", "sentences=2", "last=stop", "prose alone", "next=none", "shared=none"] {
            assert!(has(&terms[3], term), "{term} of {:?}", terms[3]);
        }
    }

    #[test]
    fn a_stop_inside_quotation_marks_ends_a_sentence_and_a_decimal_does_not() {
        assert_eq!(form(&[], "Il a dit « non. » Puis 1.000 hommes sont partis (hier).").sentences, 2);
        assert_eq!(form(&[], "« Nous restons ! »").last, "call");
    }

    #[test]
    fn capitals_and_repetitions_are_seen() {
        let terms = of("ACCORD SIGNÉ À NIAMEY !\nMenu\nmenu");
        assert!(has(&terms[0], "capitals") && has(&terms[0], "begins=accord signé") && !has(&terms[0], "repeated"));
        assert!(has(&terms[1], "repeated") && has(&terms[2], "repeated"));
    }

    #[test]
    fn counts_fall_into_ranges_without_a_gap() {
        let mut ranges: Vec<&str> = (0..400).map(range).collect();
        ranges.dedup();
        assert_eq!(ranges.len(), 12);
        assert_eq!([ratio(0, 0), ratio(0, 3), ratio(1, 100), ratio(1, 3), ratio(3, 3)], ["empty", "0", "1-19", "20-39", "80-"]);
    }
}
