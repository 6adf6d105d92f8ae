//! Products of a packed row with weights, and back: the two loops that training spends most of its time in.
//!
//! Weights lie side by side for each column, one for each label of each model that is fitted, and are those of a term that occurs once, so that nearly all of the work is to
//! add them up. Segments of columns that count for nothing are passed over. Behind the last column there is room for a whole segment, so that no id needs to be compared with the end.
//!
//! Weights and the sums of a gradient are kept in single or in double precision: what decides the speed is how many of them are in the caches.

use std::ops::{AddAssign, Mul};

use crate::features::matrix::{Id, Row, SPAN, Segment};
use crate::features::space::Damping;

/// Columns that are worked on side by side: one after the other, each sum would wait for the one before.
const LANES: usize = 4;

/// Columns of which the weights are added up in their own precision, before the sum goes into one in double precision.
const STRETCH: usize = 64;

/// Weights of a column that there are loops of their own for.
pub(super) const MOST_FIXED: usize = 16;

/// A row, and what there is to know of its columns.
#[derive(Clone, Copy)]
pub(super) struct Entries<'a> {
    /// The row.
    pub(super) row: Row<'a>,
    /// For each column what its weights were multiplied by; those of a segment are all zero or none is.
    pub(super) factors: &'a [f64],
}

impl<'a> Entries<'a> {
    /// The segments of which the weights are not all zero.
    fn segments(self) -> impl Iterator<Item = Segment<'a>> {
        self.row.segments().filter(move |segment| self.factors[segment.first] != 0.0)
    }

    /// The columns of their entries, in no order, and the values over what the weights of the column were multiplied by.
    pub(super) fn terms(self) -> impl Iterator<Item = (usize, f64)> {
        self.segments().flat_map(Segment::terms)
    }
}

/// Numbers of one precision.
pub(super) trait Real: Copy + Default + Send + Sync + Mul<Output = Self> + AddAssign + 'static {
    /// The share of a loss that may come of rounding, where weights are of this precision.
    const ROUNDING: f64;

    /// The nearest one to `value`.
    fn near(value: f64) -> Self;

    /// Its value.
    fn value(self) -> f64;
}

impl Real for f32 {
    const ROUNDING: f64 = 1e-7;

    #[expect(clippy::cast_possible_truncation, reason = "the nearest is wanted")]
    fn near(value: f64) -> Self {
        value as Self
    }

    fn value(self) -> f64 {
        self.into()
    }
}

impl Real for f64 {
    const ROUNDING: f64 = 1e-12;

    fn near(value: f64) -> Self {
        value
    }

    fn value(self) -> f64 {
        self
    }
}

/// What of a row's values is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    /// The values.
    First,
    /// Their squares.
    Second,
}

/// The loops for a number of weights that lie side by side for each column; weights and sums are of type `R`.
pub(super) trait Product<R>: Sync {
    /// Adds the products of a row's values and their `weights` to `logits`.
    fn multiply(&self, entries: Entries<'_>, weights: &[R], logits: &mut [f64]);

    /// Adds the products of a power of a row's values and the `errors` to the `sums` of their columns, but for those that count for nothing.
    fn spread(&self, entries: Entries<'_>, power: Power, errors: &[f64], sums: &mut [R]);
}

/// A number that is known when compiling.
struct Fixed<const WIDTH: usize>;

/// Any number.
struct Any;

/// For how many weights a column has room where `width` are wanted: so many that there are loops for them which are several times as fast, and
/// what each comes to does not depend on how many others lie beside it.
pub(super) fn stride(width: usize) -> usize {
    if width > MOST_FIXED { width } else { width.next_power_of_two() }
}

/// Columns that there must be room for behind the last one, so that no id needs to be compared with the end.
pub(super) fn room(stride: usize) -> usize {
    if stride > MOST_FIXED { 0 } else { SPAN }
}

/// The loops for columns with room for so many weights.
pub(super) fn of_stride<R: Real>(stride: usize) -> &'static dyn Product<R> {
    match stride {
        1 => &Fixed::<1>,
        2 => &Fixed::<2>,
        4 => &Fixed::<4>,
        8 => &Fixed::<8>,
        MOST_FIXED => &Fixed::<MOST_FIXED>,
        _ => &Any,
    }
}

fn column(id: Id) -> usize {
    usize::from(u16::from_le_bytes(id))
}

impl<R: Real, const WIDTH: usize> Product<R> for Fixed<WIDTH> {
    fn multiply(&self, entries: Entries<'_>, weights: &[R], logits: &mut [f64]) {
        let damping = Damping::new();
        let (columns, _) = weights.as_chunks::<WIDTH>();
        for Segment { first, factor, once, often, counts } in entries.segments() {
            let Some(columns) = columns.get(first..).and_then(|columns| columns.first_chunk::<SPAN>()) else { continue };
            let mut sums = [0.0; WIDTH];
            for ids in once.chunks(STRETCH) {
                let mut lanes = [[R::default(); WIDTH]; LANES];
                let (groups, rest) = ids.as_chunks::<LANES>();
                for ids in groups {
                    lanes.iter_mut().zip(ids).for_each(|(lane, id)| add(lane, &columns[column(*id)]));
                }
                rest.iter().for_each(|id| add(&mut lanes[0], &columns[column(*id)]));
                add_lanes(&mut sums, &lanes);
            }
            for (ids, counts) in often.chunks(STRETCH).zip(counts.chunks(STRETCH)) {
                let mut lanes = [[R::default(); WIDTH]; LANES];
                let damped = |count: u8| R::near(damping.of(u32::from(count)));
                let ((groups, rest), (counts, rest_counts)) = (ids.as_chunks::<LANES>(), counts.as_chunks::<LANES>());
                for (ids, counts) in groups.iter().zip(counts) {
                    let all = lanes.iter_mut().zip(ids).zip(counts);
                    all.for_each(|((lane, id), count)| add_times(lane, damped(*count), &columns[column(*id)]));
                }
                let rest = rest.iter().zip(rest_counts);
                rest.for_each(|(id, count)| add_times(&mut lanes[0], damped(*count), &columns[column(*id)]));
                add_lanes(&mut sums, &lanes);
            }
            logits.iter_mut().zip(sums).for_each(|(logit, sum)| *logit += factor * sum);
        }
    }

