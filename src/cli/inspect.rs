//! `depeche inspect`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::features::Space;
use crate::model::{Classifier, DoubtLimits, Head, HeadScores, HeadSettings, Model, file};

/// Describes a model file
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  depeche inspect --terms 20\n\nWhere a server with --shadow and --admin-listen 127.0.0.1:50052 runs:\n  depeche inspect --server 127.0.0.1:50052"
)]
pub struct InspectArgs {
    /// The model file; without it the model that is compiled into the program
    #[arg(long, value_name = "FILE", env = "DEPECHE_MODEL")]
    model: Option<PathBuf>,
    /// Terms shown for each label
    #[arg(long, value_name = "N", default_value_t = 12)]
    terms: usize,
    /// Write the model anew in the format of this version
    #[arg(long, value_name = "FILE")]
    upgrade: Option<PathBuf>,
    /// Ask a running server, by its admin listener, where its shadow model differs from the one that answers
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with_all = ["upgrade", "terms"])]
    server: Option<String>,
    /// A file with a bearer token of scope admin, where the server asks for one
    #[arg(long, value_name = "FILE", requires = "server")]
    token: Option<PathBuf>,
}

pub(super) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    if let Some(server) = &args.server {
        return super::shadow::show(server, args.token.as_deref());
    }
    let model = match &args.model {
        Some(file) => Model::load(file).with_context(|| format!("model {}", file.display()))?,
        None => Classifier::built_in_model()?,
    };
    if let Some(out) = &args.upgrade {
        file::replace(out, &model.to_bytes()?)?;
        writeln!(anstream::stderr(), "{} written in format {}", out.display(), model.format())?;
        return Ok(());
    }
    let mut out = anstream::stdout().lock();
    let training = &model.training;
    writeln!(out, "{}", model.resource_name())?;
    writeln!(out, "trained on {} articles and {} pages, data {}", training.articles, training.pages, training.data_digest)?;
    if let Some(version) = &training.started_from {
        writeln!(out, "the solver started from the model {version}")?;
    }
    for (name, HeadSettings { c, class_weights, chosen_from }) in &training.settings {
        let how = chosen_from.map_or("given".to_owned(), |points| format!("chosen from {points} by cross-validation"));
        writeln!(out, "settings of the {name} head: C {c}, class weights {class_weights} ({how})")?;
    }
    writeln!(out, "noise label: {}", model.noise_label.as_deref().unwrap_or("none"))?;
    space(&mut out, "article", &model.document)?;
    if let Some(lexicon) = model.document.lexicon() {
        writeln!(out, "lexicon: {} concepts", lexicon.concepts())?;
    }
    if let Some(DoubtLimits { least_words, most_unknown, most_unknown_to_common, .. }) = &model.thresholds.doubt {
        writeln!(
            out,
            "doubts an article of fewer than {least_words} words, of more than {:.1} % unknown words, or of more than \
             {most_unknown_to_common:.2} unknown for each common one",
            100.0 * most_unknown
        )?;
    }
    if let Some(role) = &model.role {
        space(&mut out, "passage", role.space())?;
    }
    head(&mut out, "topic", &model.topic, &model.document, (training.topic.as_ref(), args.terms))?;
    if let Some(stance) = &model.stance {
        head(&mut out, "stance", stance, &model.document, (training.stance.as_ref(), args.terms))?;
    }
    if let Some(role) = &model.role {
        head(&mut out, "role", role.head(), role.space(), (training.role.as_ref(), args.terms))?;
    }
    Ok(())
}

fn space(out: &mut impl Write, name: &str, space: &Space) -> anyhow::Result<()> {
    let blocks: Vec<String> = space
        .blocks()
        .iter()
        .map(|block| format!("{} {} (weight {})", block.vocabulary.len(), block.config.name, block.config.weight))
        .collect();
    writeln!(out, "features of {} {name}: {}", if name == "article" { "an" } else { "a" }, blocks.join(", "))?;
    Ok(())
}

fn head(
    out: &mut impl Write,
    name: &str,
    head: &Head,
    space: &Space,
    (scores, terms): (Option<&HeadScores>, usize),
) -> anyhow::Result<()> {
    writeln!(out, "\n{name}: temperature {:.4}", head.temperature)?;
    if let Some(HeadScores { rows, macro_f1, accuracy, calibration_error }) = scores {
        writeln!(
            out,
            "  held out in training: macro-F1 {macro_f1:.3}, accuracy {accuracy:.3}, calibration error {calibration_error:.3}, n {rows}"
        )?;
    }
    for (at, label) in head.labels.iter().enumerate() {
        writeln!(out, "  {label} (prior {:.4}, bias {:+.3})", head.priors[at], head.bias[at])?;
        let mut weights: Vec<(f32, u32)> =
            (0..).zip(head.weights.column(at)).map(|(feature, weight)| (*weight, feature)).collect();
        weights.sort_by(|(left, left_at), (right, right_at)| right.total_cmp(left).then(left_at.cmp(right_at)));
        for (weight, feature) in weights.into_iter().take(terms) {
            let (block, term) = space.term(feature);
            writeln!(out, "    {weight:+8.3}  {:12} {term:?}", space.blocks()[block].config.name)?;
        }
    }
    Ok(())
}
