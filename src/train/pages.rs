//! Marked pages: raw pages of which every passage has its kind.
//!
//! One JSON object a line: `{"text": …, "passages": [{"begin": …, "end": …, "kind": …}]}`, offsets in UTF-8 bytes of the
//! text. `group` names what the page belongs with, such as its event, where that is known: pages and articles of one group
//! are never split between training and testing. Other keys are passed over. Marks are in order and disjoint; each passage that [`crate::page::split`] finds
//! takes the kind of the mark that covers most of it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::corpus::{CorpusError, for_each_line, in_line};
use crate::page::{self, Passage};

/// A page with the kinds of its passages.
#[derive(Debug, Clone, PartialEq)]
pub struct MarkedPage {
    /// The page as received.
    pub text: String,
    /// Its passages, in order, each with its kind.
    pub passages: Vec<(Passage, String)>,
    /// What it belongs with, where that is known.
    pub group: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    text: String,
    passages: Vec<Mark>,
    #[serde(default)]
    group: Option<String>,
}

#[derive(Deserialize)]
struct Mark {
    begin: usize,
    end: usize,
    kind: String,
}

/// Reads the pages of all `files`, in order, on the threads of rayon's pool.
///
/// # Errors
///
/// [`CorpusError`] for the first line that can't be used: no JSON, a mark off the text or across another, a passage
/// without a mark.
pub fn read(files: &[PathBuf]) -> Result<Vec<MarkedPage>, CorpusError> {
    let mut pages = Vec::new();
    for file in files {
        let before = pages.len();
        let parse = |line: usize, json: &str| {
            let parsed: Line = serde_json::from_str(json).map_err(|error| CorpusError::Syntax {
                file: file.clone(),
                line,
                reason: format!("not a marked page: {}", in_line(&error)),
            })?;
            marked(file, line, parsed)
        };
        for_each_line(file, parse, |page| {
            pages.push(page);
            Ok(())
        })?;
        if pages.len() == before {
            return Err(CorpusError::Unusable(format!("{}: no page in it", file.display())));
        }
    }
    Ok(pages)
}

fn marked(file: &Path, line: usize, page: Line) -> Result<MarkedPage, CorpusError> {
    let fail = |field: String, reason: String| Err(CorpusError::Field { file: file.to_owned(), line, field, reason });
    if page::is_empty(&page.text) {
        return fail("text".into(), "the text is blank".into());
    }
    let mut end = 0;
    for (at, mark) in page.passages.iter().enumerate() {
        if mark.kind.trim().is_empty() {
            return fail(format!("passages[{at}].kind"), "the kind is empty".into());
        }
        if mark.begin < end || page.text.get(mark.begin..mark.end).is_none_or(str::is_empty) {
            let reason = format!(
                "bytes {}..{} are empty, cut a character, or lie off the text ({} bytes) or before the end of the mark before ({end})",
                mark.begin,
                mark.end,
                page.text.len()
            );
            return fail(format!("passages[{at}]"), reason);
        }
        end = mark.end;
    }
    let mut passages = Vec::new();
    for passage in page::split(&page.text) {
        let first = page.passages.partition_point(|mark| mark.end <= passage.range.start);
        let covered = |mark: &&Mark| mark.end.min(passage.range.end).saturating_sub(mark.begin.max(passage.range.start));
        let touching = page.passages[first..].iter().take_while(|mark| mark.begin < passage.range.end);
        let Some(mark) = touching.max_by_key(covered) else {
            let reason = format!("nothing marks the passage at bytes {}..{}", passage.range.start, passage.range.end);
            return fail("passages".into(), reason);
        };
        passages.push((passage, mark.kind.clone()));
    }
    Ok(MarkedPage { text: page.text, passages, group: page.group })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<MarkedPage, String> {
        let line = serde_json::from_str(json).map_err(|error| error.to_string())?;
        marked(Path::new("pages.jsonl"), 7, line).map_err(|error| error.to_string())
    }

    #[test]
    fn passages_take_the_kind_of_the_mark_that_covers_most_of_them() {
        let page = parse(
            r#"{"text": "Été   Menu\nUn deux", "passages": [{"begin": 0, "end": 5, "kind": "body"}, {"begin": 8, "end": 12, "kind": "boilerplate"}, {"begin": 13, "end": 15, "kind": "byline"}, {"begin": 15, "end": 20, "kind": "body"}]}"#,
        );
        let kinds: Vec<String> = page.unwrap().passages.into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(kinds, ["body", "boilerplate", "body"]);
    }

    #[test]
    fn bad_marks_are_refused_with_file_line_and_field() {
        let error = parse(r#"{"text": "Un\nDeux", "passages": [{"begin": 0, "end": 2, "kind": "body"}]}"#).unwrap_err();
        assert_eq!(error, r#"pages.jsonl, line 7, field "passages": nothing marks the passage at bytes 3..7"#);
        for (marks, field) in [
            (r#"{"begin": 0, "end": 9, "kind": "body"}"#, "passages[0]"),
            (r#"{"begin": 2, "end": 1, "kind": "body"}"#, "passages[0]"),
            (r#"{"begin": 0, "end": 1, "kind": "body"}"#, "passages[0]"),
            (r#"{"begin": 0, "end": 4, "kind": " "}"#, "passages[0].kind"),
            (r#"{"begin": 0, "end": 3, "kind": "body"}, {"begin": 2, "end": 5, "kind": "body"}"#, "passages[1]"),
        ] {
            let error = parse(&format!(r#"{{"text": "Été", "passages": [{marks}]}}"#)).unwrap_err();
            assert!(error.contains("line 7") && error.contains(field), "{error}");
        }
    }
}
