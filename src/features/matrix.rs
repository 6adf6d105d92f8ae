//! The feature vectors of many documents, compressed by rows, in memory or on disk.
//!
//! A row is kept as it was counted, not as the numbers that this comes to: for each block the factor that normalises it, the ids of its terms,
//! and how often each occurs. Ids have two bytes, so that a block of more than 65,536 terms is several [segments](Segment); most terms occur once,
//! which is not written down for each. That makes some two and a half bytes an entry, where columns and values would take eight: half of the time of a solver
//! goes into moving rows from memory. The idf of a column is the matrix's, and whoever multiplies rows by weights multiplies the weights by it once.
//!
//! What does not fit into memory lies in a [temporary file](crate::spill), in the same form.

use std::io;
use std::ops::Range;

use linfa::dataset::Records;

use super::space::{Damping, Space, TermCounts};
use crate::spill::{Memory, Spill};

/// A matrix of documents by features of which most entries are zero.
#[derive(Debug)]
pub struct SparseMatrix {
    /// For each column its idf.
    idf: Vec<f32>,
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
    /// For each row the end of its bytes.
    ends: Vec<u32>,
    place: Place,
}

/// Where the rows of a chunk are.
#[derive(Debug)]
enum Place {
    Memory(Vec<u8>),
    /// In the file, from this byte on.
    Disk(u64),
}

/// Rows on disk.
#[derive(Debug)]
struct Disk {
    file: Spill,
    /// Bytes of rows that stay in memory.
    limit: u64,
}

/// Rows that are to become part of a matrix.
#[derive(Debug, Default)]
pub struct PackedRows {
    ends: Vec<usize>,
    bytes: Vec<u8>,
    entries: usize,
    /// The segments of a block, while it is packed.
    open: Vec<OpenSegment>,
}

/// A segment that is being filled.
#[derive(Debug, Default)]
struct OpenSegment {
    once: Vec<Id>,
    often: Vec<Id>,
    counts: Vec<u8>,
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
}

/// A row of a matrix.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    bytes: &'a [u8],
    idf: &'a [f32],
}

/// The entries of a row whose columns are among [`SPAN`] that lie together. The value of an entry is (1 + ln count) · factor, times the idf of its column.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// The column that ids count from.
    pub first: usize,
    /// What all values are multiplied by.
    pub factor: f64,
    /// Terms that occur once.
    pub once: &'a [Id],
    /// Terms that occur more often.
    pub often: &'a [Id],
    /// How often each of these does.
    pub counts: &'a [u8],
}

/// How far a column lies behind the first of its segment: a number of two bytes, the lowest first.
pub type Id = [u8; 2];

/// Columns that a segment may have.
pub const SPAN: usize = 1 << 16;

/// Bytes that are read from disk at once.
const WINDOW: usize = 1 << 20;

impl PackedRows {
    /// No rows, with room for so many terms or about as many.
    #[must_use]
    pub fn with_room(terms: usize) -> Self {
        // Ids, and for some of them counts.
        Self { bytes: Vec::with_capacity(terms * size_of::<Id>() + terms / 2), ..Self::default() }
    }

    /// Adds the row of a document in `space`; an empty one where there is no document.
    ///
    /// # Panics
    ///
    /// When the counts are of another space.
    pub fn push(&mut self, space: &Space, counts: Option<&TermCounts>) {
        for (block, terms, factor) in counts.iter().flat_map(|counts| counts.blocks()) {
            self.push_block(space.first(block), terms, factor);
        }
        self.end();
    }

    /// Ends the row.
    pub fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    /// Adds a block to the row that comes next: terms with their counts, which are above zero. The block's first feature is `first`.
    pub fn push_block(&mut self, first: u32, terms: &[(u32, u32)], factor: f64) {
        let Self { bytes, open, entries, .. } = self;
        *entries += terms.len();
        for (term, count) in terms {
            let [low, high, top @ ..] = term.to_le_bytes();
            let at = usize::from(u16::from_le_bytes(top));
            if at >= open.len() {
                open.resize_with(at + 1, OpenSegment::default);
            }
            let segment = &mut open[at];
            match u8::try_from(*count) {
                Ok(1) => segment.once.push([low, high]),
                Ok(count) => {
                    segment.often.push([low, high]);
                    segment.counts.push(count);
                }
                // A count that has no room gets a segment of its own, and is part of the factor.
                Err(_) => {
                    let damped = factor * Damping::new().of(*count);
                    Segment { first: (first + term) as usize, factor: damped, once: &[[0, 0]], often: &[], counts: &[] }
                        .write(bytes);
                }
            }
        }
        for (segment, at) in open.iter_mut().zip(0..) {
            let OpenSegment { once, often, counts } = segment;
            let first = first as usize + at * SPAN;
            Segment { first, factor, once, often, counts }.write(bytes);
            once.clear();
            often.clear();
            counts.clear();
        }
    }
}

