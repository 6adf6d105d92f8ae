//! An article in, an answer out: the one path that every way of asking takes.

use std::sync::{Mutex, PoisonError};

use super::explain::{Explanation, Weighing, explain};
use super::head::{Head, InvalidPriors, Priors, greatest};
use super::role::{self, RoleVerdict};
use super::{LoadError, Model};
use crate::features::{Document, Scratch};
use crate::page;

/// An article as the caller has it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Article<'a> {
    /// Its title; blank where there is none.
    pub title: &'a str,
    /// Its text, or the whole page around it.
    pub text: &'a str,
}

/// What the caller wants to know.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// At most this many contributions for each prediction; 0: no explanation.
    pub max_contributions: usize,
    /// Probabilities of labels in place of the model's priors; a head none of whose labels is named keeps its own.
    pub priors: Priors,
}

/// Why an answer deserves doubt, or how it came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The text is not in the language that the model was trained on.
    ForeignLanguage,
    /// There is too little of it.
    TooShort,
    /// The model knows few of its words.
    UnknownVocabulary,
    /// The article is noise, but a passage around it has another topic.
    TickerOnly,
    /// No passage of the page is article.
    NoBody,
}

/// A label for an article.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The most probable label.
    pub label: String,
    /// Its probability.
    pub probability: f64,
    /// Every label with its probability, highest first; equals in the order of their names.
    pub scores: Vec<(String, f64)>,
    /// The logit of the label, before the temperature.
    pub logit: f64,
    /// The part of the logit that does not depend on the article; has the priors in it.
    pub bias: f64,
    /// What the terms contributed to the logit.
    pub explanation: Explanation,
}

/// What a model says of an article.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What it is about.
    pub topic: Prediction,
    /// What its source thinks of it; absent where the topic is noise, or where the model has no stances.
    pub stance: Option<Prediction>,
    /// All passages of the text, in order.
    pub passages: Vec<RoleVerdict>,
    /// Reasons for doubt, in their own order, none twice.
    pub reasons: Vec<Reason>,
}

/// Why an article has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidArticle {
    /// There is nothing to be seen in the text.
    #[error("the text is blank")]
    BlankText,
    /// No passage is article, and the model has no label for that.
    #[error("no passage of the text is article, and the model has no noise label to say so")]
    NoBody,
    /// The priors can't be used.
    #[error(transparent)]
    Priors(#[from] InvalidPriors),
}

/// A model, ready to answer.
#[derive(Debug)]
pub struct Classifier {
    model: Model,
    /// Buffers that no call is using.
    scratch: Mutex<Vec<Scratch>>,
}

