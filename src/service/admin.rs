//! `depeche.v1.AdminService`, and the listener for those who operate the server: metrics, health, reload.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus::{Encoder, Registry, TextEncoder};
use tonic::body::Body;
use tonic::{Code, Status};

use super::errors::{reason, status};
use super::gate::Gate;
use super::pb;
use super::reload::{Reloader, Trigger};
use super::served::Served;

/// The handlers.
#[derive(Debug, Clone)]
pub struct AdminHandlers {
    served: Arc<Served>,
    reloader: Arc<Reloader>,
}

impl AdminHandlers {
    /// Handlers that reload by `reloader` what is `served`.
    #[must_use]
    pub fn new(served: Arc<Served>, reloader: Arc<Reloader>) -> Self {
        Self { served, reloader }
    }
}

#[tonic::async_trait]
impl pb::admin_service_server::AdminService for AdminHandlers {
    async fn reload_model(
        &self,
        request: tonic::Request<pb::ReloadModelRequest>,
    ) -> Result<tonic::Response<pb::ReloadModelResponse>, Status> {
        let pb::ReloadModelRequest { allow_other_labels, validate_only } = request.into_inner();
        let reloaded = self.reloader.reload(Trigger::Call, allow_other_labels, validate_only).await;
        let reloaded = reloaded.map_err(|error| Status::from(&error))?;
        let changed = reloaded.model != reloaded.previous;
        Ok(tonic::Response::new(pb::ReloadModelResponse { model: reloaded.model, previous_model: reloaded.previous, changed }))
    }

    async fn get_shadow_report(
        &self,
        _: tonic::Request<pb::GetShadowReportRequest>,
    ) -> Result<tonic::Response<pb::GetShadowReportResponse>, Status> {
        let models = self.served.loaded();
        let shadow = models.as_ref().and_then(|models| models.shadow.as_ref());
        let shadow = shadow.ok_or_else(|| status(Code::NotFound, reason::NO_SHADOW, "no shadow model is served", []))?;
        Ok(tonic::Response::new(shadow.report()))
    }
}

/// What answers on the admin listener: gRPC, and metrics for Prometheus.
#[derive(Debug, Clone)]
pub struct AdminGate {
    /// The services.
    pub gate: Gate,
    /// The metrics.
    pub registry: Registry,
}

impl AdminGate {
    /// Answers a call or a request for `/metrics`.
    pub async fn call(&self, request: Request<Incoming>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return self.gate.call(request).await;
        }
        if request.uri().path() == "/metrics" {
            return self.metrics();
        }
        text(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", Bytes::from_static(b"metrics are at /metrics\n"))
    }

    fn metrics(&self) -> Response<Body> {
        let encoder = TextEncoder::new();
        let mut encoded = Vec::new();
        match encoder.encode(&self.registry.gather(), &mut encoded) {
            Ok(()) => text(StatusCode::OK, encoder.format_type(), encoded.into()),
            Err(error) => {
                tracing::error!(%error, "encoding metrics");
                text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", Bytes::from_static(b"see the log\n"))
            }
        }
    }
}

fn text(status: StatusCode, content_type: &str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(body)));
    *response.status_mut() = status;
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}
