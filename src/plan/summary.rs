//! What a step does, in one line. Part of the format: a loaded plan must carry the same line. Pure.

use super::groups::overlaid;
use super::spec::{Ownership, OwnershipSource};
use super::step::{Action, AssetsWith, RecordWith, SwapMethod, SwapWith};

impl Action {
    /// What it does, in one line. Part of the format: a loaded plan must carry the same line, so that
    /// a reviewer of the file reads what will run.
    pub fn summary(&self) -> String {
        match self {
            Action::Lock(with) => format!("take the global lock and the lock of instance {}", with.instance),
            Action::Check(with) => format!("look at every precondition again (drift: {})", with.drift),
            Action::Verify(with) => {
                let has = format!("prove that {} has {} bytes", with.path, with.size_bytes);
                match &with.manifest_sha256 {
                    None => format!("{has} and SHA-256 {}", with.sha256),
                    Some(manifest) => {
                        format!("{has} and the manifest {manifest}, which proves what is unpacked")
                    }
                }
            }
            Action::Extract(with) => format!(
                "unpack {} ({}) beside the target, at most {} bytes in {} entries, {}{}",
                with.path,
                with.algorithm,
                with.max_bytes,
                with.max_entries,
                owners(&with.ownership),
                with.reuse.as_ref().map(|from| format!(", copy what is equal in {from}")).unwrap_or_default()
            ),
            Action::Inspect(with) => format!(
                "check the unpacked tree: {}every database in {}, budgets whole{}, migrations",
                if with.manifest { "the manifest, " } else { "" },
                with.data_directory,
                match with.allow_incomplete.len() {
                    0 => String::new(),
                    1 => " but for 1 part that may be missing".to_owned(),
                    count => format!(" but for {count} parts that may be missing"),
                }
            ),
            Action::Prepare(with) => format!(
                "clients {}, sessions {}{}",
                with.clients.short(),
                with.sessions,
                if with.groups.is_empty() {
                    String::new()
                } else {
                    format!(", new sync groups: {}", with.groups.len())
                }
            ),
            Action::Stop(with) => format!("stop {} within {}", with.unit, with.timeout),
            Action::PreBackup(with) => format!("back up {} first ({})", with.directory, with.mode),
            Action::Overlay(with) => overlaid(with),
            Action::Swap(SwapWith { directory, from: Some(from), method, .. }) => match method {
                SwapMethod::Exchange => {
                    format!("exchange {directory} with the old tree {from} in one step, keep the new tree")
                }
                SwapMethod::Entries => {
                    format!(
                        "put what is in the old tree {from} in place of what is in {directory}, entry by entry"
                    )
                }
                SwapMethod::Rename => {
                    format!("move the old tree {from} to {directory}, where nothing is now")
                }
            },
            Action::Swap(with) => match with.method {
                SwapMethod::Exchange => format!(
                    "exchange {} with {} in one step, keep the old tree",
                    with.directory,
                    with.tree.words()
                ),
                SwapMethod::Entries => format!(
                    "put what is in {} in place of what is in {}, entry by entry and the server's data last, keep the old ones",
                    with.tree.words(),
                    with.directory
                ),
                SwapMethod::Rename => {
                    format!("move {} to {}, where nothing is now", with.tree.words(), with.directory)
                }
            },
            Action::Assets(with) => assets(with),
            Action::Start(with) => format!("start {} within {}", with.unit, with.timeout),
            Action::Health(with) => format!(
                "wait up to {} until {}/health answers{}",
                with.timeout,
                with.url,
                with.ca.as_ref().map(|ca| format!(", proven by {ca}")).unwrap_or_default()
            ),
            Action::Record(RecordWith { rolls_back: Some(run), backup_id, live, .. }) => format!(
                "record in the index entry of {backup_id} that run {run} is rolled back{}, and in the operations log",
                if *live { ", put the registry back" } else { "" }
            ),
            Action::Record(with) => format!(
                "record the restore of {} to {} in the index{} and the operations log",
                with.backup_id,
                with.directory,
                if with.live { ", the registry" } else { "" }
            ),
            Action::Cleanup(with) => {
                format!("remove the staging directory; keep the displaced tree for {}", with.retain)
            }
        }
    }
}

fn assets(with: &AssetsWith) -> String {
    let mut parts: Vec<String> = Vec::new();
    for file in &with.files {
        let (verb, kind) = (if file.sha256.is_some() { "write" } else { "remove" }, file.kind.words());
        parts.push(format!("{verb} the {kind} {}", file.path));
    }
    if let Some(link) = &with.link {
        let verb = if link.wanted { "enable it as" } else { "disable it:" };
        parts.push(format!("{verb} {}", link.path));
    }
    if with.nginx {
        parts.push("let nginx test it".to_owned());
    }
    let told: Vec<&str> =
        [with.systemd.then_some("systemd"), with.nginx.then_some("nginx")].into_iter().flatten().collect();
    if !told.is_empty() {
        parts.push(format!("tell {}", told.join(" and ")));
    }
    parts.join(", ")
}

fn owners(ownership: &Ownership) -> String {
    match ownership.from {
        OwnershipSource::Archive => "owners from the archive".to_owned(),
        OwnershipSource::Live => {
            format!("owners from the live tree, else {}:{}", ownership.uid, ownership.gid)
        }
        OwnershipSource::Fixed => format!("all owned by {}:{}", ownership.uid, ownership.gid),
        OwnershipSource::Kept => "owners as they are".to_owned(),
    }
}
