//! L-BFGS: minimises a smooth function of many variables from its values and gradients.
//!
//! The inverse of the Hessian is approximated from the last steps (Nocedal & Wright 2006, Numerical Optimization, algorithm 7.4),
//! starting from a diagonal that the caller knows: features that are frequent and features that are rare have
//! curvatures that lie far apart, and a start that says so saves half of the steps. Step lengths meet the weak Wolfe
//! conditions, found by bisection (Lewis & Overton 2013, algorithm 4.6; the first cut by a parabola), or the approximate ones of Hager & Zhang (2005,
//! equation 4.1) where values no longer differ by more than rounding.
//!
//! Sums run over chunks of fixed bounds, so that the result is the same to the last bit on any number of threads.

use std::collections::VecDeque;

use rayon::prelude::*;

/// Steps that are remembered. With twice as many as the usual ten, heads need a tenth to a third fewer steps; with more, hardly fewer.
const HISTORY: usize = 20;

/// Variables that are worth a thread's while.
const CHUNK: usize = 1 << 14;

/// Sums that run side by side within a chunk.
const LANES: usize = 8;

/// Variables whose products are summed in single precision.
const STRETCH: usize = 256;

/// How long the first step is, in the norm of the diagonal. From 2 to 8 it saved a step or two of fifteen beside 1; 16 took more.
const FIRST: f64 = 4.0;

/// The share of the promised decrease that a step must bring.
const DECREASE: f64 = 1e-4;

/// The share of the slope that may be left after a step.
const CURVATURE: f64 = 0.9;

/// How much a step must bend the gradient, beside the lengths of both, to say more than single precision's rounding.
const BENT: f64 = 1e-7;

/// Trials of a line search, after which no step length is to be found.
const TRIALS: usize = 50;

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The greatest component of the gradient that is small enough.
    pub tolerance: f64,
    /// The most steps.
    pub max_iterations: u64,
    /// Values that differ by a smaller share are taken to be equal: rounding says no more of them.
    pub rounding: f64,
}

/// What a function comes to somewhere.
#[derive(Debug, Clone, Copy)]
pub struct Evaluated {
    /// Its value.
    pub value: f64,
    /// The greatest component of the gradient, as the [tolerance](Limits::tolerance) is meant: who changes the variables may mean that of the old ones.
    pub gradient: f64,
}

/// Where the search ended.
#[derive(Debug, Clone)]
pub struct Minimum {
    /// The variables.
    pub parameters: Vec<f64>,
    /// Steps made.
    pub iterations: u64,
    /// The greatest component of the gradient there.
    pub gradient: f64,
    /// Why the search stopped, where the gradient is not small enough.
    pub short_of_tolerance: Option<&'static str>,
}

/// A step that was made, and what it changed; in single precision, since both only tell how the function is curved.
#[derive(Debug)]
struct Step {
    moved: Vec<f32>,
    /// How the gradient changed.
    bent: Vec<f32>,
    /// 1 / (moved · bent).
    rho: f64,
}

/// A search for a minimum that asks for values and gradients and is told them, so that many can go on side by side while one pass over the data
/// answers them all.
#[derive(Debug)]
pub struct Descent {
    limits: Limits,
    /// A guess at the diagonal of the inverse Hessian, right up to a factor.
    diagonal: Vec<f64>,
    /// The best place so far, and the gradient there.
    parameters: Vec<f64>,
    gradient: Vec<f64>,
    here: Evaluated,
    /// The place that is asked for, and the gradient there.
    trial: Vec<f64>,
    trial_gradient: Vec<f64>,
    state: State,
    history: VecDeque<Step>,
    /// Memory for the next step.
    spare: Option<(Vec<f32>, Vec<f32>)>,
    iterations: u64,
}

