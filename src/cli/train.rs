//! `depeche train`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;

use super::progress::Stages;
use super::{FieldArgs, Usage, parse_priors};
use crate::features::Lexicon;
use crate::model::file;
use crate::model::{ClassWeights, HeadScores, Model, Priors};
use crate::spill::Memory;
use crate::train::search::{Edge, Point, Spread};
use crate::train::solver::TOLERANCE;
use crate::train::{
    self as training, Corpus, FieldNames, Fitting, Progress, Search, SearchParams, TakenOver, TrainError, TrainParams,
};

/// Trains a model from labelled articles
#[derive(Debug, Args)]
#[command(
    after_help = "Example, in a clone of the project:\n  depeche train --data corpus/articles/*.jsonl --pages corpus/pages/*.jsonl \\\n    --lexicon corpus/lexicon.tsv --noise-label ticker_noise --out my-model.safetensors\n\nThe same with the best of eight settings, and later, with more articles, from where that ended:\n  depeche train … --search --out best.safetensors\n  depeche train … --init best.safetensors --out newer.safetensors"
)]
pub struct TrainArgs {
    /// Labelled articles: .jsonl, .jsonl.gz, .csv or .tsv
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// Marked raw pages, .jsonl of {text, passages: [{begin, end, kind}]}: they teach what is article and what is noise.
    /// Without them every passage counts as article
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pages: Vec<PathBuf>,
    /// A lexicon, lines of concept, tab, word: what words stand for, as features beside the words themselves; a word may end in
    /// * for all that begin so. Concepts named country:XX are states
    #[arg(long, value_name = "FILE")]
    lexicon: Option<PathBuf>,
    /// The model file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The model's name: lower-case letters, digits and hyphens
    #[arg(long, value_name = "NAME", default_value = "depeche", value_parser = name)]
    name: String,
    /// The topic label that means unrelated: articles that get it get no stance
    #[arg(long, value_name = "LABEL")]
    noise_label: Option<String>,
    /// How frequent labels are in use, for heads where that is known; equal otherwise
    #[arg(long, value_name = "LABEL=P,…", value_parser = parse_priors)]
    priors: Option<Priors>,
    /// The most terms of each block (words, n-grams, n-grams of the title), those in the most articles; 0: no limit
    #[arg(long, value_name = "N,N,N", value_delimiter = ',', default_values_t = [0, 0, 0])]
    max_features: Vec<usize>,
    /// The weight of the data against the penalty on large weights, for topic and stance
    #[arg(long, value_name = "NUMBER", default_value_t = 100.0, value_parser = above_zero, allow_negative_numbers = true)]
    c: f64,
    /// What articles of rare labels weigh in topic and stance: balanced (each label weighs the same), square-root (in proportion to the
    /// root of its articles) or none (each article weighs the same). What labels are taken to be as frequent as, --priors says
    #[arg(long, value_name = "WEIGHTS", default_value_t)]
    class_weights: ClassWeights,
    #[command(flatten)]
    search: SearchArgs,
    /// A model to start from: what it knows of the same terms and labels. Training ends in the same place, within the tolerance, and is there
    /// sooner the more alike the data are. Calibration starts at zero all the same
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// The solver is done when no component of the gradient is greater. From a hundred thousand articles on, 1e-4 gives as good a model sooner
    #[arg(long, value_name = "NUMBER", default_value_t = TOLERANCE, value_parser = above_zero, allow_negative_numbers = true)]
    tolerance: f64,
    /// The most iterations of the solver; not reaching the tolerance is an error
    #[arg(long, value_name = "N", default_value_t = 2000)]
    max_iterations: u64,
    /// How much an article's lead (title and first 60 words) counts beside the article for the topic, 0 to 1; 0: not at all.
    /// A third makes short texts, and those that begin with their subject, more often right
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0, value_parser = lead_weight, allow_negative_numbers = true)]
    lead_weight: f32,
    /// Folds of the cross-validation that calibrates the probabilities; 0: no calibration
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = folds)]
    calibration_folds: usize,
    /// How many of these folds are held out in turn for topic and stance, and calibrated on; 0: all. Each takes nearly as long as the model itself, and with
    /// a hundred thousand articles one tells enough
    #[arg(long, value_name = "N", default_value_t = 0)]
    held_out_folds: usize,
    /// Holds what the folds keep whole for topic and stance in place of the group: the outlet, the year, whoever collected or wrote the articles. Held-out
    /// scores are then those on articles of another origin, and probabilities as sure as they may be of these
    #[arg(long, value_name = "NAME")]
    fold_field: Option<String>,
    /// Memory for texts, counted terms and vectors, such as 6G or 800M, at least 256M; what does not fit goes to temporary files, up to five times the size of the
    /// texts. The model is the same to the last byte. Beyond it come some 300 bytes an article, 40 MB a thread, the weights
    /// while they are fitted (see --max-features), and CSV and TSV files, which are read as a whole. No limit by default
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<u64>,
    /// The folder for temporary files, which are gone with the process; that of --out by default, since the system's is memory on many systems
    #[arg(long, value_name = "FOLDER", requires = "memory")]
    temporary_folder: Option<PathBuf>,
    /// Threads; 0: one a core. The model is the same for any number
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=512))]
    threads: u16,
    /// Shuffles the folds
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    // Last, since its heading is for all that follows.
    #[command(flatten)]
    fields: FieldArgs,
}

