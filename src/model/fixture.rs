//! A small model made by hand, for tests.

use ndarray::Array2;

use super::{Head, Model, OutOfFold, RoleHead, Thresholds, Training};
use crate::features::{Block, BlockConfig, BlockKind, Field, Space};

/// A block of words that all have idf 1.5.
pub(crate) fn block(terms: &[&str]) -> Block {
    let config = BlockConfig {
        name: "word".into(),
        kind: BlockKind::Words,
        field: Field::Document,
        min_df: 1,
        max_features: 0,
        weight: 1.0,
    };
    Block { config, vocabulary: terms.iter().collect(), idf: vec![1.5; terms.len()] }
}

fn head(labels: &[&str], features: usize) -> Head {
    #[expect(clippy::cast_precision_loss, reason = "a test")]
    let prior = 1.0 / labels.len() as f64;
    Head {
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        weights: Array2::from_shape_fn((features, labels.len()), |(feature, label)| if feature == label { 1.25 } else { -0.5 }),
        bias: vec![0.125; labels.len()],
        temperature: 0.75,
        priors: vec![prior; labels.len()],
        out_of_fold: OutOfFold {
            logits: Array2::from_shape_fn((2, labels.len()), |(_, label)| label as f32),
            labels: vec![0, 1],
        },
    }
}

/// A model with every part: "accord" speaks for military, "météo" for noise; a passage with "menu" is noise.
pub(crate) fn model() -> Model {
    let mut role = head(&["body", "menu"], 1);
    role.weights = ndarray::array![[-0.5, 1.25]];
    Model {
        name: "test-1".into(),
        version: String::new(),
        noise_label: Some("noise".into()),
        document: Space::new(vec![block(&["accord", "météo"])]),
        topic: head(&["military", "noise"], 2),
        stance: Some(head(&["critical", "neutral", "supportive"], 2)),
        role: Some(RoleHead::new(Space::new(vec![block(&["menu"])]), role, 0.5, 0.99)),
        thresholds: Thresholds::default(),
        training: Training { articles: 2, data_digest: "00".into(), ..Training::default() },
    }
}