/// What the next answer is for.
#[derive(Debug)]
enum State {
    /// The start.
    Begin,
    /// A step along a line.
    Line(Line),
    /// Nothing: the search has ended; before the gradient is small enough for this reason, where there is one.
    End(Option<&'static str>),
}

/// A search for the length of a step.
#[derive(Debug)]
struct Line {
    direction: Vec<f32>,
    /// How the value changes along the direction at the beginning.
    slope: f64,
    /// What is too short.
    low: f64,
    /// What is too long.
    high: f64,
    length: f64,
    trials: usize,
}

impl Descent {
    /// Begins at `start`. `diagonal` is a guess at the diagonal of the inverse Hessian, right up to a factor.
    #[must_use]
    pub fn new(start: Vec<f64>, diagonal: Vec<f64>, limits: Limits) -> Self {
        Self {
            limits,
            diagonal,
            parameters: vec![0.0; start.len()],
            gradient: vec![0.0; start.len()],
            here: Evaluated { value: f64::NAN, gradient: f64::INFINITY },
            trial_gradient: vec![0.0; start.len()],
            trial: start,
            state: State::Begin,
            history: VecDeque::with_capacity(HISTORY),
            spare: None,
            iterations: 0,
        }
    }

    /// Where the function is to be evaluated next, and where its gradient goes; nothing when the search has ended.
    pub fn asks(&mut self) -> Option<(&[f64], &mut [f64])> {
        match self.state {
            State::End(_) => None,
            State::Begin | State::Line(_) => Some((&self.trial, &mut self.trial_gradient)),
        }
    }

    /// Takes what the function comes to at the place that was asked for, of which the gradient was written. Returns whether the search goes on, or ends, from there.
    pub fn told(&mut self, there: Evaluated) -> bool {
        match std::mem::replace(&mut self.state, State::End(None)) {
            State::Begin => self.go_on(there),
            State::Line(line) => return self.tried(line, there),
            ended @ State::End(_) => {
                self.state = ended;
                return false;
            }
        }
        true
    }

    /// Where the search has ended.
    #[must_use]
    pub fn end(self) -> Minimum {
        let Self { parameters, iterations, here, state, .. } = self;
        let short_of_tolerance = match state {
            State::End(reason) => reason,
            State::Begin | State::Line(_) => Some("it was not brought to an end"),
        };
        Minimum { parameters, iterations, gradient: here.gradient, short_of_tolerance }
    }

    /// Goes to the place that was asked for, and begins the next step.
    fn go_on(&mut self, there: Evaluated) {
        std::mem::swap(&mut self.parameters, &mut self.trial);
        std::mem::swap(&mut self.gradient, &mut self.trial_gradient);
        self.here = there;
        if there.gradient <= self.limits.tolerance {
            return self.stop(None);
        }
        if self.iterations == self.limits.max_iterations {
            return self.stop(Some("no more iterations were allowed"));
        }
        let direction = direction(&self.gradient, &self.diagonal, &self.history);
        let slope = along(&self.gradient, &direction);
        // What is too small for single precision leads nowhere, nor does what is no number.
        if slope.is_nan() || slope >= 0.0 {
            return self.stop(Some("no step makes it smaller"));
        }
        self.ask(Line { direction, slope, low: 0.0, high: f64::INFINITY, length: 1.0, trials: 0 });
    }

    /// Asks for the place at the end of the step.
    fn ask(&mut self, line: Line) {
        let all = self.trial.par_iter_mut().with_min_len(CHUNK).zip(&self.parameters).zip(&line.direction);
        all.for_each(|((to, from), direction)| *to = from + line.length * f64::from(*direction));
        self.state = State::Line(line);
    }

    /// Takes the step, or changes its length. Returns whether it was taken.
    fn tried(&mut self, mut line: Line, there: Evaluated) -> bool {
        let Line { slope, length, .. } = line;
        let slope_there = along(&self.trial_gradient, &line.direction);
        let (from, to) = (self.here.value, there.value);
        let is_lower = to <= from + DECREASE * length * slope;
        let is_level = (to - from).abs() <= self.limits.rounding * from.abs() && slope_there <= (2.0 * DECREASE - 1.0) * slope;
        if !(is_lower || is_level) {
            line.high = length;
        } else if slope_there < CURVATURE * slope {
            line.low = length;
        } else {
            self.remember();
            self.iterations += 1;
            self.go_on(there);
            return true;
        }
        line.trials += 1;
        if line.trials == TRIALS {
            self.stop(Some("no step makes it smaller"));
            return false;
        }
        line.length = if line.high.is_infinite() {
            2.0 * line.low
        } else if line.low > 0.0 {
            f64::midpoint(line.low, line.high)
        } else {
            // The minimum of the parabola through what is known: two values and a slope. A value that is no number gives none.
            let lowest = -0.5 * slope * length * length / (to - from - slope * length);
            lowest.max(0.1 * length).min(0.5 * length)
        };
        self.ask(line);
        false
    }

