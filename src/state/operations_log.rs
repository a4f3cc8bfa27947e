//! The operations log, `operations.jsonl`, shared with the peer: one JSON object a line, one line a
//! command, appended when the command ends. Keys, order and separators are the peer's.
//!
//! Appended in one write and synced; a crash leaves the line, none, or a torn last line that the next
//! writer ends with a line break. No secrets: values of arguments whose names say so are replaced.

use std::io::{Read as _, Seek as _, SeekFrom};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::host::clock;
use crate::host::fs::{self, FsError, IoContext as _, Root};
use crate::host::machine::Actor;
use crate::ids::AbsPath;
use crate::state::config::Config;
use crate::state::python_text;

/// How far back [`contains`] looks.
const LOOK_BACK: u64 = 1 << 20;

/// Parts of argument names whose values are secrets.
const SECRET: [&str; 6] = ["password", "passwd", "secret", "token", "private_key", "passphrase"];

const REDACTED: &str = "[redacted]";

/// The log cannot be read or written.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum LogError {
    /// The file or its directory.
    #[error(transparent)]
    #[diagnostic(
        code(abssctl::log::io),
        help("the log is 'logs_dir'/operations.jsonl; see whether the disk is full and who may write there")
    )]
    Fs(#[from] FsError),
}

/// How a command or a step of it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As asked.
    Success,
    /// As asked, but a person should look.
    Warning,
    /// Not.
    Error,
    /// Left out (steps only).
    Skipped,
    /// A remark (steps only).
    Info,
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperationResult {
    /// How it ended.
    pub status: Status,
    /// One line for people.
    pub message: String,
    /// What went wrong.
    pub errors: Vec<String>,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// How many things were changed.
    pub changed: u64,
    /// Ids of backups that were made.
    pub backups: Vec<String>,
    /// More, for programs.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
}

impl OperationResult {
    /// A result without details.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            errors: Vec::new(),
            warnings: Vec::new(),
            changed: 0,
            backups: Vec::new(),
            context: Map::new(),
        }
    }
}

/// One command, from its begin to its line in the log.
#[derive(Debug, Clone)]
pub struct Operation {
    began: Timestamp,
    op_id: String,
    command: String,
    args: Value,
    actor: Actor,
    target: Value,
    planned_actions: Vec<Value>,
    lock_wait_ms: Option<u64>,
    steps: Vec<Value>,
    redactions: Vec<String>,
    context: Map<String, Value>,
}

impl Operation {
    /// A command begins: "backup restore", "plan apply"; `args` as given on the command line.
    pub fn begin(command: impl Into<String>, args: Map<String, Value>, actor: Actor) -> Self {
        let mut redactions = Vec::new();
        let args = redact(Value::Object(args), "", &mut redactions);
        Self {
            began: Timestamp::now(),
            op_id: ulid::Ulid::generate().to_string(),
            command: command.into(),
            args,
            actor,
            target: json!({}),
            planned_actions: Vec::new(),
            lock_wait_ms: None,
            steps: Vec::new(),
            redactions,
            context: Map::from_iter([("abssctl_version".to_owned(), json!(env!("CARGO_PKG_VERSION")))]),
        }
    }

    /// Names the line: for an apply the run's id, so that the line can be found again.
    #[must_use]
    pub fn with_id(mut self, op_id: impl Into<String>) -> Self {
        self.op_id = op_id.into();
        self
    }

    /// What the command is about: `{"kind": "backup", "id": …}`.
    #[must_use]
    pub fn with_target(mut self, target: Value) -> Self {
        self.target = target;
        self
    }

    /// When the command began, where that was in an earlier process.
    #[must_use]
    pub fn began_at(mut self, began: Timestamp) -> Self {
        self.began = began;
        self
    }

    /// The line's id.
    pub fn id(&self) -> &str {
        &self.op_id
    }

    /// Adds what will be done: `{"action": "swap", …}`.
    pub fn plan_action(&mut self, action: Value) {
        self.planned_actions.push(redact(action, "planned_actions", &mut self.redactions));
    }

    /// Adds a step that was done.
    pub fn step(&mut self, name: &str, at: Timestamp, status: Status, detail: Option<&str>) {
        let mut step = json!({"name": name, "ts": clock::rfc3339_millis(at), "status": status});
        if let Some(detail) = detail {
            step["detail"] = json!(detail);
        }
        self.steps.push(step);
    }

