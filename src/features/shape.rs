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
use std::sync::LazyLock;

use foldhash::fast::FixedState;

use super::reading::{Reading, Token};
use crate::page::{self, Passage};

/// Words of the shortest passage that counts as prose.
pub const PROSE_WORDS: usize = 20;

/// Characters that are kept of a passage's first words.
const BEGINNING: usize = 16;

/// Terms that are made of two values, each of which is one of a few names. They are numbered, so that a passage's are told without making a string or
/// looking one up.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    /// The number of its first term.
    first: u16,
    /// What stands before each value.
    before: [&'static str; 2],
    /// What each value can be called.
    names: [&'static [&'static str]; 2],
}

impl Pattern {
    /// How many terms it has.
    const fn len(self) -> usize {
        self.names[0].len() * self.names[1].len()
    }

    /// A pattern of one value, whose terms are numbered after those of this one.
    const fn then(self, before: &'static str, names: &'static [&'static str]) -> Self {
        self.then_two([before, ""], [names, &[""]])
    }

    /// A pattern of two values, whose terms are numbered after those of this one.
    #[expect(clippy::cast_possible_truncation, reason = "there are some thousand terms")]
    const fn then_two(self, before: [&'static str; 2], names: [&'static [&'static str]; 2]) -> Self {
        Self { first: self.first + self.len() as u16, before, names }
    }

    /// The terms, as they are called.
    fn terms(self) -> impl Iterator<Item = String> {
        let Self { before: [first, second], names: [left, right], .. } = self;
        left.iter().flat_map(move |left| right.iter().map(move |right| format!("{first}{left}{second}{right}")))
    }
}

/// Counts, as ranges; the last stands for none.
const RANGES: &[&str] = &["0", "1", "2", "3-4", "5-7", "8-12", "13-19", "20-34", "35-59", "60-119", "120-249", "250-", "none"];

/// Shares in hundredths, as ranges; of nothing, and where there is nothing to compare with.
const SHARES: &[&str] = &["0", "1-19", "20-39", "40-59", "60-79", "80-", "empty", "none"];

/// What a character is; the last stands for none.
const CLASSES: &[&str] =
    &["stop", "call", "ellipsis", "comma", "bullet", "quote", "bracket", "capital", "letter", "digit", "other", "none"];

/// What may stand in a passage.
const MARKS: &[&str] =
    &["has=bar", "has=at", "has=brackets", "has=arrow", "has=colon", "has=quote", "has=address", "has=date", "capitals"];

/// What lies between two passages.
const GAPS: &[&str] = &["blanks", "line", "empty", "far"];

const WORDS: Pattern = Pattern { first: 0, before: ["words=", ""], names: [RANGES, &[""]] };
const SENTENCES: Pattern = WORDS.then("sentences=", RANGES);
const FIRST: Pattern = SENTENCES.then("first=", CLASSES);
const LAST: Pattern = FIRST.then("last=", CLASSES);
const WORDS_AND_LAST: Pattern = LAST.then_two(["words=", " last="], [RANGES, CLASSES]);
const CAPITALISED: Pattern = WORDS_AND_LAST.then("capitalised=", SHARES);
const DIGITS: Pattern = CAPITALISED.then("digits=", SHARES);
const MARK: Pattern = DIGITS.then("", MARKS);
const BESIDE: Pattern = MARK.then("beside=", RANGES);
const SIDE: Pattern = BESIDE.then_two(["", " "], [&["short", "prose"], &["alone", "before", "after", "between"]]);
const SHORT_DISTANCES: Pattern = SIDE.then_two(["short before=", " after="], [RANGES, RANGES]);
const PROSE_DISTANCES: Pattern = SHORT_DISTANCES.then_two(["prose before=", " after="], [RANGES, RANGES]);
const TO_PROSE: Pattern = PROSE_DISTANCES.then("to-prose=", RANGES);
const FROM_PROSE: Pattern = TO_PROSE.then("from-prose=", RANGES);
const PROSE_BEFORE: Pattern = FROM_PROSE.then("prose-before=", RANGES);
const PROSE_AFTER: Pattern = PROSE_BEFORE.then("prose-after=", RANGES);
const FROM_START: Pattern = PROSE_AFTER.then("from-start=", RANGES);
const FROM_END: Pattern = FROM_START.then("from-end=", RANGES);
const NO_NEIGHBOUR: Pattern = FROM_END.then("", &["previous=none", "next=none"]);
const PREVIOUS: Pattern = NO_NEIGHBOUR.then_two(["previous=", " last="], [RANGES, CLASSES]);
const NEXT: Pattern = PREVIOUS.then_two(["next=", " last="], [RANGES, CLASSES]);
const GAP: Pattern = NEXT.then_two(["", " gap="], [&["previous", "next"], GAPS]);
const PROSE_NEIGHBOUR: Pattern = GAP.then("", &["previous=prose", "next=prose"]);
const SHARED: Pattern = PROSE_NEIGHBOUR.then("shared=", SHARES);
const SHORT_SHARED: Pattern = SHARED.then("short-shared=", SHARES);
const SHORT_SHARED_WORDS: Pattern = SHORT_SHARED.then("short-shared-words=", RANGES);
const REPEATED: Pattern = SHORT_SHARED_WORDS.then("", &["repeated"]);

/// All of them, in the order of their numbers.
const PATTERNS: [Pattern; 27] = [
    WORDS,
    SENTENCES,
    FIRST,
    LAST,
    WORDS_AND_LAST,
    CAPITALISED,
    DIGITS,
    MARK,
    BESIDE,
    SIDE,
    SHORT_DISTANCES,
    PROSE_DISTANCES,
    TO_PROSE,
    FROM_PROSE,
    PROSE_BEFORE,
    PROSE_AFTER,
    FROM_START,
    FROM_END,
    NO_NEIGHBOUR,
    PREVIOUS,
    NEXT,
    GAP,
    PROSE_NEIGHBOUR,
    SHARED,
    SHORT_SHARED,
    SHORT_SHARED_WORDS,
    REPEATED,
];

/// The terms that have a number, as they are called, in the order of their numbers.
static NUMBERED: LazyLock<Vec<String>> = LazyLock::new(|| PATTERNS.into_iter().flat_map(Pattern::terms).collect());

/// How many terms have a number.
pub const NUMBERS: usize = REPEATED.first as usize + REPEATED.len();

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

/// A term of a passage's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShapeTerm<'a> {
    /// One that has a number, below [`NUMBERS`].
    Numbered(u16),
    /// One that holds words of the passage.
    Open(&'a str),
}

impl<'a> ShapeTerm<'a> {
    /// The term as it is called.
    #[must_use]
    pub fn name(self) -> &'a str {
        match self {
            Self::Numbered(number) => &NUMBERED[usize::from(number)],
            Self::Open(name) => name,
        }
    }
}

/// Terms of a passage's shape, one after the other; reused from passage to passage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShapeTerms {
    /// For each term its number; nothing for one that has none.
    numbers: Vec<Option<u16>>,
    /// Those that have none, and for each its end in `open`.
    open: String,
    ends: Vec<usize>,
}

impl ShapeTerms {
    /// Forgets all terms and keeps their room.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.open.clear();
        self.ends.clear();
    }

