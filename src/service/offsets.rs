//! Byte offsets to the units that the caller counts in.

use super::pb::OffsetEncoding;

/// Bytes between two remembered places.
const STEP: usize = 256;

/// Converts byte offsets into one text.
#[derive(Debug)]
pub struct Offsets<'a> {
    text: &'a str,
    encoding: OffsetEncoding,
    /// For each multiple of [`STEP`] the units before it, counting only characters that begin before it. Empty where a
    /// unit is a byte.
    marks: Vec<i32>,
}

impl<'a> Offsets<'a> {
    /// Prepares conversion in `text`, in one pass over it.
    #[must_use]
    pub fn new(text: &'a str, encoding: OffsetEncoding) -> Self {
        let mut marks = Vec::new();
        if !Self::is_bytes(text, encoding) {
            let mut units = 0;
            for (at, c) in text.char_indices() {
                while marks.len() * STEP <= at {
                    marks.push(units);
                }
                units += Self::units(c, encoding);
            }
        }
        Self { text, encoding, marks }
    }

    /// The units before `byte`, which must lie on a character boundary of the text; the end of the text where it lies
    /// beyond.
    #[must_use]
    pub fn convert(&self, byte: usize) -> i32 {
        let byte = byte.min(self.text.len());
        if self.marks.is_empty() {
            return i32::try_from(byte).unwrap_or(i32::MAX);
        }
        let mark = (byte / STEP).min(self.marks.len() - 1);
        // The mark counts whole characters: those from the first boundary at or behind it are still to be counted.
        let from = (mark * STEP..self.text.len()).find(|at| self.text.is_char_boundary(*at)).unwrap_or(self.text.len());
        let rest = self.text.get(from..byte.max(from)).unwrap_or_default();
        self.marks[mark] + rest.chars().map(|c| Self::units(c, self.encoding)).sum::<i32>()
    }

    fn is_bytes(text: &str, encoding: OffsetEncoding) -> bool {
        matches!(encoding, OffsetEncoding::Unspecified | OffsetEncoding::Utf8) || text.is_ascii()
    }

    fn units(c: char, encoding: OffsetEncoding) -> i32 {
        match encoding {
            OffsetEncoding::Utf32 => 1,
            OffsetEncoding::Utf16 if c.len_utf16() == 2 => 2,
            OffsetEncoding::Utf16 => 1,
            OffsetEncoding::Unspecified | OffsetEncoding::Utf8 => i32::try_from(c.len_utf8()).unwrap_or(4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_by_hand() {
        // é: 2 bytes, 1 unit, 1 point; 🚀: 4 bytes, 2 units, 1 point.
        let text = "é🚀a";
        let at = |encoding| [0, 2, 6, 7].map(|byte| Offsets::new(text, encoding).convert(byte));
        assert_eq!(at(OffsetEncoding::Unspecified), [0, 2, 6, 7]);
        assert_eq!(at(OffsetEncoding::Utf8), [0, 2, 6, 7]);
        assert_eq!(at(OffsetEncoding::Utf16), [0, 1, 3, 4]);
        assert_eq!(at(OffsetEncoding::Utf32), [0, 1, 2, 3]);
    }

    proptest! {
        #[test]
        fn every_boundary_equals_a_count_from_the_start(text in "(?s)[aé🚀€]{0,700}") {
            for encoding in [OffsetEncoding::Utf16, OffsetEncoding::Utf32] {
                let offsets = Offsets::new(&text, encoding);
                for (at, _) in text.char_indices().chain([(text.len(), ' ')]) {
                    let expected: i32 = text[..at].chars().map(|c| Offsets::units(c, encoding)).sum();
                    prop_assert_eq!(offsets.convert(at), expected);
                }
            }
        }
    }
}
