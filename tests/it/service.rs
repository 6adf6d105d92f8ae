//! The gRPC service in process, over a duplex stream.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use depeche::features::Lexicon;
use depeche::features::lexicon::COUNTRY;
use depeche::model::{Article, Classifier, Options};
use depeche::service::Limits;
use depeche::service::health_pb::HealthCheckRequest;
use depeche::service::health_pb::health_check_response::ServingStatus;
use depeche::service::health_pb::health_client::HealthClient;
use depeche::service::pb::classifier_service_client::ClassifierServiceClient;
use depeche::service::pb::model_service_client::ModelServiceClient;
use depeche::service::pb::stream_classify_response::Outcome;
use depeche::service::pb::{self, OffsetEncoding, Reason, Role};
use depeche::service::server::{Config, Server};
use depeche::service::telemetry::Metrics;
use depeche::terms::Reader;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_util::io::InspectWriter;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tonic_types::StatusExt;

const PAGE: &str = "Le prix du mil recule    Météo du mardi    Un général en visite à Alger\n\nPartager\n\n\
    Niamey et Alger relancent leur coopération militaire\n\
    Le chef d’état-major de l’armée nigérienne a reçu lundi à Niamey son homologue algérien, à la tête d’une délégation \
    d’officiers 🚀. Les deux armées ont signé un accord de formation et décidé de patrouilles communes à la frontière.\n\
    « Nos soldats s’entraîneront ensemble dès le mois de mars », a déclaré un porte-parole du ministère de la Défense.\n";

/// A connection to a server of its own.
async fn connect(limits: Limits) -> Channel {
    let server = Server::new(Config { limits, ..Config::default() }, Metrics::none());
    server.load().await.unwrap();
    connect_to(Arc::new(server)).await
}

/// A connection to `server`.
async fn connect_to(server: Arc<Server>) -> Channel {
    let (client, stream) = tokio::io::duplex(1 << 16);
    serve(server, stream);
    channel(client).await
}

/// Serves one stream with `server`, apart.
fn serve(server: Arc<Server>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    tokio::spawn(async move { server.connections().serve(stream, server.main_front()).await });
}

async fn channel(client: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Channel {
    let mut client = Some(client);
    let connector = tower::service_fn(move |_: Uri| {
        let client = client.take();
        async move { client.map(TokioIo::new).ok_or_else(|| std::io::Error::other("connected twice")) }
    });
    Endpoint::from_static("http://duplex").connect_with_connector(connector).await.unwrap()
}

#[tokio::test]
async fn calls_that_come_before_the_model_wait_for_it() {
    let (client, stream) = tokio::io::duplex(1 << 16);
    let server = Arc::new(Server::new(Config::default(), Metrics::none()));
    serve(Arc::clone(&server), stream);
    let channel = channel(client).await;
    let mut health = HealthClient::new(channel.clone());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let mut classifier = ClassifierServiceClient::new(channel);
    let call = tokio::spawn(async move { classifier.classify(request("Un mot.", pb::ClassifyOptions::default())).await });
    // The call is sent during the first check at the latest, so the server has it before the second, which is answered.
    for _ in 0..2 {
        let answer = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::NotServing);
    }
    assert!(!call.is_finished());
    server.load().await.unwrap();
    assert!(call.await.unwrap().unwrap().into_inner().model.starts_with("models/"));
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
}

/// Serves a stream with a server of its own; returns how many pieces are written to it.
async fn serve_counted(stream: DuplexStream) -> Arc<AtomicUsize> {
    let server = Server::new(Config::default(), Metrics::none());
    server.load().await.unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let count = move |_: &[u8]| {
        counted.fetch_add(1, Ordering::Relaxed);
    };
    serve(Arc::new(server), InspectWriter::new(stream, count));
    written
}

