//! Counting in how many documents each term is, on any number of threads, in bounded memory.
//!
//! Each thread counts its share of the documents, and remembers for each term where it was first met: in which document, and at
//! which place among its terms. Put together, the counts are the same whoever counted what. Terms that take too much memory are written to disk
//! in their order, and put together at the end in one pass over all that was written; nothing is left out or estimated. As long as everything
//! fits into memory the documents' own counts can be [recorded](super::record), so that nobody has to read them again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::record::{self, NOT_KEPT, NewIds, Piece, Recording};
use super::space::idf;
use super::tally::{Counted, Tally, Terms, Tokens};
use super::{Block, BlockConfig, Document, Lexicon, Reading, Space, Vocabulary};
use crate::spill::{Memory, Spill};

/// Counts the terms of documents, for a space to be made of them.
#[derive(Debug)]
pub struct Counting {
    configs: Vec<BlockConfig>,
    lexicon: Option<Lexicon>,
    shards: Mutex<Shards>,
    documents: u64,
    limit: u64,
    /// What is recorded of the documents, each piece with the shard that counted it; nothing where nobody wants it or it takes too much memory.
    pieces: Option<Vec<(usize, Piece)>>,
    most_recorded: u64,
    file: Spill,
    /// For each block what of it lies on disk.
    runs: Vec<Vec<Run>>,
}

/// A document to count.
#[derive(Debug)]
pub struct Shown<'a> {
    /// The document; nothing is only recorded.
    pub document: Option<&'a Document<'a>>,
    /// A part of it that is not counted, but recorded where the document is.
    pub lead: Option<Document<'a>>,
}

/// Shards for threads to count with, as many as are ever needed at once.
#[derive(Debug, Default)]
struct Shards {
    free: Vec<Shard>,
    made: usize,
}

/// What one thread counts, block by block.
#[derive(Debug)]
struct Shard {
    number: usize,
    reading: Reading,
    tally: Tally,
    vocabularies: Vec<Vocabulary>,
    counts: Vec<Counts>,
}

/// What was found of each term of a block.
#[derive(Debug, Default)]
struct Counts {
    df: Vec<u32>,
    met: Vec<(u64, u32)>,
}

/// The terms of a block.
#[derive(Debug, Default)]
struct Counter {
    vocabulary: Vocabulary,
    counts: Counts,
}

/// How often a term was found, and where first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    /// The documents that have it.
    df: u32,
    /// The first of them, and the term's place among its terms.
    met: (u64, u32),
}

/// Terms on disk in ascending order: bytes of the file.
#[derive(Debug, Clone, Copy)]
struct Run {
    begin: u64,
    end: u64,
}

/// Documents that a thread counts at once.
const PIECE: usize = 64;

/// Bytes that are written at once, and read of a run where there is room.
const WINDOW: usize = 1 << 18;

/// Bytes that are read of a run at once at least.
const LEAST_WINDOW: usize = 1 << 12;

/// Terms that are worth a thread's while.
const TERMS: usize = 1 << 12;

/// Bytes that a term takes beside its text: where it ends, its key, its place in a table that may be half empty, what was found.
const TERM: u64 = 64;

impl Found {
    fn and(self, other: Self) -> Self {
        Self { df: self.df.saturating_add(other.df), met: self.met.min(other.met) }
    }
}

impl Counts {
    fn add(&mut self, id: u32, Found { df, met }: Found) {
        let at = id as usize;
        if at >= self.df.len() {
            self.df.resize(at + 1, 0);
            self.met.resize(at + 1, (u64::MAX, 0));
        }
        self.met[at] = self.met[at].min(met);
        self.df[at] = self.df[at].saturating_add(df);
    }

    fn iter(&self) -> impl Iterator<Item = Found> {
        self.df.iter().zip(&self.met).map(|(df, met)| Found { df: *df, met: *met })
    }
}

