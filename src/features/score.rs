//! Scoring: the sums of a document's weights for all labels of all heads, in one walk over its terms (one for each dozen of columns, where there are more than
//! eleven labels).
//!
//! For a block with counts tf the sum for a label is scale/‖v‖ · Σ v(t)·w(t) with v(t) = (1 + ln tf(t)) · idf(t), so the norm and
//! all sums come from the same walk over the terms, and the vector itself is never made. A term's idf and its weights for
//! every label lie side by side in one row of a table.

use super::Space;
use super::space::Damping;
use super::tally::{Tally, Tokens};

/// Reals that are summed side by side.
const LANES: usize = 4;

/// The greatest number of groups of [`LANES`] sums that are kept in registers.
const GROUPS: usize = 3;

/// A table of a space's terms: a row holds the term's idf, then its weight for each label.
#[derive(Debug, Clone)]
pub struct Scorer {
    rows: Rows,
    labels: usize,
}

#[derive(Debug, Clone)]
enum Rows {
    /// Of two labels with opposite weights, as the solver gives them, the second alone: half as much to fetch from memory.
    Opposite(Table<2>),
    /// Of all labels.
    All(Table<LANES>),
}

/// Rows of `width` groups of reals, filled up with zeros.
#[derive(Debug, Clone)]
struct Table<const LANES: usize> {
    rows: Vec<[f32; LANES]>,
    width: usize,
}

impl Scorer {
    /// A table for `space`, with `weight(feature, label)` for each of so many `labels`.
    #[must_use]
    pub fn new(space: &Space, labels: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        let mut features = 0..space.features();
        let is_opposite = labels == 2 && features.all(|feature| weight(feature, 0) == -weight(feature, 1));
        let rows = if is_opposite {
            Rows::Opposite(Table::new(space, 1, |feature, _| weight(feature, 1)))
        } else {
            Rows::All(Table::new(space, labels, weight))
        };
        Self { rows, labels }
    }

    /// Puts into `sums` for each label the sum of the weights of `tokens`, without bias. `space` is that of the table, `tally`
    /// belongs to both; `seen` is told the terms of each block with their counts.
    pub fn score(
        &self,
        space: &Space,
        counted: (&mut Tally, &Tokens<'_>),
        sums: &mut Vec<f64>,
        seen: impl FnMut(usize, &[(u32, u32)]),
    ) {
        match &self.rows {
            Rows::Opposite(table) => {
                table.score(space, counted, sums, seen);
                sums[0] = -sums[1];
            }
            Rows::All(table) => {
                table.score(space, counted, sums, seen);
                sums.copy_within(1..=self.labels, 0);
            }
        }
        sums.truncate(self.labels);
    }
}

impl<const LANES: usize> Table<LANES> {
    fn new(space: &Space, columns: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        let width = (1 + columns).div_ceil(LANES);
        let mut rows = vec![[0.0; LANES]; space.features() * width];
        let idf = space.blocks().iter().flat_map(|block| block.idf.iter().copied());
        for ((feature, row), idf) in rows.chunks_exact_mut(width).enumerate().zip(idf) {
            row[0][0] = idf;
            for column in 0..columns {
                row[(1 + column) / LANES][(1 + column) % LANES] = weight(feature, column);
            }
        }
        Self { rows, width }
    }

    /// Puts the sums of all reals of a row into `sums`; that of the idf at its head means nothing.
    fn score(
        &self,
        space: &Space,
        (tally, tokens): (&mut Tally, &Tokens<'_>),
        sums: &mut Vec<f64>,
        mut seen: impl FnMut(usize, &[(u32, u32)]),
    ) {
        let damping = Damping::new();
        sums.clear();
        sums.resize(self.width * LANES, 0.0);
        tally.count(&space.counted(), &mut &*space, tokens, |block, terms| {
            seen(block, terms);
            let first = space.first(block) as usize;
            let scale = space.scales()[block];
            for (group, sums) in sums.chunks_mut(GROUPS * LANES).enumerate() {
                let groups = group * GROUPS;
                match sums.len() / LANES {
                    1 => self.add::<1>(damping, (first, groups), terms, (scale, sums)),
                    2 => self.add::<2>(damping, (first, groups), terms, (scale, sums)),
                    _ => self.add::<3>(damping, (first, groups), terms, (scale, sums)),
                }
            }
        });
    }

    /// Adds a block's part to `N` groups of sums, the first of which is `group`; the block's features begin at `first`.
    fn add<const N: usize>(
        &self,
        damping: Damping,
        (first, group): (usize, usize),
        terms: &[(u32, u32)],
        (scale, sums): (f64, &mut [f64]),
    ) {
        let mut squares = 0.0;
        let mut added = [[0.0; LANES]; N];
        for (term, count) in terms {
            let row = (first + *term as usize) * self.width;
            let value = damping.of(*count) * f64::from(self.rows[row][0]);
            squares += value * value;
            for (added, weights) in added.iter_mut().zip(&self.rows[row + group..row + group + N]) {
                for (added, weight) in added.iter_mut().zip(weights) {
                    *added += value * f64::from(*weight);
                }
            }
        }
        if squares > 0.0 {
            let factor = scale / libm::sqrt(squares);
            sums.iter_mut().zip(added.as_flattened()).for_each(|(sum, added)| *sum += factor * added);
        }
    }
}
