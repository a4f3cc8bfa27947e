//! Cuts texts to what a journal holds: a message may carry names that somebody else chose. Pure.

use super::state::{Event, RunEnded, StepDone, StepFailed};

/// Bytes that a text in the journal may have: a message may carry names that somebody else chose.
const MAX_TEXT: usize = 4096;
/// Warnings that a step may leave.
const MAX_WARNINGS: usize = 50;

/// Cuts a text to what a journal holds, and says so.
fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push_str(" … (cut)");
    }
    text
}

/// Cuts warnings to what a journal holds, and says so.
fn few(warnings: Vec<String>) -> Vec<String> {
    let more = warnings.len().saturating_sub(MAX_WARNINGS);
    let mut few: Vec<String> = warnings.into_iter().take(MAX_WARNINGS).map(bounded).collect();
    if more > 0 {
        few.push(format!("and {more} more"));
    }
    few
}

impl Event {
    /// With every text cut to what a journal holds.
    #[must_use]
    pub fn bounded(self) -> Self {
        match self {
            Event::StepDone(StepDone { step, detail, warnings }) => {
                Event::StepDone(StepDone { step, detail: bounded(detail), warnings: few(warnings) })
            }
            Event::RunEnded(ended) => Event::RunEnded(RunEnded { warnings: few(ended.warnings), ..ended }),
            Event::StepFailed(failed) => {
                Event::StepFailed(StepFailed { message: bounded(failed.message), ..failed })
            }
            Event::UndoFailed(failed) => {
                Event::UndoFailed(StepFailed { message: bounded(failed.message), ..failed })
            }
            other @ (Event::RunStarted(_)
            | Event::RunResumed(_)
            | Event::StepStarted(_)
            | Event::StepFact(_)
            | Event::UndoStarted(_)
            | Event::UndoDone(_)) => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StepId;

    #[test]
    fn texts_of_others_are_cut_to_what_a_journal_holds() {
        let step: StepId = "inspect".parse().unwrap();
        let failed = StepFailed { step: step.clone(), code: "c".into(), message: "é".repeat(1 << 20) };
        let Event::StepFailed(failed) = Event::StepFailed(failed).bounded() else { panic!("another event") };
        assert!(failed.message.len() < 5000 && failed.message.ends_with("(cut)"));
        let done = StepDone { step, detail: String::new(), warnings: vec!["w".to_owned(); 1000] };
        let Event::StepDone(done) = Event::StepDone(done).bounded() else { panic!("another event") };
        assert_eq!(done.warnings.len(), 51);
    }
}
