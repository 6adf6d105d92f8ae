//! Errors that a framework would answer in its own way.

use std::io::Write;

use bytes::Bytes;
use depeche::service::pb;
use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::raw::{Raw, frame, framed};
use crate::running::{Running, refusal, request};

const CLASSIFY: &str = "depeche.v1.ClassifierService/Classify";

/// Code, reason and message of an error.
fn error(status: &Option<Status>) -> (Code, String, String) {
    let status = status.as_ref().unwrap();
    let (code, reason) = refusal(status);
    (code, reason, status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_at_the_limit_passes_and_a_byte_more_does_not() {
    let limit = 4096;
    let server = Running::start(&["--max-request-bytes", "4096", "--max-text-bytes", "3000", "--max-title-bytes", "1000"]);
    let mut raw = Raw::connect(&server.address()).await;
    // An article id fills the message up to the byte.
    let sized = |size: usize| {
        let mut message = request("Le sommet s'ouvre à Alger.");
        let article = message.article.as_mut().unwrap();
        article.title = "t".repeat(900);
        article.text = "a ".repeat(1400);
        while message.encoded_len() < size {
            message.article.as_mut().unwrap().article_id.push('x');
        }
        assert_eq!(message.encoded_len(), size);
        message
    };
    let reply = raw.call(CLASSIFY, &[], frame(&sized(limit))).await;
    assert_eq!(reply.status.unwrap().code(), Code::Ok);
    let reply = raw.call(CLASSIFY, &[], frame(&sized(limit + 1))).await;
    let (code, reason, message) = error(&reply.status);
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "REQUEST_TOO_LARGE"));
    assert_eq!(message, "the request has 4097 bytes as a message; the limit is 4096");
    assert!(reply.status.unwrap().get_details_retry_info().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_article_of_a_stream_over_the_limit_ends_it_with_the_same_error() {
    let server = Running::start(&["--max-request-bytes", "4096", "--max-text-bytes", "3000", "--max-title-bytes", "1000"]);
    let article = |text: &str| pb::StreamClassifyRequest { article: request(text).article, options: None };
    let items = [article("Le sommet s'ouvre à Alger."), article(&"a ".repeat(4000))];
    let mut answers = server.classifier().await.stream_classify(tokio_stream::iter(items)).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    let (code, reason, message) = error(&answers.message().await.err());
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "REQUEST_TOO_LARGE"));
    assert!(message.ends_with("bytes as a message; the limit is 4096"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_holds_after_decompression() {
    let server = Running::start(&["--max-request-bytes", "1048576", "--max-text-bytes", "1000000", "--max-title-bytes", "1000"]);
    let mut raw = Raw::connect(&server.address()).await;
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let headers = [("grpc-encoding", "gzip")];
    let small = gzip(&request("Le sommet s'ouvre à Alger.").encode_to_vec());
    assert_eq!(raw.call(CLASSIFY, &headers, framed(1, &small)).await.status.unwrap().code(), Code::Ok);
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 100_000);
    let reply = raw.call(CLASSIFY, &headers, framed(1, &bomb)).await;
    let (code, reason, message) = error(&reply.status);
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "REQUEST_TOO_LARGE"));
    assert_eq!(message, "the request has more than 1048576 bytes as a message; the limit is 1048576");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_unimplemented_and_says_so() {
    let server = Running::start(&[]);
    let mut raw = Raw::connect(&server.address()).await;
    for path in ["depeche.v1.ClassifierService/Nothing", "other.Service/Method"] {
        let reply = raw.call(path, &[], frame(&request("a"))).await;
        let (code, reason, message) = error(&reply.status);
        assert_eq!((code, reason.as_str()), (Code::Unimplemented, "METHOD_UNKNOWN"));
        assert_eq!(message, format!("there is no method \"/{path}\""));
    }
    let reply = raw.call(CLASSIFY, &[("grpc-encoding", "snappy")], frame(&request("a"))).await;
    assert_eq!(error(&reply.status).0, Code::Unimplemented);
    assert_eq!(error(&reply.status).1, "ENCODING_UNSUPPORTED");
    let known: Vec<&str> = reply.headers["grpc-accept-encoding"].to_str().unwrap().split(',').map(str::trim).collect();
    assert!(known.contains(&"gzip") && known.contains(&"zstd"), "{known:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused() {
    let server = Running::start(&[]);
    let mut raw = Raw::connect(&server.address()).await;
    // A field of an unknown wire type; a frame without its end; a compressed message of no encoding; an unknown flag.
    for body in [framed(0, &[0x0f]), Bytes::from_static(&[0, 0, 0, 0, 9, 1]), framed(1, b"x"), framed(7, b"x")] {
        let reply = raw.call(CLASSIFY, &[], body).await;
        let (code, reason, _) = error(&reply.status);
        assert_eq!((code, reason.as_str()), (Code::Internal, "MALFORMED_REQUEST"));
    }
    // An empty body is an empty stream, which has no message in it.
    let reply = raw.call(CLASSIFY, &[], Bytes::new()).await;
    assert_eq!(error(&reply.status).1, "MALFORMED_REQUEST");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_that_can_not_be_read_is_named() {
    let server = Running::start(&[]);
    let mut raw = Raw::connect(&server.address()).await;
    let reply = raw.call(CLASSIFY, &[("grpc-timeout", "soon")], frame(&request("a"))).await;
    let (code, reason, message) = error(&reply.status);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "MALFORMED_TIMEOUT"));
    assert_eq!(message, "grpc-timeout is \"soon\"; it may be 1 to 8 digits and one of H, M, S, m, u, n");
    let reply = raw.call(CLASSIFY, &[("grpc-timeout", "99999999H")], frame(&request("Un mot."))).await;
    assert_eq!(reply.status.unwrap().code(), Code::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_grpc_is_told_so() {
    let server = Running::start(&[]);
    let mut raw = Raw::connect(&server.address()).await;
    let reply = raw.call(CLASSIFY, &[("content-type", "application/json")], Bytes::from_static(b"{}")).await;
    assert_eq!((reply.http_status, reply.status.is_none()), (415, true));
    let reply = raw.call(CLASSIFY, &[("content-type", "application/grpc+proto")], frame(&request("Un mot."))).await;
    assert_eq!(reply.status.unwrap().code(), Code::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_messages_are_cut_and_arrive() {
    let server = Running::start(&[]);
    let mut client = server.classifier().await;
    // A label of 100 KB in the priors would stand in the message.
    let priors = [("é".repeat(50_000), 1.0)].into_iter().collect();
    let options = pb::ClassifyOptions { priors, ..Default::default() };
    let status = client.classify(pb::ClassifyRequest { options: Some(options), ..request("Un mot.") }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().len() < 2000);
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "options.priors");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_over_the_limit_are_refused() {
    let server = Running::start(&["--max-header-bytes", "2048"]);
    let mut raw = Raw::connect(&server.address()).await;
    let long = "x".repeat(4096);
    let reply = raw.call(CLASSIFY, &[("x-long", &long)], frame(&request("Un mot."))).await;
    // As HTTP/2 has it: the call never reached gRPC.
    assert_eq!((reply.http_status, reply.status.is_none()), (431, true));
    let reply = raw.call(CLASSIFY, &[("x-short", "x")], frame(&request("Un mot."))).await;
    assert_eq!(reply.status.unwrap().code(), Code::Ok);
}
