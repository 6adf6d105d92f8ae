#![expect(clippy::single_range_in_vec_init, reason = "a document of one passage")]

use super::*;

fn block(name: &str, kind: BlockKind, field: Field) -> BlockConfig {
    BlockConfig { name: name.into(), kind, field, min_df: 1, max_features: 0, weight: 1.0 }
}

fn articles(articles: &[(&'static str, &'static str)]) -> Vec<Document<'static>> {
    articles.iter().map(|(title, text)| Document::article(title, text, [0..text.len()])).collect()
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
}

#[test]
fn one_block_of_words_by_hand() {
    let documents = articles(&[("", "a a b"), ("", "b c"), ("", "b")]);
    let space = Space::fit(vec![block("word", BlockKind::Words, Field::Document)], None, documents.clone());
    assert_eq!(space.blocks()[0].vocabulary.iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    // idf: a, c: ln(4/2) + 1 = 1.693147; b: ln(4/4) + 1 = 1.
    close(f64::from(space.blocks()[0].idf[0]), 1.693_147_180_6);
    close(f64::from(space.blocks()[0].idf[1]), 1.0);
    // First document: a: (1 + ln 2) * 1.693147 = 2.866747; b: 1; norm: sqrt(8.218240 + 1) = 3.036156.
    let mut scratch = Scratch::default();
    let vector = space.vector(&mut scratch, &documents[0]).to_vec();
    assert_eq!(vector.iter().map(|(feature, _)| *feature).collect::<Vec<_>>(), [0, 1]);
    close(vector[0].1, 0.944_203_0);
    close(vector[1].1, 0.329_363_9);
    // The buffers carry nothing over.
    assert_eq!(space.vector(&mut scratch, &documents[0]), vector);
}

#[test]
fn blocks_are_scaled_by_their_weights_and_a_title_stands_in_once() {
    let configs = vec![
        block("word", BlockKind::Words, Field::Document),
        BlockConfig { weight: 0.5, ..block("title", BlockKind::Words, Field::Title) },
    ];
    let text = "x\ny";
    let untitled = Document::article("", text, [0..1, 2..3]);
    let titled = Document::article("x", text, [2..3]);
    let space = Space::fit(configs, None, [untitled.clone(), titled.clone()]);
    let mut scratch = Scratch::default();
    let vector = space.vector(&mut scratch, &untitled).to_vec();
    // Both words in both documents: idf 1. Block one: 1/sqrt 2 * sqrt(1/1.5); block two: sqrt(0.5/1.5).
    assert_eq!(vector.len(), 3);
    close(vector.iter().find(|(feature, _)| space.term(*feature) == (0, "x")).unwrap().1, 0.577_350_3);
    close(vector.iter().find(|(feature, _)| space.term(*feature) == (1, "x")).unwrap().1, 0.577_350_3);
    let sum = |vector: &[(u32, f64)]| vector.iter().map(|(_, value)| value * value).sum::<f64>();
    close(sum(&vector), 1.0);
    assert_eq!(space.vector(&mut scratch, &titled).to_vec(), vector);
}

#[test]
fn rare_terms_go_and_a_limit_keeps_the_most_frequent() {
    let documents = articles(&[("", "a b c"), ("", "a b d"), ("", "a e")]);
    let config = BlockConfig { min_df: 2, ..block("word", BlockKind::Words, Field::Document) };
    let space = Space::fit(vec![config.clone()], None, documents.clone());
    assert_eq!(space.blocks()[0].vocabulary.iter().collect::<Vec<_>>(), ["a", "b"]);
    let space = Space::fit(vec![BlockConfig { max_features: 1, ..config }], None, documents);
    assert_eq!(space.blocks()[0].vocabulary.iter().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn unknown_terms_and_empty_blocks_leave_a_zero_vector() {
    let configs = vec![
        BlockConfig { min_df: 9, ..block("none", BlockKind::Words, Field::Document) },
        block("ngram", BlockKind::Ngrams { min: 2, max: 2 }, Field::Document),
    ];
    let space = Space::fit(configs, None, articles(&[("", "ab")]));
    assert_eq!(space.term(0), (1, " a"));
    let unknown = Document::article("", "zz", [0..2]);
    assert!(space.vector(&mut Scratch::default(), &unknown).is_empty());
}

#[test]
fn places_lead_back_to_title_and_text() {
    let space = Space::fit(vec![block("ngram", BlockKind::Ngrams { min: 3, max: 3 }, Field::Document)], None, []);
    let (title, text) = ("Été", "x  L’Étape");
    let document = Document::article(title, text, [3..text.len()]);
    let mut places = Vec::new();
    space.read(&mut Reader::default(), &document, |occurrence| {
        if occurrence.term == "éta" || occurrence.term == "été" {
            places.push((occurrence.place().unwrap(), occurrence.word_place().unwrap()));
        }
    });
    // É is two bytes, ’ three: Étape begins at 3 + 1 + 3.
    let expected = [((Origin::Title, 0..5), (Origin::Title, 0..5)), ((Origin::Text, 7..11), (Origin::Text, 7..13))];
    assert_eq!(places, expected);
}

use crate::features::Origin;

#[test]
fn own_and_quoted_words_are_told_apart_whatever_the_quotation_marks() {
    let configs = vec![block("own", BlockKind::Words, Field::Own), block("quoted", BlockKind::Words, Field::Quoted)];
    for text in ["Il a dit « oui, oui », puis rien", "Il a dit “oui, oui”, puis rien", "Il a dit \"oui, oui\", puis rien"] {
        let documents = articles(&[("", text)]);
        let space = Space::fit(configs.clone(), None, documents);
        let terms = |at: usize| space.blocks()[at].vocabulary.iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(terms(0), ["a", "dit", "il", "puis", "rien"], "{text}");
        assert_eq!(terms(1), ["oui"], "{text}");
    }
    // A quotation that is never closed ends with its passage.
    let document = Document::article("", "« Un deux\ntrois", [0..10, 11..16]);
    let space = Space::fit(configs, None, [document]);
    assert_eq!(space.blocks()[0].vocabulary.iter().collect::<Vec<_>>(), ["trois"]);
}
