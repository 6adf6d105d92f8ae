//! What the server tells of itself.

use std::sync::{Arc, Mutex};

use depeche::service::pb;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{MetricsService, MetricsServiceServer};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::raw::{Raw, frame};
use crate::running::{Running, get, request};

const CLASSIFY: &str = "depeche.v1.ClassifierService/Classify";
/// A word that no label or field has.
const SECRET: &str = "zanzibarquois";

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_those_of_the_conventions_and_hold_no_text() {
    let server = Running::start(&["--admin-listen", "127.0.0.1:0"]);
    let mut client = server.classifier().await;
    let text = format!("Le prix du mil recule sur les marchés {SECRET} de Zinder, disent les commerçants.");
    client.classify(request(&text)).await.unwrap();
    client.classify(request(" ")).await.unwrap_err();
    let mut raw = Raw::connect(&server.address()).await;
    raw.call(&format!("{SECRET}.Service/{SECRET}"), &[], frame(&request("a"))).await;
    let metrics = server.metrics().await;
    for expected in [
        "# TYPE rpc_server_call_duration_seconds histogram",
        "rpc_server_call_duration_seconds_count{rpc_method=\"depeche.v1.ClassifierService/Classify\",rpc_response_status_code=\"OK\",rpc_system_name=\"grpc\"} 1",
        "rpc_server_call_duration_seconds_count{error_type=\"INVALID_ARGUMENT\",rpc_method=\"depeche.v1.ClassifierService/Classify\",rpc_response_status_code=\"INVALID_ARGUMENT\",rpc_system_name=\"grpc\"} 1",
        "rpc_server_call_duration_seconds_count{error_type=\"UNIMPLEMENTED\",rpc_method=\"_OTHER\",rpc_response_status_code=\"UNIMPLEMENTED\",rpc_system_name=\"grpc\"} 1",
        "depeche_refusals_total{reason=\"INVALID_ARGUMENT\"} 1",
        "depeche_refusals_total{reason=\"METHOD_UNKNOWN\"} 1",
        "depeche_label_probability_count{head=\"topic\",label=\"ticker_noise\"} 1",
        "depeche_passages_total{role=\"body\"} 1",
        "depeche_calls_in_flight 0",
        "depeche_model_info{name=\"depeche-fr\",role=\"answering\",version=\"",
    ] {
        assert!(metrics.contains(expected), "{expected} is not in\n{metrics}");
    }
    assert!(!metrics.contains(SECRET) && !metrics.contains("Zinder"), "{metrics}");
    let address = server.address_of("admin listener");
    assert_eq!(get(&address, "/").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_objects_where_asked_for_and_hold_no_text() {
    let args = ["--log-format", "json", "--drain-delay", "0s"];
    let mut server = Running::start_with(&args, &[("RUST_LOG", "debug")]);
    let ready: serde_json::Value = serde_json::from_str(server.started.last().unwrap()).unwrap();
    assert_eq!((&ready["message"], &ready["level"]), (&"ready".into(), &"INFO".into()));
    let mut client = crate::running::connect(ready["address"].as_str().unwrap()).await;
    let mut client = pb::classifier_service_client::ClassifierServiceClient::new(&mut client);
    client.classify(request(&format!("Le mil {SECRET} recule."))).await.unwrap();
    let options = pb::ClassifyOptions { priors: [(SECRET.to_owned(), 1.0)].into_iter().collect(), ..Default::default() };
    client.classify(pb::ClassifyRequest { options: Some(options), ..request("Un mot.") }).await.unwrap_err();
    server.signal("TERM");
    let (_, lines) = server.wait();
    let calls: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .filter(|line: &serde_json::Value| line["message"] == "call")
        .collect();
    assert_eq!(calls.len(), 2);
    assert_eq!((&calls[0]["method"], &calls[0]["code"]), (&CLASSIFY.into(), &"OK".into()));
    assert_eq!((&calls[1]["code"], &calls[1]["reason"]), (&"INVALID_ARGUMENT".into(), &"INVALID_ARGUMENT".into()));
    assert!(calls.iter().all(|call| call["elapsed_us"].is_u64()));
    assert!(!lines.iter().any(|line| line.contains(SECRET)), "{lines:?}");
}

/// A collector that keeps what it gets.
#[derive(Debug, Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    metrics: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let scopes = request.into_inner().resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        let names = scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name);
        self.metrics.lock().unwrap().extend(names);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_a_span_in_the_trace_of_its_caller() {
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let services = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(collector.clone()));
    tokio::spawn(services.serve_with_incoming(TcpListenerStream::new(listener)));

    let mut server = Running::start(&["--otlp-endpoint", &endpoint, "--drain-delay", "0s"]);
    let mut raw = Raw::connect(&server.address()).await;
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let traceparent = format!("00-{trace}-{parent}-01");
    let text = format!("Le mil {SECRET} recule.");
    raw.call(CLASSIFY, &[("traceparent", &traceparent)], frame(&request(&text))).await;
    drop(raw);
    server.signal("TERM");
    // What was recorded is sent before the end.
    assert_eq!(server.wait().0.code(), Some(0));

    let spans = collector.spans.lock().unwrap();
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!((hex(&span.trace_id).as_str(), hex(&span.parent_span_id).as_str()), (trace, parent));
    assert_eq!(span.name, CLASSIFY);
    let status = span.attributes.iter().find(|attribute| attribute.key == "rpc.response.status_code").unwrap();
    assert!(format!("{status:?}").contains("\"OK\""), "{status:?}");
    assert!(!format!("{span:?}").contains(SECRET));
    assert!(collector.metrics.lock().unwrap().iter().any(|name| name == "rpc.server.call.duration"));
}
