//! How much work is taken on at once.
//!
//! Calls are counted from their first byte to the last of their answer; open streams by themselves, since they may last for days. What
//! works on a large text or a batch needs a worker besides, and waits for one in a queue of bounded length. Beyond any of
//! these bounds a call is refused at once, so that those that were admitted keep their pace; a client that gives up, or whose
//! deadline passes, gives back its place wherever it stands.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tonic::{Code, Status};

use super::errors::{reason, retry_later, status};
use super::limits::Limits;

/// When a call that was refused may be tried again. A call takes a millisecond or less, a full queue of batches some seconds.
const RETRY: Duration = Duration::from_millis(100);

/// A place among those that are admitted, given back when dropped.
pub type Place = OwnedSemaphorePermit;

/// Places for calls, streams and work.
#[derive(Debug, Clone)]
pub struct Admission {
    calls: Bound,
    streams: Bound,
    workers: Arc<Semaphore>,
    queue: Bound,
}

/// Places for calls that cost next to nothing: health, reflection, what the model is. They hold no more than a small message each, but some stay
/// open for as long as a client lives.
#[derive(Debug, Clone)]
pub struct LightCalls(Bound);

impl LightCalls {
    /// So many places.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Bound::new(limit, "calls of health, reflection and the like are open"))
    }

    /// A place.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED with RetryInfo, where all are taken.
    pub fn take(&self) -> Result<Place, Status> {
        self.0.take()
    }
}

/// A number of places, and what they are called in errors.
#[derive(Debug, Clone)]
struct Bound {
    places: Arc<Semaphore>,
    limit: usize,
    what: &'static str,
}

impl Bound {
    fn new(limit: usize, what: &'static str) -> Self {
        Self { places: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))), limit, what }
    }

    fn take(&self) -> Result<Place, Status> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let message = format!("overloaded: {} {}, the limit; try again later", self.limit, self.what);
            retry_later((Code::ResourceExhausted, reason::OVERLOADED), message, [("limit", self.limit.to_string())], RETRY)
        })
    }
}

impl Admission {
    /// Places as `limits` has them.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            calls: Bound::new(limits.calls, "calls are in flight"),
            streams: Bound::new(limits.streams, "streams are open"),
            workers: Arc::new(Semaphore::new(limits.worker_count().min(Semaphore::MAX_PERMITS))),
            queue: Bound::new(limits.queue, "calls wait for a worker"),
        }
    }

    /// A place for a call.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED with RetryInfo, where all are taken.
    pub fn call(&self) -> Result<Place, Status> {
        self.calls.take()
    }

    /// A place for a stream.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED with RetryInfo, where all are taken.
    pub fn stream(&self) -> Result<Place, Status> {
        self.streams.take()
    }

    /// A worker, for which a call waits in the queue.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED with RetryInfo, where the queue is full.
    pub async fn worker(&self) -> Result<Place, Status> {
        match Arc::clone(&self.workers).try_acquire_owned() {
            Ok(place) => Ok(place),
            Err(TryAcquireError::Closed) => Err(closed()),
            Err(TryAcquireError::NoPermits) => {
                let _waiting = self.queue.take()?;
                self.worker_for_stream().await
            }
        }
    }

    /// A worker for an article of a stream. A stream waits for one article at a time, and its client is not read from meanwhile, so that
    /// streams need no queue but their number.
    ///
    /// # Errors
    ///
    /// None in practice: INTERNAL, if the workers were closed.
    pub async fn worker_for_stream(&self) -> Result<Place, Status> {
        Arc::clone(&self.workers).acquire_owned().await.map_err(|_| closed())
    }

    /// Calls in flight.
    #[must_use]
    pub fn calls_in_flight(&self) -> usize {
        self.calls.limit.saturating_sub(self.calls.places.available_permits())
    }

    /// Open streams.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.limit.saturating_sub(self.streams.places.available_permits())
    }

    /// Calls that wait for a worker.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.limit.saturating_sub(self.queue.places.available_permits())
    }
}

fn closed() -> Status {
    status(Code::Internal, reason::INTERNAL, "no work is taken any more", [])
}