    fn spread(&self, entries: Entries<'_>, power: Power, errors: &[f64], sums: &mut [R]) {
        let damping = Damping::new();
        let (columns, _) = sums.as_chunks_mut::<WIDTH>();
        for Segment { first, factor, once, often, counts } in entries.segments() {
            let Some(columns) = columns.get_mut(first..).and_then(|columns| columns.first_chunk_mut::<SPAN>()) else { continue };
            let mut scaled = [R::default(); WIDTH];
            scaled.iter_mut().zip(errors).for_each(|(scaled, error)| *scaled = R::near(power.of(factor) * error));
            once.iter().for_each(|id| add(&mut columns[column(*id)], &scaled));
            for (id, count) in often.iter().zip(counts) {
                let damped = power.of(damping.of(u32::from(*count)));
                add_times(&mut columns[column(*id)], R::near(damped), &scaled);
            }
        }
    }
}

impl Power {
    fn of(self, value: f64) -> f64 {
        match self {
            Self::First => value,
            Self::Second => value * value,
        }
    }
}

/// Adds `terms` to `sums`.
fn add<R: Real, const WIDTH: usize>(sums: &mut [R; WIDTH], terms: &[R; WIDTH]) {
    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += *term);
}

/// Adds `factor` · `terms` to `sums`.
fn add_times<R: Real, const WIDTH: usize>(sums: &mut [R; WIDTH], factor: R, terms: &[R; WIDTH]) {
    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += factor * *term);
}

/// Adds sums that ran side by side to those that are kept.
fn add_lanes<R: Real, const WIDTH: usize>(sums: &mut [f64; WIDTH], lanes: &[[R; WIDTH]; LANES]) {
    for (at, sum) in sums.iter_mut().enumerate() {
        *sum += lanes.iter().map(|lane| lane[at].value()).sum::<f64>();
    }
}

impl<R: Real> Product<R> for Any {
    fn multiply(&self, entries: Entries<'_>, weights: &[R], logits: &mut [f64]) {
        entries.terms().for_each(|(column, value)| {
            let weights = &weights[column * logits.len()..];
            logits.iter_mut().zip(weights).for_each(|(logit, weight)| *logit += value * weight.value());
        });
    }

