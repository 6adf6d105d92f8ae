//! `depeche.v1.ModelService`.

use std::sync::Arc;

use tonic::{Code, Request, Response, Status};

use super::errors::{Violation, invalid_argument, status};
use super::limits::Limits;
use super::pb;
use crate::model::{Classifier, Head, HeadScores, Model};

/// The handlers.
#[derive(Debug, Clone)]
pub struct ModelHandlers {
    classifier: Arc<Classifier>,
    limits: Limits,
}

impl ModelHandlers {
    /// Handlers that describe the model of `classifier` and `limits`.
    #[must_use]
    pub fn new(classifier: Arc<Classifier>, limits: Limits) -> Self {
        Self { classifier, limits }
    }
}

#[tonic::async_trait]
impl pb::model_service_server::ModelService for ModelHandlers {
    async fn get_model(&self, request: Request<pb::GetModelRequest>) -> Result<Response<pb::GetModelResponse>, Status> {
        let name = request.into_inner().name;
        let model = self.classifier.model();
        let served = model.resource_name();
        if !name.is_empty() && name != served && name != format!("models/{}", model.name) {
            let shown: String = name.chars().take(200).collect();
            let message = format!("there is no model {shown:?}; {served} is served");
            return Err(status(Code::NotFound, "MODEL_NOT_FOUND", message, [("name", shown), ("served", served)]));
        }
        Ok(Response::new(pb::GetModelResponse { model: Some(describe(model)), limits: Some(limits(&self.limits)) }))
    }

    async fn list_models(&self, request: Request<pb::ListModelsRequest>) -> Result<Response<pb::ListModelsResponse>, Status> {
        let pb::ListModelsRequest { page_size, page_token } = request.into_inner();
        let mut violations = Vec::new();
        if page_size < 0 {
            violations.push(Violation::new("page_size", format!("{page_size}; it may not be negative")));
        }
        // One model is served, so there is one page, and no token was ever given out.
        if !page_token.is_empty() {
            violations.push(Violation::new("page_token", "no page of this list has this token"));
        }
        if !violations.is_empty() {
            return Err(invalid_argument(&violations));
        }
        let models = vec![describe(self.classifier.model())];
        Ok(Response::new(pb::ListModelsResponse { models, next_page_token: String::new() }))
    }
}

fn describe(model: &Model) -> pb::Model {
    let training = &model.training;
    let features = model.document.features();
    let mut heads = vec![head("topic", &model.topic, features, training.topic.as_ref())];
    heads.extend(model.stance.as_ref().map(|stance| head("stance", stance, features, training.stance.as_ref())));
    heads.extend(model.role.as_ref().map(|role| head("role", role.head(), role.space().features(), training.role.as_ref())));
    pb::Model {
        name: model.resource_name(),
        noise_label: model.noise_label.clone().unwrap_or_default(),
        heads,
        training_articles: i64::try_from(training.articles).unwrap_or(i64::MAX),
        training_pages: i64::try_from(training.pages).unwrap_or(i64::MAX),
        training_data_digest: training.data_digest.clone(),
    }
}

fn head(name: &str, head: &Head, features: usize, scores: Option<&HeadScores>) -> pb::Head {
    let prior = |(label, probability): (&String, &f64)| pb::head::Score { label: label.clone(), probability: Some(*probability) };
    pb::Head {
        name: name.to_owned(),
        priors: head.labels.iter().zip(&head.priors).map(prior).collect(),
        features: size(features),
        temperature: Some(head.temperature),
        training_scores: scores.map(|scores| pb::TrainingScores {
            rows: i64::try_from(scores.rows).unwrap_or(i64::MAX),
            macro_f1: Some(scores.macro_f1),
            accuracy: Some(scores.accuracy),
            calibration_error: Some(scores.calibration_error),
        }),
    }
}

fn limits(limits: &Limits) -> pb::Limits {
    pb::Limits {
        text_bytes: size(limits.text_bytes),
        title_bytes: size(limits.title_bytes),
        article_id_bytes: size(limits.article_id_bytes),
        passages: size(limits.passages),
        batch_articles: size(limits.batch_articles),
        contributions: size(limits.contributions),
        request_bytes: size(limits.request_bytes),
        response_bytes: size(limits.response_bytes),
    }
}

fn size(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
