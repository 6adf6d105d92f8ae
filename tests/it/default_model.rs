//! The model that is compiled into the program: that the command in its card makes it, byte for byte.

use std::fs;
use std::path::Path;
use std::process::Command;

use depeche::features::{Part, Reading, Scorer, ShapeTerms, Tally, Tokens};
use depeche::model::{Answer, Article, BUILT_IN, Classifier, Contribution, Model, Options, Reason};
use depeche::page::split;
use depeche::train::{FieldNames, LabelledArticle, corpus, pages};

/// The arguments of the training command in the model card, with file patterns expanded as a shell does.
fn command(root: &Path) -> Vec<String> {
    let card = fs::read_to_string(root.join("models/README.md")).unwrap();
    let block = card.split("```sh\n").find(|block| block.starts_with("cargo run --release -- train")).unwrap();
    let line = block.split("```").next().unwrap().replace("\\\n", " ");
    let words = line.split_whitespace().skip_while(|word| *word != "train");
    words
        .flat_map(|word| match word.strip_suffix("/*.jsonl") {
            Some(folder) => {
                let files = super::corpus::files(folder.strip_prefix("corpus/").unwrap());
                files.iter().map(|file| file.to_str().unwrap().to_owned()).collect()
            }
            None => vec![word.to_owned()],
        })
        .collect()
}

#[test]
fn training_it_anew_gives_the_same_bytes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model.safetensors");
    let mut args = command(root);
    let at = args.iter().position(|arg| arg == "models/depeche-fr.safetensors").unwrap();
    args[at] = out.to_str().unwrap().to_owned();
    let output = Command::new(env!("CARGO_BIN_EXE_depeche")).args(&args).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read(&out).unwrap() == BUILT_IN, "models/depeche-fr.safetensors is not what its command makes; train it anew");
}

#[test]
fn it_is_small_and_its_card_is_about_it() {
    assert!(BUILT_IN.len() < 8 << 20, "{} bytes", BUILT_IN.len());
    let model = Model::from_bytes(BUILT_IN).unwrap();
    assert_eq!(model.name, "depeche-fr");
    let card = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/README.md")).unwrap();
    for (name, scores) in [("topic", &model.training.topic), ("stance", &model.training.stance), ("role", &model.training.role)] {
        let scores = scores.as_ref().unwrap();
        let row = format!(
            "| {name} | {} | {:.3} | {:.3} | {:.3} |",
            scores.rows, scores.macro_f1, scores.accuracy, scores.calibration_error
        );
        assert!(card.contains(&row), "models/README.md does not say {row}");
    }
}

fn classifier() -> Classifier {
    Classifier::new(Model::from_bytes(BUILT_IN).unwrap())
}

fn classify(classifier: &Classifier, title: &str, text: &str) -> Answer {
    classifier.classify(Article { title, text }, &Options::default()).unwrap()
}

/// Topic and stance.
fn labels(answer: &Answer) -> (&str, Option<&str>) {
    (&answer.topic.label, answer.stance.as_ref().map(|stance| stance.label.as_str()))
}

/// Headlines of the corpus that by themselves speak of the topics.
fn topical_headlines(classifier: &Classifier) -> Vec<String> {
    let pages = pages::read(&super::corpus::files("pages")).unwrap();
    let mut headlines: Vec<String> = pages
        .iter()
        .flat_map(|page| page.passages.iter().filter(|(_, kind)| kind == "headline").map(|(passage, _)| passage.text(&page.text)))
        .map(str::to_owned)
        .collect();
    headlines.sort();
    headlines.dedup();
    let head = &classifier.model().topic;
    let noise = head.labels.iter().position(|label| label == "ticker_noise").unwrap();
    let equal = head.bias_with(&[1.0 / 3.0; 3]);
    let space = &classifier.model().document;
    let scorer = Scorer::new(space, head.labels.len(), |feature, label| head.weights[[feature, label]]);
    let (mut reading, mut tally, mut sums) = (Reading::default(), Tally::default(), Vec::new());
    headlines.retain(|headline| {
        reading.clear();
        let parts = [Part { tokens: reading.read(headline), is_title: true }];
        let tokens = Tokens { reading: &reading, parts: &parts, shape: &ShapeTerms::default() };
        scorer.score(space, (&mut tally, &tokens), &mut sums, |_, _| {});
        let logits: Vec<f64> = sums.iter().zip(&equal).map(|(sum, bias)| sum + bias).collect();
        head.probabilities(&logits)[noise] < 0.3
    });
    headlines
}

/// Articles of several paragraphs, spread over the corpus.
fn some_articles() -> Vec<LabelledArticle> {
    let articles = corpus::read(&super::corpus::files("articles"), &FieldNames::default()).unwrap();
    articles.into_iter().filter(|article| article.text.lines().count() >= 3).step_by(23).collect()
}

