//! Body or noise: what each passage of a page is.
//!
//! A head over the passage's words and [shape](crate::features::shape) gives each passage its kind. Three rules stand
//! beside it:
//!
//! - *Repeated.* A passage whose words an earlier body passage has in the same order is noise of its own kind. This is
//!   seen, not learnt.
//! - *The main passage.* Many collectors deliver an article as one long line. A passage that stands alone, or that is
//!   long and holds at least half of the page's words, is noise only above a [threshold](RoleHead::thresholds) of its own, which is close
//!   to 1: one wrong verdict must not lose an article.
//! - *Scraps.* A list of headlines without an article is not one because a line or two pass for article: where nothing but a few doubtful words of a page
//!   would be body, and no title says that an article belongs to it, there is none.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::fast::FixedState;

use super::head::{Head, argmax};
use crate::features::shape::{Page, Shapes};
use crate::features::{Part, Reading, Scorer, ShapeTerms, Space, Tally, Tokens};
use crate::page::{self, Passage};

/// The kind of article passages, in marked pages and in answers.
pub const BODY: &str = "body";

/// The kind of passages that are noise because they stood before.
pub const REPEATED: &str = "repeated";

/// Words from which a passage can be a page's main passage.
const MAIN_WORDS: usize = 40;

/// Words of the shortest article among noise.
const ARTICLE_WORDS: usize = 20;

/// Lines of noise beside which fewer words are none.
const LIST: usize = 5;

/// The noise probability below which even a few words are article.
const SCRAP_DOUBT: f64 = 0.1;

/// The noise probability below which a body passage can stand in for the title.
const HEADLINE_DOUBT: f64 = 0.2;

/// The head that tells article from noise, and its features.
#[derive(Debug, Clone)]
pub struct RoleHead {
    space: Space,
    head: Head,
    scorer: Scorer,
    threshold: f64,
    main_threshold: f64,
}

/// Buffers for judging pages, reused from page to page.
#[derive(Debug, Default)]
pub struct RoleScratch {
    tally: Tally,
    shape: ShapeTerms,
    sums: Vec<f64>,
}

/// What a passage is.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleVerdict {
    /// The passage.
    pub passage: Passage,
    /// Whether it is noise rather than article.
    pub is_noise: bool,
    /// Its kind, [`BODY`] where it is article.
    pub kind: String,
    /// The probability that it is noise.
    pub noise_probability: f64,
}

impl RoleVerdict {
    /// The verdict on a passage where nothing was trained to tell.
    #[must_use]
    pub fn body(passage: Passage) -> Self {
        Self { passage, is_noise: false, kind: BODY.into(), noise_probability: 0.0 }
    }

    /// Makes it noise of a kind by a rule, which leaves no doubt.
    fn rule_out(&mut self, kind: &str) {
        kind.clone_into(&mut self.kind);
        self.is_noise = true;
        self.noise_probability = 1.0;
    }
}

impl RoleHead {
    /// A head over passages in `space`, whose kinds are the labels of `head`: [`BODY`] is one of them, [`REPEATED`] is not. A
    /// passage is noise where its probability to be noise is greater than `threshold`; the main passage, one that stands alone or
    /// is long and holds at least half of the page's words, where it is greater than `main_threshold`.
    #[must_use]
    pub fn new(space: Space, head: Head, threshold: f64, main_threshold: f64) -> Self {
        let scorer = Scorer::new(&space, head.labels.len(), |feature, label| head.weights[[feature, label]]);
        Self { space, head, scorer, threshold, main_threshold }
    }

    /// Features of a passage.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The classifier of passages.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The probability of noise above which a passage is noise, and the same for the main passage.
    #[must_use]
    pub fn thresholds(&self) -> (f64, f64) {
        (self.threshold, self.main_threshold)
    }

