//! A second model that labels live traffic beside the one that answers, so that it can be judged before it takes over.
//!
//! Its labels are counted against those that were given, and nothing else is kept. It works on articles after they were answered, one at a
//! time; what comes while it is busy is skipped and counted, so that it takes no more than a part of one core from those who wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::Semaphore;

use super::pb;
use super::telemetry::Metrics;
use crate::model::{Article, Classifier, Options, Priors};

/// A second model, and what is known of how it differs.
#[derive(Debug)]
pub struct Shadow {
    classifier: Classifier,
    answering: String,
    since: SystemTime,
    free: Arc<Semaphore>,
    counts: Mutex<Counts>,
    metrics: Arc<Metrics>,
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Articles that both have labelled.
    pub articles: u64,
    /// Articles that were left out.
    pub skipped: u64,
    /// Articles by head, label given and label of the shadow; an empty label is none.
    pub pairs: BTreeMap<(&'static str, String, String), u64>,
}

/// An article that was answered.
#[derive(Debug)]
pub struct Answered {
    /// The article.
    pub article: pb::Article,
    /// The topic that was given.
    pub topic: String,
    /// The stance that was given; empty where there was none.
    pub stance: String,
}

impl Answered {
    /// An article and its answer.
    #[must_use]
    pub fn new(article: pb::Article, response: &pb::ClassifyResponse) -> Self {
        let label =
            |prediction: &Option<pb::Prediction>| prediction.as_ref().map(|found| found.label.clone()).unwrap_or_default();
        Self { article, topic: label(&response.topic), stance: label(&response.stance) }
    }
}

impl Shadow {
    /// Lets `classifier` label beside the model named `answering`.
    #[must_use]
    pub fn new(classifier: Classifier, answering: String, metrics: Arc<Metrics>) -> Self {
        Self {
            classifier,
            answering,
            since: SystemTime::now(),
            free: Arc::new(Semaphore::new(1)),
            counts: Mutex::default(),
            metrics,
        }
    }

    /// The model that labels.
    #[must_use]
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// Labels articles on a thread that may block, unless it is busy. `priors` are the caller's.
    pub fn observe(self: &Arc<Self>, articles: Vec<Answered>, priors: Priors) {
        let Ok(place) = Arc::clone(&self.free).try_acquire_owned() else {
            self.counts().skipped += articles.len() as u64;
            return;
        };
        let shadow = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let _place = place;
            // Its labels may be others.
            let priors = if shadow.classifier.check_priors(&priors).is_ok() { priors } else { Priors::new() };
            let options = Options { max_contributions: 0, priors };
            for answered in articles {
                shadow.compare(&answered, &options);
            }
        });
    }

    fn compare(&self, Answered { article, topic, stance }: &Answered, options: &Options) {
        let Ok(answer) = self.classifier.classify(Article { title: &article.title, text: &article.text }, options) else {
            self.counts().skipped += 1;
            return;
        };
        let shadow_stance = answer.stance.map(|stance| stance.label).unwrap_or_default();
        let mut counts = self.counts();
        counts.articles += 1;
        for (head, label, shadow_label) in [("topic", topic, answer.topic.label), ("stance", stance, shadow_stance)] {
            self.metrics.compared(head, label, &shadow_label);
            *counts.pairs.entry((head, label.clone(), shadow_label)).or_default() += 1;
        }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted so far.
    #[must_use]
    pub fn report(&self) -> pb::GetShadowReportResponse {
        let Counts { articles, skipped, pairs } = self.counts().clone();
        let head = |name: &'static str| {
            let mut found: Vec<_> = pairs.iter().filter(|((head, ..), _)| *head == name).collect();
            // Most frequent first; equals stay in the order of their labels.
            found.sort_by_key(|(_, articles)| std::cmp::Reverse(**articles));
            let different = found.iter().filter(|((_, label, shadow), _)| label != shadow).map(|(_, articles)| **articles).sum();
            let pairs = found.into_iter().map(|((_, label, shadow_label), articles)| pb::get_shadow_report_response::LabelPair {
                label: label.clone(),
                shadow_label: shadow_label.clone(),
                articles: count(*articles),
            });
            pb::get_shadow_report_response::HeadComparison {
                name: name.to_owned(),
                different: count(different),
                pairs: pairs.collect(),
            }
        };
        pb::GetShadowReportResponse {
            model: self.answering.clone(),
            shadow_model: self.classifier.model().resource_name(),
            start_time: Some(self.since.into()),
            articles: count(articles),
            skipped: count(skipped),
            heads: vec![head("topic"), head("stance")],
        }
    }
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
