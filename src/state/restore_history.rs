//! What a restore leaves in the index entry of its backup: the peer's fields of the last restore, and
//! ours of all of them. Pure.
//!
//! The peer keeps only the last restore (`last_restored_at`, `metadata.last_restore_*`); ours are
//! `restored_at`, `restored_to` and the list `restores`.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::host::clock;
use crate::host::machine::Actor;
use crate::ids::{AbsPath, BackupId, PlanDigest, PlanId, RunId};
use crate::state::seen::Seen;

/// The backup was restored.
pub const APPLIED: &str = "applied";
/// A restore of the backup, or its rollback, was undone: the fields of the last restore stay as they are,
/// for the backup was restored then.
pub const ROLLED_BACK: &str = "rolled_back";

/// The peer's fields inside `metadata`, in its order.
const PEER_METADATA: [&str; 3] = ["last_restore_destination", "last_restored_at", "last_restore_actor"];

/// One restore of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRecord {
    /// The run that did it; an entry has at most one record of a run.
    pub run: RunId,
    /// The plan that was applied.
    pub plan: PlanId,
    /// The plan's digest.
    pub plan_digest: PlanDigest,
    /// When it was done.
    pub at: Timestamp,
    /// The directory that was restored to.
    pub to: AbsPath,
    /// Who applied the plan.
    pub actor: Actor,
    /// The principals that approved it.
    pub approvers: Vec<String>,
    /// The backup of the state before.
    pub pre_backup: Option<BackupId>,
    /// `merge` or `reset`, and single budgets that are treated otherwise: `merge, <id>=reset`.
    pub clients: String,
    /// Ids of the only budgets that were restored; empty where the whole backup was.
    pub budgets: Vec<String>,
    /// What it did: [`APPLIED`] or [`ROLLED_BACK`].
    pub outcome: String,
    /// The run that it rolled back; absent for a restore.
    pub rolls_back: Option<RunId>,
}

impl RestoreRecord {
    fn to_json(&self) -> Value {
        let mut record = json!({
            "run": self.run,
            "plan": self.plan,
            "plan_digest": self.plan_digest,
            "at": clock::rfc3339(self.at),
            "to": self.to,
            "actor": self.actor,
            "approvers": self.approvers,
            "pre_backup": self.pre_backup,
            "clients": self.clients,
            "outcome": self.outcome,
        });
        if !self.budgets.is_empty() {
            record["budgets"] = json!(self.budgets);
        }
        if let Some(run) = &self.rolls_back {
            record["rolls_back"] = json!(run);
        }
        record
    }
}

/// Whether the fields of this module, where present, have a shape that can be kept up.
pub(super) fn check(entry: &Seen<'_>) -> Result<(), String> {
    match entry.get("restores") {
        None => Ok(()),
        Some(Seen::List(restores)) if restores.iter().all(Seen::is_object) => Ok(()),
        Some(_) => Err("'restores' is not a list of objects".to_owned()),
    }
}

/// Takes all traces of restores out: what is left describes the archive.
pub(super) fn strip(entry: &mut Map<String, Value>) {
    for key in ["restored_at", "restored_to", "restores", "last_restored_at"] {
        entry.shift_remove(key);
    }
    if let Some(metadata) = entry.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !key.starts_with("last_restore"));
    }
}

/// Adds a record, or replaces the one of the same run, and brings the fields of the last restore up to date.
pub fn record(entry: &mut Map<String, Value>, record: &RestoreRecord) {
    let rollback = record.outcome == ROLLED_BACK;
    let record = record.to_json();
    let restores = entry.entry("restores").or_insert_with(|| json!([]));
    if let Some(restores) = restores.as_array_mut() {
        match restores.iter_mut().find(|known| known["run"] == record["run"]) {
            Some(known) => *known = record,
            None => restores.push(record),
        }
    }
    if !rollback {
        set_last(entry);
    }
}

