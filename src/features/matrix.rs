//! The feature vectors of many documents, compressed by rows.

use linfa::dataset::Records;

/// A matrix of documents by features of which most entries are zero, in compressed rows: `u32` columns, `f32` values.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseMatrix {
    features: usize,
    /// For each row, the end of its entries.
    ends: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl SparseMatrix {
    /// A matrix without rows, of `features` columns.
    #[must_use]
    pub fn new(features: usize) -> Self {
        Self { features, ends: Vec::new(), columns: Vec::new(), values: Vec::new() }
    }

    /// The rows of all `parts`, in order.
    #[must_use]
    pub fn concatenate(features: usize, parts: Vec<Self>) -> Self {
        parts.into_iter().fold(Self::new(features), |mut whole, mut part| {
            if whole.ends.is_empty() {
                return part;
            }
            let before = whole.columns.len();
            whole.ends.extend(part.ends.iter().map(|end| before + end));
            whole.columns.append(&mut part.columns);
            whole.values.append(&mut part.values);
            whole
        })
    }

    /// Adds a row: the vector of a document.
    ///
    /// # Panics
    ///
    /// When a column is not below the number of features.
    pub fn push_vector(&mut self, entries: &[(u32, f64)]) {
        for (column, value) in entries {
            assert!((*column as usize) < self.features, "column {column} of {}", self.features);
            self.columns.push(*column);
            #[expect(clippy::cast_possible_truncation, reason = "values are stored in single precision")]
            self.values.push(*value as f32);
        }
        self.ends.push(self.columns.len());
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    /// The number of columns.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }

    /// The number of stored entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.columns.len()
    }

    /// The entries of a row: column and value.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, f32)> {
        let (columns, values) = self.entries_of(row);
        columns.iter().map(|column| *column as usize).zip(values.iter().copied())
    }

    /// The columns of a row's entries, and their values.
    #[must_use]
    pub fn entries_of(&self, row: usize) -> (&[u32], &[f32]) {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        let range = start..self.ends[row];
        (&self.columns[range.clone()], &self.values[range])
    }
}

/// Some rows of a matrix: what one head or one fold is trained on, without a copy.
#[derive(Debug, Clone)]
pub struct SparseRows<'a> {
    /// The whole matrix.
    pub matrix: &'a SparseMatrix,
    /// The rows of it that are meant, in this order.
    pub rows: Vec<usize>,
    /// What the values of each column are multiplied by; empty: nothing.
    pub scales: &'a [f64],
}

impl<'a> SparseRows<'a> {
    /// All rows of `matrix`.
    #[must_use]
    pub fn all(matrix: &'a SparseMatrix) -> Self {
        Self { matrix, rows: (0..matrix.rows()).collect(), scales: &[] }
    }
}

impl Records for SparseRows<'_> {
    type Elem = f32;

    fn nsamples(&self) -> usize {
        self.rows.len()
    }

    fn nfeatures(&self) -> usize {
        self.matrix.features()
    }
}