#[tokio::test]
async fn an_answer_is_written_in_one_piece() {
    let (client, stream) = tokio::io::duplex(1 << 16);
    let written = serve_counted(stream).await;
    let mut client = ClassifierServiceClient::new(channel(client).await);
    // The first exchange has settings with it.
    client.classify(request(PAGE, pb::ClassifyOptions::default())).await.unwrap();
    written.store(0, Ordering::Relaxed);
    for _ in 0..8 {
        client.classify(request("Un général à Niamey.", pb::ClassifyOptions::default())).await.unwrap();
    }
    // An answer is headers, a message and trailers.
    assert_eq!(written.swap(0, Ordering::Relaxed), 8);
    let explained = pb::ClassifyOptions { max_contributions: 20, ..Default::default() };
    let answer = client.classify(request(PAGE, explained)).await.unwrap().into_inner();
    assert!(answer.encoded_len() > 1024);
    // Behind a message of a kilobyte or more, trailers are a piece of their own.
    assert_eq!(written.load(Ordering::Relaxed), 2);
}

/// A client whose calls wait until its stream is served, and what it has sent.
async fn unserved() -> (ClassifierServiceClient<Channel>, DuplexStream, Arc<Mutex<Vec<u8>>>) {
    let (client, stream) = tokio::io::duplex(1 << 16);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let sending = Arc::clone(&sent);
    let client = InspectWriter::new(client, move |bytes: &[u8]| sending.lock().unwrap().extend_from_slice(bytes));
    (ClassifierServiceClient::new(channel(client).await), stream, sent)
}

/// Begins so many calls, and waits until all are sent.
async fn send(
    client: &ClassifierServiceClient<Channel>,
    sent: &Mutex<Vec<u8>>,
    calls: usize,
) -> JoinSet<Result<tonic::Response<pb::ClassifyResponse>, Status>> {
    const TEXT: &str = "Un général à Niamey.";
    let mut called = JoinSet::new();
    for _ in 0..calls {
        let mut client = client.clone();
        called.spawn(async move { client.classify(request(TEXT, pb::ClassifyOptions::default())).await });
    }
    let has_all = || sent.lock().unwrap().windows(TEXT.len()).filter(|bytes| *bytes == TEXT.as_bytes()).count() == calls;
    while !has_all() {
        assert!(called.try_join_next().is_none(), "a call ended before it was served");
        tokio::task::yield_now().await;
    }
    called
}

// One thread works on all calls, so that they have to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_that_are_ready_are_written_together() {
    const CALLS: usize = 32;
    let (client, stream, sent) = unserved().await;
    let calls = send(&client, &sent, CALLS).await;
    // All calls are on their way before the connection is served.
    let written = serve_counted(stream).await;
    assert!(calls.join_all().await.iter().all(Result::is_ok));
    let pieces = written.load(Ordering::Relaxed);
    assert!(pieces <= CALLS / 4, "{pieces} pieces for {CALLS} answers");
}

#[tokio::test]
async fn a_connection_outlives_calls_that_were_given_up_before_they_were_read() {
    const RESET: [u8; 5] = [0, 0, 4, 3, 0];
    let (mut client, stream, sent) = unserved().await;
    let mut given_up = send(&client, &sent, 100).await;
    given_up.abort_all();
    while given_up.join_next().await.is_some() {}
    // Length, kind and flags of the frames that say so.
    while sent.lock().unwrap().windows(RESET.len()).filter(|bytes| *bytes == RESET).count() < 100 {
        tokio::task::yield_now().await;
    }
    let answered = tokio::spawn(async move { client.classify(request("Un mot.", pb::ClassifyOptions::default())).await });
    serve_counted(stream).await;
    assert!(answered.await.unwrap().is_ok());
}

async fn classifier() -> ClassifierServiceClient<Channel> {
    ClassifierServiceClient::new(connect(Limits::default()).await)
}

fn article(id: &str, text: &str) -> pb::Article {
    pb::Article { article_id: id.into(), title: String::new(), text: text.into() }
}

