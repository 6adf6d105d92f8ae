//! Temperature scaling: one number per head that makes its probabilities mean what they say.
//!
//! The temperature T minimises the log loss of softmax(z / T) over articles that the weights were not fitted on (Guo,
//! Pleiss, Sun & Weinberger 2017, section 4.2). In β = 1/T that loss is convex, its derivative Σ (E(z) − z(label)) with
//! E over softmax(βz); T is found by bisection of β between 1/50 and 50. It changes no label.

use super::head::{OutOfFold, softmax};

/// The largest temperature, and one over the smallest.
const LIMIT: f64 = 50.0;

/// The temperature for these logits; 1 where there are none.
#[must_use]
pub fn temperature(data: &OutOfFold) -> f64 {
    if data.labels.is_empty() {
        return 1.0;
    }
    let (mut low, mut high) = (1.0 / LIMIT, LIMIT);
    // Logits that tell nothing are as good at any temperature.
    if slope(data, low) == 0.0 && slope(data, high) == 0.0 {
        return 1.0;
    }
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if slope(data, middle) > 0.0 {
            high = middle;
        } else {
            low = middle;
        }
    }
    2.0 / (low + high)
}

/// The derivative of the log loss in β.
fn slope(data: &OutOfFold, beta: f64) -> f64 {
    let rows = data.logits.rows().into_iter().zip(&data.labels);
    rows.map(|(logits, label)| {
        let logits = logits.iter().map(|logit| f64::from(*logit));
        let probabilities = softmax(logits.clone().map(|logit| beta * logit));
        let expected: f64 = probabilities.iter().zip(logits.clone()).map(|(probability, logit)| probability * logit).sum();
        expected - logits.clone().nth(*label as usize).unwrap_or(0.0)
    })
    .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn overconfident_logits_are_cooled_to_the_observed_frequency() {
        // Three of four articles with logits (4, 0) have label 0, so the best probability is 3/4, and
        // 4 / T = ln 3, T = 3.640957.
        let logits = array![[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]];
        let found = temperature(&OutOfFold { logits, labels: vec![0, 0, 0, 1] });
        assert!((found - 3.640_957).abs() < 1e-5, "{found}");
    }

    #[test]
    fn the_temperature_stays_within_limits_where_every_label_is_right_or_wrong() {
        let logits = array![[4.0, 0.0], [0.0, 4.0]];
        assert!((temperature(&OutOfFold { logits: logits.clone(), labels: vec![0, 1] }) - 1.0 / LIMIT).abs() < 1e-6);
        assert!((temperature(&OutOfFold { logits, labels: vec![1, 0] }) - LIMIT).abs() < 1e-6);
        assert!((temperature(&OutOfFold::default()) - 1.0).abs() < 1e-12);
        assert!((temperature(&OutOfFold { logits: array![[0.0, 0.0]], labels: vec![0] }) - 1.0).abs() < 1e-12);
    }
}
