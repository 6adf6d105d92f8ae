//! The feature vectors of many documents, compressed by rows, in memory or on disk.
//!
//! In memory a row is `u32` columns beside `f32` values. What does not fit lies in a [temporary file](crate::spill), packed: for each block
//! the factor that normalises its terms, then the id of each term and how often it occurs, three or four bytes in place of eight.
//! Unpacked by the arithmetic that made it, a row has the same values to the last bit wherever it lies.

use std::io;
use std::ops::Range;

use linfa::dataset::Records;

use super::space::{Damping, Space, TermCounts, tf_idf};
use crate::spill::{Memory, Spill};

/// A matrix of documents by features of which most entries are zero.
#[derive(Debug)]
pub struct SparseMatrix {
    features: usize,
    chunks: Vec<Chunk>,
    entries: usize,
    /// Bytes that the chunks in memory take.
    bytes: u64,
    /// Where other chunks are, where there may be any.
    disk: Option<Disk>,
}

/// Some rows that lie together.
#[derive(Debug)]
struct Chunk {
    /// The first of them.
    first: usize,
    /// For each row the end of its entries; on disk, of its bytes.
    ends: Vec<u32>,
    place: Place,
}

/// Where the rows of a chunk are.
#[derive(Debug)]
enum Place {
    /// Columns, and their values.
    Memory(Vec<u32>, Vec<f32>),
    /// In the file, from this byte on.
    Disk(u64),
}

/// Rows on disk, and how they are packed.
#[derive(Debug)]
struct Disk {
    file: Spill,
    limit: u64,
    /// For each block its first feature, and the bytes of a term's id.
    blocks: Vec<(u32, usize)>,
    /// For each feature its idf.
    idf: Vec<f32>,
}

/// Rows that are to become part of a matrix.
#[derive(Debug, Default)]
pub struct Rows {
    ends: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
    /// In place of columns and values, where rows are packed.
    packed: Option<Vec<u8>>,
    entries: usize,
}

/// Rows that have their place, and wait for their turn in a matrix.
#[derive(Debug)]
pub struct Stored {
    ends: Vec<u32>,
    place: Place,
    entries: usize,
}

/// Reads rows one after the other.
#[derive(Debug)]
pub struct Cursor<'a> {
    matrix: &'a SparseMatrix,
    /// The chunk of the row read last.
    chunk: usize,
    /// Bytes from disk, and where they begin in the file.
    window: Vec<u8>,
    begin: u64,
    columns: Vec<u32>,
    values: Vec<f32>,
}

/// Stands for a count that is as great or greater.
const MANY: u8 = u8::MAX;

/// Bytes that are read from disk at once.
const WINDOW: usize = 1 << 20;

/// Bytes of the id of a term among so many.
fn id_bytes(terms: usize) -> usize {
    match terms {
        0..=0x1_0000 => 2,
        0x1_0001..=0x100_0000 => 3,
        _ => 4,
    }
}

/// The value of a term that occurs `count` times.
fn value(damping: Damping, count: u32, idf: f32, factor: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "values are stored in single precision")]
    let value = (tf_idf(damping, count, idf) * factor) as f32;
    value
}

impl Rows {
    /// No rows; packed, if they are for the disk.
    #[must_use]
    pub fn new(is_packed: bool) -> Self {
        Self { packed: is_packed.then(Vec::new), ..Self::default() }
    }

    /// Adds the row of a document in `space`; an empty one where there is no document.
    ///
    /// # Panics
    ///
    /// When the counts are of another space.
    pub fn push(&mut self, space: &Space, counts: Option<&TermCounts>) {
        let (entries, begin) = (self.entries, self.packed.as_ref().map_or(0, Vec::len));
        for (block, terms, factor) in counts.iter().flat_map(|counts| counts.blocks()) {
            let (first, idf) = (space.first(block), space.blocks()[block].idf.as_slice());
            self.entries += terms.len();
            match &mut self.packed {
                None => {
                    let damping = Damping::new();
                    self.columns.extend(terms.iter().map(|(term, _)| first + term));
                    self.values.extend(terms.iter().map(|(term, count)| value(damping, *count, idf[*term as usize], factor)));
                }
                Some(bytes) => pack((terms, factor), id_bytes(idf.len()), bytes),
            }
        }
        if let Some(bytes) = self.packed.as_mut().filter(|_| self.entries == entries) {
            // A row without entries takes nothing, packed or not.
            bytes.truncate(begin);
        }
        self.ends.push(self.packed.as_ref().map_or(self.columns.len(), Vec::len));
    }
}

