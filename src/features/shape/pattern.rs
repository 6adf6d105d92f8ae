//! The terms that tell a passage's shape, and their numbers.

use std::sync::LazyLock;

/// Terms that are made of two values, each of which is one of a few names. They are numbered, so that a passage's are told without making a string or
/// looking one up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pattern {
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
pub(super) const RANGES: &[&str] =
    &["0", "1", "2", "3-4", "5-7", "8-12", "13-19", "20-34", "35-59", "60-119", "120-249", "250-", "none"];

/// Shares in hundredths, as ranges; of nothing, and where there is nothing to compare with.
pub(super) const SHARES: &[&str] = &["0", "1-19", "20-39", "40-59", "60-79", "80-", "empty", "none"];

/// What a character is; the last stands for none.
pub(super) const CLASSES: &[&str] =
    &["stop", "call", "ellipsis", "comma", "bullet", "quote", "bracket", "capital", "letter", "digit", "other", "none"];

/// What may stand in a passage.
pub(super) const MARKS: &[&str] =
    &["has=bar", "has=at", "has=brackets", "has=arrow", "has=colon", "has=quote", "has=address", "has=date", "capitals"];

/// Where a short passage stands.
pub(super) const PLACES: &[&str] = &["alone", "right before", "before", "after", "between"];

/// Whether a short passage shares more words with the prose behind it than the others before it do; and whether a title came with the page.
pub(super) const MOST: &[&str] = &["most-shared", "most-shared untitled", "less-shared", "less-shared untitled"];

/// What lies between two passages.
pub(super) const GAPS: &[&str] = &["blanks", "line", "empty", "far"];

pub(super) const WORDS: Pattern = Pattern { first: 0, before: ["words=", ""], names: [RANGES, &[""]] };
pub(super) const SENTENCES: Pattern = WORDS.then("sentences=", RANGES);
pub(super) const FIRST: Pattern = SENTENCES.then("first=", CLASSES);
pub(super) const LAST: Pattern = FIRST.then("last=", CLASSES);
pub(super) const WORDS_AND_LAST: Pattern = LAST.then_two(["words=", " last="], [RANGES, CLASSES]);
pub(super) const CAPITALISED: Pattern = WORDS_AND_LAST.then("capitalised=", SHARES);
pub(super) const DIGITS: Pattern = CAPITALISED.then("digits=", SHARES);
pub(super) const MARK: Pattern = DIGITS.then("", MARKS);
pub(super) const BESIDE: Pattern = MARK.then("beside=", RANGES);
pub(super) const SIDE: Pattern = BESIDE.then_two(["", " "], [&["short", "prose"], &["alone", "before", "after", "between"]]);
pub(super) const SHORT_DISTANCES: Pattern = SIDE.then_two(["short before=", " after="], [RANGES, RANGES]);
pub(super) const PROSE_DISTANCES: Pattern = SHORT_DISTANCES.then_two(["prose before=", " after="], [RANGES, RANGES]);
pub(super) const TO_PROSE: Pattern = PROSE_DISTANCES.then("to-prose=", RANGES);
pub(super) const FROM_PROSE: Pattern = TO_PROSE.then("from-prose=", RANGES);
pub(super) const PROSE_BEFORE: Pattern = FROM_PROSE.then("prose-before=", RANGES);
pub(super) const PROSE_AFTER: Pattern = PROSE_BEFORE.then("prose-after=", RANGES);
pub(super) const FROM_START: Pattern = PROSE_AFTER.then("from-start=", RANGES);
pub(super) const FROM_END: Pattern = FROM_START.then("from-end=", RANGES);
pub(super) const NO_NEIGHBOUR: Pattern = FROM_END.then("", &["previous=none", "next=none"]);
pub(super) const PREVIOUS: Pattern = NO_NEIGHBOUR.then_two(["previous=", " last="], [RANGES, CLASSES]);
pub(super) const NEXT: Pattern = PREVIOUS.then_two(["next=", " last="], [RANGES, CLASSES]);
pub(super) const GAP: Pattern = NEXT.then_two(["", " gap="], [&["previous", "next"], GAPS]);
pub(super) const PROSE_NEIGHBOUR: Pattern = GAP.then("", &["previous=prose", "next=prose"]);
pub(super) const SHARED: Pattern = PROSE_NEIGHBOUR.then("shared=", SHARES);
pub(super) const SHORT_SHARED: Pattern = SHARED.then("short-shared=", SHARES);
pub(super) const SHORT_SHARED_WORDS: Pattern = SHORT_SHARED.then("short-shared-words=", RANGES);
pub(super) const REPEATED: Pattern = SHORT_SHARED_WORDS.then("", &["repeated"]);
pub(super) const TITLE_DISTANCES: Pattern = REPEATED.then_two(["title before=", " after="], [RANGES, RANGES]);
pub(super) const OTHER_DISTANCES: Pattern = TITLE_DISTANCES.then_two(["other before=", " after="], [RANGES, RANGES]);
pub(super) const TITLE_SHARED: Pattern = OTHER_DISTANCES.then_two(["title-shared=", " "], [SHARES, PLACES]);
pub(super) const NEXT_SHARED: Pattern = TITLE_SHARED.then("next-shared=", SHARES);
pub(super) const MOST_SHARED: Pattern = NEXT_SHARED.then_two(["", " "], [MOST, PLACES]);
pub(super) const RUN: Pattern = MOST_SHARED.then_two(["run=", " "], [RANGES, PLACES]);

/// All of them, in the order of their numbers.
const PATTERNS: [Pattern; 33] = [
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
    TITLE_DISTANCES,
    OTHER_DISTANCES,
    TITLE_SHARED,
    NEXT_SHARED,
    MOST_SHARED,
    RUN,
];

/// The terms that have a number, as they are called, in the order of their numbers.
static NUMBERED: LazyLock<Vec<String>> = LazyLock::new(|| PATTERNS.into_iter().flat_map(Pattern::terms).collect());

/// How many terms have a number.
pub const NUMBERS: usize = RUN.first as usize + RUN.len();

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
    pub(super) fn push(&mut self, pattern: Pattern, value: usize) {
        self.push_two(pattern, [value, 0]);
    }

    /// Adds the term of a pattern of two values.
    pub(super) fn push_two(&mut self, pattern: Pattern, [left, right]: [usize; 2]) {
        let within = u16::try_from(left * pattern.names[1].len() + right).unwrap_or_default();
        self.numbers.push(Some(pattern.first + within));
    }

    /// Adds the term that is made of `parts`.
    pub(super) fn push_open<'p>(&mut self, parts: impl IntoIterator<Item = &'p str>) {
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

/// A count as an index into [`RANGES`].
pub(super) fn range(count: usize) -> usize {
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
pub(super) fn share(part: usize, whole: usize) -> usize {
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
}
