//! Training the head that tells article from noise.
//!
//! It learns from the passages of marked pages, and from the labelled articles, whose text is article throughout. All are
//! shown in the forms that collectors deliver:
//!
//! - pages with and without their headline for a title;
//! - articles by turns with and without a title, the text alone or with the title as first line; every second one also as one long line;
//! - every article also among lines of a marked page without an article: before it, behind it, in its middle or between its paragraphs, or
//!   the lines alone. Few pages are marked, and on fewer a list ends right before the first paragraph.
//!
//! Passages marked as repeated are left out: repetition is seen, not learnt.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;

use super::corpus::{check_labels, counts};
use super::fit::{Fitting, Leads, Rows, fit_head};
use super::pages::MarkedPage;
use super::run::{TrainError, TrainParams};
use super::store::Corpus;
use super::vectors::of_documents;
use crate::features::shape::{Page, Shapes};
use crate::features::{BlockConfig, BlockKind, Document, Field, Reading, ShapeTerms, Space};
use crate::model::role::{BODY, REPEATED};
use crate::model::{HeadSettings, RoleHead};
use crate::page::{self, Passage};

/// Articles beyond this number, spread evenly over the corpus, teach the head nothing new.
const ARTICLES: usize = 4000;

/// Above this a passage is noise.
const THRESHOLD: f64 = 0.5;

/// Above this the main passage is noise.
const MAIN_THRESHOLD: f64 = 0.99;

/// How often a passage is taken to be article before it is looked at. A little more than it is on the pages of the
/// corpus (a third): a lost paragraph costs more than a headline too many.
const BODY_PRIOR: f64 = 0.4;

/// C of the solver, whatever that of topic and stance is: the shape of a page is some thousand terms that mean the same everywhere, so weights are kept small.
const C: f64 = 5.0;

/// What the words of a passage weigh beside its shape. They are those of the lines that were marked, which are few, and other lines have others.
const WORDS: f64 = 0.25;

/// Lines of the shortest list that an article is shown among, and how many lengths there are.
const LINES: [usize; 2] = [6, 5];

/// Lists from which on groups are joined by the list that they are shown with.
const JOINED: usize = 20;

/// Bytes of the longest headline of a page that is shown as its title too.
const HEADLINE: usize = 200;

/// A page to learn from.
struct Example<'a> {
    /// The title that comes with it; empty where none does.
    title: &'a str,
    text: Cow<'a, str>,
    passages: Vec<(Passage, String)>,
    group: String,
}

/// Trains the head; there must be at least one page.
pub(super) fn train(params: &TrainParams, corpus: &Corpus, pages: &[MarkedPage]) -> Result<(RoleHead, Fitting), TrainError> {
    let articles = chosen(corpus).map_err(|source| params.disk(source))?;
    let examples = examples(&articles, pages);
    let mut rows: Vec<Document<'_>> = Vec::new();
    let mut kinds: Vec<&str> = Vec::new();
    let mut groups: Vec<&str> = Vec::new();
    let mut reading = Reading::default();
    for example in &examples {
        let passages: Vec<Passage> = example.passages.iter().map(|(passage, _)| passage.clone()).collect();
        reading.clear();
        let title = reading.read(example.title);
        let tokens = reading.passages(&example.text, &passages);
        let page = Page { text: &example.text, passages: &passages, reading: &reading, title, tokens: &tokens };
        let shapes = Shapes::new(&page);
        for (at, (passage, kind)) in example.passages.iter().enumerate().filter(|(_, (_, kind))| kind != REPEATED) {
            let mut shape = ShapeTerms::default();
            shapes.terms(at, &mut shape);
            rows.push(Document { shape, ..Document::passage(&example.text, passage.range.clone()) });
            kinds.push(kind);
            groups.push(&example.group);
        }
    }
    let counts = counts(kinds.iter().copied());
    check_labels("kinds of passages", &counts)?;
    if !counts.contains_key(BODY) {
        return Err(TrainError::Pages(format!("no passage is marked {BODY:?}")));
    }
    let labels: Vec<String> = counts.keys().map(|label| (*label).to_owned()).collect();
    let targets: Vec<usize> =
        kinds.iter().filter_map(|kind| labels.binary_search_by(|label| label.as_str().cmp(kind)).ok()).collect();
    let space = Space::fit(blocks(), None, &rows.iter().collect::<Vec<_>>());
    let matrix = of_documents(&space, &rows).map_err(|source| params.disk(source))?;
    let rows = (0..rows.len()).collect();
    let leads = Leads::default();
    let rows = Rows {
        head: "role",
        space: &space,
        matrix: &matrix,
        scales: &[],
        by_relevance: false,
        rows,
        targets,
        groups,
        labels,
        leads,
    };
    // There are few pages: all of them are needed.
    let params = TrainParams { held_out_folds: 0, ..params.clone() };
    let (mut head, fitting) = fit_head(&params, &HeadSettings { c: C, ..HeadSettings::default() }, &rows)?;
    #[expect(clippy::cast_precision_loss, reason = "a handful of kinds")]
    let other = (1.0 - BODY_PRIOR) / (head.labels.len() - 1) as f64;
    head.priors = head.labels.iter().map(|label| if label == BODY { BODY_PRIOR } else { other }).collect();
    Ok((RoleHead::new(space, head, THRESHOLD, MAIN_THRESHOLD), fitting))
}

