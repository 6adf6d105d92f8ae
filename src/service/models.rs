//! `depeche.v1.ModelService`.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Request, Response, Status};

use super::errors::{Violation, invalid_argument, reason, shown, status};
use super::limits::{ConnectionLimits, Limits};
use super::pb;
use super::served::Served;
use crate::model::{Head, HeadScores, HeadSettings, Model};

/// The handlers.
#[derive(Debug, Clone)]
pub struct ModelHandlers {
    served: Arc<Served>,
    limits: Limits,
}

impl ModelHandlers {
    /// Handlers that describe what is `served`, and `limits`.
    #[must_use]
    pub fn new(served: Arc<Served>, limits: Limits) -> Self {
        Self { served, limits }
    }
}

#[tonic::async_trait]
impl pb::model_service_server::ModelService for ModelHandlers {
    async fn get_model(&self, request: Request<pb::GetModelRequest>) -> Result<Response<pb::GetModelResponse>, Status> {
        let name = request.into_inner().name;
        let models = self.served.models().await;
        let model = models.classifier.model();
        let served = model.resource_name();
        if !name.is_empty() && name != served && name != format!("models/{}", model.name) {
            let name = shown(&name);
            let message = format!("there is no model {name:?}; {served} is served");
            return Err(status(Code::NotFound, reason::MODEL_NOT_FOUND, message, [("name", name), ("served", served)]));
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
        let models = vec![describe(self.served.models().await.classifier.model())];
        Ok(Response::new(pb::ListModelsResponse { models, next_page_token: String::new() }))
    }
}

fn describe(model: &Model) -> pb::Model {
    let training = &model.training;
    let features = model.document.features();
    let fitted = |name: &str, of: &Head, scores: Option<&HeadScores>| {
        // What is not recorded is the default.
        let settings = training.settings.get(name).cloned().unwrap_or_default();
        pb::Head { settings: Some(self::settings(&settings)), ..head(name, of, features, scores) }
    };
    let mut heads = vec![fitted("topic", &model.topic, training.topic.as_ref())];
    heads.extend(model.stance.as_ref().map(|stance| fitted("stance", stance, training.stance.as_ref())));
    heads.extend(model.role.as_ref().map(|role| head("role", role.head(), role.space().features(), training.role.as_ref())));
    pb::Model {
        name: model.resource_name(),
        noise_label: model.noise_label.clone().unwrap_or_default(),
        heads,
        training_articles: i64::try_from(training.articles).unwrap_or(i64::MAX),
        training_pages: i64::try_from(training.pages).unwrap_or(i64::MAX),
        training_data_digest: training.data_digest.clone(),
        started_from: training.started_from.clone().unwrap_or_default(),
    }
}

fn settings(HeadSettings { c, class_weights, chosen_from }: &HeadSettings) -> pb::HeadSettings {
    pb::HeadSettings {
        c: Some(*c),
        class_weights: class_weights.name().to_owned(),
        chosen_from: chosen_from.map_or(0, |points| i64::try_from(points).unwrap_or(i64::MAX)),
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
        settings: None,
    }
}

fn limits(limits: &Limits) -> pb::Limits {
    let ConnectionLimits { count, calls, header_bytes, age, age_grace, keepalive_interval, keepalive_timeout, .. } =
        limits.connections;
    pb::Limits {
        text_bytes: size(limits.text_bytes),
        title_bytes: size(limits.title_bytes),
        article_id_bytes: size(limits.article_id_bytes),
        passages: size(limits.passages),
        batch_articles: size(limits.batch_articles),
        contributions: size(limits.contributions),
        request_bytes: size(limits.request_bytes),
        response_bytes: size(limits.response_bytes),
        calls: size(limits.calls),
        streams: size(limits.streams),
        workers: size(limits.worker_count()),
        queue: size(limits.queue),
        connections: size(count),
        connection_calls: calls.into(),
        header_bytes: header_bytes.into(),
        connection_age: age.and_then(duration),
        connection_age_grace: duration(age_grace),
        keepalive_interval: keepalive_interval.and_then(duration),
        keepalive_timeout: duration(keepalive_timeout),
    }
}

fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

fn size(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
