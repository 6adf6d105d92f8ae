//! The built-in model classifies any title and text, with what `depeche::model` promises:
//!
//! - no answer only where the text is blank;
//! - probabilities lie within 0 and 1, those of a head add up to 1, and the first score is the prediction's;
//! - contributions, omitted weight and bias add up to the logit, and each contribution stands where it says;
//! - passages are those of `depeche::page`, each with its verdict;
//! - the answer does not depend on whether it is explained, on what was asked before, or on the room for words;
//! - the response of the service has offsets within the text, and its JSON reads back.
//!
//! An input is the title and the text, with a unit separator (U+001F) between; without one, all of it is text.

#![no_main]

use std::sync::OnceLock;

use depeche::features::Origin;
use depeche::model::explain::OCCURRENCES;
use depeche::model::{Answer, Article, Classifier, InvalidArticle, Options, Prediction};
use depeche::page;
use depeche::service::convert::response;
use depeche::service::pb::{self, OffsetEncoding};
use libfuzzer_sys::fuzz_target;

/// Stands between title and text.
const SEPARATOR: char = '\u{1f}';

/// What the parts of a logit may add up beside it.
const EXACT: f64 = 1e-9;

fuzz_target!(|bytes: &[u8]| {
    let input = String::from_utf8_lossy(bytes);
    let (title, text) = input.split_once(SEPARATOR).unwrap_or(("", &input));
    let article = Article { title, text };
    let (classifier, for_streams) = classifiers();
    let Ok(answer) = ask(classifier, article, 0) else {
        assert!(page::is_empty(text));
        return;
    };
    let explained = ask(classifier, article, 50).unwrap();
    assert_eq!(explained, ask(for_streams, article, 50).unwrap());
    assert_eq!(answer, without_explanation(&explained, &answer));
    assert_eq!(answer, ask(classifier, article, 0).unwrap());
    for answer in [&answer, &explained] {
        check_passages(answer, text);
        predictions(answer).for_each(|prediction| check_prediction(prediction, article));
    }
    assert!(explained.reasons.is_sorted_by(|left, right| left < right));
    check_response(&explained, article);
});

/// The built-in model, and the same with more room for words.
fn classifiers() -> &'static (Classifier, Classifier) {
    static CLASSIFIERS: OnceLock<(Classifier, Classifier)> = OnceLock::new();
    CLASSIFIERS.get_or_init(|| {
        let model = Classifier::built_in_model().unwrap();
        (Classifier::new(model.clone()), Classifier::new(model).for_streams())
    })
}

fn ask(classifier: &Classifier, article: Article<'_>, max_contributions: usize) -> Result<Answer, InvalidArticle> {
    classifier.classify(article, &Options { max_contributions, ..Options::default() })
}

fn predictions(answer: &Answer) -> impl Iterator<Item = &Prediction> {
    std::iter::once(&answer.topic).chain(&answer.stance)
}

/// `explained` with the explanations of `other`.
fn without_explanation(explained: &Answer, other: &Answer) -> Answer {
    let mut answer = explained.clone();
    answer.topic.explanation = other.topic.explanation.clone();
    for (stance, other) in answer.stance.iter_mut().zip(&other.stance) {
        stance.explanation = other.explanation.clone();
    }
    answer
}

fn check_passages(answer: &Answer, text: &str) {
    let passages: Vec<_> = answer.passages.iter().map(|verdict| verdict.passage.clone()).collect();
    assert_eq!(passages, page::split(text));
    for verdict in &answer.passages {
        assert!((0.0..=1.0).contains(&verdict.noise_probability), "{verdict:?}");
        assert_eq!(verdict.is_noise, verdict.kind != depeche::model::role::BODY, "{verdict:?}");
    }
}

fn check_prediction(prediction: &Prediction, article: Article<'_>) {
    let Prediction { label, probability, scores, logit, bias, explanation } = prediction;
    assert!(scores.iter().all(|(_, probability)| (0.0..=1.0).contains(probability)), "{scores:?}");
    assert!((scores.iter().map(|(_, probability)| probability).sum::<f64>() - 1.0).abs() < EXACT, "{scores:?}");
    assert!(scores.is_sorted_by(|(_, left), (_, right)| left >= right), "{scores:?}");
    assert!(scores.contains(&(label.clone(), *probability)) && *probability >= scores[0].1, "{prediction:?}");
    let sum: f64 = explanation.contributions.iter().map(|contribution| contribution.weight).sum();
    assert!((sum + explanation.omitted_weight + bias - logit).abs() < EXACT, "{prediction:?}");
    assert!(explanation.contributions.is_sorted_by(|left, right| left.weight.abs() >= right.weight.abs()));
    for contribution in &explanation.contributions {
        let places = &contribution.occurrences;
        assert!((1..=OCCURRENCES).contains(&places.len()), "{contribution:?}");
        for place in places {
            let field = if place.origin == Origin::Title { article.title } else { article.text };
            assert!(!field[place.range.clone()].is_empty());
            assert!(place.word.start <= place.range.start && place.range.end <= place.word.end);
            assert!(!field[place.word.clone()].is_empty());
        }
        let in_order = |origin| places.iter().filter(move |place| place.origin == origin).map(|place| place.range.start);
        assert!(in_order(Origin::Title).is_sorted() && in_order(Origin::Text).is_sorted(), "{contribution:?}");
    }
}

fn check_response(answer: &Answer, Article { title, text }: Article<'_>) {
    let article = pb::Article { article_id: String::new(), title: title.to_owned(), text: text.to_owned() };
    for encoding in [OffsetEncoding::Utf8, OffsetEncoding::Utf16, OffsetEncoding::Utf32] {
        let response = response(&classifiers().0, &article, answer, encoding);
        let units = |text: &str| match encoding {
            OffsetEncoding::Utf16 => text.encode_utf16().count(),
            OffsetEncoding::Utf32 => text.chars().count(),
            OffsetEncoding::Unspecified | OffsetEncoding::Utf8 => text.len(),
        };
        for (passage, verdict) in response.passages.iter().zip(&answer.passages) {
            let range = &verdict.passage.range;
            let expected = [range.start, range.end].map(|at| i32::try_from(units(&text[..at])).ok());
            assert_eq!([passage.begin, passage.end], expected);
        }
        let json = serde_json::to_string(&response).unwrap();
        let read: pb::ClassifyResponse = serde_json::from_str(&json).unwrap();
        assert_eq!((read.passages.len(), read.reasons), (response.passages.len(), response.reasons), "{json}");
    }
}
