//! Labelled articles, of which the texts may be too many for the memory.
//!
//! What is said of an article is at hand; titles and texts lie in chunks of some megabytes, in memory as far as
//! there is room, in a [temporary file](crate::spill) beyond that, and are worked on a chunk at a time.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::corpus::{CorpusError, FieldNames, LabelledArticle, check_ids, read_each};
use crate::model::file::hexadecimal;
use crate::spill::{Memory, Spill};

/// What is said of an article.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Its id.
    pub id: Box<str>,
    /// Its topic.
    pub topic: Arc<str>,
    /// The stance of its source, where it has one.
    pub stance: Option<Arc<str>>,
    /// What it belongs with, where that is known.
    pub group: Option<Box<str>>,
    /// What the folds keep whole, where that is not the group.
    pub fold: Option<Arc<str>>,
    /// Where it was read: file and line.
    pub source: (Arc<Path>, usize),
}

/// Labelled articles to train on.
#[derive(Debug)]
pub struct Corpus {
    labels: Vec<Labels>,
    chunks: Vec<Chunk>,
    memory: Memory,
    /// Bytes of text in memory.
    bytes: u64,
    file: Spill,
    /// The chunk that articles are added to: their titles and texts, one behind the other.
    open: (Vec<Bounds>, String),
    /// Strings that many articles share.
    shared: HashSet<Arc<str>>,
    /// Of all articles, taken as they come so that no text has to be read again for it.
    digest: DataDigest,
}

/// SHA-256 of data, each part preceded by its length.
#[derive(Debug, Clone, Default)]
pub struct DataDigest(Sha256);

impl DataDigest {
    /// Adds a part.
    pub fn add(&mut self, part: &str) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// The digest of all that was added, in lower-case hexadecimal.
    #[must_use]
    pub fn hexadecimal(self) -> String {
        hexadecimal(&self.0.finalize())
    }
}

/// Where title and text of an article end in their chunk.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    title: usize,
    text: usize,
}

/// Titles and texts of some articles.
#[derive(Debug)]
struct Chunk {
    first: usize,
    bounds: Vec<Bounds>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(String),
    /// In the file, from this byte on.
    Disk(u64),
}

/// Titles and texts of a chunk.
#[derive(Debug)]
pub struct Texts<'a> {
    bounds: &'a [Bounds],
    texts: Cow<'a, str>,
}

impl Texts<'_> {
    /// Titles and texts, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.bounds.len()).map(|at| self.article(at))
    }

    fn article(&self, at: usize) -> (&str, &str) {
        let begin = if at == 0 { 0 } else { self.bounds[at - 1].text };
        let Bounds { title, text } = self.bounds[at];
        (&self.texts[begin..title], &self.texts[title..text])
    }
}

impl Corpus {
    /// A corpus without articles, whose texts take so much `memory`.
    #[must_use]
    pub fn new(memory: &Memory) -> Self {
        Self {
            labels: Vec::new(),
            chunks: Vec::new(),
            memory: memory.clone(),
            bytes: 0,
            file: Spill::new(memory),
            open: (Vec::new(), String::new()),
            shared: HashSet::new(),
            digest: DataDigest::default(),
        }
    }

    /// Reads the articles of all `files`, in order.
    ///
    /// # Errors
    ///
    /// [`CorpusError`], as in [`super::corpus::read`], and when texts can't be written to disk.
    pub fn read(files: &[PathBuf], fields: &FieldNames, memory: &Memory) -> Result<Self, CorpusError> {
        let mut corpus = Self::new(memory);
        read_each(files, fields, |article| corpus.push(article).map_err(|source| CorpusError::disk(memory, source)))?;
        let sources = corpus.labels.iter().map(|labels| (&*labels.id, (&*labels.source.0, labels.source.1)));
        check_ids(sources, fields)?;
        Ok(corpus)
    }

    /// A corpus of `articles`, in memory.
    #[must_use]
    pub fn in_memory(articles: impl IntoIterator<Item = LabelledArticle>) -> Self {
        let mut corpus = Self::new(&Memory::default());
        // Nothing is written where there is no limit.
        articles.into_iter().for_each(|article| corpus.push(article).unwrap_or_default());
        corpus
    }

    /// Adds an article.
    ///
    /// # Errors
    ///
    /// When texts can't be written to disk.
    pub fn push(&mut self, article: LabelledArticle) -> io::Result<()> {
        let LabelledArticle { id, title, text, topic, stance, group, fold, source: (file, line) } = article;
        let open = self.open.1.len();
        if open > 0 && (open + title.len() + text.len()) as u64 > self.memory.chunk() {
            self.close()?;
        }
        let file = match self.labels.last() {
            Some(last) if *last.source.0 == *file => Arc::clone(&last.source.0),
            _ => Arc::from(file),
        };
        [&id, &title, &text, &topic].into_iter().for_each(|part| self.digest.add(part));
        [&stance, &group].into_iter().for_each(|part| self.digest.add(part.as_deref().unwrap_or("")));
        fold.iter().for_each(|part| self.digest.add(part));
        let mut shared = |label: String| match self.shared.get(label.as_str()) {
            Some(shared) => Arc::clone(shared),
            None => {
                let label: Arc<str> = Arc::from(label);
                self.shared.insert(Arc::clone(&label));
                label
            }
        };
        self.labels.push(Labels {
            id: id.into(),
            topic: shared(topic),
            stance: stance.map(&mut shared),
            group: group.map(String::into_boxed_str),
            fold: fold.map(shared),
            source: (file, line),
        });
        let (bounds, texts) = &mut self.open;
        texts.push_str(&title);
        let title = texts.len();
        texts.push_str(&text);
        bounds.push(Bounds { title, text: texts.len() });
        Ok(())
    }