/// The number of terms, the factor, the ids of all terms, their counts; then, for each count that stands for a greater one, that.
fn pack((terms, factor): (&[(u32, u32)], f64), id_bytes: usize, bytes: &mut Vec<u8>) {
    bytes.extend((terms.len() as u64).to_le_bytes());
    bytes.extend(factor.to_le_bytes());
    bytes.extend(terms.iter().flat_map(|(term, _)| term.to_le_bytes().into_iter().take(id_bytes)));
    bytes.extend(terms.iter().map(|(_, count)| u8::try_from(*count).unwrap_or(MANY)));
    let many = terms.iter().filter(|(_, count)| *count >= u32::from(MANY));
    bytes.extend(many.flat_map(|(_, count)| count.to_le_bytes()));
}

impl Disk {
    /// Reads a packed row; nothing where it is none.
    fn unpack(&self, mut bytes: &[u8], columns: &mut Vec<u32>, values: &mut Vec<f32>) -> Option<()> {
        let damping = Damping::new();
        columns.clear();
        values.clear();
        values.reserve(bytes.len() / 3);
        if bytes.is_empty() {
            return Some(());
        }
        for (first, id_bytes) in &self.blocks {
            let terms = usize::try_from(u64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?)).ok()?;
            let factor = f64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?);
            let ids = bytes.split_off(..terms.checked_mul(*id_bytes)?)?;
            let begin = columns.len();
            match id_bytes {
                2 => columns.extend(ids.as_chunks().0.iter().map(|id| first + u32::from(u16::from_le_bytes(*id)))),
                3 => columns.extend(ids.as_chunks().0.iter().map(|[a, b, c]| first + u32::from_le_bytes([*a, *b, *c, 0]))),
                _ => columns.extend(ids.as_chunks().0.iter().map(|id| first + u32::from_le_bytes(*id))),
            }
            let counts = bytes.split_off(..terms)?;
            for (column, count) in columns[begin..].iter().zip(counts) {
                let idf = *self.idf.get(*column as usize)?;
                let count = match *count {
                    MANY => u32::from_le_bytes(*bytes.split_off(..4)?.first_chunk()?),
                    count => u32::from(count),
                };
                values.push(value(damping, count, idf, factor));
            }
        }
        bytes.is_empty().then_some(())
    }
}

impl SparseMatrix {
    /// A matrix in memory, without rows, of `features` columns.
    #[must_use]
    pub fn new(features: usize) -> Self {
        Self { features, chunks: Vec::new(), entries: 0, bytes: 0, disk: None }
    }

    /// A matrix of documents in `space`, without rows, which takes so much `memory` and goes on on disk.
    #[must_use]
    pub fn within(memory: &Memory, space: &Space) -> Self {
        let blocks = space.blocks().iter().enumerate().map(|(at, block)| (space.first(at), id_bytes(block.idf.len())));
        let idf = space.blocks().iter().flat_map(|block| block.idf.iter().copied()).collect();
        let disk = Disk { file: Spill::new(memory), limit: memory.vectors(), blocks: blocks.collect(), idf };
        Self { disk: Some(disk), ..Self::new(space.features()) }
    }

    /// Whether `more` bytes would be too much for the memory, so that further rows are to be packed.
    #[must_use]
    pub fn is_full(&self, more: u64) -> bool {
        self.disk.as_ref().is_some_and(|disk| self.bytes.saturating_add(more) > disk.limit)
    }

    /// Gives rows their place, in memory or on disk. They become rows of this matrix when they are [appended](Self::append).
    ///
    /// # Errors
    ///
    /// When they can't be written to disk: also where they are packed and the matrix has no disk, and where they are more than four gigabytes.
    pub fn store(&mut self, rows: Rows) -> io::Result<Stored> {
        let Rows { ends, mut columns, mut values, packed, entries } = rows;
        let ends = ends.into_iter().map(u32::try_from).collect::<Result<_, _>>().map_err(io::Error::other)?;
        let place = match (packed, &mut self.disk) {
            (Some(bytes), Some(disk)) => Place::Disk(disk.file.append(&bytes)?),
            (Some(_), None) => return Err(io::ErrorKind::Unsupported.into()),
            (None, _) => {
                columns.shrink_to_fit();
                values.shrink_to_fit();
                self.bytes += 8 * columns.len() as u64;
                Place::Memory(columns, values)
            }
        };
        Ok(Stored { ends, place, entries })
    }