/// A search for C and class weights.
#[derive(Debug, Args)]
struct SearchArgs {
    /// Choose C and class weights for topic and for stance by cross-validation over groups, on --calibration-folds folds. Chosen is the least
    /// C whose log loss (calibrated, every label counting the same) is within one standard error of the lowest; the scores of all are shown
    #[arg(long, conflicts_with_all = ["c", "class_weights"])]
    search: bool,
    /// Values of C to choose from, each above zero
    #[arg(long, value_name = "NUMBER,…", value_delimiter = ',', requires = "search", value_parser = above_zero,
          default_values_t = SearchParams::default().cs)]
    search_c: Vec<f64>,
    /// Class weights to choose from
    #[arg(
        long,
        value_name = "WEIGHTS,…",
        value_delimiter = ',',
        requires = "search",
        default_values_t = SearchParams::default().class_weights
    )]
    search_class_weights: Vec<ClassWeights>,
}

impl SearchArgs {
    fn params(&self) -> Option<SearchParams> {
        let Self { search, search_c, search_class_weights } = self;
        search.then(|| SearchParams { cs: search_c.clone(), class_weights: search_class_weights.clone() })
    }
}

pub(super) fn run(args: &TrainArgs) -> anyhow::Result<()> {
    let max_features = <[usize; 3]>::try_from(args.max_features.as_slice());
    let max_features =
        max_features.map_err(|_| Usage(format!("--max-features: three numbers are needed, not {}", args.max_features.len())))?;
    let (held_out, folds) = (args.held_out_folds, args.calibration_folds);
    if held_out > folds {
        return Err(Usage(format!("--held-out-folds {held_out}: there are {folds} (--calibration-folds)")).into());
    }
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    ensure!(folder.is_none_or(|folder| folder.is_dir()), "--out {}: there is no such folder", args.out.display());
    let temporary = args.temporary_folder.as_deref().or(folder).unwrap_or(Path::new("."));
    ensure!(temporary.is_dir(), "--temporary-folder {}: there is no such folder", temporary.display());
    let threads = rayon::ThreadPoolBuilder::new().num_threads(args.threads.into()).build().context("--threads")?;
    // From one of them: each of thousands of short loops would otherwise wake one up and wait for it, even where there is only one.
    threads.install(|| train(args, max_features, temporary))
}

fn train(args: &TrainArgs, max_features: [usize; 3], temporary: &Path) -> anyhow::Result<()> {
    let params = TrainParams {
        name: args.name.clone(),
        noise_label: args.noise_label.clone(),
        max_features,
        c: args.c,
        class_weights: args.class_weights,
        search: args.search.params(),
        init: args.init.as_deref().map(init).transpose()?,
        tolerance: args.tolerance,
        max_iterations: args.max_iterations,
        calibration_folds: args.calibration_folds,
        held_out_folds: args.held_out_folds,
        seed: args.seed,
        priors: args.priors.clone().unwrap_or_default(),
        lead_weight: args.lead_weight,
        lexicon: args.lexicon.as_deref().map(lexicon).transpose()?,
        memory: Memory::new(args.memory, temporary.to_owned()),
    };
    let stages = Stages::new();
    stages.stage("reading the data");
    let corpus = Corpus::read(&args.data, &FieldNames { fold: args.fold_field.clone(), ..args.fields.names() }, &params.memory)?;
    let pages = training::pages::read(&args.pages)?;
    let trained = training::train(&params, corpus, &pages, &stages).map_err(|error| match &error {
        TrainError::Priors(priors) => Usage(format!("--priors: {priors}")).into(),
        TrainError::Setting(_) | TrainError::Name(_) => Usage::of(&error),
        TrainError::Corpus(_) | TrainError::Pages(_) | TrainError::Solver { .. } => error.into(),
    })?;
    stages.stage("writing the model");
    let bytes = trained.model.to_bytes()?;
    // What was just trained must load; a model that does not is never written.
    let model = Model::from_bytes(&bytes)?;
    file::replace(&args.out, &bytes)?;
    stages.finish();
    for fitting in &trained.fittings {
        report(fitting, args)?;
    }
    let written = params.memory.written();
    if written > 0 {
        let (mib, folder) = (written.div_ceil(1 << 20), params.memory.folder.display());
        writeln!(anstream::stderr(), "temporary files: {mib} MiB in {folder}, gone by now")?;
    }
    summary(&model, bytes.len(), args)
}

fn above_zero(given: &str) -> Result<f64, String> {
    let number = given.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expected a number above zero".to_owned())
}

