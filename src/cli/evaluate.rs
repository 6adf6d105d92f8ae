//! `depeche evaluate`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use rayon::prelude::*;
use serde::Serialize;

use super::progress::bar;
use super::{FieldArgs, ModelArgs};
use crate::evaluate::{LabelScores, Outcome, Report, report};
use crate::model::{Answer, Article, Classifier, Head, Options};
use crate::train::LabelledArticle;
use crate::train::corpus;

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
    #[command(flatten)]
    fields: FieldArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
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
    let mut reports = vec![("topic", topic(&classifier, &articles, &answers))];
    if let Some(head) = &classifier.model().stance
        && articles.iter().any(|article| article.stance.is_some())
    {
        reports.push(("stance", stance(head, &articles, &answers)));
    }
    let mut out = anstream::stdout();
    if args.json {
        let json: BTreeMap<&str, Json<'_>> = reports.iter().map(|(name, report)| (*name, Json::new(report))).collect();
        writeln!(out, "{}", serde_json::to_string(&json)?)?;
        return Ok(());
    }
    for (name, report) in &reports {
        print(&mut out, name, report)?;
    }
    Ok(())
}

fn topic(classifier: &Classifier, articles: &[LabelledArticle], answers: &[Option<Answer>]) -> Report {
    let outcomes: Vec<Outcome<'_>> = articles
        .iter()
        .zip(answers)
        .map(|(article, answer)| Outcome {
            gold: &article.topic,
            predicted: answer.as_ref().map(|answer| answer.topic.label.as_str()),
            probability: answer.as_ref().map_or(0.0, |answer| answer.topic.probability),
        })
        .collect();
    warn_unknown("topic", &classifier.model().topic, &outcomes);
    report(&outcomes, &labels(&classifier.model().topic))
}

/// Over the articles that have a stance; where the model gave none, it is wrong.
fn stance(head: &Head, articles: &[LabelledArticle], answers: &[Option<Answer>]) -> Report {
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
    warn_unknown("stance", head, &outcomes);
    report(&outcomes, &labels(head))
}

fn labels(head: &Head) -> Vec<&str> {
    head.labels.iter().map(String::as_str).collect()
}

fn warn_unknown(name: &str, head: &Head, outcomes: &[Outcome<'_>]) {
    let unknown: Vec<&str> =
        outcomes.iter().map(|outcome| outcome.gold).filter(|gold| !head.labels.iter().any(|label| label == gold)).collect();
    if let Some(first) = unknown.first() {
        tracing::warn!(
            head = name,
            label = first,
            articles = unknown.len(),
            "labels that the model does not know count as wrong"
        );
    }
}

fn print(out: &mut impl Write, name: &str, report: &Report) -> anyhow::Result<()> {
    let Report { macro_f1, accuracy, interval: (low, high), calibration_error, labels, confusion } = report;
    writeln!(
        out,
        "{name}: macro-F1 {macro_f1:.3} [{low:.3}, {high:.3}], accuracy {accuracy:.3}, calibration error {calibration_error:.3}"
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

/// A report as JSON.
#[derive(Serialize)]
struct Json<'a> {
    macro_f1: f64,
    accuracy: f64,
    labels: BTreeMap<&'a str, Row>,
    interval: (f64, f64),
    calibration_error: f64,
}

#[derive(Serialize)]
struct Row {
    precision: f64,
    recall: f64,
    f1: f64,
    support: usize,
}

impl<'a> Json<'a> {
    fn new(report: &'a Report) -> Self {
        let row = |LabelScores { label, precision, recall, f1, support }: &'a LabelScores| {
            (label.as_str(), Row { precision: *precision, recall: *recall, f1: *f1, support: *support })
        };
        Self {
            macro_f1: report.macro_f1,
            accuracy: report.accuracy,
            labels: report.labels.iter().map(row).collect(),
            interval: report.interval,
            calibration_error: report.calibration_error,
        }
    }
}
