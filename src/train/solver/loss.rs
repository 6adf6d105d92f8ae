//! What is minimised, for several models of the same rows at once.
//!
//! Over vectors of parameters: for each column the weights of its scaled values. Two labels have
//! one weight, for the second label; more have one each. The biases are those that [fit the weights best](super::bias), so that what is minimised is a function of the
//! weights alone; its gradient is that of the loss with these biases (Golub & Pereyra 1973, variable projection; by the envelope theorem, since the loss does not
//! change with them there).
//!
//! Rows are read with the differences of weights to those of the first label: a softmax knows nothing else, the errors of all labels add up
//! to zero, and one column less makes the loops over rows a third faster for three labels. Those of all models that are evaluated lie side by side, so that what
//! takes most of the time, to find a column's place in memory, is done once for all of them.

use std::io;
use std::ops::Range;

use linfa::dataset::{DatasetBase, Records};
use ndarray::{Array1, Array2, ArrayView1};
use rayon::prelude::*;

use super::bias::{Bent, settle};
use super::{LinearModel, Problem, SolverError, ValidLogisticParams};
use crate::features::SparseRows;
use crate::model::ClassWeights;
use crate::train::lbfgs::{Evaluated, max_norm, squares};
use crate::train::products::{self, Entries, Power, Real};

/// Blocks that rows are cut into for summing; more threads than this bring nothing. The greater number is for so many rows that to sum up the
/// blocks is little beside them.
pub(super) const BLOCKS: (usize, usize) = (8, 32);

/// Entries of a block for each parameter that make summing up little.
const ENTRIES: usize = 16;

/// Rows that are worth a block of their own.
pub(super) const BLOCK_ROWS: usize = 512;

/// Reals that the gradients of all blocks may take, for each model.
const BLOCK_REALS: usize = 1 << 26;

/// Columns that are worth a thread's while.
pub(super) const COLUMNS: usize = 1 << 12;

/// A number to the power of −3/8: how far the diagonal of the Hessian is trusted, 0 meaning not at all, and 1 as if it stayed what it is at the start. On five sets of
/// articles it took 17 to 20 steps with this power (hardly more from 0.2 to 0.5), 32 to 48 with 0, and 70 to 108 with 1; that was with biases among the variables.
fn trusted(curvature: f64) -> f64 {
    let root = libm::sqrt(libm::sqrt(curvature));
    1.0 / (root * libm::sqrt(root))
}

/// How near biases have to come to where they fit best: the share of the tolerance that may be left of their own part of the gradient.
const SETTLED: f64 = 0.1;

/// The losses of several models, as functions of their parameters.
pub(super) struct Losses<'a, R> {
    rows: &'a SparseRows<'a>,
    targets: &'a [usize],
    features: usize,
    labels: usize,
    /// Weights of a column: the labels, or 1.
    width: usize,
    models: Vec<Model<'a>>,
    /// For each column the greatest of the models' [factors](Model::factors): zero where it counts for nothing in any of them.
    factors: Vec<f64>,
    /// For each column, as far as they are evaluated, the models' weights of all labels but the first, less that of the first, of a term that occurs once in a row
    /// whose factor is 1.
    differences: Vec<R>,
    blocks: Vec<Block<R>>,
}

/// What is a model's own.
struct Model<'a> {
    /// For each row s / Σ s; 0 where it is not among the model's rows.
    weights: Vec<f64>,
    /// For each label ln(k · π), π being its share of Σ s.
    shifts: Vec<f64>,
    /// 1 / (C · Σ s).
    penalty: f64,
    /// What the values of each column are multiplied by; none where empty.
    scales: &'a [f64],
    /// For each column what a weight is multiplied by to be that of a term that occurs once in a row whose factor is 1: scale · idf.
    factors: Vec<f64>,
    /// The biases of all labels but the first, less that of the first, that fitted best where it was last evaluated.
    biases: Vec<f64>,
    /// The greatest component that the gradient may have in the end.
    tolerance: f64,
}

/// A place to evaluate a model's loss at.
pub(super) struct Place<'a> {
    /// The model.
    pub(super) model: usize,
    /// Where.
    pub(super) parameters: &'a [f64],
    /// What the gradient is written to.
    pub(super) gradient: &'a mut [f64],
}

