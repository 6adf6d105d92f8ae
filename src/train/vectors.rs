//! The features of a corpus, and the vectors of its articles.
//!
//! Texts are read a chunk at a time to count their terms, and the vectors are made of what was counted; where that does not fit into memory,
//! texts are read a second time. Each chunk is shared out among threads; what they make is put together in the order of the articles.

use std::io;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::Progress;
use super::run::{TrainError, TrainParams};
use super::store::Corpus;
use crate::features::matrix::{PackedRows, Stored};
use crate::features::record::Recorded;
use crate::features::{BlockConfig, Counting, Document, Reading, Shown, Space, SparseMatrix, Tally, TermCounts, Tokens};
use crate::model::doubt::{Census, WordCounter};
use crate::model::role::{RoleScratch, body, headline, passages};
use crate::model::{DoubtLimits, RoleHead, RoleVerdict};
use crate::page;
use crate::spill::Memory;

/// Words of the text that are its lead: about a first paragraph.
const LEAD_WORDS: usize = 60;

/// What topic and stance are fitted on.
pub(super) struct Vectors {
    pub(super) space: Space,
    /// A row for each article, empty where nothing of it is body; then one for each lead, where leads are wanted.
    pub(super) matrix: SparseMatrix,
    /// For each article whether anything of it is body.
    pub(super) has_body: Vec<bool>,
    pub(super) doubt: Option<DoubtLimits>,
}

/// Which passages of articles are body.
#[derive(Debug, Default)]
struct Bodies {
    /// For each article the end of its passages.
    ends: Vec<usize>,
    is_body: Vec<bool>,
    /// For each article which of its body passages stands in for a title.
    headlines: Vec<usize>,
}

/// An article of which was told what is body.
struct Judged<'a> {
    /// For each passage whether it is.
    is_body: Vec<bool>,
    /// Which of the body passages stands in for a title.
    headline: usize,
    /// What these make. Where nothing is body, serving has its answer without looking at the terms, and there is nothing to be learnt: no document.
    document: Option<Document<'a>>,
}

impl Bodies {
    fn push(&mut self, judged: &Judged<'_>) {
        self.is_body.extend_from_slice(&judged.is_body);
        self.headlines.push(judged.headline);
        self.ends.push(self.is_body.len());
    }

    fn of(&self, article: usize) -> &[bool] {
        let begin = if article == 0 { 0 } else { self.ends[article - 1] };
        &self.is_body[begin..self.ends[article]]
    }

    fn has_body(&self, article: usize) -> bool {
        self.of(article).contains(&true)
    }

    /// The document of an article, as [`judge`] made it.
    fn document<'a>(&self, at: usize, (title, text): (&'a str, &'a str)) -> Option<Document<'a>> {
        let passages = page::split(text).into_iter().zip(self.of(at));
        let body = passages.filter(|(_, is_body)| **is_body).map(|(passage, _)| passage.range);
        self.has_body(at).then(|| Document::article(title, text, body, self.headlines[at]))
    }

    /// The documents of some articles, of which the first is this one of all.
    fn documents<'a>(&self, first: usize, articles: &[(&'a str, &'a str)]) -> Vec<Option<Document<'a>>> {
        articles.par_iter().enumerate().map(|(at, article)| self.document(first + at, *article)).collect()
    }
}

/// Buffers for making vectors of a space, and what is known of its words.
struct Scratch {
    reading: Reading,
    tally: Tally,
    counts: TermCounts,
}

/// Makes the features of the articles of `corpus`, and their vectors.
///
/// # Errors
///
/// When what does not fit into memory can't be written to disk, or read from there.
pub(super) fn vectors(
    params: &TrainParams,
    corpus: &Corpus,
    role: Option<&RoleHead>,
    blocks: Vec<BlockConfig>,
    progress: &dyn Progress,
) -> Result<Vectors, TrainError> {
    make(params, corpus, role, blocks, progress).map_err(|source| params.disk(source))
}

