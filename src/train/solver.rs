//! Multinomial logistic regression for sparse rows, behind linfa's traits.
//!
//! Minimised is  C · Σ s(i) · loss(i) + ½ ‖w‖²  with loss(i) = −ln softmax(W x(i) + b)[label(i)] and balanced weights
//! s(i) = n / (k · n(label(i))); the intercept b is free. That is scikit-learn's objective; both sides are divided by
//! C · Σ s(i), as there, so that the tolerance on the gradient means the same for any size of data. For two labels the objective of
//! the binomial loss with a single weight vector is meant: with one vector a label that is the same with half the C.
//!
//! L-BFGS (argmin) with Moré and Thuente's line search runs until the Euclidean norm of the gradient is below the
//! tolerance. Stopping short of it is an error: on TF-IDF features a loose solution is a bad one.
//!
//! Sums over rows are taken in blocks of fixed bounds and added in their order, so that the result is the same to the
//! last bit on any number of threads.

use std::cell::RefCell;

use argmin::core::{CostFunction, Executor, Gradient, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use linfa::ParamGuard;
use linfa::dataset::{DatasetBase, Records};
use linfa::traits::{Fit, PredictInplace};
use ndarray::{Array1, Array2};
use rayon::prelude::*;

use crate::features::SparseRows;
use crate::model::head::{greatest, softmax};

/// Steps that L-BFGS remembers.
const HISTORY: usize = 10;

/// Blocks that rows are cut into for summing; more threads than this bring nothing.
const BLOCKS: usize = 16;

/// Rows that are worth a block of their own.
const BLOCK_ROWS: usize = 64;

/// Settings that are not checked yet.
#[derive(Debug, Clone)]
pub struct LogisticParams(ValidLogisticParams);

/// Settings of the solver.
#[derive(Debug, Clone)]
pub struct ValidLogisticParams {
    c: f64,
    labels: usize,
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
        "not converged after {iterations} iterations: the gradient's norm is {gradient:e}, above the tolerance of {tolerance:e} ({reason})"
    )]
    NotConverged {
        /// Iterations made.
        iterations: u64,
        /// The norm reached.
        gradient: f64,
        /// The norm wanted.
        tolerance: f64,
        /// Why the solver stopped.
        reason: String,
    },
    /// An error of linfa's own.
    #[error(transparent)]
    Linfa(#[from] linfa::Error),
}

/// A fitted linear model.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearModel {
    /// Features × labels.
    pub weights: Array2<f64>,
    /// For each label its bias.
    pub bias: Vec<f64>,
    /// Iterations that it took.
    pub iterations: u64,
}

impl LogisticParams {
    /// Settings for `labels` labels: C = 100, a gradient below 1e-6, at most 2,000 iterations.
    #[must_use]
    pub fn new(labels: usize) -> Self {
        Self(ValidLogisticParams { c: 100.0, labels, tolerance: 1e-6, max_iterations: 2000 })
    }

    /// The weight of the data against the penalty on large weights; greater than zero.
    #[must_use]
    pub fn c(mut self, c: f64) -> Self {
        self.0.c = c;
        self
    }

    /// The norm of the gradient to reach; greater than zero.
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
        let loss = Loss::new(self, data)?;
        let size = loss.features * self.labels + self.labels;
        let objective = Objective { loss, last: RefCell::default() };
        let solver_error = |error: argmin::core::Error| SolverError::NotConverged {
            iterations: 0,
            gradient: f64::NAN,
            tolerance: self.tolerance,
            reason: error.to_string(),
        };
        let solver = LBFGS::new(MoreThuenteLineSearch::new(), HISTORY)
            .with_tolerance_grad(self.tolerance)
            .and_then(|solver| solver.with_tolerance_cost(0.0))
            .map_err(solver_error)?;
        let result = Executor::new(objective, solver)
            .configure(|state| state.param(vec![0.0; size]).max_iters(self.max_iterations))
            .timer(false)
            .run()
            .map_err(solver_error)?;
        let state = result.state;
        let gradient = state.get_gradient().map_or(f64::NAN, |gradient| norm(gradient));
        let iterations = state.get_iter();
        let reached = state.param.or(state.best_param).filter(|_| gradient <= self.tolerance);
        let Some(parameters) = reached else {
            let reason = state.termination_status.to_string();
            return Err(SolverError::NotConverged { iterations, gradient, tolerance: self.tolerance, reason });
        };
        let features = data.records.nfeatures();
        let (weights, bias) = parameters.split_at(features * self.labels);
        let weights = Array2::from_shape_fn((features, self.labels), |(feature, label)| weights[feature * self.labels + label]);
        Ok(LinearModel { weights, bias: bias.to_vec(), iterations })
    }
}

impl LinearModel {
    /// For each label the logit of a row.
    pub fn logits(&self, row: impl Iterator<Item = (usize, f32)>) -> Vec<f64> {
        let mut logits = self.bias.clone();
        for (feature, value) in row {
            for (logit, weight) in logits.iter_mut().zip(self.weights.row(feature)) {
                *logit += f64::from(value) * weight;
            }
        }
        logits
    }
}

