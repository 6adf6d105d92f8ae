//! An article in, an answer out: the one path that every way of asking takes.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::explain::{Explanation, Weighing, explain, locate};
use super::head::{self, Head, InvalidPriors, Priors, argmax};
use super::role::{self, RoleScratch, RoleVerdict};
use super::{LoadError, Model, doubt};
use crate::features::{Document, Part, Reading, Scorer, ShapeTerms, Tally, Tokens};
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

/// Bytes of the largest text whose buffers are kept for other calls. A text of a single endless word takes a hundred times its size, which
/// nothing after it would need.
const KEPT: usize = 256 << 10;

/// A model, ready to answer.
#[derive(Debug)]
pub struct Classifier {
    model: Model,
    /// The weights of topic and stance.
    scorer: Scorer,
    /// The index of the block of words that doubts are told from.
    words: Option<usize>,
    /// Whether a thread may keep more of what it knows of words.
    for_streams: bool,
    /// Buffers that no call is using.
    scratch: Mutex<Vec<Scratch>>,
}

/// Buffers of a call, and what is known of words from the calls before.
#[derive(Debug, Default)]
struct Scratch {
    reading: Reading,
    role: RoleScratch,
    tally: Tally,
    parts: Vec<Part>,
    sums: Vec<f64>,
    /// The vector of the article, where it is to be explained.
    entries: Vec<(u32, f64)>,
    shape: ShapeTerms,
}

/// What a head makes its prediction from.
struct Evidence<'a> {
    name: &'static str,
    head: &'a Head,
    /// For each label the sum of its weights.
    sums: &'a [f64],
    /// The article's vector, where the prediction is to be explained.
    entries: Option<&'a [(u32, f64)]>,
}

