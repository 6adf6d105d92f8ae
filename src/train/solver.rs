//! Multinomial logistic regression for sparse rows, behind linfa's traits.
//!
//! Minimised is  C · Σ s(i) · loss(i) + ½ ‖w‖²  with loss(i) = −ln softmax(W x(i) + b)[label(i)] and the weights s(i) of
//! [`ClassWeights`], by default balanced, s(i) = n / (k · n(label(i))); the intercept b is free. That is scikit-learn's objective; it is divided by
//! C · Σ s(i), as there, so that the tolerance on the gradient means the same for any size of data. For two labels the
//! binomial objective with one weight vector is minimised; it equals the multinomial one at half the C.
//!
//! The minimum is a model of labels that are as frequent as their rows weigh: label c has the share π(c) of Σ s(i). Its intercept is returned
//! less ln(k · π(c)), which by Bayes' rule makes it a model of equally frequent labels (Saerens, Latinne & Decaestecker 2002,
//! equation 2.4; for the intercept alone, King & Zeng 2001, section 4.1). With balanced weights that is zero.
//!
//! Columns can have [scales](SparseRows::scales): the penalty is then on the weights of the scaled columns, which is a penalty of its
//! own for each column.
//!
//! [L-BFGS](super::lbfgs) runs until no component of the gradient is greater than the tolerance, as scikit-learn's `tol` has it. Stopping short of it
//! is an error: on TF-IDF features a loose solution is a bad one.
//!
//! The search is one for the weights: the biases are at each place those that fit it best.
//!
//! Each evaluation reads every row twice: for its logits, and for what they add to the gradient. Models of much the same rows, as those of folds are, are
//! [fitted together](fit_together): a row that is read is read for all of them. Sums over rows are taken in blocks
//! of fixed bounds and added in their order, so that the result is the same to the last bit on any number of threads, and whatever is fitted beside it. They have
//! weights and sums in single precision, until the tolerance is met or no step makes the loss smaller; where it is not met, they go on in double.

mod bias;
mod loss;

use std::io;

use linfa::ParamGuard;
use linfa::dataset::{DatasetBase, Records};
use linfa::traits::{Fit, PredictInplace};
use ndarray::{Array1, Array2};
use rayon::prelude::*;

use self::loss::{BLOCK_ROWS, BLOCKS, Losses, Place};
use super::lbfgs::{Descent, Limits, Minimum};
use super::products::{self, Real};
use crate::features::SparseRows;
use crate::model::ClassWeights;
use crate::model::head::argmax;

/// The greatest component that a gradient may have in the end, if nothing else is said. On magazine articles of two labels it leaves the loss a thousandth above its minimum, and
/// temperatures of calibration less than a hundredth from theirs. With 1e-5 it would be three hundredths: the bias, whose component is the last to become small
/// where it is sought like the weights, is always where it fits best here.
pub const TOLERANCE: f64 = 3e-6;

/// The least tolerance that is sought with single precision in the loops over rows. What it rounds away of a gradient is a tenth of this or less, for rows of a norm
/// of about 1.
const SINGLE: f64 = TOLERANCE;

/// Weights of a column that are worth reading a row for once.
const MOST_WEIGHTS: usize = 8;

/// Weights of all columns that are: beyond that, they crowd one another out of the caches. With 219,000 columns, four models at once took two thirds of the time of one after
/// the other, and eight as long as these.
const MOST_REALS: usize = 1 << 20;

/// Bytes that fitting a model takes for each of its parameters, about: steps that are remembered, places and gradients, and sums of blocks.
const BYTES: u64 = 300;

/// Bytes for each of its rows and labels: the logit, and the derivative by it.
const ROW_BYTES: usize = 16;

/// Bytes for each of its rows: how much it weighs.
const WEIGHT_BYTES: usize = 12;

/// Settings that are not checked yet.
#[derive(Debug, Clone)]
pub struct LogisticParams(ValidLogisticParams);

/// Settings of the solver.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidLogisticParams {
    c: f64,
    labels: usize,
    class_weights: ClassWeights,
    tolerance: f64,
    max_iterations: u64,
}

