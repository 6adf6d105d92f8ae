//! Telling a person who waits what is being done.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A line that says what is being done, on a terminal only.
#[derive(Debug)]
pub struct Stages {
    bar: ProgressBar,
}

impl Stages {
    /// Shows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        // indicatif draws on standard error, and hides itself where that is no terminal.
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar }
    }

    /// Says what is being done from now on.
    pub fn stage(&self, name: &str) {
        self.bar.set_message(name.to_owned());
    }

    /// Removes the line.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Default for Stages {
    fn default() -> Self {
        Self::new()
    }
}

/// A bar over `total` pieces of work named `what`, on a terminal only.
#[must_use]
pub fn bar(what: &'static str, total: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar
}
