//! What a passage looks like and where it stands, as terms of the form `key=value`.
//!
//! A headline, a menu or a notice gives itself away less by its words than by its shape: it is short, ends without a
//! full stop, stands among its like, far from running prose, and shares no word with the article. Quantities are cut
//! into ranges, so that each becomes a term like any other and is weighed, stored and explained like one.
//!
//! Prose is a passage of at least [`PROSE_WORDS`] words in which a sentence ends; an article is mostly that, and the
//! place of a passage is told from the nearest prose. Words are compared by their first six characters, so that
//! *coopération* in a title meets *coopérer* in the text.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::page::{self, Passage};
use crate::terms::Reader;

/// Words of the shortest passage that counts as prose.
pub const PROSE_WORDS: usize = 20;

/// Characters by which two words are compared.
const STEM: usize = 6;

/// Characters of the shortest word that is compared.
const CONTENT: usize = 4;

/// Characters that are kept of a passage's first words.
const BEGINNING: usize = 16;

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
    /// Hashes of the beginnings of its longer words, in order.
    stems: Vec<u64>,
    /// Hash of its words, for telling repetitions.
    key: u64,
    /// Its first words, two at most.
    begins: Vec<String>,
}

/// The shapes of all passages of a page.
#[derive(Debug)]
pub struct Shapes<'a> {
    text: &'a str,
    passages: &'a [Passage],
    forms: Vec<Form>,
    /// The passages that are prose.
    prose: Vec<usize>,
    /// In how many of them a stem stands.
    prose_stems: HashMap<u64, usize>,
    /// How often the same words make a passage.
    keys: HashMap<u64, usize>,
    /// For each passage how many share its line.
    beside: Vec<usize>,
}

impl<'a> Shapes<'a> {
    /// Looks at the `passages` of the page `text`.
    #[must_use]
    pub fn new(text: &'a str, passages: &'a [Passage]) -> Self {
        let mut reader = Reader::default();
        let forms: Vec<Form> = passages.iter().map(|passage| form(&mut reader, passage.text(text))).collect();
        let prose: Vec<usize> = (0..forms.len()).filter(|at| forms[*at].prose).collect();
        let mut prose_stems: HashMap<u64, usize> = HashMap::new();
        for at in &prose {
            for stem in forms[*at].stems.iter().collect::<HashSet<_>>() {
                *prose_stems.entry(*stem).or_default() += 1;
            }
        }
        let mut keys: HashMap<u64, usize> = HashMap::new();
        for form in &forms {
            *keys.entry(form.key).or_default() += 1;
        }
        let lines = passages.chunk_by(|left, right| left.line == right.line);
        let beside = lines.flat_map(|line| std::iter::repeat_n(line.len(), line.len())).collect();
        Self { text, passages, forms, prose, prose_stems, keys, beside }
    }

    /// The terms of the passage numbered `at`.
    ///
    /// # Panics
    ///
    /// When there is no such passage.
    #[must_use]
    pub fn terms(&self, at: usize) -> Vec<String> {
        let form = &self.forms[at];
        let mut terms = own(form, self.passages[at].text(self.text));
        self.place(at, &mut terms);
        let itself = usize::from(form.prose);
        let share = |shared| if self.prose.len() > itself { ratio(shared, form.stems.len()) } else { "none" };
        let shared = form.stems.iter().filter(|stem| self.prose_stems.get(stem).is_some_and(|count| *count > itself)).count();
        terms.push(format!("shared={}", share(shared)));
        if !form.prose {
            terms.push(format!("short-shared={}", share(shared)));
            terms.push(format!("short-shared-words={}", range(shared)));
        }
        if form.words > 0 && self.keys.get(&form.key).is_some_and(|count| *count > 1) {
            terms.push("repeated".into());
        }
        terms
    }

