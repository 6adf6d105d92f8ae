//! A head: a linear classifier over a feature space, with a temperature and prior probabilities.
//!
//! For a vector x the logit of label c is z(c) = Σ x(t)·w(t, c) + b(c), where the bias b(c) has the priors in it. The
//! probability is softmax(z / T) with the temperature T of [`super::calibration`].
//!
//! Biases are for labels that are equally frequent, whatever they were in training and whatever their
//! [class weights](super::ClassWeights). Priors π move that to the frequencies expected in use by Bayes' rule, p(c) ∝ p₀(c)·π(c)·k for k labels, which is an addition of
//! T·ln(k·π(c)) to the bias (Saerens, Latinne & Decaestecker 2002, equation 2.4).

use std::collections::BTreeMap;

use ndarray::Array2;

/// A trained head.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The labels, sorted.
    pub labels: Vec<String>,
    /// Features × labels.
    pub weights: Array2<f32>,
    /// For each label its bias, without priors.
    pub bias: Vec<f64>,
    /// The temperature, greater than zero.
    pub temperature: f64,
    /// For each label how frequent it is in use; adds up to 1.
    pub priors: Vec<f64>,
    /// What the temperature was fitted on; empty without calibration.
    pub out_of_fold: OutOfFold,
}

/// Logits of articles by models that were not trained on them, with the labels that they have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutOfFold {
    /// Articles × labels.
    pub logits: Array2<f32>,
    /// For each article the index of its label.
    pub labels: Vec<u32>,
}

/// Probabilities that a caller gives for labels, in place of the model's priors.
pub type Priors = BTreeMap<String, f64>;

/// Why priors can't be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidPriors {
    /// No head has this label.
    #[error("{label:?} is not a label of this model; its labels are {labels}")]
    UnknownLabel {
        /// The label given.
        label: String,
        /// The labels that there are.
        labels: String,
    },
    /// A label of the same head has no probability.
    #[error("{missing:?} is missing: give a probability to every label of the {head} head ({labels})")]
    Missing {
        /// The label without probability.
        missing: String,
        /// The head.
        head: String,
        /// The head's labels.
        labels: String,
    },
    /// A value is no probability, or one at the end of the range, which would decide regardless of the text.
    #[error("{label:?} has the probability {value}; it must lie between 0 and 1, both excluded")]
    OutOfRange {
        /// The label.
        label: String,
        /// The value given.
        value: f64,
    },
    /// The probabilities of a head's labels don't add up.
    #[error("the probabilities of the {head} head add up to {sum}, not to 1 (within 0.001)")]
    Sum {
        /// The head.
        head: String,
        /// The sum of the values given.
        sum: f64,
    },
}

impl Head {
    /// For each label its bias with `priors` in it.
    #[must_use]
    pub fn bias_with(&self, priors: &[f64]) -> Vec<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a head has few labels")]
        let labels = self.labels.len() as f64;
        let shift = |prior: &f64| self.temperature * libm::log(labels * prior);
        self.bias.iter().zip(priors).map(|(bias, prior)| bias + shift(prior)).collect()
    }

    /// For each label its probability, given the logits.
    #[must_use]
    pub fn probabilities(&self, logits: &[f64]) -> Vec<f64> {
        softmax(logits.iter().map(|logit| logit / self.temperature))
    }

    /// This head's priors, or those of `given` where it names labels of this head.
    ///
    /// # Errors
    ///
    /// Those of [`priors_for`].
    pub fn priors_from(&self, head: &str, given: &Priors) -> Result<Vec<f64>, InvalidPriors> {
        Ok(priors_for((head, &self.labels), given)?.unwrap_or_else(|| self.priors.clone()))
    }
}

