//! Comparing labels with the truth: precision, recall, F1, calibration error, and bootstrap intervals.
//!
//! Conventions: where nothing was predicted (or nothing is true) precision (or recall) is 0. Macro-F1 is the unweighted
//! mean over the labels that occur in the truth. The expected calibration error cuts the winning probabilities into 15
//! equal bins, and weighs the difference of mean probability and accuracy in each by its share of the articles (Guo et
//! al. 2017, equation 3). Intervals are the 2.5th and 97.5th percentile of macro-F1 over 1,000 resamples of the
//! articles, drawn with the Mersenne Twister as Python's `random.Random(0).randrange` draws them, so that the figures can be
//! checked with a few lines of Python.

use std::collections::BTreeSet;

use rand_mt::Mt;
use serde::Serialize;

/// Bins of the calibration error.
const BINS: usize = 15;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 1000;

/// An article's true label beside what was predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome<'a> {
    /// The true label.
    pub gold: &'a str,
    /// The label predicted; nothing where none was given, which counts as wrong.
    pub predicted: Option<&'a str>,
    /// The probability of the label predicted.
    pub probability: f64,
}

/// How well one label is told from the others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelScores {
    /// The label.
    pub label: String,
    /// Share of the articles said to have it that have it.
    pub precision: f64,
    /// Share of the articles that have it that were said to.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Articles that have it.
    pub support: usize,
}

/// Scores of one head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Unweighted mean of the F1 of the labels that occur.
    pub macro_f1: f64,
    /// Share of the articles that got their label.
    pub accuracy: f64,
    /// For each label its scores, in the order given.
    pub labels: Vec<LabelScores>,
    /// Expected calibration error of the winning probability.
    pub calibration_error: f64,
    /// For each label, in that order, how often each was predicted for it, and last how often none was.
    pub confusion: Vec<Vec<usize>>,
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 articles")]
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Scores `outcomes`; `labels` gives the order of the report, and labels missing from it follow sorted.
#[must_use]
pub fn report(outcomes: &[Outcome<'_>], labels: &[&str]) -> Report {
    let (order, pairs) = pairs(outcomes, labels);
    let confusion = confusion(pairs.iter().copied(), order.len());
    let labels = order.iter().enumerate().map(|(at, label)| label_scores(label, at, &confusion)).collect();
    let right = (0..order.len()).map(|at| confusion[at][at]).sum();
    Report {
        macro_f1: macro_f1(&confusion),
        accuracy: ratio(right, pairs.len()),
        labels,
        calibration_error: calibration_error(outcomes),
        confusion,
    }
}

/// All labels in the order of a report, and for each outcome the indices of its labels; of no label, their number.
fn pairs<'a>(outcomes: &[Outcome<'a>], labels: &[&'a str]) -> (Vec<&'a str>, Vec<(usize, usize)>) {
    let mut order: Vec<&str> = labels.to_vec();
    let others: BTreeSet<&str> = outcomes
        .iter()
        .flat_map(|outcome| std::iter::once(outcome.gold).chain(outcome.predicted))
        .filter(|label| !labels.contains(label))
        .collect();
    order.extend(others);
    let index = |label: &str| order.iter().position(|other| *other == label).unwrap_or(order.len());
    let pairs = outcomes.iter().map(|outcome| (index(outcome.gold), outcome.predicted.map_or(order.len(), index))).collect();
    (order, pairs)
}

fn confusion(pairs: impl Iterator<Item = (usize, usize)>, labels: usize) -> Vec<Vec<usize>> {
    let mut counts = vec![vec![0; labels + 1]; labels];
    pairs.for_each(|(gold, predicted)| counts[gold][predicted] += 1);
    counts
}

fn label_scores(label: &str, at: usize, confusion: &[Vec<usize>]) -> LabelScores {
    let hit = confusion[at][at];
    let said: usize = confusion.iter().map(|row| row[at]).sum();
    let support: usize = confusion[at].iter().sum();
    let (precision, recall) = (ratio(hit, said), ratio(hit, support));
    let f1 = if hit == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
    LabelScores { label: label.to_owned(), precision, recall, f1, support }
}

fn macro_f1(confusion: &[Vec<usize>]) -> f64 {
    let scores = (0..confusion.len()).map(|at| label_scores("", at, confusion)).filter(|scores| scores.support > 0);
    let f1: Vec<f64> = scores.map(|scores| scores.f1).collect();
    let sum: f64 = f1.iter().sum();
    if f1.is_empty() { 0.0 } else { sum / f64::from(u32::try_from(f1.len()).unwrap_or(u32::MAX)) }
}

