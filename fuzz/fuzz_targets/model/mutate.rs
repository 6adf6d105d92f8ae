//! Changes of a model file that leave it a safetensors file.

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzzer_mutate;
use serde_json::{Value, json};

use super::container::{Container, Tensor};
use super::grow;

/// Numbers that a model should not have, or just so.
const NUMBERS: [f64; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.0,
    31.0,
    33.0,
    1e-300,
    5e-324,
    1e300,
    f64::MAX,
    f64::MIN,
    f64::EPSILON,
    0.999_999_999_999_999_9,
    4_294_967_296.0,
];

/// Texts that mean something to a model, or should not.
const TEXTS: [&str; 16] = [
    "",
    "body",
    "repeated",
    "noise",
    "words",
    "shape",
    "relations",
    "concepts",
    "title",
    "own",
    "quoted",
    "a",
    "É",
    "\0",
    "a\nb",
    "😀",
];

/// Sizes that a tensor should not have.
const SIZES: [u64; 8] = [0, 1, 2, 3, 1 << 16, 1 << 32, 1 << 62, u64::MAX];

const DTYPES: [&str; 8] = ["BOOL", "U8", "F16", "F32", "F64", "U32", "U64", "F4"];

/// The greatest change of a tensor's size in bytes.
const ROOM: usize = 64;

/// The file `bytes` changed as `seed` says; nothing where that is left to libFuzzer.
pub(crate) fn file(bytes: &[u8], seed: u32) -> Option<Vec<u8>> {
    let random = random(seed);
    let mut choices = Unstructured::new(&random);
    if choices.ratio(1, 8).ok()? {
        return None;
    }
    let mut container = Container::parse(bytes)?;
    for _ in 0..choices.int_in_range(1..=3).ok()? {
        change(&mut container, &mut choices).ok()?;
    }
    Some(container.to_bytes())
}

/// Bytes to choose by (splitmix64; Steele, Lea & Flood 2014).
fn random(seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    };
    (0..32).flat_map(|_| next()).collect()
}

fn change(container: &mut Container, choices: &mut Unstructured<'_>) -> Result<()> {
    match choices.int_in_range(0..=9)? {
        0..=2 => change_metadata(&mut container.metadata, choices),
        3..=5 => change_tensor(&mut container.tensors, choices),
        6 => grow::term(container, choices),
        7 => grow::block(container, choices),
        8 => grow::label(container, choices),
        _ => grow::lexicon(container, choices),
    }
}

/// Puts something else in the place of one value of the metadata, or leaves it out, or has it twice.
fn change_metadata(metadata: &mut Value, choices: &mut Unstructured<'_>) -> Result<()> {
    let mut places = Vec::new();
    find_places(metadata, &mut String::new(), &mut places);
    let other = metadata.pointer(choices.choose(&places)?).cloned().unwrap_or_default();
    let place = choices.choose(&places)?;
    let Some(value) = metadata.pointer_mut(place) else { return Ok(()) };
    match choices.int_in_range(0..=4)? {
        0 => *value = other,
        1 => *value = json!(choices.choose(&NUMBERS)?),
        2 => *value = json!(choices.choose(&TEXTS)?),
        _ => match value {
            Value::Array(values) if !values.is_empty() => {
                let at = choices.choose_index(values.len())?;
                let removed = values.remove(at);
                let again = choices.int_in_range(0..=2)?;
                values.extend(std::iter::repeat_n(removed, again));
            }
            Value::Object(fields) if !fields.is_empty() => {
                let name = fields.keys().nth(choices.choose_index(fields.len())?).cloned().unwrap_or_default();
                let removed = fields.remove(&name);
                let renamed = (*choices.choose(&TEXTS)?).to_owned();
                fields.extend(removed.filter(|_| choices.arbitrary().unwrap_or(false)).map(|value| (renamed, value)));
            }
            Value::Number(number) if number.is_u64() => *value = json!(choices.arbitrary::<u64>()?),
            Value::Number(_) => *value = json!(choices.arbitrary::<f64>()?),
            Value::String(text) => text.push_str(choices.choose(&TEXTS)?),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => *value = other,
        },
    }
    Ok(())
}

/// Puts the JSON pointers of `value` and of all within it into `places`.
fn find_places(value: &Value, path: &mut String, places: &mut Vec<String>) {
    places.push(path.clone());
    let length = path.len();
    let mut visit = |name: &str, value: &Value| {
        path.push('/');
        path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        find_places(value, path, places);
        path.truncate(length);
    };
    match value {
        Value::Array(values) => values.iter().enumerate().for_each(|(at, value)| visit(&at.to_string(), value)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| visit(name, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn change_tensor(tensors: &mut Vec<Tensor>, choices: &mut Unstructured<'_>) -> Result<()> {
    if tensors.is_empty() {
        return Ok(());
    }
    let at = choices.choose_index(tensors.len())?;
    let tensor = &mut tensors[at];
    match choices.int_in_range(0..=9)? {
        0..=3 => change_data(tensor, choices.arbitrary()?),
        4..=5 => change_element(tensor, choices)?,
        6 => {
            let size = *choices.choose(&SIZES)?;
            match choices.choose_index(tensor.shape.len() + 1)? {
                dimension if dimension < tensor.shape.len() => tensor.shape[dimension] = size,
                _ => tensor.shape.push(size),
            }
        }
        7 => (*choices.choose(&DTYPES)?).clone_into(&mut tensor.dtype),
        8 => drop(tensors.remove(at)),
        _ => {
            let mut copy = tensor.clone();
            copy.name.push_str(choices.choose(&TEXTS)?);
            tensors.push(copy);
        }
    }
    Ok(())
}

/// Lets libFuzzer change the data, in its size or not.
fn change_data(tensor: &mut Tensor, keeps_size: bool) {
    let size = tensor.data.len();
    let most = if keeps_size { size } else { size + ROOM };
    tensor.data.resize(most.max(1), 0);
    let changed = fuzzer_mutate(&mut tensor.data, size, most.max(1));
    tensor.data.truncate(changed);
    if keeps_size {
        tensor.data.resize(size, 0);
    } else {
        tensor.fit();
    }
}

/// Makes one element a number out of the ordinary.
fn change_element(tensor: &mut Tensor, choices: &mut Unstructured<'_>) -> Result<()> {
    let number = if choices.ratio(1, 8)? { choices.arbitrary()? } else { *choices.choose(&NUMBERS)? };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "any number will do")]
    let element = match tensor.dtype.as_str() {
        "F32" => (number.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32).to_le_bytes().to_vec(),
        "F64" => number.to_le_bytes().to_vec(),
        _ => (number as u64).to_le_bytes()[..tensor.width()].to_vec(),
    };
    let elements: Vec<&mut [u8]> = tensor.data.chunks_exact_mut(element.len()).collect();
    if !elements.is_empty() {
        let at = choices.choose_index(elements.len())?;
        elements.into_iter().nth(at).into_iter().for_each(|place| place.copy_from_slice(&element));
    }
    Ok(())
}