/// Takes the record of a run out again; without such a record nothing changes.
///
/// Where it was the last one, the fields of the last restore get the values of the record before it, or
/// go. What that cannot bring back: the peer's fields of a restore that the *peer* made before the first
/// one recorded here, since the peer keeps no list. Fields that the peer wrote since are left alone.
pub fn forget(entry: &mut Map<String, Value>, run: &RunId) {
    let Some(restores) = entry.get_mut("restores").and_then(Value::as_array_mut) else { return };
    let Some(at) = restores.iter().position(|known| known["run"] == run.as_str()) else { return };
    let forgotten = restores.remove(at);
    let is_last = !is_rollback(&forgotten) && restores[at..].iter().all(is_rollback);
    if restores.is_empty() {
        entry.shift_remove("restores");
    }
    if !is_last {
        return;
    }
    let peer_wrote_since = entry.get("last_restored_at") != forgotten.get("at");
    if peer_wrote_since {
        entry.shift_remove("restored_at");
        entry.shift_remove("restored_to");
        set_ours(entry);
    } else {
        strip_last(entry);
        set_last(entry);
    }
}

fn strip_last(entry: &mut Map<String, Value>) {
    for key in ["last_restored_at", "restored_at", "restored_to"] {
        entry.shift_remove(key);
    }
    if let Some(metadata) = entry.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in PEER_METADATA {
            metadata.shift_remove(key);
        }
        if metadata.is_empty() {
            entry.shift_remove("metadata");
        }
    }
}

/// The last one that put the backup in place.
fn last(entry: &Map<String, Value>) -> Option<Map<String, Value>> {
    let restores = entry.get("restores")?.as_array()?;
    restores.iter().rev().find(|record| !is_rollback(record))?.as_object().cloned()
}

fn is_rollback(record: &Value) -> bool {
    record["outcome"] == ROLLED_BACK
}

fn set_ours(entry: &mut Map<String, Value>) {
    let Some(last) = last(entry) else { return };
    for (key, from) in [("restored_at", "at"), ("restored_to", "to")] {
        if let Some(value) = last.get(from) {
            entry.insert(key.to_owned(), value.clone());
        }
    }
}

fn set_last(entry: &mut Map<String, Value>) {
    let Some(last) = last(entry) else { return };
    if let Some(at) = last.get("at") {
        entry.insert("last_restored_at".to_owned(), at.clone());
    }
    let metadata = entry.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        for (key, from) in PEER_METADATA.into_iter().zip(["to", "at", "actor"]) {
            if let Some(value) = last.get(from) {
                metadata.insert(key.to_owned(), value.clone());
            }
        }
    }
    set_ours(entry);
}

impl Serialize for RestoreRecord {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::machine::ActorKind;

    fn record_of(run: &str, at: &str) -> RestoreRecord {
        RestoreRecord {
            run: run.parse().unwrap(),
            plan: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            plan_digest: PlanDigest(crate::ids::Sha256::of(b"plan")),
            at: at.parse().unwrap(),
            to: "/srv/budget".parse().unwrap(),
            actor: Actor { kind: ActorKind::User, name: "ann".into(), session: None },
            approvers: vec!["bob@example.org".into()],
            pre_backup: Some("20261124-024006-budget-406615".parse().unwrap()),
            clients: "merge".into(),
            budgets: Vec::new(),
            outcome: APPLIED.into(),
            rolls_back: None,
        }
    }

