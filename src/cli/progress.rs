//! Shows a run while it runs: a line a step, with a bar on a terminal; or events as JSON lines.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output::Output;
use crate::engine::event::Event;
use crate::plan::render::visible;
use crate::steps::context::lock;

/// How a run is shown.
#[derive(Debug)]
pub struct Progress<'a> {
    output: &'a Output,
    mode: Mode,
    bar: Mutex<Option<ProgressBar>>,
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A line a step on standard error.
    Lines,
    /// JSON lines on standard output.
    Events,
}

impl<'a> Progress<'a> {
    /// A new display.
    pub fn new(output: &'a Output, mode: Mode) -> Self {
        Self { output, mode, bar: Mutex::new(None) }
    }

    /// Takes an event.
    pub fn event(&self, event: &Event) {
        match self.mode {
            Mode::Events => self.json(event),
            Mode::Lines => self.line(event),
        }
    }

    fn json(&self, event: &Event) {
        if let Ok(mut text) = serde_json::to_vec(event) {
            text.push(b'\n');
            // The run goes on when nobody reads its events.
            drop(self.output.result(&text));
        }
    }

    fn line(&self, event: &Event) {
        match event {
            Event::RunStarted { run, resumed, .. } => {
                let word = if *resumed { "going on with run" } else { "run" };
                self.say(&format!("{word} {run}"));
            }
            Event::StepStarted { step, summary, .. } if self.output.verbose => {
                self.say(&format!("  · {step:<11} {}", visible(summary)));
            }
            Event::StepStarted { .. } => {}
            Event::StepProgress { step, bytes, total } => self.progress(step.as_str(), *bytes, *total),
            Event::Waiting { message } => self.say(message),
            Event::StepDone { step, detail, warnings, .. } => {
                self.say(&format!("  ✓ {step:<11} {detail}"));
                for warning in warnings {
                    self.say(&format!("    ! {warning}"));
                }
            }
            Event::StepFailed { step, message, .. } => self.say(&format!("  ✗ {step:<11} {message}")),
            Event::StepUndone { step, .. } => self.say(&format!("  ↶ {step:<11} undone")),
            Event::RunEnded { .. } => {
                if let Some(bar) = lock(&self.bar).take() {
                    bar.finish_and_clear();
                }
            }
        }
    }

    fn say(&self, line: &str) {
        match &*lock(&self.bar) {
            Some(bar) => bar.suspend(|| self.output.note(line)),
            None => self.output.note(line),
        }
    }

    /// A bar for long work; indicatif shows it on terminals alone.
    fn progress(&self, step: &str, bytes: u64, total: Option<u64>) {
        let mut held = lock(&self.bar);
        let bar = held.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("  {spinner} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let of = total
            .map_or_else(String::new, |total| format!(" of {}", crate::plan::render::human_bytes(total)));
        bar.set_message(format!("{step:<11} {}{of}", crate::plan::render::human_bytes(bytes)));
    }
}
