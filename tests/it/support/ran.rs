//! What a command gave back.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Exit code and output of a command that has ended.
#[derive(Debug)]
#[must_use = "a command whose result nobody looks at proves nothing"]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Runs a command to its end without a terminal.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::from(command.stdin(Stdio::null()).output().unwrap())
    }

    /// Proves the exit code; says everything when it is another.
    pub(crate) fn code(self, expected: i32) -> Self {
        assert_eq!(
            self.code, expected,
            "exit code\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout, self.stderr
        );
        self
    }

    pub(crate) fn ok(self) -> Self {
        self.code(0)
    }

    /// Standard output as one JSON value.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("{error}\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr)
        })
    }

    /// Proves that the text (line breaks and frames taken as blanks) stands on standard error.
    pub(crate) fn says(self, text: &str) -> Self {
        let squeezed = |text: &str| {
            text.split(|c: char| c.is_whitespace() || "│╰─▶├×".contains(c))
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert!(
            squeezed(&self.stderr).contains(&squeezed(text)),
            "stderr lacks '{text}'\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Proves exit code and stable code of a JSON error whose message has `words`; gives the object.
    pub(crate) fn error(&self, exit_code: i32, code: &str, words: &[&str]) -> Value {
        let object = self.json();
        assert_eq!(self.code, exit_code, "exit code: {object:#}\n{}", self.stderr);
        assert_eq!(object["exit_code"], exit_code, "the object's exit code is the program's: {object:#}");
        assert_eq!(object["code"], code, "{object:#}");
        let message = object["message"].as_str().unwrap_or_default();
        for word in words {
            assert!(message.contains(word), "the message lacks '{word}': {object:#}");
        }
        assert!(
            object["help"].as_str().is_some_and(|help| !help.is_empty()),
            "an error says what to do next: {object:#}"
        );
        object
    }

    /// Proves that a plan was refused for exactly these reasons (their stable codes).
    pub(crate) fn refused(&self, exit_code: i32, problems: &[&str]) -> Value {
        let object = self.json();
        assert_eq!(self.code, exit_code, "exit code: {object:#}");
        let found: Vec<&str> = object["problems"]
            .as_array()
            .unwrap_or_else(|| panic!("no problems: {object:#}"))
            .iter()
            .map(|problem| problem["code"].as_str().unwrap())
            .collect();
        assert_eq!(found, problems, "{object:#}");
        object
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let signal = output.status.signal().map(|signal| 128 + signal);
        Self {
            code: output.status.code().or(signal).unwrap(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