/// Ten of the headlines, others for each page.
fn ticker(headlines: &[String], nth: usize) -> Vec<&str> {
    (0..10).map(|n| headlines[(nth * 31 + n * 7) % headlines.len()].as_str()).collect()
}

/// Articles whose topic or stance changes when ten headlines are put before, after or between their lines; and how many were told. The title is in its
/// field, or the first line of the article.
fn changed_by_headlines(layout: &str, is_title_given: bool) -> (Vec<String>, usize) {
    let classifier = classifier();
    let headlines = topical_headlines(&classifier);
    assert!(headlines.len() >= 300, "{}", headlines.len());
    let articles = some_articles();
    assert!(articles.len() >= 100, "{}", articles.len());
    let mut changed = Vec::new();
    for (nth, article) in articles.iter().enumerate() {
        let ticker = ticker(&headlines, nth);
        let (title, own) = if is_title_given { (article.title.as_str(), "") } else { ("", article.title.as_str()) };
        let lines: Vec<&str> = own.lines().chain(article.text.lines()).collect();
        let (first, second) = lines.split_at(match layout {
            "before" => 0,
            "after" => lines.len(),
            _ => lines.len() / 2,
        });
        let among = [first, &ticker, second].concat().join("\n");
        if labels(&classify(&classifier, title, &lines.join("\n"))) != labels(&classify(&classifier, title, &among)) {
            changed.push(article.id.clone());
        }
    }
    (changed, articles.len())
}

#[test]
fn ten_headlines_around_an_article_change_no_label() {
    for layout in ["before", "after", "between"] {
        let (changed, told) = changed_by_headlines(layout, true);
        assert!(changed.len() * 100 <= told, "{layout}: {} of {told}: {changed:?}", changed.len());
    }
}

/// Where the title is only a line among others, it may go with them: one that shares no word with the text can't be told from another story's.
#[test]
fn ten_headlines_around_an_article_and_its_headline_change_few_labels() {
    for layout in ["before", "after", "between"] {
        let (changed, told) = changed_by_headlines(layout, false);
        assert!(changed.len() * 50 <= told, "{layout}: {} of {told}: {changed:?}", changed.len());
    }
}

/// Pages of ten headlines, an article's own, and its text, with the number of the passage that is its own headline.
fn pages_with_headlines(classifier: &Classifier) -> Vec<(LabelledArticle, String, usize)> {
    let headlines = topical_headlines(classifier);
    let titled = some_articles().into_iter().filter(|article| !article.title.is_empty()).enumerate();
    let page = |(nth, article): (usize, LabelledArticle)| {
        let ticker = ticker(&headlines, nth);
        let list = ticker.join("\n");
        let own = split(&list).len();
        let page = format!("{list}\n{}\n{}", article.title, article.text);
        (article, page, own)
    };
    titled.map(page).collect()
}

#[test]
fn a_headline_among_others_is_the_article_s_own_where_it_comes_as_the_title() {
    let classifier = classifier();
    let pages = pages_with_headlines(&classifier);
    let kept = |title: &dyn Fn(usize) -> String| {
        let answers = pages.iter().enumerate().map(|(nth, (_, page, own))| (classify(&classifier, &title(nth), page), own));
        answers.filter(|(answer, own)| !answer.passages[**own].is_noise).count()
    };
    let (own, other) = (kept(&|nth| pages[nth].0.title.clone()), kept(&|nth| pages[(nth + 1) % pages.len()].0.title.clone()));
    // Under another title most still are kept for the words that they share with the text.
    assert!(own * 100 >= pages.len() * 98 && other * 10 <= pages.len() * 9, "{own} and {other} of {}", pages.len());
}

#[test]
fn without_a_title_a_line_that_is_article_without_much_doubt_stands_in() {
    let classifier = classifier();
    let options = Options { max_contributions: 2000, ..Options::default() };
    let mut passed_over = 0;
    for (article, page, _) in pages_with_headlines(&classifier) {
        let answer = classifier.classify(Article { title: "", text: &page }, &options).unwrap();
        let mut body = answer.passages.iter().filter(|passage| !passage.is_noise);
        let Some(title) = body.find(|passage| passage.noise_probability < 0.2) else { continue };
        let first = answer.passages.iter().find(|passage| !passage.is_noise).unwrap();
        passed_over += usize::from(first.passage != title.passage);
        let contributions =
            answer.topic.explanation.contributions.iter().filter(|contribution| contribution.block == "title_ngram");
        let terms: Vec<&Contribution> = contributions.collect();
        assert!(!terms.is_empty(), "{}", article.id);
        for Contribution { term, occurrences, .. } in terms {
            // What was weighed stands there, and all of it.
            assert!(!occurrences.is_empty(), "{}: {term:?}", article.id);
            for place in occurrences {
                let range = &title.passage.range;
                assert!(
                    range.start <= place.range.start && place.range.end <= range.end,
                    "{}: {place:?} off {range:?}",
                    article.id
                );
            }
        }
    }
    assert!(passed_over >= 5, "{passed_over}");
}

