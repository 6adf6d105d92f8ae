//! Columns scaled by how much they tell of the labels, before the solver sees them.
//!
//! Most of an article's n-grams and words are as frequent with one label as with another. The penalty treats them like those that are not, and a head
//! that has few rows for many columns learns a little from each, which holds for its writers alone. So the solver is shown larger values of the terms that
//! labels differ in. The relevance of a term is the greatest distance from their mean of ln p(c), over the labels c, with
//! p(c) = (df(c) + 1) / (n(c) + 1/p): in df(c) of the n(c) rows of the label it stands, and in the share p of all rows (one of two more than there are), so that a label with
//! few rows and without the term tells little. The column is scaled by (relevance + [`FLOOR`])^[`POWER`].
//! Wang & Manning (Baselines and Bigrams, ACL 2012, section 2.3) scale by the log-count ratio of two labels itself; half of its power was best here, and no
//! worse for several labels.
//!
//! What is scaled is the penalty alone: the solver gives weights for the values as they are, so that nothing changes where articles are scored. The mean
//! square of the rows' norms stays what it was, for C to mean the same. The labels of rows that are held out are never looked at.

use std::io;

use rayon::prelude::*;

use super::products::Entries;
use crate::features::SparseMatrix;

/// What a term has that tells nothing.
const FLOOR: f64 = 0.05;

/// How far relevance counts: 0 not at all, 1 in full.
const POWER: f64 = 0.5;

/// Rows that are summed up together. Sums of reals are added in the order of these, whatever the number of threads.
const ROWS: usize = 1 << 10;

/// The rows of a matrix that a head or a fold is fitted on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labelled<'a> {
    /// The matrix.
    pub(super) matrix: &'a SparseMatrix,
    /// The rows, each with the index of its label.
    pub(super) rows: &'a [(usize, usize)],
    /// The number of labels, each of which has a row.
    pub(super) labels: usize,
}

/// `scales` by relevance. Columns of the scale 0 are passed over.
///
/// # Errors
///
/// When a row can't be read from disk.
pub(super) fn scales(data: Labelled<'_>, scales: &[f64]) -> io::Result<Vec<f64>> {
    let frequencies = document_frequencies(data, scales)?;
    let mut counts = vec![0; data.labels];
    data.rows.iter().for_each(|(_, label)| counts[*label] += 1);
    let of = |(frequencies, scale): (&[u32], &f64)| {
        if *scale == 0.0 { 0.0 } else { scale * libm::pow(relevance(frequencies, &counts) + FLOOR, POWER) }
    };
    let mut scaled: Vec<f64> = frequencies.chunks_exact(data.labels).zip(scales).map(of).collect();
    let (before, after) = squares(data, scales, &scaled)?;
    if after > 0.0 {
        let factor = libm::sqrt(before / after);
        scaled.iter_mut().for_each(|scale| *scale *= factor);
    }
    Ok(scaled)
}

/// The relevance of a term from the numbers of rows that have it, and of all rows, for each label.
fn relevance(frequencies: &[u32], counts: &[u32]) -> f64 {
    let sum = |numbers: &[u32]| numbers.iter().map(|number| f64::from(*number)).sum::<f64>();
    let rows_for_one = (sum(counts) + 2.0) / (sum(frequencies) + 1.0);
    let of = |(df, n): (&u32, &u32)| libm::log((f64::from(*df) + 1.0) / (f64::from(*n) + rows_for_one));
    let logs = || frequencies.iter().zip(counts).map(of);
    #[expect(clippy::cast_precision_loss, reason = "a head has few labels")]
    let mean = logs().sum::<f64>() / counts.len() as f64;
    logs().fold(0.0, |greatest, log| f64::max(greatest, (log - mean).abs()))
}

/// For each column the number of rows that have it, for each label.
fn document_frequencies(data: Labelled<'_>, scales: &[f64]) -> io::Result<Vec<u32>> {
    let Labelled { matrix, rows, labels } = data;
    let count = |rows: &[(usize, usize)]| {
        let (mut cursor, mut frequencies) = (matrix.cursor(), vec![0; scales.len() * labels]);
        for (row, label) in rows {
            let entries = Entries { row: cursor.row(*row)?, factors: scales };
            entries.terms().for_each(|(column, _)| frequencies[column * labels + label] += 1);
        }
        Ok(frequencies)
    };
    let add = |mut left: Vec<u32>, right: Vec<u32>| {
        left.iter_mut().zip(right).for_each(|(left, right)| *left += right);
        Ok(left)
    };
    let parts = rows.len().div_ceil(rayon::current_num_threads()).max(ROWS);
    rows.par_chunks(parts).map(count).try_reduce_with(add).unwrap_or_else(|| Ok(vec![0; scales.len() * labels]))
}