    /// How long locks were waited for.
    pub fn lock_wait(&mut self, wait: std::time::Duration) {
        self.lock_wait_ms = Some(millis(wait));
    }

    /// Adds to the context: versions, where a command failed.
    pub fn context(&mut self, key: &str, value: Value) {
        self.context.insert(key.to_owned(), redact(value, key, &mut self.redactions));
    }

    /// The line, with its line break.
    pub fn line(&self, rc: u8, result: &OperationResult) -> String {
        let mut line = json!({
            "schema_version": 1,
            "ts": clock::rfc3339_millis(self.began),
            "op_id": self.op_id,
            "command": self.command,
            "args": self.args,
            "actor": self.actor,
            "target": self.target,
            "planned_actions": self.planned_actions,
            "result": result,
            "rc": rc,
            "duration_ms": u64::try_from(Timestamp::now().duration_since(self.began).as_millis()).unwrap_or_default(),
        });
        if let Some(wait) = self.lock_wait_ms {
            line["lock_wait_ms"] = json!(wait);
        }
        if !self.steps.is_empty() {
            line["steps"] = json!(self.steps);
        }
        if !self.redactions.is_empty() {
            line["redactions"] = json!(self.redactions);
        }
        line["context"] = Value::Object(self.context.clone());
        python_text::json_compact(&line) + "\n"
    }

    /// Ends the command: appends its line. A new log gets mode 0640.
    ///
    /// # Atomicity
    /// [`fs::append`]: one write, synced; a crash can leave a torn last line, which harms no other.
    pub fn finish(
        &self,
        root: &Root,
        config: &Config,
        rc: u8,
        result: &OperationResult,
    ) -> Result<(), LogError> {
        let path = config.operations_log();
        root.ensure_dir(&config.logs_dir, 0o750)?;
        let (dir, name) = root.parent_of(&path)?;
        fs::append(&dir, name, self.line(rc, result).as_bytes(), 0o640)
            .context("append to", root.host_path(&path))?;
        Ok(())
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Replaces the values of keys that name secrets, and notes which.
fn redact(value: Value, place: &str, redactions: &mut Vec<String>) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| {
                    let inside = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                    let plain = key.to_lowercase().replace('-', "_");
                    let secret = SECRET.iter().any(|part| plain.contains(part)) && !value.is_null();
                    if secret {
                        redactions.push(inside);
                        return (key, json!(REDACTED));
                    }
                    (key, redact(value, &inside, redactions))
                })
                .collect(),
        ),
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| redact(item, place, redactions)).collect())
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

/// Whether one of the last lines (1 MiB of them) has this id.
pub fn contains(root: &Root, config: &Config, op_id: &str) -> Result<bool, LogError> {
    let path = config.operations_log();
    Ok(tail(root, &path)?.split(|byte| *byte == b'\n').any(|line| id_of(line).as_deref() == Some(op_id)))
}

/// Whether the log ends in a line that was cut off.
pub fn ends_torn(root: &Root, config: &Config) -> Result<bool, LogError> {
    let tail = tail(root, &config.operations_log())?;
    Ok(!tail.is_empty() && !tail.ends_with(b"\n"))
}

fn tail(root: &Root, path: &AbsPath) -> Result<Vec<u8>, FsError> {
    let Some(mut file) = root.open_file(path)? else { return Ok(Vec::new()) };
    let mut read = || {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOOK_BACK)))?;
        let mut bytes = Vec::new();
        // Lines that are appended meanwhile are not of this command.
        file.by_ref().take(LOOK_BACK).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    read().context("read", root.host_path(path))
}

