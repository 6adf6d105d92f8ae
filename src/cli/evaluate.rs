//! `depeche evaluate`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use rayon::prelude::*;
use serde::Serialize;

use super::progress::bar;
use super::{FieldArgs, ModelArgs};
use crate::evaluate::{LabelScores, Outcome, Report, interval, report};
use crate::model::{Answer, Article, Classifier, Head, Options};
use crate::train::LabelledArticle;
use crate::train::corpus;

/// Labels named at most where the model does not know them.
const MOST_NAMED: usize = 10;

/// Scores a model on labelled articles
#[derive(Debug, Args)]
#[command(
    after_help = "Example, in a clone of the project (the built-in model has seen these articles):\n  depeche evaluate --data corpus/articles/*.jsonl"
)]
pub struct EvaluateArgs {
    /// Labelled articles: .jsonl, .jsonl.gz, .csv or .tsv
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    // Last, since its heading is for all that follows.
    #[command(flatten)]
    fields: FieldArgs,
}

pub(super) fn run(args: &EvaluateArgs) -> anyhow::Result<()> {
    let classifier = args.model.classifier()?;
    let articles = corpus::read(&args.data, &args.fields.names())?;
    let progress = bar("classifying", articles.len());
    let answers: Vec<Option<Answer>> = articles
        .par_iter()
        .map(|article| {
            progress.inc(1);
            classifier.classify(Article { title: &article.title, text: &article.text }, &Options::default()).ok()
        })
        .collect();
    progress.finish_and_clear();
    let mut measured = vec![("topic", topic(&classifier, &articles, &answers)?)];
    if let Some(head) = &classifier.model().stance
        && articles.iter().any(|article| article.stance.is_some())
    {
        measured.push(("stance", stance(head, &articles, &answers)?));
    }
    let mut out = anstream::stdout();
    if args.json {
        let heads = measured.iter().map(|(name, measured)| (*name, HeadJson::new(measured))).collect();
        writeln!(out, "{}", serde_json::to_string(&Json { model: classifier.model().resource_name(), heads })?)?;
        return Ok(());
    }
    for (name, measured) in &measured {
        print(&mut out, name, measured)?;
    }
    Ok(())
}

/// How well a head does.
struct Measured {
    articles: usize,
    report: Report,
    /// 95 % of macro-F1.
    interval: (f64, f64),
}

fn topic(classifier: &Classifier, articles: &[LabelledArticle], answers: &[Option<Answer>]) -> anyhow::Result<Measured> {
    let outcomes: Vec<Outcome<'_>> = articles
        .iter()
        .zip(answers)
        .map(|(article, answer)| Outcome {
            gold: &article.topic,
            predicted: answer.as_ref().map(|answer| answer.topic.label.as_str()),
            probability: answer.as_ref().map_or(0.0, |answer| answer.topic.probability),
        })
        .collect();
    measure("topic", &classifier.model().topic, &outcomes)
}

/// Over the articles that have a stance; where the model gave none, it is wrong.
fn stance(head: &Head, articles: &[LabelledArticle], answers: &[Option<Answer>]) -> anyhow::Result<Measured> {
    let outcomes: Vec<Outcome<'_>> = articles
        .iter()
        .zip(answers)
        .filter_map(|(article, answer)| {
            let stance = answer.as_ref().and_then(|answer| answer.stance.as_ref());
            Some(Outcome {
                gold: article.stance.as_deref()?,
                predicted: stance.map(|stance| stance.label.as_str()),
                probability: stance.map_or(0.0, |stance| stance.probability),
            })
        })
        .collect();
    measure("stance", head, &outcomes)
}

fn measure(name: &str, head: &Head, outcomes: &[Outcome<'_>]) -> anyhow::Result<Measured> {
    let labels: Vec<&str> = head.labels.iter().map(String::as_str).collect();
    let mut unknown: BTreeMap<&str, usize> = BTreeMap::new();
    outcomes.iter().filter(|outcome| !labels.contains(&outcome.gold)).for_each(|outcome| {
        *unknown.entry(outcome.gold).or_default() += 1;
    });
    if !unknown.is_empty() && unknown.values().sum::<usize>() == outcomes.len() {
        let (found, known) = (unknown.into_keys().take(MOST_NAMED).collect::<Vec<_>>().join(", "), labels.join(", "));
        anyhow::bail!("{name}: the model knows none of the labels of the data ({found}); it knows {known}");
    }
    for (label, articles) in unknown.into_iter().take(MOST_NAMED) {
        tracing::warn!(head = name, label, articles, "a label that the model does not know counts as wrong");
    }
    Ok(Measured { articles: outcomes.len(), report: report(outcomes, &labels), interval: interval(outcomes) })
}

fn print(
    out: &mut impl Write,
    name: &str,
    Measured { articles, report, interval: (low, high) }: &Measured,
) -> anyhow::Result<()> {
    let Report { macro_f1, accuracy, calibration_error, labels, confusion } = report;
    writeln!(
        out,
        "{name}: macro-F1 {macro_f1:.3} [{low:.3}, {high:.3}], accuracy {accuracy:.3}, calibration error {calibration_error:.3}, n {articles}"
    )?;
    let width = labels.iter().map(|row| row.label.chars().count()).max().unwrap_or(0).max(22);
    for LabelScores { label, precision, recall, f1, support } in labels {
        writeln!(out, "  {label:width$} P {precision:.3}  R {recall:.3}  F1 {f1:.3}  n {support}")?;
    }
    writeln!(out, "  confusion (a row is a true label; the columns are the labels in the same order, then no label)")?;
    for (row, counts) in labels.iter().zip(confusion) {
        let counts: String = counts.iter().map(|count| format!("{count:7}")).collect();
        writeln!(out, "  {:width$}{counts}", row.label)?;
    }
    Ok(())
}

/// All that is told, as JSON.
#[derive(Serialize)]
struct Json<'a> {
    model: String,
    #[serde(flatten)]
    heads: BTreeMap<&'static str, HeadJson<'a>>,
}

#[derive(Serialize)]
struct HeadJson<'a> {
    articles: usize,
    macro_f1: f64,
    accuracy: f64,
    labels: BTreeMap<&'a str, Row<'a>>,
    interval: (f64, f64),
    calibration_error: f64,
}

#[derive(Serialize)]
struct Row<'a> {
    precision: f64,
    recall: f64,
    f1: f64,
    support: usize,
    /// How often each label was predicted for this one; under the empty name, how often none was.
    predicted: BTreeMap<&'a str, usize>,
}

impl<'a> HeadJson<'a> {
    fn new(Measured { articles, report, interval }: &'a Measured) -> Self {
        let names: Vec<&str> = report.labels.iter().map(|row| row.label.as_str()).chain(std::iter::once("")).collect();
        let row = |(LabelScores { label, precision, recall, f1, support }, counts): (&'a LabelScores, &'a Vec<usize>)| {
            let predicted = names.iter().copied().zip(counts.iter().copied()).filter(|(_, count)| *count > 0).collect();
            (label.as_str(), Row { precision: *precision, recall: *recall, f1: *f1, support: *support, predicted })
        };
        Self {
            articles: *articles,
            macro_f1: report.macro_f1,
            accuracy: report.accuracy,
            labels: report.labels.iter().zip(&report.confusion).map(row).collect(),
            interval: *interval,
            calibration_error: report.calibration_error,
        }
    }
}