fn request(text: &str, options: pb::ClassifyOptions) -> pb::ClassifyRequest {
    pb::ClassifyRequest { article: Some(article("a", text)), options: Some(options) }
}

/// The violations of an error: field and description.
fn violations(status: &Status) -> Vec<(String, String)> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_ARGUMENT", "depeche.v1"));
    let details = status.get_details_bad_request().unwrap();
    details.field_violations.into_iter().map(|violation| (violation.field, violation.description)).collect()
}

#[tokio::test]
async fn unary_batch_stream_and_library_give_the_same_answer() {
    let mut client = classifier().await;
    let options = pb::ClassifyOptions { max_contributions: 20, ..Default::default() };
    let unary = client.classify(request(PAGE, options.clone())).await.unwrap().into_inner();
    let articles = vec![article("a", PAGE), article("b", "Autre chose.")];
    let batch =
        client.batch_classify(pb::BatchClassifyRequest { articles, options: Some(options.clone()) }).await.unwrap().into_inner();
    assert_eq!(batch.responses.len(), 2);
    assert_eq!(batch.responses[0], unary);
    let requests = [PAGE, " ", PAGE]
        .map(|text| pb::StreamClassifyRequest { article: Some(article("a", text)), options: Some(options.clone()) });
    let answers: Vec<_> = client.stream_classify(tokio_stream::iter(requests)).await.unwrap().into_inner().collect().await;
    let outcomes: Vec<Outcome> = answers.into_iter().map(|answer| answer.unwrap().outcome.unwrap()).collect();
    assert_eq!(outcomes[0], Outcome::Response(unary.clone()));
    assert_eq!(outcomes[2], Outcome::Response(unary.clone()));
    let Outcome::Error(error) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!(error.code, i32::from(Code::InvalidArgument));
    assert_eq!(error.message, "article.text: 1 bytes, all blank; at least one visible character is needed");
    assert_eq!(error.details.len(), 2);

    let domain = Classifier::new(Classifier::built_in_model().unwrap());
    let answer = domain.classify(Article { title: "", text: PAGE }, &Options::default()).unwrap();
    let topic = unary.topic.unwrap();
    assert_eq!(topic.label, answer.topic.label);
    assert_eq!(topic.probability.unwrap().to_bits(), answer.topic.probability.to_bits());
    assert_eq!(unary.stance.unwrap().probability.unwrap().to_bits(), answer.stance.unwrap().probability.to_bits());
    assert_eq!(unary.model, domain.model().resource_name());
}

#[tokio::test]
async fn a_page_is_labelled_and_its_noise_is_found() {
    let response = classifier().await.classify(request(PAGE, pb::ClassifyOptions::default())).await.unwrap().into_inner();
    assert_eq!(response.topic.unwrap().label, "military_cooperation");
    let passages: Vec<(&str, Role)> = response
        .passages
        .iter()
        .map(|passage| (&PAGE[passage.begin.unwrap() as usize..passage.end.unwrap() as usize], passage.role()))
        .collect();
    assert_eq!(passages.len(), 7);
    for (text, role) in passages {
        let expected = if ["Le prix du mil recule", "Météo du mardi", "Un général en visite à Alger", "Partager"].contains(&text)
        {
            Role::TickerNoise
        } else {
            Role::Body
        };
        assert_eq!(role, expected, "{text}");
    }
}