impl<'a> Segment<'a> {
    /// Writes the segment behind `bytes`, unless it has no entries.
    fn write(&self, bytes: &mut Vec<u8>) {
        let Self { first, factor, once, often, counts } = self;
        if once.is_empty() && often.is_empty() {
            return;
        }
        // Columns have four bytes, and there are no more ids than columns of a segment.
        for number in [*first, once.len(), often.len()] {
            bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
        }
        bytes.extend(factor.to_le_bytes());
        bytes.extend_from_slice(once.as_flattened());
        bytes.extend_from_slice(often.as_flattened());
        bytes.extend_from_slice(counts);
    }

    /// The segment that `bytes` begin with, which are those behind it then.
    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let mut number = || Some(u32::from_le_bytes(*bytes.split_off(..4)?.first_chunk()?) as usize);
        let (first, once, often) = (number()?, number()?, number()?);
        let factor = f64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?);
        let mut ids = |count: usize| Some(bytes.split_off(..count.checked_mul(2)?)?.as_chunks().0);
        let (once, often_ids) = (ids(once)?, ids(often)?);
        Some(Self { first, factor, once, often: often_ids, counts: bytes.split_off(..often)? })
    }

    /// The columns of its entries, in no order, and their values over the idf of the column.
    pub fn terms(self) -> impl Iterator<Item = (usize, f64)> + use<'a> {
        let Self { first, factor, once, often, counts } = self;
        let damping = Damping::new();
        let once = once.iter().map(|id| (id, 1));
        let often = often.iter().zip(counts).map(|(id, count)| (id, u32::from(*count)));
        once.chain(often).map(move |(id, count)| (first + usize::from(u16::from_le_bytes(*id)), damping.of(count) * factor))
    }

    /// Whether it can be part of a matrix of so many `features`.
    fn is_valid(&self, features: usize) -> bool {
        let ids = self.once.iter().chain(self.often);
        let last = ids.fold(0, |last, id| last.max(u16::from_le_bytes(*id)));
        let is_within = self.first.checked_add(usize::from(last)).is_some_and(|last| last < features);
        is_within && self.factor.is_finite() && self.counts.iter().all(|count| *count > 1)
    }
}

impl<'a> Row<'a> {
    /// A row that was read from disk; nothing where it is none.
    fn checked(bytes: &'a [u8], idf: &'a [f32]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            Segment::take(&mut rest).filter(|segment| segment.is_valid(idf.len()))?;
        }
        Some(Self { bytes, idf })
    }

    /// Its entries.
    pub fn segments(self) -> impl Iterator<Item = Segment<'a>> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || Segment::take(&mut rest))
    }

    /// The columns of its entries, in no order, and their values over the idf of the column.
    pub fn terms(self) -> impl Iterator<Item = (usize, f64)> {
        self.segments().flat_map(Segment::terms)
    }

    /// The columns of its entries, in no order, and their values.
    pub fn entries(self) -> impl Iterator<Item = (usize, f64)> {
        self.terms().map(|(column, value)| (column, value * f64::from(self.idf[column])))
    }
}

impl SparseMatrix {
    /// A matrix in memory, without rows, of `features` columns that all have an idf of 1.
    #[must_use]
    pub fn new(features: usize) -> Self {
        Self { idf: vec![1.0; features], chunks: Vec::new(), entries: 0, bytes: 0, disk: None }
    }

    /// A matrix of documents in `space`, without rows, which takes so much `memory` and goes on on disk.
    #[must_use]
    pub fn within(memory: &Memory, space: &Space) -> Self {
        let idf = space.blocks().iter().flat_map(|block| block.idf.iter().copied()).collect();
        Self { idf, disk: Some(Disk { file: Spill::new(memory), limit: memory.vectors() }), ..Self::new(0) }
    }

    /// Gives rows their place, in memory or on disk. They become rows of this matrix when they are [appended](Self::append).
    ///
    /// # Errors
    ///
    /// When they can't be written to disk, or are more than four gigabytes.
    pub fn store(&mut self, rows: PackedRows) -> io::Result<Stored> {
        let PackedRows { ends, mut bytes, entries, .. } = rows;
        let ends = ends.into_iter().map(u32::try_from).collect::<Result<_, _>>().map_err(io::Error::other)?;
        let all = self.bytes + bytes.len() as u64;
        let place = match &mut self.disk {
            Some(disk) if all > disk.limit => Place::Disk(disk.file.append(&bytes)?),
            _ => {
                bytes.shrink_to_fit();
                self.bytes = all;
                Place::Memory(bytes)
            }
        };
        Ok(Stored { ends, place, entries })
    }