/// Why a head can't be trained.
#[derive(Debug, thiserror::Error)]
pub enum SolverError {
    /// A setting is out of its range.
    #[error("{name} is {value}; it must be {range}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// There are not as many labels as rows, or one has no row.
    #[error("{0}")]
    Labels(String),
    /// The minimum was not reached.
    #[error(
        "not converged after {iterations} iterations: the gradient's greatest component is {gradient:e}, above the tolerance of {tolerance:e} ({reason})"
    )]
    NotConverged {
        /// Iterations made.
        iterations: u64,
        /// The gradient's greatest component.
        gradient: f64,
        /// The greatest that was allowed.
        tolerance: f64,
        /// Why the solver stopped.
        reason: String,
    },
    /// Vectors that don't fit into memory can't be read from disk.
    #[error("vectors on disk")]
    Disk(#[from] io::Error),
    /// An error of linfa's own.
    #[error(transparent)]
    Linfa(#[from] linfa::Error),
}

/// A fitted linear model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LinearModel {
    /// Features × labels; the weights of the columns as they are, whatever their scales.
    pub weights: Array2<f64>,
    /// For each label its bias, for labels that are equally frequent.
    pub bias: Vec<f64>,
    /// Iterations that it took.
    pub iterations: u64,
}

impl LogisticParams {
    /// Settings for `labels` labels: C = 100, balanced class weights, no component of the gradient above [`TOLERANCE`], at most 2,000 iterations.
    #[must_use]
    pub fn new(labels: usize) -> Self {
        let class_weights = ClassWeights::Balanced;
        Self(ValidLogisticParams { c: 100.0, labels, class_weights, tolerance: TOLERANCE, max_iterations: 2000 })
    }

    /// The weight of the data against the penalty on large weights; greater than zero.
    #[must_use]
    pub fn c(mut self, c: f64) -> Self {
        self.0.c = c;
        self
    }

    /// How much the rows of each label weigh.
    #[must_use]
    pub fn class_weights(mut self, class_weights: ClassWeights) -> Self {
        self.0.class_weights = class_weights;
        self
    }

    /// The greatest component that the gradient may have in the end; greater than zero.
    #[must_use]
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.0.tolerance = tolerance;
        self
    }

    /// The most iterations to make.
    #[must_use]
    pub fn max_iterations(mut self, iterations: u64) -> Self {
        self.0.max_iterations = iterations;
        self
    }
}

impl ParamGuard for LogisticParams {
    type Checked = ValidLogisticParams;
    type Error = SolverError;

    fn check_ref(&self) -> Result<&Self::Checked, Self::Error> {
        let ValidLogisticParams { c, labels, tolerance, .. } = self.0;
        for (name, value) in [("C", c), ("the tolerance", tolerance)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(SolverError::Setting { name, value, range: "a number above zero" });
            }
        }
        if labels < 2 {
            return Err(SolverError::Labels(format!("{labels} labels; at least two are needed")));
        }
        Ok(&self.0)
    }

    fn check(self) -> Result<Self::Checked, Self::Error> {
        self.check_ref()?;
        Ok(self.0)
    }
}

impl<'a> Fit<SparseRows<'a>, Array1<usize>, SolverError> for ValidLogisticParams {
    type Object = LinearModel;

    fn fit(&self, data: &DatasetBase<SparseRows<'a>, Array1<usize>>) -> Result<LinearModel, SolverError> {
        self.fit_from(data, None)
    }
}

impl ValidLogisticParams {
    /// What is minimised, over C · Σ s, at the weights of `model` with the biases that fit them best; with balanced class weights ln k for k labels and weights of
    /// zero.
    ///
    /// # Errors
    ///
    /// [`SolverError::Labels`], when labels and rows don't fit.
    ///
    /// # Panics
    ///
    /// When `model` has other columns or labels.
    pub fn loss<'a>(&self, data: &DatasetBase<SparseRows<'a>, Array1<usize>>, model: &LinearModel) -> Result<f64, SolverError> {
        let weights = weights(data);
        let mut losses = Losses::<f64>::new(data, &[Problem::new(self, &weights, data.records.scales)])?;
        let parameters = losses.parameters_of(0, model);
        let mut gradient = vec![0.0; parameters.len()];
        let evaluated = losses.evaluate(&mut [Place { model: 0, parameters: &parameters, gradient: &mut gradient }])?;
        Ok(evaluated.iter().map(|(evaluated, _)| evaluated.value).sum())
    }

    /// [`Fit::fit`], beginning at another model of the same columns and labels: the nearer it is, the less there is to do.
    ///
    /// # Errors
    ///
    /// [`SolverError`], when labels and rows don't fit, or the minimum is not reached.
    ///
    /// # Panics
    ///
    /// When `start` has other columns or labels.
    pub fn fit_from<'a>(
        &self,
        data: &DatasetBase<SparseRows<'a>, Array1<usize>>,
        start: Option<&LinearModel>,
    ) -> Result<LinearModel, SolverError> {
        let weights = weights(data);
        let models = fit_together(data, &[Problem { start, ..Problem::new(self, &weights, data.records.scales) }])?;
        Ok(models.into_iter().next().unwrap_or_default())
    }
}

