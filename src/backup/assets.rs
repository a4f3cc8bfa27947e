//! What a backup holds beside the instance directory, as the peer's backups do: the registry and the
//! instance's entry, and (scope full) the unit and the vhost. Reads only.

use serde_json::Value;

use crate::archive::Extra;
use crate::context::Context;
use crate::host::fs::{FsError, IoContext as _};
use crate::ids::AbsPath;
use crate::state::asset_places;
use crate::state::instances::{InstanceEntry, Registry};

/// Files of this kind are a few kilobytes.
const MAX_ASSET: u64 = 4 << 20;

/// The members beside `data/`.
pub fn extras(
    cx: &Context,
    registry: &Registry,
    entry: &InstanceEntry,
    data_only: bool,
) -> Result<Vec<Extra>, FsError> {
    let instance = sorted(&entry.raw);
    let text = serde_json::to_vec_pretty(&instance).map_err(std::io::Error::other);
    let text = text.context("write", "metadata/instance.json")?;
    let mut extras = vec![
        Extra { path: "metadata/instance.json".into(), bytes: text, mode: 0o640 },
        Extra { path: "metadata/instances.yml".into(), bytes: registry.to_text().into_bytes(), mode: 0o640 },
    ];
    if data_only {
        return Ok(extras);
    }
    let places = asset_places::of(&cx.root, &cx.config, entry)?;
    let files =
        [("systemd", &places.unit.path), ("nginx", &places.site.path), ("nginx-enabled", &places.enabled)];
    for (folder, path) in files {
        if let Some(bytes) = read(cx, path)? {
            let name = path.file_name().unwrap_or("file");
            extras.push(Extra { path: format!("{folder}/{name}"), bytes, mode: 0o644 });
        }
    }
    Ok(extras)
}

/// Reads a unit or vhost through its symbolic link; one that is not there is left out, as the peer does. A
/// masked unit has no text.
fn read(cx: &Context, path: &AbsPath) -> Result<Option<Vec<u8>>, FsError> {
    cx.root.read_unmasked(path, MAX_ASSET)
}

/// Keys sorted, as the peer writes `instance.json`.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            Value::Object(keys.into_iter().map(|key| (key.clone(), sorted(&map[key]))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