    fn spread(&self, entries: Entries<'_>, power: Power, errors: &[f64], sums: &mut [R]) {
        entries.terms().for_each(|(column, value)| {
            let sums = &mut sums[column * errors.len()..];
            sums.iter_mut().zip(errors).for_each(|(sum, error)| *sum += R::near(power.of(value) * error));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::SparseMatrix;
    use crate::features::matrix::PackedRows;

    /// Terms, each with its count.
    type Counts = &'static [(u32, u32)];

    /// Two blocks, the second of three segments: the first feature, terms, and the factor.
    const BLOCKS: [(u32, Counts, f64); 2] = [
        (0, &[(3, 1), (0, 1), (9, 2), (7, 1), (2, 1), (5, 1), (1, 3), (4, 300), (6, 65_535), (8, 255), (10, 256)], 0.5),
        (11, &[(70_000, 1), (65_535, 4), (65_536, 5), (131_072, 1), (0, 6), (1, 7), (2, 8), (140_000, 2)], 0.25),
    ];

    fn one_row() -> SparseMatrix {
        let (mut rows, mut matrix) = (PackedRows::default(), SparseMatrix::new(11 + 140_001));
        BLOCKS.iter().for_each(|(first, terms, factor)| rows.push_block(*first, terms, *factor));
        rows.end();
        matrix.push(rows).unwrap();
        matrix
    }

    #[test]
    fn a_row_is_multiplied_and_spread_as_by_hand_whatever_the_labels() {
        assert_as_by_hand::<f64>(1e-12);
        assert_as_by_hand::<f32>(1e-6);
    }

    /// With sums of some ones, of which so much is rounded away.
    fn assert_as_by_hand<R: Real>(rounded: f64) {
        let matrix = one_row();
        let features = matrix.features();
        let mut cursor = matrix.cursor();
        let row = cursor.row(0).unwrap();
        assert_eq!(matrix.entries(), 19);
        for width in [1, 2, 3, 5, 9, 17, 40].map(stride) {
            let product = of_stride::<R>(width);
            let (mut weights, mut sums): (Vec<R>, Vec<R>) = {
                let zeros = || vec![R::default(); (features + room(width)) * width];
                (zeros(), zeros())
            };
            weights.iter_mut().enumerate().for_each(|(at, weight)| *weight = R::near((at % 1001) as f64 / 512.0 - 1.0));
            let mut squares = sums.clone();
            let errors: Vec<f64> = (0..width).map(|label| 1.5 - label as f64).collect();
            let mut logits = vec![1.0; width];
            let entries = Entries { row, factors: &vec![1.0; features] };
            product.multiply(entries, &weights, &mut logits);
            product.spread(entries, Power::First, &errors, &mut sums);
            product.spread(entries, Power::Second, &errors, &mut squares);
            let mut expected = (vec![1.0; width], vec![0.0; sums.len()], vec![0.0; sums.len()]);
            for (first, terms, factor) in BLOCKS {
                for (term, count) in terms {
                    let (column, value) = ((first + term) as usize, factor * (1.0 + f64::from(*count).ln()));
                    for label in 0..width {
                        expected.0[label] += value * weights[column * width + label].value();
                        expected.1[column * width + label] += value * errors[label];
                        expected.2[column * width + label] += value * value * errors[label];
                    }
                }
            }
            let sums_found = |sums: &[R]| sums.iter().map(|sum| sum.value()).collect::<Vec<f64>>();
            let found = [(logits, expected.0), (sums_found(&sums), expected.1), (sums_found(&squares), expected.2)];
            for (found, expected) in found {
                let mut both = found.iter().zip(&expected);
                assert!(both.all(|(found, expected)| (found - expected).abs() < rounded * expected.abs().max(1.0)), "{width}");
            }
        }
    }

    #[test]
    fn blocks_that_count_for_nothing_are_passed_over() {
        let matrix = one_row();
        let features = matrix.features();
        let mut cursor = matrix.cursor();
        let row = cursor.row(0).unwrap();
        let mut factors = vec![1.0; features];
        factors[11..].fill(0.0);
        let entries = Entries { row, factors: &factors };
        for width in [2, 17].map(stride) {
            let product = of_stride::<f64>(width);
            let zeros = || vec![0.0; (features + room(width)) * width];
            // Weights of columns that count for nothing are zero; what is not read can be anything.
            let (mut weights, mut sums, mut logits) = (zeros(), zeros(), vec![0.0; width]);
            weights[11 * width..].fill(f64::NAN);
            weights[3 * width] = 4.0;
            let (mut errors, mut weighed) = (vec![0.0; width], vec![0.0; width]);
            (errors[0], errors[1], weighed[0]) = (2.0, -2.0, 0.5 * 4.0);
            product.multiply(entries, &weights, &mut logits);
            product.spread(entries, Power::First, &errors, &mut sums);
            assert_eq!(logits, weighed);
            assert_eq!(sums[3 * width..][..2], [1.0, -1.0]);
            assert!(sums[11 * width..].iter().all(|sum| *sum == 0.0));
        }
    }
}
