//! Body or noise: what each passage of a page is.
//!
//! A head over the passage's words and [shape](crate::features::shape) gives each passage its kind. Two rules stand
//! beside it:
//!
//! - *Repeated.* A passage whose words an earlier body passage has in the same order is noise of its own kind. This is
//!   seen, not learnt.
//! - *The main passage.* Many collectors deliver an article as one long line. A passage that stands alone, or that is
//!   long and holds at least half of the page's words, is noise only above [`RoleHead::main_threshold`], which is close
//!   to 1: one wrong verdict must not lose an article.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::fast::FixedState;

use super::head::{Head, greatest};
use crate::features::shape::Shapes;
use crate::features::{Document, Scratch, Space};
use crate::page::{self, Passage};
use crate::terms::Reader;

/// The kind of article passages, in marked pages and in answers.
pub const BODY: &str = "body";

/// The kind of passages that are noise because they stood before.
pub const REPEATED: &str = "repeated";

/// Words from which a passage can be a page's main passage.
const MAIN_WORDS: usize = 40;

/// The head that tells article from noise, and its features.
#[derive(Debug, Clone)]
pub struct RoleHead {
    /// Features of a passage.
    pub space: Space,
    /// Kinds of passages; [`BODY`] is one of them, [`REPEATED`] is not.
    pub head: Head,
    /// A passage is noise where its probability to be noise is greater than this.
    pub threshold: f64,
    /// The same for the main passage: one that stands alone, or is long and holds at least half of the page's words.
    pub main_threshold: f64,
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
}

impl RoleHead {
    /// A verdict on each of the `passages` of the page `text`.
    #[must_use]
    pub fn judge(&self, scratch: &mut Scratch, text: &str, passages: Vec<Passage>) -> Vec<RoleVerdict> {
        let shapes = Shapes::new(text, &passages);
        let bias = self.head.bias_with(&self.head.priors);
        let main = main_passage(text, &passages);
        let mut verdicts: Vec<(String, f64, bool)> = Vec::with_capacity(passages.len());
        for (at, passage) in passages.iter().enumerate() {
            let mut document = Document::passage(text, passage.range.clone());
            document.shape = shapes.terms(at);
            let sums = self.head.sums(self.space.vector(scratch, &document));
            let logits: Vec<f64> = sums.iter().zip(&bias).map(|(sum, bias)| sum + bias).collect();
            let mut probabilities = self.head.probabilities(&logits);
            let body = self.body();
            let noise_probability = (1.0 - probabilities[body]).clamp(0.0, 1.0);
            let threshold = if main == Some(at) { self.main_threshold } else { self.threshold };
            let is_noise = noise_probability > threshold;
            if is_noise {
                probabilities[body] = 0.0;
            }
            let kind = if is_noise { greatest(&probabilities) } else { body };
            verdicts.push((self.head.labels[kind].clone(), noise_probability, is_noise));
        }
        let mut verdicts: Vec<RoleVerdict> = passages
            .into_iter()
            .zip(verdicts)
            .map(|(passage, (kind, noise_probability, is_noise))| RoleVerdict { passage, is_noise, kind, noise_probability })
            .collect();
        mark_repeated(text, &mut verdicts);
        verdicts
    }

    /// The index of [`BODY`] among the labels.
    fn body(&self) -> usize {
        self.head.labels.iter().position(|label| label == BODY).unwrap_or(0)
    }
}

/// Cuts the page `text` and judges its passages; without a role head every passage is body.
#[must_use]
pub fn passages(role: Option<&RoleHead>, scratch: &mut Scratch, text: &str) -> Vec<RoleVerdict> {
    let passages = page::split(text);
    match role {
        Some(role) => role.judge(scratch, text, passages),
        None => passages.into_iter().map(RoleVerdict::body).collect(),
    }
}

/// The ranges of the body passages.
pub fn body(verdicts: &[RoleVerdict]) -> impl Iterator<Item = Range<usize>> {
    verdicts.iter().filter(|verdict| !verdict.is_noise).map(|verdict| verdict.passage.range.clone())
}

/// The only passage, or that which holds at least half of the page's words where it is long enough to be an article.
fn main_passage(text: &str, passages: &[Passage]) -> Option<usize> {
    if passages.len() == 1 {
        return Some(0);
    }
    let mut reader = Reader::default();
    let counts: Vec<usize> = passages
        .iter()
        .map(|passage| {
            let mut words = 0;
            reader.read(passage.text(text), |_| words += 1);
            words
        })
        .collect();
    let total: usize = counts.iter().sum();
    counts.iter().position(|words| *words >= MAIN_WORDS && 2 * words >= total)
}

/// Makes noise of body passages whose words an earlier body passage has.
fn mark_repeated(text: &str, verdicts: &mut [RoleVerdict]) {
    let hasher = FixedState::with_seed(0);
    let mut reader = Reader::default();
    let mut seen = HashSet::new();
    for verdict in verdicts.iter_mut().filter(|verdict| !verdict.is_noise) {
        let mut words = 0;
        let mut key = 0_u64;
        reader.read(verdict.passage.text(text), |word| {
            words += 1;
            key = hasher.hash_one((key, word.text()));
        });
        if words > 0 && !seen.insert(key) {
            REPEATED.clone_into(&mut verdict.kind);
            verdict.is_noise = true;
            verdict.noise_probability = 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_paragraph_is_body_once() {
        let text = "Un accord a été signé.\nAutre chose.\nUn accord a été signé !\n–\n–";
        let mut verdicts: Vec<RoleVerdict> = page::split(text).into_iter().map(RoleVerdict::body).collect();
        mark_repeated(text, &mut verdicts);
        let noise: Vec<bool> = verdicts.iter().map(|verdict| verdict.is_noise).collect();
        assert_eq!(noise, [false, false, true, false, false]);
        assert_eq!(verdicts[2].kind, REPEATED);
    }

    #[test]
    fn a_repetition_of_noise_is_left_to_the_head() {
        let text = "Un titre\nUn titre\nUn titre";
        let mut verdicts: Vec<RoleVerdict> = page::split(text).into_iter().map(RoleVerdict::body).collect();
        verdicts[0].is_noise = true;
        mark_repeated(text, &mut verdicts);
        assert_eq!(verdicts.iter().map(|verdict| verdict.is_noise).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn the_main_passage_holds_half_of_the_words() {
        let long = "mot ".repeat(40);
        assert_eq!(main_passage(&format!("{long}\na b c"), &page::split(&format!("{long}\na b c"))), Some(0));
        assert_eq!(main_passage(&format!("{long}\n{long} {long}"), &page::split(&format!("{long}\n{long} {long}"))), Some(1));
        assert_eq!(main_passage("a b c", &page::split("a b c")), Some(0));
        assert_eq!(main_passage("a b c\nd", &page::split("a b c\nd")), None);
        let three = [long.as_str(), long.as_str(), long.as_str()].join("\n");
        assert_eq!(main_passage(&three, &page::split(&three)), None);
    }
}
