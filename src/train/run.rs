//! A training run: from labelled articles and marked pages to a model.
//!
//! Topic and stance share one vector of an article, but each leans on its blocks in its own way (`TOPIC`,
//! `STANCE`): the solver sees the values scaled and gives weights for the values as they are, which is the same as a
//! penalty of its own for each block, and costs nothing when serving. The lead of an article can be a row of its own
//! for the topic (`Leads`).
//!
//! The order is that of serving: the role head is trained first and applied to every article, so that topic and stance
//! learn from the same body passages that they will be given.

use std::collections::BTreeMap;
use std::io;

use linfa::ParamGuard;

use super::corpus::{CorpusError, check_labels, counts};
use super::fit::{Fitting, Leads, Rows, fit_head};
use super::pages::MarkedPage;
use super::search::{SearchParams, search};
use super::solver::{LogisticParams, SolverError, TOLERANCE};
use super::store::{Corpus, Labels};
use super::vectors::{Vectors, vectors};
use super::{Progress, role};
use crate::features::{Block, BlockConfig, BlockKind, Field, Lexicon, Space, SparseMatrix};
use crate::model::head::{InvalidPriors, Priors, check_priors};
use crate::model::{ClassWeights, Head, HeadSettings, LoadError, Model, Thresholds, Training, file};
use crate::spill::Memory;

/// Settings of a training run.
#[derive(Debug, Clone)]
pub struct TrainParams {
    /// The model's name.
    pub name: String,
    /// The topic label that means unrelated.
    pub noise_label: Option<String>,
    /// The most terms of each block: words, n-grams, n-grams of the title; 0: no limit.
    pub max_features: [usize; 3],
    /// C of the solver for topic and stance, where it is not searched for.
    pub c: f64,
    /// How much the rows of each label weigh for topic and stance, where that is not searched for.
    pub class_weights: ClassWeights,
    /// The points to choose both from, for each of topic and stance.
    pub search: Option<SearchParams>,
    /// A model to start the solver of each head from: what it knows of the same features and labels.
    pub init: Option<Model>,
    /// The greatest component that the gradient may have in the end.
    pub tolerance: f64,
    /// The most iterations of the solver.
    pub max_iterations: u64,
    /// Folds of the cross-validation that calibrates; 0: none.
    pub calibration_folds: usize,
    /// How many of these folds are held out in turn and calibrated on; 0: all.
    pub held_out_folds: usize,
    /// Shuffles the folds.
    pub seed: u64,
    /// How frequent labels are in use; heads not named get equal priors.
    pub priors: Priors,
    /// How much an article's lead counts beside the article for the topic; 0: not at all.
    pub lead_weight: f32,
    /// Words and their concepts, for features beside the words themselves.
    pub lexicon: Option<Lexicon>,
    /// How much memory texts, terms and vectors may take, and where the rest goes. The model is the same for any.
    pub memory: Memory,
}

impl TrainParams {
    /// The error of a temporary file.
    pub(super) fn disk(&self, source: io::Error) -> TrainError {
        CorpusError::disk(&self.memory, source).into()
    }
}

