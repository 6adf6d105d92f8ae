//! A training run: from labelled articles and marked pages to a model.
//!
//! The order is that of serving: the role head is trained first and applied to every article, so that topic and stance
//! learn from the same body passages that they will be given. Each head is calibrated on predictions for articles
//! that its weights were not fitted on; the folds share vocabulary and idf, which hold no label.

use linfa::ParamGuard;
use linfa::dataset::DatasetBase;
use linfa::traits::Fit;
use ndarray::{Array1, Array2};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::corpus::{CorpusError, LabelledArticle, check_labels, counts};
use super::pages::MarkedPage;
use super::solver::{LinearModel, LogisticParams, SolverError};
use super::{folds, role};
use crate::evaluate::{Outcome, report};
use crate::features::{BlockConfig, BlockKind, Document, Field, Scratch, Space, SparseMatrix, SparseRows};
use crate::model::head::{InvalidPriors, Priors, greatest};
use crate::model::role::{body, passages};
use crate::model::{Head, HeadScores, LoadError, Model, OutOfFold, RoleHead, Thresholds, Training, calibration, file};

/// Settings of a training run.
#[derive(Debug, Clone)]
pub struct TrainParams {
    /// The model's name.
    pub name: String,
    /// The topic label that means unrelated.
    pub noise_label: Option<String>,
    /// The most terms of each block: words, n-grams, n-grams of the title; 0: no limit.
    pub max_features: [usize; 3],
    /// C of the solver.
    pub c: f64,
    /// The norm of the gradient to reach.
    pub tolerance: f64,
    /// The most iterations of the solver.
    pub max_iterations: u64,
    /// Folds of the cross-validation that calibrates; 0: none.
    pub calibration_folds: usize,
    /// Shuffles the folds.
    pub seed: u64,
    /// How frequent labels are in use; heads not named get equal priors.
    pub priors: Priors,
}

