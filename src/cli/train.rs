//! `depeche train`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;

use super::progress::Stages;
use super::{FieldArgs, parse_priors};
use crate::features::Lexicon;
use crate::model::file;
use crate::model::{HeadScores, Model, Priors};
use crate::train::{self as training, TrainParams};

/// Trains a model from labelled articles
#[derive(Debug, Args)]
#[command(
    after_help = "Example, in a clone of the project:\n  depeche train --data corpus/articles/*.jsonl --pages corpus/pages/*.jsonl \\\n    --lexicon corpus/lexicon.tsv --noise-label ticker_noise --out my-model.safetensors"
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
    #[command(flatten)]
    fields: FieldArgs,
    /// The model's name: lower-case letters, digits and hyphens
    #[arg(long, value_name = "NAME", default_value = "depeche")]
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
    /// The weight of the data against the penalty on large weights
    #[arg(long, value_name = "NUMBER", default_value_t = 100.0)]
    c: f64,
    /// The norm of the gradient at which the solver is done
    #[arg(long, value_name = "NUMBER", default_value_t = 1e-5)]
    tolerance: f64,
    /// The most iterations of the solver; not reaching the tolerance is an error
    #[arg(long, value_name = "N", default_value_t = 2000)]
    max_iterations: u64,
    /// How much an article's lead (title and first 60 words) counts beside the article for the topic, 0 to 1; 0: not at all.
    /// A third makes short texts, and those that begin with their subject, more often right
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    lead_weight: f32,
    /// Folds of the cross-validation that calibrates the probabilities; 0: no calibration
    #[arg(long, value_name = "N", default_value_t = 5)]
    calibration_folds: usize,
    /// Threads; 0: one a core. The model is the same for any number
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=512))]
    threads: u16,
    /// Shuffles the folds
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

pub(super) fn run(args: &TrainArgs) -> anyhow::Result<()> {
    let max_features = <[usize; 3]>::try_from(args.max_features.as_slice());
    let max_features =
        max_features.ok().with_context(|| format!("--max-features takes three numbers, not {}", args.max_features.len()))?;
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    ensure!(folder.is_none_or(|folder| folder.is_dir()), "--out {}: there is no such folder", args.out.display());
    let params = TrainParams {
        name: args.name.clone(),
        noise_label: args.noise_label.clone(),
        max_features,
        c: args.c,
        tolerance: args.tolerance,
        max_iterations: args.max_iterations,
        calibration_folds: args.calibration_folds,
        seed: args.seed,
        priors: args.priors.clone().unwrap_or_default(),
        lead_weight: args.lead_weight,
        lexicon: args.lexicon.as_deref().map(lexicon).transpose()?,
    };
    rayon::ThreadPoolBuilder::new().num_threads(args.threads.into()).build_global().context("--threads")?;
    let stages = Stages::new();
    stages.stage("reading the data");
    let articles = training::corpus::read(&args.data, &args.fields.names())?;
    let pages = training::pages::read(&args.pages)?;
    let model = training::train(&params, &articles, &pages, &mut |name| stages.stage(name))?;
    stages.stage("writing the model");
    let bytes = model.to_bytes()?;
    // What was just trained must load; a model that does not is never written.
    let model = Model::from_bytes(&bytes)?;
    file::replace(&args.out, &bytes)?;
    stages.finish();
    summary(&model, bytes.len(), args)
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
