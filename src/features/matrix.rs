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

    /// The same matrix with each value multiplied by the factor of its column.
    #[must_use]
    pub fn scaled(&self, factor: impl Fn(u32) -> f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "values are stored in single precision")]
        let scale = |(column, value): (&u32, &f32)| (f64::from(*value) * factor(*column)) as f32;
        Self { values: self.columns.iter().zip(&self.values).map(scale).collect(), ..self.clone() }
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
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        let range = start..self.ends[row];
        self.columns[range.clone()].iter().map(|column| *column as usize).zip(self.values[range].iter().copied())
    }
}

/// Some rows of a matrix: what one head or one fold is trained on, without a copy.
#[derive(Debug, Clone)]
pub struct SparseRows<'a> {
    /// The whole matrix.
    pub matrix: &'a SparseMatrix,
    /// The rows of it that are meant, in this order.
    pub rows: Vec<usize>,
}

impl<'a> SparseRows<'a> {
    /// All rows of `matrix`.
    #[must_use]
    pub fn all(matrix: &'a SparseMatrix) -> Self {
        Self { matrix, rows: (0..matrix.rows()).collect() }
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
