//! Training as a whole, on a part of the corpus: a start from another model, and a search for settings.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use depeche::features::Lexicon;
use depeche::model::{Article, ClassWeights, Classifier, Head, HeadSettings, Model, Options};
use depeche::spill::Memory;
use depeche::train::{
    Corpus, FieldNames, Fitting, LabelledArticle, MarkedPage, SearchParams, TrainParams, Trained, corpus, pages, train,
};
use rand_mt::Mt;

/// One article in twelve.
static ARTICLES: LazyLock<Vec<LabelledArticle>> = LazyLock::new(|| {
    let articles = corpus::read(&super::corpus::files("articles"), &FieldNames::default()).unwrap();
    articles.into_iter().step_by(12).collect()
});

/// One page in eight.
static PAGES: LazyLock<Vec<MarkedPage>> =
    LazyLock::new(|| pages::read(&super::corpus::files("pages")).unwrap().into_iter().step_by(8).collect());

fn params() -> TrainParams {
    let lexicon = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/lexicon.tsv");
    TrainParams {
        noise_label: Some("ticker_noise".into()),
        lexicon: Some(Lexicon::parse(&fs::read_to_string(lexicon).unwrap()).unwrap()),
        lead_weight: 0.3,
        max_features: [2000, 5000, 3000],
        ..TrainParams::default()
    }
}

fn trained(params: &TrainParams) -> Trained {
    train(params, Corpus::in_memory(ARTICLES.clone()), &PAGES, &()).unwrap()
}

/// The same with so little memory that texts, terms and vectors go to disk, and the bytes that went there.
fn trained_on_disk(params: &TrainParams, limit: u64) -> (Trained, u64) {
    let folder = tempfile::tempdir().unwrap();
    let memory = Memory::new(Some(limit), folder.path().to_owned());
    let mut corpus = Corpus::new(&memory);
    ARTICLES.iter().for_each(|article| corpus.push(article.clone()).unwrap());
    let trained = train(&TrainParams { memory: memory.clone(), ..params.clone() }, corpus, &PAGES, &()).unwrap();
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    (trained, memory.written())
}

/// The model as its file gives it back.
fn reloaded(trained: &Trained) -> Model {
    Model::from_bytes(&trained.model.to_bytes().unwrap()).unwrap()
}