impl Counter {
    /// Its terms that were counted, with what was found; not those that were only met in parts of documents that are not counted.
    fn counted(&self) -> impl Iterator<Item = (u32, Found)> {
        (0..).zip(self.counts.iter()).filter(|(_, found)| found.df > 0)
    }

    /// Writes the terms in ascending order.
    fn write(&self, file: &mut Spill) -> io::Result<Run> {
        let mut order: Vec<(u32, Found)> = self.counted().collect();
        order.par_sort_unstable_by_key(|(id, _)| self.vocabulary.utf8(*id));
        let begin = file.length();
        let mut bytes = Vec::with_capacity(2 * WINDOW);
        for (id, Found { df, met: (document, place) }) in order {
            let term = self.vocabulary.utf8(id);
            bytes.extend(u32::try_from(term.len()).map_err(io::Error::other)?.to_le_bytes());
            bytes.extend(term);
            bytes.extend(df.to_le_bytes());
            bytes.extend(document.to_le_bytes());
            bytes.extend(place.to_le_bytes());
            if bytes.len() > WINDOW {
                file.append(&bytes)?;
                bytes.clear();
            }
        }
        file.append(&bytes)?;
        Ok(Run { begin, end: file.length() })
    }
}

/// A space whose terms are met rather than known: each new one gets the next id of its block.
struct Growing<'a>(&'a mut [Vocabulary]);

impl Terms for Growing<'_> {
    fn id(&mut self, block: usize, term: &str) -> Option<u32> {
        Some(self.0[block].intern(term))
    }

    fn len(&self, block: usize) -> usize {
        self.0[block].len()
    }

    fn has_beginnings(&self, _: usize) -> bool {
        false
    }

    fn half(&self, _: usize, _: &str) -> Option<u32> {
        // Any word may be half of a pair.
        Some(0)
    }

    fn pair(&mut self, block: usize, words: &Vocabulary, [(first, _), (second, _)]: [(u32, u32); 2]) -> Option<u32> {
        self.id(block, &format!("{} {}", words.term(first), words.term(second)))
    }
}

/// How many of `shown` have a document.
fn with_document(shown: &[Shown<'_>]) -> u64 {
    shown.iter().filter(|shown| shown.document.is_some()).count() as u64
}

fn lock(shards: &Mutex<Shards>) -> MutexGuard<'_, Shards> {
    shards.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shards {
    /// One that nobody else has.
    fn take(&mut self, blocks: usize) -> Shard {
        self.free.pop().unwrap_or_else(|| {
            self.made += 1;
            Shard::new(self.made - 1, blocks)
        })
    }

    /// All of them, in the order of their numbers.
    fn all(&mut self) -> Vec<Shard> {
        self.made = 0;
        self.free.sort_unstable_by_key(|shard| shard.number);
        std::mem::take(&mut self.free)
    }
}

impl Shard {
    fn new(number: usize, blocks: usize) -> Self {
        // Ids last as long as the counts, so words keep their numbers.
        Self {
            number,
            reading: Reading::large(),
            tally: Tally::default(),
            vocabularies: vec![Vocabulary::default(); blocks],
            counts: (0..blocks).map(|_| Counts::default()).collect(),
        }
    }

    /// Counts documents, the first of which is the `first` of all, and records them.
    fn count(&mut self, counted: &Counted<'_, BlockConfig>, first: u64, shown: &[Shown<'_>], mut record: Option<&mut Piece>) {
        let mut numbers = first..;
        for Shown { document, lead } in shown {
            let Some(document) = document else {
                record.iter_mut().for_each(|record| record.push_none());
                continue;
            };
            let at = numbers.next().unwrap_or(u64::MAX);
            self.read(counted, document, record.as_deref_mut(), |counts: &mut Counts, terms| {
                for ((id, _), place) in terms.iter().zip(0..) {
                    let at_first = counts.df.get(*id as usize).is_none_or(|df| *df == 0);
                    if at_first {
                        counts.add(*id, Found { df: 1, met: (at, place) });
                    } else {
                        counts.df[*id as usize] += 1;
                    }
                }
            });
            match (lead, &mut record) {
                (Some(lead), Some(_)) => self.read(counted, lead, record.as_deref_mut(), |_, _| {}),
                (None, Some(record)) => record.push_none(),
                (_, None) => {}
            }
        }
    }

    /// Reads a document. `found` is told its terms, and what was counted of their block.
    fn read(
        &mut self,
        counted: &Counted<'_, BlockConfig>,
        document: &Document<'_>,
        mut record: Option<&mut Piece>,
        mut found: impl FnMut(&mut Counts, &[(u32, u32)]),
    ) {
        let Self { reading, tally, vocabularies, counts, .. } = self;
        reading.clear();
        let parts = reading.document(document);
        record.iter_mut().for_each(|record| record.begin(reading.tokens().len()));
        let tokens = Tokens { reading, parts: &parts, shape: &document.shape };
        tally.count(counted, &mut Growing(vocabularies), &tokens, |block, terms| {
            record.iter_mut().for_each(|record| record.push(terms));
            found(&mut counts[block], terms);
        });
    }

    fn bytes(&self) -> u64 {
        self.vocabularies.iter().map(|vocabulary| vocabulary.bytes() as u64 + TERM * vocabulary.len() as u64).sum()
    }

    fn counters(self) -> Vec<Counter> {
        let blocks = self.vocabularies.into_iter().zip(self.counts);
        blocks.map(|(vocabulary, counts)| Counter { vocabulary, counts }).collect()
    }
}

