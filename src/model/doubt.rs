//! Reasons for doubt that lie in an article's words: it is short, in another language, or of words never seen.
//!
//! The model was fitted on articles of some length, language and vocabulary; on others its answer means little, however
//! high the probability. Three counts tell, all over the words of title and body:
//!
//! - how many there are;
//! - how many of them are *common*, that is stand in at least a fifth of the training articles: in running text of the
//!   same language that is about every second word, since articles, prepositions and auxiliaries are common everywhere;
//! - how many are *unknown*, that is no word of the vocabulary.
//!
//! Limits are quantiles of the training articles: an article is doubted where no more than one training article in
//! two hundred lies beyond. Training articles know their own words, so of them a word counts as unknown where it would not be
//! in the vocabulary without the article: where it stands in the fewest articles that a word of the vocabulary may
//! stand in. A foreign language is told by the ratio of unknown to common words, since neighbouring languages share common
//! words and foreign names are unknown ones. A list of names is no foreign language, so this limit is the greatest ratio of all
//! training articles, and at least 1.

use serde::{Deserialize, Serialize};

use super::classifier::Reason;
use crate::features::{Block, BlockKind, Field, Space, space};

/// One training article in so many lies beyond a limit.
const RARE: usize = 200;

/// A word that stands in one of so many training articles is common.
const COMMON: u32 = 5;

/// Limits beyond which an article is doubted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoubtLimits {
    /// Fewer words are [`Reason::TooShort`].
    pub least_words: u64,
    /// The greatest idf of a common word.
    pub common_idf: f64,
    /// More unknown words for each common one are [`Reason::ForeignLanguage`].
    pub most_unknown_to_common: f64,
    /// A greater share of unknown words is [`Reason::UnknownVocabulary`].
    pub most_unknown: f64,
}

/// What the words of a document are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    words: u64,
    common: u64,
    unknown: u64,
}

impl Census {
    /// Counts the words of a document that has so many `words`: common are those with an idf up to `common_idf`, unknown those
    /// with an idf from `unknown_idf` on, or without any, that is not among the `terms` of the `block` of words.
    fn take(block: &Block, words: usize, terms: &[(u32, u32)], common_idf: f64, unknown_idf: f32) -> Self {
        let (mut common, mut known) = (0, 0);
        for (term, count) in terms {
            let idf = block.idf[*term as usize];
            common += if f64::from(idf) <= common_idf { u64::from(*count) } else { 0 };
            known += if idf < unknown_idf { u64::from(*count) } else { 0 };
        }
        let words = words as u64;
        Self { words, common, unknown: words.saturating_sub(known) }
    }

    #[expect(clippy::cast_precision_loss, reason = "an article has fewer than 2^52 words")]
    fn share(self, of: u64) -> f64 {
        if self.words == 0 { 0.0 } else { of as f64 / self.words as f64 }
    }

    /// Unknown words for each common one, as if there were one common word more: few words say little.
    #[expect(clippy::cast_precision_loss, reason = "an article has fewer than 2^52 words")]
    fn unknown_to_common(self) -> f64 {
        self.unknown as f64 / (self.common + 1) as f64
    }
}

/// The index of the block that holds the words of the whole document.
#[must_use]
pub fn words(space: &Space) -> Option<usize> {
    let is_words = |block: &Block| block.config.kind == BlockKind::Words && block.config.field == Field::Document;
    space.blocks().iter().position(is_words)
}

/// Counts the words of training articles, which limits are made of.
#[derive(Debug, Clone, Copy)]
pub struct WordCounter<'a> {
    block: &'a Block,
    at: usize,
    common_idf: f64,
    unknown_idf: f32,
}

impl<'a> WordCounter<'a> {
    /// A counter for so many training articles, which `space` was fitted on; none where there are no words among the
    /// features.
    #[must_use]
    pub fn new(space: &'a Space, articles: usize) -> Option<Self> {
        let at = words(space)?;
        let block = &space.blocks()[at];
        let total = u32::try_from(articles).unwrap_or(u32::MAX);
        let unknown_idf = block.idf.iter().copied().fold(0.0, f32::max);
        Some(Self { block, at, common_idf: space::idf(total, total / COMMON), unknown_idf })
    }

    /// Counts an article of so many `words`, of which `terms` are those of a `block`; nothing for other blocks than that of
    /// [`words`].
    #[must_use]
    pub fn take(&self, words: usize, block: usize, terms: &[(u32, u32)]) -> Option<Census> {
        (block == self.at).then(|| Census::take(self.block, words, terms, self.common_idf, self.unknown_idf))
    }

    /// The limits for the articles that were counted; none where there are none.
    #[must_use]
    pub fn limits(&self, taken: &[Census]) -> Option<DoubtLimits> {
        let rare = taken.len() / RARE;
        let mut words: Vec<u64> = taken.iter().map(|census| census.words).collect();
        let mut unknown: Vec<f64> = taken.iter().map(|census| census.share(census.unknown)).collect();
        words.sort_unstable();
        unknown.sort_by(|left, right| right.total_cmp(left));
        Some(DoubtLimits {
            least_words: *words.get(rare)?,
            common_idf: self.common_idf,
            most_unknown_to_common: taken.iter().map(|census| census.unknown_to_common()).fold(1.0, f64::max),
            most_unknown: *unknown.get(rare)?,
        })
    }
}