fn make(
    params: &TrainParams,
    corpus: &Corpus,
    role: Option<&RoleHead>,
    blocks: Vec<BlockConfig>,
    progress: &dyn Progress,
) -> io::Result<Vectors> {
    // Leads that count for nothing are not worth their vectors.
    let wants_leads = params.lead_weight > 0.0;
    let mut bodies = Bodies::default();
    let mut counting = Counting::new(blocks, params.lexicon.clone(), &params.memory).recording(&params.memory);
    let waiting = Waiting::new("reading terms", corpus, progress);
    for chunk in 0..corpus.chunks() {
        let texts = corpus.texts(chunk)?;
        let articles: Vec<(&str, &str)> = texts.iter().collect();
        let judged = judge(&articles, role);
        judged.iter().for_each(|judged| bodies.push(judged));
        let with_leads = wants_leads && counting.is_recording();
        let shown = judged.par_iter().map(|judged| shown(judged.document.as_ref(), with_leads));
        counting.add(&shown.collect::<Vec<_>>())?;
        waiting.advance();
    }
    let has_body: Vec<bool> = (0..bodies.ends.len()).map(|at| bodies.has_body(at)).collect();
    let with_body = has_body.iter().filter(|has| **has).count();
    if with_body < has_body.len() {
        tracing::warn!(articles = has_body.len() - with_body, "articles without any body passage teach nothing");
    }
    let on_disk = counting.bytes_on_disk();
    let (space, recording) = counting.finish()?;
    tracing::info!(features = space.features(), on_disk, "terms counted");
    let words = WordCounter::new(&space, with_body);
    let maker = Maker { space: &space, words, wants_leads, scratch: Mutex::default() };
    let mut made =
        Made { matrix: SparseMatrix::within(&params.memory, &space), leads: Vec::new(), taken: Vec::with_capacity(with_body) };
    if let Some(recording) = recording {
        progress.stage("making vectors");
        recording.try_for_each(&space, |piece| maker.recorded(piece), |part| made.push(part, wants_leads))?;
    } else {
        let waiting = Waiting::new("making vectors", corpus, progress);
        let mut first = 0;
        for chunk in 0..corpus.chunks() {
            let texts = corpus.texts(chunk)?;
            let articles: Vec<(&str, &str)> = texts.iter().collect();
            let parts = shares(&bodies.documents(first, &articles), |documents| maker.read(documents));
            parts.into_iter().try_for_each(|part| made.push(part, wants_leads))?;
            first += articles.len();
            waiting.advance();
        }
    }
    let Made { mut matrix, leads, taken } = made;
    leads.into_iter().for_each(|led| matrix.append(led));
    let doubt = words.and_then(|words| words.limits(&taken));
    let (entries, in_memory, on_disk) = (matrix.entries(), matrix.bytes_in_memory(), matrix.bytes_on_disk());
    tracing::info!(articles = has_body.len(), entries, in_memory, on_disk, "vectors made");
    Ok(Vectors { space, matrix, has_body, doubt })
}

/// An article's document, with its lead where that is wanted.
fn shown<'a>(document: Option<&'a Document<'a>>, wants_leads: bool) -> Shown<'a> {
    Shown { document, lead: document.filter(|_| wants_leads).and_then(|document| document.lead(LEAD_WORDS)) }
}

/// What is made of some articles.
#[derive(Default)]
struct Part {
    rows: PackedRows,
    leads: PackedRows,
    taken: Vec<Census>,
}

/// Makes parts, from what was recorded or from documents that are read again.
struct Maker<'a> {
    space: &'a Space,
    words: Option<WordCounter<'a>>,
    wants_leads: bool,
    scratch: Mutex<Vec<Scratch>>,
}

impl Maker<'_> {
    fn recorded(&self, mut piece: Recorded<'_>) -> Part {
        let mut part = Part { rows: PackedRows::with_room(piece.terms()), ..Part::default() };
        let mut counts = TermCounts::default();
        while !piece.is_at_end() {
            let has = piece.next(&mut counts, |read, block, terms| part.taken.extend(self.census(read, block, terms)));
            part.rows.push(self.space, has.then_some(&counts));
            let has = has && piece.next(&mut counts, |_, _, _| {});
            if self.wants_leads {
                part.leads.push(self.space, has.then_some(&counts));
            }
        }
        part
    }

    fn read(&self, documents: &[Option<Document<'_>>]) -> Part {
        with_scratch(&self.scratch, |scratch| {
            let Part { mut rows, mut leads, mut taken } = Part::default();
            for document in documents {
                let Shown { document, lead } = shown(document.as_ref(), self.wants_leads);
                scratch.push(self.space, document, &mut rows, |read, block, terms| taken.extend(self.census(read, block, terms)));
                if self.wants_leads {
                    scratch.push(self.space, lead.as_ref(), &mut leads, |_, _, _| {});
                }
            }
            Part { rows, leads, taken }
        })
    }

    fn census(&self, words: usize, block: usize, terms: &[(u32, u32)]) -> Option<Census> {
        self.words.and_then(|counter| counter.take(words, block, terms))
    }
}

