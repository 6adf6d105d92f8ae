//! The model that is compiled into the program: that the command in its card makes it, byte for byte.

use std::fs;
use std::path::Path;
use std::process::Command;

use depeche::model::{BUILT_IN, Model};

/// The arguments of the training command in the model card, with file patterns expanded as a shell does.
fn command(root: &Path) -> Vec<String> {
    let card = fs::read_to_string(root.join("models/README.md")).unwrap();
    let block = card.split("```sh\n").find(|block| block.starts_with("cargo run --release -- train")).unwrap();
    let line = block.split("```").next().unwrap().replace("\\\n", " ");
    let words = line.split_whitespace().skip_while(|word| *word != "train");
    words
        .flat_map(|word| match word.strip_suffix("/*.jsonl") {
            Some(folder) => {
                let files = super::corpus::files(folder.strip_prefix("corpus/").unwrap());
                files.iter().map(|file| file.to_str().unwrap().to_owned()).collect()
            }
            None => vec![word.to_owned()],
        })
        .collect()
}

#[test]
fn training_it_anew_gives_the_same_bytes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model.safetensors");
    let mut args = command(root);
    let at = args.iter().position(|arg| arg == "models/depeche-fr.safetensors").unwrap();
    args[at] = out.to_str().unwrap().to_owned();
    let output = Command::new(env!("CARGO_BIN_EXE_depeche")).args(&args).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read(&out).unwrap() == BUILT_IN, "models/depeche-fr.safetensors is not what its command makes; train it anew");
}

#[test]
fn it_is_small_and_its_card_is_about_it() {
    assert!(BUILT_IN.len() < 8 << 20, "{} bytes", BUILT_IN.len());
    let model = Model::from_bytes(BUILT_IN).unwrap();
    assert_eq!(model.name, "depeche-fr");
    let card = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/README.md")).unwrap();
    for (name, scores) in [("topic", &model.training.topic), ("stance", &model.training.stance), ("role", &model.training.role)] {
        let scores = scores.as_ref().unwrap();
        let row = format!(
            "| {name} | {} | {:.3} | {:.3} | {:.3} |",
            scores.rows, scores.macro_f1, scores.accuracy, scores.calibration_error
        );
        assert!(card.contains(&row), "models/README.md does not say {row}");
    }
}