#[tokio::test]
async fn contributions_and_bias_add_up_to_the_logit_at_any_number() {
    let mut client = classifier().await;
    let mut logit = None;
    for max_contributions in [0, 1, 7, 1000] {
        let options = pb::ClassifyOptions { max_contributions, ..Default::default() };
        let response = client.classify(request(PAGE, options)).await.unwrap().into_inner();
        for prediction in [response.topic.unwrap(), response.stance.unwrap()] {
            assert!(prediction.contributions.len() <= max_contributions as usize);
            let sum: f64 = prediction.contributions.iter().map(|contribution| contribution.weight.unwrap()).sum();
            let total = sum + prediction.omitted_weight.unwrap() + prediction.bias.unwrap();
            assert!(
                (total - prediction.logit.unwrap()).abs() < 1e-9,
                "{max_contributions}: {total} is not {:?}",
                prediction.logit
            );
            if prediction.label == "military_cooperation" {
                assert_eq!(*logit.get_or_insert(prediction.logit), prediction.logit);
            }
        }
    }
}

/// The concepts of a word.
fn concepts(lexicon: &Lexicon, word: &str) -> Vec<String> {
    let (mut found, mut names) = (Vec::new(), Vec::new());
    Reader::default().read(word, |word| {
        lexicon.look_up(word, &mut found);
        names.extend(found.iter().map(|concept| lexicon.name(*concept).to_owned()));
    });
    names
}

#[tokio::test]
async fn offsets_count_what_the_caller_asks_for() {
    let model = Classifier::built_in_model().unwrap();
    let mut client = classifier().await;
    let title = "L’armée";
    let mut found = Vec::new();
    for encoding in [OffsetEncoding::Utf8, OffsetEncoding::Utf16, OffsetEncoding::Utf32] {
        let options = pb::ClassifyOptions { offset_encoding: encoding.into(), max_contributions: 1000, ..Default::default() };
        let article = pb::Article { title: title.into(), ..article("a", PAGE) };
        let response =
            client.classify(pb::ClassifyRequest { article: Some(article), options: Some(options) }).await.unwrap().into_inner();
        let slice = |field: i32, begin: i32, end: i32| {
            let text = if field == i32::from(pb::occurrence::Field::Title) { title } else { PAGE };
            let (begin, end) = (begin as usize, end as usize);
            match encoding {
                OffsetEncoding::Utf16 => String::from_utf16(&text.encode_utf16().collect::<Vec<u16>>()[begin..end]).unwrap(),
                OffsetEncoding::Utf32 => text.chars().skip(begin).take(end - begin).collect(),
                OffsetEncoding::Utf8 | OffsetEncoding::Unspecified => text[begin..end].to_owned(),
            }
        };
        let last = response.passages.last().unwrap();
        let passage = slice(i32::from(pb::occurrence::Field::Text), last.begin.unwrap(), last.end.unwrap());
        assert!(passage.starts_with("« Nos soldats") && passage.ends_with("Défense."), "{passage}");
        let contributions = response.topic.unwrap().contributions;
        let mut places = Vec::new();
        for contribution in &contributions {
            assert!(!contribution.occurrences.is_empty());
            for occurrence in &contribution.occurrences {
                let text = slice(occurrence.field, occurrence.begin.unwrap(), occurrence.end.unwrap());
                if ["concept", "relation"].contains(&contribution.block.as_str()) {
                    // The word that stands for the concept, or the state that completes the relation.
                    let concepts = concepts(model.document.lexicon().unwrap(), &text);
                    let named = |concept: &String| contribution.term.contains(concept) || concept.starts_with(COUNTRY);
                    assert!(concepts.iter().any(named), "{contribution:?}: {text} {concepts:?}");
                } else {
                    assert_eq!(text.to_lowercase(), contribution.term.trim(), "{contribution:?}");
                }
                places.push((occurrence.field, text));
            }
        }
        found.push(places);
    }
    assert!(found[0].contains(&(i32::from(pb::occurrence::Field::Title), "armée".to_owned())));
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
}

