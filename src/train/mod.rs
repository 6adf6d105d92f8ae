//! Training: labelled articles and marked pages in, a model out.
//!
//! - [`corpus`]: labelled articles from JSON Lines, CSV and TSV
//! - [`store`]: articles that may be too many for the memory
//! - [`pages`]: marked pages
//! - [`folds`]: cross-validation folds that keep groups together
//! - [`lbfgs`]: a minimum from values and gradients
//! - [`solver`]: multinomial logistic regression for sparse rows
//! - `products`: rows times weights, and back
//! - [`role`]: the head that tells article from noise
//! - `relevance`: terms that labels differ in, shown larger to the solver
//! - [`init`]: where the solver starts, given another model
//! - [`fit`]: one head, fitted and calibrated
//! - [`search`]: C and class weights by cross-validation
//! - `vectors`: the features of a corpus, and the vectors of its articles
//! - [`run`]: the whole training run

pub mod corpus;
pub mod fit;
pub mod folds;
pub mod init;
pub mod lbfgs;
pub mod pages;
mod products;
mod relevance;
pub mod role;
pub mod run;
pub mod search;
pub mod solver;
pub mod store;
mod vectors;

pub use corpus::{CorpusError, FieldNames, LabelledArticle};
pub use fit::Fitting;
pub use init::TakenOver;
pub use pages::MarkedPage;
pub use run::{TrainError, TrainParams, Trained, train};
pub use search::{Search, SearchParams};
pub use store::Corpus;

/// Is told how a training run gets on, for a person who waits. `()` tells nobody.
pub trait Progress: Sync {
    /// What comes next.
    fn stage(&self, name: &str);

    /// What comes next, in so many pieces, each of which [`advance`](Self::advance) tells.
    fn pieces(&self, name: &str, pieces: usize);

    /// A piece is done; called from any thread.
    fn advance(&self);
}

impl Progress for () {
    fn stage(&self, _: &str) {}

    fn pieces(&self, _: &str, _: usize) {}

    fn advance(&self) {}
}
