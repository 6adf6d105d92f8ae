use super::*;
use crate::model::fixture::{block, model};
use crate::model::{Article, ClassWeights, Classifier, HeadSettings, Options};
use ndarray::array;
use proptest::prelude::*;

/// The file of `model` with its metadata changed.
fn with_header(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let bytes = model().to_bytes().unwrap();
    let (size, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut header: serde_json::Value = serde_json::from_str(&metadata.metadata().as_ref().unwrap()[KEY]).unwrap();
    change(&mut header);
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert!(size < bytes.len());
    safetensors::serialize(tensors.tensors(), Some([(KEY.to_owned(), header.to_string())].into())).unwrap()
}

fn with_model(change: impl FnOnce(&mut Model)) -> Vec<u8> {
    let mut changed = model();
    change(&mut changed);
    changed.to_bytes().unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    Model::from_bytes(bytes).unwrap_err().to_string()
}

#[test]
fn a_model_survives_its_file_and_has_one_form() {
    let bytes = model().to_bytes().unwrap();
    assert_eq!(bytes, model().to_bytes().unwrap());
    let loaded = Model::from_bytes(&bytes).unwrap();
    assert_eq!(loaded.to_bytes().unwrap(), bytes);
    assert_eq!(loaded.version, hexadecimal(&Sha256::digest(&bytes)));
    assert_eq!(loaded.resource_name(), format!("models/test-1/versions/{}", loaded.version));
    let article = Article { title: "", text: "Un accord" };
    let answer = |model| Classifier::new(model).classify(article, &Options::default()).unwrap();
    assert_eq!(answer(loaded), answer(model()));
}

#[test]
fn the_metadata_is_one_key_with_sorted_json() {
    let bytes = model().to_bytes().unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = metadata.metadata().as_ref().unwrap();
    assert_eq!(metadata.len(), 1);
    assert!(metadata[KEY].starts_with(r#"{"format":3,"heads":{"role":{"labels":"#), "{}", metadata[KEY]);
}

#[test]
fn blocks_that_older_programs_do_not_know_make_format_5() {
    for (field, format) in [(Field::Own, 3), (Field::OwnCommon, 5), (Field::Edges { words: 50 }, 5)] {
        let mut model = model();
        let mut blocks = model.document.blocks().to_vec();
        blocks[0].config.field = field;
        model.document = Space::new(blocks);
        assert_eq!(model.format(), format, "{field:?}");
        let loaded = Model::from_bytes(&model.to_bytes().unwrap()).unwrap();
        assert_eq!(loaded.document.blocks()[0].config.field, field);
    }
}

#[test]
fn settings_and_start_stand_in_format_4_and_nothing_else_does() {
    let settings = HeadSettings { c: 10.0, class_weights: ClassWeights::SquareRoot, chosen_from: Some(8) };
    let version = model().to_bytes().map(|bytes| hexadecimal(&Sha256::digest(bytes))).unwrap();
    for (settings, started_from) in [([("topic".to_owned(), settings)].into(), None), (BTreeMap::new(), Some(version))] {
        let mut with = model();
        with.training = Training { settings, started_from, ..with.training };
        let bytes = with.to_bytes().unwrap();
        assert_eq!((with.format(), model().format()), (4, 3));
        let loaded = Model::from_bytes(&bytes).unwrap();
        assert_eq!(loaded.training, with.training);
        assert_eq!(loaded.to_bytes().unwrap(), bytes);
    }
    let with = |settings: serde_json::Value| refusal(&with_header(|header| header["training"]["settings"] = settings));
    let topic = |c: f64| serde_json::json!({"topic": {"c": c, "class_weights": "none"}});
    assert_eq!(with(topic(-1.0)), "inconsistent model: training.settings.topic.c is -1, which is not above zero");
    assert!(with(serde_json::json!({"role": {"c": 1.0, "class_weights": "none"}})).contains("tell of a head \"role\""));
    assert!(with(serde_json::json!({"topic": {"c": 1.0, "class_weights": "some"}})).contains("unknown variant `some`"));
    let refused = refusal(&with_header(|header| header["training"]["started_from"] = "\u{1b}[31m".into()));
    assert_eq!(refused, "inconsistent model: training.started_from is no SHA-256 in lower-case hexadecimal");
}

#[test]
fn torn_foreign_and_newer_files_are_refused_with_the_reason() {
    let bytes = model().to_bytes().unwrap();
    for length in [0, 7, 8, 100, bytes.len() - 1] {
        assert!(matches!(Model::from_bytes(&bytes[..length]), Err(LoadError::Container(_))), "{length}");
    }
    assert!(refusal(&[bytes.as_slice(), b"x"].concat()).contains("torn"));
    let foreign = safetensors::serialize(Vec::<(String, TensorView<'_>)>::new(), None).unwrap();
    assert!(matches!(Model::from_bytes(&foreign), Err(LoadError::Foreign)));
    let newer = with_header(|header| header["format"] = 6.into());
    assert_eq!(refusal(&newer), "format 6 is newer than this version of depeche reads (5); use a newer depeche");
    assert!(refusal(&with_header(|header| header["format"] = 0.into())).contains("no format 0"));
    assert!(refusal(&with_header(|header| header["extra"] = 1.into())).contains("unknown field `extra`"));
}

#[test]
fn inconsistent_files_are_refused_with_the_reason() {
    let cases: [(Vec<u8>, &str); 16] = [
        (with_header(|header| header["name"] = "Été".into()), "the name \"Été\" is not made of"),
        (with_header(|header| header["noise_label"] = "x".into()), "the noise label \"x\" is no topic"),
        (with_header(|header| header["heads"]["topic"]["priors"][0] = 0.9.into()), "topic.priors"),
        (with_header(|header| header["heads"]["topic"]["temperature"] = 0.into()), "topic.temperature is 0"),
        (with_header(|header| header["heads"]["topic"]["labels"][0] = "z".into()), "topic must have at least two labels, sorted"),
        (
            with_header(|header| header["heads"]["other"] = header["heads"]["topic"].clone()),
            "heads or spaces that a model does not have",
        ),
        (with_header(|header| drop(header["heads"].as_object_mut().unwrap().remove("stance"))), "tensors that belong to no head"),
        (with_header(|header| header["role"]["threshold"] = 1.5.into()), "role.threshold is 1.5, not a probability"),
        (with_header(|header| header["spaces"]["document"][0]["weight"] = (-1).into()), "weight -1"),
        (
            with_header(|header| header["spaces"]["document"][0]["kind"] = serde_json::json!({"ngrams": {"min": 3, "max": 2}})),
            "n-grams of 3 to 2",
        ),
        (
            with_model(|model| model.document = Space::new(vec![block(&["a"])])),
            "topic.weights are [2, 2], not features × labels, [1, 2]",
        ),
        (with_model(|model| model.topic.weights[[0, 0]] = f32::NAN), "topic.weights has the value NaN"),
        (with_model(|model| model.topic.bias[0] = f64::INFINITY), "topic.bias"),
        (with_model(|model| model.topic.bias.truncate(1)), "topic.bias"),
        (with_model(|model| model.topic.out_of_fold.labels[0] = 2), "topic.out_of_fold"),
        (
            with_model(|model| {
                let mut broken = block(&["accord", "météo"]);
                broken.idf[1] = 0.0;
                model.document = Space::new(vec![broken]);
            }),
            "document.0.idf has the value 0",
        ),
    ];
    for (bytes, expected) in cases {
        let found = refusal(&bytes);
        assert!(found.starts_with("inconsistent model: ") && found.contains(expected), "{found:?} does not say {expected:?}");
    }
    let twice = with_model(|model| model.document = Space::new(vec![block(&["aa", "ab"])]));
    let at = twice.windows(6).position(|bytes| bytes == b"aa\nab\n").unwrap();
    let twice = [&twice[..at], b"aa\naa\n", &twice[at + 6..]].concat();
    assert!(refusal(&twice).contains("document.0.terms: a term appears twice"));
    let mut without_body = model();
    let role = without_body.role.take().unwrap();
    let head = Head { labels: vec!["a".into(), "b".into()], ..role.head().clone() };
    without_body.role = Some(RoleHead::new(role.space().clone(), head, 0.5, 0.99));
    assert!(refusal(&without_body.to_bytes().unwrap()).contains("must have the label \"body\""));
}

#[test]
fn numbers_that_would_overflow_and_blocks_beyond_measure_are_refused() {
    let with_bias = |bias| with_model(|model| model.topic.bias[0] = bias);
    let with_temperature = |temperature| with_model(|model| model.topic.temperature = temperature);
    for (bytes, expected) in [
        (with_bias(f64::MAX), "topic.bias is not one number a label in the range of single precision"),
        (with_bias(-1e39), "topic.bias"),
        (with_temperature(5e-324), "topic.temperature is 5e-324, not within 0.001 and 1000"),
        (with_temperature(1e300), "topic.temperature is"),
        (with_model(|model| model.document = Space::new(vec![block(&[]); 33])), "document has 33 blocks; there may be 32"),
    ] {
        assert!(refusal(&bytes).contains(expected), "{:?} does not say {expected:?}", refusal(&bytes));
    }
    // At the limits all numbers stay finite.
    for temperature in [1e-3, 1e3] {
        let loaded = Model::from_bytes(&with_model(|model| {
            model.topic.bias = vec![f64::from(f32::MAX), f64::from(f32::MIN)];
            model.topic.weights.fill(f32::MAX);
            model.topic.temperature = temperature;
        }));
        let article = Article { title: "", text: "Un accord" };
        let answer = Classifier::new(loaded.unwrap()).classify(article, &Options::default()).unwrap();
        assert!((answer.topic.probability - 1.0).abs() < 1e-12 && answer.topic.logit.is_finite(), "{answer:?}");
    }
}

#[test]
fn writing_replaces_the_file_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, "old").unwrap();
    replace(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let error = replace(&folder.path().join("none/model"), b"new").unwrap_err();
    assert!(error.to_string().contains("none/model"));
}

#[test]
fn single_precision_values_keep_their_bits() {
    let mut exact = model();
    exact.topic.weights = array![[f32::MIN_POSITIVE, -0.0], [f32::MAX, 1.000_000_1]];
    let loaded = Model::from_bytes(&exact.to_bytes().unwrap()).unwrap();
    let bits = |model: &Model| model.topic.weights.iter().map(|weight| weight.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&loaded), bits(&exact));
}

proptest! {
    /// Numbers of the metadata are read as they were written, to the last bit.
    #[test]
    fn any_model_survives_its_file(temperature in 0.02..50.0, prior in 0.01..0.99, threshold in 0.0..1.0, weight in 1e-9..1e9) {
        let bytes = with_model(|model| {
            model.topic.temperature = temperature;
            model.topic.priors = vec![prior, 1.0 - prior];
            model.thresholds.ticker_only = threshold;
            let mut block = block(&["accord", "météo"]);
            block.config.weight = weight;
            model.document = Space::new(vec![block]);
        });
        prop_assert_eq!(Model::from_bytes(&bytes).unwrap().to_bytes().unwrap(), bytes);
    }

    /// Any bytes load or are refused.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Model::from_bytes(&bytes).is_err());
    }

    /// A damaged file loads or is refused, and what loads can answer.
    #[test]
    fn damaged_files_never_panic(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = model().to_bytes().unwrap();
        let damaged = at.index(bytes.len());
        bytes[damaged] = to;
        if let Ok(model) = Model::from_bytes(&bytes) {
            let _ = Classifier::new(model).classify(Article { title: "météo", text: "Un accord\nmenu" }, &Options { max_contributions: 9, ..Options::default() });
        }
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(Model::from_bytes(&bytes).is_err());
    }
}

#[test]
fn a_file_of_format_1_loads_and_becomes_one_of_this_format() {
    let old = with_header(|header| {
        header["format"] = 1.into();
        header["thresholds"].as_object_mut().unwrap().remove("doubt");
    });
    let loaded = Model::from_bytes(&old).unwrap();
    assert_eq!(loaded.thresholds.doubt, None);
    assert_eq!(loaded.to_bytes().unwrap(), model().to_bytes().unwrap());
}

#[test]
fn a_lexicon_is_kept_and_a_block_that_lacks_it_is_refused() {
    let lexicon = Lexicon::parse("AGREEMENT\taccord*\ncountry:NE\tniger\n").unwrap();
    let concepts = |model: &mut Model, lexicon: Option<Lexicon>| {
        let mut block = block(&["AGREEMENT", "météo"]);
        block.config.kind = BlockKind::Concepts;
        model.document = Space::new(vec![block]).with_lexicon(lexicon);
    };
    let loaded = Model::from_bytes(&with_model(|model| concepts(model, Some(lexicon.clone())))).unwrap();
    assert_eq!(loaded.document.lexicon(), Some(&lexicon));
    let article = Article { title: "", text: "Deux accords" };
    let answer = Classifier::new(loaded).classify(article, &Options { max_contributions: 1, ..Options::default() }).unwrap();
    assert_eq!(answer.topic.explanation.contributions[0].term, "AGREEMENT");
    assert!(refusal(&with_model(|model| concepts(model, None))).contains("but no lexicon"));
    let torn = with_model(|model| concepts(model, Some(lexicon)));
    let at = torn.windows(9).position(|bytes| bytes == b"AGREEMENT\taccord*".get(..9).unwrap()).unwrap();
    let mut broken = torn.clone();
    let tab = torn[at..].iter().position(|byte| *byte == b'\t').unwrap() + at;
    broken[tab] = b' ';
    assert!(refusal(&broken).contains("lexicon: line 1"), "{}", refusal(&broken));
}
