//! A search for a head's C and class weights, by cross-validation over groups.
//!
//! Every point of a grid is fitted on the folds that calibration uses, which share features. Each fit begins at zero: from the point with the C before it would be
//! found sooner, but the greater C is, the less of the penalty the solver's tolerance lets it see, and of a large one it would make a copy of the
//! one before. The head that is kept is the one that its settings give without a search.
//!
//! **Scores.** A fold is scored as the model would answer: at the temperature that the other folds give, with equal priors. (Without a
//! temperature a large C looks worse than it is: its logits are too large, which calibration heals.) *Log loss* is the mean over the labels
//! of the mean of −ln p(label) over the label's rows, so that each label counts the same, as it does in macro-F1 and as the priors
//! say. With class weights of whatever kind, biases are for equally frequent labels, so points differ by what they learnt,
//! not by how frequent they take labels to be.
//!
//! **Rule.** The log loss decides, since it is proper and uses every row's probability, where macro-F1 sees only the rows whose label
//! changes and jumps with them. Of the points within one standard error of the lowest the simplest is chosen (Breiman, Friedman, Olshen
//! & Stone 1984, section 3.4.3): the least C; of equals, the class weights that come first in [`ClassWeights::ALL`]. The standard error is that of the
//! difference to the lowest on the same folds: some folds are harder than others for all points, which tells nothing of their order. Folds
//! share articles to learn from, so that a standard error over them is too small rather than too large (Bengio & Grandvalet 2004); it
//! is a measure for ties, no test.

use ndarray::{Axis, concatenate};
use rayon::prelude::*;

use super::Progress;
use super::corpus::CorpusError;
use super::fit::{Fit, Fold, Rows, scores};
use super::run::{TrainError, TrainParams};
use super::solver::LinearModel;
use crate::model::{ClassWeights, HeadScores, HeadSettings, OutOfFold, calibration};

/// The points that are tried: each C with each choice of class weights.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchParams {
    /// Values of C, in any order; each greater than zero.
    pub cs: Vec<f64>,
    /// Choices of class weights.
    pub class_weights: Vec<ClassWeights>,
}

impl Default for SearchParams {
    fn default() -> Self {
        Self { cs: vec![1.0, 10.0, 100.0, 1000.0], class_weights: vec![ClassWeights::Balanced, ClassWeights::None] }
    }
}

/// Mean and spread of a score over folds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation over folds, with one degree of freedom less.
    pub deviation: f64,
}

/// A point of the grid, with its scores on articles held out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// C.
    pub c: f64,
    /// Class weights.
    pub class_weights: ClassWeights,
    /// Log loss in nats, each label counting the same.
    pub log_loss: Spread,
    /// How much the log loss is above the lowest: the mean over folds, and its standard error.
    pub above: (f64, f64),
    /// Unweighted mean of the labels' F1.
    pub macro_f1: Spread,
    /// Expected calibration error of the winning probability.
    pub calibration_error: Spread,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// All points: for each choice of class weights, C ascending.
    pub points: Vec<Point>,
    /// The index of the point chosen.
    pub chosen: usize,
    /// Folds that points were scored on.
    pub folds: usize,
    /// Iterations of the solver over all points and folds.
    pub iterations: u64,
}

/// A side of the grid on which the best C may lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Edge {
    /// The least C that was tried is simple enough to be chosen; a lesser one may be too.
    Below(f64),
    /// The greatest C that was tried has the lowest log loss; a greater one may have a lower.
    Above(f64),
}

/// Scores of a point on one fold.
#[derive(Debug, Clone, Copy)]
struct Scores {
    log_loss: f64,
    macro_f1: f64,
    calibration_error: f64,
}

impl SearchParams {
    /// The number of points.
    #[must_use]
    pub fn points(&self) -> usize {
        self.cs.len() * self.class_weights.len()
    }

    /// The same points in ascending order.
    ///
    /// # Errors
    ///
    /// [`TrainError::Setting`], when a C is out of its range, a value appears twice, or there is none.
    pub(super) fn check(&self) -> Result<Self, TrainError> {
        let fail = |reason: String| Err(TrainError::Setting(format!("search: {reason}")));
        if self.points() == 0 {
            return fail("no point to try; at least one C and one choice of class weights are needed".into());
        }
        if let Some(c) = self.cs.iter().find(|c| !(c.is_finite() && **c > 0.0)) {
            return fail(format!("C is {c}; it must be a number above zero"));
        }
        let Self { mut cs, mut class_weights } = self.clone();
        cs.sort_by(f64::total_cmp);
        class_weights.sort_by_key(|weights| rank(*weights));
        if let Some(twice) = cs.windows(2).find(|pair| pair[0] >= pair[1]) {
            return fail(format!("C {} appears twice", twice[0]));
        }
        if let Some(twice) = class_weights.windows(2).find(|pair| pair[0] == pair[1]) {
            return fail(format!("class weights {} appear twice", twice[0]));
        }
        Ok(Self { cs, class_weights })
    }
}