/// The sums of the squares of all values, with the one scales and with the others.
fn squares(data: Labelled<'_>, before: &[f64], after: &[f64]) -> io::Result<(f64, f64)> {
    let idf = data.matrix.idf();
    let sum = |rows: &[(usize, usize)]| {
        let (mut cursor, mut sums) = (data.matrix.cursor(), (0.0, 0.0));
        for (row, _) in rows {
            for (column, value) in (Entries { row: cursor.row(*row)?, factors: before }).terms() {
                let value = value * f64::from(idf[column]);
                let (before, after) = (value * before[column], value * after[column]);
                sums = (sums.0 + before * before, sums.1 + after * after);
            }
        }
        Ok(sums)
    };
    let sums: Vec<(f64, f64)> = data.rows.par_chunks(ROWS).map(sum).collect::<io::Result<_>>()?;
    Ok(sums.into_iter().fold((0.0, 0.0), |(before, after), sums| (before + sums.0, after + sums.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_that_labels_share_tells_nothing_and_one_that_a_label_has_alone_tells_most() {
        // (1+1)/(2+2) for each of two labels.
        assert!(relevance(&[1, 1], &[2, 2]).abs() < 1e-15);
        // 3/4 and 1/4: half of ln 3 from their mean.
        assert!((relevance(&[2, 0], &[2, 2]) - 3.0_f64.ln() / 2.0).abs() < 1e-15);
        // One of four: 2/6, 2/6 and 1/10 (no row of six), two thirds of ln 10/3 from their mean, on the other side.
        assert!((relevance(&[1, 1, 0], &[2, 2, 6]) - (10.0_f64 / 3.0).ln() * 2.0 / 3.0).abs() < 1e-15);
        // That a term of one in a hundred rows is in none of twenty says nothing; that it is in half of them, where it is in a quarter of the others, does.
        assert!(relevance(&[0, 20], &[20, 2000]) < 0.1 && relevance(&[10, 500], &[20, 2000]) > 0.25);
    }

    #[test]
    fn columns_are_scaled_by_relevance_and_rows_keep_their_mean_square() {
        let mut matrix = SparseMatrix::new(4);
        for entries in [[(0, 1.0), (1, 2.0), (3, 9.0)], [(0, 1.0), (1, 2.0), (3, 9.0)], [(0, 1.0), (2, 3.0), (3, 9.0)]] {
            matrix.push_vector(&entries);
        }
        // The third row is not fitted on. Column 3 counts for nothing.
        let rows = [(0, 0), (1, 1)];
        let given = [1.0, 0.5, 1.0, 0.0];
        let data = Labelled { matrix: &matrix, rows: &rows, labels: 2 };
        let same = scales(data, &given).unwrap();
        // No column tells the two rows apart, so all scales stay, but for one that none of them has.
        assert!((same[0] - 1.0).abs() < 1e-12 && (same[1] - 0.5).abs() < 1e-12 && same[3] == 0.0, "{same:?}");
        let rows = [(0, 0), (1, 0), (2, 1)];
        let found = scales(Labelled { rows: &rows, ..data }, &given).unwrap();
        // By hand, 1/p being 5/4, 5/3 and 5/2: p of column 0 is 12/13 and 8/9, of column 1 9/11 and 3/8, of column 2 2/9 and 4/7.
        let by = |left: f64, right: f64| ((left / right).ln().abs() / 2.0 + 0.05).sqrt();
        let raw = [by(12.0 / 13.0, 8.0 / 9.0), 0.5 * by(9.0 / 11.0, 3.0 / 8.0), by(2.0 / 9.0, 4.0 / 7.0)];
        let square = |scales: &[f64]| 3.0 * scales[0].powi(2) + 2.0 * (2.0 * scales[1]).powi(2) + (3.0 * scales[2]).powi(2);
        let factor = (square(&given) / square(&raw)).sqrt();
        assert!(found.iter().zip(raw).all(|(found, raw)| (found - factor * raw).abs() < 1e-12), "{found:?}");
        assert_eq!(found[3], 0.0);
    }
}