impl Default for TrainParams {
    fn default() -> Self {
        Self {
            name: "depeche".into(),
            noise_label: None,
            max_features: [0; 3],
            c: 100.0,
            tolerance: 1e-6,
            max_iterations: 2000,
            calibration_folds: 5,
            seed: 0,
            priors: Priors::new(),
        }
    }
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The corpus can't be trained on.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The marked pages can't be trained on.
    #[error("pages: {0}")]
    Pages(String),
    /// A setting is out of its range.
    #[error("{0}")]
    Setting(String),
    /// The solver did not reach the minimum.
    #[error("training the {head} head")]
    Solver {
        /// The head.
        head: String,
        /// Why.
        source: SolverError,
    },
    /// The priors don't fit the labels.
    #[error("priors")]
    Priors(#[from] InvalidPriors),
    /// The model's name can't be part of a resource name.
    #[error(transparent)]
    Name(LoadError),
}

/// What happened while a head was fitted.
#[derive(Debug, Clone)]
pub struct Fitting {
    /// Rows that it was fitted on.
    pub rows: usize,
    /// Iterations of the solver.
    pub iterations: u64,
    /// Scores in cross-validation; absent without it.
    pub scores: Option<HeadScores>,
}

/// Trains a model. `stage` is told what comes next, for a person who waits.
///
/// # Errors
///
/// [`TrainError`], when the data or the settings can't be used, or the solver stops short of the minimum.
pub fn train(
    params: &TrainParams,
    articles: &[LabelledArticle],
    pages: &[MarkedPage],
    stage: &mut dyn FnMut(&str),
) -> Result<Model, TrainError> {
    check(params, articles)?;
    let mut training = Training {
        articles: articles.len() as u64,
        pages: pages.len() as u64,
        data_digest: digest(articles, pages),
        ..Training::default()
    };
    let mut role = None;
    if !pages.is_empty() {
        stage("fitting the role head");
        let (head, fitting) = role::train(params, articles, pages)?;
        tracing::info!(rows = fitting.rows, iterations = fitting.iterations, kinds = head.head.labels.len(), "role head fitted");
        training.role = fitting.scores;
        role = Some(head);
    }
    stage("reading terms");
    let documents = documents(articles, role.as_ref());
    let space = Space::fit(blocks(params), documents.iter().flatten().cloned());
    stage("making vectors");
    let matrix = vectors(&space, &documents);
    tracing::info!(articles = articles.len(), features = space.features(), entries = matrix.entries(), "vectors made");
    let groups: Vec<&str> = articles.iter().map(|article| article.group.as_deref().unwrap_or(&article.id)).collect();
    let mut fit = |name: &str, label: &dyn Fn(&LabelledArticle) -> Option<String>| {
        stage(&format!("fitting the {name} head"));
        let rows: Vec<(usize, String)> = articles
            .iter()
            .enumerate()
            .filter_map(|(row, article)| Some((row, documents[row].as_ref().and(label(article))?)))
            .collect();
        let labels: Vec<String> = counts(rows.iter().map(|(_, label)| label.as_str())).into_keys().map(str::to_owned).collect();
        let targets = rows.iter().filter_map(|(_, label)| labels.binary_search(label).ok()).collect();
        let groups = rows.iter().map(|(row, _)| groups[*row]).collect();
        let (mut head, fitting) =
            fit_head(params, &matrix, (rows.iter().map(|(row, _)| *row).collect(), targets, groups), labels)
                .map_err(|source| TrainError::Solver { head: name.to_owned(), source })?;
        head.priors = head.priors_from(name, &params.priors)?;
        tracing::info!(
            head = name,
            rows = fitting.rows,
            iterations = fitting.iterations,
            temperature = head.temperature,
            "head fitted"
        );
        Ok::<_, TrainError>((head, fitting.scores))
    };
    let (topic, scores) = fit("topic", &|article| Some(article.topic.clone()))?;
    training.topic = scores;
    let mut stance = None;
    if articles.iter().any(|article| article.stance.is_some()) {
        let (head, scores) = fit("stance", &|article| article.stance.clone())?;
        training.stance = scores;
        stance = Some(head);
    }
    let model = Model {
        name: params.name.clone(),
        version: String::new(),
        noise_label: params.noise_label.clone(),
        document: space,
        topic,
        stance,
        role,
        thresholds: Thresholds::default(),
        training,
    };
    model.check_priors(&params.priors)?;
    Ok(model)
}

/// Checks settings and labels before any long work.
fn check(params: &TrainParams, articles: &[LabelledArticle]) -> Result<(), TrainError> {
    file::check_name(&params.name).map_err(TrainError::Name)?;
    if params.calibration_folds == 1 {
        return Err(TrainError::Setting("1 calibration fold: it must be 0 (none) or at least 2".into()));
    }
    let topics = counts(articles.iter().map(|article| article.topic.as_str()));
    check_labels("topic", &topics)?;
    if let Some(noise) = &params.noise_label {
        if !topics.contains_key(noise.as_str()) {
            let known = topics.keys().copied().collect::<Vec<_>>().join(", ");
            return Err(TrainError::Setting(format!(
                "the noise label {noise:?} is no topic of the data; its topics are {known}"
            )));
        }
        if let Some(article) = articles.iter().find(|article| article.topic == *noise && article.stance.is_some()) {
            let (file, line) = article.source.clone();
            let reason = format!("a stance, but the topic is {noise:?}, which has none");
            return Err(CorpusError::Field { file, line, field: "stance".into(), reason }.into());
        }
    }
    let stances = counts(articles.iter().filter_map(|article| article.stance.as_deref()));
    if !stances.is_empty() {
        check_labels("stance", &stances)?;
    }
    LogisticParams::new(2)
        .c(params.c)
        .tolerance(params.tolerance)
        .check()
        .map_err(|error| TrainError::Setting(error.to_string()))?;
    Ok(())
}

/// The blocks of an article's features; measured on eleven languages of MasakhaNEWS and on
/// FreSaDa, where these three gave the best mean of weighted F1.
fn blocks(params: &TrainParams) -> Vec<BlockConfig> {
    let ngrams = BlockKind::Ngrams { min: 2, max: 5 };
    let block = |at: usize, name: &str, kind, field, min_df, weight| BlockConfig {
        name: name.into(),
        kind,
        field,
        min_df,
        max_features: params.max_features[at],
        weight,
    };
    vec![
        block(0, "word", BlockKind::Words, Field::Document, 2, 1.0),
        block(1, "ngram", ngrams, Field::Document, 5, 1.0),
        block(2, "title_ngram", ngrams, Field::Title, 2, 0.5),
    ]
}

/// The body of each article. Where nothing of it is body, serving has its answer without looking at the terms, and
/// there is nothing to be learnt: no document.
fn documents<'a>(articles: &'a [LabelledArticle], role: Option<&RoleHead>) -> Vec<Option<Document<'a>>> {
    let documents: Vec<Option<Document<'a>>> = articles
        .par_iter()
        .map_init(Scratch::default, |scratch, article| {
            let verdicts = passages(role, scratch, &article.text);
            let has_body = verdicts.iter().any(|verdict| !verdict.is_noise);
            has_body.then(|| Document::article(&article.title, &article.text, body(&verdicts)))
        })
        .collect();
    let empty = documents.iter().filter(|document| document.is_none()).count();
    if empty > 0 {
        tracing::warn!(articles = empty, "articles without any body passage teach nothing");
    }
    documents
}

/// A row for each article, empty where it has no document.
fn vectors(space: &Space, documents: &[Option<Document<'_>>]) -> SparseMatrix {
    let vector = |scratch: &mut Scratch, document: &Option<Document<'_>>| {
        document.as_ref().map(|document| space.vector(scratch, document).to_vec()).unwrap_or_default()
    };
    let rows: Vec<Vec<(u32, f64)>> = documents.par_iter().map_init(Scratch::default, vector).collect();
    let mut matrix = SparseMatrix::new(space.features());
    rows.iter().for_each(|row| matrix.push_vector(row));
    matrix
}