/// The 95 % interval of macro-F1; (0, 0) without outcomes. Scores them 1,000 times.
#[must_use]
pub fn interval(outcomes: &[Outcome<'_>]) -> (f64, f64) {
    let (order, pairs) = pairs(outcomes, &[]);
    let labels = order.len();
    if pairs.is_empty() {
        return (0.0, 0.0);
    }
    let mut random = Mt::new_with_key([0]);
    let mut scores: Vec<f64> = (0..RESAMPLES)
        .map(|_| macro_f1(&confusion((0..pairs.len()).map(|_| pairs[below(&mut random, pairs.len())]), labels)))
        .collect();
    scores.sort_by(f64::total_cmp);
    (scores[RESAMPLES * 25 / 1000], scores[RESAMPLES * 975 / 1000 - 1])
}

/// A number below `limit`, as Python's `randrange` draws it: as many bits as the limit has, again until it fits.
fn below(random: &mut Mt, limit: usize) -> usize {
    let bits = (usize::BITS - limit.leading_zeros()).min(32);
    loop {
        let drawn = (random.next_u32() >> (32 - bits)) as usize;
        if drawn < limit {
            return drawn;
        }
    }
}

/// The expected calibration error of the winning probability; 0 without outcomes.
#[must_use]
pub fn calibration_error(outcomes: &[Outcome<'_>]) -> f64 {
    let mut bins = [(0.0, 0_u32); BINS];
    for outcome in outcomes {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a probability times 15"
        )]
        let bin = ((outcome.probability * BINS as f64) as usize).min(BINS - 1);
        bins[bin].0 += outcome.probability;
        bins[bin].1 += u32::from(outcome.predicted == Some(outcome.gold));
    }
    let sum: f64 = bins.iter().map(|(probability, right)| (probability - f64::from(*right)).abs()).sum();
    if outcomes.is_empty() { 0.0 } else { sum / f64::from(u32::try_from(outcomes.len()).unwrap_or(u32::MAX)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(gold: &'static str, predicted: Option<&'static str>, probability: f64) -> Outcome<'static> {
        Outcome { gold, predicted, probability }
    }

    #[test]
    fn scores_by_hand() {
        let outcomes = [
            outcome("a", Some("a"), 0.9),
            outcome("a", Some("b"), 0.6),
            outcome("b", Some("b"), 0.7),
            outcome("b", None, 0.0),
            outcome("b", Some("b"), 0.95),
        ];
        let report = report(&outcomes, &["a", "b", "never"]);
        let rows: Vec<_> = report.labels.iter().map(|row| (row.precision, row.recall, row.support)).collect();
        assert_eq!(rows, [(1.0, 0.5, 2), (2.0 / 3.0, 2.0 / 3.0, 3), (0.0, 0.0, 0)]);
        // F1: 2/3 and 2/3; the label that never occurs does not count.
        assert!((report.macro_f1 - 2.0 / 3.0).abs() < 1e-12);
        assert!((report.accuracy - 0.6).abs() < 1e-12);
        assert_eq!(report.confusion, [[1, 1, 0, 0], [0, 2, 0, 1], [0, 0, 0, 0]]);
    }

    #[test]
    fn calibration_error_by_hand() {
        // 15 · 0.9 = 13.5 and 15 · 0.91 = 13.65 are in one bin, 15 · 0.95 = 14.25 in the next.
        let outcomes = [outcome("a", Some("a"), 0.9), outcome("a", Some("b"), 0.91), outcome("a", Some("a"), 0.95)];
        // Bin 13: |0.9 + 0.91 - 1| = 0.81; bin 14: |0.95 - 1| = 0.05; over three articles.
        assert!((calibration_error(&outcomes) - 0.86 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn draws_as_python_does() {
        // python3 -c "import random; r = random.Random(0); print([r.randrange(534) for _ in range(8)])"
        let mut random = Mt::new_with_key([0]);
        let drawn: Vec<usize> = (0..8).map(|_| below(&mut random, 534)).collect();
        assert_eq!(drawn, PYTHON);
    }

    const PYTHON: [usize; 8] = [394, 430, 41, 265, 523, 497, 414, 310];
}