fn on<T: Send>(threads: usize, work: impl Fn() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

fn labels(model: &Model) -> Vec<(String, Option<String>)> {
    let classifier = Classifier::new(model.clone());
    let answer = |article: &LabelledArticle| {
        let article = Article { title: &article.title, text: &article.text };
        let answer = classifier.classify(article, &Options::default()).unwrap();
        (answer.topic.label, answer.stance.map(|stance| stance.label))
    };
    ARTICLES.iter().map(answer).collect()
}

fn assert_close(left: &Model, right: &Model, within: f64) {
    for ((name, left), (_, right)) in left.heads().zip(right.heads()) {
        for (left, right) in left.weights.iter().zip(&right.weights) {
            assert!(f64::from(left - right).abs() < within, "{name}: {left} {right}");
        }
        for (left, right) in left.bias.iter().zip(&right.bias) {
            assert!((left - right).abs() < within, "{name}: {left} {right}");
        }
    }
}

fn iterations(trained: &Trained) -> Vec<u64> {
    trained.fittings.iter().map(|fitting| fitting.iterations).collect()
}

#[test]
fn who_starts_from_the_model_of_the_same_articles_is_there() {
    for class_weights in ClassWeights::ALL {
        // So near that it is far from zero.
        let params = TrainParams { class_weights, tolerance: 1e-6, calibration_folds: 0, ..params() };
        let cold = trained(&params);
        let warm = trained(&TrainParams { init: Some(reloaded(&cold)), ..params });
        assert!(iterations(&cold).iter().all(|iterations| *iterations >= 15), "{:?}", iterations(&cold));
        assert!(iterations(&warm).iter().all(|iterations| *iterations <= 2), "{:?}", iterations(&warm));
        for Fitting { head, taken_over, .. } in &warm.fittings {
            let over = taken_over.unwrap();
            assert!(over.is_used && over.features == over.of_features && over.labels == over.of_labels, "{head}: {over:?}");
        }
        assert_eq!(warm.fittings.len(), 3);
        assert_eq!(labels(&warm.model), labels(&cold.model));
        assert_eq!(warm.model.training.started_from, Some(reloaded(&cold).version));
    }
}

/// The objective over C · n is convex with curvature of at least 1 / (C · n), so that a gradient of at most t leaves
/// the minimum within t · C · n, and two ends within twice that; weights of columns as they are may be twice as large. Leads add 0.3 to n.
#[test]
fn where_the_solver_starts_does_not_tell_where_it_ends() {
    let params = TrainParams { tolerance: 1e-8, c: 10.0, calibration_folds: 0, ..params() };
    let cold = trained(&params);
    // Fewer articles of fewer labels, without stances and lexicon: other features, other idf, other shares of the blocks.
    let part: Vec<LabelledArticle> = ARTICLES
        .iter()
        .filter(|article| article.topic != "diplomacy")
        .map(|article| LabelledArticle { stance: None, ..article.clone() })
        .collect();
    let other = train(&TrainParams { lexicon: None, ..params.clone() }, Corpus::in_memory(part), &[], &()).unwrap();
    let warm = trained(&TrainParams { init: Some(reloaded(&other)), ..params });
    let [role, topic, stance] = [0, 1, 2].map(|at| warm.fittings[at].taken_over.unwrap());
    assert_eq!((role.features, role.is_used, stance.labels, stance.is_used), (0, false, 0, false));
    assert!(topic.is_used && topic.features > 3_000 && topic.features < topic.of_features, "{topic:?}");
    assert_eq!((topic.labels, topic.of_labels), (2, 3));
    assert_close(&warm.model, &cold.model, 4e-8 * 10.0 * 1.3 * ARTICLES.len() as f64 + 1e-5);
    assert_eq!(labels(&warm.model), labels(&cold.model));
}

#[test]
fn most_of_the_articles_are_a_head_start() {
    let params = TrainParams { calibration_folds: 0, ..params() };
    let cold = trained(&params);
    let most: Vec<LabelledArticle> =
        ARTICLES.iter().enumerate().filter(|(at, _)| at % 20 > 0).map(|(_, of)| of.clone()).collect();
    let other = train(&params, Corpus::in_memory(most), &PAGES, &()).unwrap();
    let warm = trained(&TrainParams { init: Some(reloaded(&other)), ..params });
    let (cold, warm) = (iterations(&cold), iterations(&warm));
    assert!(warm.iter().sum::<u64>() < cold.iter().sum(), "{warm:?} {cold:?}");
}

#[test]
fn a_model_of_something_else_leaves_no_trace() {
    let params = TrainParams { calibration_folds: 2, ..params() };
    let foreign: Vec<LabelledArticle> = (0..20)
        .map(|n| LabelledArticle {
            id: n.to_string(),
            text: format!("{} 中文", if n % 2 == 0 { "ποδόσφαιρο αγώνας" } else { "στρατός συνθήκη" }),
            topic: if n % 2 == 0 { "αθλητισμός" } else { "άμυνα" }.into(),
            ..LabelledArticle::default()
        })
        .collect();
    let other = train(&TrainParams { noise_label: None, ..params.clone() }, Corpus::in_memory(foreign), &[], &()).unwrap();
    let warm = trained(&TrainParams { init: Some(reloaded(&other)), ..params.clone() });
    assert!(warm.fittings.iter().all(|fitting| !fitting.taken_over.unwrap().is_used));
    assert!(warm.model.to_bytes().unwrap() == trained(&params).model.to_bytes().unwrap());
}

#[test]
fn a_start_that_is_worse_than_nothing_is_not_taken() {
    let params = TrainParams { calibration_folds: 0, ..params() };
    let cold = trained(&params);
    let mut wrong = reloaded(&cold);
    wrong.topic.weights.mapv_inplace(|weight| -1e30 * weight);
    let warm = trained(&TrainParams { init: Some(wrong), ..params });
    let is_used: Vec<bool> = warm.fittings.iter().map(|fitting| fitting.taken_over.unwrap().is_used).collect();
    assert_eq!(is_used, [true, false, true]);
    assert_eq!(warm.model.topic.weights, cold.model.topic.weights);
}

#[test]
fn a_start_and_a_search_give_the_same_bytes_on_any_number_of_threads() {
    let init = Some(reloaded(&trained(&TrainParams { c: 30.0, calibration_folds: 0, ..params() })));
    let search = Some(SearchParams { cs: vec![1.0, 100.0], class_weights: vec![ClassWeights::Balanced, ClassWeights::None] });
    let params = TrainParams { init, search, calibration_folds: 3, ..params() };
    let one = on(1, || trained(&params));
    let two = on(2, || trained(&params));
    assert!(one.model.to_bytes().unwrap() == two.model.to_bytes().unwrap());
    for (one, two) in one.fittings.iter().zip(&two.fittings) {
        assert_eq!(one.search, two.search);
    }
}

#[test]
fn what_a_search_chooses_is_what_its_settings_give_and_is_recorded() {
    let params = TrainParams { calibration_folds: 3, ..params() };
    let grid = SearchParams { cs: vec![100.0, 0.001], class_weights: vec![ClassWeights::None] };
    let found = trained(&TrainParams { search: Some(grid), ..params.clone() });
    for fitting in &found.fittings[1..] {
        let search = fitting.search.as_ref().unwrap();
        // With next to no weight on the data a model knows next to nothing: p is 1/k, and any order of C is put right.
        assert_eq!(search.points.iter().map(|point| point.c).collect::<Vec<_>>(), [0.001, 100.0]);
        assert_eq!((search.chosen, search.folds), (1, 3));
        assert!(search.points[1].log_loss.mean < search.points[0].log_loss.mean && search.points[1].above == (0.0, 0.0));
        assert!(search.points[1].macro_f1.mean > 1.0 / 3.0);
    }
    // The role head has settings of its own.
    assert!(found.fittings[0].search.is_none());
    let settings = HeadSettings { c: 100.0, class_weights: ClassWeights::None, chosen_from: Some(2) };
    let training = reloaded(&found).training;
    assert_eq!(training.settings, ["stance", "topic"].map(|head| (head.to_owned(), settings.clone())).into());
    let given = trained(&TrainParams { c: 100.0, class_weights: ClassWeights::None, ..params });
    for ((_, found), (_, given)) in found.model.heads().zip(given.model.heads()) {
        assert_eq!(found, given);
    }
    let settings = HeadSettings { chosen_from: None, ..settings };
    assert_eq!(given.model.training.settings["topic"], settings);
}

#[test]
fn class_weights_say_what_is_learnt_and_not_how_frequent_labels_are() {
    // Of 300 articles 30 are of the rare label; half of the others say nothing at all.
    let articles: Vec<LabelledArticle> = (0..300)
        .map(|n| LabelledArticle {
            id: n.to_string(),
            text: if n % 10 == 0 { "rare commun" } else { ["fréquent commun", "commun commun"][n % 2] }.into(),
            topic: if n % 10 == 0 { "rare" } else { "fréquent" }.into(),
            ..LabelledArticle::default()
        })
        .collect();
    let probability = |class_weights| {
        let params = TrainParams { class_weights, c: 1e-6, calibration_folds: 0, ..TrainParams::default() };
        let model = train(&params, Corpus::in_memory(articles.clone()), &[], &()).unwrap().model;
        Classifier::new(model).classify(Article { title: "", text: "inconnu" }, &Options::default()).unwrap().topic.probability
    };
    // A text without any known word, and next to no weight on the data: both labels are as likely, whatever the weights.
    for class_weights in ClassWeights::ALL {
        let found = probability(class_weights);
        assert!((found - 0.5).abs() < 1e-3, "{class_weights}: {found}");
    }
}

/// About 700 KB of text in chunks of 64 KB, and of 4 KB; of vectors a part is in memory at first, then nothing.
#[test]
fn little_memory_gives_the_same_bytes_on_any_number_of_threads() {
    let params = TrainParams { calibration_folds: 3, ..params() };
    let bytes = |trained: &Trained| trained.model.to_bytes().unwrap();
    let expected = bytes(&trained(&params));
    let text: usize = ARTICLES.iter().map(|article| article.title.len() + article.text.len()).sum();
    for (limit, threads) in [(4 << 20, 2), (1 << 18, 1), (1 << 18, 2)] {
        let (trained, written) = on(threads, || trained_on_disk(&params, limit));
        assert!(written > text as u64 / 2, "{written} of {text}");
        assert!(bytes(&trained) == expected, "{limit} bytes, {threads} threads");
    }
}

#[test]
fn a_folder_for_temporary_files_that_is_not_there_is_named() {
    let memory = Memory::new(Some(1 << 20), "/there/is/no/such/folder".into());
    let corpus = Corpus::in_memory(ARTICLES.clone());
    let error = train(&TrainParams { memory, ..params() }, corpus, &[], &()).unwrap_err();
    assert_eq!(error.to_string(), "temporary files in /there/is/no/such/folder");
}

#[test]
fn one_fold_held_out_calibrates_on_that_fold_alone() {
    let params = TrainParams { calibration_folds: 5, ..params() };
    let all = trained(&params).model.topic;
    let one = trained(&TrainParams { held_out_folds: 1, ..params.clone() }).model.topic;
    assert_eq!(one.weights, all.weights);
    let rows = one.out_of_fold.labels.len();
    assert!((ARTICLES.len() / 6..=ARTICLES.len() / 4).contains(&rows), "{rows} of {}", ARTICLES.len());
    // What is held out is predicted as it is when all are.
    let predicted = |head: &Head| head.out_of_fold.logits.rows().into_iter().map(|row| format!("{row}")).collect::<HashSet<_>>();
    assert!(predicted(&one).is_subset(&predicted(&all)));
    let too_many = TrainParams { held_out_folds: 6, ..params };
    let error = train(&too_many, Corpus::in_memory(ARTICLES.clone()), &[], &()).unwrap_err();
    assert_eq!(error.to_string(), "6 folds to hold out: there are 5 calibration folds");
}

/// Articles whose words tell of which pair they are, and nothing of their label, which was drawn for each pair.
fn pairs_with_drawn_labels(pairs: u32) -> Vec<LabelledArticle> {
    let mut random = Mt::new(7);
    let mut name = || -> String { (0..7).map(|_| char::from(b'a' + u8::try_from(random.next_u32() % 26).unwrap())).collect() };
    let mut labels = Mt::new(11);
    let pair = |pair: u32| {
        let words: Vec<String> = (0..12).map(|_| name()).collect();
        let topic = if labels.next_u32().is_multiple_of(2) { "tails" } else { "heads" };
        let article = |at: u32| LabelledArticle {
            title: String::new(),
            text: words.join(" "),
            topic: topic.into(),
            stance: None,
            id: format!("{pair}-{at}"),
            group: Some(format!("{pair}")),
            fold: None,
            source: (Path::new("drawn").into(), 1),
        };
        [article(0), article(1)]
    };
    (0..pairs).flat_map(pair).collect()
}

#[test]
fn folds_keep_whole_what_they_are_told_to_and_else_the_groups() {
    // In groups of their own, the articles of a pair tell of one another.
    let mut articles = pairs_with_drawn_labels(60);
    articles.iter_mut().for_each(|article| article.group = Some(article.id.clone()));
    let accuracy = |articles: &[LabelledArticle]| {
        let corpus = Corpus::in_memory(articles.to_vec());
        train(&TrainParams::default(), corpus, &[], &()).unwrap().model.training.topic.unwrap().accuracy
    };
    let apart = accuracy(&articles);
    articles.iter_mut().for_each(|article| article.fold = article.id.split('-').next().map(str::to_owned));
    let whole = accuracy(&articles);
    // Four of five articles have their twin among what is fitted on. Of 60 coins half, give or take 4.
    assert!(apart > 0.75, "{apart}");
    assert!((whole - 0.5).abs() < 16.0 / 60.0, "{whole}");
}

#[test]
fn what_only_held_out_articles_could_tell_is_not_known_however_loose_the_solver_is() {
    let params = TrainParams { c: 1000.0, tolerance: 1e-3, ..TrainParams::default() };
    let Trained { model, fittings } = train(&params, Corpus::in_memory(pairs_with_drawn_labels(300)), &[], &()).unwrap();
    let scores = model.training.topic.unwrap();
    // As good as a coin: of 300 pairs half, give or take 9 (a standard deviation); 40 are more than four of them.
    assert!((scores.accuracy - 0.5).abs() < 40.0 / 300.0, "{scores:?}");
    assert!(fittings[0].iterations > 0);
    // Logits that tell nothing are cooled until they hardly differ.
    assert!(model.topic.temperature > 3.0, "{}", model.topic.temperature);
}
