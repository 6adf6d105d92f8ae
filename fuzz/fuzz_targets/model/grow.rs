//! Changes of a model file after which its parts still fit each other, so that it loads.

use arbitrary::{Result, Unstructured};
use serde_json::{Value, json};

use super::container::{Container, Tensor};

/// Spaces, and the heads over each.
const SPACES: [(&str, &[&str]); 2] = [("document", &["topic", "stance"]), ("passage", &["role"])];

/// Terms that a block may get: words, n-grams, concepts, relations and shapes, and what is none of these.
const TERMS: [&str; 16] = [
    "a",
    "",
    "le",
    " a",
    "e ",
    "accord",
    "é",
    "\0",
    "aaaaaaa\u{7}",
    "menu",
    "2 countries",
    "lead: RANK + country",
    "words=1",
    "first=capital",
    "un mot",
    "😀",
];

/// Lines that a lexicon may get.
const LINES: [&str; 10] = [
    "RANK\tgénéral\n",
    "country:NE\tniger\n",
    "country:NE\tniamey\n",
    "country:DZ\talgé*\n",
    "RANK\ta*\n",
    "VISIT\taccord\n",
    "#\ta\n",
    "\n",
    "A B\ta\n",
    "country:\tle\n",
];

/// Lines that are added at once; an entry may have no more than 16 concepts.
const MANY: usize = 12;

/// Adds a term to a block, with its idf and weights.
pub(crate) fn term(container: &mut Container, choices: &mut Unstructured<'_>) -> Result<()> {
    let (space, heads) = *choices.choose(&SPACES)?;
    let blocks = blocks(container, space);
    if blocks == 0 {
        return Ok(());
    }
    let block = choices.choose_index(blocks)?;
    let before: usize = (0..=block).map(|block| terms(container, space, block)).sum();
    add_terms(container, (space, block), &[*choices.choose(&TERMS)?], choices)?;
    let weight: f32 = choices.int_in_range(-4..=4).map(|weight: i8| f32::from(weight))?;
    heads.iter().for_each(|head| add_features(container, head, before, 1, weight));
    Ok(())
}

/// Adds a block behind the last one of a space.
pub(crate) fn block(container: &mut Container, choices: &mut Unstructured<'_>) -> Result<()> {
    let (space, heads) = *choices.choose(&SPACES)?;
    let kinds = [json!("words"), json!("shape"), json!("concepts"), json!("relations"), json!({"ngrams": {"min": 1, "max": 4}})];
    let field = *choices.choose(&["document", "title", "own", "quoted"])?;
    let config =
        json!({"name": "new", "kind": choices.choose(&kinds)?, "field": field, "min_df": 1, "max_features": 0, "weight": 1.0});
    let block = blocks(container, space);
    let before: usize = (0..block).map(|block| terms(container, space, block)).sum();
    let Some(Value::Array(configs)) = container.metadata.pointer_mut(&format!("/spaces/{space}")) else { return Ok(()) };
    configs.push(config);
    for (part, dtype) in [("terms", "U8"), ("idf", "F32")] {
        let tensor = Tensor { name: format!("{space}.{block}.{part}"), dtype: dtype.into(), shape: vec![0], data: Vec::new() };
        container.tensors.push(tensor);
    }
    let first = choices.choose_index(TERMS.len())?;
    let added = &TERMS[first..choices.int_in_range(first..=TERMS.len())?];
    add_terms(container, (space, block), added, choices)?;
    heads.iter().for_each(|head| add_features(container, head, before, added.len(), 1.0));
    Ok(())
}

/// Adds a label to a head, with its prior, bias, weights and logits.
pub(crate) fn label(container: &mut Container, choices: &mut Unstructured<'_>) -> Result<()> {
    let head = *choices.choose(&["topic", "stance", "role"])?;
    let label = *choices.choose(&["a", "mm", "repeated", "z", "É"])?;
    let Some(Value::Array(labels)) = container.metadata.pointer_mut(&format!("/heads/{head}/labels")) else { return Ok(()) };
    let at = labels.iter().filter(|other| other.as_str().unwrap_or_default() < label).count();
    labels.insert(at, json!(label));
    let count = labels.len();
    #[expect(clippy::cast_precision_loss, reason = "a head has few labels")]
    let prior = 1.0 / count as f64;
    container.metadata["heads"][head]["priors"] = json!(vec![prior; count]);
    for part in ["bias", "weights", "out_of_fold.logits"] {
        let Some(tensor) = container.tensor(&format!("{head}.{part}")) else { continue };
        let width = tensor.width();
        let row = width * (count - 1);
        let rows = tensor.data.chunks(row.max(1)).map(|row| {
            let (before, after) = row.split_at((at * width).min(row.len()));
            [before, &vec![0; width], after].concat()
        });
        tensor.data = rows.collect::<Vec<_>>().concat();
        tensor.shape.last_mut().into_iter().for_each(|labels| *labels = count as u64);
    }
    Ok(())
}

/// Adds lines to the lexicon, or makes one.
pub(crate) fn lexicon(container: &mut Container, choices: &mut Unstructured<'_>) -> Result<()> {
    if container.tensor("lexicon").is_none() {
        let tensor = Tensor { name: "lexicon".into(), dtype: "U8".into(), shape: vec![0], data: Vec::new() };
        container.tensors.push(tensor);
    }
    let Some(tensor) = container.tensor("lexicon") else { return Ok(()) };
    if choices.ratio(1, 16)? {
        // One word, or all that begin so, of many concepts.
        let first: u16 = choices.arbitrary()?;
        let lines =
            (0..MANY).map(|nth| format!("C{}\t{}*\n", usize::from(first) + nth, choices.choose(&["a", "l"]).unwrap_or(&"a")));
        tensor.data.extend(lines.collect::<String>().bytes());
    } else {
        tensor.data.extend(choices.choose(&LINES)?.bytes());
    }
    tensor.fit();
    Ok(())
}

fn blocks(container: &Container, space: &str) -> usize {
    container.metadata["spaces"][space].as_array().map_or(0, Vec::len)
}

fn terms(container: &mut Container, space: &str, block: usize) -> usize {
    let tensor = container.tensor(&format!("{space}.{block}.terms"));
    tensor.map_or(0, |tensor| tensor.data.iter().filter(|byte| **byte == b'\n').count())
}

fn add_terms(
    container: &mut Container,
    (space, block): (&str, usize),
    added: &[&str],
    choices: &mut Unstructured<'_>,
) -> Result<()> {
    let idf = f32::from(choices.int_in_range(1..=40_u8)?) / 8.0;
    for (part, data) in [
        ("terms", added.iter().flat_map(|term| term.bytes().chain([b'\n'])).collect::<Vec<u8>>()),
        ("idf", idf.to_le_bytes().repeat(added.len())),
    ] {
        if let Some(tensor) = container.tensor(&format!("{space}.{block}.{part}")) {
            tensor.data.extend(data);
            tensor.fit();
        }
    }
    Ok(())
}

/// Adds `count` features to a head, where it has `before`.
fn add_features(container: &mut Container, head: &str, before: usize, count: usize, weight: f32) {
    let labels = container.metadata["heads"][head]["labels"].as_array().map_or(0, Vec::len);
    if let Some(tensor) = container.tensor(&format!("{head}.weights")) {
        let row = tensor.width() * labels;
        let at = (before * row).min(tensor.data.len());
        tensor.data.splice(at..at, weight.to_le_bytes().repeat(labels * count));
        tensor.fit();
    }
}
