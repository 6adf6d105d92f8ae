//! Scores a data set in bulk and one article at a time, on one thread.
//!
//! ```sh
//! cargo bench --bench dataset -- --model FILE --data FILE.jsonl [--rounds 5]
//! ```
//!
//! prints one JSON object: bytes and articles, for each round the seconds of a walk over all articles, and the times of single calls
//! in microseconds at several quantiles. Texts are in memory before the clock starts. With `--plain` the same model's topics are told by a
//! [plain loop](plain) instead, and the share of articles that get the same label is printed as well.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark may stop at whatever is wrong, and prints its figures"
)]

mod plain;

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use depeche::model::{Article, Classifier, Model, Options};
use depeche::train::corpus::{self, FieldNames};
use serde_json::json;

use plain::Plain;

/// What to measure
#[derive(Parser)]
struct Args {
    /// The model; without it, the one that is built in
    #[arg(long)]
    model: Option<PathBuf>,
    /// Articles with `text`, and any `label`, `topic` or `category` (which is not looked at)
    #[arg(long)]
    data: PathBuf,
    /// The field that holds a label
    #[arg(long, default_value = "topic")]
    label_field: String,
    /// Walks over all articles
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Score with a plain loop, for a model of words and n-grams without a role head
    #[arg(long)]
    plain: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let model = args.model.as_deref().map_or_else(Classifier::built_in_model, Model::load).unwrap();
    let mut plain = args.plain.then(|| Plain::new(&model).unwrap());
    let classifier = Classifier::new(model).for_streams();
    let fields = FieldNames { topic: Some(args.label_field), ..FieldNames::default() };
    let articles = corpus::read(&[args.data], &fields).unwrap();
    let bytes: usize = articles.iter().map(|article| article.title.len() + article.text.len()).sum();
    let options = Options::default();
    let classify =
        |title: &str, text: &str| classifier.classify(Article { title, text }, &options).ok().map(|answer| answer.topic.label);
    let mut label = |title: &str, text: &str| match &mut plain {
        Some(plain) => Some(plain.label(title, text).to_owned()),
        None => classify(title, text),
    };
    let mut seconds = Vec::new();
    for _ in 0..=args.rounds {
        let begin = Instant::now();
        articles.iter().for_each(|article| drop(black_box(label(&article.title, &article.text))));
        seconds.push(begin.elapsed().as_secs_f64());
    }
    // The first walk warms up.
    seconds.remove(0);
    let mut single: Vec<f64> = articles
        .iter()
        .map(|article| {
            let begin = Instant::now();
            let _ = black_box(label(&article.title, &article.text));
            begin.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    single.sort_by(f64::total_cmp);
    let quantile = |share: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
        let at = (share * (single.len() - 1) as f64) as usize;
        single[at]
    };
    let mut report = json!({
        "articles": articles.len(), "bytes": bytes, "seconds": seconds,
        "microseconds": { "p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99), "max": quantile(1.0) },
    });
    if args.plain {
        let same =
            articles.iter().filter(|article| label(&article.title, &article.text) == classify(&article.title, &article.text));
        #[expect(clippy::cast_precision_loss, reason = "far fewer articles than 2^52")]
        let share = same.count() as f64 / articles.len() as f64;
        report["same_label"] = share.into();
    }
    println!("{report}");
}
