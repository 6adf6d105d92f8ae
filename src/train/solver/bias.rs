//! The biases that fit given weights best.
//!
//! They are found by Newton's method (Boyd & Vandenberghe 2004, Convex Optimization, algorithm 9.5), for which the Hessian is at hand: there are few biases, and all
//! rows tell of them. Weights that tell labels apart leave hardly a row in doubt, so that a bias bends the loss a hundred times less in the end than in the beginning: a
//! search that had it among its variables, and remembered how these bent the loss, would go too far or not far enough with every step.

use crate::train::lbfgs::max_norm;

/// The loss as a function of the biases of all labels but the first, less that of the first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Bent {
    /// The loss.
    pub(super) value: f64,
    /// Its derivatives.
    pub(super) gradient: Vec<f64>,
    /// Its second derivatives, row by row; only those of the lower triangle count.
    pub(super) hessian: Vec<f64>,
}

/// Steps after which the biases are taken as they are.
const STEPS: usize = 100;

/// How often a step is halved before it is given up.
const HALVES: usize = 40;

/// How far a bias goes in the first step: where no row is in doubt, the Hessian knows no end. Twice as far whenever that was not far enough.
const REACH: f64 = 8.0;

/// The share of the promised decrease that a step must bring.
const DECREASE: f64 = 1e-4;

/// Losses that differ by a smaller share are taken to be equal.
const LEVEL: f64 = 1e-12;

impl Bent {
    /// Nothing yet, for so many biases.
    pub(super) fn zero(biases: usize) -> Self {
        Self { value: 0.0, gradient: vec![0.0; biases], hessian: vec![0.0; biases * biases] }
    }

    /// Adds a row that weighs so much, of which the labels have these probabilities, but for the first, and that costs so much.
    pub(super) fn add_row(&mut self, weight: f64, (cost, probabilities): (f64, &[f64]), target: usize) {
        self.value += weight * cost;
        let lines = self.hessian.chunks_exact_mut(probabilities.len());
        for (at, ((slope, line), p)) in self.gradient.iter_mut().zip(lines).zip(probabilities).enumerate() {
            *slope += weight * (p - if target == at + 1 { 1.0 } else { 0.0 });
            line.iter_mut().zip(&probabilities[..at]).for_each(|(bend, other)| *bend -= weight * p * other);
            line[at] += weight * p * (1.0 - p);
        }
    }

    /// Adds what other rows come to.
    pub(super) fn add(&mut self, other: &Self) {
        self.value += other.value;
        let pairs = [(&mut self.gradient, &other.gradient), (&mut self.hessian, &other.hessian)];
        pairs.into_iter().for_each(|(all, more)| all.iter_mut().zip(more).for_each(|(all, more)| *all += more));
    }

    /// The greatest derivative, whatever its sign; infinite where one is no number.
    pub(super) fn slope(&self) -> f64 {
        max_norm(&self.gradient)
    }

    /// The step to where the loss would be least, were it bent everywhere as it is here and by `more` in all directions.
    fn step(&self, more: f64) -> Vec<f64> {
        let n = self.gradient.len();
        // Cholesky: the Hessian is L · Lᵀ.
        let mut l = self.hessian.clone();
        for row in 0..n {
            for column in 0..=row {
                let sum: f64 = (0..column).map(|at| l[row * n + at] * l[column * n + at]).sum();
                let rest = self.hessian[row * n + column] - sum;
                // What rounding leaves of a label that no row is in doubt about is not below zero.
                l[row * n + column] =
                    if row == column { libm::sqrt((rest + more).max(f64::MIN_POSITIVE)) } else { rest / l[column * n + column] };
            }
        }
        let mut step: Vec<f64> = self.gradient.iter().map(|slope| -slope).collect();
        for row in 0..n {
            let sum: f64 = (0..row).map(|at| l[row * n + at] * step[at]).sum();
            step[row] = (step[row] - sum) / l[row * n + row];
        }
        for row in (0..n).rev() {
            let sum: f64 = (row + 1..n).map(|at| l[at * n + row] * step[at]).sum();
            step[row] = (step[row] - sum) / l[row * n + row];
        }
        step
    }
}

