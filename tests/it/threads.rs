//! The number of threads changes how long a restore or a backup takes, and nothing else.

use crate::support::root::{DATA_ONLY, LIVE, ZSTD};
use crate::support::{TestRoot, tree::Tree};

#[test]
fn any_number_of_threads_restores_the_same_tree() {
    let restored = |threads: &str, backup: &str| {
        let root = TestRoot::new();
        let plan = root.plan(&[backup, "--threads", threads]);
        let _ = root.json(&["apply", plan.to_str().unwrap(), "--yes", "--threads", threads]).ok();
        Tree::of(&root.path(LIVE))
    };
    for backup in [ZSTD, DATA_ONLY] {
        let one = restored("1", backup);
        for threads in ["2", "16"] {
            assert_eq!(restored(threads, backup), one, "{backup} with {threads} threads");
        }
    }
}

#[test]
fn any_number_of_threads_makes_a_backup_that_any_other_reads() {
    let root = TestRoot::new();
    for (writes, reads) in [("1", "16"), ("16", "1")] {
        let made = root.json(&["backup", "create", "budget", "--threads", writes, "--yes"]).ok().json();
        let id = made["id"].as_str().unwrap();
        let _ = root.json(&["backup", "verify", id, "--threads", reads]).ok();
    }
}

#[test]
fn a_number_that_is_none_is_refused() {
    let root = TestRoot::new();
    for threads in ["0", "17", "many"] {
        let _ = root.run(&["backup", "list", "--threads", threads]).code(2).says("--threads");
    }
}
