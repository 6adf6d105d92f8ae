//! What a passage looks like and where it stands, as terms of the form `key=value`.
//!
//! A headline, a menu or a notice gives itself away less by its words than by its shape: it is short, ends without a
//! full stop, stands among its like, far from running prose, and shares no word with the article. Quantities are cut
//! into ranges, so that each becomes a term like any other and is weighed, stored and explained like one.
//!
//! Prose is a passage of at least [`PROSE_WORDS`] words in which a sentence ends; an article is mostly that, and the
//! place of a passage is told from the nearest prose. Words are compared by their first six characters
//! ([`Reading::stem`]), so that *coopération* in a title meets *coopérer* in the text.

mod form;
mod pattern;

use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::FixedState;

use self::form::Form;
use self::pattern::{
    BESIDE, FROM_END, FROM_PROSE, FROM_START, GAP, GAPS, MOST_SHARED, NEXT, NEXT_SHARED, NO_NEIGHBOUR, OTHER_DISTANCES, PREVIOUS,
    PROSE_AFTER, PROSE_BEFORE, PROSE_DISTANCES, PROSE_NEIGHBOUR, RANGES, REPEATED, RUN, SHARED, SHARES, SHORT_DISTANCES,
    SHORT_SHARED, SHORT_SHARED_WORDS, SIDE, TITLE_DISTANCES, TITLE_SHARED, TO_PROSE, range, share,
};
use super::reading::{Reading, Token};
use crate::page::Passage;

pub use self::pattern::{NUMBERS, ShapeTerm, ShapeTerms};

/// Words of the shortest passage that counts as prose.
pub const PROSE_WORDS: usize = 20;

/// Characters that are kept of a passage's first words.
const BEGINNING: usize = 16;

/// Characters of the shortest word that tells a headline: most that have fewer are of any subject.
const TELLING: usize = 5;

/// Hundredths of a passage's words from which it is the title that came with the page, in other words perhaps.
const IS_TITLE: usize = 40;

/// A page that was read: its passages, with the tokens of each.
#[derive(Debug)]
pub struct Page<'a> {
    /// Its text.
    pub text: &'a str,
    /// Its passages, in order.
    pub passages: &'a [Passage],
    /// What its passages were read into.
    pub reading: &'a Reading,
    /// The tokens there of the title that came with it; none where none came. One without a word that has a [stem](Reading::stem) can't be compared with
    /// anything, and is no title here.
    pub title: Range<usize>,
    /// For each passage its tokens there.
    pub tokens: &'a [Range<usize>],
}

impl Page<'_> {
    /// The tokens of the passage numbered `at`.
    fn tokens(&self, at: usize) -> &[Token] {
        &self.reading.tokens()[self.tokens[at].clone()]
    }

    /// The stems of the longer words of some tokens, in order.
    fn stems_of(&self, tokens: &Range<usize>) -> impl Iterator<Item = u32> {
        self.reading.tokens()[tokens.clone()].iter().filter_map(|token| self.reading.stem(token.word))
    }

    /// The stems of the longer words of the passage numbered `at`, in order.
    fn stems(&self, at: usize) -> impl Iterator<Item = u32> {
        self.stems_of(&self.tokens[at])
    }
}

/// Where a stem stands on a page.
#[derive(Debug, Clone, Copy)]
struct Stem {
    /// In how many passages of prose.
    prose: usize,
    /// The first of these.
    first: usize,
    /// How often in short passages.
    short: usize,
}

type Stems = HashMap<u32, Stem, FixedState>;

/// The prose around a passage.
struct Near {
    /// How many passages of prose stand before it, and the last of them.
    before: usize,
    previous: Option<usize>,
    /// How many stand behind it, and the first of them.
    after: usize,
    next: Option<usize>,
    /// How far these two are, as indices into [`RANGES`].
    from: usize,
    to: usize,
}

