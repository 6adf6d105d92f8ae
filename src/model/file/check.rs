//! What a model file may say, so that whatever loads can be served: in bounded memory, and with finite numbers.

use std::ops::RangeInclusive;

use super::{HeadHeader, Header, LoadError, inconsistent};
use crate::features::{BlockConfig, BlockKind};
use crate::model::{HeadSettings, Training};

/// The largest n-gram that a model may ask for.
const LONGEST_NGRAM: usize = 32;

/// The greatest number of blocks of a space: each keeps something for each word of a page.
const MOST_BLOCKS: usize = 32;

/// Temperatures that a head may have. Those that are [fitted](crate::model::calibration) lie between 1/50 and 50.
const TEMPERATURES: RangeInclusive<f64> = 1e-3..=1e3;

/// Whether `name` can be part of a resource name: lower-case letters, digits and hyphens, a letter first, at most 63.
///
/// # Errors
///
/// [`LoadError::Inconsistent`] that gives the rule.
pub fn check_name(name: &str) -> Result<(), LoadError> {
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 63
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if fits {
        return Ok(());
    }
    Err(inconsistent(format!("the name {name:?} is not made of up to 63 lower-case letters, digits and hyphens, a letter first")))
}

/// Whether `value` is a probability.
pub(super) fn check_probability(name: &str, value: f64) -> Result<(), LoadError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(inconsistent(format!("{name} is {value}, not a probability"))) }
}

/// Whether a space can have these blocks.
pub(super) fn check_blocks(space: &str, configs: &[BlockConfig]) -> Result<(), LoadError> {
    if configs.len() > MOST_BLOCKS {
        return Err(inconsistent(format!("{space} has {} blocks; there may be {MOST_BLOCKS}", configs.len())));
    }
    configs.iter().try_for_each(|config| check_block(space, config))
}

fn check_block(space: &str, config: &BlockConfig) -> Result<(), LoadError> {
    let name = format!("{space}: block {:?}", config.name);
    if !(config.weight.is_finite() && config.weight > 0.0) {
        return Err(inconsistent(format!("{name} has the weight {}, which is not above zero", config.weight)));
    }
    if let BlockKind::Ngrams { min, max } = config.kind
        && !(1 <= min && min <= max && max <= LONGEST_NGRAM)
    {
        return Err(inconsistent(format!(
            "{name} asks for n-grams of {min} to {max} characters, not within 1 to {LONGEST_NGRAM}"
        )));
    }
    Ok(())
}

/// Whether a head can have these labels, this temperature and these priors.
pub(super) fn check_head(name: &str, head: &HeadHeader) -> Result<(), LoadError> {
    let HeadHeader { labels, temperature, priors } = head;
    if labels.len() < 2 || !labels.is_sorted_by(|left, right| left < right) || labels.iter().any(String::is_empty) {
        return Err(inconsistent(format!("{name} must have at least two labels, sorted, none empty or twice")));
    }
    if !TEMPERATURES.contains(temperature) {
        let (least, most) = (TEMPERATURES.start(), TEMPERATURES.end());
        return Err(inconsistent(format!("{name}.temperature is {temperature:?}, not within {least} and {most}")));
    }
    let sum: f64 = priors.iter().sum();
    if priors.len() != labels.len() || !priors.iter().all(|prior| *prior > 0.0 && *prior < 1.0) || (sum - 1.0).abs() > 1e-6 {
        return Err(inconsistent(format!("{name}.priors are not one probability a label that add up to 1")));
    }
    Ok(())
}

/// Whether a head of so many `labels` can have this bias: no greater than a weight can be, so that nothing it is added to or divided
/// by overflows.
pub(super) fn check_bias(name: &str, bias: &[f64], labels: usize) -> Result<(), LoadError> {
    let fits = bias.len() == labels && bias.iter().all(|value| value.abs() <= f64::from(f32::MAX));
    if fits {
        Ok(())
    } else {
        Err(inconsistent(format!("{name}.bias is not one number a label in the range of single precision")))
    }
}

/// Checks what the file says of how it was trained.
pub(super) fn check_training(header: &Header) -> Result<(), LoadError> {
    let Training { settings, started_from, .. } = &header.training;
    if let Some((head, _)) = settings.iter().find(|(head, _)| *head == "role" || !header.heads.contains_key(*head)) {
        return Err(inconsistent(format!(
            "training.settings tell of a head {head:?}; they may tell of the topic and stance heads"
        )));
    }
    if let Some((head, HeadSettings { c, .. })) = settings.iter().find(|(_, of)| !(of.c.is_finite() && of.c > 0.0)) {
        return Err(inconsistent(format!("training.settings.{head}.c is {c}, which is not above zero")));
    }
    let is_digest = |text: &String| text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if started_from.as_ref().is_some_and(|version| !is_digest(version)) {
        return Err(inconsistent("training.started_from is no SHA-256 in lower-case hexadecimal"));
    }
    Ok(())
}