fn lead_weight(given: &str) -> Result<f32, String> {
    given.parse().ok().filter(|weight| (0.0..=1.0).contains(weight)).ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn folds(given: &str) -> Result<usize, String> {
    given.parse().ok().filter(|folds| *folds != 1).ok_or_else(|| "expected 0, for none, or at least 2".to_owned())
}

fn name(given: &str) -> Result<String, String> {
    file::check_name(given).map(|()| given.to_owned()).map_err(|error| error.to_string())
}

/// A number of bytes, with K, M, G or T for powers of 1024.
fn memory(given: &str) -> Result<u64, String> {
    const LEAST: u64 = 256 << 20;
    let digits = given.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match given[digits.len()..].to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("expected a number and K, M, G or T, such as 6G".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number and K, M, G or T, such as 6G".to_owned())?;
    let bytes = number.checked_mul(1 << shift).ok_or("more than there is")?;
    if bytes < LEAST { Err(format!("{bytes} bytes; at least 256M are needed")) } else { Ok(bytes) }
}

fn init(file: &Path) -> anyhow::Result<Model> {
    Model::load(file).with_context(|| format!("--init {}", file.display()))
}

/// What a head took over, and how its settings were found.
fn report(fitting: &Fitting, args: &TrainArgs) -> anyhow::Result<()> {
    let mut out = anstream::stderr();
    let Fitting { head, iterations, .. } = fitting;
    if let (Some(file), Some(taken_over)) = (&args.init, fitting.taken_over) {
        let TakenOver { features, of_features, labels, of_labels, is_used } = taken_over;
        let how = if is_used { "started from" } else { "not started from, since that is no nearer than nothing:" };
        let counts = format!("{features} of {of_features} features and {labels} of {of_labels} labels");
        writeln!(out, "{head}: {how} {counts} of {} ({iterations} iterations)", file.display())?;
    }
    if let Some(search) = &fitting.search {
        table(&mut out, head, search)?;
    }
    Ok(())
}

/// The points of a search, the chosen one marked.
fn table(out: &mut impl Write, head: &str, search: &Search) -> anyhow::Result<()> {
    let Search { points, chosen, folds, .. } = search;
    writeln!(out, "{head}: search over {} points, mean and standard deviation over {folds} folds", points.len())?;
    let columns = ["log loss", "above lowest", "macro-F1", "calibration error"].map(|name| format!("  {name:17}")).concat();
    writeln!(out, "  class weights          C{}", columns.trim_end())?;
    let cell = |mean: f64, spread: f64| format!("  {:17}", format!("{mean:.4} ± {spread:.4}"));
    for (at, Point { c, class_weights, log_loss, above, macro_f1, calibration_error }) in points.iter().enumerate() {
        let of = |score: &Spread| cell(score.mean, score.deviation);
        let cells = [of(log_loss), cell(above.0, above.1), of(macro_f1), of(calibration_error)].concat();
        let mark = if at == *chosen { '*' } else { ' ' };
        writeln!(out, "{mark} {class_weights:13} {c:10}{}", cells.trim_end())?;
    }
    let rule = "the least C within one standard error (± of \"above lowest\") of the lowest log loss";
    writeln!(out, "* chosen: {rule}; of equals, balanced class weights first")?;
    match search.edge() {
        Some(Edge::Below(c)) => writeln!(out, "{head}: a C below {c} may do as well: try some with --search-c")?,
        Some(Edge::Above(c)) => writeln!(out, "{head}: a C above {c} may do better: try some with --search-c")?,
        None => {}
    }
    Ok(())
}

fn lexicon(file: &Path) -> anyhow::Result<Lexicon> {
    let context = || format!("lexicon {}", file.display());
    Lexicon::parse(&fs::read_to_string(file).with_context(context)?).with_context(context)
}

fn summary(model: &Model, bytes: usize, args: &TrainArgs) -> anyhow::Result<()> {
    let mut out = anstream::stderr();
    let training = &model.training;
    writeln!(out, "{} ({} KiB), {}", args.out.display(), bytes.div_ceil(1024), model.resource_name())?;
    let features: Vec<String> =
        model.document.blocks().iter().map(|block| format!("{} {}", block.vocabulary.len(), block.config.name)).collect();
    writeln!(out, "{} articles, {} pages; features: {}", training.articles, training.pages, features.join(", "))?;
    for (name, scores) in [("topic", &training.topic), ("stance", &training.stance), ("role", &training.role)] {
        if let Some(HeadScores { rows, macro_f1, accuracy, calibration_error }) = scores {
            writeln!(
                out,
                "{name}: held-out macro-F1 {macro_f1:.3}, accuracy {accuracy:.3}, calibration error {calibration_error:.3} (n {rows})"
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_in_powers_of_1024() {
        assert_eq!(memory("268435456"), Ok(1 << 28));
        for given in ["6G", "6g", "6GiB", "6GB", "6144M"] {
            assert_eq!(memory(given), Ok(6 << 30), "{given}");
        }
        assert_eq!(memory("255M"), Err("267386880 bytes; at least 256M are needed".into()));
        for given in ["", "G", "6X", "6G5", "-6G", "1.5G"] {
            assert_eq!(memory(given), Err("expected a number and K, M, G or T, such as 6G".into()), "{given}");
        }
        assert_eq!(memory("99999999T"), Err("more than there is".into()));
    }
}
