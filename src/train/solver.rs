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
//! While it is sought, rows are taken to be centred: in place of the bias b stands b + w · x̄ with the mean row x̄, so that a logit is w · (x − x̄) and this. That
//! is the same function of other variables, in which biases and the weights of terms that all rows have don't pull at one another; it takes half as many
//! steps. No row is changed for it, nor the gradient that the tolerance is meant for: what the mean adds is added to sums.
//!
//! Each evaluation reads every row once: its logits, and at once what they add to the gradient. Sums over rows are taken in blocks
//! of fixed bounds and added in their order, so that the result is the same to the last bit on any number of threads. They have weights and sums in
//! single precision, until the tolerance is met or no step makes the loss smaller; where it is not met, they go on in double.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use linfa::ParamGuard;
use linfa::dataset::{DatasetBase, Records};
use linfa::traits::{Fit, PredictInplace};
use ndarray::{Array1, Array2, ArrayView1};
use rayon::prelude::*;

use super::lbfgs::{Evaluated, Limits, Minimum, max_norm, minimise, squares};
use super::products::{self, Entries, Product, Real};
use crate::features::SparseRows;
use crate::model::ClassWeights;
use crate::model::head::argmax;

/// Blocks that rows are cut into for summing; more threads than this bring nothing. The greater number is for so many rows that to sum up the
/// blocks is little beside them.
const BLOCKS: (usize, usize) = (8, 32);

/// Entries of a block for each parameter that make summing up little.
const ENTRIES: usize = 16;

/// Rows that are worth a block of their own.
const BLOCK_ROWS: usize = 512;

/// Reals that the gradients of all blocks may take.
const BLOCK_REALS: usize = 1 << 26;

/// The least tolerance that is sought with single precision in the loops over rows. What it rounds away of a gradient is a tenth of this or less, for rows of a norm
/// of about 1.
const SINGLE: f64 = 3e-6;

/// Columns that are worth a thread's while.
const COLUMNS: usize = 1 << 12;

/// A number to the power of −3/8: how far the diagonal of the Hessian is trusted, 0 meaning not at all, and 1 as if it stayed what it is at the start. On five sets of
/// articles it took 17 to 20 steps with this power (hardly more from 0.2 to 0.5), 32 to 48 with 0, and 70 to 108 with 1.
fn trusted(curvature: f64) -> f64 {
    let root = libm::sqrt(libm::sqrt(curvature));
    1.0 / (root * libm::sqrt(root))
}

/// What the diagonal is multiplied by for biases. From 0.1 to 1 it made no difference beyond chance; 10 took up to three times as many steps.
const BIAS: f64 = 0.3;

/// Settings that are not checked yet.
#[derive(Debug, Clone)]
pub struct LogisticParams(ValidLogisticParams);

