//! An answer for a person: the labels, the words that decided, and the page with its noise dimmed.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;

use anstyle::{AnsiColor, Style};

use crate::features::Origin;
use crate::model::{Answer, Article, Classifier, Prediction, Reason};
use crate::terms::Reader;

/// Words shown for each label.
const WORDS: usize = 12;

const STRONG: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const FOR: Style = AnsiColor::Green.on_default();
const AGAINST: Style = AnsiColor::Red.on_default();

/// Writes `answer`, which must hold all contributions, to `out`.
///
/// # Errors
///
/// When `out` can't be written to.
pub fn show(out: &mut impl Write, classifier: &Classifier, article: Article<'_>, answer: &Answer) -> io::Result<()> {
    prediction(out, "topic", article, &answer.topic)?;
    if let Some(stance) = &answer.stance {
        prediction(out, "stance", article, stance)?;
    }
    for reason in &answer.reasons {
        writeln!(out, "{STRONG}note{STRONG:#}    {}", told(*reason))?;
    }
    writeln!(out, "{DIM}model   {}{DIM:#}\n", classifier.model().resource_name())?;
    let width = answer.passages.iter().map(|verdict| verdict.kind.chars().count()).max().unwrap_or(0);
    for verdict in &answer.passages {
        let style = if verdict.is_noise { DIM } else { Style::new() };
        let text = printable(verdict.passage.text(article.text));
        writeln!(out, "{DIM}{:>width$} |{DIM:#} {style}{text}{style:#}", verdict.kind)?;
    }
    Ok(())
}

fn told(reason: Reason) -> &'static str {
    match reason {
        Reason::ForeignLanguage => "the article seems to be in another language than the model's; its labels mean little",
        Reason::TooShort => "the article is shorter than nearly all that the model was trained on",
        Reason::UnknownVocabulary => "the model knows fewer of the article's words than is usual",
        Reason::TickerOnly => "the article is unrelated; a headline or notice around it has another topic",
        Reason::NoBody => "no passage of this page is article",
    }
}

fn prediction(out: &mut impl Write, name: &str, article: Article<'_>, prediction: &Prediction) -> io::Result<()> {
    let Prediction { label, probability, scores, .. } = prediction;
    let others: Vec<String> =
        scores.iter().filter(|(other, _)| other != label).map(|(other, p)| format!("{other} {p:.3}")).collect();
    writeln!(out, "{STRONG}{name:<7} {label} {probability:.3}{STRONG:#}  {DIM}{}{DIM:#}", others.join("  "))?;
    let words = words(article, prediction);
    let shown: Vec<String> = words
        .iter()
        .take(WORDS)
        .map(|(word, weight)| {
            let style = if *weight >= 0.0 { FOR } else { AGAINST };
            format!("{style}{} {weight:+.2}{style:#}", printable(word))
        })
        .collect();
    if !shown.is_empty() {
        writeln!(out, "        {}", shown.join("  "))?;
    }
    Ok(())
}

/// What each word of the article added to the logit, greatest first. A term that stands in several places is shared
/// out evenly among those that are known, so the sum over all words is that over all contributions.
fn words(article: Article<'_>, prediction: &Prediction) -> Vec<(String, f64)> {
    let mut places: BTreeMap<(Origin, usize, usize), f64> = BTreeMap::new();
    for contribution in &prediction.explanation.contributions {
        #[expect(clippy::cast_precision_loss, reason = "at most a hundred places")]
        let share = contribution.weight / contribution.occurrences.len() as f64;
        for place in &contribution.occurrences {
            *places.entry((place.origin, place.word.start, place.word.end)).or_default() += share;
        }
    }
    let mut reader = Reader::default();
    let mut credited: BTreeMap<String, f64> = BTreeMap::new();
    for ((origin, start, end), share) in places {
        let field = match origin {
            Origin::Title => article.title,
            Origin::Text => article.text,
        };
        *credited.entry(normalised(&mut reader, field, &(start..end))).or_default() += share;
    }
    let mut words: Vec<(String, f64)> = credited.into_iter().collect();
    words.sort_by(|(_, left), (_, right)| right.abs().total_cmp(&left.abs()));
    words
}

fn normalised(reader: &mut Reader, text: &str, word: &Range<usize>) -> String {
    let mut normalised = String::new();
    reader.read(&text[word.clone()], |word| normalised.push_str(word.text()));
    normalised
}

/// `text` without control characters: a page must not be able to steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
