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
    /// Of two labels with opposite weights, as the solver gives them, that of the second alone: half as much to fetch from memory.
    Opposite(Vec<[f32; 2]>),
    /// Groups of reals, so many a row, filled up with zeros.
    Groups(Vec<[f32; LANES]>, usize),
}

impl Scorer {
    /// A table for `space`, with `weight(feature, label)` for each of so many `labels`.
    #[must_use]
    pub fn new(space: &Space, labels: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        let idf = space.blocks().iter().flat_map(|block| block.idf.iter().copied());
        let mut features = 0..space.features();
        if labels == 2 && features.all(|feature| weight(feature, 0) == -weight(feature, 1)) {
            let rows = idf.enumerate().map(|(feature, idf)| [idf, weight(feature, 1)]).collect();
            return Self { rows: Rows::Opposite(rows), labels };
        }
        let width = (1 + labels).div_ceil(LANES);
        let mut rows = vec![[0.0; LANES]; space.features() * width];
        for ((feature, row), idf) in rows.chunks_exact_mut(width).enumerate().zip(idf) {
            row[0][0] = idf;
            for label in 0..labels {
                row[(1 + label) / LANES][(1 + label) % LANES] = weight(feature, label);
            }
        }
        Self { rows: Rows::Groups(rows, width), labels }
    }

    /// Puts into `sums` for each label the sum of the weights of `tokens`, without bias. `space` is that of the table, `tally`
    /// belongs to both; `seen` is told the terms of each block with their counts.
    pub fn score(
        &self,
        space: &Space,
        (tally, tokens): (&mut Tally, &Tokens<'_>),
        sums: &mut Vec<f64>,
        mut seen: impl FnMut(usize, &[(u32, u32)]),
    ) {
        let damping = Damping::new();
        sums.clear();
        // One more for the idf at the head of each row, whose sum means nothing.
        let reals = match &self.rows {
            Rows::Opposite(_) => 2,
            Rows::Groups(_, width) => width * LANES,
        };
        sums.resize(reals, 0.0);
        tally.count(&space.counted(), &mut &*space, tokens, |block, terms| {
            seen(block, terms);
            self.rows.add(damping, space.first(block) as usize, terms, (space.scales()[block], sums));
        });
        match &self.rows {
            Rows::Opposite(_) => sums[0] = -sums[1],
            Rows::Groups(..) => {
                sums.copy_within(1..=self.labels, 0);
                sums.truncate(self.labels);
            }
        }
    }
}

impl Rows {
    /// Adds a block's part to `sums`, which lie as rows do; the block's features begin at `first`.
    fn add(&self, damping: Damping, first: usize, terms: &[(u32, u32)], (scale, sums): (f64, &mut [f64])) {
        let (rows, width) = match self {
            Self::Opposite(rows) => {
                let (mut squares, mut added) = (0.0, 0.0);
                for (term, count) in terms {
                    let [idf, weight] = rows[first + *term as usize];
                    let value = damping.of(*count) * f64::from(idf);
                    squares += value * value;
                    added += value * f64::from(weight);
                }
                if squares > 0.0 {
                    sums[1] += scale / libm::sqrt(squares) * added;
                }
                return;
            }
            Self::Groups(rows, width) => (rows, *width),
        };
        let table = Table { rows, width };
        for (group, sums) in sums.chunks_mut(GROUPS * LANES).enumerate() {
            let groups = group * GROUPS;
            match sums.len() / LANES {
                1 => table.add::<1>(damping, (first, groups), terms, (scale, sums)),
                2 => table.add::<2>(damping, (first, groups), terms, (scale, sums)),
                _ => table.add::<3>(damping, (first, groups), terms, (scale, sums)),
            }
        }
    }
}

/// Rows of groups of reals, `width` a row.
struct Table<'a> {
    rows: &'a [[f32; LANES]],
    width: usize,
}

impl Table<'_> {
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
