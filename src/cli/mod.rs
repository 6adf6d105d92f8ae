//! The command line: one module a subcommand.
//!
//! Data goes to standard output, everything else to standard error. Exit code 0: success; 1: failure; 2: wrong usage.

pub mod classify;
pub mod evaluate;
pub mod inspect;
pub mod person;
pub mod progress;
pub mod serve;
pub mod shadow;
pub mod telemetry;
pub mod train;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::model::{Classifier, Model, Priors};
use crate::service::errors::chain;
use crate::train::FieldNames;

/// Labels French-language news pages: what is article and what is noise, its topic, the stance of its source.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::ServeArgs>),
    Train(Box<train::TrainArgs>),
    Evaluate(evaluate::EvaluateArgs),
    Classify(classify::ClassifyArgs),
    Inspect(inspect::InspectArgs),
}

/// Which model answers.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// The model file; without it the model that is compiled into the program
    #[arg(long, value_name = "FILE", env = "DEPECHE_MODEL")]
    model: Option<PathBuf>,
    /// How frequent labels are where the articles come from, in place of the model's priors: every label of a head
    #[arg(long, value_name = "LABEL=P,…", value_parser = parse_priors, env = "DEPECHE_PRIORS")]
    priors: Option<Priors>,
}

impl ModelArgs {
    fn classifier(&self) -> anyhow::Result<Classifier> {
        let mut model = match &self.model {
            Some(file) => Model::load(file).with_context(|| format!("model {}", file.display()))?,
            None => Classifier::built_in_model().context("the model that is compiled in")?,
        };
        if let Some(priors) = &self.priors {
            model.set_priors(priors).map_err(|error| Usage(format!("--priors: {error}")))?;
        }
        Ok(Classifier::new(model))
    }
}

/// Names of columns (CSV, TSV) or keys (JSON Lines). A name given must be in the data; of the defaults only text and
/// topic must.
#[derive(Debug, Args)]
#[command(next_help_heading = "Fields")]
pub struct FieldArgs {
    /// Holds the article's id [default: id]
    #[arg(long, value_name = "NAME")]
    id_field: Option<String>,
    /// Holds the title [default: title]
    #[arg(long, value_name = "NAME")]
    title_field: Option<String>,
    /// Holds the text, or the raw page [default: text]
    #[arg(long, value_name = "NAME")]
    text_field: Option<String>,
    /// Holds the topic [default: topic]
    #[arg(long, value_name = "NAME")]
    topic_field: Option<String>,
    /// Holds the stance [default: stance]
    #[arg(long, value_name = "NAME")]
    stance_field: Option<String>,
    /// Holds the group, such as the event: a group is never split between training and testing [default: group]
    #[arg(long, value_name = "NAME")]
    group_field: Option<String>,
}

impl FieldArgs {
    fn names(&self) -> FieldNames {
        FieldNames {
            id: self.id_field.clone(),
            title: self.title_field.clone(),
            text: self.text_field.clone(),
            topic: self.topic_field.clone(),
            stance: self.stance_field.clone(),
            group: self.group_field.clone(),
            fold: None,
        }
    }
}

/// Parses `label=p,label=p`.
fn parse_priors(text: &str) -> Result<Priors, String> {
    let mut priors = Priors::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (label, value) = part.rsplit_once('=').ok_or_else(|| format!("{part:?} is not of the form label=probability"))?;
        let value = value.trim().parse().map_err(|_| format!("{value:?} is not a number"))?;
        if priors.insert(label.trim().to_owned(), value).is_some() {
            return Err(format!("{:?} appears twice", label.trim()));
        }
    }
    Ok(priors)
}

/// What was asked for can't be, whatever the data: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(String);

impl Usage {
    fn of(error: &impl std::error::Error) -> anyhow::Error {
        Self(chain(error)).into()
    }
}

/// Parses an address to listen on.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an IP address and a port, such as 127.0.0.1:50051; names are not looked up".to_owned())
}

/// Runs the command line and tells how it went.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // The server has more to tell, and its own way of telling it.
    if !matches!(cli.command, Command::Serve(_)) {
        telemetry::log_for_a_person();
    }
    let done = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Classify(args) => classify::run(&args),
        Command::Inspect(args) => inspect::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has read enough.
        Err(error)
            if error
                .chain()
                .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            if error.downcast_ref::<Usage>().is_some() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
