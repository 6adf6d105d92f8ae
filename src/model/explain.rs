//! Explanation: what each term of an article contributed to a label's logit, and where it stands.
//!
//! A contribution is the feature's value times its weight, so that Σ contributions + omitted + bias = logit, whatever
//! the number of contributions asked for.

use std::collections::HashMap;
use std::ops::Range;

use super::head::Head;
use crate::features::{Document, Origin, Space};
use crate::terms::Reader;

/// Places of a term that are kept, the first ones: a text can hold a term hundreds of thousands of times.
pub const OCCURRENCES: usize = 100;

/// What one term contributed.
#[derive(Debug, Clone, PartialEq)]
pub struct Contribution {
    /// The term; character n-grams with the spaces at the ends of their word.
    pub term: String,
    /// The name of the block that it is a feature of.
    pub block: String,
    /// What it added to the logit.
    pub weight: f64,
    /// Where it stands in the article, in order; the first [`OCCURRENCES`].
    pub occurrences: Vec<Place>,
}

/// Where a term stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The field.
    pub origin: Origin,
    /// Bytes in that field.
    pub range: Range<usize>,
    /// Bytes of the word that the term is, or is part of.
    pub word: Range<usize>,
}

/// The greatest contributions to a logit, and the rest in one number.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Explanation {
    /// Greatest first, by absolute weight; equals in the order of blocks and terms.
    pub contributions: Vec<Contribution>,
    /// The sum of those left out.
    pub omitted_weight: f64,
}

/// A label's logit, as it came about.
#[derive(Debug, Clone, Copy)]
pub struct Weighing<'a> {
    /// The space that the article's features are in.
    pub space: &'a Space,
    /// The head that weighed them.
    pub head: &'a Head,
    /// The index of the label.
    pub label: usize,
    /// The article.
    pub document: &'a Document<'a>,
    /// Its vector in the space.
    pub entries: &'a [(u32, f64)],
}

/// Explains a logit by its `most` greatest contributions.
#[must_use]
pub fn explain(weighing: &Weighing<'_>, most: usize) -> Explanation {
    let Weighing { space, head, label, document, entries } = *weighing;
    // A head that leans on some blocks alone has zeros for the others, which explain nothing.
    let weight = |(feature, value): &(u32, f64)| (*feature, value * f64::from(head.weights[[*feature as usize, label]]));
    let mut weights: Vec<(u32, f64)> = entries.iter().map(weight).filter(|(_, weight)| *weight != 0.0).collect();
    weights.sort_unstable_by(|(left_at, left), (right_at, right)| right.abs().total_cmp(&left.abs()).then(left_at.cmp(right_at)));
    let omitted_weight = weights.iter().skip(most).map(|(_, weight)| weight).sum();
    weights.truncate(most);
    let mut contributions: Vec<Contribution> = weights
        .iter()
        .map(|(feature, weight)| {
            let (block, term) = space.term(*feature);
            let block = space.blocks()[block].config.name.clone();
            Contribution { term: term.to_owned(), block, weight: *weight, occurrences: Vec::new() }
        })
        .collect();
    if !contributions.is_empty() {
        let wanted: HashMap<u32, usize> = weights.iter().enumerate().map(|(at, (feature, _))| (*feature, at)).collect();
        space.read(&mut Reader::default(), document, |occurrence| {
            let feature = space.feature(occurrence.block, occurrence.term);
            let Some(at) = feature.and_then(|feature| wanted.get(&feature)) else { return };
            if let (Some((origin, range)), Some((_, word))) = (occurrence.place(), occurrence.word_place()) {
                let occurrences = &mut contributions[*at].occurrences;
                if occurrences.len() < OCCURRENCES {
                    occurrences.push(Place { origin, range, word });
                }
            }
        });
    }
    Explanation { contributions, omitted_weight }
}
