//! Requests to the domain's types, with every check; answers to responses.

use super::errors::Violation;
use super::limits::Limits;
use super::offsets::Offsets;
use super::pb;
use crate::features::Origin;
use crate::model::explain::{Contribution, Place};
use crate::model::{Answer, Article, Classifier, InvalidArticle, Options, Prediction, Reason, RoleVerdict};
use crate::page;

/// What was asked for, checked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// For the classifier.
    pub options: Options,
    /// For the response.
    pub encoding: pb::OffsetEncoding,
}

/// Checks an article; `path` is the path of its field.
pub fn check_article(article: &pb::Article, path: &str, limits: &Limits, found: &mut Vec<Violation>) {
    let sizes = [
        ("article_id", &article.article_id, limits.article_id_bytes),
        ("title", &article.title, limits.title_bytes),
        ("text", &article.text, limits.text_bytes),
    ];
    for (field, value, limit) in sizes {
        if value.len() > limit {
            found.push(Violation::new(format!("{path}.{field}"), format!("{} bytes; the limit is {limit}", value.len())));
        }
    }
    if page::is_empty(&article.text) {
        let what = if article.text.is_empty() { "empty".to_owned() } else { format!("{} bytes, all blank", article.text.len()) };
        found.push(Violation::new(format!("{path}.text"), format!("{what}; at least one visible character is needed")));
    } else if (limits.passages + 1..=limits.text_bytes).contains(&article.text.len()) {
        // A passage has at least a byte, so that a shorter text need not be split to know that they are few enough.
        let passages = page::split(&article.text).len();
        if passages > limits.passages {
            found.push(Violation::new(format!("{path}.text"), format!("{passages} passages; the limit is {}", limits.passages)));
        }
    }
}

/// Checks the options, which may be absent.
pub fn check_options(
    options: Option<&pb::ClassifyOptions>,
    classifier: &Classifier,
    limits: &Limits,
    found: &mut Vec<Violation>,
) -> Asked {
    let Some(pb::ClassifyOptions { offset_encoding, max_contributions, priors }) = options else {
        return Asked { options: Options::default(), encoding: pb::OffsetEncoding::Unspecified };
    };
    let encoding = pb::OffsetEncoding::try_from(*offset_encoding).unwrap_or_else(|_| {
        found.push(Violation::new(
            "options.offset_encoding",
            format!("{offset_encoding} is not an OffsetEncoding; it may be 0 to 3"),
        ));
        pb::OffsetEncoding::Unspecified
    });
    let contributions = usize::try_from(*max_contributions).ok().filter(|count| *count <= limits.contributions);
    if contributions.is_none() {
        let description = format!("{max_contributions}; it may be 0 to {}", limits.contributions);
        found.push(Violation::new("options.max_contributions", description));
    }
    let priors = priors.iter().map(|(label, value)| (label.clone(), *value)).collect();
    if let Err(error) = classifier.check_priors(&priors) {
        found.push(Violation::new("options.priors", error.to_string()));
    }
    Asked { options: Options { max_contributions: contributions.unwrap_or(0), priors }, encoding }
}

/// Classifies an article that was checked, and makes the response.
///
/// # Errors
///
/// What is wrong with the text at `path`, where that shows only now.
pub fn classify(
    classifier: &Classifier,
    article: &pb::Article,
    asked: &Asked,
    path: &str,
) -> Result<pb::ClassifyResponse, Violation> {
    let input = Article { title: &article.title, text: &article.text };
    match classifier.classify(input, &asked.options) {
        Ok(answer) => Ok(response(classifier, article, &answer, asked.encoding)),
        Err(error @ (InvalidArticle::BlankText | InvalidArticle::NoBody)) => {
            Err(Violation::new(format!("{path}.text"), error.to_string()))
        }
        Err(InvalidArticle::Priors(error)) => Err(Violation::new("options.priors", error.to_string())),
    }
}

/// The response for an answer.
#[must_use]
pub fn response(
    classifier: &Classifier,
    article: &pb::Article,
    answer: &Answer,
    encoding: pb::OffsetEncoding,
) -> pb::ClassifyResponse {
    let places = Places { title: Offsets::new(&article.title, encoding), text: Offsets::new(&article.text, encoding) };
    pb::ClassifyResponse {
        article_id: article.article_id.clone(),
        topic: Some(places.prediction(&answer.topic)),
        stance: answer.stance.as_ref().map(|stance| places.prediction(stance)),
        passages: answer.passages.iter().map(|verdict| places.passage(verdict)).collect(),
        reasons: answer.reasons.iter().map(|reason| self::reason(*reason).into()).collect(),
        model: classifier.model().resource_name(),
    }
}

fn reason(reason: Reason) -> pb::Reason {
    match reason {
        Reason::ForeignLanguage => pb::Reason::ForeignLanguage,
        Reason::TooShort => pb::Reason::TooShort,
        Reason::UnknownVocabulary => pb::Reason::UnknownVocabulary,
        Reason::TickerOnly => pb::Reason::TickerOnly,
        Reason::NoBody => pb::Reason::NoBody,
    }
}

/// Offsets into both fields of an article.
struct Places<'a> {
    title: Offsets<'a>,
    text: Offsets<'a>,
}

impl Places<'_> {
    fn prediction(&self, prediction: &Prediction) -> pb::Prediction {
        let Prediction { label, probability, scores, logit, bias, explanation } = prediction;
        let score = |(label, probability): &(String, f64)| pb::Score { label: label.clone(), probability: Some(*probability) };
        pb::Prediction {
            label: label.clone(),
            probability: Some(*probability),
            scores: scores.iter().map(score).collect(),
            logit: Some(*logit),
            bias: Some(*bias),
            contributions: explanation.contributions.iter().map(|contribution| self.contribution(contribution)).collect(),
            omitted_weight: Some(explanation.omitted_weight),
        }
    }

    fn contribution(&self, contribution: &Contribution) -> pb::Contribution {
        let Contribution { feature: _, term, block, weight, occurrences } = contribution;
        let occurrences = occurrences.iter().map(|place| self.occurrence(place)).collect();
        pb::Contribution { term: term.clone(), block: block.clone(), weight: Some(*weight), occurrences }
    }

    fn occurrence(&self, Place { origin, range, .. }: &Place) -> pb::Occurrence {
        let (field, offsets) = match origin {
            Origin::Title => (pb::occurrence::Field::Title, &self.title),
            Origin::Text => (pb::occurrence::Field::Text, &self.text),
        };
        pb::Occurrence { field: field.into(), begin: Some(offsets.convert(range.start)), end: Some(offsets.convert(range.end)) }
    }

    fn passage(&self, verdict: &RoleVerdict) -> pb::Passage {
        let RoleVerdict { passage, is_noise, kind, noise_probability } = verdict;
        pb::Passage {
            begin: Some(self.text.convert(passage.range.start)),
            end: Some(self.text.convert(passage.range.end)),
            role: if *is_noise { pb::Role::TickerNoise } else { pb::Role::Body }.into(),
            kind: kind.clone(),
            noise_probability: Some(*noise_probability),
        }
    }
}
