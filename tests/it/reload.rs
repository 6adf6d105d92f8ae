//! A new model without a restart, and a second one beside it.

use std::path::Path;

use depeche::model::{Classifier, Model};
use depeche::service::pb;
use tonic::{Code, Status};

use crate::running::{Running, refusal, request, run, slow_batch};

/// A folder with a model file that the server takes over from.
struct Models {
    folder: tempfile::TempDir,
}

impl Models {
    /// The built-in model in `model`.
    fn new() -> Self {
        let models = Self { folder: tempfile::tempdir().unwrap() };
        models.write("model", &Classifier::built_in_model().unwrap());
        models
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Replaces a file in one step, as a careful operator does.
    fn write(&self, name: &str, model: &Model) {
        self.write_bytes(name, &model.to_bytes().unwrap());
    }

    fn write_bytes(&self, name: &str, bytes: &[u8]) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, bytes).unwrap();
        std::fs::rename(next, self.folder.path().join(name)).unwrap();
    }
}

/// The built-in model under another name: other bytes, the same labels.
fn renamed(name: &str) -> Model {
    Model { name: name.into(), ..Classifier::built_in_model().unwrap() }
}

/// The built-in model with a label of its topics named otherwise.
fn relabelled() -> Model {
    let mut model = Classifier::built_in_model().unwrap();
    model.topic.labels[0].push_str("_of_another_name");
    model
}

async fn serving(server: &Running) -> String {
    server.classifier().await.classify(request("Le sommet s'ouvre à Alger.")).await.unwrap().into_inner().model
}