    /// A verdict on each passage of `page`.
    #[must_use]
    pub fn judge(&self, scratch: &mut RoleScratch, page: &Page<'_>) -> Vec<RoleVerdict> {
        let RoleScratch { tally, shape, sums } = scratch;
        let shapes = Shapes::new(page);
        let bias = self.head.bias_with(&self.head.priors);
        let main = main_passage(page);
        let body = self.body();
        let mut verdicts = Vec::with_capacity(page.passages.len());
        let mut kinds_of_noise = Vec::with_capacity(page.passages.len());
        for (at, passage) in page.passages.iter().enumerate() {
            shapes.terms(at, shape);
            let parts = [Part { tokens: page.tokens[at].clone(), is_title: true }];
            self.scorer.score(&self.space, (tally, &Tokens { reading: page.reading, parts: &parts, shape }), sums, |_, _| {});
            sums.iter_mut().zip(&bias).for_each(|(sum, bias)| *sum += bias);
            let mut probabilities = self.head.probabilities(sums);
            let noise_probability = (1.0 - probabilities[body]).clamp(0.0, 1.0);
            let threshold = if main == Some(at) { self.main_threshold } else { self.threshold };
            let is_noise = noise_probability > threshold;
            probabilities[body] = 0.0;
            let kind_of_noise = argmax(&probabilities);
            let kind = self.head.labels[if is_noise { kind_of_noise } else { body }].clone();
            verdicts.push(RoleVerdict { passage: passage.clone(), is_noise, kind, noise_probability });
            kinds_of_noise.push(kind_of_noise);
        }
        mark_repeated(page, &mut verdicts);
        if !shapes.is_titled() && are_scraps(page, &verdicts) {
            for (verdict, kind) in verdicts.iter_mut().zip(kinds_of_noise).filter(|(verdict, _)| !verdict.is_noise) {
                verdict.rule_out(&self.head.labels[kind]);
            }
        }
        verdicts
    }

    /// The index of [`BODY`] among the labels.
    fn body(&self) -> usize {
        self.head.labels.iter().position(|label| label == BODY).unwrap_or(0)
    }
}

/// Cuts the page `text` and judges its passages, for each of which its tokens in `reading` come too; without a role head every
/// passage is body.
#[must_use]
pub fn passages(
    role: Option<&RoleHead>,
    scratch: &mut RoleScratch,
    reading: &mut Reading,
    (title, text): (Range<usize>, &str),
) -> (Vec<RoleVerdict>, Vec<Range<usize>>) {
    let passages = page::split(text);
    let tokens = reading.passages(text, &passages);
    let verdicts = match role {
        Some(role) => role.judge(scratch, &Page { text, passages: &passages, reading, title, tokens: &tokens }),
        None => passages.into_iter().map(RoleVerdict::body).collect(),
    };
    (verdicts, tokens)
}

/// The ranges of the body passages.
pub fn body(verdicts: &[RoleVerdict]) -> impl Iterator<Item = Range<usize>> {
    verdicts.iter().filter(|verdict| !verdict.is_noise).map(|verdict| verdict.passage.range.clone())
}

/// Which of the body passages stands in for a title where none came: the first that is article without much doubt, or else the first. A line of another story
/// that passes for one before the article is rarely without doubt.
pub fn headline(verdicts: &[RoleVerdict]) -> usize {
    let mut body = verdicts.iter().filter(|verdict| !verdict.is_noise);
    body.position(|verdict| verdict.noise_probability < HEADLINE_DOUBT).unwrap_or(0)
}

/// The only passage, or that which holds at least half of the page's words where it is long enough to be an article.
fn main_passage(page: &Page<'_>) -> Option<usize> {
    if page.passages.len() == 1 {
        return Some(0);
    }
    let total: usize = page.tokens.iter().map(ExactSizeIterator::len).sum();
    page.tokens.iter().position(|tokens| tokens.len() >= MAIN_WORDS && 2 * tokens.len() >= total)
}

/// Whether what passes for article is but a few doubtful words in a list.
fn are_scraps(page: &Page<'_>, verdicts: &[RoleVerdict]) -> bool {
    let lines = verdicts.iter().filter(|verdict| verdict.is_noise && verdict.kind != REPEATED).count();
    let mut body = page.tokens.iter().zip(verdicts).filter(|(_, verdict)| !verdict.is_noise);
    let words: usize = body.clone().map(|(tokens, _)| tokens.len()).sum();
    lines >= LIST && words < ARTICLE_WORDS && body.all(|(_, verdict)| verdict.noise_probability >= SCRAP_DOUBT)
}

