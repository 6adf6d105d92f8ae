//! A client of HTTP/2 that does as it is told: it enforces no deadline, checks nothing, and shows what came back.

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;
use tonic::Status;

/// A connection.
pub(crate) struct Raw {
    pub(crate) send: SendRequest<Bytes>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) http_status: u16,
    pub(crate) headers: HeaderMap,
    /// Of trailers, or of headers where there are none.
    pub(crate) status: Option<Status>,
}

impl Raw {
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { send: send.ready().await.unwrap() }
    }

    /// Begins a call and sends `body`; dropping what it gives back resets the call.
    pub(crate) async fn begin(&mut self, path: &str, headers: &[(&str, &str)], body: Bytes) -> ResponseFuture {
        let mut request = Request::post(format!("http://depeche/{path}")).header("te", "trailers");
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send = self.send.clone().ready().await.unwrap();
        let (response, mut stream) = self.send.send_request(request.body(()).unwrap(), false).unwrap();
        let mut rest = body;
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            let Some(Ok(room)) = std::future::poll_fn(|context| stream.poll_capacity(context)).await else { return response };
            let part = rest.split_to(room.min(rest.len()));
            if stream.send_data(part, false).is_err() {
                return response;
            }
        }
        let _ = stream.send_data(Bytes::new(), true);
        response
    }

    /// A whole call.
    pub(crate) async fn call(&mut self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Reply {
        reply(self.begin(path, headers, body).await).await
    }
}

/// Waits for the whole answer.
pub(crate) async fn reply(response: ResponseFuture) -> Reply {
    let (head, mut stream) = response.await.unwrap().into_parts();
    while let Some(data) = stream.data().await {
        stream.flow_control().release_capacity(data.unwrap().len()).unwrap();
    }
    let trailers = stream.trailers().await.unwrap();
    let status = trailers.as_ref().and_then(Status::from_header_map).or_else(|| Status::from_header_map(&head.headers));
    Reply { http_status: head.status.as_u16(), headers: head.headers, status }
}

/// A message in its frame.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    framed(0, &message.encode_to_vec())
}

/// Bytes in the frame of a message, with its flag of compression.
pub(crate) fn framed(flag: u8, bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(bytes.len() + 5);
    frame.put_u8(flag);
    frame.put_u32(u32::try_from(bytes.len()).unwrap());
    frame.put_slice(bytes);
    frame.freeze()
}