fn blocks() -> Vec<BlockConfig> {
    let block = |name: &str, kind, min_df, max_features, weight| BlockConfig {
        name: name.into(),
        kind,
        field: Field::Document,
        min_df,
        max_features,
        weight,
    };
    vec![block("word", BlockKind::Words, 2, 10_000, WORDS), block("shape", BlockKind::Shape, 5, 0, 1.0)]
}

/// An article that is shown.
struct Article<'a> {
    title: String,
    text: String,
    group: &'a str,
}

/// Lines of a page without an article, each with its kind.
type List<'a> = Vec<(&'a str, &'a str)>;

/// The articles that are shown.
fn chosen(corpus: &Corpus) -> io::Result<Vec<Article<'_>>> {
    let labels = corpus.labels();
    let chosen = labels.len().min(ARTICLES);
    let article = |at: usize| {
        let at = at * labels.len() / chosen;
        let (title, text) = corpus.article(at)?;
        Ok(Article { title, text, group: labels[at].group.as_deref().unwrap_or(&labels[at].id) })
    };
    (0..chosen).map(article).collect()
}

fn examples<'a>(articles: &'a [Article<'_>], pages: &'a [MarkedPage]) -> Vec<Example<'a>> {
    let name = |at: usize| pages[at].group.clone().unwrap_or_else(|| format!("page {at}"));
    let is_list = |page: &MarkedPage| page.group.is_none() && page.passages.iter().all(|(_, kind)| kind != BODY);
    let lists: Vec<usize> = (0..pages.len()).filter(|at| is_list(&pages[*at])).collect();
    // Each group meets one list, and makes one group with it, so that no page is both trained on and tested with; unless that leaves few groups.
    let mut met: HashMap<&str, usize> = HashMap::new();
    for article in articles {
        let next = met.len();
        met.entry(article.group).or_insert(next);
    }
    let list = |group: &str| Some(lists[met.get(group)?.checked_rem(lists.len())?]);
    let joint = |group: String| list(&group).filter(|_| lists.len() >= JOINED).map_or(group, name);
    let marked = (0..pages.len()).flat_map(|at| shown(&pages[at], &joint(name(at))));
    let whole = articles.iter().enumerate().flat_map(|(at, article)| {
        let group = joint(article.group.to_owned());
        let mut examples = alone(article, at, &group);
        examples.extend(list(article.group).map(|list| among(article, &lines(&pages[list]), scattered(at), group)));
        examples
    });
    marked.chain(whole).collect()
}

/// A page as it is and, where its article begins with a headline, also with that for a title.
fn shown<'a>(page: &'a MarkedPage, group: &str) -> Vec<Example<'a>> {
    let example =
        |title| Example { title, text: page.text.as_str().into(), passages: page.passages.clone(), group: group.to_owned() };
    let first = page.passages.iter().find(|(_, kind)| kind == BODY).map(|(passage, _)| passage.text(&page.text));
    std::iter::once("").chain(first.filter(|first| first.len() < HEADLINE)).map(example).collect()
}

fn lines(page: &MarkedPage) -> List<'_> {
    page.passages.iter().map(|(passage, kind)| (passage.text(&page.text), kind.as_str())).collect()
}