    /// Adds rows behind those that there are.
    ///
    /// # Errors
    ///
    /// As those of [`store`](Self::store).
    pub fn push(&mut self, rows: PackedRows) -> io::Result<()> {
        let stored = self.store(rows)?;
        self.append(stored);
        Ok(())
    }

    /// Adds rows that this matrix has stored behind those that there are.
    pub fn append(&mut self, stored: Stored) {
        let Stored { ends, place, entries } = stored;
        self.chunks.push(Chunk { first: self.rows(), ends, place });
        self.entries += entries;
    }

    /// Adds a row in memory of any columns and values. Takes ten times the memory that a document's counts would.
    ///
    /// # Panics
    ///
    /// When a column is not below the number of features, or where there are four gigabytes.
    pub fn push_vector(&mut self, entries: &[(u32, f64)]) {
        if !matches!(self.chunks.last(), Some(Chunk { place: Place::Memory(_), .. })) {
            self.chunks.push(Chunk { first: self.rows(), ends: Vec::new(), place: Place::Memory(Vec::new()) });
        }
        let Some(Chunk { ends, place: Place::Memory(bytes), .. }) = self.chunks.last_mut() else { return };
        let before = bytes.len();
        for (column, factor) in entries {
            let first = *column as usize;
            assert!(first < self.idf.len(), "column {column} of {}", self.idf.len());
            Segment { first, factor: *factor, once: &[[0, 0]], often: &[], counts: &[] }.write(bytes);
        }
        let end = u32::try_from(bytes.len());
        assert!(end.is_ok(), "{} bytes", bytes.len());
        ends.extend(end);
        self.bytes += (bytes.len() - before) as u64;
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
        self.idf.len()
    }

    /// For each column its idf.
    #[must_use]
    pub fn idf(&self) -> &[f32] {
        &self.idf
    }

    /// The number of stored entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Bytes of rows in memory.
    #[must_use]
    pub fn bytes_in_memory(&self) -> u64 {
        self.bytes
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
        Cursor { matrix: self, chunk: 0, window: Vec::new(), begin: 0 }
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
    /// A row.
    ///
    /// # Errors
    ///
    /// When it can't be read from disk.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    pub fn row(&mut self, row: usize) -> io::Result<Row<'_>> {
        let mut chunk = &self.matrix.chunks[self.chunk];
        if row < chunk.first || row - chunk.first >= chunk.ends.len() {
            self.chunk = self.matrix.chunk_of(row);
            chunk = &self.matrix.chunks[self.chunk];
        }
        let range = chunk.range(row);
        let idf = &self.matrix.idf;
        match (&chunk.place, &self.matrix.disk) {
            (Place::Memory(bytes), _) => Ok(Row { bytes: &bytes[range], idf }),
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
                Row::checked(bytes, idf).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a vector on disk was changed"))
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
    /// What the values of each column are multiplied by, zero for all columns of a block or for none of them; empty: nothing.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_were_changed_are_no_row() {
        let mut bytes = Vec::new();
        let whole = Segment { first: 2, factor: 0.5, once: &[[1, 0], [0, 0]], often: &[[3, 0]], counts: &[2] };
        whole.write(&mut bytes);
        let idf = [1.0, 1.0, 2.0, 2.0, 2.0, 3.0];
        let row = Row::checked(&bytes, &idf).unwrap();
        let (value, often) = (0.5, 0.5 * (1.0 + 2.0_f64.ln()));
        assert_eq!(row.entries().collect::<Vec<_>>(), [(3, 2.0 * value), (2, 2.0 * value), (5, 3.0 * often)]);
        assert!(Row::checked(&[], &idf).is_some());
        for end in 1..bytes.len() {
            assert!(Row::checked(&bytes[..end], &idf).is_none(), "{end} bytes");
        }
        let written = |segment: Segment<'_>| {
            let mut bytes = Vec::new();
            segment.write(&mut bytes);
            bytes
        };
        for wrong in [
            Segment { first: 3, ..whole },
            Segment { once: &[[1, 0], [0, 1]], ..whole },
            Segment { factor: f64::NAN, ..whole },
            Segment { counts: &[0], ..whole },
        ] {
            assert!(Row::checked(&written(wrong), &idf).is_none(), "{wrong:?}");
        }
    }
}