    /// Adds rows that this matrix has stored behind those that there are.
    pub fn append(&mut self, stored: Stored) {
        let Stored { ends, place, entries } = stored;
        self.chunks.push(Chunk { first: self.rows(), ends, place });
        self.entries += entries;
    }

    /// Adds a row in memory: the vector of a document.
    ///
    /// # Panics
    ///
    /// When a column is not below the number of features, or where there are four billion entries.
    pub fn push_vector(&mut self, entries: &[(u32, f64)]) {
        if !matches!(self.chunks.last(), Some(Chunk { place: Place::Memory(..), .. })) {
            let first = self.rows();
            self.chunks.push(Chunk { first, ends: Vec::new(), place: Place::Memory(Vec::new(), Vec::new()) });
        }
        let Some(Chunk { ends, place: Place::Memory(columns, values), .. }) = self.chunks.last_mut() else { return };
        for (column, value) in entries {
            assert!((*column as usize) < self.features, "column {column} of {}", self.features);
            columns.push(*column);
            #[expect(clippy::cast_possible_truncation, reason = "values are stored in single precision")]
            values.push(*value as f32);
        }
        let end = u32::try_from(columns.len());
        assert!(end.is_ok(), "{} entries", columns.len());
        ends.extend(end);
        self.bytes += 8 * entries.len() as u64;
        self.entries += entries.len();
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.chunks.last().map_or(0, |chunk| chunk.first + chunk.ends.len())
    }

    /// The number of columns.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }

    /// The number of stored entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        self.disk.as_ref().map_or(0, |disk| disk.file.length())
    }

    /// Whether a row has entries.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    #[must_use]
    pub fn has_entries(&self, row: usize) -> bool {
        let chunk = &self.chunks[self.chunk_of(row)];
        !chunk.range(row).is_empty()
    }

    fn chunk_of(&self, row: usize) -> usize {
        self.chunks.partition_point(|chunk| chunk.first <= row) - 1
    }

    /// Reads rows, soonest in their order.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { matrix: self, chunk: 0, window: Vec::new(), begin: 0, columns: Vec::new(), values: Vec::new() }
    }
}

impl Chunk {
    fn range(&self, row: usize) -> Range<usize> {
        let at = row - self.first;
        let begin = if at == 0 { 0 } else { self.ends[at - 1] };
        begin as usize..self.ends[at] as usize
    }
}

impl Cursor<'_> {
    /// The columns of a row's entries, and their values.
    ///
    /// # Errors
    ///
    /// When the row can't be read from disk.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    pub fn row(&mut self, row: usize) -> io::Result<(&[u32], &[f32])> {
        let mut chunk = &self.matrix.chunks[self.chunk];
        if row < chunk.first || row - chunk.first >= chunk.ends.len() {
            self.chunk = self.matrix.chunk_of(row);
            chunk = &self.matrix.chunks[self.chunk];
        }
        let range = chunk.range(row);
        match (&chunk.place, &self.matrix.disk) {
            (Place::Memory(columns, values), _) => Ok((&columns[range.clone()], &values[range])),
            (Place::Disk(_), None) => Err(io::ErrorKind::NotFound.into()),
            (Place::Disk(first), Some(disk)) => {
                let begin = first + range.start as u64;
                let within = |at: u64| usize::try_from(at.checked_sub(self.begin)?).ok();
                let is_there = within(begin).is_some_and(|at| at + range.len() <= self.window.len());
                if !is_there {
                    let rest = chunk.ends.last().map_or(0, |end| *end as usize) - range.start;
                    self.window.resize(rest.min(WINDOW.max(range.len())), 0);
                    if let Err(error) = disk.file.read(begin, &mut self.window) {
                        self.window.clear();
                        return Err(error);
                    }
                    self.begin = begin;
                }
                let at = usize::try_from(begin - self.begin).unwrap_or(usize::MAX);
                let bytes = &self.window[at..][..range.len()];
                let unpacked = disk.unpack(bytes, &mut self.columns, &mut self.values);
                unpacked.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a vector on disk was changed"))?;
                Ok((&self.columns, &self.values))
            }
        }
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
