//! The models that are served, which may be exchanged while they are.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::shadow::Shadow;
use crate::model::Classifier;

/// What answers a call.
#[derive(Debug)]
pub struct Models {
    /// The model that answers.
    pub classifier: Classifier,
    /// The model that labels beside it, where there is one.
    pub shadow: Option<Arc<Shadow>>,
}

/// The models of calls that begin now. A call keeps those that it began with.
#[derive(Debug, Default)]
pub struct Served {
    models: ArcSwapOption<Models>,
    /// Wakes the calls that came before the model.
    replaced: Notify,
}

impl Served {
    /// The models. While there are none yet, they are waited for: the built-in model loads in some 20 ms, a large one in a second,
    /// whereas a refusal would reach callers behind every proxy that does not ask for health.
    pub async fn models(&self) -> Arc<Models> {
        loop {
            // Before the look, so that no model comes between the two.
            let replaced = self.replaced.notified();
            if let Some(models) = self.loaded() {
                return models;
            }
            replaced.await;
        }
    }

    /// The models, once there are any.
    #[must_use]
    pub fn loaded(&self) -> Option<Arc<Models>> {
        self.models.load_full()
    }

    /// Lets `models` answer from now on.
    pub fn replace(&self, models: Models) {
        self.models.store(Some(Arc::new(models)));
        self.replaced.notify_waiters();
    }
}