async fn reload(server: &Running, allow: bool, validate: bool) -> Result<pb::ReloadModelResponse, Status> {
    let request = pb::ReloadModelRequest { allow_other_labels: allow, validate_only: validate };
    server.admin().await.reload_model(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_takes_over_by_signal_by_watch_and_by_call() {
    let models = Models::new();
    let args = ["--model", &models.path("model"), "--watch", "20ms", "--admin-listen", "127.0.0.1:0"];
    let server = Running::start(&args[..2]);
    models.write("model", &renamed("by-signal"));
    server.signal("HUP");
    server.log_until("model reloaded");
    assert!(serving(&server).await.starts_with("models/by-signal/versions/"));

    let server = Running::start(&args);
    models.write("model", &renamed("by-watch"));
    let line = server.log_until("model reloaded");
    assert!(line.contains("trigger=\"watch\""), "{line}");
    assert!(serving(&server).await.starts_with("models/by-watch/versions/"));

    let server = Running::start(&[&args[..2], &args[4..]].concat());
    models.write("model", &renamed("by-call"));
    let checked = reload(&server, false, true).await.unwrap();
    assert!(checked.changed && checked.model.starts_with("models/by-call/versions/"), "{checked:?}");
    assert!(serving(&server).await.starts_with("models/by-watch/"), "only checked");
    let reloaded = reload(&server, false, false).await.unwrap();
    assert_eq!((reloaded.model, reloaded.changed), (serving(&server).await, true));
    assert!(!reload(&server, false, false).await.unwrap().changed);
    server.log_until("model unchanged");

    // Who asks for the shadow at the wrong door is told of the right one.
    let (code, error) = run(&["inspect", "--server", &server.address()]);
    assert_eq!(code, Some(1));
    assert!(error.contains("no AdminService there") && error.contains("--admin-listen"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_model_or_has_other_labels_is_refused_and_the_one_before_goes_on() {
    let models = Models::new();
    let server = Running::start(&["--model", &models.path("model"), "--admin-listen", "127.0.0.1:0"]);
    let before = serving(&server).await;
    let whole = std::fs::read(models.path("model")).unwrap();
    let newer = {
        let text = String::from_utf8_lossy(&whole[8..200]).into_owned();
        assert!(text.contains("\\\"format\\\":5"), "the format stands near the beginning: {text}");
        let at = whole.windows(12).position(|bytes| bytes == b"\\\"format\\\":5").unwrap() + 11;
        let mut newer = whole.clone();
        newer[at] = b'9';
        newer
    };
    for (bytes, expected) in [
        (whole[..whole.len() / 2].to_vec(), "model"),
        (b"not a model".to_vec(), "model"),
        (newer, "format 9"),
        (relabelled().to_bytes().unwrap(), "its labels of topic are"),
    ] {
        models.write_bytes("model", &bytes);
        let status = reload(&server, false, false).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::FailedPrecondition, "MODEL_REFUSED".into()));
        assert!(status.message().contains(expected) && status.message().contains(&models.path("model")), "{}", status.message());
        let line = server.log_until("model refused");
        assert!(line.contains(expected), "{line}");
        assert_eq!(serving(&server).await, before);
    }
    let metrics = server.metrics().await;
    assert!(metrics.contains("depeche_reloads_total{outcome=\"refused\",trigger=\"call\"} 4"), "{metrics}");
    // Unless told otherwise.
    let reloaded = reload(&server, true, false).await.unwrap();
    assert_eq!(reloaded.model, serving(&server).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_there_is_nothing_to_reload() {
    let server = Running::start(&["--admin-listen", "127.0.0.1:0"]);
    let status = reload(&server, false, false).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::FailedPrecondition, "MODEL_NOT_RELOADABLE".into()));
    let status = server.admin().await.get_shadow_report(pb::GetShadowReportRequest {}).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::NotFound, "NO_SHADOW".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_on_the_model_that_it_began_with() {
    let models = Models::new();
    let file = models.path("model");
    let args = ["--model", &file, "--admin-listen", "127.0.0.1:0", "--max-response-bytes", "100000000", "--workers", "1"];
    let server = Running::start(&args);
    let before = serving(&server).await;
    let mut client = server.classifier().await.max_decoding_message_size(100_000_000);
    // A stream that is open over the change keeps its model too.
    let (items, queued) = tokio::sync::mpsc::channel(1);
    let mut stream = client.stream_classify(tokio_stream::wrappers::ReceiverStream::new(queued)).await.unwrap().into_inner();
    // Both have begun, and so have their model, once one of them waits for the only worker, which the other one has. Where one was done before
    // the other came, they are sent again.
    let batches = 'sent: loop {
        let batches = [(); 2].map(|()| {
            let mut client = client.clone();
            tokio::spawn(async move { client.batch_classify(slow_batch()).await.unwrap().into_inner() })
        });
        while !batches.iter().all(tokio::task::JoinHandle::is_finished) {
            if server.metrics().await.contains("depeche_calls_waiting 1") {
                break 'sent batches;
            }
        }
        for batch in batches {
            batch.await.unwrap();
        }
    };
    models.write("model", &renamed("after"));
    let after = reload(&server, false, false).await.unwrap().model;
    assert_ne!(before, after);
    assert_eq!(serving(&server).await, after);
    for batch in batches {
        assert!(batch.await.unwrap().responses.iter().all(|response| response.model == before));
    }
    let item = pb::StreamClassifyRequest { article: request("Le sommet s'ouvre à Alger.").article, options: None };
    items.send(item).await.unwrap();
    let Some(pb::stream_classify_response::Outcome::Response(response)) = stream.message().await.unwrap().unwrap().outcome else {
        panic!("an error")
    };
    assert_eq!(response.model, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_compared_label_by_label() {
    let models = Models::new();
    // A model that takes every article for the topic that the built-in one takes none of these for.
    let mut other = renamed("other");
    let label = other.topic.labels.iter().position(|label| label == "diplomacy").unwrap();
    other.topic.bias[label] += 1e6;
    models.write("shadow", &other);
    let args = ["--model", &models.path("model"), "--shadow", &models.path("shadow"), "--admin-listen", "127.0.0.1:0"];
    let server = Running::start(&args);
    let mut client = server.classifier().await;
    let report = || async { server.admin().await.get_shadow_report(pb::GetShadowReportRequest {}).await.unwrap().into_inner() };
    let texts = ["L'équipe a gagné son match de football dimanche.", "Le prix du mil recule sur les marchés de Zinder."];
    for (done, text) in texts.into_iter().enumerate() {
        let response = client.classify(request(text)).await.unwrap().into_inner();
        assert_eq!(response.topic.unwrap().label, "ticker_noise");
        // It labels after the answer.
        while report().await.articles <= i64::try_from(done).unwrap() {}
    }
    let found = report().await;
    assert!(found.model.starts_with("models/depeche-fr/") && found.shadow_model.starts_with("models/other/"));
    assert!(found.start_time.is_some());
    assert_eq!((found.articles, found.skipped), (2, 0));
    let topic = &found.heads[0];
    assert_eq!((topic.name.as_str(), topic.different), ("topic", 2));
    let pair = |pair: &pb::get_shadow_report_response::LabelPair| (pair.label.clone(), pair.shadow_label.clone(), pair.articles);
    assert_eq!(topic.pairs.iter().map(pair).collect::<Vec<_>>(), [("ticker_noise".into(), "diplomacy".into(), 2)]);
    // The one gives no stance, the other does.
    assert_eq!((found.heads[1].name.as_str(), found.heads[1].different), ("stance", 2));
    let metrics = server.metrics().await;
    assert!(
        metrics.contains("depeche_shadow_articles_total{head=\"topic\",label=\"ticker_noise\",shadow_label=\"diplomacy\"} 2")
    );

    // The same as a table, for a person.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_depeche"));
    let output = command.args(["inspect", "--server", &server.address_of("admin listener")]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("2 articles compared, 0 skipped") && table.contains("topic: 2 different (100.00 %)"), "{table}");
    let row: Vec<&str> = table.lines().find(|line| line.contains("ticker_noise")).unwrap().split_whitespace().collect();
    assert_eq!(row, ["ticker_noise", "≠", "diplomacy", "2", "100.00", "%"]);
}

#[test]
fn a_start_without_a_model_fails_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("none");
    let (code, error) = run(&["serve", "--listen", "127.0.0.1:0", "--model", file.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    // Once, and as what it is: there was no model before.
    assert!(error.starts_with(&format!("error: model {}: ", file.display())), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(!Path::new(&file).exists());
}
