//! Times each step from a page to an answer, and the solver, on one thread.
//!
//! ```sh
//! cargo bench --bench parts [NAME]
//! ```
//!
//! Every round walks over the same articles, the first of each file in `corpus/articles`; throughput is in bytes of their
//! titles and texts. Buffers are warm, as they are in a server: what is known of words stays from round to round. What a step
//! builds on is made before the clock starts; the steps of `classify` are `read`, `score` and the same for the role head.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at whatever is wrong")]

use std::hint::black_box;
use std::path::Path;
use std::sync::LazyLock;

use depeche::features::matrix::PackedRows;
use depeche::features::{
    BlockConfig, BlockKind, Document, Field, Part, Reading, ShapeTerms, Space, SparseMatrix, SparseRows, Tally, TermCounts,
    Tokens,
};
use depeche::model::{Article, Classifier, Options};
use depeche::page;
use depeche::spill::Memory;
use depeche::terms::Reader;
use depeche::train::corpus::{self, FieldNames};
use depeche::train::solver::LogisticParams;
use depeche::train::{LabelledArticle, TrainParams};
use divan::Bencher;
use divan::counter::BytesCount;
use linfa::ParamGuard;
use linfa::dataset::DatasetBase;
use linfa::traits::Fit;

/// Articles of each file.
const ARTICLES: usize = 120;

/// The files, one for each label of the solver's.
const FILES: [&str; 3] = ["diplomacy", "military", "unrelated"];

/// The articles, those of a file one after the other.
static CORPUS: LazyLock<Vec<LabelledArticle>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/articles");
    let read = |name: &&str| corpus::read(&[folder.join(name).with_extension("jsonl")], &FieldNames::default()).unwrap();
    FILES.iter().flat_map(|name| read(name).into_iter().take(ARTICLES)).collect()
});

static CLASSIFIER: LazyLock<Classifier> = LazyLock::new(|| Classifier::new(Classifier::built_in_model().unwrap()));

fn main() {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(divan::main);
}

fn bytes() -> BytesCount {
    BytesCount::new(CORPUS.iter().map(|article| article.title.len() + article.text.len()).sum::<usize>())
}

/// All articles as read, and the parts of each.
fn read_all() -> (Reading, Vec<Vec<Part>>) {
    let mut reading = Reading::default();
    let parts = CORPUS.iter().map(|article| reading.document(&document(article))).collect();
    (reading, parts)
}

/// An article as a document of which every passage is body.
fn document(article: &LabelledArticle) -> Document<'_> {
    let passages = page::split(&article.text).into_iter().map(|passage| passage.range);
    Document::article(&article.title, &article.text, passages, 0)
}

#[divan::bench]
fn split(bencher: Bencher<'_, '_>) {
    let articles = &*CORPUS;
    let texts = articles.iter().map(|article| article.text.len()).sum::<usize>();
    bencher.counter(BytesCount::new(texts)).bench_local(|| {
        articles.iter().for_each(|article| drop(black_box(page::split(black_box(&article.text)))));
    });
}

#[divan::bench]
fn words(bencher: Bencher<'_, '_>) {
    let mut reader = Reader::default();
    let articles = &*CORPUS;
    bencher.counter(bytes()).bench_local(|| {
        for article in articles {
            for text in [&article.title, &article.text] {
                reader.words(black_box(text), |word, range| {
                    black_box((word, range));
                });
            }
        }
    });
}

#[divan::bench]
fn read(bencher: Bencher<'_, '_>) {
    let mut reading = Reading::default();
    let articles = &*CORPUS;
    bencher.counter(bytes()).bench_local(|| {
        for article in articles {
            reading.clear();
            for text in [&article.title, &article.text] {
                black_box(reading.read(black_box(text)));
            }
        }
    });
}

/// Counts the terms of topic and stance.
#[divan::bench]
fn tally(bencher: Bencher<'_, '_>) {
    let space = &CLASSIFIER.model().document;
    let (reading, parts) = read_all();
    let (mut tally, shape) = (Tally::default(), ShapeTerms::default());
    bencher.counter(bytes()).bench_local(|| {
        for parts in &parts {
            let tokens = Tokens { reading: &reading, parts, shape: &shape };
            tally.count(&space.counted(), &mut &*space, &tokens, |block, terms| {
                black_box((block, terms));
            });
        }
    });
}

/// Counts the terms of topic and stance and adds up their weights.
#[divan::bench]
fn score(bencher: Bencher<'_, '_>) {
    let model = CLASSIFIER.model();
    let (space, scorer) = (&model.document, model.scorer());
    let (reading, parts) = read_all();
    let (mut tally, mut sums, shape) = (Tally::default(), Vec::new(), ShapeTerms::default());
    bencher.counter(bytes()).bench_local(|| {
        for parts in &parts {
            let tokens = Tokens { reading: &reading, parts, shape: &shape };
            scorer.score(space, (&mut tally, &tokens), &mut sums, |_, _| ());
            black_box(&sums);
        }
    });
}

/// Whole answers, explained by so many contributions.
#[divan::bench(args = [0, 20], sample_count = 20)]
fn classify(bencher: Bencher<'_, '_>, max_contributions: usize) {
    let options = Options { max_contributions, ..Options::default() };
    let articles = &*CORPUS;
    bencher.counter(bytes()).bench_local(|| {
        for LabelledArticle { title, text, .. } in articles {
            let _ = black_box(CLASSIFIER.classify(black_box(Article { title, text }), &options));
        }
    });
}

/// Fits a head of three labels, with the blocks that every trained model has.
#[divan::bench(sample_count = 5)]
fn solver(bencher: Bencher<'_, '_>) {
    let block = |name: &str, kind, field, min_df, weight| {
        let name = name.to_owned();
        BlockConfig { name, kind, field, min_df, max_features: 0, weight }
    };
    let ngrams = |max| BlockKind::Ngrams { min: 2, max };
    let blocks = vec![
        block("word", BlockKind::Words, Field::Document, 2, 1.0),
        block("ngram", ngrams(6), Field::Document, 5, 1.0),
        block("title_ngram", ngrams(5), Field::Title, 2, 0.5),
    ];
    let documents: Vec<Document<'_>> = CORPUS.iter().map(document).collect();
    let space = Space::fit(blocks, None, &documents.iter().collect::<Vec<_>>());
    let (reading, parts) = read_all();
    let (mut tally, mut counts, shape) = (Tally::default(), TermCounts::default(), ShapeTerms::default());
    let (mut matrix, mut rows) = (SparseMatrix::within(&Memory::default(), &space), PackedRows::default());
    for parts in &parts {
        space.counts(&mut tally, &Tokens { reading: &reading, parts, shape: &shape }, &mut counts, |_, _| {});
        rows.push(&space, Some(&counts));
    }
    matrix.push(rows).unwrap();
    let labels = (0..CORPUS.len()).map(|row| row / ARTICLES).collect();
    let data = DatasetBase::new(SparseRows::all(&matrix), labels);
    let settings = LogisticParams::new(FILES.len()).c(TrainParams::default().c).tolerance(1e-3).check().unwrap();
    bencher.counter(bytes()).bench_local(|| settings.fit(black_box(&data)).unwrap());
}
