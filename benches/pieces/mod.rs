//! Texts of one size, for calls.

use std::path::PathBuf;

use depeche::train::corpus::{self, FieldNames};

/// The texts of all articles in some files, one behind the other. `label_field` holds a label, which is not looked at.
pub(crate) fn all_texts(files: &[PathBuf], label_field: &str) -> String {
    let fields = FieldNames { topic: Some(label_field.to_owned()), ..FieldNames::default() };
    let articles = corpus::read(files, &fields).unwrap();
    articles.into_iter().map(|article| article.text).collect::<Vec<_>>().join("\n")
}

/// A text cut into pieces of so many bytes; the last one is left out, unless there is no other.
pub(crate) fn pieces(all: &str, bytes: usize) -> Vec<String> {
    let (mut rest, mut pieces) = (all, Vec::new());
    while rest.len() > bytes {
        let end = (1..=bytes).rev().find(|at| rest.is_char_boundary(*at)).unwrap();
        let (piece, behind) = rest.split_at(end);
        pieces.push(piece.to_owned());
        rest = behind;
    }
    if pieces.is_empty() {
        pieces.push(all.to_owned());
    }
    pieces
}
