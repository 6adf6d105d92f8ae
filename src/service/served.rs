//! The model that answers, which may be exchanged while it does.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::shadow::Shadow;
use crate::model::Classifier;

/// The model that answers, and the one that labels beside it. A call keeps the model that it began with.
#[derive(Debug, Default)]
pub struct Served {
    classifier: ArcSwapOption<Classifier>,
    shadow: ArcSwapOption<Shadow>,
    /// Wakes the calls that came before the model.
    replaced: Notify,
}

impl Served {
    /// The model that answers. While there is none yet, it is waited for: the built-in model loads in some 20 ms, a large one in a second,
    /// whereas a refusal would reach callers behind every proxy that does not ask for health.
    pub async fn classifier(&self) -> Arc<Classifier> {
        loop {
            // Before the look, so that no model comes between the two.
            let replaced = self.replaced.notified();
            if let Some(classifier) = self.loaded() {
                return classifier;
            }
            replaced.await;
        }
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
        self.replaced.notify_waiters();
    }
}