impl Search {
    /// The settings that were chosen.
    #[must_use]
    pub fn settings(&self) -> HeadSettings {
        let Point { c, class_weights, .. } = self.points[self.chosen];
        HeadSettings { c, class_weights, chosen_from: Some(self.points.len() as u64) }
    }

    /// Where a C that was not tried may do as well or better; none where values on both sides of the best were tried, or a single one.
    #[must_use]
    pub fn edge(&self) -> Option<Edge> {
        let cs = || self.points.iter().map(|point| point.c);
        let (least, greatest) = (cs().fold(f64::INFINITY, f64::min), cs().fold(0.0, f64::max));
        // Nothing is above itself.
        let is_lowest = |point: &&Point| point.above.0 <= 0.0;
        if least >= greatest {
            None
        } else if self.points[self.chosen].c <= least {
            Some(Edge::Below(least))
        } else if self.points.iter().filter(is_lowest).any(|point| point.c >= greatest) {
            Some(Edge::Above(greatest))
        } else {
            None
        }
    }
}

/// The place of class weights among all.
fn rank(weights: ClassWeights) -> usize {
    ClassWeights::ALL.iter().position(|other| *other == weights).unwrap_or(ClassWeights::ALL.len())
}

/// Tries all points of `grid` for the head of `rows`.
///
/// # Errors
///
/// [`TrainError`], when there are not two folds to compare on, or the solver stops short of a minimum.
pub(super) fn search(
    params: &TrainParams,
    grid: &SearchParams,
    rows: &Rows<'_>,
    progress: &dyn Progress,
) -> Result<Search, TrainError> {
    let grid = grid.check()?;
    let folds: Vec<Fold> = rows.folds(params).collect();
    if folds.len() < 2 {
        let head = rows.head;
        return Err(CorpusError::Unusable(format!(
            "search: fewer than two folds leave every label of the {head} head a row to be fitted on; more groups are needed"
        ))
        .into());
    }
    progress.pieces(&format!("searching settings of the {} head", rows.head), grid.points() * folds.len());
    let points: Vec<(f64, ClassWeights)> =
        grid.class_weights.iter().flat_map(|weights| grid.cs.iter().map(|c| (*c, *weights))).collect();
    let scales = folds.iter().map(|fold| rows.scales(&fold.kept)).collect::<Result<Vec<_>, _>>();
    let scales = scales.map_err(|source| rows.unsolved(params, source))?;
    let solver = |(c, class_weights): &(f64, ClassWeights)| {
        rows.solver(params, &HeadSettings { c: *c, class_weights: *class_weights, chosen_from: None })
    };
    let solvers = points.iter().map(solver).collect::<Result<Vec<_>, _>>().map_err(|source| rows.unsolved(params, source))?;
    let of_point = |solver| folds.iter().zip(&scales).map(move |(fold, scales)| Fit::of_fold(solver, fold, scales));
    let fits: Vec<Fit<'_>> = solvers.iter().flat_map(of_point).collect();
    let predict = |fit: &Fit<'_>, model: LinearModel| {
        let predicted = rows.predict(&model, fit.held_out)?;
        progress.advance();
        Ok((model.iterations, predicted))
    };
    let predicted: Vec<(u64, OutOfFold)> =
        rows.fit_each(params, &fits, predict).map_err(|source| rows.unsolved(params, source))?;
    let iterations = predicted.iter().map(|(iterations, _)| iterations).sum();
    let scores: Vec<Vec<Scores>> = predicted
        .par_chunks(folds.len())
        .with_max_len(1)
        .map(|of_point| score(&of_point.iter().map(|(_, predicted)| predicted).collect::<Vec<_>>(), &rows.labels))
        .collect();
    Ok(Search { iterations, folds: folds.len(), ..choose(&points, &scores) })
}

/// The scores of each fold, at the temperature of the others.
fn score(folds: &[&OutOfFold], labels: &[String]) -> Vec<Scores> {
    let of = |(at, fold): (usize, &&OutOfFold)| {
        let others: Vec<&OutOfFold> =
            folds.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, other)| *other).collect();
        let logits: Vec<_> = others.iter().map(|other| other.logits.view()).collect();
        let others = OutOfFold {
            // All have as many columns as there are labels.
            logits: concatenate(Axis(0), &logits).unwrap_or_default(),
            labels: others.iter().flat_map(|other| other.labels.iter().copied()).collect(),
        };
        let temperature = calibration::temperature(&others);
        let HeadScores { macro_f1, calibration_error, .. } = scores(fold, temperature, labels);
        Scores { log_loss: log_loss(fold, temperature), macro_f1, calibration_error }
    };
    folds.iter().enumerate().map(of).collect()
}