impl Classifier {
    /// Makes a model ready.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self { model, scratch: Mutex::default() }
    }

    /// The model that is compiled into the binary.
    ///
    /// # Errors
    ///
    /// [`LoadError`], if the binary was built with a broken one.
    pub fn built_in_model() -> Result<Model, LoadError> {
        Model::from_bytes(super::BUILT_IN)
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Checks priors against the labels of the model's heads.
    ///
    /// # Errors
    ///
    /// [`InvalidPriors`], when a label is unknown or a head's priors are incomplete or wrong.
    pub fn check_priors(&self, priors: &Priors) -> Result<(), InvalidPriors> {
        self.model.check_priors(priors)
    }

    /// Labels an article.
    ///
    /// # Errors
    ///
    /// [`InvalidArticle`], when the text is blank, the priors don't fit, or there is no body and no label to say so.
    pub fn classify(&self, article: Article<'_>, options: &Options) -> Result<Answer, InvalidArticle> {
        if page::is_empty(article.text) {
            return Err(InvalidArticle::BlankText);
        }
        self.check_priors(&options.priors)?;
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let answer = self.answer(&mut scratch, article, options);
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        answer
    }

    fn answer(&self, scratch: &mut Scratch, article: Article<'_>, options: &Options) -> Result<Answer, InvalidArticle> {
        let Model { topic: topic_head, stance: stance_head, role, noise_label, .. } = &self.model;
        let passages = role::passages(role.as_ref(), scratch, article.text);
        let document = Document::article(article.title, article.text, role::body(&passages));
        let has_body = passages.iter().any(|verdict| !verdict.is_noise);
        // Both heads weigh the same vector.
        let entries = self.model.document.vector(scratch, &document).to_vec();
        let topic = if has_body {
            self.predict(("topic", topic_head), &document, &entries, options)?
        } else {
            certain(topic_head, noise_label.as_deref().ok_or(InvalidArticle::NoBody)?)
        };
        let is_noise = noise_label.as_ref() == Some(&topic.label);
        let stance = match stance_head {
            Some(head) if !is_noise => Some(self.predict(("stance", head), &document, &entries, options)?),
            _ => None,
        };
        let mut reasons = match &self.model.thresholds.doubt {
            Some(limits) if has_body => limits.reasons(&self.model.document, &document),
            _ => Vec::new(),
        };
        if is_noise && self.ticker_has_topic(scratch, article.text, &passages, options)? {
            reasons.push(Reason::TickerOnly);
        }
        if !has_body {
            reasons.push(Reason::NoBody);
        }
        Ok(Answer { topic, stance, passages, reasons })
    }

    fn predict(
        &self,
        (name, head): (&str, &Head),
        document: &Document<'_>,
        entries: &[(u32, f64)],
        options: &Options,
    ) -> Result<Prediction, InvalidPriors> {
        let bias = head.bias_with(&head.priors_from(name, &options.priors)?);
        let logits: Vec<f64> = head.sums(entries).iter().zip(&bias).map(|(sum, bias)| sum + bias).collect();
        let label = greatest(&logits);
        let explanation = if options.max_contributions > 0 {
            explain(&Weighing { space: &self.model.document, head, label, document, entries }, options.max_contributions)
        } else {
            Explanation { contributions: Vec::new(), omitted_weight: logits[label] - bias[label] }
        };
        let probabilities = head.probabilities(&logits);
        Ok(Prediction {
            label: head.labels[label].clone(),
            probability: probabilities[label],
            scores: ranked(head, &probabilities),
            logit: logits[label],
            bias: bias[label],
            explanation,
        })
    }

    /// Whether a noise passage by itself has a topic that is not noise.
    fn ticker_has_topic(
        &self,
        scratch: &mut Scratch,
        text: &str,
        passages: &[RoleVerdict],
        options: &Options,
    ) -> Result<bool, InvalidPriors> {
        let head = &self.model.topic;
        let Some(noise) = head.labels.iter().position(|label| Some(label) == self.model.noise_label.as_ref()) else {
            return Ok(false);
        };
        let bias = head.bias_with(&head.priors_from("topic", &options.priors)?);
        Ok(passages.iter().filter(|verdict| verdict.is_noise && verdict.kind != role::REPEATED).any(|verdict| {
            let document = Document::passage(text, verdict.passage.range.clone());
            let sums = head.sums(self.model.document.vector(scratch, &document));
            let logits: Vec<f64> = sums.iter().zip(&bias).map(|(sum, bias)| sum + bias).collect();
            1.0 - head.probabilities(&logits)[noise] >= self.model.thresholds.ticker_only
        }))
    }
}

impl Model {
    /// Puts `priors` in place of the model's own, for the heads whose labels they name.
    ///
    /// # Errors
    ///
    /// [`InvalidPriors`], when a label is unknown or a head's priors are incomplete or wrong.
    pub fn set_priors(&mut self, priors: &Priors) -> Result<(), InvalidPriors> {
        self.check_priors(priors)?;
        self.topic.priors = self.topic.priors_from("topic", priors)?;
        if let Some(stance) = &mut self.stance {
            stance.priors = stance.priors_from("stance", priors)?;
        }
        Ok(())
    }

    /// Checks priors against the labels of the heads.
    ///
    /// # Errors
    ///
    /// [`InvalidPriors`], when a label is unknown or a head's priors are incomplete or wrong.
    pub fn check_priors(&self, priors: &Priors) -> Result<(), InvalidPriors> {
        let known: Vec<&str> = self.heads().flat_map(|(_, head)| head.labels.iter().map(String::as_str)).collect();
        if let Some(label) = priors.keys().find(|label| !known.contains(&label.as_str())) {
            return Err(InvalidPriors::UnknownLabel { label: label.clone(), labels: known.join(", ") });
        }
        self.heads().try_for_each(|(name, head)| head.priors_from(name, priors).map(|_| ()))
    }
}

/// The prediction of a page without a body: nothing was weighed.
fn certain(head: &Head, label: &str) -> Prediction {
    let probabilities: Vec<f64> = head.labels.iter().map(|other| f64::from(u8::from(other == label))).collect();
    Prediction {
        label: label.to_owned(),
        probability: 1.0,
        scores: ranked(head, &probabilities),
        logit: 0.0,
        bias: 0.0,
        explanation: Explanation::default(),
    }
}