/// The shapes of all passages of a page.
#[derive(Debug)]
pub struct Shapes<'a> {
    page: &'a Page<'a>,
    forms: Vec<Form>,
    /// The passages that are prose.
    prose: Vec<usize>,
    /// The stems that stand in prose.
    stems: Stems,
    /// For each short passage how many of its stems stand in the next prose.
    next_shared: Vec<usize>,
    /// How often the same words make a passage.
    keys: HashMap<u64, usize, FixedState>,
    /// For each passage how many share its line.
    beside: Vec<usize>,
    /// Stems of the title that came with the page, sorted.
    title: Vec<u32>,
    /// The short passage before all prose that has most in common with it.
    headline: Option<usize>,
}

impl<'a> Shapes<'a> {
    /// Looks at the passages of `page`.
    #[must_use]
    pub fn new(page: &'a Page<'a>) -> Self {
        let Page { text, passages, .. } = page;
        let forms: Vec<Form> =
            passages.iter().enumerate().map(|(at, passage)| Form::of(page.tokens(at), passage.text(text))).collect();
        let prose: Vec<usize> = (0..forms.len()).filter(|at| forms[*at].prose).collect();
        let mut stems = Stems::with_hasher(FixedState::default());
        let mut next_shared = vec![0; forms.len()];
        let mut next = None;
        for (at, form) in forms.iter().enumerate().rev() {
            if !form.prose {
                let is_next = |stem: &u32| stems.get(stem).is_some_and(|stem| Some(stem.first) == next);
                next_shared[at] = page.stems(at).filter(is_next).count();
                continue;
            }
            next = Some(at);
            for stem in page.stems(at) {
                let stem = stems.entry(stem).or_insert(Stem { prose: 0, first: usize::MAX, short: 0 });
                stem.prose += usize::from(stem.first != at);
                stem.first = at;
            }
        }
        let mut keys: HashMap<u64, usize, FixedState> = HashMap::with_hasher(FixedState::default());
        for form in &forms {
            *keys.entry(form.key).or_default() += 1;
        }
        let lines = passages.chunk_by(|left, right| left.line == right.line);
        let beside = lines.flat_map(|line| std::iter::repeat_n(line.len(), line.len())).collect();
        let mut title: Vec<u32> = page.stems_of(&page.title).collect();
        title.sort_unstable();
        let headline = next.filter(|first| *first > 0).and_then(|first| {
            for at in (0..forms.len()).filter(|at| !forms[*at].prose) {
                for stem in page.stems(at) {
                    if let Some(stem) = stems.get_mut(&stem) {
                        stem.short += 1;
                    }
                }
            }
            headline(page, first, &stems)
        });
        Self { page, forms, prose, stems, next_shared, keys, beside, title, headline }
    }

    /// Whether a title came with the page that lines can be compared with.
    #[must_use]
    pub fn is_titled(&self) -> bool {
        !self.title.is_empty()
    }