impl PredictInplace<SparseRows<'_>, Array1<usize>> for LinearModel {
    fn predict_inplace(&self, rows: &SparseRows<'_>, labels: &mut Array1<usize>) {
        for (label, row) in labels.iter_mut().zip(&rows.rows) {
            *label = greatest(&self.logits(rows.matrix.row(*row)));
        }
    }

    fn default_target(&self, rows: &SparseRows<'_>) -> Array1<usize> {
        Array1::zeros(rows.nsamples())
    }
}

/// What is minimised.
struct Loss<'a> {
    rows: &'a SparseRows<'a>,
    targets: &'a [usize],
    features: usize,
    labels: usize,
    /// For each row s / Σ s.
    weights: Vec<f64>,
    /// 1 / (C · Σ s).
    penalty: f64,
}

/// The loss as argmin asks for it, with the last value computed: the line search wants cost and gradient of the same
/// parameters one after the other, and both come from one pass.
struct Objective<'a> {
    loss: Loss<'a>,
    last: RefCell<Option<Evaluation>>,
}

struct Evaluation {
    parameters: Vec<f64>,
    cost: f64,
    gradient: Vec<f64>,
}

impl<'a> Loss<'a> {
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
        // Balanced: every label weighs Σ s / k, and Σ s = n.
        #[expect(clippy::cast_precision_loss, reason = "a model has few labels")]
        let k = labels as f64;
        let n: f64 = counts.iter().sum();
        let weights = targets.iter().enumerate().map(|(row, target)| weight(row) / (k * counts[*target])).collect();
        let c = if labels == 2 { settings.c / 2.0 } else { settings.c };
        Ok(Self { rows, targets, features: rows.nfeatures(), labels, weights, penalty: 1.0 / (c * n) })
    }

    fn evaluate(&self, parameters: &[f64]) -> Evaluation {
        let size = self.targets.len().div_ceil(BLOCKS).max(BLOCK_ROWS);
        let blocks: Vec<(f64, Vec<f64>)> = (0..self.targets.len().div_ceil(size))
            .into_par_iter()
            .map(|block| self.block(parameters, block * size..((block + 1) * size).min(self.targets.len())))
            .collect();
        let split = self.features * self.labels;
        let squares: f64 = parameters[..split].iter().map(|weight| weight * weight).sum();
        let mut cost = 0.5 * self.penalty * squares;
        let mut gradient: Vec<f64> = parameters[..split].iter().map(|weight| self.penalty * weight).collect();
        gradient.resize(parameters.len(), 0.0);
        for (block_cost, block_gradient) in blocks {
            cost += block_cost;
            gradient.iter_mut().zip(block_gradient).for_each(|(sum, part)| *sum += part);
        }
        Evaluation { parameters: parameters.to_vec(), cost, gradient }
    }

    /// The loss of some rows, weighted, and its gradient.
    fn block(&self, parameters: &[f64], range: std::ops::Range<usize>) -> (f64, Vec<f64>) {
        let k = self.labels;
        let (weights, bias) = parameters.split_at(self.features * k);
        let mut cost = 0.0;
        let mut gradient = vec![0.0; parameters.len()];
        let mut logits = vec![0.0; k];
        for at in range {
            let (row, target) = (self.rows.rows[at], self.targets[at]);
            logits.copy_from_slice(bias);
            for (feature, value) in self.rows.matrix.row(row) {
                let weights = &weights[feature * k..(feature + 1) * k];
                logits.iter_mut().zip(weights).for_each(|(logit, weight)| *logit += f64::from(value) * weight);
            }
            let mut errors = softmax(logits.iter().copied());
            cost -= self.weights[at] * libm::log(errors[target].max(f64::MIN_POSITIVE));
            errors[target] -= 1.0;
            errors.iter_mut().for_each(|error| *error *= self.weights[at]);
            for (feature, value) in self.rows.matrix.row(row) {
                let sums = &mut gradient[feature * k..(feature + 1) * k];
                sums.iter_mut().zip(&errors).for_each(|(sum, error)| *sum += f64::from(value) * error);
            }
            let sums = &mut gradient[self.features * k..];
            sums.iter_mut().zip(&errors).for_each(|(sum, error)| *sum += error);
        }
        (cost, gradient)
    }
}

impl Objective<'_> {
    /// The value and gradient at `parameters`, computed unless these are the last.
    fn at<T>(&self, parameters: &[f64], take: impl FnOnce(&Evaluation) -> T) -> T {
        let mut last = self.last.borrow_mut();
        if last.as_ref().is_none_or(|last| last.parameters != parameters) {
            *last = Some(self.loss.evaluate(parameters));
        }
        take(last.get_or_insert_with(|| self.loss.evaluate(parameters)))
    }
}

impl CostFunction for Objective<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, parameters: &Vec<f64>) -> Result<f64, argmin::core::Error> {
        Ok(self.at(parameters, |evaluation| evaluation.cost))
    }
}

impl Gradient for Objective<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, parameters: &Vec<f64>) -> Result<Vec<f64>, argmin::core::Error> {
        Ok(self.at(parameters, |evaluation| evaluation.gradient.clone()))
    }
}

fn norm(vector: &[f64]) -> f64 {
    libm::sqrt(vector.iter().map(|value| value * value).sum())
}

#[cfg(test)]
mod tests;
