//! Fitting one head: the solver on all rows, cross-validation, calibration.
//!
//! Each head is calibrated on predictions for rows that its weights were not fitted on. The folds share vocabulary and idf, which hold
//! no label, and nothing else: each begins at zero. The model of all rows would be a nearer place to begin, but one that knows the rows held out. What it
//! learnt from features that only these have is undone by the penalty alone, and that is too slight for the solver to see: of a weight w it leaves
//! a gradient of w / (C · n), which is below the tolerance in any corpus of some size. All are fitted side by side, with the model of all rows.

use std::borrow::Cow;

use linfa::ParamGuard;
use linfa::dataset::DatasetBase;
use ndarray::{Array1, Array2};
use rayon::prelude::*;

use super::folds;
use super::init::{Start, TakenOver};
use super::relevance::{self, Labelled};
use super::run::{TrainError, TrainParams};
use super::search::Search;
use super::solver::{self, LinearModel, LogisticParams, Problem, SolverError, ValidLogisticParams};
use crate::evaluate::{Outcome, calibration_error, report};
use crate::features::{Space, SparseMatrix, SparseRows};
use crate::model::head::{argmax, softmax};
use crate::model::{Head, HeadScores, HeadSettings, OutOfFold, calibration};

/// What happened while a head was fitted.
#[derive(Debug, Clone)]
pub struct Fitting {
    /// The head.
    pub head: String,
    /// Rows that it was fitted on.
    pub rows: usize,
    /// Iterations of the solver on all rows.
    pub iterations: u64,
    /// Iterations of the solver on all folds together.
    pub fold_iterations: u64,
    /// What it was fitted with.
    pub settings: HeadSettings,
    /// What it took over from another model; absent where it had none to start from.
    pub taken_over: Option<TakenOver>,
    /// How its settings were found; absent where they were given.
    pub search: Option<Search>,
    /// Scores in cross-validation; absent without it.
    pub scores: Option<HeadScores>,
}

/// Rows of leads in the matrix of articles: the lead of the article in row n stands in row `first` + n, which is empty where
/// there is none. A topic is decided by headline and first paragraph, and many articles are hardly more than that; a head
/// that was shown both knows what little text is worth.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Leads {
    /// How much a lead counts beside its article; 0: nothing.
    pub(super) weight: f32,
    /// The row of the first lead.
    pub(super) first: usize,
}

/// What a head is fitted on: some rows of a matrix, with their labels and groups.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    /// The name of the head.
    pub(super) head: &'a str,
    /// What the columns of the matrix are.
    pub(super) space: &'a Space,
    /// The vectors of all documents.
    pub(super) matrix: &'a SparseMatrix,
    /// What the columns are multiplied by, which changes their penalty alone; none where empty.
    pub(super) scales: &'a [f64],
    /// Whether columns are scaled by their [relevance] as well.
    pub(super) by_relevance: bool,
    /// The rows of the matrix that have a label.
    pub(super) rows: Vec<usize>,
    /// For each of them the index of its label.
    pub(super) targets: Vec<usize>,
    /// For each of them its group.
    pub(super) groups: Vec<&'a str>,
    /// The labels, sorted.
    pub(super) labels: Vec<String>,
    /// Their leads.
    pub(super) leads: Leads,
}

/// A fold: indices into [`Rows::rows`].
#[derive(Debug)]
pub(super) struct Fold {
    /// What is fitted on.
    pub(super) kept: Vec<usize>,
    /// What is predicted.
    pub(super) held_out: Vec<usize>,
}

/// A model to fit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit<'a> {
    /// How.
    pub(super) solver: &'a ValidLogisticParams,
    /// What it is fitted on: indices into [`Rows::rows`].
    pub(super) rows: &'a [usize],
    /// What it is to predict.
    pub(super) held_out: &'a [usize],
    /// What the columns are multiplied by.
    pub(super) scales: &'a [f64],
    /// A model to begin at.
    pub(super) start: Option<&'a LinearModel>,
}

impl<'a> Fit<'a> {
    /// The model of a fold, from zero.
    pub(super) fn of_fold(solver: &'a ValidLogisticParams, fold: &'a Fold, scales: &'a [f64]) -> Self {
        Self { solver, rows: &fold.kept, held_out: &fold.held_out, scales, start: None }
    }

