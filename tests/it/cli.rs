//! The command line, as a process.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use depeche::model::Model;
use serde_json::Value;

/// A folder of its own for each test, and the program run in it.
struct Dir {
    folder: tempfile::TempDir,
}

impl Dir {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.path(name), content).unwrap();
        self
    }

    fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, "")
    }

    fn run_with(&self, args: &[&str], input: impl AsRef<[u8]>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_depeche"));
        command.args(args).current_dir(self.folder.path()).env("RUST_LOG", "warn");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.as_ref().to_vec();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The only line of standard error of a failed run.
fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty());
    stderr(output).trim_end().to_owned()
}

/// The first line of standard error of a run that was asked for what can't be.
fn wrong_usage(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    stderr(output).lines().next().unwrap_or_default().to_owned()
}

/// Forty articles of two topics whose words differ, two stances each.
fn small_corpus() -> String {
    let mut lines = String::new();
    for n in 0..40 {
        let topic = if n % 2 == 0 { "armée" } else { "sport" };
        let stance = if n % 4 < 2 { "pour" } else { "contre" };
        let words = if n % 2 == 0 { "les soldats et le général défilent" } else { "le match et le but de la finale" };
        let opinion = if n % 4 < 2 { "une belle réussite" } else { "un triste échec" };
        let line = serde_json::json!({"id": n, "title": format!("{words} {n}"), "text": format!("Jour {n} : {words}, {opinion}."), "topic": topic, "stance": stance});
        lines.push_str(&format!("{line}\n"));
    }
    lines
}

fn trained(dir: &Dir, extra: &[&str]) -> Output {
    dir.file("corpus.jsonl", small_corpus());
    dir.run(&[&["train", "--data", "corpus.jsonl", "--out", "m.safetensors"], extra].concat())
}

