//! Products of a packed row with weights, and back: the two loops that training spends most of its time in.
//!
//! Weights lie side by side for each column, one for each label, and are those of a term that occurs once, so that nearly all of the work is to
//! add them up. Segments of columns that count for nothing are passed over. Behind the last column there is room for a whole segment, so that no id needs to be compared with the end.
//!
//! Weights and the sums of a gradient are kept in single or in double precision: what decides the speed is how many of them are in the caches.

use std::ops::{AddAssign, Mul};

use crate::features::matrix::{Id, Row, SPAN, Segment};
use crate::features::space::Damping;

/// Columns that are worked on side by side: one after the other, each sum would wait for the one before.
const LANES: usize = 4;

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

    /// Adds `weight` times these values to the first sums of their columns, and `weight` times the squares to the second ones.
    pub(super) fn add_moments(self, weight: f64, sums: &mut [[f32; 2]]) {
        let damping = Damping::new();
        for Segment { first, factor, once, often, counts } in self.segments() {
            let (sums, values) = (&mut sums[first..], [weight * factor, weight * factor * factor].map(f32::near));
            for id in once {
                sums[column(*id)].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            for (id, count) in often.iter().zip(counts) {
                let damped = f32::near(damping.of(u32::from(*count)));
                let [sum, of_squares] = &mut sums[column(*id)];
                *sum += damped * values[0];
                *of_squares += damped * damped * values[1];
            }
        }
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

/// A number of labels for which there are loops of their own, which are several times as fast; weights and sums are of type `R`.
pub(super) trait Product<R>: Sync {
    /// Columns that there must be room for behind the last one.
    fn room(&self) -> usize;

    /// Adds the products of a row's values and their `weights` to `logits`.
    fn multiply(&self, entries: Entries<'_>, weights: &[R], logits: &mut [f64]);

    /// Adds the products of a row's values and the `errors` to the `sums` of their columns, but for those that count for nothing.
    fn spread(&self, entries: Entries<'_>, errors: &[f64], sums: &mut [R]);
}

/// Labels of which the number is known when compiling.
struct Fixed<const WIDTH: usize>;

/// Any number of labels.
struct Any;

/// The loops for `width` labels.
pub(super) fn of_width<R: Real>(width: usize) -> &'static dyn Product<R> {
    match width {
        1 => &Fixed::<1>,
        2 => &Fixed::<2>,
        3 => &Fixed::<3>,
        4 => &Fixed::<4>,
        5 => &Fixed::<5>,
        6 => &Fixed::<6>,
        7 => &Fixed::<7>,
        8 => &Fixed::<8>,
        _ => &Any,
    }
}

fn column(id: Id) -> usize {
    usize::from(u16::from_le_bytes(id))
}

impl<R: Real, const WIDTH: usize> Product<R> for Fixed<WIDTH> {
    fn room(&self) -> usize {
        SPAN
    }

    fn multiply(&self, entries: Entries<'_>, weights: &[R], logits: &mut [f64]) {
        let damping = Damping::new();
        let (columns, _) = weights.as_chunks::<WIDTH>();
        for Segment { first, factor, once, often, counts } in entries.segments() {
            let Some(columns) = columns.get(first..).and_then(|columns| columns.first_chunk::<SPAN>()) else { continue };
            let mut lanes = [[0.0; WIDTH]; LANES];
            let (groups, rest) = once.as_chunks::<LANES>();
            for ids in groups {
                for (lane, id) in lanes.iter_mut().zip(ids) {
                    add(lane, &columns[column(*id)], 1.0);
                }
            }
            for id in rest {
                add(&mut lanes[0], &columns[column(*id)], 1.0);
            }
            let (groups, rest) = often.as_chunks::<LANES>();
            let (counts, rest_counts) = counts.as_chunks::<LANES>();
            for (ids, counts) in groups.iter().zip(counts) {
                for ((lane, id), count) in lanes.iter_mut().zip(ids).zip(counts) {
                    add(lane, &columns[column(*id)], damping.of(u32::from(*count)));
                }
            }
            for (id, count) in rest.iter().zip(rest_counts) {
                add(&mut lanes[0], &columns[column(*id)], damping.of(u32::from(*count)));
            }
            for (at, logit) in logits.iter_mut().enumerate() {
                *logit += factor * lanes.iter().map(|lane| lane[at]).sum::<f64>();
            }
        }
    }

    fn spread(&self, entries: Entries<'_>, errors: &[f64], sums: &mut [R]) {
        let damping = Damping::new();
        let (columns, _) = sums.as_chunks_mut::<WIDTH>();
        for Segment { first, factor, once, often, counts } in entries.segments() {
            let Some(columns) = columns.get_mut(first..).and_then(|columns| columns.first_chunk_mut::<SPAN>()) else { continue };
            let mut scaled = [R::default(); WIDTH];
            scaled.iter_mut().zip(errors).for_each(|(scaled, error)| *scaled = R::near(factor * error));
            for id in once {
                columns[column(*id)].iter_mut().zip(scaled).for_each(|(sum, scaled)| *sum += scaled);
            }
            for (id, count) in often.iter().zip(counts) {
                let damped = R::near(damping.of(u32::from(*count)));
                columns[column(*id)].iter_mut().zip(scaled).for_each(|(sum, scaled)| *sum += damped * scaled);
            }
        }
    }
}

/// Adds `factor` · `weights` to `sums`.
fn add<R: Real, const WIDTH: usize>(sums: &mut [f64; WIDTH], weights: &[R; WIDTH], factor: f64) {
    for (sum, weight) in sums.iter_mut().zip(weights) {
        *sum += factor * weight.value();
    }
}

impl<R: Real> Product<R> for Any {
    fn room(&self) -> usize {
        0
    }

    fn multiply(&self, entries: Entries<'_>, weights: &[R], logits: &mut [f64]) {
        entries.terms().for_each(|(column, value)| {
            let weights = &weights[column * logits.len()..];
            logits.iter_mut().zip(weights).for_each(|(logit, weight)| *logit += value * weight.value());
        });
    }

    fn spread(&self, entries: Entries<'_>, errors: &[f64], sums: &mut [R]) {
        entries.terms().for_each(|(column, value)| {
            let sums = &mut sums[column * errors.len()..];
            sums.iter_mut().zip(errors).for_each(|(sum, error)| *sum += R::near(value * error));
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
        assert_as_by_hand::<f32>(1e-5);
    }

    /// With sums of some ones, of which so much is rounded away.
    fn assert_as_by_hand<R: Real>(rounded: f64) {
        let matrix = one_row();
        let features = matrix.features();
        let mut cursor = matrix.cursor();
        let row = cursor.row(0).unwrap();
        assert_eq!(matrix.entries(), 19);
        for width in [1, 2, 3, 4, 5, 6, 7, 8, 9, 12] {
            let product = of_width::<R>(width);
            let (mut weights, mut sums): (Vec<R>, Vec<R>) = {
                let zeros = || vec![R::default(); (features + product.room()) * width];
                (zeros(), zeros())
            };
            weights.iter_mut().enumerate().for_each(|(at, weight)| *weight = R::near((at % 1001) as f64 / 8.0 - 60.0));
            let errors: Vec<f64> = (0..width).map(|label| 1.5 - label as f64).collect();
            let mut logits = vec![1.0; width];
            let entries = Entries { row, factors: &vec![1.0; features] };
            product.multiply(entries, &weights, &mut logits);
            product.spread(entries, &errors, &mut sums);
            let mut expected = (vec![1.0; width], vec![0.0; sums.len()]);
            for (first, terms, factor) in BLOCKS {
                for (term, count) in terms {
                    let (column, value) = ((first + term) as usize, factor * (1.0 + f64::from(*count).ln()));
                    for label in 0..width {
                        expected.0[label] += value * weights[column * width + label].value();
                        expected.1[column * width + label] += value * errors[label];
                    }
                }
            }
            assert!(logits.iter().zip(&expected.0).all(|(found, expected)| (found - expected).abs() < 1e-9), "{width}");
            assert!(sums.iter().zip(&expected.1).all(|(found, expected)| (found.value() - expected).abs() < rounded), "{width}");
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
        for width in [2, 12] {
            let product = of_width::<f64>(width);
            let zeros = || vec![0.0; (features + product.room()) * width];
            // Weights of columns that count for nothing are zero; what is not read can be anything.
            let (mut weights, mut sums, mut logits) = (zeros(), zeros(), vec![0.0; width]);
            weights[11 * width..].fill(f64::NAN);
            weights[3 * width] = 4.0;
            let (mut errors, mut weighed) = (vec![0.0; width], vec![0.0; width]);
            (errors[0], errors[1], weighed[0]) = (2.0, -2.0, 0.5 * 4.0);
            product.multiply(entries, &weights, &mut logits);
            product.spread(entries, &errors, &mut sums);
            assert_eq!(logits, weighed);
            assert_eq!(sums[3 * width..][..2], [1.0, -1.0]);
            assert!(sums[11 * width..].iter().all(|sum| *sum == 0.0));
        }
    }
}
