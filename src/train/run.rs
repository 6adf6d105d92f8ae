//! A training run: from labelled articles and marked pages to a model.
//!
//! Topic and stance share one vector of an article, but each leans on its blocks in its own way (`TOPIC_WEIGHTS`,
//! `STANCE_WEIGHTS`): the solver sees the values scaled and gives weights for the values as they are, which is the same as a
//! penalty of its own for each block, and costs nothing when serving. The lead of an article can be a row of its own
//! (`Leads`).
//!
//! The order is that of serving: the role head is trained first and applied to every article, so that topic and stance
//! learn from the same body passages that they will be given. Each head is calibrated on predictions for articles
//! that its weights were not fitted on; the folds share vocabulary and idf, which hold no label.

use linfa::ParamGuard;
use linfa::dataset::DatasetBase;
use ndarray::{Array1, Array2};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::corpus::{CorpusError, LabelledArticle, check_labels, counts};
use super::pages::MarkedPage;
use super::solver::{LinearModel, LogisticParams, SolverError};
use super::{folds, role};
use crate::evaluate::{Outcome, report};
use crate::features::{
    Block, BlockConfig, BlockKind, Document, Field, Lexicon, Reading, Space, SparseMatrix, SparseRows, Tally, Tokens,
};
use crate::model::head::{InvalidPriors, Priors, greatest};
use crate::model::role::{RoleScratch, body, passages};
use crate::model::{
    DoubtLimits, Head, HeadScores, LoadError, Model, OutOfFold, RoleHead, RoleVerdict, Thresholds, Training, calibration, file,
};
use crate::page;

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
    /// How much an article's lead counts beside the article for the topic; 0: not at all.
    pub lead_weight: f32,
    /// Words and their concepts, for features beside the words themselves.
    pub lexicon: Option<Lexicon>,
}

