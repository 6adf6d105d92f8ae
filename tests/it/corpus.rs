//! The corpus that the default model is trained on: its form, its balance, and that no text repeats another.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use depeche::evaluate::{Outcome, report};
use depeche::features::{SparseMatrix, SparseRows};
use depeche::model::role::REPEATED;
use depeche::terms::Reader;
use depeche::train::solver::LogisticParams;
use depeche::train::{MarkedPage, folds, pages};
use linfa::ParamGuard;
use linfa::dataset::DatasetBase;
use linfa::traits::{Fit, Predict};
use serde::Deserialize;

const TOPICS: [&str; 3] = ["diplomacy", "military_cooperation", "ticker_noise"];
const STANCES: [&str; 3] = ["critical", "neutral", "supportive"];
const OUTLET_KINDS: [&str; 10] =
    ["agency", "blog", "communique", "daily", "magazine", "militant", "opposition", "radio", "tribune", "tv"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Article {
    id: String,
    group: String,
    campaign: String,
    outlet: String,
    outlet_kind: String,
    country: String,
    event: String,
    date: String,
    typography: String,
    #[serde(rename = "dispatch")]
    _dispatch: bool,
    title: String,
    text: String,
    topic: String,
    stance: Option<String>,
    first_topic: String,
    first_stance: Option<String>,
    second_topic: Option<String>,
    second_stance: Option<String>,
}

/// The files in a folder of the corpus, sorted.
pub(crate) fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn articles() -> Vec<Article> {
    let texts: Vec<String> = files("articles").iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    texts.iter().flat_map(|text| text.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    Reader::default().read(text, |word| words.push(word.text().to_owned()));
    words
}

#[test]
fn every_article_has_the_form_that_the_readme_gives() {
    let articles = articles();
    let mut ids = HashSet::new();
    for article in &articles {
        let id = &article.id;
        assert!(ids.insert(id), "{id} appears twice");
        assert!(TOPICS.contains(&article.topic.as_str()), "{id}: {}", article.topic);
        assert_eq!(article.stance.is_none(), article.topic == "ticker_noise", "{id}");
        assert!(article.stance.as_ref().is_none_or(|stance| STANCES.contains(&stance.as_str())), "{id}: {:?}", article.stance);
        assert!(OUTLET_KINDS.contains(&article.outlet_kind.as_str()), "{id}: {}", article.outlet_kind);
        assert!(
            article.country.len() == 2 && article.country.chars().all(|c| c.is_ascii_uppercase()),
            "{id}: {}",
            article.country
        );
        assert!(article.campaign.parse::<u8>().is_ok_and(|campaign| (1..=21).contains(&campaign)), "{id}: {}", article.campaign);
        for field in [&article.group, &article.outlet, &article.event, &article.typography, &article.text] {
            assert!(!field.trim().is_empty(), "{id}");
        }
        let date: Vec<u32> = article.date.split('-').map(|part| part.parse().unwrap()).collect();
        assert!(matches!(date.as_slice(), [2010..=2026, 1..=12, 1..=31]), "{id}: {}", article.date);
        assert!(!article.title.contains('\n'), "{id}");
        let length = words(&article.text).len();
        assert!((15..=1800).contains(&length), "{id}: {length} words");
    }
}

#[test]
fn there_are_enough_articles_of_every_label() {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for article in articles() {
        *counts.entry((article.topic, article.stance.unwrap_or_default())).or_default() += 1;
    }
    for topic in ["diplomacy", "military_cooperation"] {
        for stance in STANCES {
            assert!(counts[&(topic.to_owned(), stance.to_owned())] >= 150, "{topic}, {stance}: {counts:?}");
        }
        assert!(counts.iter().filter(|((of, _), _)| of == topic).map(|(_, count)| count).sum::<usize>() >= 500, "{counts:?}");
    }
    assert!(counts[&("ticker_noise".to_owned(), String::new())] >= 1000, "{counts:?}");
}

/// No label may hide in the kind of outlet, the time or the length: every topic has its share of each, and every stance of
/// its topic.
#[test]
fn every_cell_of_the_grid_is_filled() {
    let mut cells: BTreeMap<(String, &str, String), usize> = BTreeMap::new();
    for article in articles() {
        let year: u32 = article.date[..4].parse().unwrap();
        let era = match year {
            ..=2016 => "2010 to 2016",
            2017..=2020 => "2017 to 2020",
            2021..=2023 => "2021 to 2023",
            _ => "2024 to 2026",
        };
        let length = match words(&article.text).len() {
            ..=150 => "to 150 words",
            151..=300 => "to 300 words",
            301..=600 => "to 600 words",
            _ => "over 600 words",
        };
        let typography: Vec<&str> = article.typography.split('/').collect();
        let [apostrophe, quotes, space] = typography[..] else { panic!("{}: {}", article.id, article.typography) };
        let label = format!("{} {}", article.topic, article.stance.as_deref().unwrap_or(""));
        for (axis, value) in [("era", era), ("length", length), ("apostrophe", apostrophe), ("quotes", quotes), ("space", space)]
        {
            *cells.entry((label.clone(), axis, value.to_owned())).or_default() += 1;
        }
        *cells.entry((article.topic, "outlet", article.outlet_kind)).or_default() += 1;
    }
    let values = |axis: &str| cells.keys().filter(|(_, of, _)| *of == axis).map(|(_, _, value)| value).collect::<BTreeSet<_>>();
    for (axis, count) in [("era", 4), ("length", 4), ("apostrophe", 2), ("quotes", 5), ("space", 4)] {
        assert_eq!(values(axis).len(), count, "{axis}");
        for topic in TOPICS {
            for stance in if topic == "ticker_noise" { &[""][..] } else { &STANCES[..] } {
                for value in values(axis) {
                    let found = cells.get(&(format!("{topic} {stance}"), axis, value.clone())).copied().unwrap_or(0);
                    assert!(found >= 10, "{topic} {stance}, {axis} {value}: {found}");
                }
            }
        }
    }
    for topic in TOPICS {
        for kind in OUTLET_KINDS {
            let found = cells.get(&(topic.to_owned(), "outlet", kind.to_owned())).copied().unwrap_or(0);
            assert!(found >= 5, "{topic}, {kind}: {found}");
        }
    }
}

#[test]
fn a_group_is_one_event() {
    let mut topics: HashMap<String, BTreeSet<String>> = HashMap::new();
    for article in articles() {
        topics.entry(article.group).or_default().insert(article.topic);
    }
    // Tellings of an event may fall on both sides of the line between its diplomacy and its military side, hardly ever more.
    assert!(topics.values().all(|topics| topics.len() < 3));
}

/// Hashes of all runs of `size` words.
fn shingles(words: &[String], size: usize) -> HashSet<u64> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let hash = |run: &[String]| {
        let mut hasher = DefaultHasher::new();
        run.hash(&mut hasher);
        hasher.finish()
    };
    words.windows(size).map(hash).collect()
}

#[test]
fn no_two_texts_share_a_tenth_of_their_five_word_runs() {
    let articles = articles();
    let shingles: Vec<HashSet<u64>> = articles.iter().map(|article| shingles(&words(&article.text), 5)).collect();
    let mut having: HashMap<u64, Vec<usize>> = HashMap::new();
    for (at, shingles) in shingles.iter().enumerate() {
        shingles.iter().for_each(|shingle| having.entry(*shingle).or_default().push(at));
    }
    let mut shared: HashMap<(usize, usize), usize> = HashMap::new();
    for texts in having.values() {
        for (nth, left) in texts.iter().enumerate() {
            texts[nth + 1..].iter().for_each(|right| *shared.entry((*left, *right)).or_default() += 1);
        }
    }
    for ((left, right), count) in shared {
        let union = shingles[left].len() + shingles[right].len() - count;
        assert!(count * 10 < union, "{} and {} share {count} of {union} runs", articles[left].id, articles[right].id);
    }
}

#[test]
fn no_sentence_of_eight_words_stands_in_two_articles() {
    let mut seen: HashMap<Vec<String>, String> = HashMap::new();
    for article in articles() {
        for sentence in article.text.split_inclusive(['.', '!', '?', '…', '\n']) {
            let words = words(sentence);
            if words.len() >= 8 {
                let first = seen.entry(words).or_insert_with(|| article.id.clone());
                assert_eq!(*first, article.id, "{sentence}");
            }
        }
    }
}

/// Cohen's kappa of pairs of labels: (observed - expected agreement) / (1 - expected).
fn kappa(pairs: &[(&str, &str)]) -> f64 {
    let total = pairs.len() as f64;
    let observed = pairs.iter().filter(|(first, second)| first == second).count() as f64 / total;
    let labels: BTreeSet<&str> = pairs.iter().flat_map(|(first, second)| [*first, *second]).collect();
    let share = |chosen: fn(&(&str, &str)) -> String, label: &str| {
        pairs.iter().filter(|pair| chosen(pair) == label).count() as f64 / total
    };
    let expected: f64 =
        labels.iter().map(|label| share(|pair| pair.0.to_owned(), label) * share(|pair| pair.1.to_owned(), label)).sum();
    (observed - expected) / (1.0 - expected)
}

#[test]
fn kappa_by_hand() {
    // Observed 3/4; first labels a 2/4, b 2/4; second labels a 3/4, b 1/4; expected 1/2: (3/4 - 1/2) / (1/2).
    assert!((kappa(&[("a", "a"), ("a", "a"), ("b", "a"), ("b", "b")]) - 0.5).abs() < 1e-12);
}

#[test]
fn a_second_reader_agrees_as_the_readme_says() {
    let articles = articles();
    let topics: Vec<(&str, &str)> =
        articles.iter().filter_map(|article| Some((article.first_topic.as_str(), article.second_topic.as_deref()?))).collect();
    let stances: Vec<(&str, &str)> = articles
        .iter()
        .filter_map(|article| Some((article.first_stance.as_deref()?, article.second_stance.as_deref()?)))
        .collect();
    assert_eq!(topics.len(), articles.len(), "articles without a second label");
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/README.md")).unwrap();
    for (name, pairs) in [("topic", &topics), ("stance", &stances)] {
        let agreed = pairs.iter().filter(|(first, second)| first == second).count();
        let row =
            format!("| {name} | {} | {:.1} % | {:.3} |", pairs.len(), 100.0 * agreed as f64 / pairs.len() as f64, kappa(pairs));
        assert!(readme.contains(&row), "corpus/README.md does not say {row}");
    }
}

#[test]
fn pages_are_marked_and_have_every_kind() {
    let pages: Vec<MarkedPage> = pages::read(&files("pages")).unwrap();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    pages.iter().flat_map(|page| &page.passages).for_each(|(_, kind)| *kinds.entry(kind).or_default() += 1);
    assert_eq!(kinds.keys().copied().collect::<Vec<_>>(), ["body", "boilerplate", "byline", "headline", "related", REPEATED]);
    let with_article = pages.iter().filter(|page| page.passages.iter().any(|(_, kind)| kind == "body")).count();
    assert!(with_article >= 200, "{with_article} pages with an article");
    let written = pages::read(&[Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/pages/pages.jsonl")]).unwrap();
    assert!(written.len() >= 200, "{} written pages", written.len());
    let lines: HashSet<&str> = pages
        .iter()
        .flat_map(|page| page.passages.iter().filter(|(_, kind)| kind != "body").map(|(passage, _)| passage.text(&page.text)))
        .collect();
    assert!(lines.len() >= 2000, "{} different headlines and notices", lines.len());
}

/// What an article looks like: which apostrophes, quotation marks and spaces it has, and how long it and its title are.
fn looks(article: &Article) -> Vec<f64> {
    const MARKS: [&str; 15] =
        ["’", "'", "«", "“", "”", "\"", "\u{a0}", "\u{202f}", "« ", "«\u{a0}", " ?", " :", " ;", "\u{a0}:", "\u{202f}:"];
    let marks = MARKS.iter().map(|mark| f64::from(u8::from(article.text.contains(mark))));
    let lengths = [words(&article.text).len(), 1 + words(&article.title).len()];
    marks.chain(lengths.map(|length| (length as f64).ln())).collect()
}

/// Macro-F1 in cross-validation of a model on looks alone, for as many articles of each label.
fn macro_f1_of_looks(articles: &[Article], label: impl Fn(&Article) -> Option<&str>) -> f64 {
    let mut by_label: BTreeMap<&str, Vec<&Article>> = BTreeMap::new();
    articles.iter().filter_map(|article| Some((label(article)?, article))).for_each(|(label, article)| {
        by_label.entry(label).or_default().push(article);
    });
    let least = by_label.values().map(Vec::len).min().unwrap();
    // Ids are hashes, so the first of them are a random sample.
    by_label.values_mut().for_each(|articles| articles.sort_by_key(|article| &article.id));
    let sample: Vec<(usize, &Article)> = by_label
        .values()
        .enumerate()
        .flat_map(|(at, articles)| articles[..least].iter().map(move |article| (at, *article)))
        .collect();
    let mut rows: Vec<Vec<f64>> = sample.iter().map(|(_, article)| looks(article)).collect();
    for column in 0..rows[0].len() {
        let mean = rows.iter().map(|row| row[column]).sum::<f64>() / rows.len() as f64;
        let deviation = (rows.iter().map(|row| (row[column] - mean).powi(2)).sum::<f64>() / rows.len() as f64).sqrt().max(1e-9);
        rows.iter_mut().for_each(|row| row[column] = (row[column] - mean) / deviation);
    }
    let mut matrix = SparseMatrix::new(rows[0].len());
    rows.iter().for_each(|row| matrix.push_vector(&(0..).zip(row.iter().copied()).collect::<Vec<(u32, f64)>>()));
    let labels: Vec<usize> = sample.iter().map(|(label, _)| *label).collect();
    let groups: Vec<&str> = sample.iter().map(|(_, article)| article.group.as_str()).collect();
    let folds = folds::assign(&labels, &groups, 5, 0);
    let names: Vec<&str> = by_label.keys().copied().collect();
    let settings = LogisticParams::new(names.len()).c(1.0).check().unwrap();
    let mut outcomes = Vec::new();
    for fold in 0..5 {
        let chosen = |test: bool| (0..labels.len()).filter(|row| (folds[*row] == fold) == test).collect::<Vec<usize>>();
        let data = |rows: Vec<usize>| {
            let targets = rows.iter().map(|row| labels[*row]).collect();
            DatasetBase::new(SparseRows { matrix: &matrix, rows, scales: &[] }, targets)
        };
        let model = settings.fit(&data(chosen(false))).unwrap();
        let test = data(chosen(true));
        for (row, predicted) in chosen(true).iter().zip(model.predict(&test)) {
            outcomes.push(Outcome { gold: names[labels[*row]], predicted: Some(names[predicted]), probability: 1.0 });
        }
    }
    report(&outcomes, &names).macro_f1
}

#[test]
fn typography_and_length_tell_no_label() {
    let articles = articles();
    let topic = macro_f1_of_looks(&articles, |article| Some(&article.topic));
    let stance = macro_f1_of_looks(&articles, |article| article.stance.as_deref());
    // By chance it is a third.
    assert!(topic <= 0.45 && stance <= 0.45, "topic {topic}, stance {stance}");
}
