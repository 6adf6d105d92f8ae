//! A new model file without a gap: load, check, warm up, exchange.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tonic::{Code, Status};

use super::errors::{chain, reason, status};
use super::served::{Models, Served};
use super::shadow::Shadow;
use super::telemetry::Metrics;
use crate::model::{Article, Classifier, InvalidPriors, LoadError, Model, Options, Priors};

/// Where models come from.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The model file; without it the model that is compiled in.
    pub file: Option<PathBuf>,
    /// Priors in place of the model's.
    pub priors: Option<Priors>,
    /// The file of the model that labels beside it.
    pub shadow: Option<PathBuf>,
    /// Whether a reload may bring other labels.
    pub allow_other_labels: bool,
}

/// What made a reload happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The start of the server.
    Start,
    /// SIGHUP.
    Signal,
    /// The file has changed.
    Watch,
    /// A call of ReloadModel.
    Call,
}

impl Trigger {
    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Signal => "signal",
            Self::Watch => "watch",
            Self::Call => "call",
        }
    }
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// The model in the file.
    pub model: String,
    /// The model that answered before; empty at the start.
    pub previous: String,
}

/// Why a reload did not happen. The model before it goes on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The server runs on the model that is compiled in.
    #[error("no model file was given at the start, so there is nothing to reload")]
    NoFile,
    /// A file can't be read, or is no model.
    #[error("model {}", file.display())]
    Load {
        /// The file.
        file: PathBuf,
        /// Why.
        source: LoadError,
    },
    /// The model that is compiled in is broken.
    #[error("the model that is compiled in")]
    BuiltIn(#[source] LoadError),
    /// The priors given at the start are not of the model's labels.
    #[error("the priors given at the start don't fit the model")]
    Priors(#[from] InvalidPriors),
    /// The labels are others.
    #[error("model {}: its labels of {head} are {}, those that are served {}", file.display(), found.join(", "), served.join(", "))]
    OtherLabels {
        /// The file.
        file: PathBuf,
        /// The head.
        head: &'static str,
        /// The labels in the file.
        found: Vec<String>,
        /// The labels that are served.
        served: Vec<String>,
    },
    /// The model can't label an article.
    #[error("model {}: it can't label a simple article", file.display())]
    Broken {
        /// The file.
        file: PathBuf,
        /// Why.
        source: crate::model::InvalidArticle,
    },
    /// The work was stopped.
    #[error("loading was stopped")]
    Stopped,
}

impl From<&ReloadError> for Status {
    fn from(error: &ReloadError) -> Self {
        let reason = match error {
            ReloadError::NoFile => reason::MODEL_NOT_RELOADABLE,
            ReloadError::Stopped => return status(Code::Internal, reason::INTERNAL, error.to_string(), []),
            ReloadError::Load { .. }
            | ReloadError::BuiltIn(_)
            | ReloadError::Priors(_)
            | ReloadError::OtherLabels { .. }
            | ReloadError::Broken { .. } => reason::MODEL_REFUSED,
        };
        status(Code::FailedPrecondition, reason, chain(error), [])
    }
}

/// Loads models and lets them take over, one at a time.
#[derive(Debug)]
pub struct Reloader {
    source: Source,
    served: Arc<Served>,
    metrics: Arc<Metrics>,
    turn: tokio::sync::Mutex<()>,
}

impl Reloader {
    /// A reloader of `source` into `served`.
    #[must_use]
    pub fn new(source: Source, served: Arc<Served>, metrics: Arc<Metrics>) -> Self {
        Self { source, served, metrics, turn: tokio::sync::Mutex::default() }
    }

    /// The files that models come from.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.source.file.iter().chain(&self.source.shadow).cloned().collect()
    }

    /// Loads the model anew, checks it, and unless `validate_only` lets it take over. What happened is logged and counted.
    ///
    /// # Errors
    ///
    /// [`ReloadError`], where the model is refused.
    pub async fn reload(&self, trigger: Trigger, allow_other_labels: bool, validate_only: bool) -> Result<Reloaded, ReloadError> {
        let _turn = self.turn.lock().await;
        let (source, served, metrics) = (self.source.clone(), Arc::clone(&self.served), Arc::clone(&self.metrics));
        let work = move || {
            let previous = served.loaded();
            if previous.is_some() && source.file.is_none() && source.shadow.is_none() {
                return Err(ReloadError::NoFile);
            }
            let must_keep = previous.as_deref().filter(|_| !allow_other_labels && !source.allow_other_labels);
            let (classifier, shadow) = source.load(must_keep.map(|models| models.classifier.model()))?;
            let name = |classifier: &Classifier| classifier.model().resource_name();
            let model = name(&classifier);
            let before = previous.as_ref().map(|models| {
                let shadow = models.shadow.as_ref().map(|shadow| name(shadow.classifier()));
                (name(&models.classifier), shadow)
            });
            // What is there already keeps its buffers and its counts.
            let is_new = before != Some((model.clone(), shadow.as_ref().map(name)));
            if is_new && !validate_only {
                let shadow = shadow.map(|shadow| Arc::new(Shadow::new(shadow, model.clone(), metrics)));
                served.replace(Models { classifier, shadow });
            }
            Ok(Reloaded { model, previous: before.map(|(model, _)| model).unwrap_or_default() })
        };
        let done = tokio::task::spawn_blocking(work).await.unwrap_or(Err(ReloadError::Stopped));
        let trigger = trigger.name();
        match &done {
            Ok(Reloaded { model, previous }) if previous.is_empty() => tracing::debug!(model, trigger, "model loaded"),
            Ok(Reloaded { model, .. }) if validate_only => tracing::info!(model, trigger, "model checked"),
            Ok(Reloaded { model, previous }) if model == previous => tracing::info!(model, trigger, "model unchanged"),
            Ok(Reloaded { model, previous }) => tracing::info!(model, previous, trigger, "model reloaded"),
            // At the start there is none before; the process ends and says why.
            Err(_) if self.served.loaded().is_none() => {}
            Err(error) => tracing::error!(trigger, reason = chain(error), "model refused; the one before goes on"),
        }
        self.metrics.reloaded(trigger, done.is_ok());
        done
    }
}