impl Default for TrainParams {
    fn default() -> Self {
        Self {
            name: "depeche".into(),
            noise_label: None,
            max_features: [0; 3],
            c: 100.0,
            tolerance: 1e-5,
            max_iterations: 2000,
            calibration_folds: 5,
            seed: 0,
            priors: Priors::new(),
            lead_weight: 0.0,
            lexicon: None,
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

/// Words of the text that are its lead: about a first paragraph.
const LEAD_WORDS: usize = 60;

/// Rows of leads in the matrix of articles: the lead of the article in row n stands in row `first` + n, which is empty where
/// there is none. A topic is decided by headline and first paragraph, and many articles are hardly more than that; a head
/// that was shown both knows what little text is worth.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Leads {
    /// How much a lead counts beside its article; 0: nothing.
    weight: f32,
    /// The row of the first lead.
    first: usize,
}

/// Names of blocks, each with a weight.
type BlockWeights = [(&'static str, f64); 7];

/// The blocks of an article's vector, and their weights in it.
const WEIGHTS: BlockWeights = [
    ("word", 1.0),
    ("ngram", 1.0),
    ("title_ngram", 0.5),
    ("own_word", 1.0),
    ("quoted_word", 1.0),
    ("concept", 1.0),
    ("relation", 1.0),
];

/// The blocks that every article's vector has: the first of [`WEIGHTS`].
const ALWAYS: usize = 3;

/// How much the topic head leans on each block: a weight is more regularised the less its block has of the vector. What
/// a text is about is told best by its own words, and by what stands beside states.
const TOPIC_WEIGHTS: BlockWeights = [
    ("word", 1.0),
    ("ngram", 1.0),
    ("title_ngram", 0.5),
    ("own_word", 0.0),
    ("quoted_word", 0.0),
    ("concept", 0.0),
    ("relation", 0.25),
];

/// How much the stance head leans on each block. What the source says itself counts for more than what it quotes. Words
/// of praise and blame are rare and many: concepts carry them from the corpus to texts that use others.
const STANCE_WEIGHTS: BlockWeights = [
    ("word", 0.0),
    ("ngram", 1.0),
    ("title_ngram", 0.5),
    ("own_word", 1.0),
    ("quoted_word", 0.5),
    ("concept", 1.25),
    ("relation", 0.0),
];

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
        data_digest: digest(articles, pages, params.lexicon.as_ref()),
        ..Training::default()
    };
    let mut role = None;
    if !pages.is_empty() {
        stage("fitting the role head");
        let (head, fitting) = role::train(params, articles, pages)?;
        tracing::info!(
            rows = fitting.rows,
            iterations = fitting.iterations,
            kinds = head.head().labels.len(),
            "role head fitted"
        );
        training.role = fitting.scores;
        role = Some(head);
    }
    stage("reading terms");
    let has_stances = articles.iter().any(|article| article.stance.is_some());
    let documents = documents(articles, role.as_ref());
    let with_body: Vec<&Document<'_>> = documents.iter().flatten().collect();
    let space = Space::fit(blocks(params, has_stances), params.lexicon.clone(), &with_body);
    let doubt = DoubtLimits::fit(&space, &with_body);
    stage("making vectors");
    // Leads that count for nothing are not worth their vectors.
    let led = if params.lead_weight > 0.0 { documents.as_slice() } else { &[] };
    let leads: Vec<Option<Document<'_>>> = led.iter().map(|document| document.as_ref()?.lead(LEAD_WORDS)).collect();
    let matrix = vectors(&space, &documents.iter().chain(&leads).map(Option::as_ref).collect::<Vec<_>>());
    tracing::info!(articles = articles.len(), features = space.features(), entries = matrix.entries(), "vectors made");
    let groups: Vec<&str> = articles.iter().map(|article| article.group.as_deref().unwrap_or(&article.id)).collect();
    let mut fit = |name: &str, weights: &BlockWeights, lead_weight: f32, label: &dyn Fn(&LabelledArticle) -> Option<String>| {
        stage(&format!("fitting the {name} head"));
        let rows: Vec<(usize, String)> = articles
            .iter()
            .enumerate()
            .filter_map(|(row, article)| Some((row, documents[row].as_ref().and(label(article))?)))
            .collect();
        let labels: Vec<String> = counts(rows.iter().map(|(_, label)| label.as_str())).into_keys().map(str::to_owned).collect();
        let targets = rows.iter().filter_map(|(_, label)| labels.binary_search(label).ok()).collect();
        let groups = rows.iter().map(|(row, _)| groups[*row]).collect();
        let scales = scales(&space, weights);
        let leads = Leads { weight: lead_weight, first: documents.len() };
        let (mut head, fitting) =
            fit_head(params, (&matrix, &scales), (rows.iter().map(|(row, _)| *row).collect(), targets, groups), labels, leads)
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
    let (topic, scores) = fit("topic", &TOPIC_WEIGHTS, params.lead_weight, &|article| Some(article.topic.clone()))?;
    training.topic = scores;
    let mut stance = None;
    if has_stances {
        let (head, scores) = fit("stance", &STANCE_WEIGHTS, 0.0, &|article| article.stance.clone())?;
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
        thresholds: Thresholds { doubt, ..Thresholds::default() },
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
    if !(0.0..=1.0).contains(&params.lead_weight) {
        return Err(TrainError::Setting(format!("a lead weight of {}: it must be 0 to 1", params.lead_weight)));
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

/// The blocks of an article's features. The first three gave the best mean of weighted F1 on eleven languages of MasakhaNEWS;
/// n-grams of six characters, shorter in titles, since then on four of them. The source's own words and those that it quotes
/// are for stances, where there are any; concepts and relations come with a lexicon.
fn blocks(params: &TrainParams, has_stances: bool) -> Vec<BlockConfig> {
    let ngrams = |max| BlockKind::Ngrams { min: 2, max };
    let block = |name: &str, kind, field, min_df, max_features| BlockConfig {
        name: name.into(),
        kind,
        field,
        min_df,
        max_features,
        weight: WEIGHTS.iter().find(|(block, _)| *block == name).map_or(1.0, |(_, weight)| *weight),
    };
    let mut blocks = vec![
        block("word", BlockKind::Words, Field::Document, 2, params.max_features[0]),
        block("ngram", ngrams(6), Field::Document, 5, params.max_features[1]),
        block("title_ngram", ngrams(5), Field::Title, 2, params.max_features[2]),
    ];
    if has_stances {
        blocks.push(block("own_word", BlockKind::Words, Field::Own, 2, params.max_features[0]));
        blocks.push(block("quoted_word", BlockKind::Words, Field::Quoted, 2, params.max_features[0]));
    }
    if params.lexicon.is_some() {
        blocks.push(block("concept", BlockKind::Concepts, Field::Document, 2, 0));
        blocks.push(block("relation", BlockKind::Relations, Field::Document, 2, 0));
    }
    blocks
}

/// What a head's solver multiplies each column by: √ of the weight that the head gives the column's block over that which the block has in the
/// vector. Weights are relative to those of the blocks that are always there, so that these are the same whatever else there is.
fn scales(space: &Space, weights: &BlockWeights) -> Vec<f64> {
    let base: f64 = WEIGHTS[..ALWAYS].iter().map(|(_, weight)| weight).sum();
    let named = |name: &str| weights.iter().find(|(block, _)| *block == name).map_or(0.0, |(_, weight)| *weight);
    let scale = |block: &Block, in_vector: f64| libm::sqrt(named(&block.config.name) / base) / in_vector;
    let blocks = space.blocks().iter().zip(space.scales());
    blocks.flat_map(|(block, in_vector)| std::iter::repeat_n(scale(block, *in_vector), block.idf.len())).collect()
}

/// The body of each article. Where nothing of it is body, serving has its answer without looking at the terms, and
/// there is nothing to be learnt: no document.
fn documents<'a>(articles: &'a [LabelledArticle], role: Option<&RoleHead>) -> Vec<Option<Document<'a>>> {
    let documents: Vec<Option<Document<'a>>> = articles
        .par_iter()
        .map_init(<(Reading, RoleScratch)>::default, |(reading, scratch), article| {
            reading.clear();
            let verdicts = match role {
                Some(_) => passages(role, scratch, reading, &article.text).0,
                // Nothing has to be read to know that all of it is body.
                None => page::split(&article.text).into_iter().map(RoleVerdict::body).collect(),
            };
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

/// A row for each document, empty where there is none.
pub(super) fn vectors(space: &Space, documents: &[Option<&Document<'_>>]) -> SparseMatrix {
    let share = documents.len().div_ceil(rayon::current_num_threads()).max(1);
    let parts = documents.par_chunks(share).map(|documents| {
        let (mut reading, mut tally, mut entries) = (Reading::large(), Tally::default(), Vec::new());
        let mut matrix = SparseMatrix::new(space.features());
        for document in documents {
            entries.clear();
            if let Some(document) = document {
                reading.clear();
                let parts = reading.document(document);
                space.vector(&mut tally, &Tokens { reading: &reading, parts: &parts, shape: &document.shape }, &mut entries);
            }
            matrix.push_vector(&entries);
        }
        matrix
    });
    let parts: Vec<SparseMatrix> = parts.collect();
    SparseMatrix::concatenate(space.features(), parts)
}

/// Fits one head on rows of `matrix`, given with their targets and groups, and calibrates it. What the columns are
/// multiplied by changes their penalty alone; none where empty.
pub(super) fn fit_head(
    params: &TrainParams,
    (matrix, scales): (&SparseMatrix, &[f64]),
    (rows, targets, groups): (Vec<usize>, Array1<usize>, Vec<&str>),
    labels: Vec<String>,
    leads: Leads,
) -> Result<(Head, Fitting), SolverError> {
    let settings = LogisticParams::new(labels.len())
        .c(params.c)
        .tolerance(params.tolerance)
        .max_iterations(params.max_iterations)
        .check()?;
    let fit = |chosen: &[usize], start: Option<&LinearModel>| {
        let mut shown: Vec<(usize, usize, f32)> = chosen.iter().map(|at| (rows[*at], targets[*at], 1.0)).collect();
        if leads.weight > 0.0 {
            let of = |at: &usize| (rows[*at] + leads.first, targets[*at], leads.weight);
            shown.extend(chosen.iter().map(of).filter(|(row, _, _)| matrix.row(*row).next().is_some()));
        }
        let records = SparseRows { matrix, rows: shown.iter().map(|(row, _, _)| *row).collect(), scales };
        let data = DatasetBase::new(records, shown.iter().map(|(_, target, _)| *target).collect());
        settings.fit_from(&data.with_weights(shown.iter().map(|(_, _, weight)| *weight).collect()), start)
    };
    let all: Vec<usize> = (0..rows.len()).collect();
    let model = fit(&all, None)?;
    let mut out_of_fold = OutOfFold { logits: Array2::zeros((0, labels.len())), labels: Vec::new() };
    if params.calibration_folds > 0 {
        // More folds than rows would be empty.
        let folds = params.calibration_folds.min(rows.len());
        let assigned = folds::assign(&targets.to_vec(), &groups, folds, params.seed);
        // A fold's model is found sooner from the model of all rows; where it begins is forgotten once it is found.
        let fit = |kept: &[usize]| fit(kept, Some(&model));
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
fn digest(articles: &[LabelledArticle], pages: &[MarkedPage], lexicon: Option<&Lexicon>) -> String {
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
    if let Some(lexicon) = lexicon {
        add(&lexicon.to_text());
    }
    file::hexadecimal(&hasher.finalize())
}
