//! All services on one listener, from the first call to a clean stop.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::transport::Server;

use super::classifier::ClassifierHandlers;
use super::health::HealthHandlers;
use super::health_pb::health_server::HealthServer;
use super::limits::Limits;
use super::models::ModelHandlers;
use super::pb;
use super::pb::classifier_service_server::ClassifierServiceServer;
use super::pb::model_service_server::ModelServiceServer;
use crate::model::Classifier;

/// How long calls in flight may take after the signal to stop; then the server ends without them.
pub const GRACE: Duration = Duration::from_secs(10);

/// Why the server can't run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors for reflection are broken.
    #[error("server reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The listener failed.
    #[error("serving")]
    Transport(#[from] tonic::transport::Error),
}

/// All services. Health tells SERVING while `serving` is true.
///
/// # Errors
///
/// [`ServeError::Reflection`], if the binary was built with broken descriptors.
pub fn routes(classifier: Arc<Classifier>, limits: Limits, serving: watch::Receiver<bool>) -> Result<Routes, ServeError> {
    let classifier_service = ClassifierServiceServer::new(ClassifierHandlers::new(Arc::clone(&classifier), limits))
        .max_decoding_message_size(limits.request_bytes)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Zstd);
    let reflection =
        || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET);
    Ok(Routes::new(classifier_service)
        .add_service(ModelServiceServer::new(ModelHandlers::new(classifier, limits)))
        .add_service(HealthServer::new(HealthHandlers::new(serving)))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?))
}

/// Serves on `listener` until `stop` is done; then tells NOT_SERVING, takes no more calls, and waits for those in
/// flight, for [`GRACE`] at most.
///
/// # Errors
///
/// [`ServeError`], when the listener fails.
pub async fn serve(
    listener: TcpListener,
    classifier: Arc<Classifier>,
    limits: Limits,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let (state, mut stopping) = watch::channel(true);
    let routes = routes(classifier, limits, stopping.clone())?;
    let stop = async move {
        stop.await;
        // Fails only where nobody is left to be told.
        let _ = state.send(false);
    };
    let serving = Server::builder().add_routes(routes).serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop);
    // A stream that a client leaves open would hold the server for ever.
    let overdue = async move {
        let _ = stopping.wait_for(|serving| !serving).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = serving => Ok(ended?),
        () = overdue => {
            tracing::warn!(grace_seconds = GRACE.as_secs(), "stopped with calls in flight");
            Ok(())
        }
    }
}
