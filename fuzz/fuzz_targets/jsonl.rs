//! Files of training data hold what `depeche::train::corpus` and `depeche::train::pages` promise of any bytes:
//!
//! - they are read or refused, and a refusal names the file and a line that it has;
//! - articles have a text and a topic that are not blank, an id that stands once, and lines in order;
//! - names of fields that are given must be in the file;
//! - a packed file reads as the file that was packed, and a table made of the articles reads as the articles;
//! - the passages of a marked page are those of `depeche::page`, each with a kind.
//!
//! The first byte of an input says what kind of file it is: see [`Kind`].

#![no_main]

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;

use depeche::page;
use depeche::train::corpus::{self, CorpusError, LabelledArticle};
use depeche::train::{FieldNames, pages};
use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use tempfile::{Builder, NamedTempFile};

/// What is made of the bytes after the first.
enum Kind {
    /// Articles in a file whose name ends so.
    Articles(&'static str),
    /// Articles as JSON Lines, packed here.
    Packed,
    /// Articles whose fields have names of their own.
    Named(&'static str),
    /// Marked pages.
    Pages,
}

impl Kind {
    fn of(byte: u8) -> Self {
        match byte {
            b'c' => Self::Articles(".csv"),
            b't' => Self::Articles(".tsv"),
            b'g' => Self::Articles(".jsonl.gz"),
            b'z' => Self::Packed,
            b'n' => Self::Named(".jsonl"),
            b'm' => Self::Named(".csv"),
            b'p' => Self::Pages,
            _ => Self::Articles(".jsonl"),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let default = FieldNames::default();
    match Kind::of(*kind) {
        Kind::Articles(ending) => drop(articles(bytes, ending, &default)),
        Kind::Packed => check_packed(bytes),
        Kind::Named(ending) => {
            let given = |name: &str| Some(name.to_owned());
            let fields = FieldNames { id: given("nr"), text: given("corps"), group: given("cas"), ..FieldNames::default() };
            let named = articles(bytes, ending, &fields);
            let text = String::from_utf8_lossy(bytes);
            assert!(named.is_none() || ["nr", "corps", "cas"].iter().all(|name| text.contains(name) || text.contains('\\')));
        }
        Kind::Pages => check_pages(bytes),
    }
});

fn file(bytes: &[u8], ending: &str) -> NamedTempFile {
    let mut file = Builder::new().prefix("depeche-fuzz-").suffix(ending).tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// The articles of a file, checked; nothing where it is refused.
fn articles(bytes: &[u8], ending: &str, fields: &FieldNames) -> Option<Vec<LabelledArticle>> {
    let file = file(bytes, ending);
    let path = file.path().to_owned();
    let read = corpus::read(std::slice::from_ref(&path), fields).map_err(|error| check_refusal(&error, &path, bytes, ending));
    let articles = read.ok()?;
    assert!(!articles.is_empty());
    let mut ids = HashSet::new();
    for article in &articles {
        assert!(!page::is_empty(&article.text) && !page::is_empty(&article.topic), "{article:?}");
        assert!(article.stance.iter().chain(&article.group).all(|label| !page::is_empty(label)), "{article:?}");
        assert!(ids.insert(&article.id), "{article:?} comes twice");
        assert!(article.source.0 == path && (1..=lines(bytes, ending)).contains(&article.source.1), "{article:?}");
    }
    assert!(articles.is_sorted_by_key(|article| article.source.1));
    check_table(&articles, fields);
    Some(articles)
}

fn check_refusal(error: &CorpusError, path: &PathBuf, bytes: &[u8], ending: &str) {
    let message = error.to_string();
    match error {
        CorpusError::Read { file, .. } => assert!(file == path && ending.ends_with(".gz"), "{message}"),
        CorpusError::Encoding { file, line, .. }
        | CorpusError::Syntax { file, line, .. }
        | CorpusError::Field { file, line, .. } => {
            assert!(file == path && (1..=lines(bytes, ending)).contains(line), "{message}");
        }
        CorpusError::Kind { .. } | CorpusError::Disk { .. } => panic!("{message}"),
        CorpusError::Unusable(_) => assert!(message.contains(&*path.to_string_lossy()), "{message}"),
    }
}

/// The greatest number that a line of a file can have; a packed file has as many as it may.
fn lines(bytes: &[u8], ending: &str) -> usize {
    if ending.ends_with(".gz") { usize::MAX } else { 1 + bytes.iter().filter(|byte| **byte == b'\n').count() }
}

/// Writes `articles` as a table and reads them again.
fn check_table(articles: &[LabelledArticle], fields: &FieldNames) {
    let name = |given: &Option<String>, default: &str| given.clone().unwrap_or(default.to_owned());
    let columns = [
        name(&fields.text, "text"),
        name(&fields.id, "id"),
        "title".into(),
        "topic".into(),
        "stance".into(),
        name(&fields.group, "group"),
    ];
    let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(Vec::new());
    writer.write_record(&columns).unwrap();
    for LabelledArticle { id, title, text, topic, stance, group, .. } in articles {
        let absent = String::new();
        let values = [text, id, title, topic, stance.as_ref().unwrap_or(&absent), group.as_ref().unwrap_or(&absent)];
        writer.write_record(values).unwrap();
    }
    let table = file(&writer.into_inner().unwrap(), ".csv");
    let again = corpus::read(&[table.path().to_owned()], fields).unwrap();
    let without_source = |articles: &[LabelledArticle]| {
        let source = (PathBuf::new(), 0);
        articles.iter().map(|article| LabelledArticle { source: source.clone(), ..article.clone() }).collect::<Vec<_>>()
    };
    assert_eq!(without_source(&again), without_source(articles));
}

/// Packs `bytes` in two members, as tools that append do, and reads both forms.
fn check_packed(bytes: &[u8]) {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let pack = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let fields = FieldNames::default();
    let packed = articles(&[pack(first), pack(second)].concat(), ".jsonl.gz", &fields);
    let plain = articles(bytes, ".jsonl", &fields);
    let parts = |articles: Option<Vec<LabelledArticle>>| {
        articles
            .map(|articles| articles.into_iter().map(|article| (article.source.1, article.id, article.text)).collect::<Vec<_>>())
    };
    assert_eq!(parts(packed), parts(plain));
}

fn check_pages(bytes: &[u8]) {
    let file = file(bytes, ".jsonl");
    let path = file.path().to_owned();
    match pages::read(std::slice::from_ref(&path)) {
        Ok(pages) => {
            assert!(!pages.is_empty());
            for page in pages {
                let (passages, kinds): (Vec<_>, Vec<_>) = page.passages.into_iter().unzip();
                assert_eq!(passages, page::split(&page.text));
                assert!(!passages.is_empty() && kinds.iter().all(|kind| !kind.trim().is_empty()));
            }
        }
        Err(error) => check_refusal(&error, &path, bytes, ".jsonl"),
    }
}
