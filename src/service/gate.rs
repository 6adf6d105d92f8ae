//! What every call passes on its way in and out.
//!
//! On the way in: the content type, the token, the deadline, a place among the calls in flight. On the way out: errors of the framework in our
//! own shape, the deadline once more while an answer is sent, the call's metrics and its line in the log. A call that ends in any way, also by
//! the client going away, gives back its place.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use opentelemetry::global;
use opentelemetry_http::HeaderExtractor;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::Service;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::admission::{Admission, LightCalls, Place};
use super::deadline::{exceeded, timeout};
use super::errors::{completed, reason, reason_of};
use super::health_pb::health_server;
use super::pb::admin_service_server;
use super::telemetry::{Metrics, code_name};
use super::tokens::{Scope, Tokens};

/// The services behind a listener, and what stands before them.
#[derive(Debug, Clone)]
pub struct Gate {
    /// The services.
    pub routes: Routes,
    /// Places for calls.
    pub admission: Admission,
    /// Places for calls that cost next to nothing.
    pub light: LightCalls,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
    /// Who may call; anybody, where there are none.
    pub tokens: Option<Arc<Tokens>>,
    /// Whether calls become spans that continue the caller's trace.
    pub traces: bool,
}

/// A method, by what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Labels an article or a batch.
    Call,
    /// Labels articles as they come.
    Stream,
    /// Costs next to nothing.
    Light,
}

/// All methods, by their names as metrics have them.
const METHODS: [(&str, Kind); 12] = [
    ("depeche.v1.ClassifierService/Classify", Kind::Call),
    ("depeche.v1.ClassifierService/BatchClassify", Kind::Call),
    ("depeche.v1.ClassifierService/StreamClassify", Kind::Stream),
    ("depeche.v1.ModelService/GetModel", Kind::Light),
    ("depeche.v1.ModelService/ListModels", Kind::Light),
    ("depeche.v1.AdminService/ReloadModel", Kind::Light),
    ("depeche.v1.AdminService/GetShadowReport", Kind::Light),
    ("grpc.health.v1.Health/Check", Kind::Light),
    ("grpc.health.v1.Health/List", Kind::Light),
    ("grpc.health.v1.Health/Watch", Kind::Light),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Kind::Light),
    ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Kind::Light),
];

/// The method of a path. What is unknown shares one name, since callers choose it.
fn method(path: &str) -> (&'static str, Kind) {
    let name = path.strip_prefix('/').unwrap_or(path);
    METHODS.into_iter().find(|(known, _)| *known == name).unwrap_or(("_OTHER", Kind::Light))
}

/// The scope that a path needs; health is for everybody, since probes carry no tokens.
fn scope(path: &str) -> Option<Scope> {
    match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
        Some((health_server::SERVICE_NAME, _)) => None,
        Some((admin_service_server::SERVICE_NAME, _)) => Some(Scope::Admin),
        _ => Some(Scope::Classify),
    }
}

impl Gate {
    /// Answers a call.
    pub async fn call<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // As gRPC over HTTP/2 has it, so that browsers and the lost see that this is no web server.
        let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if request.method() != Method::POST || !content_type.starts_with(b"application/grpc") {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        let (method, kind) = method(request.uri().path());
        let span = self.span(method, request.headers());
        let record = Record {
            metrics: Arc::clone(&self.metrics),
            method,
            started: Instant::now(),
            span: span.clone(),
            code: None,
            reason: "",
        };
        self.answer(request, kind, record).instrument(span).await
    }

