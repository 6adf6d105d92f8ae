//! Explanation: what each term of an article contributed to a label's logit, and where it stands.
//!
//! A contribution is the feature's value times its weight, so that Σ contributions + omitted + bias = logit, whatever
//! the number of contributions asked for.

use std::cmp::Ordering;
use std::ops::Range;

use super::head::Head;
use crate::features::{Document, Origin, Space, Vocabulary};
use crate::terms::Reader;

/// Places of a term that are kept, the first ones: a text can hold a term hundreds of thousands of times.
pub const OCCURRENCES: usize = 100;

/// What one term contributed.
#[derive(Debug, Clone, PartialEq)]
pub struct Contribution {
    /// The term's number among all features of the space.
    pub feature: u32,
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
    /// The article's vector in the space, in no order.
    pub entries: &'a [(u32, f64)],
}

/// Explains a logit by its `most` greatest contributions, without their places, which [`locate`] finds.
#[must_use]
pub fn explain(weighing: &Weighing<'_>, most: usize) -> Explanation {
    let Weighing { space, head, label, entries } = *weighing;
    // A head that leans on some blocks alone has zeros for the others, which explain nothing.
    let weight = |(feature, value): &(u32, f64)| (*feature, value * f64::from(head.weights[[*feature as usize, label]]));
    let weights: Vec<(u32, f64)> = entries.iter().map(weight).filter(|(_, weight)| *weight != 0.0).collect();
    let mut greatest = weights.clone();
    if most < greatest.len() {
        greatest.select_nth_unstable_by(most, rank);
        greatest.truncate(most);
    }
    greatest.sort_unstable_by(rank);
    // In the order of the entries, since the selection may leave the rest in any.
    let is_left_out = |weight: &&(u32, f64)| greatest.last().is_none_or(|last| rank(weight, last) == Ordering::Greater);
    let omitted_weight = weights.iter().filter(is_left_out).map(|(_, weight)| weight).sum();
    let contribution = |(feature, weight): &(u32, f64)| {
        let (block, term) = space.term(*feature);
        let block = space.blocks()[block].config.name.clone();
        Contribution { feature: *feature, term: term.to_owned(), block, weight: *weight, occurrences: Vec::new() }
    };
    Explanation { contributions: greatest.iter().map(contribution).collect(), omitted_weight }
}

/// The order of contributions, each with its feature: the greatest first, by absolute weight.
fn rank((left_feature, left): &(u32, f64), (right_feature, right): &(u32, f64)) -> Ordering {
    right.abs().total_cmp(&left.abs()).then(left_feature.cmp(right_feature))
}

/// Finds where the terms of `explanations` stand in the article, which is read once for all of them.
pub fn locate<'a>(space: &Space, document: &Document<'_>, explanations: impl IntoIterator<Item = &'a mut Explanation>) {
    let mut contributions: Vec<&mut Contribution> =
        explanations.into_iter().flat_map(|explanation| &mut explanation.contributions).collect();
    // For each block the terms that are looked for, and for each of these its contributions.
    let mut wanted: Vec<(Vocabulary, Vec<Vec<usize>>)> = space.blocks().iter().map(|_| Default::default()).collect();
    for (at, contribution) in contributions.iter().enumerate() {
        let (terms, places) = &mut wanted[space.term(contribution.feature).0];
        let id = terms.intern(&contribution.term) as usize;
        places.resize(terms.len(), Vec::new());
        places[id].push(at);
    }
    let is_wanted = |block: usize| !wanted[block].0.is_empty();
    space.read(&mut Reader::default(), document, is_wanted, |occurrence| {
        let (terms, places) = &wanted[occurrence.block];
        let Some(id) = terms.get(occurrence.term) else { return };
        let (Some((origin, range)), Some((_, word))) = (occurrence.place(), occurrence.word_place()) else { return };
        for at in &places[id as usize] {
            let occurrences = &mut contributions[*at].occurrences;
            if occurrences.len() < OCCURRENCES {
                occurrences.push(Place { origin, range: range.clone(), word: word.clone() });
            }
        }
    });
}
