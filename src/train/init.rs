//! A head's start from another model: the weights of the features and labels that both have.
//!
//! Features are the same where block (name, kind and field) and term are. A weight is worth what it adds to a logit for one occurrence of
//! its term: a block's values are in proportion to idf · √(w / Σw) (see [`crate::features::space`]), and both may differ between the
//! models, because the other one saw other articles or has other blocks. So a weight is multiplied by the quotient of that of the other
//! model and of this. What remains, the Euclidean norm of a document's values, is taken to be the same. Penalties of blocks, class weights and
//! the single vector of two labels are the solver's own affair: it takes and gives weights of columns as they are, and biases of
//! equally frequent labels.
//!
//! A start decides how long the solver takes. Where the solver ends it decides within the tolerance only, but down to the last bits, so that
//! the model file names the model that was started from.

use linfa::dataset::DatasetBase;
use ndarray::{Array1, Array2};

use super::solver::{LinearModel, SolverError, ValidLogisticParams};
use crate::features::{Block, Space, SparseRows};
use crate::model::{Head, Model};

/// What a head took over from another model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenOver {
    /// Features that both have.
    pub features: usize,
    /// Features of the head.
    pub of_features: usize,
    /// Labels that both have.
    pub labels: usize,
    /// Labels of the head.
    pub of_labels: usize,
    /// Whether the solver started from them: it does not where nothing is the same, or where they are worse than nothing.
    pub is_used: bool,
}

/// Where the solver of a head may start.
#[derive(Debug)]
pub(super) struct Start {
    model: LinearModel,
    taken_over: TakenOver,
}

/// The head of `model` with this name, and its features.
fn head<'a>(model: &'a Model, name: &str) -> Option<(&'a Head, &'a Space)> {
    if name == "role" {
        return model.role.as_ref().map(|role| (role.head(), role.space()));
    }
    model.heads().find(|(other, _)| *other == name).map(|(_, head)| (head, &model.document))
}

impl Start {
    /// What the head called `name` of `other` knows of `labels` in `space`; all that it does not know is zero.
    pub(super) fn from_model(other: &Model, name: &str, space: &Space, labels: &[String]) -> Self {
        let mut model = LinearModel {
            weights: Array2::zeros((space.features(), labels.len())),
            bias: vec![0.0; labels.len()],
            iterations: 0,
        };
        let mut taken_over =
            TakenOver { features: 0, of_features: space.features(), labels: 0, of_labels: labels.len(), is_used: false };
        let Some((head, known)) = head(other, name) else { return Self { model, taken_over } };
        // Labels are sorted in both.
        let pairs: Vec<(usize, usize)> =
            labels.iter().enumerate().filter_map(|(to, label)| Some((to, head.labels.binary_search(label).ok()?))).collect();
        taken_over.labels = pairs.len();
        for (to, from) in &pairs {
            model.bias[*to] = head.bias[*from];
        }
        for (block, of) in space.blocks().iter().enumerate() {
            let Some(from) = known.blocks().iter().position(|other| is_same(other, of)) else { continue };
            let quotient = known.scales()[from] / space.scales()[block];
            for (id, (term, idf)) in (0..).zip(of.vocabulary.iter().zip(&of.idf)) {
                let Some(other) = known.blocks()[from].vocabulary.get(term) else { continue };
                let factor = quotient * f64::from(known.blocks()[from].idf[other as usize]) / f64::from(*idf);
                let (to, other) = ((space.first(block) + id) as usize, (known.first(from) + other) as usize);
                for (label, from) in &pairs {
                    model.weights[[to, *label]] = factor * f64::from(head.weights[[other, *from]]);
                }
                taken_over.features += 1;
            }
        }
        Self { model, taken_over }
    }

    /// The start itself, where the solver is better off with it than at zero.
    ///
    /// # Errors
    ///
    /// [`SolverError`], when labels and rows don't fit.
    pub(super) fn checked<'a>(
        self,
        solver: &ValidLogisticParams,
        data: &DatasetBase<SparseRows<'a>, Array1<usize>>,
    ) -> Result<(Option<LinearModel>, TakenOver), SolverError> {
        let Self { model, mut taken_over } = self;
        let TakenOver { features, labels, .. } = taken_over;
        if features > 0 && labels > 0 {
            let nothing = LinearModel { weights: Array2::zeros(model.weights.dim()), ..model.clone() };
            taken_over.is_used = solver.loss(data, &model)? < solver.loss(data, &nothing)?;
        }
        Ok((taken_over.is_used.then_some(model), taken_over))
    }
}

/// Whether two blocks read the same, so that a term means the same in both. N-grams may be of other lengths.
fn is_same(left: &Block, right: &Block) -> bool {
    let (left, right) = (&left.config, &right.config);
    left.name == right.name
        && left.field == right.field
        && std::mem::discriminant(&left.kind) == std::mem::discriminant(&right.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Field;
    use crate::model::fixture::{block, model};

    #[test]
    fn a_weight_adds_the_same_to_a_logit_in_both_models() {
        let mut words = block(&["neuf", "météo", "accord"]);
        words.idf = vec![2.0, 3.0, 1.5];
        let mut other = block(&["accord"]);
        other.config.name = "other".into();
        other.config.weight = 3.0;
        // Values of the block of words are half as large beside the other: √(1 / (1 + 3)).
        let space = Space::new(vec![other, words]);
        let labels = ["diplomacy".to_owned(), "noise".to_owned()];
        let Start { model: start, taken_over } = Start::from_model(&model(), "topic", &space, &labels);
        // météo: 1.25 · 2 · 1.5 / 3; accord: −0.5 · 2. "accord" of the other block is another feature.
        let expected = [[0.0, 0.0], [0.0, 0.0], [0.0, 1.25], [0.0, -1.0]];
        assert_eq!(start.weights, ndarray::arr2(&expected));
        assert_eq!(start.bias, [0.0, 0.125]);
        assert_eq!(taken_over, TakenOver { features: 2, of_features: 4, labels: 1, of_labels: 2, is_used: false });
    }

    #[test]
    fn what_is_not_the_same_is_not_taken_over() {
        let labels = ["military".to_owned(), "noise".to_owned()];
        let mut title = block(&["accord"]);
        title.config.field = Field::Title;
        let taken = |model: &Model, name, block| {
            let Start { model: start, taken_over } = Start::from_model(model, name, &Space::new(vec![block]), &labels);
            assert!(start.weights.iter().all(|weight| *weight == 0.0));
            (taken_over.features, taken_over.labels)
        };
        assert_eq!(taken(&model(), "topic", title), (0, 2));
        assert_eq!(taken(&model(), "topic", block(&["treaty"])), (0, 2));
        assert_eq!(taken(&model(), "stance", block(&["accord"])), (1, 0));
        let without = Model { stance: None, role: None, ..model() };
        assert_eq!((taken(&without, "stance", block(&["accord"])), taken(&without, "role", block(&["menu"]))), ((0, 0), (0, 0)));
        // The role head has features of its own.
        let role = Start::from_model(&model(), "role", &Space::new(vec![block(&["menu"])]), &["body".into(), "menu".into()]);
        assert_eq!((role.taken_over.features, role.model.weights[[0, 1]]), (1, 1.25));
    }
}