#[tokio::test]
async fn priors_change_the_answer_by_bayes_rule() {
    let mut client = classifier().await;
    let mut odds = Vec::new();
    for (military, diplomacy) in [(0.2, 0.6), (0.6, 0.2)] {
        let priors = [("military_cooperation", military), ("diplomacy", diplomacy), ("ticker_noise", 0.2)];
        let priors = priors.into_iter().map(|(label, p)| (label.to_owned(), p)).collect();
        let response =
            client.classify(request(PAGE, pb::ClassifyOptions { priors, ..Default::default() })).await.unwrap().into_inner();
        let scores = response.topic.unwrap().scores;
        let of = |label: &str| scores.iter().find(|score| score.label == label).unwrap().probability.unwrap();
        odds.push(of("military_cooperation") / of("diplomacy"));
    }
    assert!((odds[1] / odds[0] / 9.0 - 1.0).abs() < 1e-6, "{odds:?}");
}

#[tokio::test]
async fn a_page_without_article_is_noise_and_says_why() {
    let page = "Accueil | Sport | Contact\n\nLe prix du mil recule    Météo du mardi    Le ministre de la Défense reçoit l’attaché \
                militaire russe    Les lauréats du concours\n\nTous droits réservés";
    let response = classifier().await.classify(request(page, pb::ClassifyOptions::default())).await.unwrap().into_inner();
    assert!(response.passages.iter().all(|passage| passage.role() == Role::TickerNoise), "{:?}", response.passages);
    let topic = response.topic.unwrap();
    assert_eq!((topic.label.as_str(), topic.probability), ("ticker_noise", Some(1.0)));
    assert_eq!(response.stance, None);
    assert!(response.reasons.contains(&Reason::NoBody.into()));
}

#[tokio::test]
async fn bad_articles_and_options_are_named_with_value_and_limit() {
    let mut client = classifier().await;
    let large = "a ".repeat((1 << 19) + 1);
    let passages = "a\n".repeat(10_001);
    for (text, expected) in [
        ("", "empty; at least one visible character is needed"),
        ("\u{200b}\n ", "5 bytes, all blank; at least one visible character is needed"),
        (large.as_str(), "1048578 bytes; the limit is 1048576"),
        (passages.as_str(), "10001 passages; the limit is 10000"),
    ] {
        let status = client.classify(request(text, pb::ClassifyOptions::default())).await.unwrap_err();
        assert_eq!(violations(&status), [("article.text".to_owned(), expected.to_owned())]);
    }
    let priors = [("sport".to_owned(), 0.5)].into_iter().collect();
    let options = pb::ClassifyOptions { offset_encoding: 9, max_contributions: -1, priors };
    let found = violations(&client.classify(request(PAGE, options)).await.unwrap_err());
    let expected = [
        ("options.offset_encoding", "9 is not an OffsetEncoding; it may be 0 to 3"),
        ("options.max_contributions", "-1; it may be 0 to 1000"),
        (
            "options.priors",
            "\"sport\" is not a label of this model; its labels are diplomacy, military_cooperation, ticker_noise, critical, neutral, supportive",
        ),
    ];
    assert_eq!(found, expected.map(|(field, description)| (field.to_owned(), description.to_owned())));
    let status = client.classify(pb::ClassifyRequest::default()).await.unwrap_err();
    assert_eq!(violations(&status), [("article".to_owned(), "missing".to_owned())]);
    let status =
        client.classify(request(PAGE, pb::ClassifyOptions { max_contributions: 1001, ..Default::default() })).await.unwrap_err();
    assert_eq!(violations(&status)[0].1, "1001; it may be 0 to 1000");
}

