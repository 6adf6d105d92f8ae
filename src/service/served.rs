//! The model that answers, which may be exchanged while it does.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tonic::{Code, Status};

use super::errors::{reason, retry_later};
use super::shadow::Shadow;
use crate::model::Classifier;

/// When a call that came before the model may be tried again. The built-in model loads in some 20 ms, a large one in a second.
const RETRY: Duration = Duration::from_millis(200);

/// The model that answers, and the one that labels beside it. A call keeps the model that it began with.
#[derive(Debug, Default)]
pub struct Served {
    classifier: ArcSwapOption<Classifier>,
    shadow: ArcSwapOption<Shadow>,
}

impl Served {
    /// The model that answers.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE with RetryInfo, while there is none yet.
    pub fn classifier(&self) -> Result<Arc<Classifier>, Status> {
        self.loaded().ok_or_else(|| {
            let message = "the model is being loaded; try again";
            retry_later((Code::Unavailable, reason::MODEL_LOADING), message, [], RETRY)
        })
    }

    /// The model that answers, once there is one.
    #[must_use]
    pub fn loaded(&self) -> Option<Arc<Classifier>> {
        self.classifier.load_full()
    }

    /// The model that labels beside it, where there is one.
    #[must_use]
    pub fn shadow(&self) -> Option<Arc<Shadow>> {
        self.shadow.load_full()
    }

    /// Lets `classifier` answer from now on, and `shadow` label beside it.
    pub fn replace(&self, classifier: Arc<Classifier>, shadow: Option<Arc<Shadow>>) {
        self.shadow.store(shadow);
        self.classifier.store(Some(classifier));
    }
}
