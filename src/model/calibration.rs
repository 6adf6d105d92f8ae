//! Temperature scaling: one number per head that makes its probabilities mean what they say.
//!
//! The temperature T minimises the log loss over articles that the weights were not fitted on (Guo, Pleiss, Sun & Weinberger 2017, section
//! 4.2) of softmax(z / T + ln(k·π)): logits are for labels that are equally frequent, and these articles have them with the frequencies π.
//! An article is not taken to have its label for certain but with the probability (n + 1) / (n + 2), n being how many have that label, and each of
//! the others in equal parts (Platt 1999, section 2.2, for more than two labels): from a few articles that are told without a fault it does not
//! follow that there are no faults.
//!
//! In β = 1/T that loss is convex, its derivative Σ (E(z) − Ê(z)) with E over the softmax and Ê over the article's own probabilities; T is
//! found by bisection of β between 1/50 and 50. It changes no label.

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
    let loss = Loss::new(data);
    // Logits that tell nothing are as good at any temperature.
    if loss.slope(low) == 0.0 && loss.slope(high) == 0.0 {
        return 1.0;
    }
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            return 1.0 / middle;
        }
        if loss.slope(middle) > 0.0 {
            high = middle;
        } else {
            low = middle;
        }
    }
}

/// For each label ln(k · π), what its logit is shifted by where it is as frequent as in `data`; −∞ for one that does not occur.
#[must_use]
pub fn shifts(data: &OutOfFold) -> Vec<f64> {
    let (counts, rows) = (counts(data), data.labels.len());
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 articles")]
    counts.iter().map(|count| libm::log(counts.len() as f64 * count / rows as f64)).collect()
}

/// For each label how many articles have it.
fn counts(data: &OutOfFold) -> Vec<f64> {
    let mut counts = vec![0.0; data.logits.ncols()];
    data.labels.iter().for_each(|label| counts[*label as usize] += 1.0);
    counts
}

struct Loss<'a> {
    data: &'a OutOfFold,
    shifts: Vec<f64>,
    /// For each label what an article that has it is taken to have of any other.
    rests: Vec<f64>,
}

impl<'a> Loss<'a> {
    fn new(data: &'a OutOfFold) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a head has few labels")]
        let others = data.logits.ncols() as f64 - 1.0;
        let rests = counts(data).into_iter().map(|count| if others > 0.0 { 1.0 / (count + 2.0) / others } else { 0.0 }).collect();
        Self { data, shifts: shifts(data), rests }
    }

    /// The derivative in β.
    fn slope(&self, beta: f64) -> f64 {
        let Self { data, shifts, rests } = self;
        let rows = data.logits.rows().into_iter().zip(&data.labels);
        rows.map(|(logits, label)| {
            let logits = || logits.iter().map(|logit| f64::from(*logit));
            let probabilities = softmax(logits().zip(shifts).map(|(logit, shift)| beta * logit + shift));
            let expected: f64 = probabilities.iter().zip(logits()).map(|(probability, logit)| probability * logit).sum();
            let (label, rest) = (*label as usize, rests[*label as usize]);
            let (own, all) = (logits().nth(label).unwrap_or(0.0), logits().sum::<f64>());
            #[expect(clippy::cast_precision_loss, reason = "a head has few labels")]
            let certain = 1.0 - rest * shifts.len() as f64;
            expected - (certain * own + rest * all)
        })
        .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    /// So many articles with the logits (4, 0) that have label 0 and label 1, and with (0, 4).
    fn data([right, wrong]: [usize; 2], [other_wrong, other_right]: [usize; 2]) -> OutOfFold {
        let rows = [([4.0, 0.0], 0, right), ([4.0, 0.0], 1, wrong), ([0.0, 4.0], 0, other_wrong), ([0.0, 4.0], 1, other_right)];
        let all: Vec<([f32; 2], u32)> = rows.into_iter().flat_map(|(row, label, n)| vec![(row, label); n]).collect();
        let logits = Array2::from_shape_fn((all.len(), 2), |(row, label)| all[row].0[label]);
        OutOfFold { logits, labels: all.iter().map(|(_, label)| *label).collect() }
    }

    #[test]
    fn overconfident_logits_are_cooled_to_the_observed_frequency() {
        // Four articles have each label, so each is taken to have its own with 5/6: of those with the logits (4, 0), (3 · 5/6 + 1/6) / 4 = 2/3
        // have label 0, and 4 / T = ln 2.
        let found = temperature(&data([3, 1], [1, 3]));
        assert!((found - 4.0 / std::f64::consts::LN_2).abs() < 1e-9, "{found}");
    }

    #[test]
    fn a_few_faultless_answers_are_not_taken_to_be_certain() {
        // 100 of each, all right: 101/102, 4 / T = ln 101. Of two articles, 2/3 each.
        let found = temperature(&data([100, 0], [0, 100]));
        assert!((found - 4.0 / 101_f64.ln()).abs() < 1e-9, "{found}");
        assert!((temperature(&data([1, 0], [0, 1])) - 4.0 / std::f64::consts::LN_2).abs() < 1e-9);
        assert!((temperature(&data([0, 9], [9, 0])) - LIMIT).abs() < 1e-6);
    }

    #[test]
    fn logits_that_are_right_need_no_temperature_however_frequent_labels_are() {
        // softmax (ln 9, 0) says 0.9 and 0.1 where labels are equally frequent. With nine times as many of label 0 it says 81 to 1 and, the other way
        // round, 1 to 1: 8,100 and 100, 900 and 900.
        let logit = 9_f32.ln();
        let mut found = data([8100, 100], [900, 900]);
        found.logits.mapv_inplace(|value| value / 4.0 * logit);
        assert_eq!(counts(&found), [9000.0, 1000.0]);
        assert!((temperature(&found) - 1.0).abs() < 2e-3, "{}", temperature(&found));
    }

    #[test]
    fn where_there_is_nothing_to_see_nothing_is_changed() {
        assert!((temperature(&OutOfFold::default()) - 1.0).abs() < 1e-12);
        assert!((temperature(&OutOfFold { logits: array![[0.0, 0.0]], labels: vec![0] }) - 1.0).abs() < 1e-12);
    }
}
