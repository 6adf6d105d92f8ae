//! Cuts a page into passages.
//!
//! A page is any UTF-8 text. Passages are byte ranges into it as received: nothing is rewritten, and what lies
//! outside every passage is blank. A passage ends
//!
//! - at a line break, of whatever kind Unicode knows ([`is_line_break`]);
//! - within a line, at a run of three or more blanks, or at a tab: this is how collectors string headlines
//!   together. Two blanks are left alone, since people type them after a full stop.
//!
//! Invariants, held by property tests: passages are in order and disjoint, neither empty nor blank, begin and end on
//! character boundaries with a character that is not blank, and cover every character that is not blank.

use std::ops::Range;

/// The least number of blanks in a row that separates two passages of a line.
const GAP: usize = 3;

/// A stretch of the page that is either article or noise as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Bytes of the page's text, without the blanks around.
    pub range: Range<usize>,
    /// Line breaks before the passage; `\r\n` counts as one.
    pub line: usize,
}

impl Passage {
    /// The passage's text within the `page` that it was cut from.
    ///
    /// # Panics
    ///
    /// When `page` is another text, where the range lies off its end or its character boundaries.
    #[must_use]
    pub fn text<'a>(&self, page: &'a str) -> &'a str {
        &page[self.range.clone()]
    }
}

/// Whether `c` ends a line: line feed, carriage return, vertical tab, form feed, next line, and the line and paragraph
/// separators (Unicode Standard, section 5.8).
#[must_use]
pub fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Whether `c` is invisible and has no width: zero-width spaces and joiners, the byte order mark, the soft hyphen.
/// Such a character neither ends a word nor makes a passage.
#[must_use]
pub fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// Whether nothing of `c` can be seen.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || is_ignorable(c)
}

/// Cuts `text` into its passages, in order.
///
/// ```
/// let page = "Un titre   Un autre\n\nUn paragraphe.";
/// let passages = depeche::page::split(page);
/// let texts: Vec<&str> = passages.iter().map(|passage| passage.text(page)).collect();
/// assert_eq!(texts, ["Un titre", "Un autre", "Un paragraphe."]);
/// ```
#[must_use]
pub fn split(text: &str) -> Vec<Passage> {
    let bytes = text.as_bytes();
    let mut passages = Vec::new();
    let (mut at, mut line, mut blanks) = (0, 0, 0);
    let mut open: Option<Range<usize>> = None;
    let mut previous = '\0';
    while at < bytes.len() {
        let begin = at;
        // Most characters are visible, and nothing has to be looked up to know it.
        while let Some(length) = bytes.get(at).and_then(|byte| visible(*byte)) {
            at += length;
        }
        let mut c = 'x';
        if at == begin {
            c = text[at..].chars().next().unwrap_or_default();
            at += c.len_utf8();
        }
        if is_line_break(c) {
            passages.extend(open.take().map(|range| Passage { range, line }));
            if !(c == '\n' && previous == '\r') {
                line += 1;
            }
            blanks = 0;
        } else if is_blank(c) {
            if c == '\t' {
                blanks = GAP;
            } else if c.is_whitespace() {
                blanks += 1;
            }
        } else {
            if blanks >= GAP {
                passages.extend(open.take().map(|range| Passage { range, line }));
            }
            blanks = 0;
            open.get_or_insert(begin..begin).end = at;
        }
        previous = c;
    }
    passages.extend(open.map(|range| Passage { range, line }));
    passages
}

/// The length in UTF-8 of the character that begins with `byte`, where that alone says that it is visible: the graphic characters of ASCII,
/// and the letters À to ÿ.
fn visible(byte: u8) -> Option<usize> {
    match byte {
        b'!'..=b'~' => Some(1),
        0xc3 => Some(2),
        _ => None,
    }
}

/// Whether `text` has no visible character, and so no passage.
#[must_use]
pub fn is_empty(text: &str) -> bool {
    text.chars().all(is_blank)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(page: &str) -> Vec<&str> {
        split(page).iter().map(|passage| passage.text(page)).collect()
    }

    #[test]
    fn cuts_at_every_kind_of_line_break() {
        assert_eq!(texts("a\nb\r\nc\rd\u{2028}e\u{2029}f\u{85}g\u{b}h\u{c}i"), ["a", "b", "c", "d", "e", "f", "g", "h", "i"]);
    }

    #[test]
    fn counts_a_carriage_return_with_its_line_feed_once() {
        let lines: Vec<usize> = split("a\r\nb\n\nc\r\rd").iter().map(|passage| passage.line).collect();
        assert_eq!(lines, [0, 1, 3, 5]);
    }

    #[test]
    fn cuts_a_line_at_three_blanks_or_a_tab_but_not_at_two() {
        assert_eq!(texts("Un.  Deux   Trois\tQuatre"), ["Un.  Deux", "Trois", "Quatre"]);
        assert_eq!(texts("Un\u{a0}\u{a0}\u{a0}\u{a0}Deux"), ["Un", "Deux"]);
    }

    #[test]
    fn zero_width_characters_do_not_count_as_blanks() {
        assert_eq!(texts("Un \u{200b}\u{200b} Deux"), ["Un \u{200b}\u{200b} Deux"]);
    }

    #[test]
    fn leaves_blanks_out_at_both_ends_and_keeps_marks_and_emoji_whole() {
        let page = " \u{feff}e\u{301}te\u{301} 👩\u{200d}🚀\u{a0}\n\u{200b}\n";
        assert_eq!(texts(page), ["e\u{301}te\u{301} 👩\u{200d}🚀"]);
        assert!(split("\u{200b} \n\t").is_empty());
        assert!(is_empty("\u{200b} \n\t"));
    }

    proptest! {
        #[test]
        fn passages_are_ordered_trimmed_and_cover_all_that_is_visible(text in r"(?s)([a\n\r\t \u{a0}\u{200b}\u{301}é🚀.]|.){0,80}") {
            let passages = split(&text);
            let mut outside = String::new();
            let mut end = 0;
            for passage in &passages {
                prop_assert!(passage.range.start >= end && passage.range.start < passage.range.end);
                outside.push_str(&text[end..passage.range.start]);
                end = passage.range.end;
                let inside = passage.text(&text);
                prop_assert!(!inside.chars().next().is_none_or(is_blank) && !inside.chars().last().is_none_or(is_blank));
                prop_assert!(!inside.chars().any(is_line_break));
            }
            outside.push_str(&text[end..]);
            prop_assert!(outside.chars().all(is_blank));
        }
    }
}
