//! The steps: their kinds, typed parameters and effects. What a step does for a given wish is in
//! [`mod@super::derive`].
//!
//! Adding a kind: one row in the table below, its parameters, its arm in [`super::derive::derive()`] and in
//! [`Action::summary`], its rules in `graph/`, and one file in `src/steps/`. Pure.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::assets::AssetKind;
use super::clients::Clients;
pub use super::groups::{copy_id, new_group_id};
use super::spec::{CompressionName, DriftPolicy, Ownership, PreBackupMode, SessionPolicy};
use crate::actual::whole::Gap;
use crate::duration::DurationText;
use crate::ids::{AbsPath, BackupId, InstanceName, RunId, ServerUrl, Sha256, StepId};

/// What a step touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Nothing.
    Read,
    /// Private files beside the target, and new files among the backups.
    Staging,
    /// The target directory.
    Live,
    /// The service or files that it is configured by.
    Service,
    /// Index, registry and log.
    Record,
}

/// Declares the step kinds: name on the wire, effect, parameters.
macro_rules! step_kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $effect:ident, $with:ident;)+) => {
        /// What a step does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum StepKind { $($(#[$doc])* #[serde(rename = $name)] $kind),+ }

        impl StepKind {
            /// All kinds, in the order of the default graph.
            pub const ALL: &'static [StepKind] = &[$(StepKind::$kind),+];

            /// Its name in a plan.
            pub fn name(self) -> &'static str {
                match self { $(StepKind::$kind => $name),+ }
            }

            /// What it touches.
            pub fn effect(self) -> Effect {
                match self { $(StepKind::$kind => Effect::$effect),+ }
            }

            fn with_schema(self, generator: &mut SchemaGenerator) -> Schema {
                match self { $(StepKind::$kind => generator.subschema_for::<$with>()),+ }
            }
        }

        /// A kind together with its parameters.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Action { $($(#[$doc])* $kind($with)),+ }

        impl Action {
            /// Its kind.
            pub fn kind(&self) -> StepKind {
                match self { $(Action::$kind(_) => StepKind::$kind),+ }
            }

            /// Its parameters as they stand in a plan.
            pub fn parameters(&self) -> Result<Value, serde_json::Error> {
                match self { $(Action::$kind(with) => serde_json::to_value(with)),+ }
            }

            fn parse(kind: StepKind, with: Value) -> Result<Self, serde_json::Error> {
                match kind { $(StepKind::$kind => serde_json::from_value(with).map(Action::$kind)),+ }
            }
        }
    };
}

step_kinds! {
    /// Takes the locks and holds them until the end.
    Lock = "lock", Read, LockWith;
    /// Looks at every precondition again.
    Check = "check", Read, CheckWith;
    /// Proves that the archive is the one that was planned.
    Verify = "verify", Read, VerifyWith;
    /// Unpacks the archive into a private directory beside the target.
    Extract = "extract", Staging, ExtractWith;
    /// Proves that what was unpacked is whole and sound.
    Inspect = "inspect", Read, InspectWith;
    /// Changes the unpacked tree as the plan wants it.
    Prepare = "prepare", Staging, PrepareWith;
    /// Stops the service.
    Stop = "stop", Service, StopWith;
    /// Backs up what is there now.
    PreBackup = "pre-backup", Staging, PreBackupWith;
    /// Builds the tree to put in place from the quiet live tree and single budgets of the backup.
    Overlay = "overlay", Staging, OverlayWith;
    /// Puts the unpacked tree in the place of the target.
    Swap = "swap", Live, SwapWith;
    /// Restores unit and vhost.
    Assets = "assets", Service, AssetsWith;
    /// Starts the service.
    Start = "start", Service, StartWith;
    /// Waits until the server answers.
    Health = "health", Read, HealthWith;
    /// Writes the restore into index, registry and log.
    Record = "record", Record, RecordWith;
    /// Removes staging; the displaced tree stays.
    Cleanup = "cleanup", Staging, CleanupWith;
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WireStep", into = "WireStep")]
pub struct Step {
    /// Its name in this plan; the journal's key.
    pub id: StepId,
    /// Steps that must be done before it begins.
    pub needs: Vec<StepId>,
    /// What it does, in one line.
    pub summary: String,
    /// Its kind and parameters.
    pub action: Action,
}

impl Step {
    /// Its kind.
    pub fn kind(&self) -> StepKind {
        self.action.kind()
    }
}

/// A step as it stands in a plan file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireStep {
    id: StepId,
    kind: StepKind,
    needs: Vec<StepId>,
    effect: Effect,
    summary: String,
    with: Value,
}

