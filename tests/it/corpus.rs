//! The corpus that the default model is trained on: its form, its balance, and that no text repeats another.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use depeche::model::role::REPEATED;
use depeche::terms::Reader;
use depeche::train::{MarkedPage, pages};
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
        assert!(ids.insert(id), "{id} stands twice");
        assert!(TOPICS.contains(&article.topic.as_str()), "{id}: {}", article.topic);
        assert_eq!(article.stance.is_none(), article.topic == "ticker_noise", "{id}");
        assert!(article.stance.as_ref().is_none_or(|stance| STANCES.contains(&stance.as_str())), "{id}: {:?}", article.stance);
        assert!(OUTLET_KINDS.contains(&article.outlet_kind.as_str()), "{id}: {}", article.outlet_kind);
        assert!(
            article.country.len() == 2 && article.country.chars().all(|c| c.is_ascii_uppercase()),
            "{id}: {}",
            article.country
        );
        for field in [&article.group, &article.outlet, &article.event, &article.typography, &article.text] {
            assert!(!field.trim().is_empty(), "{id}");
        }
        let date: Vec<u32> = article.date.split('-').map(|part| part.parse().unwrap()).collect();
        assert!(matches!(date.as_slice(), [2010..=2026, 1..=12, 1..=31]), "{id}: {}", article.date);
        assert!(!article.title.contains('\n'), "{id}");
        let length = words(&article.text).len();
        assert!((15..=1300).contains(&length), "{id}: {length} words");
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
            assert!(counts[&(topic.to_owned(), stance.to_owned())] >= 20, "{topic}, {stance}: {counts:?}");
        }
    }
    assert!(counts[&("ticker_noise".to_owned(), String::new())] >= 80, "{counts:?}");
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
    assert!(with_article >= 30 && kinds["headline"] + kinds["boilerplate"] >= 400, "{with_article} pages, {kinds:?}");
}
