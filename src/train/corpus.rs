//! Labelled articles from files: JSON Lines (also gzipped), CSV and TSV.
//!
//! Every error names the file, the line (of the file, from 1) and the field.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::page;
use crate::spill::Memory;

/// The names of the columns (CSV, TSV) or keys (JSON Lines) that hold an article's parts. Absent: the default name,
/// which may be missing from the file. A name given must be there.
#[derive(Debug, Clone, Default)]
pub struct FieldNames {
    /// `id` by default; without it articles are numbered.
    pub id: Option<String>,
    /// `title` by default.
    pub title: Option<String>,
    /// `text` by default; never missing.
    pub text: Option<String>,
    /// `topic` by default; never missing.
    pub topic: Option<String>,
    /// `stance` by default.
    pub stance: Option<String>,
    /// `group` by default: articles of one group are never split between training and testing.
    pub group: Option<String>,
    /// What the folds keep whole instead, where one is given: such as the outlet, the year, or whoever wrote them.
    pub fold: Option<String>,
}

/// A labelled article.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelledArticle {
    /// Its id, unique in the corpus; where the data has none, the number of the file, from 1, and the line. Where a file lies says nothing
    /// of what is in it, so it leaves no trace in a model.
    pub id: String,
    /// Its title; empty where there is none.
    pub title: String,
    /// Its text.
    pub text: String,
    /// Its topic.
    pub topic: String,
    /// The stance of its source, where it has one.
    pub stance: Option<String>,
    /// What it belongs with, where that is known.
    pub group: Option<String>,
    /// What the folds keep whole, where that is not the group.
    pub fold: Option<String>,
    /// Where it was read: file and line.
    pub source: (PathBuf, usize),
}