impl Default for TrainParams {
    fn default() -> Self {
        Self {
            name: "depeche".into(),
            noise_label: None,
            max_features: [0; 3],
            c: HeadSettings::default().c,
            class_weights: ClassWeights::default(),
            search: None,
            init: None,
            tolerance: TOLERANCE,
            max_iterations: 2000,
            calibration_folds: 5,
            held_out_folds: 0,
            seed: 0,
            priors: Priors::new(),
            lead_weight: 0.0,
            lexicon: None,
            memory: Memory::default(),
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

/// Names of blocks, each with a weight.
type BlockWeights = [(&'static str, f64); 9];

/// The blocks of an article's vector, and their weights in it.
const WEIGHTS: BlockWeights = [
    ("word", 1.0),
    ("ngram", 1.0),
    ("title_ngram", 0.5),
    ("own_word", 1.0),
    ("own_bigram", 1.0),
    ("edge_word", 1.0),
    ("quoted_word", 1.0),
    ("concept", 1.0),
    ("relation", 1.0),
];

/// Words at either end of an article that its beginning and its end are told by.
const EDGE_WORDS: usize = 50;

/// The blocks that every article's vector has: the first of [`WEIGHTS`].
const ALWAYS: usize = 3;

/// What a head leans on.
struct Leaning {
    /// How much on each block: a weight is more regularised the less its block has of the vector.
    blocks: BlockWeights,
    /// Whether on terms that labels differ in more than on others: see [`super::relevance`].
    by_relevance: bool,
}

/// What a text is about is told best by its own words, and by what stands beside states.
const TOPIC: Leaning = Leaning {
    blocks: [
        ("word", 1.0),
        ("ngram", 1.0),
        ("title_ngram", 0.5),
        ("own_word", 0.0),
        ("own_bigram", 0.0),
        ("edge_word", 0.0),
        ("quoted_word", 0.0),
        ("concept", 0.0),
        ("relation", 0.25),
    ],
    by_relevance: false,
};

/// What the source says itself counts for more than what it quotes, and most where it begins and ends; of whom it speaks tells another corpus's
/// stances and not these. Words of praise and blame are rare and many: concepts carry them from the corpus to texts that use others. Stances have
/// fewer rows than topics, and differ in fewer words.
const STANCE: Leaning = Leaning {
    blocks: [
        ("word", 0.0),
        ("ngram", 1.0),
        ("title_ngram", 0.5),
        ("own_word", 1.0),
        ("own_bigram", 2.0),
        ("edge_word", 0.75),
        ("quoted_word", 0.5),
        ("concept", 0.75),
        ("relation", 0.0),
    ],
    by_relevance: true,
};

/// A trained model, and how it came about.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The model.
    pub model: Model,
    /// What happened while its heads were fitted, in their order.
    pub fittings: Vec<Fitting>,
}

/// Trains a model. `progress` is told what comes next, for a person who waits.
///
/// # Errors
///
/// [`TrainError`], when the data or the settings can't be used, or the solver stops short of the minimum.
pub fn train(params: &TrainParams, corpus: Corpus, pages: &[MarkedPage], progress: &dyn Progress) -> Result<Trained, TrainError> {
    check(params, corpus.labels())?;
    let mut fittings = Vec::new();
    let mut role = None;
    if !pages.is_empty() {
        progress.stage("fitting the role head");
        let (head, fitting) = role::train(params, &corpus, pages)?;
        let kinds = head.head().labels.len();
        tracing::info!(rows = fitting.rows, iterations = fitting.iterations, kinds, "role head fitted");
        fittings.push(fitting);
        role = Some(head);
    }
    let has_stances = corpus.labels().iter().any(|labels| labels.stance.is_some());
    let data_digest = digest(&corpus, pages, params.lexicon.as_ref());
    let Vectors { space, matrix, has_body, doubt } =
        vectors(params, &corpus, role.as_ref(), blocks(params, has_stances), progress)?;
    // From here on labels are enough, and the memory of the texts is wanted for other things.
    let labels = corpus.into_labels();
    check_noise(params, &labels, &has_body)?;
    if space.features() == 0 {
        let why = if has_body.contains(&true) {
            "no word stands in two articles"
        } else {
            "the role head takes every passage for noise"
        };
        return Err(CorpusError::Unusable(format!("{why}: there is nothing to learn from")).into());
    }
    let heads = Heads { params, labels: &labels, has_body, space: &space, matrix: &matrix, progress };
    let (topic, fitting) = heads.fit("topic", &TOPIC, params.lead_weight, |labels| Some(&*labels.topic))?;
    fittings.push(fitting);
    let mut stance = None;
    if has_stances {
        let (head, fitting) = heads.fit("stance", &STANCE, 0.0, |labels| labels.stance.as_deref())?;
        fittings.push(fitting);
        stance = Some(head);
    }
    let model = Model {
        name: params.name.clone(),
        version: String::new(),
        noise_label: params.noise_label.clone(),
        training: Training { articles: labels.len() as u64, pages: pages.len() as u64, data_digest, ..record(params, &fittings) },
        document: space,
        topic,
        stance,
        role,
        thresholds: Thresholds { doubt, ..Thresholds::default() },
    };
    Ok(Trained { model, fittings })
}

/// What the model file says of how the heads were fitted.
fn record(params: &TrainParams, fittings: &[Fitting]) -> Training {
    let of = |name: &str| fittings.iter().find(|fitting| fitting.head == name);
    let scores = |name: &str| of(name).and_then(|fitting| fitting.scores.clone());
    let is_used = fittings.iter().filter_map(|fitting| fitting.taken_over).any(|taken_over| taken_over.is_used);
    let searchable = ["topic", "stance"].into_iter().filter_map(of);
    let settings: BTreeMap<String, HeadSettings> = searchable
        .filter(|fitting| fitting.settings != HeadSettings::default())
        .map(|fitting| (fitting.head.clone(), fitting.settings.clone()))
        .collect();
    Training {
        topic: scores("topic"),
        stance: scores("stance"),
        role: scores("role"),
        settings,
        started_from: params.init.as_ref().filter(|_| is_used).map(|model| model.version.clone()),
        ..Training::default()
    }
}

/// What topic and stance are fitted on: the vectors of all articles, which they share, and the labels.
struct Heads<'a> {
    params: &'a TrainParams,
    labels: &'a [Labels],
    /// For each article whether anything of it is body.
    has_body: Vec<bool>,
    space: &'a Space,
    /// A row for each article, then one for each lead.
    matrix: &'a SparseMatrix,
    progress: &'a dyn Progress,
}

impl Heads<'_> {
    /// Fits the head called `name` on the articles that `label` gives one.
    fn fit(
        &self,
        name: &str,
        leaning: &Leaning,
        lead_weight: f32,
        label: impl Fn(&Labels) -> Option<&str>,
    ) -> Result<(Head, Fitting), TrainError> {
        let Self { params, labels: all, has_body, space, matrix, progress } = self;
        let of = |row: usize| label(&all[row]).filter(|_| has_body[row]);
        let chosen: Vec<usize> = (0..all.len()).filter(|row| of(*row).is_some()).collect();
        let labels: Vec<String> = counts(chosen.iter().filter_map(|row| of(*row))).into_keys().map(str::to_owned).collect();
        let target = |label: &str| labels.binary_search_by(|other| other.as_str().cmp(label)).ok();
        let kept_whole = |row: &usize| {
            let Labels { id, group, fold, .. } = &all[*row];
            fold.as_deref().or(group.as_deref()).unwrap_or(id)
        };
        let rows = Rows {
            head: name,
            space,
            matrix,
            scales: &scales(space, &leaning.blocks),
            by_relevance: leaning.by_relevance,
            targets: chosen.iter().filter_map(|row| target(of(*row)?)).collect(),
            groups: chosen.iter().map(kept_whole).collect(),
            rows: chosen,
            labels,
            leads: Leads { weight: lead_weight, first: all.len() },
        };
        let found = params.search.as_ref().map(|grid| search(params, grid, &rows, *progress)).transpose()?;
        let given = HeadSettings { c: params.c, class_weights: params.class_weights, chosen_from: None };
        let settings = found.as_ref().map_or(given, |found| found.settings());
        progress.stage(&format!("fitting the {name} head"));
        let (mut head, mut fitting) = fit_head(params, &settings, &rows)?;
        head.priors = head.priors_from(name, &params.priors)?;
        let (rows, iterations, temperature) = (fitting.rows, fitting.iterations, head.temperature);
        tracing::info!(head = name, rows, iterations, temperature, "head fitted");
        fitting.search = found;
        Ok((head, fitting))
    }
}

/// Checks that the noise label still has an article where those without any body are left out.
fn check_noise(params: &TrainParams, articles: &[Labels], has_body: &[bool]) -> Result<(), TrainError> {
    let is_left =
        |noise: &&String| articles.iter().zip(has_body).any(|(article, has_body)| *has_body && *article.topic == ***noise);
    match params.noise_label.as_ref().filter(|noise| !is_left(noise)) {
        Some(noise) => {
            let all = format!("the role head takes every passage of all articles of the noise label {noise:?} for noise");
            Err(CorpusError::Unusable(format!("{all}, so that none is left to learn from")).into())
        }
        None => Ok(()),
    }
}

/// Checks settings and labels before any long work.
fn check(params: &TrainParams, articles: &[Labels]) -> Result<(), TrainError> {
    file::check_name(&params.name).map_err(TrainError::Name)?;
    if params.calibration_folds == 1 {
        return Err(TrainError::Setting("1 calibration fold: it must be 0 (none) or at least 2".into()));
    }
    if params.held_out_folds > params.calibration_folds {
        let TrainParams { held_out_folds, calibration_folds, .. } = params;
        return Err(TrainError::Setting(format!(
            "{held_out_folds} folds to hold out: there are {calibration_folds} calibration folds"
        )));
    }
    if let Some(grid) = &params.search {
        grid.check()?;
        if params.calibration_folds == 0 {
            return Err(TrainError::Setting("search: 0 calibration folds; it needs at least 2 to compare on".into()));
        }
    }
    if !(0.0..=1.0).contains(&params.lead_weight) {
        return Err(TrainError::Setting(format!("a lead weight of {}: it must be 0 to 1", params.lead_weight)));
    }
    let topics = counts(articles.iter().map(|article| &*article.topic));
    check_labels("topic", &topics)?;
    if let Some(noise) = &params.noise_label {
        if !topics.contains_key(noise.as_str()) {
            let known = topics.keys().copied().collect::<Vec<_>>().join(", ");
            let reason = format!("the noise label {noise:?} is not a topic of the data; its topics are {known}");
            return Err(CorpusError::Unusable(reason).into());
        }
        if let Some(article) = articles.iter().find(|article| *article.topic == **noise && article.stance.is_some()) {
            let (file, line) = (article.source.0.to_path_buf(), article.source.1);
            let reason = format!("a stance, but the topic is {noise:?}, which has none");
            return Err(CorpusError::Field { file, line, field: "stance".into(), reason }.into());
        }
    }
    let stances = counts(articles.iter().filter_map(|article| article.stance.as_deref()));
    if !stances.is_empty() {
        check_labels("stance", &stances)?;
    }
    let names = |counts: BTreeMap<&str, usize>| counts.into_keys().map(str::to_owned).collect::<Vec<_>>();
    let (topics, stances) = (names(topics), names(stances));
    check_priors(&[("topic", &topics), ("stance", &stances)], &params.priors)?;
    LogisticParams::new(2)
        .c(params.c)
        .tolerance(params.tolerance)
        .check()
        .map_err(|error| TrainError::Setting(error.to_string()))?;
    Ok(())
}

/// The blocks of an article's features. The first three gave the best mean of weighted F1 on eleven languages of MasakhaNEWS;
/// n-grams of six characters, shorter in titles, since then on four of them. The source's own words, pairs of them, those of its
/// beginning and end, and the words that it quotes are for stances, where there are any; concepts and relations come with a lexicon.
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
        blocks.push(block("own_word", BlockKind::Words, Field::OwnCommon, 2, params.max_features[0]));
        blocks.push(block("own_bigram", BlockKind::Bigrams, Field::OwnCommon, 3, params.max_features[0]));
        blocks.push(block("edge_word", BlockKind::Words, Field::Edges { words: EDGE_WORDS }, 2, params.max_features[0]));
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

/// SHA-256 of everything that is learnt from.
fn digest(corpus: &Corpus, pages: &[MarkedPage], lexicon: Option<&Lexicon>) -> String {
    let mut digest = corpus.digest().clone();
    for page in pages {
        digest.add(&page.text);
        digest.add(page.group.as_deref().unwrap_or_default());
        page.passages.iter().for_each(|(_, kind)| digest.add(kind));
    }
    if let Some(lexicon) = lexicon {
        digest.add(&lexicon.to_text());
    }
    digest.hexadecimal()
}