/// An article by itself, in the forms that its number tells.
fn alone<'a>(article: &'a Article<'_>, at: usize, group: &str) -> Vec<Example<'a>> {
    let Article { title, text, .. } = article;
    let mut turns = Turns(at);
    let is_line = turns.one_of(2) == 0;
    let has_headline = turns.one_of(2) == 1;
    let title_given = if turns.one_of(2) == 0 { title } else { "" };
    let example = |text: Cow<'a, str>| {
        let passages = page::split(&text).into_iter().map(|passage| (passage, BODY.to_owned())).collect();
        Example { title: title_given, text, passages, group: group.to_owned() }
    };
    let lines = if has_headline { Cow::Owned(format!("{title}\n{text}")) } else { Cow::Borrowed(text.as_str()) };
    std::iter::once(example(lines)).chain(is_line.then(|| example(Cow::Owned(one_line(text))))).collect()
}

/// An article among some lines of `list`, or these alone, as a `number` tells.
fn among<'a>(article: &'a Article<'_>, list: &List<'_>, number: usize, group: String) -> Example<'a> {
    let Article { title, text, .. } = article;
    let mut turns = Turns(number);
    let layout = turns.one_of(4);
    let title_given = if turns.one_of(2) == 0 { title } else { "" };
    let has_headline = turns.one_of(2) == 1;
    let gap = ["\n", "\n\n"][turns.one_of(2)];
    let is_list_alone = turns.one_of(2) == 0;
    let mut passages: List<'_> = Vec::new();
    if !is_list_alone {
        for text in [Some(title).filter(|_| has_headline), Some(text)].into_iter().flatten() {
            passages.extend(page::split(text).iter().map(|passage| (passage.text(text), BODY)));
        }
    }
    let count = (LINES[0] + turns.one_of(LINES[1])).min(list.len());
    let mut lines = list.iter().copied().cycle().skip(turns.one_of(list.len())).take(count);
    if let Some(place) = [0, passages.len(), passages.len().div_ceil(2)].get(layout).copied() {
        passages.splice(place..place, lines);
    } else {
        passages = passages.into_iter().flat_map(|passage| std::iter::once(passage).chain(lines.next())).collect();
        passages.extend(lines);
    }
    let text = passages.iter().map(|(text, _)| *text).collect::<Vec<_>>().join(gap);
    let kinds = passages.iter().map(|(_, kind)| (*kind).to_owned());
    let passages = page::split(&text).into_iter().zip(kinds).collect();
    Example { title: title_given, text: Cow::Owned(text), passages, group }
}

/// A number that has nothing to do with those beside it (multiplicative hashing; Knuth, The Art of Computer Programming, 6.4), its best bits lowest.
fn scattered(at: usize) -> usize {
    let at = u32::try_from(at).unwrap_or_default();
    at.wrapping_mul(0x9e37_79b1).swap_bytes() as usize
}

/// A number as choices, of which each combination comes in turn.
struct Turns(usize);

impl Turns {
    fn one_of(&mut self, choices: usize) -> usize {
        let choice = self.0 % choices;
        self.0 /= choices;
        choice
    }
}

