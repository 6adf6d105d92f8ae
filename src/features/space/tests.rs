#![expect(clippy::single_range_in_vec_init, reason = "a document of one passage")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::features::matrix::PackedRows;
use crate::features::record::Recorded;
use crate::features::{Reading, Scorer, Shown, SparseMatrix};
use crate::spill::Memory;

fn block(name: &str, kind: BlockKind, field: Field) -> BlockConfig {
    BlockConfig { name: name.into(), kind, field, min_df: 1, max_features: 0, weight: 1.0 }
}

fn articles(articles: &[(&'static str, &'static str)]) -> Vec<Document<'static>> {
    articles.iter().map(|(title, text)| Document::article(title, text, [0..text.len()], 0)).collect()
}

fn fit(configs: Vec<BlockConfig>, documents: &[Document<'_>]) -> Space {
    Space::fit(configs, None, &documents.iter().collect::<Vec<_>>())
}

/// The vectors of documents, made with the same buffers one after the other.
fn vectors(space: &Space, documents: &[&Document<'_>]) -> Vec<Vec<(u32, f64)>> {
    let (mut reading, mut tally) = (Reading::default(), Tally::default());
    let vector = |document: &&Document<'_>| {
        reading.clear();
        let parts = reading.document(document);
        let tokens = Tokens { reading: &reading, parts: &parts, shape: &document.shape };
        let mut entries = Vec::new();
        tally.count(&space.counted(), &mut &*space, &tokens, |block, terms| space.push_entries(block, terms, &mut entries));
        entries
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
    let untitled = Document::article("", text, [0..1, 2..3], 0);
    let titled = Document::article("x", text, [2..3], 0);
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
    let unknown = Document::article("", "zz", [0..2], 0);
    assert_eq!(vectors(&space, &[&unknown]), [vec![]]);
}

#[test]
fn places_lead_back_to_title_and_text() {
    let space = fit(vec![block("ngram", BlockKind::Ngrams { min: 3, max: 3 }, Field::Document)], &[]);
    let (title, text) = ("Été", "x  L’Étape");
    let document = Document::article(title, text, [3..text.len()], 0);
    let mut places = Vec::new();
    space.read(
        &mut Reader::default(),
        &document,
        |_| true,
        |occurrence| {
            if occurrence.term == "éta" || occurrence.term == "été" {
                places.push((occurrence.place().unwrap(), occurrence.word_place().unwrap()));
            }
        },
    );
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
    let document = Document::article("", "« Un deux\ntrois", [0..10, 11..16], 0);
    let space = fit(configs, &[document]);
    assert_eq!(space.blocks()[0].vocabulary.iter().collect::<Vec<_>>(), ["trois"]);
}

#[test]
fn common_words_leave_out_names_figures_and_quotations_and_edges_are_the_first_and_last_words() {
    let common = block("common", BlockKind::Words, Field::OwnCommon);
    let edges = block("edges", BlockKind::Words, Field::Edges { words: 3 });
    // Roi, Ali, Rome, 12 and Italie look like names and figures; « nous », though common, is another's. Words that begin a sentence or a passage
    // may be anything.
    let text = "Le ministre Ali part. Paris attend à Rome « nous », 12 ans durant\nTous sauf l’Italie";
    let line = text.find('\n').unwrap();
    let document = Document::article("Un Roi", text, [0..line, line + 1..text.len()], 0);
    let space = fit(vec![common, edges], &[document]);
    let terms = |at: usize| space.blocks()[at].vocabulary.iter().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(terms(0), ["un", "le", "ministre", "part", "paris", "attend", "à", "ans", "durant", "tous", "sauf", "l"]);
    // The first three words are Un, Roi and Le; the last three sauf, l and Italie.
    assert_eq!(terms(1), ["un", "le", "sauf", "l"]);
}

#[test]
fn bigrams_are_words_beside_one_another_in_a_sentence() {
    let bigrams = vec![block("bigram", BlockKind::Bigrams, Field::OwnCommon)];
    // Over a full stop, a quotation, a name or the end of a passage no pair is made.
    let text = "Il ne part pas. Puis il dit « non » à tous ceux du Sahel qui restent\nIci rien";
    let line = text.find('\n').unwrap();
    let documents = [Document::article("Un accord", text, [0..line, line + 1..text.len()], 0)];
    let space = fit(bigrams, &documents);
    let terms: Vec<&str> = space.blocks()[0].vocabulary.iter().collect();
    let expected = [
        "un accord",
        "il ne",
        "ne part",
        "part pas",
        "puis il",
        "il dit",
        "à tous",
        "tous ceux",
        "ceux du",
        "qui restent",
        "ici rien",
    ];
    assert_eq!(terms, expected);
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
        block("common", BlockKind::Words, Field::OwnCommon),
        block("edges", BlockKind::Words, Field::Edges { words: 2 }),
        block("bigram", BlockKind::Bigrams, Field::Own),
        block("common_bigram", BlockKind::Bigrams, Field::OwnCommon),
        block("concept", BlockKind::Concepts, Field::Document),
        block("relation", BlockKind::Relations, Field::Document),
        block("shape", BlockKind::Shape, Field::Document),
    ];
    (blocks, Lexicon::parse("RANK\tgénéral\nVISIT\tvisit*\ncountry:DZ\talgé*\ncountry:NE\tniger\n").unwrap())
}

proptest! {
    #[test]
    fn a_tally_counts_what_a_reader_finds_and_a_scorer_sums_what_a_vector_holds(
        title in "(le |général |«|visite)?", bodies in prop::collection::vec("(?s)(Le |général |Algérie|niger |visite|« |» |12 |É|été |\\. |.){0,12}", 1..4),
    ) {
        let text = bodies.concat();
        let mut end = 0;
        let ranges = bodies.iter().map(|body| { end += body.len(); end - body.len()..end });
        let document = Document::article(&title, &text, ranges, 0);
        let (blocks, lexicon) = everything();
        // Fitted on another text as well, so that idf differ and some terms are unknown.
        let other = Document::passage("Le général visite le Niger. « Été » en Algérie", 0..47);
        let space = Space::fit(blocks, Some(lexicon), &[&document, &other]);
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        space.read(&mut Reader::default(), &document, |_| true, |occurrence| {
            if let Some(id) = space.blocks()[occurrence.block].vocabulary.get(occurrence.term) {
                *counts.entry(space.first(occurrence.block) + id).or_default() += 1;
            }
        });
        let (mut reading, mut tally, mut sums) = (Reading::default(), Tally::default(), Vec::new());
        let parts = reading.document(&document);
        let tokens = Tokens { reading: &reading, parts: &parts, shape: &document.shape };
        let any = |feature: usize, label: usize| ((feature * 7 + label * 3) % 11) as f32 - 5.0;
        let opposite = |feature: usize, label: usize| if label == 0 { -any(feature, 1) } else { any(feature, 1) };
        let weights: [&dyn Fn(usize, usize) -> f32; 2] = [&any, &opposite];
        // Two labels with opposite weights have one column; five labels take two groups of sums, thirteen more than are summed at once.
        for (labels, weight) in [(2, weights[1]), (2, weights[0]), (5, weights[0]), (13, weights[0])] {
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

proptest! {
    /// Whatever is counted in whatever order of spills, the space is the one of a single count, and a packed vector is the vector.
    #[test]
    fn a_space_and_its_vectors_are_the_same_on_disk(
        texts in proptest::collection::vec("([abcé]{1,3} |abc ){1,40}", 1..12),
        share in 1_usize..4,
        limits in (0_u64..3000, 0_u64..3000),
        max_features in 0_usize..6,
        recorded in proptest::option::of(0_u64..4000),
    ) {
        let documents: Vec<Document<'_>> = texts.iter().map(|text| Document::passage(text, 0..text.len())).collect();
        let documents: Vec<&Document<'_>> = documents.iter().collect();
        let configs = vec![
            BlockConfig { max_features, ..block("word", BlockKind::Words, Field::Document) },
            // Few of them, so that some documents have none.
            BlockConfig { max_features, ..block("ngram", BlockKind::Ngrams { min: 2, max: 3 }, Field::Document) },
        ];
        let memory = |limit| Memory::new(Some(limit), std::env::temp_dir());
        let mut counting = Counting::new(configs.clone(), None, &memory(4 * limits.0)).recording(&Memory::new(recorded, std::env::temp_dir()));
        for documents in documents.chunks(share) {
            let mut shown = shown(documents);
            shown.push(Shown { document: None, lead: None });
            counting.add(&shown).unwrap();
        }
        let is_recorded = counting.is_recording();
        prop_assert!(is_recorded || counting.bytes_on_disk() > 0 || recorded.is_some());
        let (space, recording) = counting.finish().unwrap();
        let expected = Space::fit(configs, None, &documents);
        for (block, expected) in space.blocks().iter().zip(expected.blocks()) {
            prop_assert_eq!(block.vocabulary.iter().collect::<Vec<_>>(), expected.vocabulary.iter().collect::<Vec<_>>());
            prop_assert_eq!(&block.idf, &expected.idf);
        }
        let (mut reading, mut tally, mut counts) = (Reading::default(), Tally::default(), TermCounts::default());
        prop_assert_eq!(recording.is_some(), is_recorded);
        let mut pieces = Vec::new();
        if let Some(recording) = recording {
            let take = |piece: Vec<Option<TermCounts>>| -> Result<(), TestCaseError> {
                pieces.extend(piece);
                Ok(())
            };
            recording.try_for_each(&space, all_of, take)?;
        }
        let mut recorded = pieces.into_iter();
        let mut matrix = SparseMatrix::within(&memory(2 * limits.1), &space);
        for documents in documents.chunks(share) {
            let mut rows = PackedRows::default();
            rows.push(&space, None);
            for document in documents {
                reading.clear();
                let parts = reading.document(document);
                let tokens = Tokens { reading: &reading, parts: &parts, shape: &document.shape };
                space.counts(&mut tally, &tokens, &mut counts, |_, _| {});
                rows.push(&space, Some(&counts));
                if is_recorded {
                    let lead = document.lead(2).map(|lead| {
                        reading.clear();
                        let parts = reading.document(&lead);
                        let mut counts = TermCounts::default();
                        let tokens = Tokens { reading: &reading, parts: &parts, shape: &lead.shape };
                        space.counts(&mut tally, &tokens, &mut counts, |_, _| {});
                        counts
                    });
                    prop_assert_eq!(recorded.next(), Some(Some(counts.clone())));
                    prop_assert_eq!(recorded.next(), Some(lead));
                }
            }
            if is_recorded {
                prop_assert_eq!(recorded.next(), Some(None));
            }
            matrix.push(rows).unwrap();
        }
        let mut cursor = matrix.cursor();
        for (at, vector) in vectors(&space, &documents).iter().enumerate() {
            let row = at + at / share + 1;
            let mut found: Vec<(usize, f64)> = cursor.row(row).unwrap().entries().collect();
            // Terms that occur once come first.
            found.sort_by_key(|(column, _)| *column);
            let mut expected: Vec<(usize, f64)> = vector.iter().map(|(column, value)| (*column as usize, *value)).collect();
            expected.sort_by_key(|(column, _)| *column);
            prop_assert_eq!(found.len(), expected.len());
            for ((column, value), (expected_column, expected)) in found.iter().zip(&expected) {
                prop_assert!(column == expected_column && (value - expected).abs() <= 1e-15, "{} is not {}", value, expected);
            }
            prop_assert_eq!(matrix.has_entries(row), !vector.is_empty());
            prop_assert!(!matrix.has_entries(at / share * (share + 1)));
        }
    }
}

fn shown<'a>(documents: &[&'a Document<'a>]) -> Vec<Shown<'a>> {
    documents.iter().map(|document| Shown { document: Some(document), lead: document.lead(2) }).collect()
}

/// For each place of a piece the counts of its document, and behind a document those of its lead.
fn all_of(mut recorded: Recorded<'_>) -> Vec<Option<TermCounts>> {
    let mut all = Vec::new();
    let mut next = |recorded: &mut Recorded<'_>| {
        let mut counts = TermCounts::default();
        let has = recorded.next(&mut counts, |_, _, _| {});
        all.push(has.then_some(counts));
        has
    };
    while !recorded.is_at_end() {
        if next(&mut recorded) {
            next(&mut recorded);
        }
    }
    all
}

/// Rows on disk, in a space of the words of the first document.
fn on_disk(texts: &[&str]) -> SparseMatrix {
    let documents: Vec<Document<'_>> = texts.iter().map(|text| Document::passage(text, 0..text.len())).collect();
    let space = fit(vec![block("word", BlockKind::Words, Field::Document)], &documents[..1]);
    let (mut reading, mut tally, mut counts, mut rows) =
        (Reading::default(), Tally::default(), TermCounts::default(), PackedRows::default());
    for document in &documents {
        reading.clear();
        let parts = reading.document(document);
        let tokens = Tokens { reading: &reading, parts: &parts, shape: &document.shape };
        space.counts(&mut tally, &tokens, &mut counts, |_, _| {});
        rows.push(&space, Some(&counts));
    }
    let mut matrix = SparseMatrix::within(&Memory::new(Some(0), std::env::temp_dir()), &space);
    matrix.push(rows).unwrap();
    matrix
}

#[test]
fn a_document_without_known_terms_has_no_entries_on_disk() {
    let matrix = on_disk(&["a", "b", "a b"]);
    assert_eq!([0, 1, 2].map(|row| matrix.has_entries(row)), [true, false, true]);
    let mut cursor = matrix.cursor();
    let found = [0, 1, 2].map(|row| cursor.row(row).unwrap().entries().collect::<Vec<_>>());
    assert_eq!(found, [vec![(0, 1.0)], vec![], vec![(0, 1.0)]]);
}

#[test]
fn a_term_that_is_frequent_beyond_a_byte_keeps_its_count_on_disk() {
    let text = "a ".repeat(300) + &"b ".repeat(256) + &"c ".repeat(255) + "d";
    let matrix = on_disk(&[&text]);
    // Counts of 300, 256 and 255 in the ratio of 1 + ln of them; every idf is 1.
    let mut cursor = matrix.cursor();
    let mut entries: Vec<(usize, f64)> = cursor.row(0).unwrap().entries().collect();
    entries.sort_by_key(|(column, _)| *column);
    let once = entries[3].1;
    for ((column, value), (expected, count)) in entries.iter().zip([300.0_f64, 256.0, 255.0, 1.0].iter().enumerate()) {
        assert!(*column == expected && (value / once - (1.0 + count.ln())).abs() < 1e-9, "{column} {value} {count}");
    }
}