impl Counting {
    /// Counts for blocks with these settings, in so much `memory`.
    #[must_use]
    pub fn new(configs: Vec<BlockConfig>, lexicon: Option<Lexicon>, memory: &Memory) -> Self {
        let blocks = configs.len();
        Self {
            lexicon,
            shards: Mutex::default(),
            documents: 0,
            limit: memory.terms(),
            pieces: None,
            most_recorded: 0,
            file: Spill::new(memory),
            runs: vec![Vec::new(); blocks],
            configs,
        }
    }

    /// Records the documents as well.
    #[must_use]
    pub fn recording(self, memory: &Memory) -> Self {
        Self { pieces: Some(Vec::new()), most_recorded: memory.recorded().min(record::MOST_BYTES), ..self }
    }

    /// Counts documents, and writes terms to disk where they take too much memory.
    ///
    /// # Errors
    ///
    /// When they can't be written.
    pub fn add(&mut self, shown: &[Shown<'_>]) -> io::Result<()> {
        // A byte of text may be a term or two, which take a hundred bytes.
        let batch = usize::try_from((self.limit / 256).max(1 << 12)).unwrap_or(usize::MAX);
        let mut rest = shown;
        while !rest.is_empty() {
            let sizes = rest.iter().scan(0_usize, |size, shown| {
                let segments = shown.document.iter().flat_map(|document| &document.segments);
                *size = size.saturating_add(segments.map(|segment| segment.text.len()).sum());
                Some(*size)
            });
            let (now, later) = rest.split_at(sizes.take_while(|size| *size <= batch).count().clamp(1, rest.len()));
            self.count(now);
            if lock(&self.shards).free.iter().map(Shard::bytes).sum::<u64>() > self.limit {
                self.write()?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Counts documents in memory.
    pub(super) fn count(&mut self, shown: &[Shown<'_>]) {
        let Self { configs, lexicon, shards, documents, pieces, most_recorded, .. } = self;
        let counted = Counted { blocks: configs, lexicon: lexicon.as_ref() };
        let recorded_before = pieces.iter().flatten().map(|(_, piece)| piece.bytes()).sum();
        let recorded_bytes = AtomicU64::new(recorded_before);
        let goes_on = || pieces.is_some() && recorded_bytes.load(Ordering::Relaxed) <= *most_recorded;
        // So small that all threads have enough to do to the end; which of them takes which piece changes nothing.
        let size = shown.len().div_ceil(4 * rayon::current_num_threads()).clamp(1, PIECE);
        let firsts = shown.chunks(size).scan(*documents, |first, shown| {
            let of_piece = *first;
            *first += with_document(shown);
            Some((of_piece, shown))
        });
        let work: Vec<(u64, &[Shown<'_>])> = firsts.collect();
        let next = AtomicUsize::new(0);
        let count = |_| {
            let mut shard = lock(shards).take(configs.len());
            let (mut recorded, mut draft) = (Vec::new(), Piece::default());
            // Each shard meets its documents in their order: the first that has a term is the first that it meets.
            let mine = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
            for (at, (first, shown)) in mine.map_while(|at| Some((at, work.get(at)?))) {
                draft.clear();
                let records = goes_on();
                shard.count(&counted, *first, shown, records.then_some(&mut draft));
                recorded_bytes.fetch_add(draft.bytes(), Ordering::Relaxed);
                recorded.push((at, records.then(|| (shard.number, draft.clone()))));
            }
            lock(shards).free.push(shard);
            recorded
        };
        let mut recorded: Vec<_> = (0..rayon::current_num_threads()).into_par_iter().flat_map_iter(count).collect();
        recorded.sort_unstable_by_key(|(at, _)| *at);
        *documents += with_document(shown);
        let is_whole = goes_on() && recorded.iter().all(|(_, piece)| piece.is_some());
        *pieces = pieces.take().filter(|_| is_whole).map(|mut all| {
            all.extend(recorded.into_iter().filter_map(|(_, piece)| piece));
            all
        });
    }

    /// Whether documents are recorded, and their leads with them: not any more where that would take too much memory.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.pieces.is_some()
    }

    fn write(&mut self) -> io::Result<()> {
        // The ids that were recorded are forgotten with the terms.
        self.pieces = None;
        for shard in self.shards.get_mut().unwrap_or_else(PoisonError::into_inner).all() {
            for (counter, runs) in shard.counters().into_iter().zip(&mut self.runs) {
                runs.push(counter.write(&mut self.file)?);
            }
        }
        Ok(())
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        self.file.length()
    }

    /// The space of all that was counted, and the documents as they were counted, if they were [recorded](Self::recording).
    ///
    /// # Errors
    ///
    /// When terms can't be written to disk, or read from there.
    pub fn finish(mut self) -> io::Result<(Space, Option<Recording>)> {
        if self.bytes_on_disk() == 0 {
            return Ok(self.finish_in_memory());
        }
        self.write()?;
        let Self { configs, lexicon, documents, limit, file, runs, .. } = self;
        let blocks = configs.into_iter().zip(runs).map(|(config, runs)| merge((&file, limit), &runs, config, documents));
        Ok((Space::new(blocks.collect::<io::Result<_>>()?).with_lexicon(lexicon), None))
    }

    /// The space of what was counted since terms were last written to disk, and the documents as they were counted.
    pub(super) fn finish_in_memory(mut self) -> (Space, Option<Recording>) {
        let shards = self.shards.get_mut().unwrap_or_else(PoisonError::into_inner).all();
        let Self { configs, lexicon, documents, pieces, .. } = self;
        // For each block what each shard counted.
        let mut counters: Vec<Vec<Counter>> = configs.iter().map(|_| Vec::new()).collect();
        for shard in shards {
            counters.iter_mut().zip(shard.counters()).for_each(|(counters, counter)| counters.push(counter));
        }
        let finish = |(config, mut counters): (BlockConfig, Vec<Counter>)| {
            let homes = add_up(&mut counters);
            let mut kept = Kept::<Known<'_>>::new(&config);
            for ((shard, counter), homes) in (0..).zip(&counters).zip(&homes) {
                let at_home = |id: u32| homes.get(id as usize).is_none_or(Option::is_none);
                for (id, found) in counter.counted().filter(|(id, _)| at_home(*id)) {
                    kept.add(found, Known { term: counter.vocabulary.term(id), shard, id });
                }
            }
            kept.sort();
            let mut new_ids: Vec<Vec<u32>> = counters.iter().map(|counter| vec![NOT_KEPT; counter.vocabulary.len()]).collect();
            kept.terms.iter().zip(0..).for_each(|((_, known), id)| new_ids[known.shard as usize][known.id as usize] = id);
            for (shard, homes) in homes.iter().enumerate() {
                let (before, rest) = new_ids.split_at_mut(shard);
                let of_shard = rest.iter_mut().take(1).flatten().zip(homes);
                of_shard.for_each(|(new_id, home)| {
                    home.iter().for_each(|(shard, id)| *new_id = before[*shard as usize][*id as usize])
                });
            }
            (kept.block(config, documents), new_ids)
        };
        let (blocks, of_blocks): (Vec<Block>, Vec<Vec<Vec<u32>>>) =
            configs.into_par_iter().zip(counters).with_max_len(1).map(finish).unzip();
        let recording = pieces.map(|pieces| {
            let mut new_ids: NewIds = Vec::new();
            for of_shards in of_blocks {
                new_ids.resize_with(of_shards.len(), Vec::new);
                new_ids.iter_mut().zip(of_shards).for_each(|(new_ids, ids)| new_ids.push(ids));
            }
            Recording::new(pieces, new_ids)
        });
        (Space::new(blocks).with_lexicon(lexicon), recording)
    }
}

/// Where a term is counted that several shards have met: the first of them, and its id there.
type Home = Option<(u32, u32)>;

/// Adds what each shard counted of a term to what the first that has it did. Tells for each shard but the first, and for each of its terms, the term's home, if it
/// is another.
fn add_up(counters: &mut [Counter]) -> Vec<Vec<Home>> {
    let mut homes = Vec::new();
    for shard in 0..counters.len() {
        let (before, rest) = counters.split_at_mut(shard);
        let Some(counter) = rest.first() else { break };
        let home = |id: usize| {
            let term = counter.vocabulary.term(u32::try_from(id).unwrap_or(u32::MAX));
            let mut shards = (0..).zip(&*before);
            shards.find_map(|(shard, counter)| Some((shard, counter.vocabulary.get(term)?)))
        };
        let terms = if shard == 0 { 0 } else { counter.vocabulary.len() };
        let of_shard: Vec<Home> = (0..terms).into_par_iter().with_min_len(TERMS).map(home).collect();
        for (found, home) in counter.counts.iter().zip(&of_shard) {
            home.iter().for_each(|(shard, id)| before[*shard as usize].counts.add(*id, found));
        }
        homes.push(of_shard);
    }
    homes
}

/// A term that was counted in memory, the shard that counts it, and its id there.
struct Known<'a> {
    term: &'a str,
    shard: u32,
    id: u32,
}

impl AsRef<str> for Known<'_> {
    fn as_ref(&self) -> &str {
        self.term
    }
}

/// The terms that are to be kept.
struct Kept<T> {
    min_df: u32,
    /// The most terms; 0: no limit.
    most: usize,
    terms: Vec<(Found, T)>,
}

impl<T: AsRef<str> + Send> Kept<T> {
    fn new(config: &BlockConfig) -> Self {
        Self { min_df: config.min_df.max(1), most: config.max_features, terms: Vec::new() }
    }

    fn add(&mut self, found: Found, term: T) {
        if found.df < self.min_df {
            return;
        }
        self.terms.push((found, term));
        if self.most > 0 && self.terms.len() >= self.most.saturating_mul(2).max(1 << 16) {
            self.cut();
        }
    }

    /// Keeps the terms in the most documents.
    fn cut(&mut self) {
        if self.most > 0 && self.terms.len() > self.most {
            self.terms.select_nth_unstable_by(self.most, |(left, left_term), (right, right_term)| {
                right.df.cmp(&left.df).then(left_term.as_ref().cmp(right_term.as_ref()))
            });
            self.terms.truncate(self.most);
        }
    }

    /// Puts the terms into the order of their ids. Those in many documents come first, by powers of two, so that what is
    /// needed all the time lies close together; within a power they stay in the order in which they were met, so that what
    /// is needed together, the n-grams of a word, does too.
    fn sort(&mut self) {
        self.cut();
        self.terms.par_sort_unstable_by_key(|(Found { df, met }, _)| (df.leading_zeros(), *met));
    }

    /// A block of the terms, with their idf over so many `documents`.
    fn block(self, config: BlockConfig, documents: u64) -> Block {
        let total = u32::try_from(documents).unwrap_or(u32::MAX);
        #[expect(clippy::cast_possible_truncation, reason = "idf is stored in single precision")]
        let idf = self.terms.iter().map(|(found, _)| idf(total, found.df) as f32).collect();
        Block { idf, vocabulary: self.terms.iter().map(|(_, term)| term).collect(), config }
    }
}

impl Kept<String> {
    fn add_utf8(&mut self, found: Found, term: Vec<u8>) -> io::Result<()> {
        self.add(found, String::from_utf8(term).map_err(io::Error::other)?);
        Ok(())
    }
}

/// Reads a run.
struct RunReader<'a> {
    file: &'a Spill,
    rest: Run,
    bytes: Vec<u8>,
    at: usize,
    window: usize,
}

impl RunReader<'_> {
    /// The next `N` bytes.
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let bytes = self.take(N)?;
        bytes.first_chunk().copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.bytes.len() - self.at < count {
            self.bytes.drain(..self.at);
            self.at = 0;
            let more = self.window.max(count) as u64;
            let more = usize::try_from(more.min(self.rest.end - self.rest.begin)).unwrap_or(usize::MAX);
            let before = self.bytes.len();
            self.bytes.resize(before + more, 0);
            self.file.read(self.rest.begin, &mut self.bytes[before..])?;
            self.rest.begin += more as u64;
        }
        let taken = self.bytes.get(self.at..self.at + count).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.at += count;
        Ok(taken)
    }

    /// The next term.
    fn next(&mut self) -> io::Result<Option<(Vec<u8>, Found)>> {
        if self.at == self.bytes.len() && self.rest.begin == self.rest.end {
            return Ok(None);
        }
        let length = u32::from_le_bytes(self.array()?);
        let term = self.take(length as usize)?.to_vec();
        let df = u32::from_le_bytes(self.array()?);
        let met = (u64::from_le_bytes(self.array()?), u32::from_le_bytes(self.array()?));
        Ok(Some((term, Found { df, met })))
    }
}

/// The block of the terms of all `runs`.
fn merge((file, limit): (&Spill, u64), runs: &[Run], config: BlockConfig, documents: u64) -> io::Result<Block> {
    let share = usize::try_from(limit / 2 / runs.len().max(1) as u64).unwrap_or(WINDOW);
    let window = share.clamp(LEAST_WINDOW, WINDOW);
    let readers = runs.iter().map(|run| RunReader { file, rest: *run, bytes: Vec::new(), at: 0, window });
    let mut readers: Vec<RunReader<'_>> = readers.collect();
    let mut kept = Kept::<String>::new(&config);
    // The next term of each run, the least at the top.
    let mut heads = BinaryHeap::new();
    for (at, reader) in readers.iter_mut().enumerate() {
        heads.extend(reader.next()?.map(|(term, found)| Reverse((term, at, found))));
    }
    let mut whole: Option<(Vec<u8>, Found)> = None;
    while let Some(Reverse((term, at, found))) = heads.pop() {
        heads.extend(readers[at].next()?.map(|(term, found)| Reverse((term, at, found))));
        whole = Some(match whole {
            Some((same, before)) if same == term => (term, before.and(found)),
            done => {
                done.into_iter().try_for_each(|(term, found)| kept.add_utf8(found, term))?;
                (term, found)
            }
        });
    }
    whole.into_iter().try_for_each(|(term, found)| kept.add_utf8(found, term))?;
    kept.sort();
    Ok(kept.block(config, documents))
}