/// Why a corpus can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A file can't be read or unpacked.
    #[error("can't read {file}")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file's ending is not known.
    #[error("{file}: unknown kind of file; expected .jsonl, .jsonl.gz, .csv or .tsv")]
    Kind {
        /// The file.
        file: PathBuf,
    },
    /// The file is no UTF-8 text.
    #[error("{file}, line {line}: not UTF-8 (byte {byte} of the file)")]
    Encoding {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
        /// The first byte that does not fit, from 0.
        byte: usize,
    },
    /// A line can't be understood.
    #[error("{file}, line {line}: {reason}")]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A field is missing, empty or of the wrong type.
    #[error("{file}, line {line}, field {field:?}: {reason}")]
    Field {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
        /// The field's name.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Texts that don't fit into memory can't be written to disk, or read from there.
    #[error("temporary files in {folder}")]
    Disk {
        /// The folder for temporary files.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The whole corpus can't be trained on.
    #[error("{0}")]
    Unusable(String),
}

/// Bytes that are read of a file at once.
const BUFFER: usize = 1 << 16;

/// Bytes of lines that are parsed at once, about.
const BATCH: usize = 1 << 20;

/// Lines that are parsed at once at most.
const BATCH_LINES: usize = 1 << 12;

const BYTE_ORDER_MARK: char = '\u{feff}';

impl CorpusError {
    /// The error of a temporary file.
    pub(super) fn disk(memory: &Memory, source: std::io::Error) -> Self {
        Self::Disk { folder: memory.folder.clone(), source }
    }
}

/// A row of a file: what each of the named fields holds.
type Row = HashMap<String, String>;

impl FieldNames {
    fn text(&self) -> &str {
        self.text.as_deref().unwrap_or("text")
    }

    fn topic(&self) -> &str {
        self.topic.as_deref().unwrap_or("topic")
    }

    /// Whether a part of an article has this name, given or default.
    fn has(&self, name: &str) -> bool {
        let names = [
            self.id.as_deref().unwrap_or("id"),
            self.title.as_deref().unwrap_or("title"),
            self.text(),
            self.topic(),
            self.stance.as_deref().unwrap_or("stance"),
            self.group.as_deref().unwrap_or("group"),
        ];
        names.contains(&name) || self.fold.as_deref() == Some(name)
    }

    /// The names that must be in each file: text, topic, and all that were given.
    fn required(&self) -> Vec<&str> {
        let given = [&self.id, &self.title, &self.stance, &self.group, &self.fold].into_iter().flatten().map(String::as_str);
        [self.text(), self.topic()].into_iter().chain(given).collect()
    }

    fn article(&self, (nth, file): (usize, &Path), line: usize, mut row: Row) -> Result<LabelledArticle, CorpusError> {
        let fail = |field: &str, reason: &str| CorpusError::Field {
            file: file.to_owned(),
            line,
            field: field.to_owned(),
            reason: reason.to_owned(),
        };
        // Which may be one of the others.
        let fold = self.fold.as_ref().and_then(|name| row.get(name)).filter(|value| !page::is_empty(value)).cloned();
        let mut take = |name: &Option<String>, default: &str| {
            row.remove(name.as_deref().unwrap_or(default)).filter(|value| !page::is_empty(value))
        };
        let article = LabelledArticle {
            id: take(&self.id, "id").unwrap_or_else(|| format!("{}:{line}", nth + 1)),
            title: take(&self.title, "title").unwrap_or_default(),
            text: take(&self.text, "text").ok_or_else(|| fail(self.text(), "the text is missing or blank"))?,
            topic: take(&self.topic, "topic")
                .ok_or_else(|| fail(self.topic(), "the label is missing or blank"))?
                .trim()
                .to_owned(),
            stance: take(&self.stance, "stance").map(|label| label.trim().to_owned()),
            group: take(&self.group, "group"),
            fold,
            source: (file.to_owned(), line),
        };
        Ok(article)
    }
}

/// Reads the articles of all `files`, in order, on the threads of rayon's pool.
///
/// # Errors
///
/// [`CorpusError`] for the first line that can't be used, for an id that appears twice, and when there is no article.
pub fn read(files: &[PathBuf], fields: &FieldNames) -> Result<Vec<LabelledArticle>, CorpusError> {
    let mut articles: Vec<LabelledArticle> = Vec::new();
    read_each(files, fields, |article| {
        articles.push(article);
        Ok(())
    })?;
    check_ids(articles.iter().map(|article| (article.id.as_str(), (article.source.0.as_path(), article.source.1))), fields)?;
    Ok(articles)
}

/// Hands the articles of all `files`, in order, to `found`. JSON Lines are read some lines at a time, tables a file at a time.
pub(super) fn read_each(
    files: &[PathBuf],
    fields: &FieldNames,
    mut found: impl FnMut(LabelledArticle) -> Result<(), CorpusError> + Send,
) -> Result<(), CorpusError> {
    for (nth, file) in files.iter().enumerate() {
        let name = file.to_string_lossy().to_lowercase();
        let mut is_empty = true;
        let article = |line: usize, row: Row| fields.article((nth, file), line, row);
        let add = |article: LabelledArticle| {
            is_empty = false;
            found(article)
        };
        if name.ends_with(".jsonl") || name.ends_with(".jsonl.gz") {
            read_json_lines(file, fields, article, add)?;
        } else if name.ends_with(".csv") {
            read_table((file, &read_text(file)?), b',', fields, article, add)?;
        } else if name.ends_with(".tsv") {
            read_table((file, &read_text(file)?), b'\t', fields, article, add)?;
        } else {
            return Err(CorpusError::Kind { file: file.clone() });
        }
        if is_empty {
            return Err(CorpusError::Unusable(format!("{}: no article in it", file.display())));
        }
    }
    Ok(())
}

/// Refuses an id that appears twice.
pub(super) fn check_ids<'a>(
    articles: impl Iterator<Item = (&'a str, (&'a Path, usize))>,
    fields: &FieldNames,
) -> Result<(), CorpusError> {
    let mut seen: HashMap<&str, (&Path, usize)> = HashMap::new();
    for (id, source) in articles {
        if let Some((first, line)) = seen.insert(id, source) {
            let reason = format!("the id {id:?} is already in {}, line {line}", first.display());
            let (file, line) = source;
            let field = fields.id.clone().unwrap_or("id".into());
            return Err(CorpusError::Field { file: file.to_owned(), line, field, reason });
        }
    }
    Ok(())
}