    /// Puts the terms of the passage numbered `at` into `terms`.
    ///
    /// # Panics
    ///
    /// When there is no such passage.
    pub fn terms(&self, at: usize, terms: &mut ShapeTerms) {
        let form = &self.forms[at];
        terms.clear();
        form.terms(terms);
        self.begins(at, terms);
        let near = self.near(at);
        self.place(at, &near, terms);
        let itself = usize::from(form.prose);
        let (mut shared, mut stems) = (0, 0);
        for stem in self.page.stems(at) {
            stems += 1;
            shared += usize::from(self.stems.get(&stem).is_some_and(|stem| stem.prose > itself));
        }
        let share = if self.prose.len() > itself { share(shared, stems) } else { SHARES.len() - 1 };
        terms.push(SHARED, share);
        if !form.prose {
            terms.push(SHORT_SHARED, share);
            terms.push(SHORT_SHARED_WORDS, range(shared));
            self.short(at, &near, stems, terms);
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

    /// The prose around the passage numbered `at`.
    fn near(&self, at: usize) -> Near {
        let before = self.prose.partition_point(|other| *other < at);
        let behind = self.prose.partition_point(|other| *other <= at);
        let (previous, next) = (self.prose[..before].last().copied(), self.prose.get(behind).copied());
        let distance = |nearest: Option<usize>| nearest.map_or(RANGES.len() - 1, |other| range(at.abs_diff(other)));
        Near { before, previous, after: self.prose.len() - behind, next, from: distance(previous), to: distance(next) }
    }

    /// Terms of where the passage stands.
    fn place(&self, at: usize, near: &Near, terms: &mut ShapeTerms) {
        let Self { page: Page { passages, .. }, forms, .. } = self;
        let is_prose = forms[at].prose;
        let Near { from, to, .. } = *near;
        terms.push(BESIDE, range(self.beside[at] - 1));
        terms.push_two(SIDE, [usize::from(is_prose), usize::from(near.before > 0) * 2 + usize::from(near.after > 0)]);
        if is_prose {
            terms.push_two(PROSE_DISTANCES, [from, to]);
        }
        terms.push(TO_PROSE, to);
        terms.push(FROM_PROSE, from);
        terms.push(PROSE_BEFORE, range(near.before));
        terms.push(PROSE_AFTER, range(near.after));
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

    /// Terms of a short passage, of so many `stems`: whether it is a line of the article, such as its headline, or one of a list. Where a title came
    /// with the page, a line right before the article that is not that title is hardly the headline.
    fn short(&self, at: usize, near: &Near, stems: usize, terms: &mut ShapeTerms) {
        let in_title = self.page.stems(at).filter(|stem| self.title.binary_search(stem).is_ok()).count();
        let is_untitled = !self.is_titled();
        let Near { from, to, .. } = *near;
        terms.push_two(SHORT_DISTANCES, [from, to]);
        if !is_untitled {
            let is_title = stems > 0 && in_title * 100 >= IS_TITLE * stems;
            terms.push_two(if is_title { TITLE_DISTANCES } else { OTHER_DISTANCES }, [from, to]);
        }
        // As in `PLACES`.
        let place = match near {
            Near { before: 0, next: None, .. } => 0,
            Near { before: 0, next: Some(next), .. } if *next == at + 1 => 1,
            Near { before: 0, .. } => 2,
            Near { next: None, .. } => 3,
            Near { .. } => 4,
        };
        terms.push_two(TITLE_SHARED, [if is_untitled { SHARES.len() - 1 } else { share(in_title, stems) }, place]);
        if near.next.is_some() {
            terms.push(NEXT_SHARED, share(self.next_shared[at], stems));
        }
        terms.push_two(MOST_SHARED, [usize::from(self.headline != Some(at)) * 2 + usize::from(is_untitled), place]);
        let run = near.next.unwrap_or(self.forms.len()) - near.previous.map_or(0, |previous| previous + 1);
        terms.push_two(RUN, [range(run), place]);
    }
}

/// The passage before the `first` prose that has most in common with all prose; of equals the last. What other short passages have too counts for
/// the less, as in tf-idf: lines of a list share the words that any line has.
fn headline(page: &Page<'_>, first: usize, stems: &Stems) -> Option<usize> {
    let words = page.reading.words();
    let mut most = (0.0, None);
    for at in 0..first {
        let telling = page.tokens(at).iter().filter(|token| words.term(token.word).chars().nth(TELLING - 1).is_some());
        let shared = telling.filter_map(|token| stems.get(&page.reading.stem(token.word)?));
        #[expect(clippy::cast_precision_loss, reason = "fewer than the bytes of a page")]
        let sum: f64 = shared.map(|stem| 1.0 / stem.short as f64).sum();
        if sum > 0.0 && sum >= most.0 {
            most = (sum, Some(at));
        }
    }
    most.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page;

    fn of(page: &str) -> Vec<Vec<String>> {
        titled("", page)
    }

    fn titled(title: &str, page: &str) -> Vec<Vec<String>> {
        let passages = page::split(page);
        let mut reading = Reading::default();
        let title = reading.read(title);
        let tokens = reading.passages(page, &passages);
        let page = Page { text: page, passages: &passages, reading: &reading, title, tokens: &tokens };
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
    fn capitals_and_repetitions_are_seen() {
        let terms = of("ACCORD SIGNÉ À NIAMEY !\nMenu\nmenu");
        assert!(has(&terms[0], "capitals") && has(&terms[0], "begins=accord signé") && !has(&terms[0], "repeated"));
        assert!(has(&terms[1], "repeated") && has(&terms[2], "repeated"));
    }

    #[test]
    fn a_line_before_the_article_is_compared_with_the_title_that_came() {
        let page = format!("Le prix du mil recule\nUn accord sur la formation\n{PROSE}\nPartager");
        let shared = |title: &str| {
            let terms = titled(title, &page);
            let of = |at: usize| terms[at].iter().filter(|term| term.contains("title-shared")).cloned().collect::<Vec<_>>();
            ([0, 1, 2, 3].map(of), terms)
        };
        let term = |term: &str| vec![term.to_owned()];
        let (of_each, terms) = shared("L'accord de formation");
        let expected = ["title-shared=0 before", "title-shared=80- right before"].map(term);
        assert_eq!(of_each, [expected[0].clone(), expected[1].clone(), vec![], term("title-shared=0 after")]);
        assert!(has(&terms[0], "other before=none after=2") && has(&terms[1], "title before=none after=1"));
        assert!(has(&terms[1], "short before=none after=1") && !has(&terms[2], "other before=none after=none"));
        let (of_each, terms) = shared("");
        assert_eq!(of_each[1], term("title-shared=none right before"));
        assert!(!terms[1].iter().any(|term| term.starts_with("title before") || term.starts_with("other before")));
    }

    #[test]
    fn a_title_in_other_words_has_two_words_of_five() {
        let page = format!("Accord formation officiers bourses stages\n{PROSE}");
        let is_title = |title: &str| has(&titled(title, &page)[0], "title before=none after=1");
        assert!(is_title("Un accord, une formation") && !is_title("Un accord, un traité"));
        // A title of short words alone can't be compared.
        assert!(has(&titled("ONU", &page)[0], "title-shared=none right before"));
    }

    #[test]
    fn the_line_that_has_most_in_common_with_the_prose_is_told() {
        let most = |lines: [&str; 3]| {
            let terms = of(&format!("{}\n{PROSE}", lines.join("\n")));
            (0..3).filter(|at| terms[*at].iter().any(|term| term.starts_with("most-shared"))).collect::<Vec<_>>()
        };
        // "accord" stands in short lines four times, and counts a quarter each time; "officiers" stands in one, once.
        assert_eq!(most(["Accord", "Des officiers", "Accord, accord, accord"]), [1]);
        // Of equals it is the last; words of four letters don't count, and nothing in common is not the most.
        assert_eq!(most(["Des stages", "Des bourses", "La météo"]), [1]);
        assert_eq!(most(["Le cent", "Des bourses", "Cent"]), [1]);
        assert_eq!(most(["Le cent", "La météo", "Cent"]), [0; 0]);
    }

    #[test]
    fn the_run_that_a_line_stands_in_and_what_it_shares_with_the_next_prose_are_told() {
        let page =
            format!("Formation: le bac approche\nDes officiers en formation\nMétéo du jour\n{PROSE}\nDeux ministres\n{PROSE}");
        let terms = titled("Un titre", &page);
        assert!(has(&terms[1], "most-shared before") && has(&terms[0], "less-shared before"));
        assert!(has(&terms[2], "less-shared right before") && has(&terms[4], "less-shared between"));
        assert!(has(&of(&page)[1], "most-shared untitled before"));
        assert!(has(&terms[0], "run=3-4 before") && has(&terms[2], "run=3-4 right before") && has(&terms[4], "run=1 between"));
        assert!(has(&terms[1], "next-shared=80-") && has(&terms[2], "next-shared=0"));
    }

    #[test]
    fn the_next_prose_is_not_any_prose() {
        let other = "La saison des pluies a commencé tard cette année dans les trois régions du nord, où les paysans attendent \
                     encore pour semer le mil. Les marchés restent calmes.";
        let terms = of(&format!("{PROSE}\nDes officiers\n{other}\nDes pluies"));
        assert!(has(&terms[1], "short-shared=80-") && has(&terms[1], "next-shared=0"));
        assert!(!terms[3].iter().any(|term| term.starts_with("next-shared")), "there is no prose behind it");
    }
}
