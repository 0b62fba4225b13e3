//! Progress while the program runs: a bar on a terminal, or a line per case otherwise. It goes to standard
//! error only.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Progress through a known number of steps.
pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
    heading: String,
}

impl Progress {
    /// Creates the progress of that many steps.
    pub fn new(steps: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(steps) } else { ProgressBar::hidden() };
        let style = "{elapsed_precise} {bar:30.cyan/blue} {pos}/{len} {wide_msg}";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is well formed"));
        Self { bar, terminal, heading: String::new() }
    }

    /// Sets the heading of the next steps.
    pub fn begin(&mut self, heading: impl Into<String>) {
        self.heading = heading.into();
        if self.terminal {
            self.bar.set_message(self.heading.clone());
            self.bar.tick();
        } else {
            eprintln!("{}", self.heading);
        }
    }

    /// Marks one step as done.
    pub fn step(&self, what: &str) {
        self.bar.set_message(format!("{}: {what}", self.heading));
        self.bar.inc(1);
    }

    /// Ends the progress and leaves nothing on the screen.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
