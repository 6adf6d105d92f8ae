//! `grpc.health.v1.Health`.
//!
//! All services share one state: they serve from the moment that the model is loaded until the server is told to stop.
//! A `Watch` gets NOT_SERVING at that moment and then ends, so that it does not hold the server; of an unknown name it
//! says SERVICE_UNKNOWN and stays open, as the protocol has it.

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::errors::status;
use super::health_pb::health_check_response::ServingStatus;
use super::health_pb::health_server::Health;
use super::health_pb::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};

/// Names that health is told of; the empty one is the whole server.
pub const SERVICES: [&str; 3] = ["", "depeche.v1.ClassifierService", "depeche.v1.ModelService"];

/// The handlers.
#[derive(Debug, Clone)]
pub struct HealthHandlers {
    serving: watch::Receiver<bool>,
}

impl HealthHandlers {
    /// Handlers that tell SERVING while `serving` is true. Once it is false they expect no more changes.
    #[must_use]
    pub fn new(serving: watch::Receiver<bool>) -> Self {
        Self { serving }
    }

    fn response(&self) -> HealthCheckResponse {
        response(if *self.serving.borrow() { ServingStatus::Serving } else { ServingStatus::NotServing })
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
        let shown: String = name.chars().take(200).collect();
        Err(status(Code::NotFound, "SERVICE_UNKNOWN", format!("there is no service {shown:?}"), [("service", shown)]))
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
        tokio::spawn(async move {
            loop {
                let serving = *handlers.serving.borrow_and_update();
                let state = if known { handlers.response() } else { response(ServingStatus::ServiceUnknown) };
                if told.send(Ok(state)).await.is_err() || !serving {
                    return;
                }
                tokio::select! {
                    changed = handlers.serving.changed() => if changed.is_err() { return },
                    () = told.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}