#[test]
fn train_evaluate_inspect_and_classify() {
    let dir = Dir::new();
    let output = trained(&dir, &["--name", "essai"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(stderr(&output).contains("topic: held-out macro-F1 1.000"), "{}", stderr(&output));
    let report: Value =
        serde_json::from_str(&stdout(&dir.run(&["evaluate", "--model", "m.safetensors", "--data", "corpus.jsonl", "--json"])))
            .unwrap();
    assert_eq!((&report["topic"]["accuracy"], &report["stance"]["macro_f1"]), (&1.0.into(), &1.0.into()));
    assert_eq!(report["topic"]["labels"]["sport"]["support"], 20);
    let inspected = stdout(&dir.run(&["inspect", "--model", "m.safetensors"]));
    assert!(inspected.starts_with("models/essai/versions/") && inspected.contains("\"soldats\""), "{inspected}");
    let answer =
        stdout(&dir.run_with(&["classify", "--model", "m.safetensors"], "Les soldats du général.\n\u{1b}[31mLe défilé."));
    assert!(answer.starts_with("topic   armée ") && answer.contains("soldats +"), "{answer}");
    // No role head: everything is body. Control characters don't reach the terminal.
    assert!(answer.contains("body | Les soldats du général.") && !answer.contains('\u{1b}'), "{answer}");
    dir.file("new.safetensors", "");
    assert!(dir.run(&["inspect", "--model", "m.safetensors", "--upgrade", "new.safetensors"]).status.success());
    assert_eq!(fs::read(dir.path("m.safetensors")).unwrap(), fs::read(dir.path("new.safetensors")).unwrap());
}

#[test]
fn training_gives_the_same_bytes_on_any_number_of_threads() {
    let models: Vec<Vec<u8>> = ["1", "2", "8"]
        .iter()
        .map(|threads| {
            let dir = Dir::new();
            let output = trained(&dir, &["--threads", threads]);
            assert!(output.status.success(), "{}", stderr(&output));
            fs::read(dir.path("m.safetensors")).unwrap()
        })
        .collect();
    assert_eq!(models[0], models[1]);
    assert_eq!(models[0], models[2]);
}

#[test]
fn a_lexicon_carries_a_label_to_words_that_were_never_seen() {
    let dir = Dir::new();
    dir.file("lexicon.tsv", "SUCCESS\tréussite\nSUCCESS\ttriomph*\nFAILURE\téchec\nFAILURE\tdéconfiture\ncountry:NE\tniger\n");
    let output = trained(&dir, &["--lexicon", "lexicon.tsv", "--lead-weight", "0.5"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let ask = |word: &str| {
        let line = format!("{{\"text\": \"Le match : {word} sur toute la ligne\"}}\n");
        let args = ["classify", "--jsonl", "--max-contributions", "50", "--model", "m.safetensors"];
        serde_json::from_str::<Value>(&stdout(&dir.run_with(&args, line))).unwrap()["stance"].clone()
    };
    let (good, bad) = (ask("triomphe"), ask("déconfiture"));
    assert_eq!((&good["label"], &bad["label"]), (&"pour".into(), &"contre".into()));
    let concept = good["contributions"].as_array().unwrap().iter().find(|term| term["block"] == "concept").unwrap();
    assert_eq!((&concept["term"], &concept["occurrences"][0]["begin"]), (&"SUCCESS".into(), &11.into()));
    let inspected = stdout(&dir.run(&["inspect", "--model", "m.safetensors"]));
    assert!(inspected.contains("lexicon: 3 concepts"), "{inspected}");
    dir.file("torn.tsv", "SUCCESS réussite\n");
    let error = failure(&dir.run(&["train", "--data", "corpus.jsonl", "--out", "n.safetensors", "--lexicon", "torn.tsv"]));
    assert_eq!(error, "error: lexicon torn.tsv: line 1: not a concept and an entry with one tab between them");
    let error = wrong_usage(&trained(&dir, &["--lead-weight", "2"]));
    assert_eq!(error, "error: invalid value '2' for '--lead-weight <NUMBER>': expected a number from 0 to 1");
}

#[test]
fn training_starts_from_another_model_and_says_what_it_took_over() {
    let dir = Dir::new();
    assert!(trained(&dir, &[]).status.success());
    fs::rename(dir.path("m.safetensors"), dir.path("before.safetensors")).unwrap();
    let models = ["1", "2"].map(|threads| {
        let output = trained(&dir, &["--init", "before.safetensors", "--threads", threads]);
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
        let said = stderr(&output);
        assert!(said.contains("topic: started from ") && said.contains("2 of 2 labels of before.safetensors ("), "{said}");
        fs::read(dir.path("m.safetensors")).unwrap()
    });
    assert!(models[0] == models[1]);
    let inspected = stdout(&dir.run(&["inspect", "--model", "m.safetensors"]));
    let version = Model::load(&dir.path("before.safetensors")).unwrap().version;
    assert!(inspected.contains(&format!("the solver started from the model {version}\n")), "{inspected}");
    let error = failure(&trained(&dir, &["--init", "corpus.jsonl"]));
    assert!(error.starts_with("error: --init corpus.jsonl: not a safetensors file, or torn"), "{error}");
}

#[test]
fn a_search_shows_every_point_and_marks_the_chosen_one() {
    let dir = Dir::new();
    let args = ["--search", "--search-c", "10,1", "--search-class-weights", "none,balanced,square-root"];
    let models = ["1", "2"].map(|threads| {
        let output = trained(&dir, &[&args[..], &["--threads", threads]].concat());
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
        let said = stderr(&output);
        for head in ["topic", "stance"] {
            let after = said.split(&format!("{head}: search over 6 points, mean and standard deviation over 5 folds\n")).nth(1);
            let table: Vec<&str> = after.unwrap_or_else(|| panic!("{said}")).lines().take(8).collect();
            let rows: Vec<[&str; 2]> = table[1..7]
                .iter()
                .map(|row| {
                    let mut words = row[1..].split_whitespace();
                    [words.next().unwrap(), words.next().unwrap()]
                })
                .collect();
            assert_eq!(
                rows,
                [
                    ["balanced", "1"],
                    ["balanced", "10"],
                    ["square-root", "1"],
                    ["square-root", "10"],
                    ["none", "1"],
                    ["none", "10"]
                ]
            );
            assert_eq!(table[1..7].iter().filter(|row| row.starts_with('*')).count(), 1, "{said}");
            assert!(table[7].starts_with("* chosen: the least C within one standard error"), "{said}");
        }
        fs::read(dir.path("m.safetensors")).unwrap()
    });
    assert!(models[0] == models[1]);
    let inspected = stdout(&dir.run(&["inspect", "--model", "m.safetensors"]));
    assert!(inspected.contains("settings of the topic head: C ") && inspected.contains("(chosen from 6 by"), "{inspected}");
    // A model that says more is of a newer format; one that says nothing new is not.
    let upgraded = dir.run(&["inspect", "--model", "m.safetensors", "--upgrade", "u.safetensors"]);
    assert_eq!(stderr(&upgraded), "u.safetensors written in format 5\n");
    assert!(fs::read(dir.path("u.safetensors")).unwrap() == models[0]);
}

#[test]
fn wrong_settings_of_a_search_are_refused_with_the_range() {
    let dir = Dir::new();
    for (args, expected) in [
        (&["--search-c", "1,0"][..], "error: invalid value '0' for '--search-c <NUMBER,…>': expected a number above zero"),
        (&["--search-c", "NaN"], "error: invalid value 'NaN' for '--search-c <NUMBER,…>': expected a number above zero"),
        (&["--search-c", "1,10,1"], "error: search: C 1 appears twice"),
        (&["--calibration-folds", "0"], "error: search: 0 calibration folds; it needs at least 2 to compare on"),
    ] {
        assert_eq!(wrong_usage(&trained(&dir, &[&["--search"], args].concat())), expected);
    }
    for args in [
        &["--search-c", "1"][..],
        &["--search", "--c", "1"],
        &["--search", "--class-weights", "none"],
        &["--search", "--search-c", "x"],
        &["--class-weights", "some"],
    ] {
        let output = trained(&dir, args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!args.contains(&"some") || stderr(&output).contains("they are balanced, square-root or none"), "{output:?}");
    }
    // One group: nothing is left to learn from.
    let corpus = small_corpus().replace("\"id\"", "\"group\": \"one\", \"id\"");
    dir.file("one.jsonl", corpus);
    let one = failure(&dir.run(&["train", "--data", "one.jsonl", "--out", "m.safetensors", "--search"]));
    assert!(one.starts_with("error: search: fewer than two folds leave every label of the topic head a row"), "{one}");
}

#[test]
fn there_are_never_more_folds_than_articles() {
    let output = trained(&Dir::new(), &["--calibration-folds", "18446744073709551615"]);
    assert!(
        stderr(&output).contains("topic: held-out macro-F1 1.000, accuracy 1.000, calibration error 0."),
        "{}",
        stderr(&output)
    );
}

#[test]
fn failed_training_says_why_and_leaves_the_old_model() {
    let dir = Dir::new();
    dir.file("m.safetensors", "old").file("corpus.jsonl", small_corpus());
    dir.file("latin.csv", b"text,topic\n\xe9t\xe9,x\n").file("column.tsv", "text\tlabel\na\tx\n");
    dir.file("empty.csv", "text,topic\na,\n")
        .file("one.csv", "text,topic\na,x\nb,x\nc,y\n")
        .file("same.csv", "text,topic\na,x\nb,x\n")
        .file("bare.csv", "text,topic\na,x\nb,x\nc,y\nd,y\n");
    dir.file(
        "twice.jsonl",
        "{\"id\": 1, \"text\": \"a\", \"topic\": \"x\"}\n{\"id\": \"1\", \"text\": \"b\", \"topic\": \"y\"}\n",
    );
    dir.file("broken.jsonl", "{\"text\": \"a\", \"topic\": \"x\"}\n{\"text\": \n")
        .file("quote.tsv", "text\ttopic\n\"a\tx\nb\ty\n");
    dir.file("page.jsonl", "{\"text\": \"a\", \"passages\": []}\n").file("torn.jsonl", "\n{\"text\": \n");
    for (args, expected) in [
        (vec!["--data", "none.jsonl"], "error: can't read none.jsonl: No such file or directory (os error 2)"),
        (vec!["--data", "latin.csv"], "error: latin.csv, line 2: not UTF-8 (byte 11 of the file)"),
        (
            vec!["--data", "column.tsv"],
            "error: column.tsv, line 1, field \"topic\": there is no such column; the columns are text, label",
        ),
        (vec!["--data", "empty.csv"], "error: empty.csv, line 2, field \"topic\": the label is missing or blank"),
        (vec!["--data", "one.csv"], "error: topic: the label \"y\" has one article only; at least two are needed"),
        (vec!["--data", "same.csv"], "error: topic: every article has the label \"x\"; at least two labels are needed"),
        (vec!["--data", "bare.csv"], "error: no word stands in two articles: there is nothing to learn from"),
        (
            vec!["--data", "twice.jsonl"],
            "error: twice.jsonl, line 2, field \"id\": the id \"1\" is already in twice.jsonl, line 1",
        ),
        (vec!["--data", "broken.jsonl"], "error: broken.jsonl, line 2: not a JSON object: EOF while parsing a value at column 9"),
        (
            vec!["--data", "quote.tsv"],
            "error: quote.tsv, line 2: column 1: a quote that is never closed; a field that begins with a quote must end with one, and quotes within are doubled",
        ),
        (
            vec!["--data", "corpus.jsonl", "--pages", "page.jsonl"],
            "error: page.jsonl, line 1, field \"passages\": nothing marks the passage at bytes 0..1",
        ),
        (
            vec!["--data", "corpus.jsonl", "--pages", "torn.jsonl"],
            "error: torn.jsonl, line 2: not a marked page: EOF while parsing a value at column 9",
        ),
        (
            vec!["--data", "corpus.jsonl", "--noise-label", "bruit"],
            "error: the noise label \"bruit\" is not a topic of the data; its topics are armée, sport",
        ),
        (
            vec!["--data", "corpus.jsonl", "--noise-label", "sport"],
            "error: corpus.jsonl, line 2, field \"stance\": a stance, but the topic is \"sport\", which has none",
        ),
    ] {
        let output = dir.run(&[&["train", "--out", "m.safetensors"], args.as_slice()].concat());
        assert_eq!(failure(&output), expected);
        assert_eq!(fs::read(dir.path("m.safetensors")).unwrap(), b"old");
    }
    for (args, expected) in [
        (["--c", "0"], "error: invalid value '0' for '--c <NUMBER>': expected a number above zero"),
        (
            ["--priors", "sport=0.5"],
            "error: --priors: \"armée\" is missing: give a probability to every label of the topic head (armée, sport)",
        ),
    ] {
        let output = dir.run(&[&["train", "--out", "m.safetensors", "--data", "corpus.jsonl"], args.as_slice()].concat());
        assert_eq!(wrong_usage(&output), expected);
        assert_eq!(fs::read(dir.path("m.safetensors")).unwrap(), b"old");
    }
    let short = dir.run(&["train", "--data", "corpus.jsonl", "--out", "m.safetensors", "--max-iterations", "1"]);
    assert!(
        failure(&short).starts_with(
            "error: training the topic head: not converged after 1 iterations: the gradient's greatest component is "
        ),
        "{short:?}"
    );
    let folder = dir.run(&["train", "--data", "corpus.jsonl", "--out", "none/m.safetensors"]);
    assert_eq!(failure(&folder), "error: --out none/m.safetensors: there is no such folder");
    assert_eq!(fs::read(dir.path("m.safetensors")).unwrap(), b"old");
}

#[test]
fn wrong_usage_exits_2_and_help_exits_0() {
    let dir = Dir::new();
    for args in [
        &["frobnicate"][..],
        &["train"],
        &["classify", "--json", "--jsonl"],
        &["serve", "--listen", "nowhere"],
        &["classify", "--jsonl", "--max-contributions", "1001"],
        &["evaluate", "--data", "a", "--priors", "x"],
        &["classify", "--max-contributions", "5"],
        &["train", "--data", "a", "--out", "m", "--c", "0"],
        &["train", "--data", "a", "--out", "m", "--c", "-1"],
        &["train", "--data", "a", "--out", "m", "--tolerance", "inf"],
        &["train", "--data", "a", "--out", "m", "--calibration-folds", "1"],
        &["train", "--data", "a", "--out", "m", "--held-out-folds", "9"],
        &["train", "--data", "a", "--out", "m", "--max-features", "1,2"],
        &["train", "--data", "a", "--out", "m", "--name", "Mein Modell"],
    ] {
        assert_eq!(dir.run(args).status.code(), Some(2), "{args:?}");
    }
    for command in ["serve", "train", "evaluate", "classify", "inspect"] {
        assert!(stdout(&dir.run(&[command, "--help"])).contains("Example"), "{command}");
    }
}

#[test]
fn models_that_cannot_be_used_are_refused_with_the_reason() {
    let dir = Dir::new();
    dir.file("torn.safetensors", &depeche::model::BUILT_IN[..1000]).file("page.txt", "Un mot.");
    for (file, reason) in [
        ("none.safetensors", "can't read none.safetensors: No such file"),
        ("torn.safetensors", "not a safetensors file, or torn"),
    ] {
        let found = failure(&dir.run(&["classify", "--model", file, "page.txt"]));
        assert!(found.starts_with(&format!("error: model {file}: ")) && found.contains(reason), "{found}");
    }
    let priors = wrong_usage(&dir.run(&["classify", "--priors", "diplomacy=0.5", "page.txt"]));
    assert!(priors.starts_with("error: --priors: \"military_cooperation\" is missing"), "{priors}");
}

#[test]
fn a_page_as_json_and_pages_that_cannot_be_read() {
    let dir = Dir::new();
    dir.file("page.txt", "Le sommet des chefs d'État s'est ouvert lundi à Addis-Abeba.").file("latin.txt", b"a\n\xe9");
    let json: Value = serde_json::from_str(&stdout(&dir.run(&["classify", "--json", "page.txt"]))).unwrap();
    let model = Model::from_bytes(depeche::model::BUILT_IN).unwrap();
    assert_eq!(json["model"], model.resource_name());
    assert_eq!((&json["passages"][0]["begin"], &json["passages"][0]["role"]), (&0.into(), &"ROLE_BODY".into()));
    assert!(json["topic"]["probability"].is_f64() && json["topic"]["omittedWeight"].is_f64(), "{json}");
    assert_eq!(failure(&dir.run(&["classify", "latin.txt"])), "error: latin.txt, line 2: not UTF-8 (byte 2 of the file)");
    assert!(failure(&dir.run(&["classify", "none.txt"])).starts_with("error: can't read none.txt: "));
    assert_eq!(
        failure(&dir.run_with(&["classify", "-"], " \n")),
        "error: -: article.text: 2 bytes, all blank; at least one visible character is needed"
    );
    let blank = failure(&dir.run_with(&["classify", "--json"], " \n"));
    assert_eq!(blank, "error: -: article.text: 2 bytes, all blank; at least one visible character is needed");
}

#[test]
fn the_filter_answers_bad_lines_in_their_places() {
    let dir = Dir::new();
    let good = r#"{"id": "a", "title": null, "text": "Le sommet s'est ouvert."}"#;
    let input =
        [good, "{\"id\"", r#"{"id": 7, "text": " "}"#, "", r#"{"id": "c", "title": "T"}"#, r#"{"id": ["d"], "text": "x"}"#]
            .join("\n");
    let input = [input.as_bytes(), b"\n{\"text\": \"\xff\"}\n", good.as_bytes()].concat();
    let output = dir.run_with(&["classify", "--jsonl"], input);
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 8);
    assert_eq!(lines[0]["articleId"], "a");
    assert_eq!(lines[7], lines[0]);
    let errors: Vec<(Option<&str>, &str)> =
        lines[1..7].iter().map(|line| (line["articleId"].as_str(), line["error"]["message"].as_str().unwrap())).collect();
    assert!(lines[1..7].iter().all(|line| line["error"]["code"] == 3));
    assert_eq!(errors[1], (Some("7"), "line 3: article.text: 1 bytes, all blank; at least one visible character is needed"));
    assert_eq!(errors[3], (Some("c"), "line 5: text: missing"));
    assert_eq!(errors[4], (None, "line 6: id: [\"d\"] is neither a string nor an integer"));
    assert_eq!(errors[2], (None, "line 4: blank; expected a JSON object"));
    for (at, line) in [(0, 2), (5, 7)] {
        assert!(
            errors[at].0.is_none() && errors[at].1.starts_with(&format!("line {line}: not a JSON object: ")),
            "{:?}",
            errors[at]
        );
    }
    assert_eq!(stderr(&output), "6 of 8 lines could not be classified; their errors stand in their places\n");
}

#[test]
fn the_filter_answers_each_line_before_it_reads_the_next() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_depeche"));
    let mut child = command.args(["classify", "--jsonl"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    for id in ["a", "b"] {
        writeln!(stdin, "{{\"id\": \"{id}\", \"text\": \"Le sommet s'est ouvert.\"}}").unwrap();
        stdin.flush().unwrap();
        let mut answer = String::new();
        std::io::BufRead::read_line(&mut stdout, &mut answer).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["articleId"], id);
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_filter_takes_objects_alone_and_keeps_ids_as_they_are() {
    let dir = Dir::new();
    let input = "\u{feff}{\"id\": 7, \"text\": \"Un mot.\"}\n[\"a\", null, \"Un mot.\"]\n{\"id\": 1e400, \"text\": \"Un mot.\"}\n{\"id\": 1.5, \"text\": \"Un mot.\"}\n";
    let output = stdout(&dir.run_with(&["classify", "--jsonl"], input));
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["articleId"], "7");
    assert!(lines[0]["topic"].is_object());
    assert!(lines[1..].iter().all(|line| line["error"]["code"] == 3 && line.get("articleId").is_none()), "{output}");
}

#[test]
fn the_filter_and_the_single_page_agree() {
    let dir = Dir::new();
    let text =
        "Menu   Contact\nLes deux armées ont conclu un accord de formation.\nIl entre en vigueur en mars, a dit le ministère.";
    dir.file("page.txt", text);
    let line = serde_json::json!({ "text": text }).to_string();
    let filtered = stdout(&dir.run_with(&["classify", "--jsonl", "--max-contributions", "5"], line));
    let single = stdout(&dir.run(&["classify", "--json", "--max-contributions", "5", "page.txt"]));
    assert_eq!(filtered, single);
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let dir = Dir::new();
    let lines = "{\"text\": \"Le sommet s'est ouvert.\"}\n".repeat(3000);
    dir.file("many.jsonl", lines);
    let mut child = Command::new(env!("CARGO_BIN_EXE_depeche"))
        .args(["classify", "--jsonl"])
        .arg(dir.path("many.jsonl"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}

#[test]
fn evaluation_prints_what_a_person_needs() {
    let dir = Dir::new();
    trained(&dir, &[]);
    let report = stdout(&dir.run(&["evaluate", "--model", "m.safetensors", "--data", "corpus.jsonl"]));
    assert!(report.starts_with("topic: macro-F1 1.000 [1.000, 1.000], accuracy 1.000, calibration error 0."), "{report}");
    assert!(report.contains("\n  sport                  P 1.000  R 1.000  F1 1.000  n 20\n"), "{report}");
}
