//! Sample plans for tests, of this crate and of `tests/`. Not part of the interface; pure.

use serde_json::{Value, json};

use super::follows;
use super::graph;
use super::model::{ApiVersion, Metadata, Plan, PlanKind};
use super::observed::{self, Observed, ObservedBackup};
use super::preview::Preview;
use super::spec::{BackupSource, Source, Spec};

/// Builds a plan from its three hand-made parts; the steps are derived.
///
/// # Panics
/// Where a part does not fit the model: a defect of the test that made it.
pub fn plan_of(metadata: Value, spec: Value, observed: Value, preview: Value) -> Plan {
    let metadata: Metadata = serde_json::from_value(metadata).expect("a test's metadata fits the model");
    let spec: Spec = serde_json::from_value(spec).expect("a test's spec fits the model");
    let observed: Observed = serde_json::from_value(observed).expect("a test's observed fits the model");
    let preview: Preview = serde_json::from_value(preview).expect("a test's preview fits the model");
    with_steps(Plan {
        api_version: ApiVersion::V1,
        kind: PlanKind::RestorePlan,
        metadata,
        spec,
        observed,
        preview,
        steps: Vec::new(),
        approvals: Vec::new(),
    })
}

/// The backup of a restore.
///
/// # Panics
/// Where the plan is a rollback: a defect of the test.
pub fn archive(plan: &mut Plan) -> &mut BackupSource {
    let backup = match &mut plan.spec.source {
        Source::Backup(backup) => Some(backup),
        Source::Run(_) => None,
    };
    backup.expect("a test's plan is a restore")
}

/// What a restore's archive was seen to hold.
///
/// # Panics
/// Where the plan is a rollback: a defect of the test.
pub fn held(plan: &mut Plan) -> &mut ObservedBackup {
    plan.observed.backup.as_mut().expect("a test's plan is a restore")
}

/// The rollback of the live restore of [`sample`].
pub fn sample_rollback() -> Plan {
    let run = "01KATD0000000000000000000R";
    let mut spec = spec();
    spec["source"] = json!({
        "run": run,
        "backupId": "20261124-022632-budget-1a2b3c",
        "directory": format!("/srv/.abssctl/displaced/{run}"),
        "displacedAt": "2026-11-24T09:00:00Z"
    });
    spec["preBackup"] = json!({ "mode": "quiesced" });
    spec["ownership"] = json!({ "from": "kept", "uid": 0, "gid": 0 });
    let mut observed = observed();
    let held = observed["backup"].take();
    observed.as_object_mut().expect("it is a mapping").remove("backup");
    observed["displaced"] =
        json!({ "tree": observed["target"].clone(), "migrations": held["migrations"].clone() });
    observed["displaced"]["tree"]["budgets"].as_array_mut().expect("it is a list").truncate(1);
    observed["space"]["stagingBytes"] = json!(0);
    let mut preview = preview();
    preview["checks"][0] = json!({ "id": "displaced-tree", "verdict": "will", "why": "" });
    let mut plan = plan_of(metadata(), spec, observed, preview);
    plan.kind = PlanKind::RollbackPlan;
    plan
}

/// The same plan with the default steps for what its `spec` and `observed` say now.
///
/// # Panics
/// Where no steps can be derived: a defect of the test.
pub fn with_steps(plan: Plan) -> Plan {
    let mut plan = consistent(plan);
    plan.steps = graph::default_steps(&plan.metadata, &plan.spec, &plan.observed)
        .expect("a test's plan has derivable steps");
    plan
}

/// The same plan with the fingerprint, sync groups, checks and warnings that follow from the rest.
pub fn consistent(mut plan: Plan) -> Plan {
    let tree = plan.observed.displaced.as_mut().map(|displaced| &mut displaced.tree);
    for target in [Some(&mut plan.observed.target), tree].into_iter().flatten() {
        if target.structure.is_some() && !target.files.is_empty() {
            let readable = target.budgets_unreadable.is_none();
            target.structure = Some(observed::structure(&target.files, &target.budgets, readable));
        }
    }
    follows::derive(&mut plan);
    plan
}

/// A live restore where nothing on the machine controls the service.
pub fn sample() -> Plan {
    plan_of(metadata(), spec(), observed(), preview())
}

