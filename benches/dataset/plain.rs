//! Scoring as one would write it first, to compare with.
//!
//! Words and their n-grams are hashed, looked up by their hashes in one table for each block (where two may have the same; that is not checked), and counted; then the sublinear
//! counts times idf are divided by their Euclidean norm and multiplied with the weights. It reads by the library's own [`Reader`], so that it finds the same terms, and
//! gives the same labels.

use std::hash::BuildHasher;

use depeche::features::{BlockKind, Document, Field, Space};
use depeche::model::Model;
use depeche::page;
use depeche::terms::Reader;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use ndarray::{Array2, Axis};

/// A model's topic head.
pub(crate) struct Plain {
    labels: Vec<String>,
    bias: Vec<f64>,
    blocks: Vec<Block>,
    reader: Reader,
}

struct Block {
    kind: BlockKind,
    is_of_title: bool,
    /// The hash of each term with its id.
    ids: HashTable<(u64, usize)>,
    idf: Vec<f32>,
    /// For each term the weight for each label.
    weights: Array2<f32>,
    /// What the norm of its part of a vector is.
    scale: f64,
    /// For each term how often it was seen, and those that were.
    counts: Vec<u32>,
    seen: Vec<usize>,
}

fn hash(term: &str) -> u64 {
    FixedState::with_seed(0).hash_one(term)
}

impl Block {
    fn count(&mut self, term: &str) {
        let hash = hash(term);
        if let Some((_, id)) = self.ids.find(hash, |(other, _)| *other == hash) {
            if self.counts[*id] == 0 {
                self.seen.push(*id);
            }
            self.counts[*id] += 1;
        }
    }

    /// Adds its part to the sums for all labels, and forgets the counts.
    fn add(&mut self, sums: &mut [f64]) {
        let value = |id: &usize| (1.0 + f64::from(self.counts[*id]).ln()) * f64::from(self.idf[*id]);
        let norm = self.seen.iter().map(|id| value(id) * value(id)).sum::<f64>().sqrt();
        for id in &self.seen {
            let value = self.scale * value(id) / norm;
            sums.iter_mut().zip(self.weights.row(*id)).for_each(|(sum, weight)| *sum += value * f64::from(*weight));
        }
        self.seen.drain(..).for_each(|id| self.counts[id] = 0);
    }
}

impl Plain {
    /// Nothing where the model is no plain one: it has a role head, or other blocks than words and n-grams of the document and of the title.
    pub(crate) fn new(model: &Model) -> Option<Self> {
        let space: &Space = &model.document;
        let block = |(at, block): (usize, &depeche::features::Block)| {
            let config = &block.config;
            let is_plain = matches!(config.kind, BlockKind::Words | BlockKind::Ngrams { .. })
                && matches!(config.field, Field::Document | Field::Title);
            let first = space.first(at) as usize;
            let terms = block.vocabulary.len();
            let mut ids = HashTable::with_capacity(terms);
            for (term, id) in block.vocabulary.iter().zip(0..) {
                ids.insert_unique(hash(term), (hash(term), id), |(hash, _)| *hash);
            }
            is_plain.then(|| Block {
                kind: config.kind,
                is_of_title: config.field == Field::Title,
                ids,
                idf: block.idf.clone(),
                weights: model.topic.weights.slice_axis(Axis(0), (first..first + terms).into()).to_owned(),
                scale: space.scales()[at],
                counts: vec![0; terms],
                seen: Vec::new(),
            })
        };
        let blocks = space.blocks().iter().enumerate().map(block).collect::<Option<_>>()?;
        let bias = model.topic.bias_with(&model.topic.priors);
        model.role.is_none().then(|| Self { labels: model.topic.labels.clone(), bias, blocks, reader: Reader::default() })
    }

    /// The label of an article.
    pub(crate) fn label(&mut self, title: &str, text: &str) -> &str {
        let Self { labels, bias, blocks, reader } = self;
        let document = Document::article(title, text, page::split(text).into_iter().map(|passage| passage.range), 0);
        for segment in &document.segments {
            reader.read(segment.text, |word| {
                for block in blocks.iter_mut().filter(|block| segment.is_title || !block.is_of_title) {
                    match block.kind {
                        BlockKind::Ngrams { min, max } => word.ngrams(min..max + 1).for_each(|(ngram, _)| block.count(ngram)),
                        // There are no others.
                        BlockKind::Words | BlockKind::Bigrams | BlockKind::Concepts | BlockKind::Relations | BlockKind::Shape => {
                            block.count(word.text())
                        }
                    }
                }
            });
        }
        let mut sums = bias.clone();
        blocks.iter_mut().for_each(|block| block.add(&mut sums));
        let best = (0..sums.len()).max_by(|left, right| sums[*left].total_cmp(&sums[*right]));
        best.map_or("", |best| &labels[best])
    }
}