/// Fits one head on rows of `matrix`, given with their targets and groups, and calibrates it.
pub(super) fn fit_head(
    params: &TrainParams,
    matrix: &SparseMatrix,
    (rows, targets, groups): (Vec<usize>, Array1<usize>, Vec<&str>),
    labels: Vec<String>,
) -> Result<(Head, Fitting), SolverError> {
    let settings = LogisticParams::new(labels.len())
        .c(params.c)
        .tolerance(params.tolerance)
        .max_iterations(params.max_iterations)
        .check()?;
    let fit = |chosen: &[usize]| {
        let records = SparseRows { matrix, rows: chosen.iter().map(|at| rows[*at]).collect() };
        settings.fit(&DatasetBase::new(records, chosen.iter().map(|at| targets[*at]).collect()))
    };
    let all: Vec<usize> = (0..rows.len()).collect();
    let model = fit(&all)?;
    let mut out_of_fold = OutOfFold { logits: Array2::zeros((0, labels.len())), labels: Vec::new() };
    if params.calibration_folds > 0 {
        // More folds than rows would be empty.
        let folds = params.calibration_folds.min(rows.len());
        let assigned = folds::assign(&targets.to_vec(), &groups, folds, params.seed);
        out_of_fold = cross_validate(&assigned, folds, (matrix, &rows, &targets), labels.len(), &fit)?;
    }
    let temperature = calibration::temperature(&out_of_fold);
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "weights are stored in single precision")]
    let head = Head {
        weights: model.weights.mapv(|weight| weight as f32),
        bias: model.bias,
        temperature,
        priors: vec![1.0 / labels.len() as f64; labels.len()],
        labels,
        out_of_fold,
    };
    if params.calibration_folds > 0 && head.out_of_fold.labels.len() < rows.len() {
        let left_out = rows.len() - head.out_of_fold.labels.len();
        tracing::warn!(rows = left_out, "left out of the calibration: without their fold a label would have no row");
    }
    let scores = (!head.out_of_fold.labels.is_empty()).then(|| scores(&head));
    Ok((head, Fitting { rows: rows.len(), iterations: model.iterations, scores }))
}

/// For each row the logits of the model that was fitted without its fold. Folds in which a label would have no row to
/// be fitted on are left out.
fn cross_validate(
    assigned: &[usize],
    folds: usize,
    (matrix, rows, targets): (&SparseMatrix, &[usize], &Array1<usize>),
    labels: usize,
    fit: &(impl Fn(&[usize]) -> Result<LinearModel, SolverError> + Sync),
) -> Result<OutOfFold, SolverError> {
    let models: Vec<Option<LinearModel>> = (0..folds)
        .into_par_iter()
        .map(|fold| {
            let kept: Vec<usize> = (0..rows.len()).filter(|at| assigned[*at] != fold).collect();
            let complete = (0..labels).all(|label| kept.iter().any(|at| targets[*at] == label));
            if complete { fit(&kept).map(Some) } else { Ok(None) }
        })
        .collect::<Result<_, _>>()?;
    let mut logits = Vec::new();
    let mut known = Vec::new();
    for at in 0..rows.len() {
        if let Some(model) = &models[assigned[at]] {
            #[expect(clippy::cast_possible_truncation, reason = "stored in single precision")]
            logits.extend(model.logits(matrix.row(rows[at])).into_iter().map(|logit| logit as f32));
            known.push(u32::try_from(targets[at]).unwrap_or(u32::MAX));
        }
    }
    let logits = Array2::from_shape_vec((known.len(), labels), logits).unwrap_or_default();
    Ok(OutOfFold { logits, labels: known })
}

/// The scores of a head's out-of-fold predictions, with equal priors.
fn scores(head: &Head) -> HeadScores {
    let OutOfFold { logits, labels } = &head.out_of_fold;
    let outcomes: Vec<Outcome<'_>> = logits
        .rows()
        .into_iter()
        .zip(labels)
        .map(|(logits, label)| {
            let probabilities = head.probabilities(&logits.iter().map(|logit| f64::from(*logit)).collect::<Vec<_>>());
            let predicted = greatest(&probabilities);
            Outcome {
                gold: &head.labels[*label as usize],
                predicted: Some(&head.labels[predicted]),
                probability: probabilities[predicted],
            }
        })
        .collect();
    let order: Vec<&str> = head.labels.iter().map(String::as_str).collect();
    let report = report(&outcomes, &order);
    HeadScores {
        rows: outcomes.len() as u64,
        macro_f1: report.macro_f1,
        accuracy: report.accuracy,
        calibration_error: report.calibration_error,
    }
}

/// SHA-256 of everything that is learnt from, each part preceded by its length.
fn digest(articles: &[LabelledArticle], pages: &[MarkedPage]) -> String {
    let mut hasher = Sha256::new();
    let mut add = |part: &str| {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    };
    for LabelledArticle { id, title, text, topic, stance, group, .. } in articles {
        [id.as_str(), title, text, topic, stance.as_deref().unwrap_or(""), group.as_deref().unwrap_or("")]
            .into_iter()
            .for_each(&mut add);
    }
    for page in pages {
        add(&page.text);
        page.passages.iter().for_each(|(_, kind)| add(kind));
    }
    file::hexadecimal(&hasher.finalize())
}