/// A live restore of a service that systemd runs, clients reset, unit and vhost restored too.
pub fn sample_with_service() -> Plan {
    let mut spec = spec();
    spec["assets"] = json!("full");
    spec["clients"] = json!("reset");
    spec["sessions"] = json!("revoke");
    let mut observed = observed();
    observed["service"] = json!({ "manager": "systemd", "unit": "abssctl-budget.service", "running": true });
    observed["assets"] = json!({
        "unit": {
            "path": "/etc/systemd/system/abssctl-budget.service", "foundBy": "registry",
            "member": "systemd/abssctl-budget.service",
            "sha256": "1111111111111111111111111111111111111111111111111111111111111111",
            "now": "2222222222222222222222222222222222222222222222222222222222222222"
        },
        "site": {
            "path": "/etc/nginx/sites-available/abssctl-budget.conf", "foundBy": "detection",
            "member": "nginx/abssctl-budget.conf",
            "sha256": "3333333333333333333333333333333333333333333333333333333333333333"
        },
        "enabled": {
            "path": "/etc/nginx/sites-enabled/abssctl-budget.conf", "wanted": true, "now": false
        },
        "proxy": "nginx"
    });
    let mut preview = preview();
    preview["diffs"].as_array_mut().expect("it is a list").push(json!({
        "path": "/etc/systemd/system/abssctl-budget.service", "restored": true, "hidden": true,
        "diff": "--- now\n+++ backup\n@@ -1,2 +1,2 @@\n [Service]\n-ExecStart=/usr/bin/node (kept secret)\n+ExecStart=/usr/local/bin/node (kept secret)\n"
    }));
    preview["downtimeMs"] = json!(8200);
    preview["accounts"] = json!({
        "loginMethod": { "live": "openid", "backup": "password" },
        "configuredMethod": { "live": "openid", "backup": "password" },
        "password": "other",
        "users": {
            "back": { "count": 1, "names": ["eve"] },
            "gone": { "count": 12, "names": ["ann", "bob", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "d0"] },
            "changed": { "count": 0 }
        },
        "sessions": { "back": 1, "gone": 2 },
        "bankTokens": {
            "back": { "count": 0 },
            "gone": { "count": 1, "names": ["simplefin_accessKey"] },
            "changed": { "count": 2, "names": ["gocardless_secretId", "gocardless_secretKey"] }
        },
        "lockedOut": ["no-owner"]
    });
    plan_of(metadata(), spec, observed, preview)
}

/// A restore into another directory, which is not there yet: no pre-backup, no service.
pub fn sample_dest() -> Plan {
    let mut spec = spec();
    spec["target"] = json!({ "directory": "/srv/restored/budget", "live": false });
    spec["preBackup"] = json!({ "mode": "none" });
    let mut observed = observed();
    observed["target"] = json!({ "presence": "absent" });
    observed["space"]["backupBytes"] = json!(0);
    let preview = json!({
        "files": {
            "added": { "count": 9, "bytes": 1_482_752, "examples": ["data/.migrate", "data/server-files/account.sqlite"] },
            "changed": { "count": 0, "bytes": 0 },
            "removed": { "count": 0, "bytes": 0 },
            "unchanged": 0
        },
        "budgets": [{
            "id": "b1f6b5ea-34f1-4f0a-8a8c-6a5a1b1f4a11", "name": "Household", "encrypted": false,
            "presence": "backup-only", "groupId": "5f6d0a4e-8f0b-4c7e-9a43-0f3c6a1d2b01"
        }],
        "checks": [
            { "id": "archive", "verdict": "will", "why": "" },
            { "id": "budgets-whole", "verdict": "will", "why": "" }
        ]
    });
    plan_of(metadata(), spec, observed, preview)
}

/// A live restore of one budget of the two that are there, which gets a new sync group.
pub fn sample_single() -> Plan {
    let mut spec = spec();
    spec["clients"] = json!("reset");
    spec["budgets"] = json!([{ "id": "b1f6b5ea-34f1-4f0a-8a8c-6a5a1b1f4a11", "name": "Household" }]);
    let mut preview = preview();
    preview["budgets"][1]["kept"] = json!(true);
    plan_of(metadata(), spec, observed(), preview)
}

/// The same budget as a new one, beside both that are there.
pub fn sample_copy() -> Plan {
    let mut plan = sample_single();
    plan.spec.clients = super::spec::ClientPolicy::Merge.into();
    plan.spec.budgets[0].copy_as =
        Some(super::spec::CopyAs { name: "Household (restored 2026-11-24)".into() });
    let new = plan.preview.budgets[0].clone();
    plan.preview.budgets[0].kept = true;
    plan.preview.budgets.push(super::preview::BudgetPreview {
        id: super::step::copy_id(&plan.metadata.id, &new.id),
        name: Some("Household (restored 2026-11-24)".into()),
        presence: super::preview::BudgetPresence::BackupOnly,
        changes_newer: None,
        first_newer: None,
        last_newer: None,
        copy_of: Some(new.id.clone()),
        ..new
    });
    with_steps(plan)
}

fn metadata() -> Value {
    json!({
        "id": "01KATCV2N8Q4ZJ6M5R7T9V1W3X",
        "createdAt": "2026-11-24T08:00:00Z",
        "expiresAt": "2026-11-25T08:00:00Z",
        "createdBy": { "type": "user", "name": "alice" },
        "reason": "the import of November went wrong",
        "generator": "abssctl 0.1.0"
    })
}