/// A file's bytes, unpacked where its name ends in `.gz`.
fn open(file: &Path) -> Result<Box<dyn BufRead + Send>, CorpusError> {
    let opened = File::open(file).map_err(|source| CorpusError::Read { file: file.to_owned(), source })?;
    let bytes = BufReader::with_capacity(BUFFER, opened);
    if file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz")) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(bytes))));
    }
    Ok(Box::new(bytes))
}

/// The text of a file, unpacked where its name ends in `.gz`, without a byte order mark.
fn read_text(file: &Path) -> Result<String, CorpusError> {
    let mut bytes = Vec::new();
    open(file)?.read_to_end(&mut bytes).map_err(|source| CorpusError::Read { file: file.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let byte = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..byte].iter().filter(|byte| **byte == b'\n').count();
        CorpusError::Encoding { file: file.to_owned(), line, byte }
    })?;
    Ok(text.strip_prefix(BYTE_ORDER_MARK).map(str::to_owned).unwrap_or(text))
}

/// The lines of a file, read some at a time.
struct Lines<'a> {
    file: &'a Path,
    /// What is left to read; nothing after the end, or after an error.
    rest: Option<Box<dyn BufRead + Send>>,
    /// Lines read so far, blank ones among them, and their bytes.
    read: (usize, usize),
}

/// Lines as they were read, and where each stands: its number, the byte of the file that it begins with, and its bytes here.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: Vec<(usize, usize, Range<usize>)>,
    /// Why the line behind these can't be read.
    error: Option<CorpusError>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.error.is_none()
    }

    /// What `parse` makes of each line, in order; lines are shared out among threads.
    fn parse<T: Send>(
        self,
        file: &Path,
        parse: &(impl Fn(usize, &str) -> Result<T, CorpusError> + Sync),
    ) -> Vec<Result<T, CorpusError>> {
        let of_line = |(line, begin, range): &(usize, usize, Range<usize>)| {
            let text = std::str::from_utf8(&self.bytes[range.clone()]).map_err(|error| {
                let byte = begin + error.valid_up_to();
                CorpusError::Encoding { file: file.to_owned(), line: *line, byte }
            })?;
            let text = if *line == 1 { text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text) } else { text };
            if text.trim().is_empty() { Ok(None) } else { parse(*line, text.strip_suffix('\n').unwrap_or(text)).map(Some) }
        };
        let parsed: Vec<Result<Option<T>, CorpusError>> = self.lines.par_iter().map(of_line).collect();
        parsed.into_iter().filter_map(Result::transpose).chain(self.error.map(Err)).collect()
    }
}

impl<'a> Lines<'a> {
    fn open(file: &'a Path) -> Result<Self, CorpusError> {
        Ok(Self { file, rest: Some(open(file)?), read: (0, 0) })
    }

    /// The next lines, of about [`BATCH`] bytes; none at the end.
    fn next(&mut self) -> Batch {
        let mut batch = Batch::default();
        while let Some(rest) = self.rest.as_mut().filter(|_| batch.bytes.len() < BATCH && batch.lines.len() < BATCH_LINES) {
            let begin = batch.bytes.len();
            match rest.read_until(b'\n', &mut batch.bytes) {
                Ok(0) => self.rest = None,
                Ok(length) => {
                    let (lines, bytes) = &mut self.read;
                    *lines += 1;
                    batch.lines.push((*lines, *bytes, begin..begin + length));
                    *bytes += length;
                }
                Err(source) => {
                    self.rest = None;
                    batch.error = Some(CorpusError::Read { file: self.file.to_owned(), source });
                }
            }
        }
        batch
    }
}