/// Many collectors deliver an article as one long line.
#[test]
fn half_of_the_articles_are_told_alike_as_a_single_line() {
    let classifier = classifier();
    let articles = corpus::read(&super::corpus::files("articles"), &FieldNames::default()).unwrap();
    let (mut changed, mut told) = (Vec::new(), 0);
    for article in articles.iter().filter(|article| article.text.contains('\n')).step_by(2) {
        let line = classify(&classifier, &article.title, &article.text.replace('\n', " "));
        let paragraphs = classify(&classifier, &article.title, &article.text);
        if labels(&line) != labels(&paragraphs) || line.passages.iter().any(|passage| passage.is_noise) {
            changed.push(&article.id);
        }
        told += 1;
    }
    assert!(told >= 2000 && changed.len() * 100 <= told, "{} of {told}: {changed:?}", changed.len());
}

#[test]
fn a_page_whose_topic_stands_in_its_ticker_alone_is_noise_and_says_so() {
    let classifier = classifier();
    let headlines = topical_headlines(&classifier);
    let (mut pages, mut told) = (0, 0);
    for (nth, article) in some_articles().iter().filter(|article| article.topic == "ticker_noise").enumerate() {
        if classify(&classifier, &article.title, &article.text).topic.label != "ticker_noise" {
            continue;
        }
        let ticker: Vec<&str> = (0..10).map(|n| headlines[(nth * 17 + n * 5) % headlines.len()].as_str()).collect();
        let answer = classify(&classifier, &article.title, &format!("{}\n{}", ticker.join("\n"), article.text));
        assert_eq!((answer.topic.label.as_str(), &answer.stance), ("ticker_noise", &None), "{}", article.id);
        pages += 1;
        told += usize::from(answer.reasons.contains(&Reason::TickerOnly));
    }
    assert!(pages >= 40 && told * 2 > pages, "{told} of {pages}");
}

#[test]
fn an_article_unlike_those_of_the_training_is_doubted() {
    let classifier = classifier();
    let reasons = |text: &str| classify(&classifier, "", text).reasons;
    let foreign = [
        "El ministro de Defensa llegó el lunes a Niamey con una delegación de oficiales para firmar un acuerdo de cooperación entre \
         los dos ejércitos que prevé la formación de soldados y patrullas conjuntas en la frontera, según un comunicado del gobierno.",
        "Il ministro della Difesa è arrivato lunedì a Niamey con una delegazione di ufficiali per firmare un accordo di cooperazione \
         tra i due eserciti che prevede la formazione dei soldati e pattuglie comuni alla frontiera, secondo un comunicato del governo.",
        "The defence minister arrived in Niamey on Monday with a delegation of officers to sign a cooperation agreement between the \
         two armies that provides for the training of soldiers and joint patrols on the border, according to a government statement.",
        "Der Verteidigungsminister ist am Montag mit einer Delegation von Offizieren in Niamey eingetroffen, um ein Abkommen über die \
         Zusammenarbeit der beiden Armeen zu unterzeichnen, das die Ausbildung von Soldaten und gemeinsame Patrouillen vorsieht.",
        "وصل وزير الدفاع يوم الاثنين إلى نيامي على رأس وفد من الضباط لتوقيع اتفاق تعاون بين الجيشين ينص على تدريب الجنود وتسيير \
         دوريات مشتركة على الحدود بين البلدين.",
    ];
    for text in foreign {
        assert!(reasons(text).contains(&Reason::ForeignLanguage), "{text}: {:?}", reasons(text));
    }
    let french = "Le ministre de la Défense est arrivé lundi à Niamey avec une délégation d’officiers pour signer un accord de \
                  coopération entre les deux armées.";
    assert_eq!(reasons(french), [Reason::TooShort]);
    let longer = format!(
        "{french} Le texte prévoit la formation de deux cents soldats par an, des patrouilles communes à la frontière et l’échange de \
         renseignements sur les groupes armés qui y circulent. Il a été signé dans la soirée, en présence des chefs d’état-major, après \
         une heure d’entretien. Aucun montant n’a été donné. L’accord entre en vigueur au mois de mars et pourra être prolongé de \
         trois ans si les deux gouvernements le décident."
    );
    assert_eq!(reasons(&longer), []);
}