    /// Terms of where the passage stands.
    fn place(&self, at: usize, terms: &mut Vec<String>) {
        let Self { passages, forms, prose, .. } = self;
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
        terms.push(format!("beside={}", range(self.beside[at] - 1)));
        terms.push(format!("{is_prose} {side}"));
        terms.push(format!("{is_prose} before={} after={}", distance(nearest_before), distance(nearest_after)));
        terms.push(format!("to-prose={}", distance(nearest_after)));
        terms.push(format!("from-prose={}", distance(nearest_before)));
        terms.push(format!("prose-before={}", range(before)));
        terms.push(format!("prose-after={}", range(after)));
        terms.push(format!("from-start={}", range(at)));
        terms.push(format!("from-end={}", range(passages.len() - 1 - at)));
        for (name, other) in [("previous", at.checked_sub(1)), ("next", Some(at + 1).filter(|next| *next < passages.len()))] {
            let Some(other) = other else {
                terms.push(format!("{name}=none"));
                continue;
            };
            let form = &forms[other];
            terms.push(format!("{name}={} last={}", range(form.words), form.last));
            terms.push(format!("{name} gap={}", gap(passages[at].line.abs_diff(passages[other].line))));
            if form.prose {
                terms.push(format!("{name}=prose"));
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
fn own(form: &Form, text: &str) -> Vec<String> {
    let mut terms = vec![
        format!("words={}", range(form.words)),
        format!("sentences={}", range(form.sentences)),
        format!("first={}", form.first),
        format!("last={}", form.last),
        format!("words={} last={}", range(form.words), form.last),
        format!("capitalised={}", ratio(form.capitalised, form.words)),
        format!("digits={}", ratio(form.digits, text.chars().count())),
    ];
    // "Par", "Lire aussi", "Publié dans": noise between paragraphs is told by how it begins.
    terms.extend(form.begins.first().map(|first| format!("begins={first}")));
    if form.begins.len() == 2 {
        terms.push(format!("begins={}", form.begins.join(" ")));
    }
    let marks: [(&str, &[char]); 6] = [
        ("bar", &['|', '•', '›', '>', '»', '·', '/']),
        ("at", &['@', '#', '©']),
        ("brackets", &['[', ']', '{', '}']),
        ("arrow", &['→', '←', '↑', '↓', '▶', '►', '✔', '★']),
        ("colon", &[':']),
        ("quote", &['«', '"', '“']),
    ];
    terms.extend(marks.iter().filter(|(_, mark)| text.contains(*mark)).map(|(name, _)| format!("has={name}")));
    if ["http", "www.", ".com", ".net", ".org"].iter().any(|mark| text.contains(mark)) {
        terms.push("has=address".into());
    }
    if is_clock_or_date(text) {
        terms.push("has=date".into());
    }
    if text.chars().any(char::is_alphabetic) && !text.chars().any(char::is_lowercase) {
        terms.push("capitals".into());
    }
    terms
}

/// Whether two digits stand around one of the marks that times and dates are written with.
fn is_clock_or_date(text: &str) -> bool {
    let characters: Vec<char> = text.chars().collect();
    characters
        .windows(3)
        .any(|three| three[0].is_ascii_digit() && matches!(three[1], ':' | '/' | 'h' | '-') && three[2].is_ascii_digit())
}

fn form(reader: &mut Reader, text: &str) -> Form {
    let mut form = Form {
        words: 0,
        sentences: 0,
        capitalised: 0,
        digits: text.chars().filter(char::is_ascii_digit).count(),
        first: text.chars().find(|c| !page::is_ignorable(*c)).map_or("none", class),
        last: text.chars().rev().find(|c| !page::is_ignorable(*c) && !c.is_whitespace() && !is_closing(*c)).map_or("none", class),
        prose: false,
        stems: Vec::new(),
        key: 0,
        begins: Vec::new(),
    };
    let hasher = FixedState::with_seed(0);
    let mut stem = String::new();
    reader.read(text, |word| {
        form.words += 1;
        if form.begins.len() < 2 {
            form.begins.push(word.text().chars().take(BEGINNING).collect());
        }
        form.capitalised += usize::from(text[word.source()].starts_with(char::is_uppercase));
        form.key = hasher.hash_one((form.key, word.text()));
        stem.clear();
        stem.extend(word.text().chars().take(STEM));
        if stem.chars().count() >= CONTENT {
            form.stems.push(hasher.hash_one(stem.as_str()));
        }
    });
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
        let shapes = Shapes::new(page, &passages);
        (0..passages.len()).map(|at| shapes.terms(at)).collect()
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
        let mut reader = Reader::default();
        assert_eq!(form(&mut reader, "Il a dit « non. » Puis 1.000 hommes sont partis (hier).").sentences, 2);
        assert_eq!(form(&mut reader, "« Nous restons ! »").last, "call");
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