    /// For the solver, where rows weigh so much.
    fn problem(&self, weights: &'a [f32]) -> Problem<'a> {
        let Self { solver: settings, scales, start, .. } = *self;
        Problem { settings, weights, scales, start }
    }
}

type Data<'a> = DatasetBase<SparseRows<'a>, Array1<usize>>;

impl Rows<'_> {
    /// The solver for these labels.
    ///
    /// # Errors
    ///
    /// [`SolverError::Setting`] for a setting out of its range.
    pub(super) fn solver(&self, params: &TrainParams, settings: &HeadSettings) -> Result<ValidLogisticParams, SolverError> {
        LogisticParams::new(self.labels.len())
            .c(settings.c)
            .class_weights(settings.class_weights)
            .tolerance(params.tolerance)
            .max_iterations(params.max_iterations)
            .check()
    }

    /// The error of a solver that stopped short for this head, or could not read its rows.
    pub(super) fn unsolved(&self, params: &TrainParams, source: SolverError) -> TrainError {
        if let SolverError::Disk(source) = source {
            return params.disk(source);
        }
        TrainError::Solver { head: self.head.to_owned(), source }
    }

    /// What the columns are multiplied by where the chosen rows are fitted on.
    ///
    /// # Errors
    ///
    /// [`SolverError::Disk`], when a row can't be read.
    pub(super) fn scales(&self, chosen: &[usize]) -> Result<Cow<'_, [f64]>, SolverError> {
        if !self.by_relevance {
            return Ok(self.scales.into());
        }
        let rows: Vec<(usize, usize)> = chosen.iter().map(|at| (self.rows[*at], self.targets[*at])).collect();
        let data = Labelled { matrix: self.matrix, rows: &rows, labels: self.labels.len() };
        Ok(relevance::scales(data, self.scales)?.into())
    }

    /// All rows, their leads behind them, as the solver takes them, with the `scales` of their columns; and for each the index of its own among
    /// [`rows`](Self::rows).
    pub(super) fn data<'d>(&'d self, scales: &'d [f64]) -> (Data<'d>, Vec<usize>) {
        let Self { matrix, rows, targets, leads, .. } = self;
        let mut shown: Vec<(usize, usize, f32)> = rows.iter().enumerate().map(|(at, row)| (at, *row, 1.0)).collect();
        if leads.weight > 0.0 {
            let leads = rows.iter().enumerate().map(|(at, row)| (at, row + leads.first, leads.weight));
            shown.extend(leads.filter(|(_, row, _)| matrix.has_entries(*row)));
        }
        let records = SparseRows { matrix, rows: shown.iter().map(|(_, row, _)| *row).collect(), scales };
        let data = DatasetBase::new(records, shown.iter().map(|(at, _, _)| targets[*at]).collect());
        let weights = shown.iter().map(|(_, _, weight)| *weight).collect();
        (data.with_weights(weights), shown.iter().map(|(at, _, _)| *at).collect())
    }

    /// Fits models, as many at once as there is memory for, and makes something of each.
    ///
    /// # Errors
    ///
    /// [`SolverError`], when one of the minima is not reached, or a row can't be read from disk; or that of `make`.
    pub(super) fn fit_each<U: Send>(
        &self,
        params: &TrainParams,
        fits: &[Fit<'_>],
        make: impl Fn(&Fit<'_>, LinearModel) -> Result<U, SolverError> + Send + Sync,
    ) -> Result<Vec<U>, SolverError> {
        let (data, of) = self.data(&[]);
        let (rows, columns) = (of.len(), self.space.features());
        // The solver shares out many rows among all threads itself, and takes its memory once then; of few there is a group for each thread.
        let (threads, blocks) = (rayon::current_num_threads(), solver::shares(rows));
        let one_by_one = params.memory.limit.is_some() || blocks >= threads;
        let most = if one_by_one { fits.len() } else { fits.len().div_ceil(threads.div_ceil(blocks)) };
        let at_once = solver::together((rows, columns), self.labels.len(), params.memory.solver()).min(most).max(1);
        let groups: Vec<&[Fit<'_>]> = fits.chunks(at_once).collect();
        let of_group = |group: &&[Fit<'_>]| -> Result<Vec<U>, SolverError> {
            let of_fit = |fit: &Fit<'_>| -> Vec<f32> {
                let mut is_chosen = vec![false; self.rows.len()];
                fit.rows.iter().for_each(|at| is_chosen[*at] = true);
                of.iter().enumerate().map(|(row, at)| if is_chosen[*at] { data.weight_for(row) } else { 0.0 }).collect()
            };
            let weights: Vec<Vec<f32>> = group.iter().map(of_fit).collect();
            let problems: Vec<Problem<'_>> = group.iter().zip(&weights).map(|(fit, weights)| fit.problem(weights)).collect();
            let models = solver::fit_together(&data, &problems)?;
            group.par_iter().with_max_len(1).zip(models).map(|(fit, model)| make(fit, model)).collect()
        };
        let fitted: Vec<Vec<U>> = if one_by_one {
            groups.iter().map(of_group).collect::<Result<_, _>>()?
        } else {
            groups.par_iter().map(of_group).collect::<Result<_, _>>()?
        };
        Ok(fitted.into_iter().flatten().collect())
    }

    /// Folds of which groups stay whole; never more than rows, since those would be empty. Left out are folds that are empty, or
    /// without which a label would have no row to be fitted on.
    pub(super) fn folds(&self, params: &TrainParams) -> impl Iterator<Item = Fold> {
        let folds = params.calibration_folds.min(self.rows.len());
        let assigned = folds::assign(&self.targets, &self.groups, folds, params.seed);
        let fold = move |fold: usize| {
            let (held_out, kept): (Vec<usize>, Vec<usize>) = (0..self.rows.len()).partition(|at| assigned[*at] == fold);
            let mut has_rows = vec![false; self.labels.len()];
            kept.iter().for_each(|at| has_rows[self.targets[*at]] = true);
            (!held_out.is_empty() && has_rows.iter().all(|has| *has)).then_some(Fold { kept, held_out })
        };
        (0..folds).filter_map(fold)
    }

    /// The logits of a model for the chosen rows, with their labels.
    ///
    /// # Errors
    ///
    /// [`SolverError::Disk`], when a row can't be read.
    pub(super) fn predict(&self, model: &LinearModel, chosen: &[usize]) -> Result<OutOfFold, SolverError> {
        let mut cursor = self.matrix.cursor();
        let mut logits = Vec::with_capacity(chosen.len() * self.labels.len());
        for at in chosen {
            #[expect(clippy::cast_possible_truncation, reason = "stored in single precision")]
            logits.extend(model.logits(cursor.row(self.rows[*at])?.entries()).into_iter().map(|logit| logit as f32));
        }
        let logits = Array2::from_shape_vec((chosen.len(), self.labels.len()), logits);
        let labels = chosen.iter().map(|at| u32::try_from(self.targets[*at]).unwrap_or(u32::MAX)).collect();
        Ok(OutOfFold { logits: logits.unwrap_or_default(), labels })
    }
}

/// Fits one head, from the model to start from where there is one, and calibrates it.
///
/// # Errors
///
/// [`TrainError::Solver`], when the solver stops short of the minimum; [`TrainError::Corpus`], when vectors can't be read.
pub(super) fn fit_head(params: &TrainParams, settings: &HeadSettings, rows: &Rows<'_>) -> Result<(Head, Fitting), TrainError> {
    fit(params, settings, rows).map_err(|source| rows.unsolved(params, source))
}

fn fit(params: &TrainParams, settings: &HeadSettings, rows: &Rows<'_>) -> Result<(Head, Fitting), SolverError> {
    let solver = rows.solver(params, settings)?;
    let all: Vec<usize> = (0..rows.rows.len()).collect();
    let scales = rows.scales(&all)?;
    let start = params.init.as_ref().map(|init| Start::from_model(init, rows.head, rows.space, &rows.labels));
    let (start, taken_over) = match start {
        Some(start) => start.checked(&solver, &rows.data(&scales).0).map(|(at, over)| (at, Some(over)))?,
        None => (None, None),
    };
    let mut folds: Vec<Fold> = Vec::new();
    if params.calibration_folds > 0 {
        let wanted = if params.held_out_folds > 0 { params.held_out_folds } else { params.calibration_folds };
        folds.extend(rows.folds(params).take(wanted));
    }
    let fold_scales = folds.iter().map(|fold| rows.scales(&fold.kept)).collect::<Result<Vec<_>, _>>()?;
    let of_folds = folds.iter().zip(&fold_scales);
    let mut fits: Vec<Fit<'_>> = of_folds.map(|(fold, scales)| Fit::of_fold(&solver, fold, scales)).collect();
    fits.push(Fit { solver: &solver, rows: &all, held_out: &[], scales: &scales, start: start.as_ref() });
    let mut fitted = rows.fit_each(params, &fits, |fit, model| {
        let predicted = rows.predict(&model, fit.held_out)?;
        // Of a fold only what it predicts is wanted.
        Ok((model.iterations, predicted, fit.held_out.is_empty().then_some(model)))
    })?;
    let model = fitted.pop().and_then(|(_, _, model)| model).unwrap_or_default();
    let fold_iterations = fitted.iter().map(|(iterations, _, _)| iterations).sum();
    let predicted: Vec<OutOfFold> = fitted.into_iter().map(|(_, predicted, _)| predicted).collect();
    let out_of_fold = in_order(&folds, &predicted, rows.labels.len());
    let temperature = calibration::temperature(&out_of_fold);
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "weights are stored in single precision")]
    let head = Head {
        weights: model.weights.mapv(|weight| weight as f32),
        bias: model.bias,
        temperature,
        priors: vec![1.0 / rows.labels.len() as f64; rows.labels.len()],
        labels: rows.labels.clone(),
        out_of_fold,
    };
    let predicted = head.out_of_fold.labels.len();
    if params.calibration_folds > 0 && predicted == 0 {
        tracing::warn!(head = rows.head, "not calibrated: without any of the folds a label would have no row");
    } else if params.calibration_folds > 0 && params.held_out_folds == 0 && predicted < rows.rows.len() {
        let left_out = rows.rows.len() - predicted;
        tracing::warn!(rows = left_out, "left out of the calibration: without their fold a label would have no row");
    }
    let fitting = Fitting {
        head: rows.head.to_owned(),
        rows: rows.rows.len(),
        iterations: model.iterations,
        fold_iterations,
        settings: settings.clone(),
        taken_over,
        search: None,
        scores: (!head.out_of_fold.labels.is_empty()).then(|| scores(&head.out_of_fold, head.temperature, &head.labels)),
    };
    Ok((head, fitting))
}