    /// Puts the open chunk behind the others.
    fn close(&mut self) -> io::Result<()> {
        let size = self.open.1.len() as u64;
        let on_disk = match self.bytes.saturating_add(size) > self.memory.texts() {
            true => Some(self.file.append(self.open.1.as_bytes())?),
            false => None,
        };
        // Nothing is taken before it is written.
        let (mut bounds, mut texts) = std::mem::take(&mut self.open);
        bounds.shrink_to_fit();
        let place = on_disk.map_or_else(
            || {
                texts.shrink_to_fit();
                self.bytes += size;
                Place::Memory(texts)
            },
            Place::Disk,
        );
        self.chunks.push(Chunk { first: self.labels.len() - bounds.len(), bounds, place });
        Ok(())
    }

    /// What is said of the articles, in order.
    #[must_use]
    pub fn labels(&self) -> &[Labels] {
        &self.labels
    }

    /// What is said of the articles, without their texts.
    #[must_use]
    pub fn into_labels(self) -> Vec<Labels> {
        self.labels
    }

    /// The digest of all articles, in their order.
    #[must_use]
    pub fn digest(&self) -> &DataDigest {
        &self.digest
    }

    /// How many chunks of texts there are.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.chunks.len() + usize::from(!self.open.0.is_empty())
    }

    /// The texts of a chunk; none, where there is no such chunk.
    ///
    /// # Errors
    ///
    /// When they can't be read from disk.
    pub fn texts(&self, chunk: usize) -> io::Result<Texts<'_>> {
        let Some(Chunk { bounds, place, .. }) = self.chunks.get(chunk) else {
            let open = if chunk == self.chunks.len() { self.open.0.as_slice() } else { &[] };
            return Ok(Texts { bounds: open, texts: Cow::Borrowed(&self.open.1) });
        };
        let texts = match place {
            Place::Memory(texts) => Cow::Borrowed(texts.as_str()),
            Place::Disk(begin) => Cow::Owned(self.on_disk(*begin, 0..bounds.last().map_or(0, |last| last.text))?),
        };
        Ok(Texts { bounds, texts })
    }

    /// Title and text of an article.
    ///
    /// # Errors
    ///
    /// When they can't be read from disk.
    ///
    /// # Panics
    ///
    /// When there is no such article.
    pub fn article(&self, at: usize) -> io::Result<(String, String)> {
        let chunk = self.chunks.partition_point(|chunk| chunk.first + chunk.bounds.len() <= at);
        let first = self.chunks.get(chunk).map_or(self.labels.len() - self.open.0.len(), |chunk| chunk.first);
        if let Some(Chunk { bounds, place: Place::Disk(begin), .. }) = self.chunks.get(chunk) {
            let start = if at == first { 0 } else { bounds[at - first - 1].text };
            let Bounds { title, text } = bounds[at - first];
            return Ok((self.on_disk(*begin, start..title)?, self.on_disk(*begin, title..text)?));
        }
        let texts = self.texts(chunk)?;
        let (title, text) = texts.article(at - first);
        Ok((title.to_owned(), text.to_owned()))
    }

    fn on_disk(&self, begin: u64, range: Range<usize>) -> io::Result<String> {
        let mut bytes = vec![0; range.len()];
        self.file.read(begin + range.start as u64, &mut bytes)?;
        String::from_utf8(bytes).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn articles() -> Vec<LabelledArticle> {
        let article = |n: usize| LabelledArticle {
            id: format!("{n}"),
            title: if n.is_multiple_of(3) { String::new() } else { format!("Titre {n}") },
            text: "é".repeat(n % 7 + 1),
            topic: ["a", "b"][n % 2].into(),
            source: ("file".into(), n),
            ..LabelledArticle::default()
        };
        (0..40).map(article).collect()
    }

    #[test]
    fn articles_are_the_same_in_memory_and_on_disk() {
        let written: Vec<bool> = [None, Some(64 * 30), Some(64 * 4)]
            .into_iter()
            .map(|limit| {
                let memory = Memory::new(limit, std::env::temp_dir());
                let mut corpus = Corpus::new(&memory);
                articles().into_iter().for_each(|article| corpus.push(article).unwrap());
                let mut read = Vec::new();
                for chunk in 0..corpus.chunks() {
                    let texts = corpus.texts(chunk).unwrap();
                    read.extend(texts.iter().map(|(title, text)| (title.to_owned(), text.to_owned())));
                }
                let expected: Vec<_> = articles().into_iter().map(|article| (article.title, article.text)).collect();
                assert_eq!(read, expected);
                assert_eq!((0..40).map(|at| corpus.article(at).unwrap()).collect::<Vec<_>>(), expected);
                assert_eq!(&*corpus.labels()[7].topic, "b");
                memory.written() > 0
            })
            .collect();
        assert_eq!(written, [false, true, true]);
    }
}
