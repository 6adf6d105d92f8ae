//! Training: labelled articles and marked pages in, a model out.
//!
//! - [`corpus`]: labelled articles from JSON Lines, CSV and TSV
//! - [`pages`]: marked pages
//! - [`folds`]: cross-validation folds that keep groups together
//! - [`lbfgs`]: a minimum from values and gradients
//! - [`solver`]: multinomial logistic regression for sparse rows
//! - [`role`]: the head that tells article from noise
//! - [`run`]: the whole training run

pub mod corpus;
pub mod folds;
pub mod lbfgs;
pub mod pages;
pub mod role;
pub mod run;
pub mod solver;

pub use corpus::{CorpusError, FieldNames, LabelledArticle};
pub use pages::MarkedPage;
pub use run::{TrainError, TrainParams, train};
