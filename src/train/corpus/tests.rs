use std::fs;

use super::*;
use std::io::Write;

fn file(name: &str, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn articles(name: &str, content: &str, fields: &FieldNames) -> Result<Vec<LabelledArticle>, String> {
    let (_folder, path) = file(name, content.as_bytes());
    read(std::slice::from_ref(&path), fields).map_err(|error| error.to_string().replace(&path.display().to_string(), name))
}

fn error(name: &str, content: &str) -> String {
    articles(name, content, &FieldNames::default()).unwrap_err()
}

#[test]
fn the_same_article_from_every_kind_of_file() {
    let json = r#"{"id": 7, "title": "T", "text": "a \"b\"", "topic": "x", "stance": null, "other": [1]}"#;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(json.as_bytes()).unwrap();
    let (_folder, gz) = file("a.jsonl.gz", &packed.finish().unwrap());
    let csv = "\u{feff}id,title,text,topic,stance\r\n7,T,\"a \"\"b\"\"\",x,\r\n";
    let tsv = "topic\tid\ttext\ttitle\nx\t7\t\"a \"\"b\"\"\"\tT\n";
    let mut found = vec![read(&[gz], &FieldNames::default()).unwrap()];
    for (name, content) in [("a.jsonl", json), ("a.csv", csv), ("a.tsv", tsv)] {
        found.push(articles(name, content, &FieldNames::default()).unwrap());
    }
    for articles in found {
        let [article] = articles.as_slice() else { panic!("{articles:?}") };
        assert_eq!((article.id.as_str(), article.title.as_str(), article.text.as_str()), ("7", "T", "a \"b\""));
        assert_eq!((article.topic.as_str(), &article.stance, &article.group), ("x", &None, &None));
    }
}

#[test]
fn other_names_and_missing_ids() {
    let fields = FieldNames { title: Some("headline".into()), topic: Some("category".into()), ..FieldNames::default() };
    let found = articles("a.tsv", "category\theadline\ttext\nsport\tT\tun\nsanté\tU\tdeux\n", &fields).unwrap();
    assert_eq!(found[1].topic, "santé");
    assert_eq!((found[0].id.as_str(), found[1].id.as_str()), ("1:2", "1:3"));
    let error = articles("a.tsv", "category\ttext\nsport\tun\n", &fields).unwrap_err();
    assert_eq!(error, r#"a.tsv, line 1, field "headline": there is no such column; the columns are category, text"#);
    let error = articles("a.jsonl", r#"{"category": "a", "text": "b"}"#, &fields).unwrap_err();
    assert_eq!(error, r#"a.jsonl, line 1, field "headline": no line has this key"#);
}

#[test]
fn what_the_folds_keep_whole_may_be_any_field() {
    let row = "id,text,topic,group,outlet\n1,un,x,visite,Le Sahel\n2,deux,y,sommet,\n";
    let fold = |name: &str| {
        let fields = FieldNames { fold: Some(name.into()), ..FieldNames::default() };
        let found = articles("a.csv", row, &fields)?;
        Ok(found.into_iter().map(|article| (article.fold, article.group.unwrap())).collect::<Vec<_>>())
    };
    let some = |fold: &str, group: &str| (Some(fold.to_owned()), group.to_owned());
    assert_eq!(fold("outlet").unwrap(), [some("Le Sahel", "visite"), (None, "sommet".into())]);
    assert_eq!(fold("group").unwrap(), [some("visite", "visite"), some("sommet", "sommet")]);
    let error: String = fold("campaign").unwrap_err();
    assert_eq!(
        error,
        r#"a.csv, line 1, field "campaign": there is no such column; the columns are id, text, topic, group, outlet"#
    );
    let fields = FieldNames { fold: Some("campaign".into()), ..FieldNames::default() };
    let error = articles("a.jsonl", r#"{"text": "a", "topic": "x", "campaign": ["a"]}"#, &fields).unwrap_err();
    assert_eq!(error, r#"a.jsonl, line 1, field "campaign": expected a string, found ["a"]"#);
}

#[test]
fn every_error_names_file_line_and_field() {
    let good = r#"{"id": "1", "text": "a", "topic": "x"}"#;
    for (name, content, expected) in [
        ("a.txt", String::new(), "a.txt: unknown kind of file; expected .jsonl, .jsonl.gz, .csv or .tsv"),
        ("a.jsonl", "\n".into(), "a.jsonl: no article in it"),
        ("a.jsonl", format!("{good}\n\n{{\"id\""), "a.jsonl, line 3: not a JSON object: EOF while parsing an object at column 5"),
        ("a.jsonl", format!("{good}\n[1]"), "a.jsonl, line 2: not a JSON object: invalid type: sequence, expected a map"),
        ("a.jsonl", r#"{"text": "a", "topic": " "}"#.into(), r#"a.jsonl, line 1, field "topic": the label is missing or blank"#),
        (
            "a.jsonl",
            r#"{"text": "\u200b", "topic": "x"}"#.into(),
            r#"a.jsonl, line 1, field "text": the text is missing or blank"#,
        ),
        (
            "a.jsonl",
            r#"{"text": ["a"], "topic": "x"}"#.into(),
            r#"a.jsonl, line 1, field "text": expected a string, found ["a"]"#,
        ),
        ("a.jsonl", format!("{good}\n{good}"), r#"a.jsonl, line 2, field "id": the id "1" is already in a.jsonl, line 1"#),
        ("a.csv", "id,text\n1,a\n".into(), r#"a.csv, line 1, field "topic": there is no such column; the columns are id, text"#),
        ("a.csv", "text,topic,text\na,x,b\n".into(), r#"a.csv, line 1, field "text": two columns have this name"#),
        ("a.csv", "text,topic\na,x\nb,\n".into(), r#"a.csv, line 3, field "topic": the label is missing or blank"#),
        ("a.csv", "text,topic\r\na,x\r\nb,\r\n".into(), r#"a.csv, line 3, field "topic": the label is missing or blank"#),
        ("a.csv", "text,topic\na,x\n\n\"b\nc\",x\nd,\n".into(), r#"a.csv, line 6, field "topic": the label is missing or blank"#),
        (
            "a.csv",
            "text,topic\na,x\nb,x,y\n".into(),
            "a.csv, line 3: CSV error: record 2 (line: 3, byte: 15): found record with 3 fields, but the previous record has 2 fields",
        ),
    ] {
        assert_eq!(error(name, &content), expected);
    }
}

#[test]
fn a_stray_quote_is_found_where_it_opens() {
    let hint = "; a field that begins with a quote must end with one, and quotes within are doubled";
    let open = error("a.tsv", "text\ttopic\nbon\tx\n\"un\tx\ndeux\ty\n");
    assert_eq!(open, format!("a.tsv, line 3: column 1: a quote that is never closed{hint}"));
    let after = error("a.tsv", "text\ttopic\nbon\t\"x\" y\n");
    assert_eq!(after, format!("a.tsv, line 2: column 2: text after a closing quote{hint}"));
    // Within a field that does not begin with one, a quote is a character like any other.
    assert_eq!(articles("a.tsv", "text\ttopic\nun 5\" tube\tx\n", &FieldNames::default()).unwrap()[0].text, "un 5\" tube");
    // A quoted field may span lines.
    assert_eq!(articles("a.tsv", "text\ttopic\n\"un\ndeux\"\tx\n", &FieldNames::default()).unwrap()[0].text, "un\ndeux");
}

#[test]
fn what_is_not_utf8_is_found_by_line_and_byte() {
    let (_folder, path) = file("a.jsonl", b"{\"text\":\"a\",\"topic\":\"b\"}\n{\"text\": \"\xe9\"}");
    let error = read(std::slice::from_ref(&path), &FieldNames::default()).unwrap_err().to_string();
    assert!(error.ends_with("a.jsonl, line 2: not UTF-8 (byte 35 of the file)"), "{error}");
    let missing = read(&[path.with_file_name("none.jsonl")], &FieldNames::default()).unwrap_err();
    assert!(matches!(missing, CorpusError::Read { .. }));
}

#[test]
fn lines_of_many_batches_keep_their_order_and_numbers() {
    let text = "a".repeat(BATCH / 10);
    let line = |n: usize| if n % 7 == 2 { "\n".into() } else { format!("{{\"text\": \"{n} {text}\", \"topic\": \"x\"}}\n") };
    let mut content: String = (1..=45).map(line).collect();
    let read_all = |content: &[u8]| {
        let (_folder, path) = file("a.jsonl", content);
        let mut numbers = Vec::new();
        let ended = read_each(&[path], &FieldNames::default(), |article| {
            assert!(article.text.starts_with(&format!("{} a", article.source.1)));
            numbers.push(article.source.1);
            Ok(())
        });
        (numbers, ended.map_err(|error| error.to_string()))
    };
    let expected = || (1..=45).filter(|n| n % 7 != 2);
    assert_eq!(read_all(content.as_bytes()), (expected().collect(), Ok(())));
    // What stands before a line that is wrong is handed on.
    content.insert(content.match_indices('\n').nth(38).unwrap().0, '!');
    let (numbers, ended) = read_all(content.as_bytes());
    assert_eq!(numbers, expected().take_while(|n| *n < 39).collect::<Vec<_>>());
    assert!(ended.as_ref().is_err_and(|error| error.contains("a.jsonl, line 39: not a JSON object")), "{ended:?}");
}

#[test]
fn a_torn_file_is_told_behind_what_is_whole() {
    let error = |numbers: Range<usize>| {
        let topic = |n: usize| if n == 3 { "" } else { "x" };
        let lines: String = numbers.map(|n| format!("{{\"text\": \"{n}\", \"topic\": \"{}\"}}\n", topic(n))).collect();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        packed.write_all(lines.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        let (_folder, path) = file("a.jsonl.gz", &packed[..packed.len() - 30_000]);
        let error = read(std::slice::from_ref(&path), &FieldNames::default()).unwrap_err();
        error.to_string().replace(&path.display().to_string(), "a.jsonl.gz")
    };
    assert_eq!(error(0..9000), r#"a.jsonl.gz, line 4, field "topic": the label is missing or blank"#);
    assert_eq!(error(10..9000), "can't read a.jsonl.gz");
}

#[test]
fn labels_that_cannot_be_trained_on() {
    let check = |labels: &[&str]| check_labels("topic", &counts(labels.iter().copied())).map_err(|error| error.to_string());
    assert_eq!(check(&["a", "a", "b", "b"]), Ok(()));
    assert_eq!(check(&["a", "a", "b"]).unwrap_err(), r#"topic: the label "b" has one article only; at least two are needed"#);
    assert_eq!(check(&["a", "a"]).unwrap_err(), r#"topic: every article has the label "a"; at least two labels are needed"#);
    assert_eq!(check(&[]).unwrap_err(), "topic: no article has a label");
}