fn spec() -> Value {
    json!({
        "instance": "budget",
        "source": {
            "backupId": "20261124-022632-budget-1a2b3c",
            "path": "/srv/backups/budget/20261124-022632-budget-1a2b3c.tar.zst",
            "algorithm": "zstd",
            "sizeBytes": 187_431,
            "sha256": "4e3841f4a5a0c1f3f2f5a84c7b3f2d1e0c9b8a7f6e5d4c3b2a19080706050403",
            "createdAt": "2026-11-24T02:26:32Z",
            "scope": "full"
        },
        "target": { "directory": "/srv/budget", "live": true },
        "assets": "data",
        "preBackup": { "mode": "quiesced", "message": "before the restore of 20261124-022632-budget-1a2b3c" },
        "clients": "merge",
        "sessions": "keep",
        "service": { "restart": "auto" },
        "health": { "timeout": "60s", "interval": "1s" },
        "onFailure": "rollback",
        "drift": "structure",
        "replay": "once",
        "retain": "30d",
        "ownership": { "from": "live", "uid": 998, "gid": 998 }
    })
}

fn observed() -> Value {
    json!({
        "machine": "0d4a1185e2b8f5cb1e4c1a9a4a0c6f0b0e6f9bd0a3f6a9f8b1c2d3e4f5061728",
        "instance": {
            "registryEntry": "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a",
            "dataDirectory": "data",
            "port": 5007,
            "version": "25.6.0"
        },
        "backup": {
            "indexEntry": "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c",
            "manifest": false,
            "entries": 14,
            "unpackedBytes": 1_482_752,
            "budgets": [{
                "id": "b1f6b5ea-34f1-4f0a-8a8c-6a5a1b1f4a11",
                "groupId": "5f6d0a4e-8f0b-4c7e-9a43-0f3c6a1d2b01"
            }],
            "migrations": {
                "record": "read",
                "titles": ["1694360000000-create-folders.js", "1719409568000-multiuser.js"]
            }
        },
        "server": {
            "version": "25.6.0",
            "directory": "/srv/app/v25.6.0/node_modules/@actual-app/sync-server",
            "foundBy": "registry"
        },
        "target": {
            "presence": "content",
            "structure": "7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730",
            "content": "bf07a7fbb825fc0aae7bf4a1177b2b31fcf8a3feeaf7092761e18c859ee52a9c",
            "files": [
                { "path": "data/.migrate", "digest": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae" },
                { "path": "data/config.json", "digest": "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9" }
            ],
            "budgets": [
                { "id": "b1f6b5ea-34f1-4f0a-8a8c-6a5a1b1f4a11", "groupId": "5f6d0a4e-8f0b-4c7e-9a43-0f3c6a1d2b01",
                  "deleted": false, "changes": 945 },
                { "id": "c2a7c6fb-45a2-4a1b-9b9d-7b6b2c2a5b22", "groupId": "6a7e1b5f-9a1c-4d8f-8b54-1a4d7b2e3c02",
                  "deleted": false, "changes": 0 }
            ],
            "sessions": 2
        },
        "service": { "manager": "none", "running": false },
        "fileSystem": { "type": "ext4", "atomicExchange": "will" },
        "space": {
            "stagingBytes": 1_482_752, "backupBytes": 1_900_000,
            "backupDirectory": "/srv/backups/budget", "verdict": "will"
        }
    })
}

fn preview() -> Value {
    json!({
        "files": {
            "added": { "count": 1, "bytes": 2048, "examples": ["data/user-files/old.blob"] },
            "changed": { "count": 3, "bytes": 1_310_720, "examples": ["data/server-files/account.sqlite"] },
            "removed": { "count": 2, "bytes": 40_960, "examples": ["data/user-files/group-6a7e1b5f.sqlite"] },
            "unchanged": 5
        },
        "budgets": [
            {
                "id": "b1f6b5ea-34f1-4f0a-8a8c-6a5a1b1f4a11", "name": "Household", "encrypted": false,
                "presence": "both", "changesNewer": 675,
                "firstNewer": "2026-11-24T02:27:01.114Z", "lastNewer": "2026-11-24T07:58:40.902Z",
                "groupId": "5f6d0a4e-8f0b-4c7e-9a43-0f3c6a1d2b01"
            },
            {
                "id": "c2a7c6fb-45a2-4a1b-9b9d-7b6b2c2a5b22", "name": "Holiday", "encrypted": true,
                "presence": "live-only", "changesNewer": 0, "groupId": "6a7e1b5f-9a1c-4d8f-8b54-1a4d7b2e3c02"
            }
        ],
        "rows": [
            { "database": "data/server-files/account.sqlite", "table": "sessions", "live": 2, "backup": 1 },
            { "database": "data/server-files/account.sqlite", "table": "files", "live": 2, "backup": 1 },
            { "database": "data/server-files/account.sqlite", "table": "users", "live": 1, "backup": 1 }
        ],
        "diffs": [{
            "path": "data/config.json", "restored": true,
            "diff": "--- live\n+++ backup\n@@ -1,3 +1,3 @@\n {\n-  \"port\": 5007\n+  \"port\": 5006\n }\n"
        }],
        "checks": [
            { "id": "archive", "verdict": "will", "why": "" },
            { "id": "budgets-whole", "verdict": "will", "why": "" },
            { "id": "target-in-use", "verdict": "not-checked", "why": "only root sees the files of other users' processes" }
        ]
    })
}
