//! What the server tells of itself: metrics by OpenTelemetry's conventions.
//!
//! Names and attributes of calls are those of OpenTelemetry's semantic conventions for RPC (release candidate); the others begin with
//! `depeche`. Every attribute is bounded: methods and reasons are lists in the code, labels those of the models that are served. No text of an
//! article is ever in them.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider, NoopMeterProvider};
use tonic::Code;

use super::admission::Admission;
use super::pb;
use super::served::{Models, Served};

/// Bounds of durations in seconds: a call takes from 0.1 ms to, for a batch, some seconds.
const SECONDS: [f64; 14] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 25.0];

/// Bounds of probabilities of the label that was given, which is never below one in the number of labels.
const PROBABILITIES: [f64; 9] = [0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];

/// The instruments.
#[derive(Debug)]
pub struct Metrics {
    meter: Meter,
    calls: Histogram<f64>,
    refusals: Counter<u64>,
    probabilities: Histogram<f64>,
    passages: Counter<u64>,
    reasons: Counter<u64>,
    reloads: Counter<u64>,
    compared: Counter<u64>,
    connections: Counter<u64>,
}

impl Metrics {
    /// Instruments of `meter`.
    #[must_use]
    pub fn new(meter: Meter) -> Self {
        let counter =
            |name: &'static str, description: &'static str| meter.u64_counter(name).with_description(description).build();
        Self {
            calls: meter
                .f64_histogram("rpc.server.call.duration")
                .with_unit("s")
                .with_description("How long calls took, from their headers to the last byte of their answer.")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            probabilities: meter
                .f64_histogram("depeche.label.probability")
                .with_description("Probability of the label that was given; the count is that of the articles with the label.")
                .with_boundaries(PROBABILITIES.to_vec())
                .build(),
            refusals: counter("depeche.refusals", "Calls, and articles of streams, that ended in an error, by its reason."),
            passages: counter("depeche.passages", "Passages of pages, by whether they are article or noise."),
            reasons: counter("depeche.doubts", "Articles whose answer carries a reason for doubt, by the reason."),
            reloads: counter("depeche.reloads", "Attempts to take over a model file, by what came of it."),
            compared: counter("depeche.shadow.articles", "Articles that the shadow model has labelled, by both labels."),
            connections: counter("depeche.connections", "Connections that ended, by how."),
            meter,
        }
    }

    /// Instruments that record nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::new(NoopMeterProvider::new().meter("depeche"))
    }

    /// Lets what is read when it is asked for be read from `admission` and `served`.
    pub fn observe(&self, admission: Admission, served: Arc<Served>) {
        let gauge = |name: &'static str, description: &'static str, read: fn(&Admission) -> usize| {
            let admission = admission.clone();
            self.meter
                .u64_observable_gauge(name)
                .with_description(description)
                .with_callback(move |observer| observer.observe(read(&admission) as u64, &[]))
                .build()
        };
        gauge("depeche.calls.in_flight", "Calls of Classify and BatchClassify in flight.", Admission::calls_in_flight);
        gauge("depeche.streams.open", "Calls of StreamClassify that are open.", Admission::open_streams);
        gauge("depeche.calls.waiting", "Calls that wait for a worker.", Admission::waiting);
        self.meter
            .u64_observable_gauge("depeche.model.info")
            .with_description("The model that answers, and the shadow where there is one.")
            .with_callback(move |observer| {
                let tell = |role: &'static str, model: &crate::model::Model| {
                    let name = KeyValue::new("name", model.name.clone());
                    observer.observe(1, &[KeyValue::new("role", role), name, KeyValue::new("version", model.version.clone())]);
                };
                if let Some(Models { classifier, shadow }) = served.loaded().as_deref() {
                    tell("answering", classifier.model());
                    if let Some(shadow) = shadow {
                        tell("shadow", shadow.classifier().model());
                    }
                }
            })
            .build();
    }

    /// A call has ended.
    pub fn call(&self, method: &'static str, code: Code, duration: Duration) {
        let name = code_name(code);
        let attributes = [
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", method),
            KeyValue::new("rpc.response.status_code", name),
            KeyValue::new("error.type", name),
        ];
        // An error type is told on failure alone.
        let told = if code == Code::Ok { &attributes[..3] } else { &attributes[..] };
        self.calls.record(duration.as_secs_f64(), told);
    }

    /// A call, or an article of a stream, was answered by an error with this reason.
    pub fn refused(&self, reason: &'static str) {
        self.refusals.add(1, &[KeyValue::new("reason", reason)]);
    }

    /// An article was answered.
    pub fn answered(&self, response: &pb::ClassifyResponse) {
        for (head, prediction) in [("topic", &response.topic), ("stance", &response.stance)] {
            if let Some(prediction) = prediction {
                let attributes = [KeyValue::new("head", head), KeyValue::new("label", prediction.label.clone())];
                self.probabilities.record(prediction.probability(), &attributes);
            }
        }
        let noise = response.passages.iter().filter(|passage| passage.role() == pb::Role::TickerNoise).count();
        self.passages.add((response.passages.len() - noise) as u64, &[KeyValue::new("role", "body")]);
        if noise > 0 {
            self.passages.add(noise as u64, &[KeyValue::new("role", "ticker_noise")]);
        }
        for reason in response.reasons() {
            self.reasons.add(1, &[KeyValue::new("reason", reason.as_str_name())]);
        }
    }

    /// A reload was tried.
    pub fn reloaded(&self, trigger: &'static str, done: bool) {
        let outcome = if done { "done" } else { "refused" };
        self.reloads.add(1, &[KeyValue::new("trigger", trigger), KeyValue::new("outcome", outcome)]);
    }

    /// The shadow has labelled an article.
    pub fn compared(&self, head: &'static str, label: &str, shadow_label: &str) {
        let attributes = [
            KeyValue::new("head", head),
            KeyValue::new("label", label.to_owned()),
            KeyValue::new("shadow_label", shadow_label.to_owned()),
        ];
        self.compared.add(1, &attributes);
    }

    /// A connection has ended.
    pub fn connection(&self, outcome: &'static str) {
        self.connections.add(1, &[KeyValue::new("outcome", outcome)]);
    }
}

/// The name of a status code, as the conventions have it.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
