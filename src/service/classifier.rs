//! `depeche.v1.ClassifierService`.
//!
//! The built-in model reads about 10 MB/s on one core (`cargo bench --bench dataset`), so an article of 8 KiB takes less than a millisecond
//! and is classified where the call arrives. Anything larger, and every batch, moves to a thread that may block, so that
//! other calls are not kept waiting.

use std::pin::Pin;
use std::sync::Arc;

use prost::Message;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::pb::Status as RpcStatus;

use super::convert::{check_article, check_options, classify};
use super::errors::{Violation, invalid_argument, status};
use super::limits::Limits;
use super::pb;
use crate::model::Classifier;

/// Bytes of text up to which an article is classified in place.
const INLINE: usize = 8 << 10;

/// The handlers.
#[derive(Debug, Clone)]
pub struct ClassifierHandlers {
    classifier: Arc<Classifier>,
    limits: Limits,
}

impl ClassifierHandlers {
    /// Handlers that answer with `classifier` within `limits`.
    #[must_use]
    pub fn new(classifier: Arc<Classifier>, limits: Limits) -> Self {
        Self { classifier, limits }
    }

    fn one(&self, article: Option<&pb::Article>, options: Option<&pb::ClassifyOptions>) -> Result<pb::ClassifyResponse, Status> {
        let mut violations = Vec::new();
        let asked = check_options(options, &self.classifier, &self.limits, &mut violations);
        match article {
            Some(article) => check_article(article, "article", &self.limits, &mut violations),
            None => violations.push(Violation::new("article", "missing")),
        }
        let article = article.filter(|_| violations.is_empty()).ok_or_else(|| invalid_argument(&violations))?;
        let response =
            classify(&self.classifier, article, &asked, "article").map_err(|violation| invalid_argument(&[violation]))?;
        self.fits(response.encoded_len(), "ask for fewer contributions")?;
        Ok(response)
    }

    fn batch(&self, request: &pb::BatchClassifyRequest) -> Result<pb::BatchClassifyResponse, Status> {
        let pb::BatchClassifyRequest { articles, options } = request;
        let mut violations = Vec::new();
        let asked = check_options(options.as_ref(), &self.classifier, &self.limits, &mut violations);
        if articles.is_empty() || articles.len() > self.limits.batch_articles {
            let description = format!("{} articles; there may be 1 to {}", articles.len(), self.limits.batch_articles);
            return Err(invalid_argument(&[Violation::new("articles", description)]));
        }
        for (at, article) in articles.iter().enumerate() {
            check_article(article, &format!("articles[{at}]"), &self.limits, &mut violations);
        }
        if !violations.is_empty() {
            return Err(invalid_argument(&violations));
        }
        let mut responses = Vec::with_capacity(articles.len());
        let mut size = 0;
        for (at, article) in articles.iter().enumerate() {
            match classify(&self.classifier, article, &asked, &format!("articles[{at}]")) {
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

    /// Refuses a response of `size` bytes, or one that has so many already, where that is over the limit.
    fn fits(&self, size: usize, advice: &str) -> Result<(), Status> {
        let limit = self.limits.response_bytes;
        if size <= limit {
            return Ok(());
        }
        let message = format!("the response has {size} bytes or more; the limit is {limit}; {advice}");
        let values = [("size", size.to_string()), ("limit", limit.to_string())];
        Err(status(Code::ResourceExhausted, "RESPONSE_TOO_LARGE", message, values))
    }

    /// Runs work on a thread that may block.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let handlers = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&handlers)).await;
        done.unwrap_or_else(|error| Err(status(Code::Internal, "INTERNAL", format!("the call ended unexpectedly: {error}"), [])))
    }

    async fn answer(
        &self,
        article: Option<pb::Article>,
        options: Option<pb::ClassifyOptions>,
    ) -> Result<pb::ClassifyResponse, Status> {
        if article.as_ref().is_none_or(|article| article.text.len() <= INLINE) {
            return self.one(article.as_ref(), options.as_ref());
        }
        self.apart(move |handlers| handlers.one(article.as_ref(), options.as_ref())).await
    }

    async fn outcome(&self, request: pb::StreamClassifyRequest) -> pb::StreamClassifyResponse {
        let article_id = request.article.as_ref().map(|article| article.article_id.clone()).unwrap_or_default();
        let outcome = match self.answer(request.article, request.options).await {
            Ok(response) => pb::stream_classify_response::Outcome::Response(response),
            Err(error) => pb::stream_classify_response::Outcome::Error(rpc_status(&error)),
        };
        pb::StreamClassifyResponse { article_id, outcome: Some(outcome) }
    }
}

/// A status as a message: the details of a tonic status are one already, unless there are none.
fn rpc_status(error: &Status) -> RpcStatus {
    RpcStatus::decode(error.details()).ok().filter(|decoded| decoded.code != 0).unwrap_or_else(|| RpcStatus {
        code: error.code().into(),
        message: error.message().to_owned(),
        details: Vec::new(),
    })
}

#[tonic::async_trait]
impl pb::classifier_service_server::ClassifierService for ClassifierHandlers {
    async fn classify(&self, request: Request<pb::ClassifyRequest>) -> Result<Response<pb::ClassifyResponse>, Status> {
        let pb::ClassifyRequest { article, options } = request.into_inner();
        self.answer(article, options).await.map(Response::new)
    }

    async fn batch_classify(
        &self,
        request: Request<pb::BatchClassifyRequest>,
    ) -> Result<Response<pb::BatchClassifyResponse>, Status> {
        let request = request.into_inner();
        self.apart(move |handlers| handlers.batch(&request)).await.map(Response::new)
    }

    type StreamClassifyStream = Pin<Box<dyn Stream<Item = Result<pb::StreamClassifyResponse, Status>> + Send>>;

    async fn stream_classify(
        &self,
        request: Request<Streaming<pb::StreamClassifyRequest>>,
    ) -> Result<Response<Self::StreamClassifyStream>, Status> {
        let handlers = self.clone();
        let answers = request.into_inner().then(move |request| {
            let handlers = handlers.clone();
            async move { Ok(handlers.outcome(request?).await) }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
