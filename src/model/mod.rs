//! The model: heads over feature spaces, and what is needed to answer for a page.
//!
//! - [`head`]: labels, weights, temperature and priors; features to probabilities
//! - [`calibration`]: the temperature
//! - [`role`]: which passages of a page are article and which are noise
//! - [`doubt`]: whether an article is like those that the model was trained on
//! - [`explain`]: what each term contributed to a logit
//! - [`classifier`]: an article in, an answer out
//! - [`settings`]: what a head was fitted with
//! - [`mod@file`]: reading and writing the model file

pub mod calibration;
pub mod classifier;
pub mod doubt;
pub mod explain;
pub mod file;
#[cfg(test)]
pub(crate) mod fixture;
pub mod head;
pub mod role;
pub mod settings;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::features::{Scorer, Space};

pub use classifier::{Answer, Article, Classifier, InvalidArticle, Options, Prediction, Reason};
pub use doubt::DoubtLimits;
pub use explain::{Contribution, Explanation};
pub use file::LoadError;
pub use head::{Head, InvalidPriors, OutOfFold, Priors};
pub use role::{RoleHead, RoleVerdict};
pub use settings::{ClassWeights, HeadSettings};

/// The model that is compiled into the binary, as the bytes of its file.
pub const BUILT_IN: &[u8] = include_bytes!("../../models/depeche-fr.safetensors");

/// Everything that an answer depends on.
#[derive(Debug, Clone)]
pub struct Model {
    /// The model's name, a part of its resource name.
    pub name: String,
    /// Lower-case hexadecimal SHA-256 of the whole model file; empty before the model was written.
    pub version: String,
    /// The topic label that means unrelated. An article that gets it gets no stance.
    pub noise_label: Option<String>,
    /// Features of an article, for topic and stance.
    pub document: Space,
    /// Which topic an article has.
    pub topic: Head,
    /// Which stance its source takes; absent where no stances were trained.
    pub stance: Option<Head>,
    /// Which passages are article; absent where no marked pages were trained: then every passage is.
    pub role: Option<RoleHead>,
    /// Limits beyond which an answer carries a reason for doubt.
    pub thresholds: Thresholds,
    /// What the model was trained on, and how it did.
    pub training: Training,
}

/// Limits beyond which an answer carries a reason for doubt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// A noise passage that gets another topic than noise with at least this probability makes an article that is
    /// noise itself [`Reason::TickerOnly`].
    pub ticker_only: f64,
    /// Limits on the article's words; absent in models of format 1, and where the features have no words.
    #[serde(default)]
    pub doubt: Option<DoubtLimits>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { ticker_only: 0.5, doubt: None }
    }
}

/// What a model was trained on, and how it did on articles held out from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Labelled articles.
    pub articles: u64,
    /// Marked pages.
    pub pages: u64,
    /// Lower-case hexadecimal SHA-256 of the articles and pages, in their order, and of the lexicon.
    pub data_digest: String,
    /// Scores of the topic head in cross-validation; absent without it.
    pub topic: Option<HeadScores>,
    /// Scores of the stance head in cross-validation.
    pub stance: Option<HeadScores>,
    /// Scores of the role head in cross-validation, over passages.
    pub role: Option<HeadScores>,
    /// What topic and stance were fitted with, by their names. Absent where that is [the default](HeadSettings::default), and in formats before 4,
    /// which did not tell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, HeadSettings>,
    /// The version of the model that the solver started from; absent where it started from nothing. It leaves its trace in the last
    /// bits of the weights: who wants the same bytes again needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_from: Option<String>,
}

/// Scores of one head on articles held out from it, with equal priors; the temperature is that which was fitted on them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadScores {
    /// Rows scored.
    pub rows: u64,
    /// Unweighted mean of the labels' F1.
    pub macro_f1: f64,
    /// Share of rows that got their label.
    pub accuracy: f64,
    /// Expected calibration error of the winning probability over 15 equal bins, with the labels' frequencies in these rows as priors.
    pub calibration_error: f64,
}

impl Model {
    /// The resource name: `models/NAME/versions/DIGEST`.
    #[must_use]
    pub fn resource_name(&self) -> String {
        format!("models/{}/versions/{}", self.name, self.version)
    }

    /// The weights of topic and stance side by side: first the labels of the topic, then those of the stance.
    #[must_use]
    pub fn scorer(&self) -> Scorer {
        let Self { document, topic, stance, .. } = self;
        let topics = topic.labels.len();
        let labels = topics + stance.as_ref().map_or(0, |stance| stance.labels.len());
        Scorer::new(document, labels, |feature, label| match stance {
            Some(stance) if label >= topics => stance.weights[[feature, label - topics]],
            _ => topic.weights[[feature, label]],
        })
    }

    /// The heads that give labels to an article, with their names.
    pub fn heads(&self) -> impl Iterator<Item = (&'static str, &Head)> {
        std::iter::once(("topic", &self.topic)).chain(self.stance.as_ref().map(|head| ("stance", head)))
    }
}