impl TryFrom<WireStep> for Step {
    type Error = String;
    fn try_from(wire: WireStep) -> Result<Self, String> {
        if wire.effect != wire.kind.effect() {
            return Err(format!("a step of kind {} has another effect", wire.kind));
        }
        let action = Action::parse(wire.kind, wire.with).map_err(|error| error.to_string())?;
        Ok(Self { id: wire.id, needs: wire.needs, summary: wire.summary, action })
    }
}

impl From<Step> for WireStep {
    fn from(step: Step) -> Self {
        let kind = step.kind();
        // Parameters are plain structs of strings and numbers; `Null` is what the loader refuses.
        let with = step.action.parameters().unwrap_or(Value::Null);
        Self { id: step.id, kind, needs: step.needs, effect: kind.effect(), summary: step.summary, with }
    }
}

impl JsonSchema for Step {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Step".into()
    }

    /// One object schema with a rule for each kind, so that an error names the field inside `with`
    /// and not "none of fourteen alternatives".
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rules: Vec<Value> = StepKind::ALL
            .iter()
            .map(|kind| {
                let with = kind.with_schema(generator);
                serde_json::json!({
                    "if": { "properties": { "kind": { "const": kind.name() } }, "required": ["kind"] },
                    "then": { "properties": { "effect": { "const": kind.effect() }, "with": with } }
                })
            })
            .collect();
        json_schema!({
            "type": "object",
            "description": "One step. Kind, effect, summary and parameters follow from spec and observed; id and needs may be edited within the rules on the graph.",
            "properties": {
                "id": generator.subschema_for::<StepId>(),
                "kind": generator.subschema_for::<StepKind>(),
                "needs": { "type": "array", "items": generator.subschema_for::<StepId>(), "uniqueItems": true },
                "effect": generator.subschema_for::<Effect>(),
                "summary": { "type": "string", "maxLength": 8192 },
                "with": { "type": "object" }
            },
            "required": ["id", "kind", "needs", "effect", "summary", "with"],
            "additionalProperties": false,
            "allOf": rules
        })
    }
}

/// Declares a parameter struct as it stands under `with`.
macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
    )+};
}

