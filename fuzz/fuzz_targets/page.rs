//! Cutting a page into passages holds what `depeche::page` promises of any text:
//!
//! - passages are in order and disjoint, lie on character boundaries, and begin and end with a character that can be seen;
//! - what lies outside every passage is blank, so a text is empty just where it has no passage;
//! - a passage has no line break, no tab and no run of three blanks within; between two of one line lies a tab or such a run;
//! - its line is the number of line breaks before it.

#![no_main]

use depeche::page::{self, Passage};
use libfuzzer_sys::fuzz_target;

/// Blanks in a row that separate two passages of a line.
const GAP: usize = 3;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let passages = page::split(&text);
    assert_eq!(page::is_empty(&text), passages.is_empty());
    let mut before: Option<&Passage> = None;
    for passage in &passages {
        let gap = &text[before.map_or(0, |before| before.range.end)..passage.range.start];
        check_gap(gap, passage.line - before.map_or(0, |before| before.line), before.is_none());
        check_inside(passage.text(&text));
        before = Some(passage);
    }
    let rest = &text[before.map_or(0, |before| before.range.end)..];
    assert!(page::is_empty(rest), "{rest:?} is left out");
});

/// Checks what lies before a passage that is so many `lines` below the one before it.
fn check_gap(gap: &str, lines: usize, is_first: bool) {
    assert!(page::is_empty(gap), "{gap:?} is left out");
    assert_eq!(line_breaks(gap), lines, "{gap:?}");
    assert!(is_first || lines > 0 || separates(gap), "{gap:?} cuts a line");
}

fn check_inside(text: &str) {
    let is_visible = |c: Option<char>| c.is_some_and(|c| !page::is_empty(c.encode_utf8(&mut [0; 4])));
    assert!(is_visible(text.chars().next()) && is_visible(text.chars().next_back()), "{text:?} has blanks around");
    assert_eq!(line_breaks(text), 0, "{text:?}");
    let mut blanks = String::new();
    for c in text.chars() {
        if c.is_whitespace() || page::is_ignorable(c) {
            blanks.push(c);
        } else {
            assert!(!separates(&blanks), "{text:?} is not cut");
            blanks.clear();
        }
    }
}

/// Whether these blanks separate two passages of a line.
fn separates(blanks: &str) -> bool {
    blanks.contains('\t') || blanks.chars().filter(|c| c.is_whitespace()).count() >= GAP
}

/// Line breaks in `text`; a carriage return with its line feed is one.
fn line_breaks(text: &str) -> usize {
    text.replace("\r\n", "\n").chars().filter(|c| page::is_line_break(*c)).count()
}
