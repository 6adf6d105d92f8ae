//! Reading words holds what `depeche::terms` and `depeche::features::reading` promise of any text:
//!
//! - words are in order and disjoint, lie on character boundaries, and are in NFC and lower case as the reader itself reads them;
//! - both ways of reading give the same words at the same places;
//! - n-grams lie within their word, have their sizes, and are the same from either way of making them;
//! - a reading has the same words as tokens, with their capitals, sentences and quotation marks, however often it is cleared.

#![no_main]

use std::ops::Range;

use depeche::features::Reading;
use depeche::features::reading::between;
use depeche::terms::{Reader, Word};
use libfuzzer_sys::fuzz_target;

/// Sizes of n-grams, as the built-in model has them and one beyond either end.
const SIZES: Range<usize> = 1..8;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let words = read(&text);
    let mut fast = Vec::new();
    Reader::default().words(&text, |word, source| fast.push((String::from_utf8_lossy(word).into_owned(), source)));
    assert_eq!(words, fast);
    let mut reader = Reader::default();
    for (word, _) in &words {
        let again = reader.word(word);
        assert_eq!((again.text(), again.source()), (word.as_str(), 0..word.len()));
    }
    let mut reading = Reading::default();
    for _ in 0..2 {
        reading.clear();
        check_tokens(&mut reading, &text, &words);
        check_tokens(&mut reading, &text, &words);
    }
});

/// The words of `text` with their places, checked.
fn read(text: &str) -> Vec<(String, Range<usize>)> {
    let mut words: Vec<(String, Range<usize>)> = Vec::new();
    Reader::default().read(text, |word| {
        let source = word.source();
        assert!(words.last().map_or(0, |(_, before)| before.end) <= source.start && !text[source.clone()].is_empty());
        check_ngrams(word, text);
        words.push((word.text().to_owned(), source));
    });
    words
}

fn check_ngrams(word: Word<'_>, text: &str) {
    let padded = format!(" {} ", word.text());
    assert_eq!(word.length(), padded.chars().count());
    let mut ngrams = Vec::new();
    for (ngram, of) in word.ngrams(SIZES) {
        assert_eq!(ngram.chars().count(), of.len());
        assert!(padded.chars().skip(of.start).take(of.len()).eq(ngram.chars()));
        let source = word.source_of(of);
        assert!(word.source().start <= source.start && source.end <= word.source().end && text.get(source).is_some());
        ngrams.push(ngram);
    }
    let mut others = Vec::new();
    word.for_each_beginning(SIZES, |ngram| {
        others.push(ngram);
        true
    });
    ngrams.sort_unstable();
    others.sort_unstable();
    assert_eq!(ngrams, others);
}

/// Reads `text`, whose words are `words`, and checks its tokens.
fn check_tokens(reading: &mut Reading, text: &str, words: &[(String, Range<usize>)]) {
    let range = reading.read(text);
    assert_eq!(range.end, reading.tokens().len());
    let tokens = &reading.tokens()[range];
    assert_eq!(tokens.len(), words.len());
    let (mut end, mut quoted) = (0, false);
    for (token, (word, source)) in tokens.iter().zip(words) {
        let begins_sentence;
        (begins_sentence, quoted) = between(&text[end..source.start], quoted);
        end = source.end;
        assert_eq!(reading.words().term(token.word), word);
        assert_eq!((token.begins_sentence, token.quoted), (begins_sentence, quoted), "{word:?} of {text:?}");
        assert_eq!(token.capitalised, text[source.clone()].starts_with(char::is_uppercase), "{word:?} of {text:?}");
        let stem = (word.chars().count() >= 4).then(|| word.chars().take(6).collect::<String>());
        assert_eq!(reading.stem(token.word).is_some(), stem.is_some(), "{word:?}");
    }
}
