//! A model file of whoever made it holds what `depeche::model::file` promises:
//!
//! - it loads or is refused, in memory of a small multiple of its size;
//! - what loads classifies pages with finite numbers, in memory bounded by its size and the page's;
//! - what loads can be written, and what is written loads as the same.
//!
//! Inputs are model files. They are changed by libFuzzer as bytes, and by [`mutate`] in their parts: the JSON of the metadata, the
//! tensors, and both so that they fit each other.

#![no_main]

mod container;
mod grow;
mod mutate;

use depeche::features::Space;
use depeche::model::{Article, Classifier, InvalidArticle, Model, Options, Prediction};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes of memory for each byte of a file that is loaded.
const FACTOR: usize = 128;

/// Bytes of memory whatever the size: buffers, and what the words of a small page take.
const FLOOR: usize = 1 << 20;

/// What the parts of a logit may add up beside it, of the sum of their magnitudes.
const EXACT: f64 = 1e-9;

/// Terms of each block that a page is made of.
const TERMS: usize = 40;

/// Text that every model classifies.
const TEXT: &str =
    "Accueil   Météo\nLe général a signé un accord à Niamey. « Une façade », dit l’Algérie !\nLire aussi : menu\nmenu";

fuzz_target!(|bytes: &[u8]| {
    let limit = bytes.len() * FACTOR + FLOOR;
    let Ok(model) = within(limit, || Model::from_bytes(bytes)) else { return };
    let written = model.to_bytes().unwrap();
    let again = Model::from_bytes(&written).unwrap();
    assert_eq!(again.to_bytes().unwrap(), written);
    let own = own_text(&model);
    within(limit, || {
        let classifier = Classifier::new(model);
        for article in
            [Article { title: "", text: TEXT }, Article { title: "Un accord", text: &own }, Article { title: &own, text: "menu" }]
        {
            check(&classifier, article);
        }
    });
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match mutate::file(&data[..size], seed) {
        Some(changed) if changed.len() <= max_size => {
            data[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});

/// Does `work`, which may take so much memory beside what is taken already.
fn within<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let done = work();
    let taken = MEMORY.peak_usage().saturating_sub(before);
    assert!(taken <= limit, "{taken} bytes of memory; the limit is {limit}");
    done
}

/// A text of terms that the model knows.
fn own_text(model: &Model) -> String {
    let terms = |space: &Space| {
        let lines = space.blocks().iter().map(|block| block.vocabulary.iter().take(TERMS).collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>().join(".\n")
    };
    let role = model.role.as_ref().map(|role| terms(role.space()));
    [terms(&model.document), role.unwrap_or_default()].join("\n\n")
}

fn check(classifier: &Classifier, article: Article<'_>) {
    for max_contributions in [0, 50] {
        let answer = match classifier.classify(article, &Options { max_contributions, ..Options::default() }) {
            Ok(answer) => answer,
            Err(InvalidArticle::BlankText | InvalidArticle::NoBody) => continue,
            Err(error @ InvalidArticle::Priors(_)) => panic!("{error}"),
        };
        assert!(answer.passages.iter().all(|verdict| (0.0..=1.0).contains(&verdict.noise_probability)), "{answer:?}");
        check_prediction(&answer.topic);
        answer.stance.iter().for_each(check_prediction);
    }
}

fn check_prediction(prediction: &Prediction) {
    let Prediction { probability, scores, logit, bias, explanation, .. } = prediction;
    assert!(scores.iter().all(|(_, probability)| (0.0..=1.0).contains(probability)), "{prediction:?}");
    assert!((scores.iter().map(|(_, probability)| probability).sum::<f64>() - 1.0).abs() < EXACT, "{prediction:?}");
    assert!(*probability >= scores[0].1 && logit.is_finite() && bias.is_finite(), "{prediction:?}");
    let weights =
        || explanation.contributions.iter().map(|contribution| contribution.weight).chain([explanation.omitted_weight, *bias]);
    let magnitude: f64 = weights().map(f64::abs).sum();
    assert!((weights().sum::<f64>() - logit).abs() <= EXACT * (1.0 + magnitude), "{prediction:?}");
}
