//! What requests and connections must keep to.

use std::time::Duration;

/// Limits, told by `GetModel`. Sizes are in bytes; those of fields in bytes of UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of an article's text.
    pub text_bytes: usize,
    /// Of an article's title.
    pub title_bytes: usize,
    /// Of an article's id.
    pub article_id_bytes: usize,
    /// Passages of an article's text.
    pub passages: usize,
    /// Articles of a batch.
    pub batch_articles: usize,
    /// Contributions of a prediction.
    pub contributions: usize,
    /// Of a request as a message, after decompression.
    pub request_bytes: usize,
    /// Of a response as a message. Clients accept 4 MiB unless they are told otherwise.
    pub response_bytes: usize,
    /// Calls of Classify and BatchClassify in flight, from their first byte to their last.
    pub calls: usize,
    /// Calls of StreamClassify that are open.
    pub streams: usize,
    /// Pieces of work on large texts and batches at once; 0 means one a core.
    pub workers: usize,
    /// Calls that wait for a worker.
    pub queue: usize,
    /// Of connections.
    pub connections: ConnectionLimits,
}

/// Limits of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at once.
    pub count: usize,
    /// Calls at once on one connection.
    pub calls: u32,
    /// Of a request's headers, names and values, with 32 for each (RFC 9113, section 6.5.2).
    pub header_bytes: u32,
    /// The age at which a connection is told to take no more calls, give or take a tenth.
    pub age: Option<Duration>,
    /// How long calls may then go on.
    pub age_grace: Duration,
    /// After so long without a word from the client it is asked whether it is there.
    pub keepalive_interval: Option<Duration>,
    /// Without an answer for so long, the connection is closed.
    pub keepalive_timeout: Duration,
    /// How long a connection may take to say its first word, and then a TLS handshake.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_bytes: 1 << 20,
            title_bytes: 1 << 16,
            article_id_bytes: 1 << 10,
            passages: 10_000,
            batch_articles: 1000,
            contributions: 1000,
            request_bytes: 16 << 20,
            response_bytes: 4 << 20,
            calls: 256,
            streams: 256,
            workers: 0,
            queue: 64,
            connections: ConnectionLimits::default(),
        }
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            count: 1024,
            calls: 128,
            header_bytes: 16 << 10,
            age: None,
            age_grace: Duration::from_secs(30),
            keepalive_interval: Some(Duration::from_secs(60)),
            keepalive_timeout: Duration::from_secs(20),
            handshake: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Workers, where 0 stands for one a core.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        if self.workers > 0 { self.workers } else { std::thread::available_parallelism().map_or(1, usize::from) }
    }
}