/// The mean over the labels that occur of the mean of −ln p(label) over the rows that have it, in nats.
fn log_loss(predicted: &OutOfFold, temperature: f64) -> f64 {
    let mut labels = vec![(0.0, 0_u32); predicted.logits.ncols()];
    for (logits, label) in predicted.logits.rows().into_iter().zip(&predicted.labels) {
        let scaled: Vec<f64> = logits.iter().map(|logit| f64::from(*logit) / temperature).collect();
        // From the greatest down, so that neither a sum overflows nor a probability becomes zero.
        let greatest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scaled.iter().map(|logit| libm::exp(logit - greatest)).sum();
        let label = *label as usize;
        labels[label].0 += libm::log(sum) + greatest - scaled[label];
        labels[label].1 += 1;
    }
    let means: Vec<f64> = labels.iter().filter(|(_, rows)| *rows > 0).map(|(sum, rows)| sum / f64::from(*rows)).collect();
    mean(&means)
}

/// Marks the point that the module's rule chooses, given the scores of each on each fold.
fn choose(points: &[(f64, ClassWeights)], scores: &[Vec<Scores>]) -> Search {
    let losses: Vec<Vec<f64>> = scores.iter().map(|folds| folds.iter().map(|scores| scores.log_loss).collect()).collect();
    let lowest = (0..points.len()).min_by(|left, right| mean(&losses[*left]).total_cmp(&mean(&losses[*right]))).unwrap_or(0);
    let points: Vec<Point> = points
        .iter()
        .zip(scores)
        .zip(&losses)
        .map(|(((c, class_weights), scores), own)| {
            let differences: Vec<f64> = own.iter().zip(&losses[lowest]).map(|(own, lowest)| own - lowest).collect();
            let Spread { mean, deviation } = spread(&differences);
            let of = |score: &dyn Fn(&Scores) -> f64| spread(&scores.iter().map(score).collect::<Vec<_>>());
            Point {
                c: *c,
                class_weights: *class_weights,
                log_loss: spread(own),
                above: (mean, deviation / libm::sqrt(count(&differences))),
                macro_f1: of(&|scores| scores.macro_f1),
                calibration_error: of(&|scores| scores.calibration_error),
            }
        })
        .collect();
    let close = (0..points.len()).filter(|at| points[*at].above.0 <= points[*at].above.1);
    let simplest = close.min_by(|left, right| {
        let (left, right) = (&points[*left], &points[*right]);
        left.c.total_cmp(&right.c).then(rank(left.class_weights).cmp(&rank(right.class_weights)))
    });
    Search { points, chosen: simplest.unwrap_or(lowest), folds: 0, iterations: 0 }
}

#[expect(clippy::cast_precision_loss, reason = "folds and labels are few")]
fn count(values: &[f64]) -> f64 {
    values.len() as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / count(values)
}