fn ranked(head: &Head, probabilities: &[f64]) -> Vec<(String, f64)> {
    let mut scores: Vec<(String, f64)> = head.labels.iter().cloned().zip(probabilities.iter().copied()).collect();
    scores.sort_by(|(_, left), (_, right)| right.total_cmp(left));
    scores
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture;
    use proptest::prelude::*;

    fn classify(model: Model, title: &str, text: &str, max_contributions: usize) -> Result<Answer, InvalidArticle> {
        Classifier::new(model).classify(Article { title, text }, &Options { max_contributions, ..Options::default() })
    }

    #[test]
    fn an_article_with_all_its_numbers_by_hand() {
        let answer = classify(fixture::model(), "", "Un accord", 5).unwrap();
        // One known word, so its value is 1; it weighs 1.25 for military and -0.5 for noise, both biases are 0.125.
        let Prediction { label, logit, bias, explanation, scores, probability } = answer.topic;
        assert_eq!((label.as_str(), logit, bias), ("military", 1.375, 0.125));
        assert_eq!(explanation.contributions.len(), 1);
        assert_eq!((explanation.contributions[0].weight, explanation.omitted_weight), (1.25, 0.0));
        assert_eq!(explanation.contributions[0].occurrences[0].range, 3..9);
        // softmax of (1.375, -0.375) / 0.75: the odds are e^(7/3).
        assert!((probability / scores[1].1 - 10.312_259).abs() < 1e-5);
        assert_eq!(answer.stance.unwrap().label, "critical");
        assert_eq!(answer.reasons, []);
    }

    #[test]
    fn noise_has_no_stance_and_a_ticker_with_another_topic_is_told() {
        let answer = classify(fixture::model(), "", "La météo", 0).unwrap();
        assert_eq!((answer.topic.label.as_str(), answer.stance, answer.reasons), ("noise", None, vec![]));
        // "menu" makes the second line noise; by itself it is about an accord.
        let answer = classify(fixture::model(), "", "La météo\nmenu accord", 0).unwrap();
        assert!(answer.passages[1].is_noise);
        assert_eq!((answer.topic.label.as_str(), answer.reasons), ("noise", vec![Reason::TickerOnly]));
        // Where the article itself has the topic, its ticker is of no interest.
        let answer = classify(fixture::model(), "", "Un accord\nmenu accord", 0).unwrap();
        assert_eq!((answer.topic.label.as_str(), answer.reasons), ("military", vec![]));
    }

    #[test]
    fn a_page_without_body_is_certainly_noise_or_an_error() {
        let answer = classify(fixture::model(), "Un accord", "menu\nmenu accord", 9).unwrap();
        assert_eq!((answer.topic.label.as_str(), answer.topic.probability), ("noise", 1.0));
        assert_eq!((answer.stance, answer.reasons), (None, vec![Reason::TickerOnly, Reason::NoBody]));
        let without = Model { noise_label: None, ..fixture::model() };
        assert_eq!(classify(without.clone(), "", "menu\nmenu", 0), Err(InvalidArticle::NoBody));
        // Without a noise label, every article gets a stance.
        assert!(classify(without, "", "La météo", 0).unwrap().stance.is_some());
        assert_eq!(classify(fixture::model(), "Un accord", " \u{200b}", 0), Err(InvalidArticle::BlankText));
    }

    #[test]
    fn without_role_head_every_passage_is_body() {
        let model = Model { role: None, ..fixture::model() };
        let answer = classify(model, "", "menu\nmenu", 0).unwrap();
        assert!(answer.passages.iter().all(|verdict| !verdict.is_noise && verdict.noise_probability == 0.0));
    }

    proptest! {
        #[test]
        fn any_article_is_explained_to_the_last_bit_of_a_billionth(
            title in "(?s)(accord|météo| |.){0,5}", text in "(?s)(accord|météo|menu| |\n|.){1,20}", most in 0..4_usize,
        ) {
            let Ok(answer) = classify(fixture::model(), &title, &text, most) else { return Ok(()) };
            for prediction in std::iter::once(&answer.topic).chain(&answer.stance) {
                let Explanation { contributions, omitted_weight } = &prediction.explanation;
                let sum: f64 = contributions.iter().map(|contribution| contribution.weight).sum();
                prop_assert!((sum + omitted_weight + prediction.bias - prediction.logit).abs() < 1e-9);
                prop_assert!((prediction.scores.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-9);
                for place in contributions.iter().flat_map(|contribution| &contribution.occurrences) {
                    let field = if place.origin == crate::features::Origin::Title { &title } else { &text };
                    prop_assert!(field.get(place.range.clone()).is_some() && field.get(place.word.clone()).is_some());
                }
            }
        }
    }
}
