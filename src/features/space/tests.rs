#![expect(clippy::single_range_in_vec_init, reason = "a document of one passage")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::features::Scorer;

fn block(name: &str, kind: BlockKind, field: Field) -> BlockConfig {
    BlockConfig { name: name.into(), kind, field, min_df: 1, max_features: 0, weight: 1.0 }
}

fn articles(articles: &[(&'static str, &'static str)]) -> Vec<Document<'static>> {
    articles.iter().map(|(title, text)| Document::article(title, text, [0..text.len()])).collect()
}

fn fit(configs: Vec<BlockConfig>, documents: &[Document<'_>]) -> Space {
    Space::fit(configs, None, &documents.iter().collect::<Vec<_>>())
}

/// The vectors of documents, made with the same buffers one after the other.
fn vectors(space: &Space, documents: &[&Document<'_>]) -> Vec<Vec<(u32, f64)>> {
    let (mut reading, mut tally, mut entries) = (Reading::default(), Tally::default(), Vec::new());
    let vector = |document: &&Document<'_>| {
        reading.clear();
        let parts = reading.document(document);
        space.vector(&mut tally, &Tokens { reading: &reading, parts: &parts, shape: &document.shape }, &mut entries);
        entries.clone()
    };
    documents.iter().map(vector).collect()
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
}

#[test]
fn one_block_of_words_by_hand() {
    let documents = articles(&[("", "a a b"), ("", "b c"), ("", "b")]);
    let space = fit(vec![block("word", BlockKind::Words, Field::Document)], &documents);
    // "b" is in three documents, the others in one.
    assert_eq!(space.blocks()[0].vocabulary.iter().collect::<Vec<_>>(), ["b", "a", "c"]);
    // idf: b: ln(4/4) + 1 = 1; a, c: ln(4/2) + 1 = 1.693147.
    close(f64::from(space.blocks()[0].idf[0]), 1.0);
    close(f64::from(space.blocks()[0].idf[1]), 1.693_147_180_6);
    // First document: a: (1 + ln 2) * 1.693147 = 2.866747; b: 1; norm: sqrt(8.218240 + 1) = 3.036156.
    let [vector, _, again] = vectors(&space, &[&documents[0], &documents[1], &documents[0]]).try_into().unwrap();
    assert_eq!(vector.iter().map(|(feature, _)| *feature).collect::<Vec<_>>(), [1, 0]);
    close(vector[0].1, 0.944_203_0);
    close(vector[1].1, 0.329_363_9);
    // The buffers carry nothing over.
    assert_eq!(again, vector);
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
    let space = fit(configs, &[untitled.clone(), titled.clone()]);
    let [vector, of_titled] = vectors(&space, &[&untitled, &titled]).try_into().unwrap();
    // Both words in both documents: idf 1. Block one: 1/sqrt 2 * sqrt(1/1.5); block two: sqrt(0.5/1.5).
    assert_eq!(vector.len(), 3);
    close(vector.iter().find(|(feature, _)| space.term(*feature) == (0, "x")).unwrap().1, 0.577_350_3);
    close(vector.iter().find(|(feature, _)| space.term(*feature) == (1, "x")).unwrap().1, 0.577_350_3);
    let sum = |vector: &[(u32, f64)]| vector.iter().map(|(_, value)| value * value).sum::<f64>();
    close(sum(&vector), 1.0);
    assert_eq!(of_titled, vector);
}

#[test]
fn rare_terms_go_and_a_limit_keeps_the_most_frequent() {
    let documents = articles(&[("", "a b c"), ("", "a b d"), ("", "a e")]);
    let config = BlockConfig { min_df: 2, ..block("word", BlockKind::Words, Field::Document) };
    let space = fit(vec![config.clone()], &documents);
    assert_eq!(space.blocks()[0].vocabulary.iter().collect::<Vec<_>>(), ["a", "b"]);
    let space = fit(vec![BlockConfig { max_features: 1, ..config }], &documents);
    assert_eq!(space.blocks()[0].vocabulary.iter().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn the_number_of_threads_leaves_no_trace() {
    let texts: Vec<String> = (0..40).map(|n| format!("mot{} mot{} article mot{}", n % 7, n / 3, 40 - n)).collect();
    let documents: Vec<Document<'_>> = texts.iter().map(|text| Document::passage(text, 0..text.len())).collect();
    let configs = vec![
        block("word", BlockKind::Words, Field::Document),
        BlockConfig { min_df: 2, max_features: 30, ..block("ngram", BlockKind::Ngrams { min: 2, max: 4 }, Field::Document) },
    ];
    let fitted = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let space = pool.install(|| fit(configs.clone(), &documents));
        let terms = |block: &Block| (block.vocabulary.iter().map(str::to_owned).collect::<Vec<_>>(), block.idf.clone());
        space.blocks().iter().map(terms).collect::<Vec<_>>()
    };
    let one = fitted(1);
    assert_eq!((one[0].0[0].as_str(), one[1].0.len()), ("article", 30));
    assert_eq!((fitted(2), fitted(7)), (one.clone(), one));
}

#[test]
fn unknown_terms_and_empty_blocks_leave_a_zero_vector() {
    let configs = vec![
        BlockConfig { min_df: 9, ..block("none", BlockKind::Words, Field::Document) },
        block("ngram", BlockKind::Ngrams { min: 2, max: 2 }, Field::Document),
    ];
    let space = fit(configs, &articles(&[("", "ab")]));
    assert_eq!(space.term(0), (1, " a"));
    let unknown = Document::article("", "zz", [0..2]);
    assert_eq!(vectors(&space, &[&unknown]), [vec![]]);
}

#[test]
fn places_lead_back_to_title_and_text() {
    let space = fit(vec![block("ngram", BlockKind::Ngrams { min: 3, max: 3 }, Field::Document)], &[]);
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
        let space = fit(configs.clone(), &articles(&[("", text)]));
        let terms = |at: usize| space.blocks()[at].vocabulary.iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(terms(0), ["il", "a", "dit", "puis", "rien"], "{text}");
        assert_eq!(terms(1), ["oui"], "{text}");
    }
    // A quotation that is never closed ends with its passage.
    let document = Document::article("", "« Un deux\ntrois", [0..10, 11..16]);
    let space = fit(configs, &[document]);
    assert_eq!(space.blocks()[0].vocabulary.iter().collect::<Vec<_>>(), ["trois"]);
}

/// Every kind of block, and a lexicon of a few words.
fn everything() -> (Vec<BlockConfig>, Lexicon) {
    let ngrams = BlockKind::Ngrams { min: 2, max: 4 };
    let blocks = vec![
        block("word", BlockKind::Words, Field::Document),
        block("ngram", ngrams, Field::Document),
        BlockConfig { weight: 0.5, ..block("title_ngram", ngrams, Field::Title) },
        block("own", BlockKind::Words, Field::Own),
        block("quoted", BlockKind::Words, Field::Quoted),
        block("concept", BlockKind::Concepts, Field::Document),
        block("relation", BlockKind::Relations, Field::Document),
        block("shape", BlockKind::Shape, Field::Document),
    ];
    (blocks, Lexicon::parse("RANK\tgénéral\nVISIT\tvisit*\ncountry:DZ\talgé*\ncountry:NE\tniger\n").unwrap())
}

proptest! {
    #[test]
    fn a_tally_counts_what_a_reader_finds_and_a_scorer_sums_what_a_vector_holds(
        title in "(le |général |«|visite)?", bodies in prop::collection::vec("(?s)(Le |général |Algérie|niger |visite|« |» |été |\\. |.){0,12}", 1..4),
    ) {
        let text = bodies.concat();
        let mut end = 0;
        let ranges = bodies.iter().map(|body| { end += body.len(); end - body.len()..end });
        let document = Document::article(&title, &text, ranges);
        let (blocks, lexicon) = everything();
        // Fitted on another text as well, so that idf differ and some terms are unknown.
        let other = Document::passage("Le général visite le Niger. « Été » en Algérie", 0..47);
        let space = Space::fit(blocks, Some(lexicon), &[&document, &other]);
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        space.read(&mut Reader::default(), &document, |occurrence| {
            if let Some(feature) = space.feature(occurrence.block, occurrence.term) {
                *counts.entry(feature).or_default() += 1;
            }
        });
        let (mut reading, mut tally, mut sums) = (Reading::default(), Tally::default(), Vec::new());
        let parts = reading.document(&document);
        let tokens = Tokens { reading: &reading, parts: &parts, shape: &document.shape };
        let weight = |feature: usize, label: usize| ((feature * 7 + label * 3) % 11) as f32 - 5.0;
        // Five labels take two groups of sums; thirteen take more than are summed at once.
        for labels in [5, 13] {
            let mut counted: BTreeMap<u32, u32> = BTreeMap::new();
            Scorer::new(&space, labels, weight).score(&space, (&mut tally, &tokens), &mut sums, |block, terms| {
                counted.extend(terms.iter().map(|(term, count)| (space.first(block) + term, *count)));
            });
            prop_assert_eq!(&counted, &counts);
            let vector = vectors(&space, &[&document]).remove(0);
            for (label, sum) in sums.iter().enumerate() {
                let expected: f64 = vector.iter().map(|(feature, value)| value * f64::from(weight(*feature as usize, label))).sum();
                prop_assert!((sum - expected).abs() < 1e-9, "{} is not {}", sum, expected);
            }
        }
    }
}
