//! What a head was fitted with: the part of a training run's settings that its weights depend on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How much the rows of each label weigh for the solver. With n(c) rows of label c a row of it weighs in proportion to n(c)^−p, and all rows
/// together weigh as much as without weights, so that C means the same for any of them.
///
/// This says what a head attends to, not what it answers: its biases are for labels that are equally frequent, whatever these
/// weights, and priors say how frequent they are (see [`super::head`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeights {
    /// p = 1: every label weighs the same, n / (k · n(c)) a row, which is scikit-learn's `class_weight="balanced"`.
    #[default]
    Balanced,
    /// p = ½: a label weighs in proportion to the square root of its rows.
    SquareRoot,
    /// p = 0: every row weighs the same.
    None,
}

/// Why a word names no class weights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no class weights; they are balanced, square-root or none")]
pub struct UnknownClassWeights(String);

impl ClassWeights {
    /// All of them, those that hold rare labels up most first.
    pub const ALL: [Self; 3] = [Self::Balanced, Self::SquareRoot, Self::None];

    /// Its name on the command line and in the model file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::SquareRoot => "square-root",
            Self::None => "none",
        }
    }
}

impl fmt::Display for ClassWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ClassWeights {
    type Err = UnknownClassWeights;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|weights| weights.name() == name);
        named.ok_or_else(|| UnknownClassWeights(name.to_owned()))
    }
}

/// What a head was fitted with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadSettings {
    /// The weight of the data against the penalty on large weights; greater than zero.
    pub c: f64,
    /// How much the rows of each label weighed.
    pub class_weights: ClassWeights,
    /// Points of the search that these settings came out of; absent where they were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_from: Option<u64>,
}

impl Default for HeadSettings {
    /// C = 100 and balanced: the best mean on the eleven languages of MasakhaNEWS.
    fn default() -> Self {
        Self { c: 100.0, class_weights: ClassWeights::Balanced, chosen_from: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_weights_have_one_name_everywhere() {
        for weights in ClassWeights::ALL {
            assert_eq!(weights.name().parse(), Ok(weights));
            assert_eq!(serde_json::to_value(weights).unwrap(), weights.to_string());
        }
        let error = "Balanced".parse::<ClassWeights>().unwrap_err();
        assert_eq!(error.to_string(), "\"Balanced\" names no class weights; they are balanced, square-root or none");
    }
}
