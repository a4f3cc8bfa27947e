//! A plan for an archive that no planner would have taken: what stands between hostile bytes and the live
//! directory when plan and index were forged together with the archive.

use std::path::PathBuf;

use abssctl::host::fs::Root;
use abssctl::plan::model::Plan;
use abssctl::plan::testing;
use abssctl::state::backup_index::{BackupIndex, entry_digest};
use abssctl::state::config::{Config, ConfigFlags};

use super::TestRoot;
use super::archive::{MADE, make, members};

/// Reads a plan file that the program wrote as JSON.
pub(crate) fn load(path: &std::path::Path) -> Plan {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Writes a plan with the steps and the warnings that its spec and observations ask for.
pub(crate) fn write(root: &TestRoot, plan: Plan) -> PathBuf {
    let plan = testing::with_steps(plan);
    let path = root.work("forged.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&plan).unwrap()).unwrap();
    path
}

/// Plans for a harmless archive, then puts other bytes in its place and makes the plan agree with them.
pub(crate) fn plan_for(root: &TestRoot, replace: impl FnOnce(&TestRoot)) -> PathBuf {
    make(root, &members(root));
    let mut plan = load(&root.plan(&[MADE]));
    replace(root);
    let index = load_index(root);
    let entry = index.find(&MADE.parse().unwrap()).unwrap();
    let source = testing::archive(&mut plan);
    (source.size_bytes, source.sha256) = (entry.size_bytes, entry.sha256);
    let held = testing::held(&mut plan);
    held.index_entry = entry_digest(entry);
    // Room for a few members more, so that not the limits are what refuses them.
    held.entries += 10;
    held.unpacked_bytes += 1 << 20;
    plan.observed.space.staging_bytes = held.unpacked_bytes;
    write(root, plan)
}

fn load_index(root: &TestRoot) -> BackupIndex {
    let host = Root::open(&root.path("/")).unwrap();
    let config = Config::load(&host, &ConfigFlags::default(), &std::collections::BTreeMap::new()).unwrap();
    BackupIndex::load(&host, &config).unwrap()
}