/// The weights of rows, 1 where none are given.
fn weights(data: &DatasetBase<SparseRows<'_>, Array1<usize>>) -> Vec<f32> {
    (0..data.nsamples()).map(|row| data.weight_for(row)).collect()
}

/// One of several models to fit on the rows of a dataset.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// How it is fitted; for as many labels as the others.
    pub settings: &'a ValidLogisticParams,
    /// For each row of the dataset how much it counts beside others of its label; 0: it is not among those that the model is fitted on.
    pub weights: &'a [f32],
    /// What the values of each column are multiplied by, in place of those of the dataset, but likewise.
    pub scales: &'a [f64],
    /// A model to begin at; at zero where there is none.
    pub start: Option<&'a LinearModel>,
}

impl<'a> Problem<'a> {
    /// A model that begins at zero.
    #[must_use]
    pub fn new(settings: &'a ValidLogisticParams, weights: &'a [f32], scales: &'a [f64]) -> Self {
        Self { settings, weights, scales, start: None }
    }
}

/// How many models of so many labels, on so many rows and columns, are best [fitted together](fit_together), in so many bytes of memory.
#[must_use]
pub fn together((rows, columns): (usize, usize), labels: usize, memory: u64) -> usize {
    let compared = labels.saturating_sub(1).max(1);
    let width = if labels == 2 { 1 } else { labels.max(1) };
    let of_one = BYTES * (columns.max(1) * width) as u64 + (rows * (ROW_BYTES * compared + WEIGHT_BYTES)) as u64;
    let by_memory = usize::try_from(memory / of_one).unwrap_or(usize::MAX);
    let weights = MOST_WEIGHTS.min(MOST_REALS / columns.max(1));
    by_memory.min(weights / compared).max(1)
}

/// How many threads may share so many rows out among themselves at least, where there are as many.
#[must_use]
pub fn shares(rows: usize) -> usize {
    rows.div_ceil(BLOCK_ROWS).clamp(1, BLOCKS.0)
}

/// Fits several models on rows of one dataset, each as it would be alone, while every row is read for all of them at once. The dataset's own weights and scales
/// don't count.
///
/// # Errors
///
/// [`SolverError`], when labels and rows don't fit, or one of the minima is not reached.
///
/// # Panics
///
/// When a start has other columns or labels.
pub fn fit_together<'a>(
    data: &DatasetBase<SparseRows<'a>, Array1<usize>>,
    problems: &[Problem<'_>],
) -> Result<Vec<LinearModel>, SolverError> {
    let Some(first) = problems.first() else { return Ok(Vec::new()) };
    // Beyond that there are no loops of which sums don't depend on what is fitted beside.
    let most = (products::MOST_FIXED / (first.settings.labels - 1)).max(1);
    if problems.len() > most {
        let parts = problems.chunks(most).map(|part| fit_together(data, part)).collect::<Result<Vec<_>, _>>()?;
        return Ok(parts.into_iter().flatten().collect());
    }
    let limits = |at: usize| {
        let ValidLogisticParams { tolerance, max_iterations, .. } = problems[at].settings;
        (tolerance.max(SINGLE), *max_iterations)
    };
    let mut found = search::<f32>(data, problems, limits)?;
    let rest: Vec<usize> = (0..found.len()).filter(|at| found[*at].gradient > problems[*at].settings.tolerance).collect();
    let starts: Vec<LinearModel> = rest.iter().map(|at| std::mem::take(&mut found[*at].model)).collect();
    let again: Vec<Problem<'_>> =
        rest.iter().zip(&starts).map(|(at, start)| Problem { start: Some(start), ..problems[*at] }).collect();
    // Where no steps are left, this tells how far it is.
    let limits = |at: usize| {
        let ValidLogisticParams { tolerance, max_iterations, .. } = again[at].settings;
        (*tolerance, max_iterations - starts[at].iterations)
    };
    let more = if again.is_empty() { Vec::new() } else { search::<f64>(data, &again, limits)? };
    for ((at, start), more) in rest.iter().zip(&starts).zip(more) {
        found[*at] = more;
        found[*at].model.iterations += start.iterations;
    }
    let of = |(found, problem): (Found, &Problem<'_>)| {
        let Found { model, gradient, short_of_tolerance } = found;
        let (iterations, tolerance) = (model.iterations, problem.settings.tolerance);
        match short_of_tolerance {
            None => Ok(model),
            Some(reason) => Err(SolverError::NotConverged { iterations, gradient, tolerance, reason: reason.into() }),
        }
    };
    found.into_iter().zip(problems).map(of).collect()
}