parameters! {
    /// Parameters of `lock`.
    LockWith {
        /// The instance whose lock is taken after the global one.
        instance: InstanceName,
    }
    /// Parameters of `check`.
    CheckWith {
        /// How much the machine may differ from what was observed.
        drift: DriftPolicy,
    }
    /// Parameters of `verify`.
    VerifyWith {
        /// The archive file.
        path: AbsPath,
        /// Its size in bytes.
        size_bytes: u64,
        /// Its digest.
        sha256: Sha256,
        /// The digest of the manifest in it, where that proves what comes out, and the archive is not read
        /// whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        manifest_sha256: Option<Sha256>,
    }
    /// Parameters of `extract`.
    ExtractWith {
        /// The archive file.
        path: AbsPath,
        /// How it is compressed.
        algorithm: CompressionName,
        /// Unpacked bytes at which extraction stops.
        max_bytes: u64,
        /// Members at which extraction stops.
        max_entries: u64,
        /// Who owns the files.
        ownership: Ownership,
        /// The directory whose files are copied where they are equal to those of the archive.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reuse: Option<AbsPath>,
    }
    /// Parameters of `inspect`.
    InspectWith {
        /// The server's data directory, relative to the instance directory.
        data_directory: String,
        /// Whether the archive must have a manifest to compare with.
        manifest: bool,
        /// Parts of budgets that may be missing.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        allow_incomplete: Vec<Gap>,
    }
    /// Parameters of `prepare`.
    PrepareWith {
        /// What happens to clients with newer changes.
        clients: Clients,
        /// What happens to stored logins.
        sessions: SessionPolicy,
        /// Sync groups that get a new id.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        groups: Vec<GroupChange>,
    }
    /// A sync group that gets a new id.
    GroupChange {
        /// The budget.
        budget: String,
        /// Its group id in the backup.
        from: String,
        /// Its group id after the restore.
        to: String,
    }
    /// Parameters of `stop`.
    StopWith {
        /// The unit.
        unit: String,
        /// How long it may take; and to answer, where it is started again.
        timeout: DurationText,
        /// Where its server answers.
        url: ServerUrl,
        /// The certificates that it is proven by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca: Option<AbsPath>,
    }
    /// Parameters of `pre-backup`.
    PreBackupWith {
        /// Whether the server still runs meanwhile.
        mode: PreBackupMode,
        /// The directory that is backed up.
        directory: AbsPath,
        /// Message in the index.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    }
    /// Parameters of `overlay`.
    OverlayWith {
        /// The directory that all else is taken from.
        directory: AbsPath,
        /// The server's data directory, relative to the instance directory.
        data_directory: String,
        /// The budgets that come from the backup.
        budgets: Vec<OverlayBudget>,
    }
    /// A budget that comes from the backup.
    OverlayBudget {
        /// The budget.
        budget: String,
        /// Its sync group in the prepared tree.
        group: String,
        /// The new budget that it comes as; it replaces the one of its own id otherwise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        copy: Option<BudgetCopy>,
    }
    /// The new budget that one of the backup comes as.
    BudgetCopy {
        /// Its id.
        budget: String,
        /// Its sync group.
        group: String,
        /// Its name.
        name: String,
    }
    /// Parameters of `swap`.
    SwapWith {
        /// The directory that is replaced.
        directory: AbsPath,
        /// How.
        method: SwapMethod,
        /// Which tree of staging takes its place.
        #[serde(default, skip_serializing_if = "StagedTree::is_unpacked")]
        tree: StagedTree,
        /// Where the displaced tree is kept that comes back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<AbsPath>,
    }
    /// Parameters of `assets`.
    AssetsWith {
        /// The files, in the order in which they are written.
        files: Vec<AssetFile>,
        /// The name under which nginx reads the vhost; absent where it stays as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<AssetLink>,
        /// Whether systemd reads its units again.
        systemd: bool,
        /// Whether nginx tests its configuration, and reads it again.
        nginx: bool,
    }
    /// A file outside of the instance directory.
    AssetFile {
        /// Which.
        kind: AssetKind,
        /// Where it is written.
        path: AbsPath,
        /// Its name in the archive, or among the files that the rolled back run kept.
        member: String,
        /// Its digest; absent where the file is removed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Sha256>,
    }
    /// The symbolic link by which nginx reads a vhost.
    AssetLink {
        /// Its name.
        path: AbsPath,
        /// What it leads to.
        to: AbsPath,
        /// Whether it is to be there.
        wanted: bool,
    }
    /// Parameters of `start`.
    StartWith {
        /// The unit.
        unit: String,
        /// How long it may take.
        timeout: DurationText,
    }
    /// Parameters of `health`.
    HealthWith {
        /// The unit that must still run when the server answers.
        unit: String,
        /// The address that is asked for `/health` and `/info`.
        url: ServerUrl,
        /// The certificates that it is proven by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca: Option<AbsPath>,
        /// In all.
        timeout: DurationText,
        /// Between two requests.
        interval: DurationText,
    }
    /// Parameters of `record`.
    RecordWith {
        /// The backup whose index entry gets the restore.
        backup_id: BackupId,
        /// Where it was restored to.
        directory: AbsPath,
        /// Whether the instance's registry entry is updated too.
        live: bool,
        /// The run that is undone; absent in a restore.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rolls_back: Option<RunId>,
    }
    /// Parameters of `cleanup`.
    CleanupWith {
        /// How long the displaced directory is kept.
        retain: DurationText,
    }
}

/// Which tree of staging takes the place of the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StagedTree {
    /// The unpacked one.
    #[default]
    Unpacked,
    /// The one that `overlay` builds.
    Overlay,
    /// The one that an earlier run displaced: a rollback puts it back.
    Displaced,
}

impl StagedTree {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_unpacked(&self) -> bool {
        *self == Self::Unpacked
    }

    /// In words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Unpacked => "the unpacked tree",
            Self::Overlay => "the tree that overlay built",
            Self::Displaced => "the old tree",
        }
    }
}

/// How the unpacked tree takes the place of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SwapMethod {
    /// Both directories change places in one step.
    Exchange,
    /// It is moved to a name that is free.
    Rename,
    /// Their entries change places one by one, the server's data last and in one step: a mount point
    /// cannot be moved.
    Entries,
}