/// Some rows, and what they add to the gradients of the differences.
struct Block<R> {
    rows: Range<usize>,
    /// Over the [factors](Model::factors).
    columns: Vec<R>,
    /// For each row its logits, without biases.
    logits: Vec<f64>,
    /// For each row the derivatives of its loss by the logits.
    errors: Vec<f64>,
}

/// What a row's own weight is divided by, for each label, so that all rows together weigh 1; and for each label ln(k · π), its share π of that 1 beside
/// 1/k. `counts` are the weights of the labels' rows together, all above zero.
fn spread(class_weights: ClassWeights, counts: &[f64]) -> (Vec<f64>, Vec<f64>) {
    #[expect(clippy::cast_precision_loss, reason = "a model has few labels")]
    let k = counts.len() as f64;
    let shifts = |parts: &[f64], whole: f64| parts.iter().map(|part| libm::log(k * part / whole)).collect();
    match class_weights {
        ClassWeights::Balanced => (counts.iter().map(|count| k * count).collect(), vec![0.0; counts.len()]),
        ClassWeights::SquareRoot => {
            let roots: Vec<f64> = counts.iter().map(|count| libm::sqrt(*count)).collect();
            let whole: f64 = roots.iter().sum();
            (roots.iter().map(|root| root * whole).collect(), shifts(&roots, whole))
        }
        ClassWeights::None => {
            let whole: f64 = counts.iter().sum();
            (vec![whole; counts.len()], shifts(counts, whole))
        }
    }
}

impl<'a> Model<'a> {
    fn new(problem: &Problem<'a>, targets: &[usize], idf: &[f32]) -> Result<Self, SolverError> {
        let Problem { settings: ValidLogisticParams { c, labels, class_weights, tolerance, .. }, weights, scales, .. } = *problem;
        let mut counts = vec![0.0; *labels];
        for (target, weight) in targets.iter().zip(weights) {
            *counts.get_mut(*target).ok_or_else(|| SolverError::Labels(format!("label {target} of {labels}")))? +=
                f64::from(*weight);
        }
        if let Some(label) = counts.iter().position(|count| *count == 0.0) {
            return Err(SolverError::Labels(format!("label {label} has no row")));
        }
        let (per_row, shifts) = spread(*class_weights, &counts);
        let scale = |column: usize| scales.get(column).copied().unwrap_or(1.0);
        Ok(Self {
            weights: targets.iter().zip(weights).map(|(target, weight)| f64::from(*weight) / per_row[*target]).collect(),
            shifts,
            penalty: 1.0 / (c * counts.iter().sum::<f64>()),
            scales,
            factors: idf.iter().enumerate().map(|(column, idf)| scale(column) * f64::from(*idf)).collect(),
            biases: vec![0.0; labels - 1],
            tolerance: *tolerance,
        })
    }

    /// The scale of the column that a weight belongs to, for so many weights of each column.
    fn scales(&self, width: usize) -> impl Iterator<Item = f64> + '_ {
        (0..self.factors.len() * width).map(move |at| self.scales.get(at / width).copied().unwrap_or(1.0))
    }
}

