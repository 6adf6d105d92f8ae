//! `depeche.v1.ClassifierService`.
//!
//! The built-in model reads about 20 MB/s on one core (`cargo bench --bench overhead`), so an article of 8 KiB takes less than half a
//! millisecond and is classified where the call arrives. Anything larger, and every batch, moves to a thread that may block, so that
//! other calls are not kept waiting.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prost::Message;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};

use super::admission::{Admission, Place};
use super::convert::{Asked, check_article, check_options, classify};
use super::errors::{Violation, invalid_argument, reason, reason_of, rpc_status, status};
use super::limits::Limits;
use super::pb;
use super::served::{Models, Served};
use super::shadow::Answered;
use super::telemetry::Metrics;

/// Bytes of text up to which an article is classified in place.
const INLINE: usize = 8 << 10;

/// The handlers.
#[derive(Debug, Clone)]
pub struct ClassifierHandlers {
    served: Arc<Served>,
    metrics: Arc<Metrics>,
    admission: Admission,
    limits: Limits,
}

/// A call's own view: the models that it began with, and the limits.
#[derive(Debug, Clone)]
struct Work {
    models: Arc<Models>,
    limits: Limits,
}

/// Tells work on another thread that nobody waits for it any more: the caller has gone, or the deadline has passed.
#[derive(Debug, Default, Clone)]
struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Says so when the call ends.
struct AbandonOnDrop(Abandoned);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// How work waits for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// In the queue, which is bounded.
    InQueue,
    /// In the stream, which holds back its client.
    InStream,
}

impl Work {
    fn article(
        &self,
        article: Option<&pb::Article>,
        options: Option<&pb::ClassifyOptions>,
    ) -> Result<pb::ClassifyResponse, Status> {
        let mut violations = Vec::new();
        let asked = check_options(options, &self.models.classifier, &self.limits, &mut violations);
        match article {
            Some(article) => check_article(article, "article", &self.limits, &mut violations),
            None => violations.push(Violation::new("article", "missing")),
        }
        let article = article.filter(|_| violations.is_empty()).ok_or_else(|| invalid_argument(&violations))?;
        let response =
            classify(&self.models.classifier, article, &asked, "article").map_err(|violation| invalid_argument(&[violation]))?;
        self.fits(response.encoded_len(), "ask for fewer contributions")?;
        Ok(response)
    }

    fn batch(&self, request: &pb::BatchClassifyRequest, abandoned: &Abandoned) -> Result<pb::BatchClassifyResponse, Status> {
        let asked = self.check_batch(request)?;
        let mut violations = Vec::new();
        let mut responses = Vec::with_capacity(request.articles.len());
        let mut size = 0;
        for (at, article) in request.articles.iter().enumerate() {
            if abandoned.is_so() {
                return Err(status(Code::Cancelled, reason::CANCELLED, "nobody waits for the batch any more", []));
            }
            match classify(&self.models.classifier, article, &asked, &format!("articles[{at}]")) {
                Ok(response) => {
                    size += response.encoded_len();
                    self.fits(size, "send fewer articles, or use StreamClassify")?;
                    responses.push(response);
                }
                Err(violation) => violations.push(violation),
            }
        }
        if !violations.is_empty() {
            return Err(invalid_argument(&violations));
        }
        let response = pb::BatchClassifyResponse { responses };
        self.fits(response.encoded_len(), "send fewer articles, or use StreamClassify")?;
        Ok(response)
    }

    /// Checks a batch before any work is put into it.
    fn check_batch(&self, request: &pb::BatchClassifyRequest) -> Result<Asked, Status> {
        let pb::BatchClassifyRequest { articles, options } = request;
        let mut violations = Vec::new();
        let asked = check_options(options.as_ref(), &self.models.classifier, &self.limits, &mut violations);
        if articles.is_empty() || articles.len() > self.limits.batch_articles {
            let description = format!("{} articles; there may be 1 to {}", articles.len(), self.limits.batch_articles);
            return Err(invalid_argument(&[Violation::new("articles", description)]));
        }
        for (at, article) in articles.iter().enumerate() {
            check_article(article, &format!("articles[{at}]"), &self.limits, &mut violations);
        }
        if violations.is_empty() { Ok(asked) } else { Err(invalid_argument(&violations)) }
    }

    /// Refuses a response of `size` bytes, or one that has so many already, where that is over the limit.
    fn fits(&self, size: usize, advice: &str) -> Result<(), Status> {
        let limit = self.limits.response_bytes;
        if size <= limit {
            return Ok(());
        }
        let message = format!("the response has {size} bytes or more; the limit is {limit}; {advice}");
        let values = [("size", size.to_string()), ("limit", limit.to_string())];
        Err(status(Code::ResourceExhausted, reason::RESPONSE_TOO_LARGE, message, values))
    }
}

