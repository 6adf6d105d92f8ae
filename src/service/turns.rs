//! How answers get to the wire: together where several are ready, and each in as few pieces as can be.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::rt::Executor;
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

/// When a connection that was woken reads and writes.
///
/// A call that is answered wakes its connection, and the runtime prefers who was woken last: it would mostly write that answer before the next call is worked on, with a
/// system call and a packet for each. So while calls wait for a thread, a connection of callers stands in line behind them once, and writes all answers that there are by
/// then. What it reads waits as long: new calls, which would have stood in that line anyway, but also word that somebody gave up.
#[derive(Debug)]
pub(super) struct Turns {
    /// What it waits for; nothing where it is never to wait.
    calls: Option<Calls>,
    /// Whether it stood in line since it was woken.
    has_waited: bool,
}

impl Turns {
    /// Those of a connection that waits for `calls`, where there are any.
    pub(super) fn new(calls: Option<Calls>) -> Self {
        Self { calls, has_waited: false }
    }

    /// Polls the connection when it is its turn.
    pub(super) fn poll<F: Future>(&mut self, connection: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.has_waited = !self.has_waited && self.calls.as_ref().is_some_and(Calls::wait);
        if self.has_waited {
            // Who wakes himself goes to the end of the line.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        connection.poll(context)
    }
}

/// Spawns calls, and counts those that no thread has begun with.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls {
    waiting: Arc<AtomicUsize>,
}

impl Calls {
    /// Whether there are such.
    fn wait(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// One that no thread has begun with, until it is dropped.
struct Waits(Arc<AtomicUsize>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<F> Executor<F> for Calls
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, call: F) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waits = Waits(Arc::clone(&self.waiting));
        tokio::spawn(async move {
            drop(waits);
            call.await
        });
    }
}

/// Bytes that a connection collects before they are written: more than nearly all answers have.
const WRITTEN: usize = 8 << 10;

/// A stream that says that it writes one piece at a time: HTTP/2 then copies messages of less than a kilobyte behind their headers, and hands them on with the trailers, and
/// with other answers, at once. It would hand on one of 256 bytes or more before it goes on with what comes behind it.
#[derive(Debug)]
struct OneByOne<IO>(IO);

/// `stream`, to which an answer is written in one piece where it is not long.
pub(super) fn in_one_piece<IO: AsyncRead + AsyncWrite + Unpin>(stream: IO) -> impl AsyncRead + AsyncWrite + Unpin {
    OneByOne(BufWriter::with_capacity(WRITTEN, stream))
}

impl<IO: AsyncRead + Unpin> AsyncRead for OneByOne<IO> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, to)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for OneByOne<IO> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::pin::pin;
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_connection_stands_in_line_once_where_calls_wait() {
        let calls = Calls::default();
        let mut turns = Turns::new(Some(calls.clone()));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut polls = 0;
        let mut connection = pin!(poll_fn(|_| {
            polls += 1;
            if polls < 4 { Poll::Pending } else { Poll::Ready(()) }
        }));
        let mut poll = || turns.poll(connection.as_mut(), &mut Context::from_waker(&waker)).is_ready();
        // Nobody waits: polled each time.
        assert_eq!([poll(), poll(), woken.0.load(Ordering::Relaxed) > 0], [false; 3]);
        calls.waiting.store(2, Ordering::Relaxed);
        // Somebody does: polled the second time each, after it woke itself.
        assert_eq!([poll(), poll(), poll(), poll()], [false, false, false, true]);
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        assert_eq!(polls, 4);
    }

    #[tokio::test]
    async fn calls_wait_until_they_are_begun_with() {
        let calls = Calls::default();
        let ends = Arc::new(tokio::sync::Notify::new());
        let end = Arc::clone(&ends);
        calls.execute(async move { end.notified().await });
        calls.execute(pending::<()>());
        assert_eq!(calls.waiting.load(Ordering::Relaxed), 2);
        tokio::task::yield_now().await;
        assert_eq!(calls.waiting.load(Ordering::Relaxed), 0);
        ends.notify_one();
        tokio::task::yield_now().await;
        assert_eq!(calls.waiting.load(Ordering::Relaxed), 0);
    }
}
