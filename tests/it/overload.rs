//! Deadlines, cancelled calls, and more work than is taken on.

use std::pin::Pin;
use std::time::{Duration, Instant};

use depeche::service::pb;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::raw::{Raw, Reply, frame, reply};
use crate::running::{Running, refusal, request, slow_batch};

const BATCH: &str = "depeche.v1.ClassifierService/BatchClassify";
const CLASSIFY: &str = "depeche.v1.ClassifierService/Classify";

/// A server with one worker and no queue: whoever comes second is refused.
fn one_worker() -> Running {
    Running::start(&["--workers", "1", "--queue", "0", "--max-response-bytes", "100000000", "--admin-listen", "127.0.0.1:0"])
}

fn small_batch() -> pb::BatchClassifyRequest {
    pb::BatchClassifyRequest { articles: request("Le sommet s'ouvre à Alger.").article.into_iter().collect(), options: None }
}

/// Asks for a small batch until the worker is free: how long that took.
async fn until_free(raw: &mut Raw) -> Duration {
    let started = Instant::now();
    loop {
        let status = raw.call(BATCH, &[], frame(&small_batch())).await.status.unwrap();
        if status.code() == Code::Ok {
            return started.elapsed();
        }
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    }
}

/// The slow batch, in the hands of the only worker, and the refusal of a small one that shows it. Dropped, the batch is cancelled.
///
/// While it is on its way small batches have the worker; where one has it just then, the slow one is refused, and sent again.
async fn at_work(raw: &mut Raw) -> (Pin<Box<dyn Future<Output = Reply>>>, Status) {
    'sent: loop {
        let mut slow: Pin<Box<dyn Future<Output = Reply>>> = Box::pin(reply(raw.begin(BATCH, &[], frame(&slow_batch())).await));
        loop {
            tokio::select! {
                biased;
                ended = &mut slow => {
                    assert!(matches!(ended.status.unwrap().code(), Code::Ok | Code::ResourceExhausted));
                    continue 'sent;
                }
                small = raw.call(BATCH, &[], frame(&small_batch())) => {
                    let status = small.status.unwrap();
                    if status.code() != Code::Ok {
                        return (slow, status);
                    }
                }
            }
        }
    }
}

/// How long the slow batch takes on this machine.
async fn whole_batch(raw: &mut Raw) -> Duration {
    let started = Instant::now();
    assert_eq!(raw.call(BATCH, &[], frame(&slow_batch())).await.status.unwrap().code(), Code::Ok);
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_stops_a_batch_in_its_middle_and_frees_its_worker() {
    let server = one_worker();
    // This client enforces no deadline: what comes back is the server's own answer.
    let mut raw = Raw::connect(&server.address()).await;
    let whole = whole_batch(&mut raw).await;
    let timeout = format!("{}u", whole.as_micros() / 4);
    let reply = raw.call(BATCH, &[("grpc-timeout", &timeout)], frame(&slow_batch())).await;
    let status = reply.status.unwrap();
    assert_eq!(refusal(&status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into()));
    let freed = until_free(&mut raw).await;
    assert!(freed < whole / 2, "freed after {freed:?}; the whole batch takes {whole:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_cancelled_stops_and_frees_its_worker() {
    let server = one_worker();
    let mut raw = Raw::connect(&server.address()).await;
    let whole = whole_batch(&mut raw).await;
    let (slow, _) = at_work(&mut raw).await;
    drop(slow);
    let freed = until_free(&mut raw).await;
    assert!(freed < whole / 2, "freed after {freed:?}; the whole batch takes {whole:?}");
    let metrics = server.metrics().await;
    let cancelled = "rpc_response_status_code=\"CANCELLED\"";
    assert!(metrics.lines().any(|line| line.contains("BatchClassify") && line.contains(cancelled)), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_stream_that_waits_for_its_client() {
    let server = Running::start(&[]);
    let mut client = server.classifier().await;
    let item = pb::StreamClassifyRequest { article: request("Le sommet s'ouvre à Alger.").article, options: None };
    let items = tokio_stream::StreamExt::chain(tokio_stream::iter([item]), tokio_stream::pending());
    let mut call = tonic::Request::new(items);
    // As metadata alone: with `set_timeout` this client would end the call by itself.
    call.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let mut answers = client.stream_classify(call).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    let status = answers.message().await.unwrap_err();
    assert_eq!(refusal(&status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_beyond_the_queue_is_refused_at_once_and_may_come_again() {
    let server = one_worker();
    let mut raw = Raw::connect(&server.address()).await;
    let (admitted, refused) = at_work(&mut raw).await;
    assert_eq!(refusal(&refused), (Code::ResourceExhausted, "OVERLOADED".into()));
    assert!(refused.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    // A small article needs no worker.
    assert_eq!(raw.call(CLASSIFY, &[], frame(&request("Un mot."))).await.status.unwrap().code(), Code::Ok);
    // What was admitted is answered.
    assert_eq!(admitted.await.status.unwrap().code(), Code::Ok);
    let metrics = server.metrics().await;
    assert!(metrics.contains("depeche_refusals_total{reason=\"OVERLOADED\""), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_in_the_queue_is_answered_in_its_turn() {
    let server = Running::start(&["--workers", "1", "--queue", "1", "--max-response-bytes", "100000000"]);
    let mut raw = Raw::connect(&server.address()).await;
    let first = raw.begin(BATCH, &[], frame(&slow_batch())).await;
    let second = raw.begin(BATCH, &[], frame(&slow_batch())).await;
    for begun in [first, second] {
        assert_eq!(reply(begun).await.status.unwrap().code(), Code::Ok);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_streams_beyond_their_number_are_refused() {
    let server = Running::start(&["--max-calls", "1", "--max-streams", "1", "--max-response-bytes", "100000000"]);
    let mut raw = Raw::connect(&server.address()).await;
    let begun = raw.begin(BATCH, &[], frame(&slow_batch())).await;
    let status = raw.call(CLASSIFY, &[], frame(&request("Un mot."))).await.status.unwrap();
    assert_eq!(refusal(&status), (Code::ResourceExhausted, "OVERLOADED".into()));
    assert_eq!(status.message(), "overloaded: 1 calls are in flight, the limit; try again later");
    assert_eq!(reply(begun).await.status.unwrap().code(), Code::Ok);
    assert_eq!(raw.call(CLASSIFY, &[], frame(&request("Un mot."))).await.status.unwrap().code(), Code::Ok);

    let mut client = server.classifier().await;
    let (items, queued) = tokio::sync::mpsc::channel::<pb::StreamClassifyRequest>(1);
    let open = client.stream_classify(tokio_stream::wrappers::ReceiverStream::new(queued)).await.unwrap();
    let status = client.stream_classify(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::ResourceExhausted, "OVERLOADED".into()));
    // Gone is gone: the place is free for another.
    drop((items, open));
    while client.stream_classify(tokio_stream::empty()).await.is_err() {}
}