impl ClassifierHandlers {
    /// Handlers that answer with the model that is served, take on work as `admission` has it, and keep to `limits`.
    #[must_use]
    pub fn new((served, metrics): (Arc<Served>, Arc<Metrics>), admission: Admission, limits: Limits) -> Self {
        Self { served, metrics, admission, limits }
    }

    /// What a call works with from its beginning to its end.
    async fn work(&self) -> Work {
        Work { models: self.served.models().await, limits: self.limits }
    }

    /// Runs work on a thread that may block, which holds its place until it is done, or sees that nobody waits.
    async fn apart<T: Send + 'static>(
        &self,
        worker: Place,
        work: impl FnOnce(&Abandoned) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let abandoned = Abandoned::default();
        let _guard = AbandonOnDrop(abandoned.clone());
        let done = tokio::task::spawn_blocking(move || {
            let _worker = worker;
            work(&abandoned)
        });
        let ended = |error| status(Code::Internal, reason::INTERNAL, format!("the call ended unexpectedly: {error}"), []);
        done.await.unwrap_or_else(|error| Err(ended(error)))
    }

    async fn answer(
        &self,
        work: Work,
        (article, options): (Option<pb::Article>, Option<pb::ClassifyOptions>),
        waits: Waits,
    ) -> Result<pb::ClassifyResponse, Status> {
        let shadow = work.models.shadow.clone();
        let is_small = article.as_ref().is_none_or(|article| article.text.len() <= INLINE);
        let (article, options, response) = if is_small {
            let response = work.article(article.as_ref(), options.as_ref())?;
            (article, options, response)
        } else {
            let worker = match waits {
                Waits::InQueue => self.admission.worker().await?,
                Waits::InStream => self.admission.worker_for_stream().await?,
            };
            let label = move |abandoned: &Abandoned| {
                if abandoned.is_so() {
                    return Err(status(Code::Cancelled, reason::CANCELLED, "nobody waits for the article any more", []));
                }
                let response = work.article(article.as_ref(), options.as_ref())?;
                Ok((article, options, response))
            };
            self.apart(worker, label).await?
        };
        self.metrics.answered(&response);
        if let (Some(shadow), Some(article)) = (shadow, article) {
            shadow.observe(vec![Answered::new(article, &response)], priors(options));
        }
        Ok(response)
    }

    async fn outcome(&self, work: Work, request: pb::StreamClassifyRequest) -> pb::StreamClassifyResponse {
        let article_id = request.article.as_ref().map(|article| article.article_id.clone()).unwrap_or_default();
        let outcome = match self.answer(work, (request.article, request.options), Waits::InStream).await {
            Ok(response) => pb::stream_classify_response::Outcome::Response(response),
            Err(error) => {
                self.metrics.refused(reason_of(&error));
                pb::stream_classify_response::Outcome::Error(rpc_status(&error))
            }
        };
        pb::StreamClassifyResponse { article_id, outcome: Some(outcome) }
    }
}

fn priors(options: Option<pb::ClassifyOptions>) -> crate::model::Priors {
    options.map(|options| options.priors.into_iter().collect()).unwrap_or_default()
}

#[tonic::async_trait]
impl pb::classifier_service_server::ClassifierService for ClassifierHandlers {
    async fn classify(&self, request: Request<pb::ClassifyRequest>) -> Result<Response<pb::ClassifyResponse>, Status> {
        let pb::ClassifyRequest { article, options } = request.into_inner();
        self.answer(self.work().await, (article, options), Waits::InQueue).await.map(Response::new)
    }

    async fn batch_classify(
        &self,
        request: Request<pb::BatchClassifyRequest>,
    ) -> Result<Response<pb::BatchClassifyResponse>, Status> {
        let request = request.into_inner();
        let work = self.work().await;
        let shadow = work.models.shadow.clone();
        let worker = self.admission.worker().await?;
        let label = move |abandoned: &Abandoned| Ok((work.batch(&request, abandoned)?, request));
        let (response, pb::BatchClassifyRequest { articles, options }) = self.apart(worker, label).await?;
        for response in &response.responses {
            self.metrics.answered(response);
        }
        if let Some(shadow) = shadow {
            let answered = articles.into_iter().zip(&response.responses);
            shadow.observe(answered.map(|(article, response)| Answered::new(article, response)).collect(), priors(options));
        }
        Ok(Response::new(response))
    }

    type StreamClassifyStream = Pin<Box<dyn Stream<Item = Result<pb::StreamClassifyResponse, Status>> + Send>>;

    async fn stream_classify(
        &self,
        request: Request<Streaming<pb::StreamClassifyRequest>>,
    ) -> Result<Response<Self::StreamClassifyStream>, Status> {
        let handlers = self.clone();
        let work = self.work().await;
        let answers = request.into_inner().then(move |request| {
            let (handlers, work) = (handlers.clone(), work.clone());
            async move { Ok(handlers.outcome(work, request?).await) }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