impl Classifier {
    /// Makes a model ready.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self {
            words: doubt::words(&model.document),
            scorer: model.scorer(),
            model,
            for_streams: false,
            scratch: Mutex::default(),
        }
    }

    /// The same for streams of texts: each thread keeps four times as much of what it knows of words, in tens of megabytes, and
    /// answers the same somewhat sooner.
    #[must_use]
    pub fn for_streams(self) -> Self {
        Self { for_streams: true, ..self }
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
        let scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = scratch.unwrap_or_else(|| Scratch {
            reading: if self.for_streams { Reading::large() } else { Reading::default() },
            ..Scratch::default()
        });
        let answer = self.answer(&mut scratch, article, options);
        if article.text.len() <= KEPT {
            self.scratch.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        }
        answer
    }

    fn answer(&self, scratch: &mut Scratch, article: Article<'_>, options: &Options) -> Result<Answer, InvalidArticle> {
        let Model { topic: topic_head, stance: stance_head, role, noise_label, thresholds, document: space, .. } = &self.model;
        let Scratch { reading, role: role_scratch, tally, parts, sums, entries, shape } = scratch;
        reading.clear();
        parts.clear();
        let is_titled = !page::is_empty(article.title);
        let title = reading.read(article.title);
        if is_titled {
            parts.push(Part { tokens: title.clone(), is_title: true });
        }
        let (passages, tokens) = role::passages(role.as_ref(), role_scratch, reading, (title, article.text));
        let headline = role::headline(&passages);
        let body = tokens.iter().zip(&passages).filter(|(_, verdict)| !verdict.is_noise);
        parts.extend(
            body.enumerate().map(|(at, (tokens, _))| Part { tokens: tokens.clone(), is_title: !is_titled && at == headline }),
        );
        let has_body = passages.iter().any(|verdict| !verdict.is_noise);
        let read = Tokens { reading, parts, shape };
        let mut reasons = Vec::new();
        // Where there is no body, nothing is weighed.
        let is_explained = has_body && options.max_contributions > 0;
        entries.clear();
        // Both heads weigh the same terms.
        self.scorer.score(space, (tally, &read), sums, |block, terms| {
            if is_explained {
                space.push_entries(block, terms, entries);
            }
            if let (Some(limits), true) = (&thresholds.doubt, has_body && self.words == Some(block)) {
                let words = parts.iter().map(|part| part.tokens.len()).sum();
                reasons = limits.reasons(&space.blocks()[block], words, terms);
            }
        });
        let entries = is_explained.then_some(entries.as_slice());
        let (topic_sums, stance_sums) = sums.split_at(topic_head.labels.len());
        let mut topic = if has_body {
            self.predict(&Evidence { name: "topic", head: topic_head, sums: topic_sums, entries }, options)?
        } else {
            certain(topic_head, noise_label.as_deref().ok_or(InvalidArticle::NoBody)?)
        };
        let is_noise = noise_label.as_ref() == Some(&topic.label);
        let mut stance = match stance_head {
            Some(head) if !is_noise => {
                Some(self.predict(&Evidence { name: "stance", head, sums: stance_sums, entries }, options)?)
            }
            _ => None,
        };
        if is_explained {
            let document = Document::article(article.title, article.text, role::body(&passages), headline);
            let predictions = std::iter::once(&mut topic).chain(&mut stance);
            locate(space, &document, predictions.map(|prediction| &mut prediction.explanation));
        }
        if is_noise && self.ticker_has_topic(scratch, &tokens, &passages, options)? {
            reasons.push(Reason::TickerOnly);
        }
        if !has_body {
            reasons.push(Reason::NoBody);
        }
        Ok(Answer { topic, stance, passages, reasons })
    }

    fn predict(&self, evidence: &Evidence<'_>, options: &Options) -> Result<Prediction, InvalidPriors> {
        let Evidence { name, head, sums, entries } = *evidence;
        let bias = head.bias_with(&head.priors_from(name, &options.priors)?);
        let logits: Vec<f64> = sums.iter().zip(&bias).map(|(sum, bias)| sum + bias).collect();
        let label = argmax(&logits);
        let explanation = match entries {
            Some(entries) => explain(&Weighing { space: &self.model.document, head, label, entries }, options.max_contributions),
            None => Explanation { contributions: Vec::new(), omitted_weight: logits[label] - bias[label] },
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
        tokens: &[Range<usize>],
        passages: &[RoleVerdict],
        options: &Options,
    ) -> Result<bool, InvalidPriors> {
        let head = &self.model.topic;
        let Some(noise) = head.labels.iter().position(|label| Some(label) == self.model.noise_label.as_ref()) else {
            return Ok(false);
        };
        let bias = head.bias_with(&head.priors_from("topic", &options.priors)?);
        let Scratch { reading, tally, sums, shape, .. } = scratch;
        let noises = tokens.iter().zip(passages).filter(|(_, verdict)| verdict.is_noise && verdict.kind != role::REPEATED);
        for (tokens, _) in noises {
            let parts = [Part { tokens: tokens.clone(), is_title: true }];
            self.scorer.score(&self.model.document, (tally, &Tokens { reading, parts: &parts, shape }), sums, |_, _| {});
            sums.truncate(bias.len());
            sums.iter_mut().zip(&bias).for_each(|(sum, bias)| *sum += bias);
            if 1.0 - head.probabilities(sums)[noise] >= self.model.thresholds.ticker_only {
                return Ok(true);
            }
        }
        Ok(false)
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
        let heads: Vec<(&str, &[String])> = self.heads().map(|(name, head)| (name, head.labels.as_slice())).collect();
        head::check_priors(&heads, priors)
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
    fn buffers_are_kept_unless_they_were_for_a_large_text() {
        let classifier = Classifier::new(fixture::model());
        let kept = |text: &str| {
            classifier.classify(Article { title: "", text }, &Options::default()).unwrap();
            classifier.scratch.lock().unwrap().len()
        };
        assert_eq!([kept("Un accord"), kept("Un accord"), kept(&"a".repeat(KEPT + 1)), kept("Un accord")], [1, 1, 0, 1]);
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