/// What was made of the articles so far.
struct Made {
    matrix: SparseMatrix,
    /// Rows of leads, which come behind all others.
    leads: Vec<Stored>,
    taken: Vec<Census>,
}

impl Made {
    fn push(&mut self, part: Part, with_leads: bool) -> io::Result<()> {
        let Self { matrix, leads, taken } = self;
        matrix.push(part.rows)?;
        if with_leads {
            leads.push(matrix.store(part.leads)?);
        }
        taken.extend(part.taken);
        Ok(())
    }
}

/// Somebody who waits for the chunks of a corpus.
struct Waiting<'a>(Option<&'a dyn Progress>);

impl<'a> Waiting<'a> {
    /// Of a single chunk only the beginning is told.
    fn new(name: &str, corpus: &Corpus, progress: &'a dyn Progress) -> Self {
        if corpus.chunks() > 1 {
            progress.pieces(name, corpus.chunks());
            return Self(Some(progress));
        }
        progress.stage(name);
        Self(None)
    }

    fn advance(&self) {
        if let Some(progress) = self.0 {
            progress.advance();
        }
    }
}

/// What `work` makes of each share of `all`, in order; shares are so small that all threads have enough to do to the end.
fn shares<T: Sync, U: Send>(all: &[T], work: impl Fn(&[T]) -> U + Send + Sync) -> Vec<U> {
    let share = all.len().div_ceil(8 * rayon::current_num_threads()).max(1);
    all.par_chunks(share).with_max_len(1).map(work).collect()
}

fn with_scratch<T>(pool: &Mutex<Vec<Scratch>>, work: impl FnOnce(&mut Scratch) -> T) -> T {
    let taken = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let new = || Scratch { reading: Reading::large(), tally: Tally::default(), counts: TermCounts::default() };
    let mut scratch = taken.unwrap_or_else(new);
    let done = work(&mut scratch);
    pool.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    done
}

impl Scratch {
    /// Adds the row of a document; `found` is told how many words it has, and of each block its terms with their counts.
    fn push(
        &mut self,
        space: &Space,
        document: Option<&Document<'_>>,
        rows: &mut PackedRows,
        mut found: impl FnMut(usize, usize, &[(u32, u32)]),
    ) {
        let Some(document) = document else { return rows.push(space, None) };
        let Self { reading, tally, counts } = self;
        reading.clear();
        let parts = reading.document(document);
        let words = reading.tokens().len();
        let tokens = Tokens { reading, parts: &parts, shape: &document.shape };
        space.counts(tally, &tokens, counts, |block, terms| found(words, block, terms));
        rows.push(space, Some(counts));
    }
}

/// A matrix in memory with a row for each document.
///
/// # Errors
///
/// When a share of the rows, of which each thread has several, takes more than four gigabytes.
pub(super) fn of_documents(space: &Space, documents: &[Document<'_>]) -> io::Result<SparseMatrix> {
    let scratch = Mutex::default();
    let parts = shares(documents, |documents| {
        with_scratch(&scratch, |scratch| {
            let mut rows = PackedRows::default();
            documents.iter().for_each(|document| scratch.push(space, Some(document), &mut rows, |_, _, _| {}));
            rows
        })
    });
    let mut matrix = SparseMatrix::within(&Memory::default(), space);
    parts.into_iter().try_for_each(|rows| matrix.push(rows))?;
    Ok(matrix)
}

/// Which passages of articles are body.
fn judge<'a>(articles: &[(&'a str, &'a str)], role: Option<&RoleHead>) -> Vec<Judged<'a>> {
    articles
        .par_iter()
        .map_init(<(Reading, RoleScratch)>::default, |(reading, scratch), (title, text)| {
            reading.clear();
            let verdicts = match role {
                Some(_) => {
                    let title = reading.read(title);
                    passages(role, scratch, reading, (title, text)).0
                }
                // Nothing has to be read to know that all of it is body.
                None => page::split(text).into_iter().map(RoleVerdict::body).collect(),
            };
            let is_body: Vec<bool> = verdicts.iter().map(|verdict| !verdict.is_noise).collect();
            let headline = headline(&verdicts);
            let document = is_body.contains(&true).then(|| Document::article(title, text, body(&verdicts), headline));
            Judged { is_body, headline, document }
        })
        .collect()
}