/// Hands what `parse` makes of each line of a file that is not blank, given with its number, to `found`, in order; lines end with a line feed. The file is unpacked
/// where its name ends in `.gz`, and read without a byte order mark. While some lines are read, those before them are parsed, and those before these are handed on:
/// on the threads of rayon's pool that the caller is in.
pub(super) fn for_each_line<T: Send>(
    file: &Path,
    parse: impl Fn(usize, &str) -> Result<T, CorpusError> + Sync,
    mut found: impl FnMut(T) -> Result<(), CorpusError> + Send,
) -> Result<(), CorpusError> {
    let mut lines = Lines::open(file)?;
    let (mut read, mut parsed) = (lines.next(), Vec::new());
    while !(read.is_empty() && parsed.is_empty()) {
        let hand_on = || parsed.into_iter().try_for_each(|parsed| found(parsed?));
        let (handed_on, next) = rayon::join(hand_on, || rayon::join(|| read.parse(file, &parse), || lines.next()));
        handed_on?;
        (parsed, read) = next;
    }
    Ok(())
}

/// Reads articles of JSON Lines. `article` makes one of a line's row.
fn read_json_lines(
    file: &Path,
    fields: &FieldNames,
    article: impl Fn(usize, Row) -> Result<LabelledArticle, CorpusError> + Sync,
    mut found: impl FnMut(LabelledArticle) -> Result<(), CorpusError> + Send,
) -> Result<(), CorpusError> {
    let required = fields.required();
    let mut is_missing = vec![true; required.len()];
    let mut is_blank = true;
    let parse = |line: usize, json: &str| {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json)
            .map_err(|error| CorpusError::Syntax { file: file.to_owned(), line, reason: no_object(&error) })?;
        let has: Vec<bool> = required.iter().map(|name| object.contains_key(*name)).collect();
        let mut row = Row::new();
        for (name, value) in object {
            match value {
                serde_json::Value::String(value) => drop(row.insert(name, value)),
                serde_json::Value::Number(value) => drop(row.insert(name, value.to_string())),
                serde_json::Value::Null => {}
                other @ (serde_json::Value::Bool(_) | serde_json::Value::Array(_) | serde_json::Value::Object(_)) => {
                    if fields.has(&name) {
                        let reason = format!("expected a string, found {other}");
                        return Err(CorpusError::Field { file: file.to_owned(), line, field: name, reason });
                    }
                }
            }
        }
        Ok((has, article(line, row)?))
    };
    for_each_line(file, parse, |(has, article)| {
        is_blank = false;
        is_missing.iter_mut().zip(has).for_each(|(is_missing, has)| *is_missing &= !has);
        found(article)
    })?;
    match required.iter().zip(is_missing).find(|(_, is_missing)| *is_missing) {
        Some((name, _)) if !is_blank => Err(missing_column(file, name, None)),
        _ => Ok(()),
    }
}

fn missing_column(file: &Path, name: &str, columns: Option<&csv::StringRecord>) -> CorpusError {
    let reason = columns.map_or("no line has this key".to_owned(), |columns| {
        format!("there is no such column; the columns are {}", columns.iter().collect::<Vec<_>>().join(", "))
    });
    CorpusError::Field { file: file.to_owned(), line: 1, field: name.to_owned(), reason }
}