    const FIRST: &str = "01ARZ3NDEKTSV4RRFFQ69G5FA1";
    const SECOND: &str = "01ARZ3NDEKTSV4RRFFQ69G5FA2";

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("{value}") };
        map
    }

    #[test]
    fn the_peers_fields_and_ours_are_set_once_a_run() {
        let mut entry = object(json!({"id": "x", "metadata": {"labels": []}}));
        record(&mut entry, &record_of(FIRST, "2026-11-24T02:40:08Z"));
        record(&mut entry, &record_of(FIRST, "2026-11-24T02:40:08Z"));
        assert_eq!(entry["restores"].as_array().unwrap().len(), 1);
        assert_eq!(entry["last_restored_at"], "2026-11-24T02:40:08Z");
        assert_eq!(entry["restored_at"], "2026-11-24T02:40:08Z");
        assert_eq!(entry["restored_to"], "/srv/budget");
        let metadata = object(entry["metadata"].clone());
        assert_eq!(
            metadata.keys().collect::<Vec<_>>(),
            ["labels", "last_restore_destination", "last_restored_at", "last_restore_actor"]
        );
        assert_eq!(metadata["last_restore_actor"], json!({"type": "user", "name": "ann"}));
        let first = object(entry["restores"][0].clone());
        let keys = [
            "run",
            "plan",
            "plan_digest",
            "at",
            "to",
            "actor",
            "approvers",
            "pre_backup",
            "clients",
            "outcome",
        ];
        assert_eq!(first.keys().collect::<Vec<_>>(), keys);
    }

    #[test]
    fn forgetting_undoes_in_any_order() {
        let before = object(json!({"id": "x", "metadata": {"labels": []}}));
        let mut once = before.clone();
        record(&mut once, &record_of(FIRST, "2026-11-24T02:40:08Z"));
        let mut twice = once.clone();
        record(&mut twice, &record_of(SECOND, "2026-11-25T02:40:08Z"));
        let mut entry = twice.clone();
        forget(&mut entry, &SECOND.parse().unwrap());
        assert_eq!(entry, once);
        forget(&mut entry, &SECOND.parse().unwrap());
        assert_eq!(entry, once, "a second time changes nothing");
        forget(&mut entry, &FIRST.parse().unwrap());
        assert_eq!(entry, before);
        let mut entry = twice;
        forget(&mut entry, &FIRST.parse().unwrap());
        assert_eq!(
            entry["restored_at"], "2026-11-25T02:40:08Z",
            "an older record does not touch the last one"
        );
        assert_eq!(entry["restores"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_rollback_is_noted_and_leaves_the_last_restore() {
        let mut once = object(json!({"id": "x", "metadata": {"labels": []}}));
        record(&mut once, &record_of(FIRST, "2026-11-24T02:40:08Z"));
        let back = RestoreRecord {
            outcome: ROLLED_BACK.into(),
            rolls_back: Some(FIRST.parse().unwrap()),
            ..record_of(SECOND, "2026-11-25T02:40:08Z")
        };
        let mut entry = once.clone();
        record(&mut entry, &back);
        assert_eq!(entry["restores"][1]["outcome"], "rolled_back");
        assert_eq!(entry["restores"][1]["rolls_back"], FIRST);
        assert_eq!(entry["last_restored_at"], "2026-11-24T02:40:08Z");
        forget(&mut entry, &SECOND.parse().unwrap());
        assert_eq!(entry, once);
        record(&mut entry, &back);
        forget(&mut entry, &FIRST.parse().unwrap());
        assert!(!entry.contains_key("last_restored_at") && !entry.contains_key("restored_at"));
    }

    #[test]
    fn what_the_peer_wrote_since_stays() {
        let mut entry = object(json!({"id": "x", "metadata": {}}));
        record(&mut entry, &record_of(FIRST, "2026-11-24T02:40:08Z"));
        entry.insert("last_restored_at".into(), json!("2026-12-01T00:00:00Z"));
        entry["metadata"]["last_restored_at"] = json!("2026-12-01T00:00:00Z");
        forget(&mut entry, &FIRST.parse().unwrap());
        assert_eq!(entry["last_restored_at"], "2026-12-01T00:00:00Z");
        assert_eq!(entry["metadata"]["last_restored_at"], "2026-12-01T00:00:00Z");
        assert!(!entry.contains_key("restored_at") && !entry.contains_key("restores"));
    }
}