impl Source {
    /// The model, and its shadow where there is one; the labels are to be those of `served`.
    fn load(&self, served: Option<&Model>) -> Result<(Classifier, Option<Classifier>), ReloadError> {
        let mut model = match &self.file {
            Some(file) => load(file)?,
            None => Classifier::built_in_model().map_err(ReloadError::BuiltIn)?,
        };
        let built_in = PathBuf::from("compiled in");
        let file = self.file.as_ref().unwrap_or(&built_in);
        if let Some(served) = served {
            keeps_labels(served, &model, file)?;
        }
        if let Some(priors) = &self.priors {
            model.set_priors(priors)?;
        }
        let classifier = warmed_up(model, file)?;
        let shadow = self.shadow.as_ref().map(|file| warmed_up(load(file)?, file)).transpose()?;
        Ok((classifier, shadow))
    }
}

fn load(file: &Path) -> Result<Model, ReloadError> {
    Model::load(file).map_err(|source| ReloadError::Load { file: file.to_owned(), source })
}

/// A model ready to answer, whose pages of memory are there: the first caller should not wait for them.
fn warmed_up(model: Model, file: &Path) -> Result<Classifier, ReloadError> {
    let classifier = Classifier::new(model);
    let text = "Le chef d'état-major est arrivé lundi à Niamey. Les deux armées ont signé un accord de coopération.\nLire aussi : la météo";
    let article = Article { title: "Une visite", text };
    match classifier.classify(article, &Options::default()) {
        Ok(_) => Ok(classifier),
        Err(source) => Err(ReloadError::Broken { file: file.to_owned(), source }),
    }
}

/// Checks that a model has the labels of the one that is served, in any order.
fn keeps_labels(served: &Model, found: &Model, file: &Path) -> Result<(), ReloadError> {
    let heads = |model: &Model| {
        let role = model.role.as_ref().map(|role| role.head().labels.clone());
        let stance = model.stance.as_ref().map(|head| head.labels.clone());
        let noise = model.noise_label.iter().cloned().collect();
        [
            ("topic", model.topic.labels.clone()),
            ("stance", stance.unwrap_or_default()),
            ("role", role.unwrap_or_default()),
            ("noise", noise),
        ]
    };
    for ((head, served), (_, found)) in heads(served).into_iter().zip(heads(found)) {
        let set = |labels: &[String]| labels.iter().cloned().collect::<BTreeSet<_>>();
        if set(&served) != set(&found) {
            return Err(ReloadError::OtherLabels { file: file.to_owned(), head, found, served });
        }
    }
    Ok(())
}