fn read_table(
    (file, text): (&Path, &str),
    delimiter: u8,
    fields: &FieldNames,
    article: impl Fn(usize, Row) -> Result<LabelledArticle, CorpusError>,
    mut found: impl FnMut(LabelledArticle) -> Result<(), CorpusError>,
) -> Result<(), CorpusError> {
    check_quotes(file, text, char::from(delimiter))?;
    let syntax = |error: &csv::Error| {
        let line = error.position().map_or(0, csv::Position::line);
        CorpusError::Syntax {
            file: file.to_owned(),
            line: usize::try_from(line).unwrap_or(usize::MAX),
            reason: error.to_string(),
        }
    };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let columns = reader.headers().map_err(|error| syntax(&error))?.clone();
    let is_twice = |(at, name): &(usize, &str)| fields.has(name) && columns.iter().take(*at).any(|other| other == *name);
    if let Some((_, name)) = columns.iter().enumerate().find(is_twice) {
        let (file, field) = (file.to_owned(), name.to_owned());
        return Err(CorpusError::Field { file, line: 1, field, reason: "two columns have this name".into() });
    }
    if let Some(name) = fields.required().into_iter().find(|name| !columns.iter().any(|column| column == *name)) {
        return Err(missing_column(file, name, Some(&columns)));
    }
    // The csv crate's own lines stop before the line feed of a CRLF and before blank lines.
    let (mut line, mut counted) = (1, 0);
    for record in reader.records() {
        let record = record.map_err(|error| syntax(&error))?;
        let begin =
            record.position().map_or(0, |position| usize::try_from(position.byte()).unwrap_or(usize::MAX)).min(text.len());
        let begin = begin + text.as_bytes()[begin..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        line += text.as_bytes()[counted..begin].iter().filter(|byte| **byte == b'\n').count();
        counted = begin;
        let row = columns.iter().zip(&record).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        found(article(line, row)?)?;
    }
    Ok(())
}

/// Refuses a quoted field that is not closed, or goes on after its closing quote: the csv crate reads over both, and
/// one stray quote can swallow a thousand articles.
fn check_quotes(file: &Path, text: &str, delimiter: char) -> Result<(), CorpusError> {
    let (mut line, mut column, mut opened) = (1, 1, None);
    let mut at_start = true;
    let mut characters = text.chars().peekable();
    let fail = |line: usize, column: usize, reason: &str| {
        let reason = format!(
            "column {column}: {reason}; a field that begins with a quote must end with one, and quotes within are doubled"
        );
        Err(CorpusError::Syntax { file: file.to_owned(), line, reason })
    };
    while let Some(c) = characters.next() {
        let starts = std::mem::replace(&mut at_start, false);
        if opened.is_some() && c == '"' {
            if characters.next_if_eq(&'"').is_none() {
                opened = None;
                if characters.peek().is_some_and(|next| *next != delimiter && !matches!(next, '\n' | '\r')) {
                    return fail(line, column, "text after a closing quote");
                }
            }
        } else if c == '"' && starts {
            opened = Some((line, column));
        } else if opened.is_none() && c == delimiter {
            column += 1;
            at_start = true;
        } else if opened.is_none() && matches!(c, '\n' | '\r') {
            column = 1;
            at_start = true;
        }
        line += usize::from(c == '\n');
    }
    opened.map_or(Ok(()), |(line, column)| fail(line, column, "a quote that is never closed"))
}

/// How many articles each label has, in the order of the labels.
#[must_use]
pub fn counts<'a>(labels: impl IntoIterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for label in labels {
        *counts.entry(label).or_default() += 1;
    }
    counts
}

/// Why a line is not a JSON object.
#[must_use]
pub fn no_object(error: &serde_json::Error) -> String {
    format!("not a JSON object: {}", in_line(error))
}

/// What is wrong with a line of a file. The parser takes it for a text of its own, whose first line it is, and has no place for what is wrong as a whole.
pub(super) fn in_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column 0", "").replace(" at line 1 column ", " at column ")
}

/// Checks that a head can be trained on these labels: at least two of them, each with at least two articles.
///
/// # Errors
///
/// [`CorpusError::Unusable`] that names the `head` and the label.
pub fn check_labels(head: &str, counts: &BTreeMap<&str, usize>) -> Result<(), CorpusError> {
    if let Some((label, _)) = counts.iter().find(|(_, count)| **count < 2) {
        return Err(CorpusError::Unusable(format!("{head}: the label {label:?} has one article only; at least two are needed")));
    }
    match counts.len() {
        0 => Err(CorpusError::Unusable(format!("{head}: no article has a label"))),
        1 => {
            let label = counts.keys().next().copied().unwrap_or_default();
            Err(CorpusError::Unusable(format!("{head}: every article has the label {label:?}; at least two labels are needed")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