/// What the models of folds predict for the rows that they hold out, in the order of these; so many labels.
fn in_order(folds: &[Fold], predicted: &[OutOfFold], labels: usize) -> OutOfFold {
    let mut order: Vec<(usize, usize, usize)> = Vec::new();
    for (fold, Fold { held_out, .. }) in folds.iter().enumerate() {
        order.extend(held_out.iter().enumerate().map(|(at, row)| (*row, fold, at)));
    }
    order.sort_unstable();
    let logits = Array2::from_shape_fn((order.len(), labels), |(row, label)| {
        let (_, fold, at) = order[row];
        predicted[fold].logits[[at, label]]
    });
    OutOfFold { logits, labels: order.iter().map(|(_, fold, at)| predicted[*fold].labels[*at]).collect() }
}

/// The scores of predictions for rows held out, at a temperature.
pub(super) fn scores(predicted: &OutOfFold, temperature: f64, labels: &[String]) -> HeadScores {
    let order: Vec<&str> = labels.iter().map(String::as_str).collect();
    let equal = outcomes(predicted, temperature, labels, &vec![0.0; labels.len()]);
    let report = report(&equal, &order);
    HeadScores {
        rows: equal.len() as u64,
        macro_f1: report.macro_f1,
        accuracy: report.accuracy,
        calibration_error: calibration_error(&outcomes(predicted, temperature, labels, &calibration::shifts(predicted))),
    }
}

/// What logits say at a temperature, beside the truth; `shifts` are added to the logits for each label.
fn outcomes<'a>(predicted: &OutOfFold, temperature: f64, labels: &'a [String], shifts: &[f64]) -> Vec<Outcome<'a>> {
    let rows = predicted.logits.rows().into_iter().zip(&predicted.labels);
    rows.map(|(logits, label)| {
        let probabilities = softmax(logits.iter().zip(shifts).map(|(logit, shift)| f64::from(*logit) / temperature + shift));
        let winner = argmax(&probabilities);
        Outcome { gold: &labels[*label as usize], predicted: Some(&labels[winner]), probability: probabilities[winner] }
    })
    .collect()
}