/// Makes noise of body passages whose words an earlier body passage has.
fn mark_repeated(page: &Page<'_>, verdicts: &mut [RoleVerdict]) {
    let hasher = FixedState::default();
    let mut seen = HashSet::with_hasher(FixedState::default());
    for (verdict, tokens) in verdicts.iter_mut().zip(page.tokens).filter(|(verdict, _)| !verdict.is_noise) {
        let words = page.reading.tokens()[tokens.clone()].iter().map(|token| token.word);
        if !tokens.is_empty() && !seen.insert(words.fold(0_u64, |key, word| hasher.hash_one((key, word)))) {
            verdict.rule_out(REPEATED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `judge` says of the page `text`.
    fn with_page<T>(text: &str, judge: impl FnOnce(&Page<'_>, Vec<RoleVerdict>) -> T) -> T {
        let passages = page::split(text);
        let mut reading = Reading::default();
        let tokens = reading.passages(text, &passages);
        let verdicts = passages.iter().cloned().map(RoleVerdict::body).collect();
        judge(&Page { text, passages: &passages, reading: &reading, title: 0..0, tokens: &tokens }, verdicts)
    }

    #[test]
    fn a_repeated_paragraph_is_body_once() {
        with_page("Un accord a été signé.\nAutre chose.\nUn accord a été signé !\n–\n–", |page, mut verdicts| {
            mark_repeated(page, &mut verdicts);
            let noise: Vec<bool> = verdicts.iter().map(|verdict| verdict.is_noise).collect();
            assert_eq!(noise, [false, false, true, false, false]);
            assert_eq!(verdicts[2].kind, REPEATED);
        });
    }

    #[test]
    fn a_repetition_of_noise_is_left_to_the_head() {
        with_page("Un titre\nUn titre\nUn titre", |page, mut verdicts| {
            verdicts[0].is_noise = true;
            mark_repeated(page, &mut verdicts);
            assert_eq!(verdicts.iter().map(|verdict| verdict.is_noise).collect::<Vec<_>>(), [true, false, true]);
        });
    }

    #[test]
    fn the_main_passage_holds_half_of_the_words() {
        let main = |text: &str| with_page(text, |page, _| main_passage(page));
        let long = "mot ".repeat(40);
        assert_eq!(main(&format!("{long}\na b c")), Some(0));
        assert_eq!(main(&format!("{long}\n{long} {long}")), Some(1));
        assert_eq!(main("a b c"), Some(0));
        assert_eq!(main("a b c\nd"), None);
        assert_eq!(main(&[long.as_str(), long.as_str(), long.as_str()].join("\n")), None);
    }

    #[test]
    fn a_doubtful_line_does_not_stand_in_for_the_title() {
        let nth = |noise: &[f64]| {
            let verdict = |noise_probability: &f64| RoleVerdict {
                is_noise: *noise_probability > 0.5,
                noise_probability: *noise_probability,
                ..RoleVerdict::body(Passage { range: 0..1, line: 0 })
            };
            headline(&noise.iter().map(verdict).collect::<Vec<_>>())
        };
        // Noise isn't counted: the line behind the doubtful one is the second of the body.
        assert_eq!([nth(&[0.9, 0.4, 0.9, 0.1, 0.0]), nth(&[0.1, 0.0]), nth(&[0.9, 0.4, 0.3]), nth(&[])], [1, 0, 0, 0]);
    }

    #[test]
    fn a_few_doubtful_words_in_a_list_are_no_article() {
        let are_scraps_of = |words: usize, lines: usize, doubt: f64, kind: &str| {
            let text = format!("a\nb\nc\nd\ne\n{}", "mot ".repeat(words));
            with_page(&text, |page, mut verdicts| {
                for verdict in &mut verdicts[..lines] {
                    (verdict.is_noise, verdict.kind) = (true, kind.into());
                }
                verdicts[lines..].iter_mut().for_each(|verdict| verdict.noise_probability = doubt);
                are_scraps(page, &verdicts)
            })
        };
        assert!(are_scraps_of(19, 5, 0.1, "menu"));
        assert!(!are_scraps_of(20, 5, 0.1, "menu"), "long enough");
        assert!(!are_scraps_of(18, 4, 0.1, "menu"), "hardly a list");
        assert!(!are_scraps_of(19, 5, 0.09, "menu"), "without doubt");
        assert!(!are_scraps_of(19, 5, 0.1, REPEATED), "the same again is no list");
    }

    #[test]
    fn scraps_are_given_the_kind_of_noise_that_they_are_likest() {
        let role = crate::model::fixture::model().role.unwrap();
        let answer = |title: &str, text: &str| {
            let mut reading = Reading::default();
            let title = reading.read(title);
            passages(Some(&role), &mut RoleScratch::default(), &mut reading, (title, text)).0
        };
        let verdicts = answer("", "menu a\nmenu b\nmenu c\nmenu d\nmenu e\nUn accord");
        assert!(verdicts.iter().all(|verdict| verdict.is_noise && verdict.kind == "menu"));
        assert!(verdicts[0].noise_probability < 1.0 && verdicts[5].noise_probability == 1.0);
        assert!(!answer("Le titre", "menu a\nmenu b\nmenu c\nmenu d\nmenu e\nUn accord")[5].is_noise);
    }
}
