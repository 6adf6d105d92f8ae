//! `depeche classify`: for a person, as JSON, or as a filter.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use rayon::prelude::*;
use serde_json::{Value, json};
use tonic::Code;

use super::{ModelArgs, person};
use crate::model::{Article, Classifier, Options};
use crate::service::convert::{check_article, check_options, classify};
use crate::service::errors::shown;
use crate::service::{Limits, pb};
use crate::train::corpus::no_object;

/// Lines that are classified together, on all cores.
const CHUNK: usize = 512;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// Labels a page, or a stream of articles
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  echo 'Les armées du Niger et de l’Algérie ont signé un accord de formation.' | depeche classify\n  echo '{\"id\": \"1\", \
                  \"text\": \"Le sommet s’est ouvert à Alger.\"}' | depeche classify --jsonl"
)]
pub struct ClassifyArgs {
    /// The page (with --jsonl: the articles); - or nothing: standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// The title, where it is known apart from the page
    #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "jsonl")]
    title: String,
    /// Print one ClassifyResponse in proto3 JSON form
    #[arg(long, conflicts_with = "jsonl", group = "format")]
    json: bool,
    /// Read objects with id, title and text, one a line; print one ClassifyResponse a line, with offsets in bytes of UTF-8. A line that can't be classified
    /// gives an object with an error in its place
    #[arg(long, group = "format")]
    jsonl: bool,
    /// With --json or --jsonl: explain each prediction by at most this many contributions
    #[arg(long, value_name = "N", default_value_t = 0, requires = "format", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(0..=1000))]
    max_contributions: i32,
}

pub(super) fn run(args: &ClassifyArgs) -> anyhow::Result<()> {
    let classifier = args.model.classifier()?;
    let input = open(&args.file)?;
    if args.jsonl {
        return filter(&classifier.for_streams(), args.max_contributions, input, io::stdout().lock());
    }
    let text = read_page(&args.file, input)?;
    let article = pb::Article { article_id: String::new(), title: args.title.clone(), text };
    let response = answer(&classifier, &article, args.max_contributions);
    let response = response.map_err(|message| anyhow::anyhow!("{}: {message}", args.file.display()))?;
    if args.json {
        return writeln!(io::stdout(), "{}", serde_json::to_string(&response)?).map_err(Into::into);
    }
    let options = Options { max_contributions: usize::MAX, ..Options::default() };
    let article = Article { title: &article.title, text: &article.text };
    let answer = classifier.classify(article, &options)?;
    person::show(&mut anstream::stdout().lock(), &classifier, article, &answer).map_err(Into::into)
}

fn open(file: &Path) -> anyhow::Result<BufReader<Box<dyn Read>>> {
    if file.as_os_str() == "-" {
        return Ok(BufReader::with_capacity(BUFFER, Box::new(io::stdin())));
    }
    let opened = File::open(file).with_context(|| format!("can't read {}", file.display()))?;
    Ok(BufReader::with_capacity(BUFFER, Box::new(opened)))
}

fn read_page(file: &Path, mut input: impl Read) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).with_context(|| format!("can't read {}", file.display()))?;
    String::from_utf8(bytes).map_err(|error| {
        let byte = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..byte].iter().filter(|byte| **byte == b'\n').count();
        anyhow::anyhow!("{}, line {line}: not UTF-8 (byte {byte} of the file)", file.display())
    })
}

/// Classifies an article with the checks of the service; what is wrong, where there is no response.
fn answer(classifier: &Classifier, article: &pb::Article, max_contributions: i32) -> Result<pb::ClassifyResponse, String> {
    let limits = Limits::default();
    let mut violations = Vec::new();
    let options = pb::ClassifyOptions { max_contributions, ..pb::ClassifyOptions::default() };
    let asked = check_options(Some(&options), classifier, &limits, &mut violations);
    check_article(article, "article", &limits, &mut violations);
    if violations.is_empty() {
        match classify(classifier, article, &asked, "article") {
            Ok(response) => return Ok(response),
            Err(violation) => violations.push(violation),
        }
    }
    let all: Vec<String> = violations.iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect();
    Err(all.join("; "))
}

/// What a line of the filter's input became.
struct Answered {
    json: String,
    is_error: bool,
}

/// Answers every line of `input`, in order; bad ones in their place.
fn filter(
    classifier: &Classifier,
    max_contributions: i32,
    mut input: BufReader<impl Read>,
    mut output: impl Write,
) -> anyhow::Result<()> {
    let (mut number, mut bad) = (0, 0);
    loop {
        let mut lines: Vec<(usize, Vec<u8>)> = Vec::with_capacity(CHUNK);
        while lines.len() < CHUNK {
            let mut line = Vec::new();
            if input.read_until(b'\n', &mut line).context("reading the articles")? == 0 {
                break;
            }
            number += 1;
            lines.push((number, line));
            // Whoever sends line by line waits for each answer: nothing more is read before it is given.
            if input.buffer().is_empty() {
                break;
            }
        }
        if lines.is_empty() {
            break;
        }
        let answers: Vec<Answered> =
            lines.par_iter().map(|(number, line)| answer_line(classifier, max_contributions, *number, line)).collect();
        for Answered { json, is_error } in answers {
            bad += usize::from(is_error);
            writeln!(output, "{json}")?;
        }
        output.flush()?;
    }
    if bad > 0 {
        writeln!(io::stderr(), "{bad} of {number} lines could not be classified; their errors stand in their places")?;
    }
    Ok(())
}

fn answer_line(classifier: &Classifier, max_contributions: i32, number: usize, line: &[u8]) -> Answered {
    let failed = |id: Option<String>, message: String| {
        let error = json!({"code": i32::from(Code::InvalidArgument), "message": format!("line {number}: {message}")});
        let json = match id {
            Some(id) => json!({"articleId": id, "error": error}),
            None => json!({"error": error}),
        };
        Answered { json: json.to_string(), is_error: true }
    };
    let mark = if number == 1 { "\u{feff}".as_bytes() } else { b"" };
    let line = line.strip_prefix(mark).unwrap_or(line);
    let line = line.trim_ascii();
    if line.is_empty() {
        return failed(None, "blank; expected a JSON object".to_owned());
    }
    let mut object: serde_json::Map<String, Value> = match serde_json::from_slice(line) {
        Ok(object) => object,
        Err(error) => return failed(None, no_object(&error)),
    };
    let id = match object.remove("id").unwrap_or_default() {
        Value::String(id) => Some(id),
        Value::Number(id) if !id.is_f64() => Some(id.to_string()),
        Value::Null => None,
        other @ (Value::Number(_) | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            return failed(None, format!("id: {other} is neither a string nor an integer"));
        }
    };
    let mut string = |field: &str| match object.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(string)) => Ok(Some(string)),
        Some(other) => Err(format!("{field}: {} is not a string", shown(&other.to_string()))),
    };
    let mut fields = || Ok((string("title")?.unwrap_or_default(), string("text")?.ok_or("text: missing")?));
    let (title, text) = match fields() {
        Ok(found) => found,
        Err(message) => return failed(id, message),
    };
    let article = pb::Article { article_id: id.clone().unwrap_or_default(), title, text };
    let response = answer(classifier, &article, max_contributions);
    match response.and_then(|response| serde_json::to_string(&response).map_err(|error| error.to_string())) {
        Ok(json) => Answered { json, is_error: false },
        Err(message) => failed(id, message),
    }
}
