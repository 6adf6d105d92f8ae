//! Server reflection, as clients ask for it.

use prost::Message;
use prost_types::FileDescriptorProto;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ExtensionRequest, ServerReflectionRequest};
use tonic_reflection::pb::v1alpha;

use crate::running::Running;

/// The answers to questions asked in one stream.
async fn ask(server: &Running, questions: Vec<MessageRequest>) -> Vec<MessageResponse> {
    let requests: Vec<_> = questions
        .into_iter()
        .map(|question| ServerReflectionRequest { host: "h".into(), message_request: Some(question) })
        .collect();
    let mut client = ServerReflectionClient::new(server.channel().await);
    let mut stream = client.server_reflection_info(tokio_stream::iter(requests.clone())).await.unwrap().into_inner();
    let mut answers = Vec::new();
    while let Some(answer) = stream.message().await.unwrap() {
        assert_eq!((answer.valid_host.as_str(), answer.original_request.as_ref()), ("h", requests.get(answers.len())));
        answers.push(answer.message_response.unwrap());
    }
    assert_eq!(answers.len(), requests.len());
    answers
}

/// The names of the files in an answer.
fn files(answer: &MessageResponse) -> Vec<String> {
    let MessageResponse::FileDescriptorResponse(found) = answer else { panic!("{answer:?}") };
    let name = |bytes: &Vec<u8>| FileDescriptorProto::decode(bytes.as_slice()).unwrap().name().to_owned();
    found.file_descriptor_proto.iter().map(name).collect()
}

fn error(answer: &MessageResponse) -> (i32, &str) {
    let MessageResponse::ErrorResponse(error) = answer else { panic!("{answer:?}") };
    (error.error_code, &error.error_message)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_symbol_is_an_answer_and_the_stream_goes_on() {
    let server = Running::start(&[]);
    let answers = ask(
        &server,
        vec![
            MessageRequest::FileContainingSymbol("depeche.v1.Nothing".into()),
            MessageRequest::FileByFilename("none.proto".into()),
            MessageRequest::FileContainingExtension(ExtensionRequest { containing_type: "none".into(), extension_number: 1 }),
            MessageRequest::AllExtensionNumbersOfType("none".into()),
            MessageRequest::ListServices(String::new()),
        ],
    )
    .await;
    assert_eq!(error(&answers[0]), (5, "there is no symbol \"depeche.v1.Nothing\""));
    assert_eq!(error(&answers[1]), (5, "there is no file \"none.proto\""));
    assert_eq!(error(&answers[2]), (5, "there is no extension 1 of \"none\""));
    assert_eq!(error(&answers[3]), (5, "there is no message \"none\""));
    let MessageResponse::ListServicesResponse(listed) = &answers[4] else { panic!("{answers:?}") };
    let names: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "depeche.v1.ClassifierService",
            "depeche.v1.ModelService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_symbol_is_found_with_all_that_its_file_imports() {
    let server = Running::start(&[]);
    let symbols = [
        ("depeche.v1.ClassifierService", "depeche/v1/classifier.proto"),
        ("depeche.v1.ClassifierService.Classify", "depeche/v1/classifier.proto"),
        ("depeche.v1.Article", "depeche/v1/classifier.proto"),
        ("depeche.v1.Article.text", "depeche/v1/classifier.proto"),
        ("depeche.v1.StreamClassifyResponse.outcome", "depeche/v1/classifier.proto"),
        ("depeche.v1.Occurrence.Field", "depeche/v1/classifier.proto"),
        ("depeche.v1.ROLE_BODY", "depeche/v1/classifier.proto"),
        ("google.rpc.ErrorInfo", "google/rpc/error_details.proto"),
        ("google.api.field_behavior", "google/api/field_behavior.proto"),
        ("grpc.reflection.v1alpha.ServerReflection", "grpc/reflection/v1alpha/reflection.proto"),
    ];
    let questions = symbols.iter().map(|(symbol, _)| MessageRequest::FileContainingSymbol((*symbol).into())).collect();
    for (answer, (symbol, file)) in ask(&server, questions).await.iter().zip(symbols) {
        let found = files(answer);
        let name = found[0].replace("reflection_v1alpha.proto", "grpc/reflection/v1alpha/reflection.proto");
        assert!(name == file || name.ends_with("reflection.proto"), "{symbol}: {found:?}");
        assert_eq!(found.len(), found.iter().collect::<std::collections::BTreeSet<_>>().len(), "{found:?}");
    }
    let answers = ask(
        &server,
        vec![
            MessageRequest::FileContainingSymbol("depeche.v1.Article".into()),
            // google.api.field_behavior is extension 1052 of the options of a field.
            MessageRequest::FileContainingExtension(ExtensionRequest {
                containing_type: "google.protobuf.FieldOptions".into(),
                extension_number: 1052,
            }),
            MessageRequest::AllExtensionNumbersOfType("google.protobuf.FieldOptions".into()),
        ],
    )
    .await;
    assert!(files(&answers[0]).contains(&"google/rpc/status.proto".to_owned()));
    assert_eq!(files(&answers[1])[0], "google/api/field_behavior.proto");
    let MessageResponse::AllExtensionNumbersResponse(numbers) = &answers[2] else { panic!("{answers:?}") };
    assert!(numbers.extension_number.contains(&1052));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_version_answers_the_same() {
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;
    let server = Running::start(&[]);
    let questions =
        [MessageRequest::FileContainingSymbol("none".into()), MessageRequest::FileContainingSymbol("depeche.v1.Article".into())];
    let requests =
        questions.map(|question| v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(question) });
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let mut stream = client.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let answer = stream.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(answer, MessageResponse::ErrorResponse(error) if error.error_code == 5));
    let answer = stream.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(answer, MessageResponse::FileDescriptorResponse(found) if found.file_descriptor_proto.len() > 2));
}
