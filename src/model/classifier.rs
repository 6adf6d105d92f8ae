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
        let topic = if has_body {
            self.predict(("topic", topic_head), scratch, &document, options)?
        } else {
            certain(topic_head, noise_label.as_deref().ok_or(InvalidArticle::NoBody)?)
        };
        let is_noise = noise_label.as_ref() == Some(&topic.label);
        let stance = match stance_head {
            Some(head) if !is_noise => Some(self.predict(("stance", head), scratch, &document, options)?),
            _ => None,
        };
        let mut reasons = Vec::new();
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
        scratch: &mut Scratch,
        document: &Document<'_>,
        options: &Options,
    ) -> Result<Prediction, InvalidPriors> {
        let entries = self.model.document.vector(scratch, document);
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
