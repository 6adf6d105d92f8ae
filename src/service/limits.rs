//! What requests must keep to.

/// Limits of a request, told by `GetModel`. Sizes are in bytes of UTF-8.
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
    /// Of a request as a message.
    pub request_bytes: usize,
    /// Of a response as a message. Clients accept 4 MiB unless they are told otherwise.
    pub response_bytes: usize,
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
        }
    }
}
