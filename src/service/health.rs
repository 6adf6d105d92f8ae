//! `grpc.health.v1.Health`.
//!
//! All services share one state: they serve from the moment that the model is loaded until the server is told to stop.
//! A `Watch` is told of each change; at the stop it gets NOT_SERVING and ends, so that it does not hold the server. Of an unknown name it
//! says SERVICE_UNKNOWN and stays open, as the protocol has it.

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::errors::{reason, shown, status};
use super::health_pb::health_check_response::ServingStatus;
use super::health_pb::health_server::Health;
use super::health_pb::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use super::pb::{classifier_service_server, model_service_server};

/// Names that health is told of; the empty one is the whole server.
pub const SERVICES: [&str; 3] = ["", classifier_service_server::SERVICE_NAME, model_service_server::SERVICE_NAME];

/// What the server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It loads the model.
    Starting,
    /// It takes calls.
    Serving,
    /// It was told to stop, and will not serve again.
    Draining,
}

/// The handlers.
#[derive(Debug, Clone)]
pub struct HealthHandlers {
    state: watch::Receiver<State>,
}

impl HealthHandlers {
    /// Handlers that tell SERVING while `state` is so.
    #[must_use]
    pub fn new(state: watch::Receiver<State>) -> Self {
        Self { state }
    }

    fn response(&self) -> HealthCheckResponse {
        response(match *self.state.borrow() {
            State::Serving => ServingStatus::Serving,
            State::Starting | State::Draining => ServingStatus::NotServing,
        })
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthHandlers {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let name = request.into_inner().service;
        if SERVICES.contains(&name.as_str()) {
            return Ok(Response::new(self.response()));
        }
        let name = shown(&name);
        Err(status(Code::NotFound, reason::SERVICE_UNKNOWN, format!("there is no service {name:?}"), [("service", name)]))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let statuses = SERVICES.iter().map(|name| ((*name).to_owned(), self.response())).collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let known = SERVICES.contains(&request.into_inner().service.as_str());
        let mut handlers = self.clone();
        let (told, answers) = mpsc::channel(1);
        // Nothing was told yet.
        let mut last = response(ServingStatus::Unknown);
        tokio::spawn(async move {
            loop {
                let is_last = *handlers.state.borrow_and_update() == State::Draining;
                let answer = if known { handlers.response() } else { response(ServingStatus::ServiceUnknown) };
                if answer != last && told.send(Ok(answer)).await.is_err() || is_last {
                    return;
                }
                last = answer;
                tokio::select! {
                    changed = handlers.state.changed() => if changed.is_err() { return },
                    () = told.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}