/// The passages of `text` run together, as many collectors deliver an article.
fn one_line(text: &str) -> String {
    page::split(text).iter().map(|passage| passage.text(text)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const TEXT: &str = "Premier.\nDeuxième.\nTroisième.";
    const LIST: [(&str, &str); 3] = [("Une autre", "headline"), ("Et une autre", "headline"), ("Menu", "boilerplate")];

    /// The lines of the example numbered `at`, with `+` before those that are article, and whether a title came.
    fn among_lines(title: &str, at: usize) -> (Vec<String>, bool) {
        let article = Article { title: title.into(), text: TEXT.into(), group: "" };
        let Example { title, text, passages, .. } = among(&article, &LIST.to_vec(), at, String::new());
        let line = |(passage, kind): &(Passage, String)| {
            let text = passage.text(&text);
            let marked = LIST.iter().find(|(line, _)| *line == text).map_or(BODY, |(_, kind)| kind);
            assert_eq!(marked, kind, "{text}");
            format!("{}{text}", if kind == BODY { "+" } else { "" })
        };
        (passages.iter().map(line).collect(), !title.is_empty())
    }

    /// The number that stands for these choices: layout, no title given, headline, gap, not the list alone, length, first line.
    fn number(choices: [usize; 7]) -> usize {
        let of = [4, 2, 2, 2, 2, LINES[1], LIST.len()];
        choices.iter().zip(of).rev().fold(0, |number, (choice, of)| number * of + choice)
    }

    #[test]
    fn an_article_is_shown_before_behind_around_and_between_the_lines_of_a_list() {
        let [first, second, third] = LIST.map(|(text, _)| text);
        let [one, two, three] = ["+Premier.", "+Deuxième.", "+Troisième."];
        let cases = [
            ([0, 0, 0, 0, 1, 0, 2], vec![third, first, second, one, two, three]),
            ([1, 0, 0, 1, 1, 4, 0], vec![one, two, three, first, second, third]),
            ([2, 0, 0, 0, 1, 0, 1], vec![one, two, second, third, first, three]),
            ([3, 0, 0, 0, 1, 0, 2], vec![one, third, two, first, three, second]),
            ([0, 0, 1, 0, 1, 0, 1], vec![second, third, first, "+Titre", one, two, three]),
            ([0, 0, 1, 0, 0, 0, 0], vec![first, second, third]),
        ];
        for (choices, expected) in cases {
            let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(among_lines("Titre", number(choices)), (expected, true), "{choices:?}");
        }
        assert!(!among_lines("Titre", number([0, 1, 0, 0, 1, 0, 0])).1);
    }

    #[test]
    fn all_choices_come_up_alike() {
        // Of 4,000 numbers each of 4 · 16 · 13 combinations has about 5, whatever the numbers are modulo 4 or 13.
        let mut counts = [[0; 64]; 13];
        for number in (0..52_000).step_by(13).map(scattered) {
            let mut turns = Turns(number);
            let choice = turns.one_of(64);
            counts[turns.one_of(13)][choice] += 1;
        }
        assert!(counts.iter().flatten().all(|count| (1..=20).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_title_of_two_lines_is_two_passages_and_a_blank_one_none() {
        let lines = |title| {
            let (lines, _) = among_lines(title, number([0, 0, 1, 0, 1, 0, 0]));
            lines.into_iter().filter(|line| line.starts_with('+')).collect::<Vec<_>>()
        };
        assert_eq!(lines("Un\ntitre"), ["+Un", "+titre", "+Premier.", "+Deuxième.", "+Troisième."]);
        assert_eq!(lines(" "), ["+Premier.", "+Deuxième.", "+Troisième."]);
    }

    /// For each line of the examples that these make, but those of articles, its groups.
    fn groups_of_lines(articles: &[&'static str], pages: &[MarkedPage]) -> HashMap<String, HashSet<String>> {
        let article = |group: &&'static str| Article { title: String::new(), text: "Texte.".into(), group };
        let articles: Vec<Article<'_>> = articles.iter().map(article).collect();
        let mut groups: HashMap<String, HashSet<String>> = HashMap::new();
        for Example { text, group, .. } in examples(&articles, pages) {
            for line in text.lines().filter(|line| !line.is_empty()) {
                groups.entry(line.to_owned()).or_default().insert(group.clone());
            }
        }
        groups
    }

    fn page(text: &str, kind: &str, group: Option<&str>) -> MarkedPage {
        MarkedPage {
            text: text.into(),
            passages: page::split(text).into_iter().map(|passage| (passage, kind.to_owned())).collect(),
            group: group.map(str::to_owned),
        }
    }

    #[test]
    fn no_page_and_no_event_is_in_two_groups_where_there_are_lists_enough() {
        let mut pages = vec![page("Corps", BODY, Some("b")), page("Autre", "headline", Some("c"))];
        pages.extend((0..JOINED).map(|at| page(&format!("Liste {at}"), "headline", None)));
        let groups = groups_of_lines(&["a", "b", "a", "c", "b"], &pages);
        // Events meet the lists in turn: a the first, b the second with the page of b, c the third with the page of c, which no other event meets.
        for (line, group) in [("Liste 0", 2), ("Liste 1", 3), ("Corps", 3), ("Liste 2", 4), ("Autre", 4), ("Liste 3", 5)] {
            assert_eq!(groups[line], HashSet::from([format!("page {group}")]), "{line}");
        }
        assert_eq!(groups["Texte."].len(), 3);
        // With one list, events stay apart.
        let groups = groups_of_lines(&["a", "b", "a", "c", "b"], &pages[..3]);
        assert_eq!(groups["Texte."], ["a", "b", "c"].map(str::to_owned).into());
    }
}