    /// Adds the term of a pattern of one value, which is the index of its name.
    fn push(&mut self, pattern: Pattern, value: usize) {
        self.push_two(pattern, [value, 0]);
    }

    /// Adds the term of a pattern of two values.
    fn push_two(&mut self, pattern: Pattern, [left, right]: [usize; 2]) {
        let within = u16::try_from(left * pattern.names[1].len() + right).unwrap_or_default();
        self.numbers.push(Some(pattern.first + within));
    }

    /// Adds the term that is made of `parts`.
    fn push_open<'p>(&mut self, parts: impl IntoIterator<Item = &'p str>) {
        self.numbers.push(None);
        self.open.extend(parts);
        self.ends.push(self.open.len());
    }

    /// The terms.
    pub fn iter(&self) -> impl Iterator<Item = ShapeTerm<'_>> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let mut open = begins.zip(&self.ends).map(|(begin, end)| &self.open[begin..*end]);
        let term = move |number: &Option<u16>| match number {
            Some(number) => ShapeTerm::Numbered(*number),
            None => ShapeTerm::Open(open.next().unwrap_or_default()),
        };
        self.numbers.iter().map(term)
    }
}

/// What is counted of a passage by itself.
#[derive(Debug)]
struct Form {
    words: usize,
    sentences: usize,
    /// Words that begin with a capital letter.
    capitalised: usize,
    characters: usize,
    digits: usize,
    /// What the first and the last character is, as an index into [`CLASSES`].
    first: usize,
    last: usize,
    prose: bool,
    /// What stands in it: a bit for each of [`MARKS`].
    marks: u16,
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
        own(form, terms);
        self.begins(at, terms);
        self.place(at, terms);
        let itself = usize::from(form.prose);
        let (mut shared, mut stems) = (0, 0);
        for stem in self.page.stems(at) {
            stems += 1;
            shared += usize::from(self.prose_stems.get(&stem).is_some_and(|(count, _)| *count > itself));
        }
        let share = if self.prose.len() > itself { share(shared, stems) } else { SHARES.len() - 1 };
        terms.push(SHARED, share);
        if !form.prose {
            terms.push(SHORT_SHARED, share);
            terms.push(SHORT_SHARED_WORDS, range(shared));
        }
        if form.words > 0 && self.keys.get(&form.key).is_some_and(|count| *count > 1) {
            terms.push(REPEATED, 0);
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
            terms.push_open(["begins=", begin(first)]);
            if let [second, ..] = rest {
                terms.push_open(["begins=", begin(first), " ", begin(second)]);
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
        let prose = usize::from(forms[at].prose);
        let side = usize::from(before > 0) * 2 + usize::from(after > 0);
        let distance = |nearest: Option<usize>| nearest.map_or(RANGES.len() - 1, range);
        let (to, from) = (distance(nearest_after), distance(nearest_before));
        terms.push(BESIDE, range(self.beside[at] - 1));
        terms.push_two(SIDE, [prose, side]);
        terms.push_two(if forms[at].prose { PROSE_DISTANCES } else { SHORT_DISTANCES }, [from, to]);
        terms.push(TO_PROSE, to);
        terms.push(FROM_PROSE, from);
        terms.push(PROSE_BEFORE, range(before));
        terms.push(PROSE_AFTER, range(after));
        terms.push(FROM_START, range(at));
        terms.push(FROM_END, range(passages.len() - 1 - at));
        let others = [(PREVIOUS, at.checked_sub(1)), (NEXT, Some(at + 1).filter(|next| *next < passages.len()))];
        for (which, (neighbour, other)) in others.into_iter().enumerate() {
            let Some(other) = other else {
                terms.push(NO_NEIGHBOUR, which);
                continue;
            };
            let form = &forms[other];
            terms.push_two(neighbour, [range(form.words), form.last]);
            terms.push_two(GAP, [which, passages[at].line.abs_diff(passages[other].line).min(GAPS.len() - 1)]);
            if form.prose {
                terms.push(PROSE_NEIGHBOUR, which);
            }
        }
    }
}

/// Terms of a passage by itself.
fn own(form: &Form, terms: &mut ShapeTerms) {
    terms.push(WORDS, range(form.words));
    terms.push(SENTENCES, range(form.sentences));
    terms.push(FIRST, form.first);
    terms.push(LAST, form.last);
    terms.push_two(WORDS_AND_LAST, [range(form.words), form.last]);
    terms.push(CAPITALISED, share(form.capitalised, form.words));
    terms.push(DIGITS, share(form.digits, form.characters));
    (0..MARKS.len()).filter(|mark| form.marks & 1 << mark != 0).for_each(|mark| terms.push(MARK, mark));
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

fn form(tokens: &[Token], text: &str) -> Form {
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
    Form {
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

/// A count as an index into [`RANGES`].
fn range(count: usize) -> usize {
    match count {
        0..=2 => count,
        3..=4 => 3,
        5..=7 => 4,
        8..=12 => 5,
        13..=19 => 6,
        20..=34 => 7,
        35..=59 => 8,
        60..=119 => 9,
        120..=249 => 10,
        _ => 11,
    }
}

/// A part of a whole as an index into [`SHARES`].
fn share(part: usize, whole: usize) -> usize {
    if whole == 0 {
        return 6;
    }
    match part * 100 / whole {
        0 => 0,
        1..=19 => 1,
        20..=39 => 2,
        40..=59 => 3,
        60..=79 => 4,
        _ => 5,
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
            terms.iter().map(|term| term.name().to_owned()).collect()
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
        assert_eq!(CLASSES[form(&[], "« Nous restons ! »").last], "call");
    }

    #[test]
    fn capitals_and_repetitions_are_seen() {
        let terms = of("ACCORD SIGNÉ À NIAMEY !\nMenu\nmenu");
        assert!(has(&terms[0], "capitals") && has(&terms[0], "begins=accord signé") && !has(&terms[0], "repeated"));
        assert!(has(&terms[1], "repeated") && has(&terms[2], "repeated"));
    }

    #[test]
    fn counts_fall_into_ranges_without_a_gap() {
        let mut ranges: Vec<usize> = (0..400).map(range).collect();
        ranges.dedup();
        assert_eq!(ranges, (0..12).collect::<Vec<_>>());
        let bounds = |name: &str| name.split('-').map(|bound| bound.parse().ok()).collect::<Vec<Option<usize>>>();
        for (at, name) in RANGES[..12].iter().enumerate() {
            assert!(bounds(name).into_iter().flatten().all(|bound| range(bound) == at), "{name}");
        }
        let shares = [share(0, 0), share(0, 3), share(1, 100), share(1, 3), share(3, 3)];
        assert_eq!(shares.map(|share| SHARES[share]), ["empty", "0", "1-19", "20-39", "80-"]);
    }

    #[test]
    fn every_number_has_one_term() {
        assert_eq!(NUMBERED.len(), NUMBERS);
        let mut next = 0;
        for pattern in PATTERNS {
            assert_eq!(usize::from(pattern.first), next);
            next += pattern.len();
        }
        let names: std::collections::HashSet<&str> = NUMBERED.iter().map(String::as_str).collect();
        assert_eq!(names.len(), NUMBERS);
        let mut terms = ShapeTerms::default();
        terms.push_two(NEXT, [3, 1]);
        terms.push_open(["begins=", "le"]);
        terms.push(MARK, 8);
        terms.push_open(["begins=", "le", " prix"]);
        let found: Vec<&str> = terms.iter().map(ShapeTerm::name).collect();
        assert_eq!(found, ["next=3-4 last=call", "begins=le", "capitals", "begins=le prix"]);
    }

    #[test]
    fn marks_are_seen_in_any_alphabet() {
        let marks = |text: &str| {
            let form = form(&[], text);
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