fn id_of(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        op_id: String,
    }
    serde_json::from_slice::<Line>(line).ok().map(|line| line.op_id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::host::machine::ActorKind;
    use crate::state::config::ConfigFlags;
    use crate::state::testing::{empty_root, instance_tree};

    fn config(root: &Root) -> Config {
        Config::load(root, &ConfigFlags::default(), &BTreeMap::new()).unwrap()
    }

    fn operation(args: Value) -> Operation {
        let Value::Object(args) = args else { panic!("{args}") };
        let actor = Actor { kind: ActorKind::User, name: "root".into(), session: None };
        Operation::begin("backup restore", args, actor)
    }

    fn lines(root: &Root) -> Vec<String> {
        let path = root.host_path(&"/var/log/abssctl/operations.jsonl".parse().unwrap());
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    fn keys(line: &str) -> Vec<String> {
        serde_json::from_str::<Map<String, Value>>(line).unwrap().keys().cloned().collect()
    }

    #[test]
    fn the_line_is_like_the_peers_own() {
        let (_keep, root) = instance_tree();
        let config = config(&root);
        let before = lines(&root);
        let peer = before.iter().find(|line| line.contains("\"backup create\"")).unwrap();
        let mut operation = operation(json!({"id": "x", "dry_run": false, "message": "données"}))
            .with_target(json!({"kind": "backup", "id": "x"}));
        operation.lock_wait(std::time::Duration::from_millis(12));
        operation.step("backup.index", Timestamp::now(), Status::Success, Some("x"));
        operation.step("restore.swap", Timestamp::now(), Status::Skipped, None);
        let result =
            OperationResult { changed: 3, ..OperationResult::new(Status::Success, "Backup restored.") };
        operation.finish(&root, &config, 0, &result).unwrap();
        let after = lines(&root);
        assert_eq!(after[..before.len()], before);
        let line = after.last().unwrap();
        assert_eq!(keys(line), keys(peer));
        assert!(line.contains(r#""result":{"status":"success","message":"Backup restored.","errors":[],"warnings":[],"changed":3,"backups":[]},"rc":0,"#), "{line}");
        assert!(
            line.contains(r#""message":"donn\u00e9es"},"actor":{"type":"user","name":"root"},"#),
            "{line}"
        );
        assert!(line.contains(r#""lock_wait_ms":12,"steps":[{"name":"backup.index","ts":""#), "{line}");
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["ts"].as_str().unwrap().len(), "2026-11-24T02:26:31.816Z".len());
        assert_eq!(value["op_id"].as_str().unwrap().len(), 26);
    }

    #[test]
    fn secrets_never_reach_the_log() {
        let args =
            json!({"password": "hunter2", "deep": [{"apiToken": "hunter2"}], "token": null, "id": "x"});
        let mut operation = operation(args);
        operation.context("client_secret", json!({"x": 1}));
        operation.context("versions", json!({"bankSecretKey": "hunter2"}));
        let line = operation.line(4, &OperationResult::new(Status::Error, "no"));
        assert!(!line.contains("hunter2"), "{line}");
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["redactions"], json!(["password", "deep.apiToken", "versions.bankSecretKey"]));
        assert_eq!(value["args"]["token"], Value::Null);
        assert_eq!(value["rc"], 4);
    }

    #[test]
    fn a_run_is_found_by_its_id_also_after_a_torn_line() {
        let (_keep, root) = empty_root();
        let config = config(&root);
        assert!(!contains(&root, &config, "x").unwrap());
        let result = OperationResult::new(Status::Success, "done");
        operation(json!({}))
            .with_id("01ARZ3NDEKTSV4RRFFQ69G5FAV")
            .finish(&root, &config, 0, &result)
            .unwrap();
        let path = root.host_path(&config.operations_log());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let dir = root.dir(&config.logs_dir).unwrap();
        fs::append(&dir, "operations.jsonl", b"{\"op_id\":\"torn", 0o640).unwrap();
        operation(json!({})).with_id("second").finish(&root, &config, 0, &result).unwrap();
        for (id, there) in
            [("01ARZ3NDEKTSV4RRFFQ69G5FAV", true), ("second", true), ("torn", false), ("", false)]
        {
            assert_eq!(contains(&root, &config, id).unwrap(), there, "{id}");
        }
        assert_eq!(lines(&root).len(), 3);
        let mut long = vec![b'x'; usize::try_from(LOOK_BACK).unwrap()];
        long.push(b'\n');
        fs::append(&dir, "operations.jsonl", &long, 0o640).unwrap();
        assert!(!contains(&root, &config, "second").unwrap(), "only the last part is read");
    }

    #[test]
    fn a_log_that_cannot_be_written_is_an_error() {
        let (_keep, root) = empty_root();
        let config = config(&root);
        root.ensure_dir(&config.operations_log(), 0o755).unwrap();
        let result = OperationResult::new(Status::Success, "done");
        let error = operation(json!({})).finish(&root, &config, 0, &result).unwrap_err();
        assert!(error.to_string().contains("operations.jsonl"), "{error}");
    }
}
