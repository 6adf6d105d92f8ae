//! Server reflection, v1 and v1alpha.
//!
//! Our own over `prost-reflect`, since tonic's ends the stream at the first symbol that it does not know, where the protocol has an answer
//! for that, and knows no extensions. Both versions are the same on the wire, so there is one of them, and the other is recoded.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use prost::Message;
use prost_reflect::{DescriptorPool, FileDescriptor};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest,
    ServerReflectionResponse, ServiceResponse, server_reflection_server,
};
use tonic_reflection::pb::v1alpha;

use super::errors::{reason, shown, status};
use super::pb;

/// The handlers.
#[derive(Debug, Clone)]
pub struct ReflectionHandlers {
    /// Services that are offered, in order.
    services: Arc<[String]>,
    pool: Arc<OnceLock<Option<DescriptorPool>>>,
}

impl ReflectionHandlers {
    /// Handlers that tell of `services` by their full names, and of themselves.
    #[must_use]
    pub fn new(services: &[&str]) -> Self {
        let own = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
        let services: BTreeSet<String> = services.iter().chain(&own).map(|name| (*name).to_owned()).collect();
        Self { services: services.into_iter().collect(), pool: Arc::default() }
    }

    /// The descriptors, read when somebody first asks for one.
    fn pool(&self) -> Option<&DescriptorPool> {
        self.pool.get_or_init(|| pool().ok()).as_ref()
    }

    fn answer(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = match &request.message_request {
            Some(MessageRequest::ListServices(_)) => {
                let service = self.services.iter().map(|name| ServiceResponse { name: name.clone() }).collect();
                Ok(MessageResponse::ListServicesResponse(ListServiceResponse { service }))
            }
            Some(MessageRequest::FileByFilename(name)) => {
                self.file(&format!("file {:?}", shown(name)), |pool| pool.get_file_by_name(name))
            }
            Some(MessageRequest::FileContainingSymbol(name)) => {
                self.file(&format!("symbol {:?}", shown(name)), |pool| containing(pool, name))
            }
            Some(MessageRequest::FileContainingExtension(asked)) => {
                let number = u32::try_from(asked.extension_number).unwrap_or(0);
                let what = format!("extension {} of {:?}", asked.extension_number, shown(&asked.containing_type));
                self.file(&what, |pool| {
                    let extension = pool.get_message_by_name(&asked.containing_type)?.get_extension(number)?;
                    Some(extension.parent_file())
                })
            }
            Some(MessageRequest::AllExtensionNumbersOfType(name)) => self.extensions(name),
            None => Err((Code::InvalidArgument, "the request asks for nothing".to_owned())),
        };
        let message_response = answer.unwrap_or_else(|(code, error_message)| {
            MessageResponse::ErrorResponse(ErrorResponse { error_code: code.into(), error_message })
        });
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(message_response),
        }
    }

    /// A file and all that it imports, so that a client needs to ask once.
    fn file(
        &self,
        what: &str,
        find: impl FnOnce(&DescriptorPool) -> Option<FileDescriptor>,
    ) -> Result<MessageResponse, (Code, String)> {
        let found = self.pool().and_then(find).ok_or_else(|| (Code::NotFound, format!("there is no {what}")))?;
        let mut files = vec![found];
        let mut at = 0;
        while let Some(file) = files.get(at) {
            let imports: Vec<FileDescriptor> = file.dependencies().filter(|import| !files.contains(import)).collect();
            files.extend(imports);
            at += 1;
        }
        let file_descriptor_proto = files.iter().map(|file| file.encode_to_vec()).collect();
        Ok(MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto }))
    }

    fn extensions(&self, name: &str) -> Result<MessageResponse, (Code, String)> {
        let message = self.pool().and_then(|pool| pool.get_message_by_name(name));
        let message = message.ok_or_else(|| (Code::NotFound, format!("there is no message {:?}", shown(name))))?;
        let extension_number = message.extensions().filter_map(|extension| i32::try_from(extension.number()).ok()).collect();
        Ok(MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
            base_type_name: name.to_owned(),
            extension_number,
        }))
    }
}

/// The descriptors of our protos, of what they import, and of reflection itself.
fn pool() -> Result<DescriptorPool, prost_reflect::DescriptorError> {
    let mut pool = DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET)?;
    pool.decode_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)?;
    pool.decode_file_descriptor_set(v1alpha::FILE_DESCRIPTOR_SET)?;
    Ok(pool)
}

/// The file that declares a symbol: a service, a message, an enum, an extension, or one of their methods, fields or values.
fn containing(pool: &DescriptorPool, name: &str) -> Option<FileDescriptor> {
    let declared = |name: &str| {
        (pool.get_service_by_name(name).map(|found| found.parent_file()))
            .or_else(|| pool.get_message_by_name(name).map(|found| found.parent_file()))
            .or_else(|| pool.get_enum_by_name(name).map(|found| found.parent_file()))
            .or_else(|| pool.get_extension_by_name(name).map(|found| found.parent_file()))
    };
    declared(name).or_else(|| {
        let (parent, member) = name.rsplit_once('.')?;
        let has = pool.get_service_by_name(parent).is_some_and(|service| service.methods().any(|method| method.name() == member))
            || pool.get_message_by_name(parent).is_some_and(|message| {
                message.get_field_by_name(member).is_some() || message.oneofs().any(|oneof| oneof.name() == member)
            })
            || pool.all_enums().any(|found| found.values().any(|value| value.full_name() == name));
        if has { declared(parent).or_else(|| value_file(pool, name)) } else { None }
    })
}

/// The file of an enum's value, whose full name is that of a sibling of the enum.
fn value_file(pool: &DescriptorPool, name: &str) -> Option<FileDescriptor> {
    pool.all_enums().find(|found| found.values().any(|value| value.full_name() == name)).map(|found| found.parent_file())
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl server_reflection_server::ServerReflection for ReflectionHandlers {
    type ServerReflectionInfoStream = Answers<ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let handlers = self.clone();
        let answers = request.into_inner().map(move |request| request.map(|request| handlers.answer(request)));
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl v1alpha::server_reflection_server::ServerReflection for ReflectionHandlers {
    type ServerReflectionInfoStream = Answers<v1alpha::ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<v1alpha::ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let handlers = self.clone();
        let answers = request.into_inner().map(move |request| {
            let recoded = ServerReflectionRequest::decode(request?.encode_to_vec().as_slice()).map_err(recoding)?;
            v1alpha::ServerReflectionResponse::decode(handlers.answer(recoded).encode_to_vec().as_slice()).map_err(recoding)
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Never seen: the two versions are the same on the wire.
fn recoding(error: prost::DecodeError) -> Status {
    status(Code::Internal, reason::INTERNAL, error.to_string(), [])
}