impl<'a, R: Real> Losses<'a, R> {
    /// The losses of some models.
    ///
    /// # Errors
    ///
    /// [`SolverError::Labels`], when labels and rows don't fit.
    pub(super) fn new(
        data: &'a DatasetBase<SparseRows<'a>, Array1<usize>>,
        problems: &[Problem<'a>],
    ) -> Result<Self, SolverError> {
        let (rows, targets) = (&data.records, &data.targets);
        let targets = targets.as_slice().filter(|targets| targets.len() == rows.nsamples());
        let targets = targets.ok_or_else(|| SolverError::Labels("there are not as many labels as rows".into()))?;
        let labels = problems.first().map_or(0, |problem| problem.settings.labels);
        if let Some(other) = problems.iter().find(|problem| problem.settings.labels != labels) {
            return Err(SolverError::Labels(format!("models of {labels} and of {} labels", other.settings.labels)));
        }
        if let Some(other) = problems.iter().find(|problem| problem.weights.len() != targets.len()) {
            return Err(SolverError::Labels(format!("{} weights for {} rows", other.weights.len(), targets.len())));
        }
        let idf = rows.matrix.idf();
        let models: Vec<Model<'a>> =
            problems.iter().map(|problem| Model::new(problem, targets, idf)).collect::<Result<_, _>>()?;
        let greatest = |column: usize| models.iter().map(|model| model.factors[column].abs()).fold(0.0, f64::max);
        let features = rows.nfeatures();
        let width = if labels == 2 { 1 } else { labels };
        // As many blocks as for one model alone, so that sums don't depend on the others.
        let compared = products::stride(labels - 1);
        let reals = (features + products::room(compared)) * compared;
        let wanted = (rows.matrix.entries() / (ENTRIES * (features + 1) * width)).clamp(BLOCKS.0, BLOCKS.1);
        let most = (BLOCK_REALS / reals.max(1)).clamp(1, wanted);
        let size = targets.len().div_ceil(most).max(BLOCK_ROWS);
        let begins = (0..targets.len()).step_by(size);
        let block = |begin: usize| {
            let rows = begin..(begin + size).min(targets.len());
            Block { rows, columns: Vec::new(), logits: Vec::new(), errors: Vec::new() }
        };
        Ok(Self {
            rows,
            targets,
            features,
            labels,
            width,
            factors: (0..features).map(greatest).collect(),
            models,
            differences: Vec::new(),
            blocks: begins.map(block).collect(),
        })
    }

    /// The parameters of a model to begin at, whose biases are those that others begin at.
    pub(super) fn parameters_of(&mut self, model: usize, start: &LinearModel) -> Vec<f64> {
        assert_eq!(start.weights.dim(), (self.features, self.labels), "another model");
        let Model { biases, shifts, .. } = &mut self.models[model];
        let all: Vec<f64> = start.bias.iter().zip(&*shifts).map(|(bias, shift)| bias + shift).collect();
        biases.iter_mut().zip(&all[1..]).for_each(|(to, bias)| *to = bias - all[0]);
        // Of two labels only the difference decides, and it is what the one weight stands for.
        let of = |all: ArrayView1<'_, f64>, at: usize| if self.labels == 2 { all[1] - all[0] } else { all[at] };
        let weights = start.weights.rows().into_iter().flat_map(|row| (0..self.width).map(move |at| of(row, at)));
        // What has the scale 0 has no weight.
        let unscaled = |(weight, scale): (f64, f64)| if scale == 0.0 { 0.0 } else { weight / scale };
        weights.zip(self.models[model].scales(self.width)).map(unscaled).collect()
    }

    /// The model that has these parameters, and these biases of all labels but the first, less that of the first.
    pub(super) fn model(&self, model: usize, (parameters, biases): (&[f64], &[f64]), iterations: u64) -> LinearModel {
        let model = &self.models[model];
        let weights: Vec<f64> = parameters.iter().zip(model.scales(self.width)).map(|(weight, scale)| weight * scale).collect();
        let of = |(feature, label): (usize, usize)| match (self.labels, label) {
            (2, 0) => -0.5 * weights[feature],
            (2, _) => 0.5 * weights[feature],
            _ => weights[feature * self.width + label],
        };
        // A common addition to all says nothing; without one they add up to zero.
        #[expect(clippy::cast_precision_loss, reason = "a model has few labels")]
        let mean = biases.iter().sum::<f64>() / self.labels as f64;
        let biases = std::iter::once(0.0).chain(biases.iter().copied());
        LinearModel {
            weights: Array2::from_shape_fn((self.features, self.labels), of),
            bias: biases.zip(&model.shifts).map(|(bias, shift)| bias - mean - shift).collect(),
            iterations,
        }
    }

    /// For each model a guess at the diagonal of the inverse Hessian: the Hessian's own at zero, where every label has the probability 1/k, as far as it is
    /// [`trusted`]. Biases that fit best take away what all rows have in common, so that it is the variance of a column that counts.
    pub(super) fn diagonals(&mut self) -> io::Result<Vec<Vec<f64>>> {
        #[expect(clippy::cast_precision_loss, reason = "a model has few labels")]
        let p = 1.0 / self.labels as f64;
        let bend = p * (1.0 - p);
        let means = self.moments(Power::First)?;
        let squares = self.moments(Power::Second)?;
        let of_model = |((model, means), squares): ((&Model<'a>, Vec<f64>), Vec<f64>)| {
            let columns = model.factors.par_iter().zip(means).zip(squares).with_min_len(COLUMNS);
            let of_column = |((factor, mean), square): ((&f64, f64), f64)| {
                // All rows together weigh 1.
                let variance = (factor * factor * (square - mean * mean)).max(0.0);
                std::iter::repeat_n(trusted(bend * variance + model.penalty), self.width)
            };
            columns.flat_map_iter(of_column).collect()
        };
        Ok(self.models.iter().zip(means).zip(squares).map(of_model).collect())
    }

    /// For each model, and each column, the mean of a power of the values over its factors.
    fn moments(&mut self, power: Power) -> io::Result<Vec<Vec<f64>>> {
        let Self { rows, features, models, factors, blocks, .. } = self;
        let stride = products::stride(models.len());
        let product = products::of_stride::<R>(stride);
        let of_block = |block: &mut Block<R>| {
            block.clear(*features, stride);
            let mut cursor = rows.matrix.cursor();
            let mut weights = vec![0.0; stride];
            for at in block.rows.clone() {
                weights.iter_mut().zip(&*models).for_each(|(weight, model)| *weight = model.weights[at]);
                if weights.iter().all(|weight| *weight == 0.0) {
                    continue;
                }
                let entries = Entries { row: cursor.row(rows.rows[at])?, factors };
                product.spread(entries, power, &weights, &mut block.columns);
            }
            Ok(())
        };
        blocks.par_iter_mut().with_max_len(1).map(of_block).collect::<io::Result<()>>()?;
        let moment = |at: usize| blocks.iter().map(|block| block.columns[at].value()).sum();
        let of_model = |model| {
            (0..*features).into_par_iter().with_min_len(COLUMNS).map(move |column| moment(column * stride + model)).collect()
        };
        Ok((0..models.len()).map(of_model).collect())
    }

    /// The losses at some places, each of another model, and their gradients; with the biases that fit best there.
    pub(super) fn evaluate(&mut self, places: &mut [Place<'_>]) -> io::Result<Vec<(Evaluated, Vec<f64>)>> {
        let compared = self.labels - 1;
        let stride = products::stride(places.len() * compared);
        self.compare(places, stride);
        let Self { rows, targets, features, width, factors, differences, blocks, models, .. } = self;
        let is_read = |at: usize| places.iter().any(|place| models[place.model].weights[at] != 0.0);
        let is_read: Vec<bool> = (0..targets.len()).into_par_iter().with_min_len(COLUMNS).map(is_read).collect();
        let pass = Pass { rows, targets, factors, is_read: &is_read, stride, compared };
        blocks.par_iter_mut().with_max_len(1).map(|block| pass.multiply(block, differences)).collect::<io::Result<()>>()?;
        let mut losses = Vec::new();
        for (at, Place { model, .. }) in places.iter().enumerate() {
            let Model { weights, biases, tolerance, .. } = &mut models[*model];
            losses.push(settle(biases, SETTLED * *tolerance, |biases| pass.weigh(blocks, at, (weights, biases))));
        }
        blocks.par_iter_mut().with_max_len(1).map(|block| pass.spread(block, *features)).collect::<io::Result<()>>()?;
        let of_places: Vec<&Model<'a>> = places.iter().map(|place| &models[place.model]).collect();
        let of_columns = gradients(places, &of_places, blocks, (*width, compared));
        let of_place = |((Place { model, parameters, .. }, loss), of_columns): ((&Place<'_>, Bent), f64)| {
            let Model { penalty, biases, .. } = &models[*model];
            let value = loss.value + 0.5 * penalty * squares(parameters);
            (Evaluated { value, gradient: of_columns.max(loss.slope()) }, biases.clone())
        };
        Ok(places.iter().zip(losses).zip(of_columns).map(of_place).collect())
    }

    /// Sets the [differences](Self::differences) at some places.
    fn compare(&mut self, places: &[Place<'_>], stride: usize) {
        let Self { models, features, width, labels, differences: all, .. } = self;
        all.resize((*features + products::room(stride)) * stride, R::default());
        let (compared, width) = (*labels - 1, *width);
        all[..*features * stride].par_chunks_mut(stride * COLUMNS).enumerate().for_each(|(chunk, all)| {
            let first = chunk * COLUMNS;
            let mut of_column = vec![0.0; compared];
            all.chunks_exact_mut(stride).for_each(|all| all[places.len() * compared..].fill(R::default()));
            for (at, Place { model, parameters, .. }) in places.iter().enumerate() {
                let columns = parameters[first * width..].chunks_exact(width).zip(&models[*model].factors[first..]);
                for (all, (weights, factor)) in all.chunks_exact_mut(stride).zip(columns) {
                    differences(weights, &mut of_column);
                    let own = &mut all[at * compared..][..compared];
                    own.iter_mut().zip(&of_column).for_each(|(own, difference)| *own = R::near(difference * factor));
                }
            }
        });
    }
}

impl<R: Real> Block<R> {
    /// Makes room for so many columns of `stride` sums, and sets them to zero.
    fn clear(&mut self, columns: usize, stride: usize) {
        self.columns.resize((columns + products::room(stride)) * stride, R::default());
        self.columns[..columns * stride].fill(R::default());
    }
}

/// A pass over all rows, for some models whose differences lie side by side in `stride` places, `compared` of each.
struct Pass<'a> {
    rows: &'a SparseRows<'a>,
    targets: &'a [usize],
    factors: &'a [f64],
    /// For each row whether any of the models has it.
    is_read: &'a [bool],
    stride: usize,
    compared: usize,
}

impl Pass<'_> {
    /// Sets the logits of the rows of a block, without biases, and their errors to zero.
    fn multiply<R: Real>(&self, Block { rows, logits, errors, .. }: &mut Block<R>, differences: &[R]) -> io::Result<()> {
        let Self { rows: all, factors, is_read, stride, .. } = self;
        let product = products::of_stride::<R>(*stride);
        for values in [&mut *logits, errors] {
            values.clear();
            values.resize(rows.len() * stride, 0.0);
        }
        let mut cursor = all.matrix.cursor();
        for (at, logits) in rows.clone().zip(logits.chunks_exact_mut(*stride)).filter(|(at, _)| is_read[*at]) {
            product.multiply(Entries { row: cursor.row(all.rows[at])?, factors }, differences, logits);
        }
        Ok(())
    }

    /// What all rows come to with some biases of a model, the `place`th of those that are evaluated, where rows weigh so much; and sets the derivatives of their losses.
    fn weigh<R: Real>(&self, blocks: &mut [Block<R>], place: usize, (weights, biases): (&[f64], &[f64])) -> Bent {
        let Self { targets, stride, compared, .. } = *self;
        let of_block = |Block { rows, logits, errors, .. }: &mut Block<R>| {
            let mut bent = Bent::zero(compared);
            for ((at, logits), errors) in rows.clone().zip(logits.chunks_exact(stride)).zip(errors.chunks_exact_mut(stride)) {
                let (weight, target) = (weights[at], targets[at]);
                let (logits, errors) = (&logits[place * compared..], &mut errors[place * compared..][..compared]);
                if weight == 0.0 {
                    continue;
                }
                errors.iter_mut().zip(logits).zip(biases).for_each(|((to, logit), bias)| *to = logit + bias);
                let cost = cost(target, errors);
                bent.add_row(weight, (cost, errors), target);
                if target > 0 {
                    errors[target - 1] -= 1.0;
                }
                errors.iter_mut().for_each(|error| *error *= weight);
            }
            bent
        };
        let parts: Vec<Bent> = blocks.par_iter_mut().with_max_len(1).map(of_block).collect();
        let mut all = Bent::zero(compared);
        parts.iter().for_each(|part| all.add(part));
        all
    }

    /// Adds up what the rows of a block add to the gradients.
    fn spread<R: Real>(&self, block: &mut Block<R>, features: usize) -> io::Result<()> {
        let Self { rows: all, factors, is_read, stride, .. } = self;
        let product = products::of_stride::<R>(*stride);
        block.clear(features, *stride);
        let mut cursor = all.matrix.cursor();
        for (at, errors) in block.rows.clone().zip(block.errors.chunks_exact(*stride)).filter(|(at, _)| is_read[*at]) {
            product.spread(Entries { row: cursor.row(all.rows[at])?, factors }, Power::First, errors, &mut block.columns);
        }
        Ok(())
    }
}

/// Sets the slopes of all weights at some places from the sums of the blocks; returns for each place the greatest. A column has so many weights, and so many
/// differences.
fn gradients<R: Real>(
    places: &mut [Place<'_>],
    models: &[&Model<'_>],
    blocks: &[Block<R>],
    (width, compared): (usize, usize),
) -> Vec<f64> {
    let stride = products::stride(places.len() * compared);
    let features = models.first().map_or(0, |model| model.factors.len());
    // The slopes of some columns, for each place.
    let mut chunks: Vec<Vec<&mut [f64]>> = Vec::new();
    chunks.resize_with(features.div_ceil(COLUMNS), Vec::new);
    let mut parameters = Vec::new();
    for Place { gradient, parameters: at, .. } in &mut *places {
        gradient.chunks_mut(width * COLUMNS).zip(&mut chunks).for_each(|(slopes, chunk)| chunk.push(slopes));
        parameters.push(*at);
    }
    let of_chunk = |(chunk, places): (usize, Vec<&mut [f64]>)| -> Vec<f64> {
        let first = chunk * COLUMNS;
        let columns = COLUMNS.min(features - first);
        let mut sums = vec![0.0; columns * stride];
        for block in blocks {
            sums.iter_mut().zip(&block.columns[first * stride..]).for_each(|(sum, more)| *sum += more.value());
        }
        let of_place = |(at, slopes): (usize, &mut [f64])| {
            let Model { factors, penalty, .. } = models[at];
            let sums = sums.chunks_exact(stride).map(|sums| &sums[at * compared..][..compared]);
            for ((slopes, sums), factor) in slopes.chunks_exact_mut(width).zip(sums).zip(&factors[first..]) {
                set(slopes, sums.iter().map(|sum| factor * sum));
            }
            let weights = &parameters[at][first * width..];
            slopes.iter_mut().zip(weights).for_each(|(slope, weight)| *slope += penalty * weight);
            max_norm(slopes)
        };
        places.into_iter().enumerate().map(of_place).collect()
    };
    let greatest: Vec<Vec<f64>> = chunks.into_par_iter().enumerate().map(of_chunk).collect();
    (0..models.len()).map(|at| greatest.iter().map(|chunk| chunk[at]).fold(0.0, f64::max)).collect()
}

/// What the weights of a column are for all labels but the first, less that of the first; of two labels there is nothing but that.
fn differences(of_column: &[f64], to: &mut [f64]) {
    let (first, others) = match of_column {
        [only] => (0.0, std::slice::from_ref(only)),
        [first, others @ ..] => (*first, others),
        [] => return,
    };
    to.iter_mut().zip(others).for_each(|(to, other)| *to = other - first);
}

/// Sets the slopes of a column's weights, given those of the differences.
fn set(slopes: &mut [f64], of_differences: impl ExactSizeIterator<Item = f64>) {
    let (first, others) = slopes.split_at_mut(slopes.len() - of_differences.len());
    others.iter_mut().zip(of_differences).for_each(|(slope, of_difference)| *slope = of_difference);
    first.fill(-others.iter().sum::<f64>());
}

/// The loss of a row whose logits, of all labels but the first, are told less that of the first; they become the labels' probabilities.
fn cost(target: usize, logits: &mut [f64]) -> f64 {
    if let [logit] = logits {
        // ln(1 + e^-m) of the margin m, whichever sign it has.
        let margin = if target == 1 { *logit } else { -*logit };
        let small = libm::exp(-margin.abs());
        *logit = if *logit >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) };
        return libm::log1p(small) + (-margin).max(0.0);
    }
    let greatest = logits.iter().copied().fold(0.0, f64::max);
    let of_target = if target == 0 { 0.0 } else { logits[target - 1] } - greatest;
    logits.iter_mut().for_each(|logit| *logit = libm::exp(*logit - greatest));
    let sum = libm::exp(-greatest) + logits.iter().sum::<f64>();
    logits.iter_mut().for_each(|logit| *logit /= sum);
    libm::log(sum) - of_target
}