/// Moves `biases` to where no derivative is above the tolerance, or as near as rounding lets it, and returns what the loss is there. That is the last place that is
/// evaluated.
pub(super) fn settle(biases: &mut [f64], tolerance: f64, mut evaluate: impl FnMut(&[f64]) -> Bent) -> Bent {
    let (mut here, mut reach) = (evaluate(biases), REACH);
    for _ in 0..STEPS {
        let slope = here.slope();
        if slope <= tolerance || !slope.is_finite() {
            break;
        }
        // A step that is too long is damped (Levenberg 1944): cut short it would keep its direction, which is wrong where the Hessian is next to none.
        let (mut more, mut step) = (1e-3 * slope / reach, here.step(0.0));
        let is_damped = max_norm(&step) > reach;
        while max_norm(&step) > reach && more < f64::MAX {
            step = here.step(more);
            more *= 4.0;
        }
        if is_damped {
            reach *= 2.0;
        }
        let promised: f64 = here.gradient.iter().zip(&step).map(|(slope, step)| slope * step).sum();
        let mut length = 1.0;
        let mut found = None;
        for _ in 0..HALVES {
            let trial: Vec<f64> = biases.iter().zip(&step).map(|(from, step)| from + length * step).collect();
            let there = evaluate(&trial);
            let is_lower = there.value <= here.value + DECREASE * length * promised;
            // Near the end values differ by rounding alone.
            let is_level = (there.value - here.value).abs() <= LEVEL * here.value.abs() && there.slope() < slope;
            if is_lower || is_level {
                found = Some((trial, there));
                break;
            }
            length *= 0.5;
        }
        let Some((to, there)) = found else { return evaluate(biases) };
        biases.copy_from_slice(&to);
        here = there;
    }
    here
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What some rows come to: the weight of each, its label, and its logits less that of the first label.
    fn loss<const N: usize>(rows: &[(f64, usize, [f64; N])], biases: &[f64]) -> Bent {
        let mut all = Bent::zero(N);
        for (weight, target, logits) in rows {
            let logits: Vec<f64> = logits.iter().zip(biases).map(|(logit, bias)| logit + bias).collect();
            let greatest = logits.iter().fold(0.0, |greatest: f64, logit| greatest.max(*logit));
            let sum = (-greatest).exp() + logits.iter().map(|logit| (logit - greatest).exp()).sum::<f64>();
            let probabilities: Vec<f64> = logits.iter().map(|logit| (logit - greatest).exp() / sum).collect();
            let of_target = if *target == 0 { 0.0 } else { logits[target - 1] };
            all.add_row(*weight, (sum.ln() + greatest - of_target, &probabilities), *target);
        }
        all
    }

    #[test]
    fn without_weights_labels_are_as_probable_as_they_are_frequent() {
        let rows: Vec<(f64, usize, [f64; 2])> = [0, 0, 0, 0, 1, 1, 2].map(|target| (1.0 / 7.0, target, [0.0; 2])).into();
        let mut biases = [0.0; 2];
        settle(&mut biases, 1e-12, |biases| loss(&rows, biases));
        assert!((biases[0] - 0.5_f64.ln()).abs() < 1e-10 && (biases[1] - 0.25_f64.ln()).abs() < 1e-10, "{biases:?}");
    }

    #[test]
    fn derivatives_are_those_of_the_loss() {
        let rows = [(0.5, 1, [1.0, -2.0]), (0.25, 0, [0.5, 0.25]), (0.125, 2, [-1.0, 3.0]), (1.0, 1, [0.0, 2.0])];
        let at = [0.3, -0.7];
        let here = loss(&rows, &at);
        for bias in 0..2 {
            let moved = |by: f64| {
                let mut moved = at;
                moved[bias] += by;
                loss(&rows, &moved)
            };
            let (more, less) = (moved(1e-5), moved(-1e-5));
            assert!(((more.value - less.value) / 2e-5 - here.gradient[bias]).abs() < 1e-9);
            for other in 0..=bias {
                let bend = (more.gradient[other] - less.gradient[other]) / 2e-5;
                assert!((bend - here.hessian[bias * 2 + other]).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn rows_that_are_far_from_any_doubt_are_no_obstacle() {
        // From zero no row is in doubt, and no derivative tells how far it is: logits lie at a thousand.
        let rows = [(0.5, 0, [1000.0]), (0.25, 1, [1001.0]), (0.25, 1, [1002.0])];
        let mut biases = [0.0];
        settle(&mut biases, 1e-10, |biases| loss(&rows, biases));
        assert!(loss(&rows, &biases).slope() <= 1e-10 && biases[0] < -1000.0, "{biases:?}");
    }

    #[test]
    fn a_number_that_is_none_is_not_settled() {
        let lost = || Bent { value: f64::NAN, gradient: vec![f64::NAN], hessian: vec![f64::NAN] };
        let mut biases = [0.0];
        assert_eq!((settle(&mut biases, 1e-10, |_| lost()).slope(), biases), (f64::INFINITY, [0.0]));
        // Nor is it gone to.
        let rows = [(0.5, 0, [0.0]), (0.25, 1, [0.0]), (0.25, 1, [3.0])];
        let there = settle(&mut biases, 1e-10, |at| if at[0] < -0.5 { lost() } else { loss(&rows, at) });
        assert!(there.value.is_finite() && biases[0] >= -0.5 && biases[0] < 0.0, "{biases:?}");
    }

    /// Logits of labels that are far apart, and not centred, which Newton's method alone is lost in.
    fn assert_settled<const N: usize>(noise: f64, separation: f64, offset: f64) {
        let mut random = 1_u64;
        let mut uniform = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
        };
        for case in 0..60 {
            let offsets: [f64; N] = std::array::from_fn(|_| 4.0 * offset * uniform());
            let rows: Vec<(f64, usize, [f64; N])> = (0..120)
                .map(|row| {
                    let target = row % (N + 1);
                    let of_label = |label: usize| if target == label + 1 { separation } else { 0.0 };
                    let of_first = if target == 0 { separation } else { 0.0 };
                    let logits =
                        std::array::from_fn(|label| of_label(label) - of_first + offsets[label] + 4.0 * noise * uniform());
                    (1.0 / 120.0, target, logits)
                })
                .collect();
            let mut biases = [0.0; N];
            let found = settle(&mut biases, 1e-7, |biases| loss(&rows, biases));
            assert!(found.slope() <= 1e-7, "{case} of {N}, {noise}, {separation}, {offset}: {found:?} at {biases:?}");
        }
    }

    #[test]
    fn logits_that_are_far_apart_are_settled_whatever_the_number_of_labels() {
        for (noise, separation, offset) in [(1.0, 2.0, 2.0), (1.0, 5.0, 5.0), (2.0, 10.0, 20.0)] {
            assert_settled::<1>(noise, separation, offset);
            assert_settled::<2>(noise, separation, offset);
            assert_settled::<6>(noise, separation, offset);
        }
    }
}