/// Settings of the solver.
#[derive(Debug, Clone)]
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
    /// Settings for `labels` labels: C = 100, balanced class weights, no component of the gradient above 1e-5, at most 2,000 iterations.
    #[must_use]
    pub fn new(labels: usize) -> Self {
        let class_weights = ClassWeights::Balanced;
        Self(ValidLogisticParams { c: 100.0, labels, class_weights, tolerance: 1e-5, max_iterations: 2000 })
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
    /// What is minimised, over C · Σ s, at `model`; with balanced class weights ln k for a model of k labels that knows nothing.
    ///
    /// # Errors
    ///
    /// [`SolverError::Labels`], when labels and rows don't fit.
    ///
    /// # Panics
    ///
    /// When `model` has other columns or labels.
    pub fn loss<'a>(&self, data: &DatasetBase<SparseRows<'a>, Array1<usize>>, model: &LinearModel) -> Result<f64, SolverError> {
        let loss = Loss::<f64>::new(self, data)?;
        let parameters = loss.parameters_of(model);
        Ok(loss.evaluate(&parameters, &mut vec![0.0; parameters.len()])?.value)
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
        let single = self.tolerance.max(SINGLE);
        let (mut model, mut found) = self.search::<f32>(data, (single, self.max_iterations), start)?;
        let in_single = found.iterations;
        // Where no steps are left, this tells how far it is.
        if found.gradient > self.tolerance {
            let start = std::mem::take(&mut model);
            drop(found);
            (model, found) = self.search::<f64>(data, (self.tolerance, self.max_iterations - in_single), Some(&start))?;
            found.iterations += in_single;
            model.iterations = found.iterations;
        }
        let Minimum { iterations, gradient, short_of_tolerance, .. } = found;
        match short_of_tolerance {
            None => Ok(model),
            Some(reason) => {
                Err(SolverError::NotConverged { iterations, gradient, tolerance: self.tolerance, reason: reason.into() })
            }
        }
    }

    /// Where the search for the minimum ends within these limits, with loops over rows that keep numbers of type `R`; and the model there.
    fn search<R: Real>(
        &self,
        data: &DatasetBase<SparseRows<'_>, Array1<usize>>,
        (tolerance, max_iterations): (f64, u64),
        start: Option<&LinearModel>,
    ) -> Result<(LinearModel, Minimum), SolverError> {
        let mut loss = Loss::<R>::new(self, data)?;
        let diagonal = loss.centre()?;
        let parameters = start.map_or_else(|| vec![0.0; loss.parameters()], |start| loss.parameters_of(start));
        let mut failed = None;
        let limits = Limits { tolerance, max_iterations, rounding: R::ROUNDING };
        let found = minimise(parameters, &diagonal, limits, |at, gradient| {
            const LOST: Evaluated = Evaluated { value: f64::NAN, gradient: f64::INFINITY };
            if failed.is_some() {
                // Nothing is read any more until the search gives up.
                return LOST;
            }
            loss.evaluate(at, gradient).unwrap_or_else(|error| {
                failed = Some(error);
                LOST
            })
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        Ok((loss.model(&found.parameters, found.iterations), found))
    }
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

/// What is minimised, over vectors of parameters: for each column the weights of its scaled values, then the biases. Two labels have
/// one weight, for the second label; more have one each.
///
/// Rows are read with the differences of weights to those of the first label: a softmax knows nothing else, the errors of all labels add up
/// to zero, and one column less makes the loops over rows a third faster for three labels.
struct Loss<'a, R: 'static> {
    rows: &'a SparseRows<'a>,
    targets: &'a [usize],
    features: usize,
    labels: usize,
    /// Weights of a column: the labels, or 1.
    width: usize,
    /// For each row s / Σ s.
    weights: Vec<f64>,
    /// For each label ln(k · π), π being its share of Σ s.
    shifts: Vec<f64>,
    /// 1 / (C · Σ s).
    penalty: f64,
    product: &'static dyn Product<R>,
    /// For each column what a weight is multiplied by to be that of a term that occurs once in a row whose factor is 1: scale · idf.
    factors: Vec<f64>,
    /// For each column the mean of its scaled values, as much of each as its row weighs; zero until the rows are [centred](Self::centre).
    means: Vec<f64>,
    /// For each column such weights of all labels but the first, less that of the first.
    differences: Mutex<Vec<R>>,
    /// The bounds of the blocks of rows, and for each what its rows add to the gradient.
    blocks: Vec<(Range<usize>, Mutex<Sums<R>>)>,
}

/// What some rows add to the gradient of the differences.
#[derive(Debug, Default)]
struct Sums<R> {
    /// Over the [factors](Loss::factors).
    columns: Vec<R>,
    /// Of the biases. Every row adds to them, so that single precision would round most away here.
    biases: Vec<f64>,
}

/// What a row's own weight is divided by, for each label, so that all rows together weigh 1; and for each label ln(k · π), its share π of that 1 beside
/// 1/k. `counts` are the weights of the labels' rows together, all above zero.
fn spread(class_weights: ClassWeights, counts: &[f64]) -> (Vec<f64>, Vec<f64>) {
    #[expect(clippy::cast_precision_loss, reason = "a model has few labels")]
    let k = counts.len() as f64;
    let shifts = |parts: &[f64], whole: f64| parts.iter().map(|part| libm::log(k * part / whole)).collect();
    match class_weights {
        ClassWeights::Balanced => (counts.iter().map(|count| k * count).collect(), vec![0.0; counts.len()]),
        ClassWeights::SquareRoot => {
            let roots: Vec<f64> = counts.iter().map(|count| libm::sqrt(*count)).collect();
            let whole: f64 = roots.iter().sum();
            (roots.iter().map(|root| root * whole).collect(), shifts(&roots, whole))
        }
        ClassWeights::None => {
            let whole: f64 = counts.iter().sum();
            (vec![whole; counts.len()], shifts(counts, whole))
        }
    }
}

impl<'a, R: Real> Loss<'a, R> {
    fn new(settings: &ValidLogisticParams, data: &'a DatasetBase<SparseRows<'a>, Array1<usize>>) -> Result<Self, SolverError> {
        let (rows, targets) = (&data.records, &data.targets);
        let weight = |row: usize| f64::from(data.weight_for(row));
        let labels = settings.labels;
        let targets = targets.as_slice().filter(|targets| targets.len() == rows.nsamples());
        let targets = targets.ok_or_else(|| SolverError::Labels("there are not as many labels as rows".into()))?;
        let mut counts = vec![0.0; labels];
        for (row, target) in targets.iter().enumerate() {
            *counts.get_mut(*target).ok_or_else(|| SolverError::Labels(format!("label {target} of {labels}")))? += weight(row);
        }
        if let Some(label) = counts.iter().position(|count| *count == 0.0) {
            return Err(SolverError::Labels(format!("label {label} has no row")));
        }
        let n: f64 = counts.iter().sum();
        let (per_row, shifts) = spread(settings.class_weights, &counts);
        let weights = targets.iter().enumerate().map(|(row, target)| weight(row) / per_row[*target]).collect();
        let features = rows.nfeatures();
        let width = if labels == 2 { 1 } else { labels };
        let product = products::of_width(labels - 1);
        let reals = (features + product.room()) * (labels - 1);
        let wanted = (rows.matrix.entries() / (ENTRIES * (features + 1) * width)).clamp(BLOCKS.0, BLOCKS.1);
        let most = (BLOCK_REALS / reals.max(1)).clamp(1, wanted);
        let size = targets.len().div_ceil(most).max(BLOCK_ROWS);
        let begins = (0..targets.len()).step_by(size);
        let blocks = begins.map(|begin| (begin..(begin + size).min(targets.len()), Mutex::default())).collect();
        let scale = |column: usize| rows.scales.get(column).copied().unwrap_or(1.0);
        let factors = rows.matrix.idf().iter().enumerate().map(|(column, idf)| scale(column) * f64::from(*idf)).collect();
        let penalty = 1.0 / (settings.c * n);
        let differences = Mutex::new(vec![R::default(); reals]);
        let means = vec![0.0; features];
        Ok(Self {
            rows,
            targets,
            features,
            labels,
            width,
            weights,
            shifts,
            penalty,
            product,
            factors,
            means,
            differences,
            blocks,
        })
    }

    fn parameters(&self) -> usize {
        (self.features + 1) * self.width
    }

    /// The scale of the column that a parameter belongs to, for all parameters that are no biases.
    fn scales(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.features * self.width).map(|at| self.rows.scales.get(at / self.width).copied().unwrap_or(1.0))
    }

    /// The parameters of a model.
    fn parameters_of(&self, model: &LinearModel) -> Vec<f64> {
        assert_eq!(model.weights.dim(), (self.features, self.labels), "another model");
        let bias: Vec<f64> = model.bias.iter().zip(&self.shifts).map(|(bias, shift)| bias + shift).collect();
        // Of two labels only the difference decides, and it is what the one weight stands for.
        let of = |all: ArrayView1<'_, f64>, at: usize| if self.labels == 2 { all[1] - all[0] } else { all[at] };
        let weights = model.weights.rows().into_iter().flat_map(|row| (0..self.width).map(move |at| of(row, at)));
        // What has the scale 0 has no weight.
        let unscaled = |(weight, scale): (f64, f64)| if scale == 0.0 { 0.0 } else { weight / scale };
        let mut parameters: Vec<f64> = weights.zip(self.scales()).map(unscaled).collect();
        let of_mean = self.of_mean(&parameters).into_iter().enumerate();
        parameters.extend(of_mean.map(|(at, of_mean)| of(ArrayView1::from(&bias), at) + of_mean));
        parameters
    }

    /// The biases of rows as they are, not centred.
    fn biases(&self, parameters: &[f64]) -> Vec<f64> {
        let (weights, biases) = parameters.split_at(self.features * self.width);
        biases.iter().zip(self.of_mean(weights)).map(|(bias, of_mean)| bias - of_mean).collect()
    }

    fn model(&self, parameters: &[f64], iterations: u64) -> LinearModel {
        let weights: Vec<f64> = parameters.iter().zip(self.scales()).map(|(weight, scale)| weight * scale).collect();
        let of = |all: &[f64], at: usize, label: usize| match (self.labels, label) {
            (2, 0) => -0.5 * all[at],
            (2, _) => 0.5 * all[at],
            _ => all[at * self.width + label],
        };
        let bias = self.biases(parameters);
        LinearModel {
            weights: Array2::from_shape_fn((self.features, self.labels), |(feature, label)| of(&weights, feature, label)),
            bias: (0..self.labels).map(|label| of(&bias, 0, label) - self.shifts[label]).collect(),
            iterations,
        }
    }

    /// Moves the rows so that their mean lies at the origin. Returns a guess at the diagonal of the inverse Hessian: the Hessian's own at zero, where every label
    /// has the probability 1/k, as far as it is [`trusted`].
    fn centre(&mut self) -> io::Result<Vec<f64>> {
        #[expect(clippy::cast_precision_loss, reason = "a model has few labels")]
        let p = 1.0 / self.labels as f64;
        let bend = p * (1.0 - p);
        let of_block = |(range, _): &(Range<usize>, _)| -> io::Result<Vec<[f32; 2]>> {
            let mut moments = vec![[0.0; 2]; self.features];
            let mut cursor = self.rows.matrix.cursor();
            for at in range.clone() {
                let row = cursor.row(self.rows.rows[at])?;
                Entries { row, factors: &self.factors }.add_moments(self.weights[at], &mut moments);
            }
            Ok(moments)
        };
        let moments = self.blocks.par_iter().map(of_block).collect::<io::Result<Vec<_>>>()?;
        let moment = |column: usize, at: usize| moments.iter().map(|moments| moments[column][at].value()).sum::<f64>();
        self.means = self.factors.iter().enumerate().map(|(column, factor)| factor * moment(column, 0)).collect();
        let of_column = |(column, (factor, mean)): (usize, (&f64, &f64))| {
            // All rows together weigh 1.
            let variance = (factor * factor * moment(column, 1) - mean * mean).max(0.0);
            std::iter::repeat_n(trusted(bend * variance + self.penalty), self.width)
        };
        let of_bias = std::iter::repeat_n(BIAS * trusted(bend), self.width);
        Ok(self.factors.iter().zip(&self.means).enumerate().flat_map(of_column).chain(of_bias).collect())
    }

    /// For each weight of a column what all columns together add to the logit of the mean row: how far the biases of [centred](Self::centre) rows lie above those of
    /// rows as they are.
    fn of_mean(&self, weights: &[f64]) -> Vec<f64> {
        let mut of_mean = vec![0.0; self.width];
        let chunks = weights.par_chunks(self.width * COLUMNS).zip(self.means.par_chunks(COLUMNS));
        let sums = chunks.map(|(weights, means)| {
            let mut sums = vec![0.0; self.width];
            for (weights, mean) in weights.chunks_exact(self.width).zip(means) {
                sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += mean * weight);
            }
            sums
        });
        for sums in sums.collect::<Vec<_>>() {
            of_mean.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
        }
        of_mean
    }

    /// What the weights of a column, or the biases, are for all labels but the first, less that of the first.
    fn compare<'b>(&self, of_column: &'b [f64]) -> impl Iterator<Item = f64> + use<'b, R> {
        let (first, others) = if self.width == 1 { (0.0, of_column) } else { (of_column[0], &of_column[1..]) };
        others.iter().map(move |other| other - first)
    }

    /// The loss at `parameters`, and its gradient. The greatest component that it tells is that for rows as they are.
    fn evaluate(&self, parameters: &[f64], gradient: &mut [f64]) -> io::Result<Evaluated> {
        let (split, compared) = (self.features * self.width, self.labels - 1);
        let mut weights = self.differences.lock().unwrap_or_else(PoisonError::into_inner);
        let columns = parameters[..split].par_chunks_exact(self.width).zip(&self.factors);
        weights.par_chunks_exact_mut(compared).zip(columns).with_min_len(COLUMNS).for_each(|(weights, (of_column, factor))| {
            weights
                .iter_mut()
                .zip(self.compare(of_column))
                .for_each(|(weight, difference)| *weight = R::near(difference * factor));
        });
        let biases = self.biases(parameters);
        let bias: Vec<f64> = self.compare(&biases).collect();
        let costs = self.blocks.par_iter().map(|(range, sums)| {
            let sums = &mut *sums.lock().unwrap_or_else(PoisonError::into_inner);
            sums.columns.resize(weights.len(), R::default());
            sums.columns[..self.features * compared].fill(R::default());
            sums.biases.clear();
            sums.biases.resize(compared, 0.0);
            self.block(range.clone(), &weights, &bias, sums)
        });
        let costs: Vec<f64> = costs.collect::<io::Result<_>>()?;
        let blocks: Vec<_> = self.blocks.iter().map(|(_, sums)| sums.lock().unwrap_or_else(PoisonError::into_inner)).collect();
        let (of_columns, of_biases) = gradient.split_at_mut(split);
        self.set(of_biases, (0..compared).map(|at| blocks.iter().map(|sums| sums.biases[at]).sum::<f64>()));
        let of_columns = of_columns.par_chunks_mut(self.width * COLUMNS).enumerate().map(|(at, slopes)| {
            let first = at * COLUMNS;
            let mut sums = vec![0.0; slopes.len() / self.width * compared];
            for block in &blocks {
                sums.iter_mut().zip(&block.columns[first * compared..]).for_each(|(sum, more)| *sum += more.value());
            }
            let columns = slopes.chunks_exact_mut(self.width).zip(sums.chunks_exact(compared)).zip(&self.factors[first..]);
            columns.for_each(|((slopes, sums), factor)| self.set(slopes, sums.iter().map(|sum| factor * sum)));
            let weights = &parameters[first * self.width..];
            slopes.iter_mut().zip(weights).for_each(|(slope, weight)| *slope += self.penalty * weight);
            let greatest = max_norm(slopes);
            for (slopes, mean) in slopes.chunks_exact_mut(self.width).zip(&self.means[first..]) {
                slopes.iter_mut().zip(&*of_biases).for_each(|(slope, of_bias)| *slope -= mean * of_bias);
            }
            greatest
        });
        Ok(Evaluated {
            value: costs.iter().sum::<f64>() + 0.5 * self.penalty * squares(&parameters[..split]),
            gradient: of_columns.reduce(|| 0.0, f64::max).max(max_norm(of_biases)),
        })
    }

    /// Sets the slopes of a column's weights, or of the biases, given those of the differences.
    fn set(&self, slopes: &mut [f64], of_differences: impl Iterator<Item = f64>) {
        let (first, others) = slopes.split_at_mut(self.width + 1 - self.labels);
        others.iter_mut().zip(of_differences).for_each(|(slope, of_difference)| *slope = of_difference);
        first.fill(-others.iter().sum::<f64>());
    }

    /// The loss of some rows, weighted; what they add to the gradient goes into `sums`.
    fn block(&self, range: Range<usize>, weights: &[R], bias: &[f64], sums: &mut Sums<R>) -> io::Result<f64> {
        let mut cost = 0.0;
        let mut logits = vec![0.0; self.labels - 1];
        let mut cursor = self.rows.matrix.cursor();
        for at in range {
            logits.copy_from_slice(bias);
            let row = cursor.row(self.rows.rows[at])?;
            let entries = Entries { row, factors: &self.factors };
            self.product.multiply(entries, weights, &mut logits);
            cost += self.weights[at] * self.errors(self.targets[at], &mut logits);
            logits.iter_mut().for_each(|error| *error *= self.weights[at]);
            self.product.spread(entries, &logits, &mut sums.columns);
            sums.biases.iter_mut().zip(&logits).for_each(|(sum, error)| *sum += error);
        }
        Ok(cost)
    }

    /// The loss of a row whose logits, of all labels but the first, are told less that of the first; they become their derivatives.
    fn errors(&self, target: usize, logits: &mut [f64]) -> f64 {
        if let ([logit], 2) = (&mut *logits, self.labels) {
            // ln(1 + e^-m) of the margin m, whichever sign it has.
            let margin = if target == 1 { *logit } else { -*logit };
            let small = libm::exp(-margin.abs());
            let probability = if *logit >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) };
            #[expect(clippy::cast_precision_loss, reason = "0 or 1")]
            let target = target as f64;
            *logit = probability - target;
            return libm::log1p(small) + (-margin).max(0.0);
        }
        let greatest = logits.iter().copied().fold(0.0, f64::max);
        let of_target = if target == 0 { 0.0 } else { logits[target - 1] } - greatest;
        logits.iter_mut().for_each(|logit| *logit = libm::exp(*logit - greatest));
        let sum = libm::exp(-greatest) + logits.iter().sum::<f64>();
        logits.iter_mut().for_each(|logit| *logit /= sum);
        if target > 0 {
            logits[target - 1] -= 1.0;
        }
        libm::log(sum) - of_target
    }
}

#[cfg(test)]
mod tests;
