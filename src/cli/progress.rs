//! Telling a person who waits what is being done.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::train::Progress;

/// What a line shows whose end is not known.
const SPINNER: &str = "{spinner} {msg} {elapsed}";

/// What a line shows of so many pieces of work.
const BAR: &str = "{msg} {wide_bar} {pos}/{len} {eta}";

/// A line that says what is being done, and how much of it is, where that is known; on a terminal only.
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
        style(&bar, SPINNER);
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar }
    }

    /// Removes the line.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Stages {
    fn stage(&self, name: &str) {
        self.bar.unset_length();
        style(&self.bar, SPINNER);
        self.bar.set_message(name.to_owned());
    }

    fn pieces(&self, name: &str, pieces: usize) {
        self.bar.set_message(name.to_owned());
        self.bar.set_position(0);
        self.bar.set_length(pieces as u64);
        // What is left takes as long as what is done took, since the bar began and not the spinner.
        self.bar.reset_elapsed();
        self.bar.reset_eta();
        style(&self.bar, BAR);
    }

    fn advance(&self) {
        self.bar.inc(1);
    }
}

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
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
    style(&bar, BAR);
    bar
}