/// The priors of `given` for the `labels` of a head, in their order; none where it names none of them.
///
/// # Errors
///
/// [`InvalidPriors`], when a label is left out, a value is no probability, or they don't add up to 1. Labels
/// of other heads are passed over.
pub fn priors_for((head, labels): (&str, &[String]), given: &Priors) -> Result<Option<Vec<f64>>, InvalidPriors> {
    if !labels.iter().any(|label| given.contains_key(label)) {
        return Ok(None);
    }
    let mut priors = Vec::with_capacity(labels.len());
    for label in labels {
        let Some(value) = given.get(label).copied() else {
            let (missing, labels) = (label.clone(), labels.join(", "));
            return Err(InvalidPriors::Missing { missing, head: head.into(), labels });
        };
        if !(value > 0.0 && value < 1.0) {
            return Err(InvalidPriors::OutOfRange { label: label.clone(), value });
        }
        priors.push(value);
    }
    let sum: f64 = priors.iter().sum();
    if (sum - 1.0).abs() > 1e-3 {
        return Err(InvalidPriors::Sum { head: head.into(), sum });
    }
    priors.iter_mut().for_each(|prior| *prior /= sum);
    Ok(Some(priors))
}

/// Checks priors against the labels of all `heads`, each with its name.
///
/// # Errors
///
/// [`InvalidPriors`], when no head has a label, or a head's priors are incomplete or wrong.
pub fn check_priors(heads: &[(&str, &[String])], priors: &Priors) -> Result<(), InvalidPriors> {
    let known = || heads.iter().flat_map(|(_, labels)| labels.iter());
    if let Some(label) = priors.keys().find(|label| !known().any(|known| known == *label)) {
        let labels = known().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(InvalidPriors::UnknownLabel { label: label.clone(), labels });
    }
    heads.iter().try_for_each(|head| priors_for(*head, priors).map(|_| ()))
}

/// exp(z) / Σ exp(z), computed from the greatest z down so that nothing overflows.
pub fn softmax(logits: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let greatest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
    let mut probabilities: Vec<f64> = logits.map(|logit| libm::exp(logit - greatest)).collect();
    let sum: f64 = probabilities.iter().sum();
    probabilities.iter_mut().for_each(|probability| *probability /= sum);
    probabilities
}

/// The index of the greatest value; the first of equals.
#[must_use]
pub fn argmax(values: &[f64]) -> usize {
    values
        .iter()
        .enumerate()
        .fold((0, f64::NEG_INFINITY), |best, (at, value)| if *value > best.1 { (at, *value) } else { best })
        .0
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn head() -> Head {
        Head {
            labels: vec!["a".into(), "b".into()],
            weights: array![[1.0, -1.0], [0.5, 0.0]],
            bias: vec![0.25, -0.25],
            temperature: 2.0,
            priors: vec![0.5, 0.5],
            out_of_fold: OutOfFold::default(),
        }
    }

    #[test]
    fn probabilities_by_hand() {
        let sums = [4.0, -2.0];
        // softmax of (4, -2) / 2: the ratio is e^3.
        let probabilities = head().probabilities(&sums);
        assert!((probabilities[0] / probabilities[1] - 20.085_536_923).abs() < 1e-6);
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(softmax([1000.0, 1000.0].into_iter()), [0.5, 0.5]);
    }

    #[test]
    fn priors_multiply_the_probabilities_whatever_the_temperature() {
        let head = head();
        let uniform = head.probabilities(&head.bias_with(&[0.5, 0.5]));
        let skewed = head.probabilities(&head.bias_with(&[0.2, 0.8]));
        assert_eq!(head.bias_with(&[0.5, 0.5]), head.bias);
        let expected = uniform[0] * 0.2 / (uniform[0] * 0.2 + uniform[1] * 0.8);
        assert!((skewed[0] - expected).abs() < 1e-12);
    }

    #[test]
    fn priors_are_checked() {
        let given =
            |pairs: &[(&str, f64)]| head().priors_from("topic", &pairs.iter().map(|(label, p)| ((*label).into(), *p)).collect());
        assert_eq!(given(&[("other", 0.3)]).unwrap(), [0.5, 0.5]);
        assert_eq!(given(&[("a", 0.1), ("b", 0.9)]).unwrap(), [0.1, 0.9]);
        assert!(matches!(given(&[("a", 0.1)]), Err(InvalidPriors::Missing { missing, .. }) if missing == "b"));
        assert!(matches!(given(&[("a", 0.1), ("b", 0.8)]), Err(InvalidPriors::Sum { .. })));
        assert!(matches!(given(&[("a", 0.0), ("b", 1.0)]), Err(InvalidPriors::OutOfRange { .. })));
        assert!(matches!(given(&[("a", f64::NAN), ("b", 0.5)]), Err(InvalidPriors::OutOfRange { .. })));
    }
}