impl DoubtLimits {
    /// The reasons to doubt a document of so many `words`, of which `terms` are those of the `block` of [`words`].
    #[must_use]
    pub fn reasons(&self, block: &Block, words: usize, terms: &[(u32, u32)]) -> Vec<Reason> {
        let census = Census::take(block, words, terms, self.common_idf, f32::INFINITY);
        let found = [
            (census.unknown_to_common() > self.most_unknown_to_common, Reason::ForeignLanguage),
            (census.words < self.least_words, Reason::TooShort),
            (census.share(census.unknown) > self.most_unknown, Reason::UnknownVocabulary),
        ];
        found.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{BlockConfig, Document, Reading, ShapeTerms, Tally, Tokens};
    use crate::model::fixture;

    fn limits(space: &Space, documents: &[&Document<'_>]) -> Option<DoubtLimits> {
        let counter = WordCounter::new(space, documents.len())?;
        let (mut reading, mut tally, mut taken) = (Reading::default(), Tally::default(), Vec::new());
        for document in documents {
            reading.clear();
            let parts = reading.document(document);
            let tokens = Tokens { reading: &reading, parts: &parts, shape: &document.shape };
            tally.count(&space.counted(), &mut &*space, &tokens, |block, terms| {
                taken.extend(counter.take(reading.tokens().len(), block, terms));
            });
        }
        counter.limits(&taken)
    }

    fn document(text: &str) -> Document<'_> {
        Document::passage(text, 0..text.len())
    }

    /// "de" is common, "accord" and "niamey" are known.
    fn space() -> Space {
        let block = fixture::block(&["accord", "de", "niamey"]);
        Space::new(vec![Block { idf: vec![2.0, 1.0, 3.0], ..block }])
    }

    #[test]
    fn each_limit_gives_its_reason_and_only_beyond_it() {
        let limits = DoubtLimits { least_words: 4, common_idf: 1.5, most_unknown_to_common: 1.5, most_unknown: 0.5 };
        let reasons = |text| {
            let (space, mut reading, mut tally, mut found) = (space(), Reading::default(), Tally::default(), None);
            let parts = reading.document(&document(text));
            let tokens = Tokens { reading: &reading, parts: &parts, shape: &ShapeTerms::default() };
            tally.count(&space.counted(), &mut &space, &tokens, |block, terms| {
                found = Some(limits.reasons(&space.blocks()[block], reading.tokens().len(), terms));
            });
            found.unwrap()
        };
        // Half is unknown: at the limit, not beyond. Two unknown words to one common and one more are a ratio of 1.
        assert_eq!(reasons("accord de xx yy"), []);
        assert_eq!(reasons("accord de niamey"), [Reason::TooShort]);
        // Three unknown to 1 + 1: a ratio of 1.5, at the limit.
        assert_eq!(reasons("de xx yy zz"), [Reason::UnknownVocabulary]);
        // Two unknown to 0 + 1.
        assert_eq!(reasons("accord niamey xx yy"), [Reason::ForeignLanguage]);
        assert_eq!(reasons("accord xx yy zz"), [Reason::ForeignLanguage, Reason::UnknownVocabulary]);
        assert_eq!(reasons(""), [Reason::TooShort]);
    }

    #[test]
    fn limits_are_quantiles_of_the_training_articles() {
        // 198 articles "de mot N", N being a word of its own: two thirds of the words are common, and a third is unknown without
        // the article, since it stands in no other. Two articles of one word: one lies beyond the limits, the other is at them.
        let texts: Vec<String> = (0..198).map(|n| format!("de mot {n}")).chain(["rien".into(), "seul".into()]).collect();
        let documents: Vec<Document<'_>> = texts.iter().map(|text| document(text)).collect();
        let documents: Vec<&Document<'_>> = documents.iter().collect();
        let config = BlockConfig { min_df: 1, ..fixture::block(&[]).config };
        let space = Space::fit(vec![config], None, &documents);
        let of = |documents: &[&Document<'_>]| limits(&space, documents).unwrap();
        let limits = of(&documents);
        assert_eq!(limits.least_words, 1);
        // One unknown word of one, to 0 + 1 common.
        assert!((limits.most_unknown - 1.0).abs() < 1e-12 && (limits.most_unknown_to_common - 1.0).abs() < 1e-12, "{limits:?}");
        let limits = of(&documents[..199]);
        assert_eq!(limits.least_words, 1);
        let limits = of(&documents[..198]);
        assert_eq!(limits.least_words, 3);
        assert!((limits.most_unknown - 1.0 / 3.0).abs() < 1e-12);
        // ln(199 / 40) + 1: the idf of a word of 39 among 198 articles.
        assert!((limits.common_idf - 2.604_425).abs() < 1e-6, "{limits:?}");
    }

    #[test]
    fn without_words_among_the_features_there_are_no_limits() {
        assert_eq!(limits(&space(), &[]), None);
        assert_eq!(limits(&Space::default(), &[&document("a")]), None);
    }
}