/// Mean and standard deviation; of a single value the deviation is zero.
fn spread(values: &[f64]) -> Spread {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    Spread { mean, deviation: libm::sqrt(squares / (count(values) - 1.0).max(1.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn losses(points: &[(f64, ClassWeights, [f64; 4])]) -> Search {
        let of = |log_loss: &f64| Scores { log_loss: *log_loss, macro_f1: 0.5, calibration_error: 0.0 };
        let scores: Vec<Vec<Scores>> = points.iter().map(|(_, _, folds)| folds.iter().map(of).collect()).collect();
        choose(&points.iter().map(|(c, weights, _)| (*c, *weights)).collect::<Vec<_>>(), &scores)
    }

    const BALANCED: ClassWeights = ClassWeights::Balanced;
    const NONE: ClassWeights = ClassWeights::None;

    #[test]
    fn a_point_that_is_worse_on_every_fold_is_not_taken_however_much_folds_differ() {
        // Standard deviation over folds: 0.129. Each fold is 0.01 lower at C = 10.
        let found = losses(&[(1.0, BALANCED, [0.11, 0.21, 0.31, 0.41]), (10.0, BALANCED, [0.1, 0.2, 0.3, 0.4])]);
        assert_eq!(found.chosen, 1);
        assert!((found.points[0].above.0 - 0.01).abs() < 1e-12 && found.points[0].above.1 < 1e-12);
        assert!((found.points[1].log_loss.mean - 0.25).abs() < 1e-12);
        // √((0.15² + 0.05²) · 2 / 3)
        assert!((found.points[1].log_loss.deviation - 0.129_099_444_873_580_56).abs() < 1e-12);
    }

    #[test]
    fn of_points_within_a_standard_error_the_least_c_is_taken_then_balanced_weights() {
        // Differences to the lowest: 0.03, −0.01, 0.03, −0.01: mean 0.01, deviation √(4 · 0.02² / 3) = 0.0231, standard error half of it.
        let near = [0.33, 0.29, 0.33, 0.29];
        let lowest = [0.3; 4];
        let far = [0.4; 4];
        let found = losses(&[(1.0, NONE, far), (10.0, NONE, near), (100.0, NONE, lowest), (1000.0, NONE, near)]);
        assert_eq!(found.chosen, 1);
        assert!((found.points[1].above.1 - 0.011_547_005_383_792_515).abs() < 1e-12);
        assert_eq!(losses(&[(10.0, NONE, near), (10.0, BALANCED, near), (100.0, BALANCED, lowest)]).chosen, 1);
        // A little further off, and it is not.
        assert_eq!(losses(&[(10.0, NONE, near.map(|loss| loss + 0.002)), (100.0, NONE, lowest)]).chosen, 1);
    }

    #[test]
    fn a_best_c_at_the_edge_of_the_grid_is_told() {
        let (low, high) = ([0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.5]);
        assert_eq!(losses(&[(1.0, NONE, low), (10.0, NONE, high)]).edge(), Some(Edge::Below(1.0)));
        assert_eq!(losses(&[(1.0, NONE, high), (10.0, NONE, low)]).edge(), Some(Edge::Above(10.0)));
        assert_eq!(losses(&[(1.0, NONE, high), (10.0, NONE, low), (100.0, NONE, high)]).edge(), None);
        assert_eq!(losses(&[(10.0, BALANCED, low), (10.0, NONE, high)]).edge(), None);
        // The lowest is the greatest, though a lesser one is as good and chosen: 0.01 ± 0.0115, as above.
        let near = [0.33, 0.29, 0.33, 0.29];
        let found = losses(&[(1.0, NONE, [0.9; 4]), (10.0, NONE, near), (100.0, NONE, [0.3; 4])]);
        assert_eq!((found.chosen, found.edge()), (1, Some(Edge::Above(100.0))));
    }

    #[test]
    fn every_label_counts_the_same_in_the_log_loss() {
        // p(label): 3/4 three times, then 1/4; at temperature 2 the logits are halved.
        let ln3 = 3.0_f64.ln() as f32;
        let predicted = OutOfFold {
            logits: array![[2.0 * ln3, 0.0], [2.0 * ln3, 0.0], [2.0 * ln3, 0.0], [2.0 * ln3, 0.0]],
            labels: vec![0, 0, 0, 1],
        };
        let expected = f64::midpoint(-(0.75_f64.ln()), -(0.25_f64.ln()));
        assert!((log_loss(&predicted, 2.0) - expected).abs() < 1e-6);
        // A label that does not occur does not count, and a hopeless row is finite.
        let hopeless = OutOfFold { logits: array![[4000.0, 0.0]], labels: vec![1] };
        assert!((log_loss(&hopeless, 1.0) - 4000.0).abs() < 1e-9);
    }

    #[test]
    fn grids_are_put_in_order_and_wrong_ones_refused() {
        let grid = |cs: &[f64], class_weights: &[ClassWeights]| {
            SearchParams { cs: cs.to_vec(), class_weights: class_weights.to_vec() }.check().map_err(|error| error.to_string())
        };
        let ordered = grid(&[10.0, 1.0], &[NONE, BALANCED]).unwrap();
        assert_eq!(ordered, SearchParams { cs: vec![1.0, 10.0], class_weights: vec![BALANCED, NONE] });
        let refused = |cs: &[f64], class_weights: &[ClassWeights]| grid(cs, class_weights).unwrap_err();
        assert_eq!(refused(&[1.0, -2.0], &[NONE]), "search: C is -2; it must be a number above zero");
        assert_eq!(refused(&[f64::INFINITY], &[NONE]), "search: C is inf; it must be a number above zero");
        assert_eq!(refused(&[10.0, 1.0, 10.0], &[NONE]), "search: C 10 appears twice");
        assert_eq!(refused(&[1.0], &[NONE, NONE]), "search: class weights none appear twice");
        assert!(refused(&[], &[NONE]).contains("no point to try"));
    }
}
