//! Fitting one head: the solver on all rows, cross-validation, calibration.
//!
//! Each head is calibrated on predictions for rows that its weights were not fitted on. The folds share vocabulary and idf, which hold
//! no label, and nothing else: each begins at zero. The model of all rows would be a nearer place to begin, but one that knows the rows held out. What it
//! learnt from features that only these have is undone by the penalty alone, and that is too slight for the solver to see: of a weight w it leaves
//! a gradient of w / (C · n), which is below the tolerance in any corpus of some size. The other way round nothing is wrong: the model of all rows
//! begins at that of the first fold, which knows fewer, and is there in a few steps.

use std::borrow::Cow;

use linfa::ParamGuard;
use linfa::dataset::DatasetBase;
use linfa::traits::Fit;
use ndarray::{Array1, Array2};

use super::folds;
use super::init::{Start, TakenOver};
use super::relevance::{self, Labelled};
use super::run::{TrainError, TrainParams};
use super::search::Search;
use super::solver::{LinearModel, LogisticParams, SolverError, ValidLogisticParams};
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

    /// The chosen rows, their leads behind them, as the solver takes them, with the `scales` of their columns.
    pub(super) fn data<'d>(&'d self, chosen: &[usize], scales: &'d [f64]) -> Data<'d> {
        let Self { matrix, rows, targets, leads, .. } = self;
        let mut shown: Vec<(usize, usize, f32)> = chosen.iter().map(|at| (rows[*at], targets[*at], 1.0)).collect();
        if leads.weight > 0.0 {
            let of = |at: &usize| (rows[*at] + leads.first, targets[*at], leads.weight);
            shown.extend(chosen.iter().map(of).filter(|(row, _, _)| matrix.has_entries(*row)));
        }
        let records = SparseRows { matrix, rows: shown.iter().map(|(row, _, _)| *row).collect(), scales };
        let data = DatasetBase::new(records, shown.iter().map(|(_, target, _)| *target).collect());
        data.with_weights(shown.iter().map(|(_, _, weight)| *weight).collect())
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
    let data = rows.data(&all, &scales);
    let start = params.init.as_ref().map(|init| Start::from_model(init, rows.head, rows.space, &rows.labels));
    let (start, taken_over) =
        start.map_or(Ok((None, None)), |start| start.checked(&solver, &data).map(|(at, over)| (at, Some(over))))?;
    let mut folds: Vec<Fold> = Vec::new();
    if params.calibration_folds > 0 {
        let wanted = if params.held_out_folds > 0 { params.held_out_folds } else { params.calibration_folds };
        folds.extend(rows.folds(params).take(wanted));
    }
    let CrossValidated { out_of_fold, iterations: fold_iterations, first } = cross_validate((params, rows), &folds, &solver)?;
    let model = solver.fit_from(&data, start.or(first).as_ref())?;
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

/// What came of fitting folds.
struct CrossValidated {
    /// For each row of the folds, in order, the logits of the model that was fitted without its fold.
    out_of_fold: OutOfFold,
    /// Iterations of all folds.
    iterations: u64,
    /// The model of the first fold.
    first: Option<LinearModel>,
}

fn cross_validate(
    (params, rows): (&TrainParams, &Rows<'_>),
    folds: &[Fold],
    solver: &ValidLogisticParams,
) -> Result<CrossValidated, SolverError> {
    let predict = |fold: &Fold| -> Result<(LinearModel, OutOfFold), SolverError> {
        let scales = rows.scales(&fold.kept)?;
        let model = solver.fit(&rows.data(&fold.kept, &scales))?;
        let predicted = rows.predict(&model, &fold.held_out)?;
        Ok((model, predicted))
    };
    let predicted = params.try_each(folds, predict)?;
    let iterations = predicted.iter().map(|(model, _)| model.iterations).sum();
    let mut order: Vec<(usize, usize, usize)> = Vec::new();
    for (fold, Fold { held_out, .. }) in folds.iter().enumerate() {
        order.extend(held_out.iter().enumerate().map(|(at, row)| (*row, fold, at)));
    }
    order.sort_unstable();
    let logits = Array2::from_shape_fn((order.len(), rows.labels.len()), |(row, label)| {
        let (_, fold, at) = order[row];
        predicted[fold].1.logits[[at, label]]
    });
    let labels = order.iter().map(|(_, fold, at)| predicted[*fold].1.labels[*at]).collect();
    let first = predicted.into_iter().next().map(|(model, _)| model);
    Ok(CrossValidated { out_of_fold: OutOfFold { logits, labels }, iterations, first })
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