/// Where a search ended.
struct Found {
    model: LinearModel,
    /// The gradient's greatest component there.
    gradient: f64,
    /// Why it is not smaller, where it is above the tolerance.
    short_of_tolerance: Option<&'static str>,
}

/// Where the searches for the minima end within their limits, a tolerance and a number of iterations each; loops over rows keep numbers of type `R`.
fn search<R: Real>(
    data: &DatasetBase<SparseRows<'_>, Array1<usize>>,
    problems: &[Problem<'_>],
    limits: impl Fn(usize) -> (f64, u64),
) -> Result<Vec<Found>, SolverError> {
    let mut losses = Losses::<R>::new(data, problems)?;
    let mut descents: Vec<Descent> = Vec::new();
    for (at, diagonal) in losses.diagonals()?.into_iter().enumerate() {
        let start = match problems[at].start {
            Some(start) => losses.parameters_of(at, start),
            None => vec![0.0; diagonal.len()],
        };
        let (tolerance, max_iterations) = limits(at);
        descents.push(Descent::new(start, diagonal, Limits { tolerance, max_iterations, rounding: R::ROUNDING }));
    }
    // For each model those that fit best where its search is.
    let mut biases: Vec<Vec<f64>> = vec![Vec::new(); descents.len()];
    loop {
        let asked = descents.iter_mut().enumerate().filter_map(|(model, descent)| Some((model, descent.asks()?)));
        let mut places: Vec<Place<'_>> =
            asked.map(|(model, (parameters, gradient))| Place { model, parameters, gradient }).collect();
        if places.is_empty() {
            break;
        }
        let asked: Vec<usize> = places.iter().map(|place| place.model).collect();
        let evaluated = losses.evaluate(&mut places)?;
        let mut answers = vec![None; descents.len()];
        asked.iter().zip(evaluated).for_each(|(at, evaluated)| answers[*at] = Some(evaluated));
        let all = descents.par_iter_mut().with_max_len(1).zip(&mut biases).zip(answers);
        all.for_each(|((descent, biases), answer)| {
            if let Some((evaluated, fitting)) = answer
                && descent.told(evaluated)
            {
                *biases = fitting;
            }
        });
    }
    let of = |(at, descent): (usize, Descent)| {
        let Minimum { parameters, iterations, gradient, short_of_tolerance } = descent.end();
        Found { model: losses.model(at, (&parameters, &biases[at]), iterations), gradient, short_of_tolerance }
    };
    Ok(descents.into_iter().enumerate().map(of).collect())
}

impl LinearModel {
    /// For each label the logit of a row: its columns, and their values.
    #[must_use]
    pub fn logits(&self, row: impl IntoIterator<Item = (usize, f64)>) -> Vec<f64> {
        let mut logits = self.bias.clone();
        for (column, value) in row {
            for (logit, weight) in logits.iter_mut().zip(self.weights.row(column)) {
                *logit += value * weight;
            }
        }
        logits
    }
}

impl PredictInplace<SparseRows<'_>, Array1<usize>> for LinearModel {
    /// A row that can't be read from disk gets `usize::MAX`, which is no label.
    fn predict_inplace(&self, rows: &SparseRows<'_>, labels: &mut Array1<usize>) {
        let mut cursor = rows.matrix.cursor();
        for (label, row) in labels.iter_mut().zip(&rows.rows) {
            *label = cursor.row(*row).map_or(usize::MAX, |row| argmax(&self.logits(row.entries())));
        }
    }

    fn default_target(&self, rows: &SparseRows<'_>) -> Array1<usize> {
        Array1::zeros(rows.nsamples())
    }
}

#[cfg(test)]
mod tests;
