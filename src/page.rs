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

/// Whether `c` is invisible and has no width: zero-width spaces and joiners, marks of the direction of writing, the byte order mark, the soft hyphen.
/// Such a character neither ends a word nor makes a passage.
#[must_use]
pub fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
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
    let mut passages = Vec::new();
    let (mut at, mut line, mut blanks) = (0, 0, 0);
    let mut open: Option<Range<usize>> = None;
    let mut previous = '\0';
    while let Some(c) = text[at..].chars().next() {
        let begin = at;
        at += c.len_utf8();
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
            at += plain(&text.as_bytes()[at..]);
            open.get_or_insert(begin..begin).end = at;
        }
        previous = c;
    }
    passages.extend(open.map(|range| Passage { range, line }));
    passages
}

/// How many bytes at the beginning of `text` are visible characters with single spaces between them, the last of them visible: no more than that,
/// and hardly fewer. All that matters to a passage is behind them.
///
/// Reads eight bytes at a time, of each of which the highest bit tells whether to stop. A test for a byte of a value is wrong at
/// most above one where it is right (Warren, Hacker's Delight, 6-1), and only the lowest is looked at.
fn plain(text: &[u8]) -> usize {
    const HIGHEST: u64 = 0x8080_8080_8080_8080;
    let all = |byte: u8| u64::from_ne_bytes([byte; 8]);
    let mut length = 0;
    while let Some(chunk) = text[length..].first_chunk() {
        let bytes = u64::from_le_bytes(*chunk);
        let is_control = bytes.wrapping_sub(all(0x20)) & !bytes;
        // The first of U+0080 to U+00BF, among them blanks; all others of two bytes are visible.
        let other = bytes ^ all(0xc2);
        let is_latin_sign = other.wrapping_sub(all(1)) & !other;
        let has_three_bytes = bytes & bytes << 1 & bytes << 2;
        // This one is right everywhere: a space is to be told from one before another.
        let other = bytes ^ all(b' ');
        let is_space = !((other & !HIGHEST).wrapping_add(!HIGHEST) | other | !HIGHEST);
        let is_space_before_space = is_space & (is_space >> 8 | 0x80 << 56);
        let stops = (is_control | is_latin_sign | has_three_bytes | is_space_before_space) & HIGHEST;
        length += stops.trailing_zeros() as usize / 8;
        if stops != 0 {
            break;
        }
    }
    // Neither the first half of a character nor a space.
    let is_open = |byte: &u8| *byte == b' ' || *byte >= 0xc0;
    length - usize::from(text[..length].last().is_some_and(is_open))
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
        assert_eq!(texts("\u{202b}\u{2066}Niamey\u{2069}\u{202c}\n\u{202c}"), ["Niamey"]);
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