#[tokio::test]
async fn a_batch_names_all_bad_articles_and_answers_none() {
    let mut client = classifier().await;
    let title = pb::Article { title: "a".repeat(65_537), ..article(&"i".repeat(1025), "Un mot.") };
    let articles = vec![article("a", PAGE), article("b", ""), title, article("d", "Un mot.")];
    let status = client.batch_classify(pb::BatchClassifyRequest { articles, options: None }).await.unwrap_err();
    let expected = [
        ("articles[1].text", "empty; at least one visible character is needed"),
        ("articles[2].article_id", "1025 bytes; the limit is 1024"),
        ("articles[2].title", "65537 bytes; the limit is 65536"),
    ];
    assert_eq!(violations(&status), expected.map(|(field, description)| (field.to_owned(), description.to_owned())));
    assert!(status.message().starts_with("3 invalid fields; the first is articles[1].text: "));
    for count in [0, 1001] {
        let articles = vec![article("a", "Un mot."); count];
        let status = client.batch_classify(pb::BatchClassifyRequest { articles, options: None }).await.unwrap_err();
        assert_eq!(violations(&status), [("articles".to_owned(), format!("{count} articles; there may be 1 to 1000"))]);
    }
}

#[tokio::test]
async fn a_response_that_clients_would_refuse_is_an_error_that_says_what_to_do() {
    let mut client = ClassifierServiceClient::new(connect(Limits { response_bytes: 1000, ..Limits::default() }).await);
    let articles = vec![article("a", PAGE); 3];
    let status = client.batch_classify(pb::BatchClassifyRequest { articles, options: None }).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().ends_with("the limit is 1000; send fewer articles, or use StreamClassify"), "{status}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "RESPONSE_TOO_LARGE");
}

#[tokio::test]
async fn models_are_described_with_limits() {
    let mut client = ModelServiceClient::new(connect(Limits::default()).await);
    let described = client.get_model(pb::GetModelRequest::default()).await.unwrap().into_inner();
    let model = described.model.unwrap();
    assert_eq!(described.limits.unwrap().text_bytes, 1 << 20);
    let heads: Vec<(&str, usize)> = model.heads.iter().map(|head| (head.name.as_str(), head.priors.len())).collect();
    assert_eq!(heads, [("topic", 3), ("stance", 3), ("role", 5)]);
    assert_eq!(model.noise_label, "ticker_noise");
    let settings: Vec<Option<(Option<f64>, &str, i64)>> = model
        .heads
        .iter()
        .map(|head| head.settings.as_ref().map(|of| (of.c, of.class_weights.as_str(), of.chosen_from)))
        .collect();
    assert_eq!(settings, [Some((Some(100.0), "balanced", 0)), Some((Some(100.0), "balanced", 0)), None]);
    assert_eq!(model.started_from, "");
    for name in [model.name.as_str(), "models/depeche-fr"] {
        let found = client.get_model(pb::GetModelRequest { name: name.into() }).await.unwrap().into_inner();
        assert_eq!(found.model.as_ref(), Some(&model));
    }
    let status = client.get_model(pb::GetModelRequest { name: "models/other".into() }).await.unwrap_err();
    assert_eq!((status.code(), status.get_details_error_info().unwrap().reason.as_str()), (Code::NotFound, "MODEL_NOT_FOUND"));
    let listed = client.list_models(pb::ListModelsRequest { page_size: 1000, ..Default::default() }).await.unwrap().into_inner();
    assert_eq!((listed.models, listed.next_page_token), (vec![model], String::new()));
    let status = client.list_models(pb::ListModelsRequest { page_size: -1, page_token: "x".into() }).await.unwrap_err();
    let fields: Vec<String> = violations(&status).into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["page_size", "page_token"]);
}

#[tokio::test]
async fn both_compressions_are_spoken_in_both_directions() {
    let plain = classifier().await.classify(request(PAGE, pb::ClassifyOptions::default())).await.unwrap();
    assert_eq!(plain.metadata().get("grpc-encoding"), None);
    for (encoding, name) in [(CompressionEncoding::Gzip, "gzip"), (CompressionEncoding::Zstd, "zstd")] {
        let mut client = classifier().await.send_compressed(encoding).accept_compressed(encoding);
        let response = client.classify(request(PAGE, pb::ClassifyOptions::default())).await.unwrap();
        assert_eq!(response.metadata().get("grpc-encoding").unwrap(), name);
        assert_eq!(&response.into_inner(), plain.get_ref());
    }
}
