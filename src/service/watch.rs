//! Files that change.
//!
//! They are looked at again and again rather than watched by the system: that also works on network file systems and for Kubernetes'
//! links to links, and needs no more than a look every few seconds. A file counts as changed once two looks in a row have found the same new
//! state, so that one that is being written is not read.

use std::future::pending;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// What is seen of a file from outside: length, time of change, and where there is one its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    length: u64,
    modified: Option<SystemTime>,
    number: u64,
}

/// Files that are looked at.
#[derive(Debug)]
pub struct Watched {
    files: Vec<PathBuf>,
    interval: Option<Duration>,
    known: Vec<Option<Look>>,
    before: Vec<Option<Look>>,
}

impl Watched {
    /// Looks at `files` now, and then every `interval`; never, where there is none.
    #[must_use]
    pub fn new(files: Vec<PathBuf>, interval: Option<Duration>) -> Self {
        let known = if interval.is_some() { looks(&files) } else { Vec::new() };
        Self { files, interval, before: known.clone(), known }
    }

    /// Done when a file has changed since the last time.
    pub async fn changed(&mut self) {
        let Some(interval) = self.interval else { return pending().await };
        loop {
            tokio::time::sleep(interval).await;
            let now = looks(&self.files);
            let is_settled = now == self.before;
            self.before = now;
            // A file that is gone may be about to be replaced.
            if is_settled && self.before != self.known && self.before.iter().all(Option::is_some) {
                self.known.clone_from(&self.before);
                return;
            }
        }
    }
}

fn looks(files: &[PathBuf]) -> Vec<Option<Look>> {
    let look = |file: &PathBuf| {
        let found = std::fs::metadata(file).ok()?;
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(&found);
        #[cfg(not(unix))]
        let number = 0;
        Some(Look { length: found.len(), modified: found.modified().ok(), number })
    };
    files.iter().map(look).collect()
}