    /// Keeps the step to the place that was asked for.
    fn remember(&mut self) {
        let (mut moved, mut bent) = self.spare.take().unwrap_or_default();
        difference(&mut moved, &self.trial, &self.parameters);
        difference(&mut bent, &self.trial_gradient, &self.gradient);
        let product = dot(&moved, &bent, |moved, bent| f64::from(moved) * f64::from(bent));
        // Where a function is flat, rounding alone decides how it bends.
        let rounding = BENT * norm(&moved) * norm(&bent);
        if product > rounding && product.is_finite() {
            let oldest = if self.history.len() == HISTORY { self.history.pop_front() } else { None };
            self.spare = oldest.map(|step| (step.moved, step.bent));
            self.history.push_back(Step { moved, bent, rho: 1.0 / product });
        } else {
            self.spare = Some((moved, bent));
        }
    }

    /// Ends the search, and gives back the memory that others may need.
    fn stop(&mut self, short_of_tolerance: Option<&'static str>) {
        self.state = State::End(short_of_tolerance);
        (self.history, self.spare) = (VecDeque::new(), None);
        for done in [&mut self.diagonal, &mut self.gradient, &mut self.trial, &mut self.trial_gradient] {
            *done = Vec::new();
        }
    }
}

/// Where to go: minus the approximate inverse Hessian times the gradient; in single precision, like the steps that it is made of.
fn direction(gradient: &[f64], diagonal: &[f64], history: &VecDeque<Step>) -> Vec<f32> {
    let mut direction: Vec<f32> = gradient.par_iter().with_min_len(CHUNK).map(|slope| single(-slope)).collect();
    let mut alphas = [0.0; HISTORY];
    // Each pass over the direction ends a step of the recursion and begins the next.
    let mut next = history.back().map_or(0.0, |Step { moved, .. }| inner(moved, &direction));
    for at in (0..history.len()).rev() {
        alphas[at] = history[at].rho * next;
        let before = at.checked_sub(1).map(|before| history[before].moved.as_slice());
        next = add(&mut direction, -alphas[at], &history[at].bent, before);
    }
    // The factor that makes the diagonal fit the last step; without one, a step of a length that is right for much the same functions.
    let scale = match history.back() {
        Some(Step { bent, rho, .. }) => 1.0 / (rho * dot(bent, diagonal, |bent, of| f64::from(bent) * f64::from(bent) * of)),
        None => FIRST / libm::sqrt(dot(gradient, diagonal, |slope, of| slope * slope * of)),
    };
    let all = direction.par_iter_mut().with_min_len(CHUNK).zip(diagonal);
    all.for_each(|(to, diagonal)| *to = single(f64::from(*to) * scale * diagonal));
    next = history.front().map_or(0.0, |Step { bent, .. }| inner(bent, &direction));
    for (at, Step { moved, rho, .. }) in history.iter().enumerate() {
        let after = history.get(at + 1).map(|after| after.bent.as_slice());
        next = add(&mut direction, alphas[at] - rho * next, moved, after);
    }
    direction
}

#[expect(clippy::cast_possible_truncation, reason = "kept in single precision")]
fn single(of: f64) -> f32 {
    of as f32
}

/// How a function with this gradient changes along a direction.
fn along(gradient: &[f64], direction: &[f32]) -> f64 {
    dot(gradient, direction, |slope, direction: f32| slope * f64::from(direction))
}

/// `left` − `right`.
fn difference(to: &mut Vec<f32>, left: &[f64], right: &[f64]) {
    to.resize(left.len(), 0.0);
    let set = |((to, left), right): ((&mut f32, &f64), &f64)| *to = single(left - right);
    to.par_iter_mut().with_min_len(CHUNK).zip(left).zip(right).for_each(set);
}

/// Adds `factor` · `other` to `to`; then its product with `next`, in the same pass over memory.
fn add(to: &mut [f32], factor: f64, other: &[f32], next: Option<&[f32]>) -> f64 {
    let factor = single(factor);
    let chunks = to.par_chunks_mut(CHUNK).zip(other.par_chunks(CHUNK)).enumerate();
    let sums = chunks.map(|(at, (to, other))| {
        let mut sum = 0.0;
        let mut next = next.map(|next| &next[at * CHUNK..]);
        for (to, other) in to.chunks_mut(STRETCH).zip(other.chunks(STRETCH)) {
            to.iter_mut().zip(other).for_each(|(to, other)| *to += factor * other);
            if let Some(after) = &mut next {
                let (with, rest) = after.split_at(to.len());
                sum += product(to, with);
                *after = rest;
            }
        }
        sum
    });
    sums.collect::<Vec<f64>>().iter().sum()
}

/// The inner product, summed as [`add`] sums it.
fn inner(left: &[f32], right: &[f32]) -> f64 {
    let chunks = left.par_chunks(CHUNK).zip(right.par_chunks(CHUNK));
    let sums = chunks
        .map(|(left, right)| left.chunks(STRETCH).zip(right.chunks(STRETCH)).map(|(left, right)| product(left, right)).sum());
    sums.collect::<Vec<f64>>().iter().sum()
}

/// The inner product of two short vectors.
fn product(left: &[f32], right: &[f32]) -> f64 {
    let mut sums = [0.0_f32; LANES];
    let (left, right) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest: f32 = left.remainder().iter().zip(right.remainder()).map(|(left, right)| left * right).sum();
    for (left, right) in left.zip(right) {
        sums.iter_mut().zip(left).zip(right).for_each(|((sum, left), right)| *sum += left * right);
    }
    sums.iter().map(|sum| f64::from(*sum)).sum::<f64>() + f64::from(rest)
}

/// Σ of the squares.
pub(super) fn squares(of: &[f64]) -> f64 {
    dot(of, of, |left, right| left * right)
}

/// The Euclidean norm.
fn norm(of: &[f32]) -> f64 {
    libm::sqrt(dot(of, of, |left, right| f64::from(left) * f64::from(right)))
}

/// The greatest component, whatever its sign; infinite where one is no number.
pub(super) fn max_norm(of: &[f64]) -> f64 {
    let size = |component: &f64| if component.is_nan() { f64::INFINITY } else { component.abs() };
    of.par_iter().with_min_len(CHUNK).map(size).reduce(|| 0.0, f64::max)
}

/// Σ term(left, right).
fn dot<L: Copy + Sync, R: Copy + Sync>(left: &[L], right: &[R], term: impl Fn(L, R) -> f64 + Sync) -> f64 {
    let chunks = left.par_chunks(CHUNK).zip(right.par_chunks(CHUNK));
    chunks.map(|(left, right)| sum(left.len(), |at| term(left[at], right[at]))).collect::<Vec<f64>>().iter().sum()
}

/// The sum of so many terms, several side by side: one after the other, each would wait for the one before.
fn sum(terms: usize, term: impl Fn(usize) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let whole = terms - terms % LANES;
    for first in (0..whole).step_by(LANES) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += term(first + lane);
        }
    }
    (whole..terms).for_each(|at| sums[0] += term(at));
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minimises `evaluate`, which writes the gradient at its first argument into the second.
    fn minimise(
        start: Vec<f64>,
        diagonal: &[f64],
        limits: Limits,
        mut evaluate: impl FnMut(&[f64], &mut [f64]) -> Evaluated,
    ) -> Minimum {
        let mut descent = Descent::new(start, diagonal.to_vec(), limits);
        while let Some((at, gradient)) = descent.asks() {
            let evaluated = evaluate(at, gradient);
            descent.told(evaluated);
        }
        descent.end()
    }

    fn evaluated(value: f64, gradient: &[f64]) -> Evaluated {
        Evaluated { value, gradient: max_norm(gradient) }
    }

    /// A quadratic with curvatures from 1 to 10,000, whose minimum is at (1, 2, 3, …).
    fn quadratic(at: &[f64], gradient: &mut [f64]) -> Evaluated {
        let mut value = 0.0;
        for (n, (x, slope)) in at.iter().zip(&mut *gradient).enumerate() {
            let (curvature, off) = (f64::powi(10.0, (n % 5) as i32), x - (n + 1) as f64);
            *slope = curvature * off;
            value += 0.5 * curvature * off * off;
        }
        evaluated(value, gradient)
    }

    #[test]
    fn finds_the_minimum_of_a_quadratic_and_a_good_diagonal_helps() {
        let limits = Limits { tolerance: 1e-9, max_iterations: 500, rounding: 1e-12 };
        let plain = minimise(vec![0.0; 20], &[1.0; 20], limits, quadratic);
        let diagonal: Vec<f64> = (0..20).map(|n| f64::powi(10.0, -(n % 5))).collect();
        let helped = minimise(vec![0.0; 20], &diagonal, limits, quadratic);
        for found in [&plain, &helped] {
            assert!(found.short_of_tolerance.is_none() && found.gradient <= 1e-9);
            for (n, x) in found.parameters.iter().enumerate() {
                assert!((x - (n + 1) as f64).abs() < 1e-9, "{x}");
            }
        }
        // The true inverse Hessian up to a factor leads straight to the minimum.
        assert!(helped.iterations <= 3 && plain.iterations > 10, "{} and {}", helped.iterations, plain.iterations);
    }

    #[test]
    fn a_curved_valley_is_followed_and_stopping_short_is_told() {
        // Rosenbrock's function, whose minimum is at (1, 1).
        let rosenbrock = |at: &[f64], gradient: &mut [f64]| {
            let (x, y) = (at[0], at[1]);
            gradient[0] = -2.0 * (1.0 - x) - 400.0 * x * (y - x * x);
            gradient[1] = 200.0 * (y - x * x);
            evaluated((1.0 - x) * (1.0 - x) + 100.0 * (y - x * x) * (y - x * x), gradient)
        };
        let limits = Limits { tolerance: 1e-8, max_iterations: 200, rounding: 1e-12 };
        let found = minimise(vec![-1.2, 1.0], &[1.0, 1.0], limits, rosenbrock);
        assert!(found.short_of_tolerance.is_none());
        assert!((found.parameters[0] - 1.0).abs() < 1e-7 && (found.parameters[1] - 1.0).abs() < 1e-7);
        let short = minimise(vec![-1.2, 1.0], &[1.0, 1.0], Limits { max_iterations: 3, ..limits }, rosenbrock);
        assert_eq!((short.iterations, short.short_of_tolerance), (3, Some("no more iterations were allowed")));
        assert!(short.gradient > 1e-8);
        // A gradient that is no number is not small, and a value that is none makes nothing smaller.
        let lost = minimise(vec![0.0], &[1.0], limits, |_, gradient| {
            gradient[0] = f64::NAN;
            evaluated(0.0, gradient)
        });
        assert_eq!(
            (lost.iterations, lost.gradient, lost.short_of_tolerance),
            (0, f64::INFINITY, Some("no step makes it smaller"))
        );
        let never = minimise(vec![0.0], &[1.0], limits, |_, gradient| {
            gradient[0] = 1.0;
            evaluated(f64::NAN, gradient)
        });
        assert_eq!(never.short_of_tolerance, Some("no step makes it smaller"));
        // A gradient that single precision does not hold is not followed to the last iteration.
        let faint = minimise(vec![0.0], &[1.0], Limits { tolerance: 1e-60, ..limits }, |at, gradient| {
            gradient[0] = 1e-50;
            evaluated(1e-50 * at[0], gradient)
        });
        assert_eq!((faint.iterations, faint.short_of_tolerance), (0, Some("no step makes it smaller")));
    }
}
