//! Training the head that tells article from noise.
//!
//! It learns from the passages of marked pages, and from the labelled articles, whose text is article throughout. Those
//! are shown in the forms that collectors deliver: the text alone or, by turns, with the title as first line; and every
//! second article also as one long line. Passages marked as repeated are left out: repetition is seen, not
//! learnt.

use std::borrow::Cow;
use std::io;

use super::corpus::{check_labels, counts};
use super::fit::{Fitting, Leads, Rows, fit_head};
use super::pages::MarkedPage;
use super::run::{TrainError, TrainParams};
use super::store::Corpus;
use super::vectors::of_documents;
use crate::features::shape::{Page, Shapes};
use crate::features::{BlockConfig, BlockKind, Document, Field, Reading, ShapeTerms, Space};
use crate::model::role::{BODY, REPEATED};
use crate::model::{HeadSettings, RoleHead};
use crate::page::{self, Passage};

/// Articles beyond this number, spread evenly over the corpus, teach the head nothing new.
const ARTICLES: usize = 4000;

/// Above this a passage is noise.
const THRESHOLD: f64 = 0.5;

/// Above this the main passage is noise.
const MAIN_THRESHOLD: f64 = 0.99;

/// How often a passage is taken to be article before it is looked at. A little more than it is on the pages of the
/// corpus (a third): a lost paragraph costs more than a headline too many.
const BODY_PRIOR: f64 = 0.4;

/// C of the solver, whatever that of topic and stance is: the shape of a page is a few hundred terms that mean the same everywhere, so weights are kept small.
const C: f64 = 10.0;

/// A page to learn from.
struct Example<'a> {
    text: Cow<'a, str>,
    passages: Vec<(Passage, String)>,
    group: String,
}

/// Trains the head; there must be at least one page.
pub(super) fn train(params: &TrainParams, corpus: &Corpus, pages: &[MarkedPage]) -> Result<(RoleHead, Fitting), TrainError> {
    let articles = chosen(corpus).map_err(|source| params.disk(source))?;
    let examples = examples(&articles, pages);
    let mut rows: Vec<Document<'_>> = Vec::new();
    let mut kinds: Vec<&str> = Vec::new();
    let mut groups: Vec<&str> = Vec::new();
    let mut reading = Reading::default();
    for example in &examples {
        let passages: Vec<Passage> = example.passages.iter().map(|(passage, _)| passage.clone()).collect();
        reading.clear();
        let tokens = reading.passages(&example.text, &passages);
        let page = Page { text: &example.text, passages: &passages, reading: &reading, tokens: &tokens };
        let shapes = Shapes::new(&page);
        for (at, (passage, kind)) in example.passages.iter().enumerate().filter(|(_, (_, kind))| kind != REPEATED) {
            let mut shape = ShapeTerms::default();
            shapes.terms(at, &mut shape);
            rows.push(Document { shape, ..Document::passage(&example.text, passage.range.clone()) });
            kinds.push(kind);
            groups.push(&example.group);
        }
    }
    let counts = counts(kinds.iter().copied());
    check_labels("kinds of passages", &counts)?;
    if !counts.contains_key(BODY) {
        return Err(TrainError::Pages(format!("no passage is marked {BODY:?}")));
    }
    let labels: Vec<String> = counts.keys().map(|label| (*label).to_owned()).collect();
    let targets: Vec<usize> =
        kinds.iter().filter_map(|kind| labels.binary_search_by(|label| label.as_str().cmp(kind)).ok()).collect();
    let space = Space::fit(blocks(), None, &rows.iter().collect::<Vec<_>>());
    let matrix = of_documents(&space, &rows).map_err(|source| params.disk(source))?;
    let rows = (0..rows.len()).collect();
    let leads = Leads::default();
    let rows = Rows {
        head: "role",
        space: &space,
        matrix: &matrix,
        scales: &[],
        by_relevance: false,
        rows,
        targets,
        groups,
        labels,
        leads,
    };
    // There are few pages: all of them are needed.
    let params = TrainParams { held_out_folds: 0, ..params.clone() };
    let (mut head, fitting) = fit_head(&params, &HeadSettings { c: C, ..HeadSettings::default() }, &rows)?;
    #[expect(clippy::cast_precision_loss, reason = "a handful of kinds")]
    let other = (1.0 - BODY_PRIOR) / (head.labels.len() - 1) as f64;
    head.priors = head.labels.iter().map(|label| if label == BODY { BODY_PRIOR } else { other }).collect();
    Ok((RoleHead::new(space, head, THRESHOLD, MAIN_THRESHOLD), fitting))
}

fn blocks() -> Vec<BlockConfig> {
    let block = |name: &str, kind, min_df, max_features, weight| BlockConfig {
        name: name.into(),
        kind,
        field: Field::Document,
        min_df,
        max_features,
        weight,
    };
    vec![block("word", BlockKind::Words, 2, 10_000, 2.0), block("shape", BlockKind::Shape, 5, 0, 1.0)]
}

/// The articles that are shown, each with its title, its text and its group.
fn chosen(corpus: &Corpus) -> io::Result<Vec<(String, String, &str)>> {
    let labels = corpus.labels();
    let chosen = labels.len().min(ARTICLES);
    let article = |at: usize| {
        let at = at * labels.len() / chosen;
        let (title, text) = corpus.article(at)?;
        Ok((title, text, labels[at].group.as_deref().unwrap_or(&labels[at].id)))
    };
    (0..chosen).map(article).collect()
}

fn examples<'a>(articles: &'a [(String, String, &str)], pages: &'a [MarkedPage]) -> Vec<Example<'a>> {
    let marked = pages.iter().enumerate().map(|(at, page)| Example {
        text: Cow::Borrowed(&page.text),
        passages: page.passages.clone(),
        group: page.group.clone().unwrap_or_else(|| format!("page {at}")),
    });
    let whole = articles.iter().enumerate().flat_map(|(at, (title, text, group))| {
        let example = |text: Cow<'a, str>| {
            let passages = page::split(&text).into_iter().map(|passage| (passage, BODY.to_owned())).collect();
            Example { text, passages, group: (*group).to_owned() }
        };
        let lines = if at % 4 < 2 { Cow::Borrowed(text.as_str()) } else { Cow::Owned(format!("{title}\n{text}")) };
        let line = (at % 2 == 0).then(|| example(Cow::Owned(one_line(text))));
        std::iter::once(example(lines)).chain(line)
    });
    marked.chain(whole).collect()
}

/// The passages of `text` run together, as many collectors deliver an article.
fn one_line(text: &str) -> String {
    page::split(text).iter().map(|passage| passage.text(text)).collect::<Vec<_>>().join(" ")
}