    async fn answer<B>(&self, request: Request<B>, kind: Kind, mut record: Record) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let uri = request.uri().clone();
        let (timeout, place) = match self.admit(uri.path(), request.headers(), kind) {
            Ok(admitted) => admitted,
            Err(error) => return refused(&error, &mut record),
        };
        // A client that waits for centuries waits without a deadline.
        let deadline = timeout.and_then(|timeout| Some((record.started.checked_add(timeout)?, timeout)));
        let call = self.routes.clone().call(request);
        let answered = match deadline {
            None => call.await,
            Some((at, timeout)) => match tokio::time::timeout_at(at, call).await {
                Ok(answered) => answered,
                Err(_) => return refused(&exceeded(timeout), &mut record),
            },
        };
        let mut response = answered.unwrap_or_else(|never: Infallible| match never {});
        conclude(response.headers_mut(), uri.path(), &mut record);
        let deadline = deadline.map(|(at, timeout)| (Box::pin(sleep_until(at)), timeout));
        response.map(|inner| Body::new(Answer { inner: Some(inner), deadline, record, _place: place }))
    }

    /// What a call needs to go on: its deadline and its place.
    fn admit(&self, path: &str, headers: &HeaderMap, kind: Kind) -> Result<(Option<Duration>, Place), Status> {
        if let (Some(tokens), Some(scope)) = (&self.tokens, scope(path)) {
            tokens.check(headers, scope)?;
        }
        let timeout = timeout(headers)?;
        let place = match kind {
            Kind::Call => self.admission.call()?,
            Kind::Stream => self.admission.stream()?,
            Kind::Light => self.light.take()?,
        };
        Ok((timeout, place))
    }

    fn span(&self, method: &'static str, headers: &HeaderMap) -> Span {
        if !self.traces {
            return Span::none();
        }
        let span = tracing::info_span!(
            "call",
            otel.name = method,
            otel.kind = "server",
            otel.status_code = tracing::field::Empty,
            rpc.system.name = "grpc",
            rpc.method = method,
            rpc.response.status_code = tracing::field::Empty,
            error.type = tracing::field::Empty,
        );
        // Fails where nobody records the span; then there is nothing to continue.
        let _ = span.set_parent(global::get_text_map_propagator(|propagator| propagator.extract(&HeaderExtractor(headers))));
        span
    }
}

/// The answer to a call that did not reach a service.
fn refused(error: &Status, record: &mut Record) -> Response<Body> {
    record.refused(error);
    error.clone().into_http()
}

/// Looks for the error in headers or trailers, records it and puts it there in our own shape: whether there was one.
fn conclude(headers: &mut HeaderMap, path: &str, record: &mut Record) -> bool {
    let Some(found) = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok) else { return false };
    let error = completed(found, path);
    record.refused(&error);
    rewrite(headers, &error);
    true
}

/// Puts an error in the place of the one in headers or trailers. Other headers stay: `grpc-accept-encoding` tells what would have been known.
fn rewrite(headers: &mut HeaderMap, error: &Status) {
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        headers.remove(name);
    }
    // Fails for what is no header; ours are encoded.
    let _ = error.add_header(headers);
}

/// What is recorded of a call, when it ends in whatever way.
#[derive(Debug)]
struct Record {
    metrics: Arc<Metrics>,
    method: &'static str,
    started: Instant,
    span: Span,
    /// How it ended; none while it goes on, and where the client went away.
    code: Option<Code>,
    reason: &'static str,
}

impl Record {
    fn refused(&mut self, error: &Status) {
        self.code = Some(error.code());
        self.reason = reason_of(error);
        self.metrics.refused(self.reason);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        let duration = self.started.elapsed();
        self.metrics.call(self.method, code, duration);
        let name = code_name(code);
        self.span.record("rpc.response.status_code", name);
        let server_failed = matches!(code, Code::Internal | Code::Unknown | Code::DataLoss) && self.reason == reason::INTERNAL;
        if code != Code::Ok {
            self.span.record("error.type", name);
        }
        if server_failed {
            self.span.record("otel.status_code", "ERROR");
        }
        let _entered = self.span.enter();
        let elapsed_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let (method, reason) = (self.method, self.reason);
        if server_failed {
            tracing::error!(method, code = name, reason, elapsed_us, "call failed");
        } else {
            tracing::debug!(method, code = name, reason, elapsed_us, "call");
        }
    }
}

/// The body of an answer, with what must be held until its end.
struct Answer {
    /// The service's own body; gone once the deadline has passed.
    inner: Option<Body>,
    deadline: Option<(Pin<Box<Sleep>>, Duration)>,
    record: Record,
    _place: Place,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        match Pin::new(inner).poll_frame(context) {
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(trailers) = frame.trailers_mut()
                    && !conclude(trailers, this.record.method, &mut this.record)
                {
                    this.record.code = Some(Code::Ok);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => {
                let Some((sleep, timeout)) = &mut this.deadline else { return Poll::Pending };
                std::task::ready!(sleep.as_mut().poll(context));
                let error = exceeded(*timeout);
                this.record.refused(&error);
                // What the answer was made from ends here, and with it the work.
                this.inner = None;
                let mut trailers = HeaderMap::new();
                rewrite(&mut trailers, &error);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
