//! Journals whose end a disk lost, or that somebody edited: nobody deletes the old tree, and nothing that a
//! plan does not name is moved or removed.

use serde_json::{Value, json};

use crate::resume::{killed_at, newest, skip};
use crate::support::TestRoot;
use crate::support::journal::rewritten;
use crate::support::root::ZSTD;
use crate::support::sums;

/// The apply of a plan, killed between the exchange and the move of the old tree; gives the run.
fn exchanged(root: &TestRoot) -> String {
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    let aside = root.path("srv/.abssctl/displaced");
    killed_at(root, &["apply", plan.to_str().unwrap(), "--yes"], &aside, "renameat2");
    let run = newest(root);
    assert_eq!(run["outcome"], "interrupted", "{run:#}");
    root.assert_generation("gen-a.sha256");
    run["run"].as_str().unwrap().to_owned()
}

fn journal_of(root: &TestRoot, run: &str) -> std::path::PathBuf {
    root.path("var/lib/abssctl/runs").join(run).join("journal.jsonl")
}

/// Rewrites the records of a run's journal.
fn edit(root: &TestRoot, run: &str, change: impl FnMut(&mut Value)) {
    let path = journal_of(root, run);
    let edited = rewritten(&std::fs::read(&path).unwrap(), change);
    std::fs::write(path, edited).unwrap();
}

/// The old tree lies in staging still, whole.
fn old_tree_is_there(root: &TestRoot, run: &str) {
    let old = root.path("srv/.abssctl/staging").join(run).join("data");
    sums::assert_generation(&old, "gen-b.sha256");
}

#[test]
fn a_journal_that_lost_its_end_makes_nobody_delete_the_old_tree() {
    if skip("a_journal_that_lost_its_end_makes_nobody_delete_the_old_tree") {
        return;
    }
    let root = TestRoot::new();
    let run = exchanged(&root);
    let path = journal_of(&root, &run);
    let whole = std::fs::read(&path).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let swap = lines.iter().position(|line| line.contains("stagedAt")).unwrap();
    assert_eq!(swap + 1, lines.len(), "the record of the swap is the last one");
    // One byte; the whole record; the record of the step's beginning too.
    for length in [whole.len() - 1, lines[..swap].concat().len(), lines[..swap - 1].concat().len()] {
        for command in [&["run", "recover"][..], &["run", "rollback", &run, "--yes"]] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let ran = root.run(command);
            assert_eq!(ran.code, 7, "{}{}", ran.stdout, ran.stderr);
            // A long message is broken into lines.
            let said = (ran.stdout + &ran.stderr).replace('│', "");
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(said.contains("its end is lost") && said.contains("staging"), "{said}");
            old_tree_is_there(&root, &run);
        }
    }
    // A zero in the middle of the last record is damage, and no record that was never written.
    let mut zero = whole.clone();
    let at = zero.len() - 30;
    zero[at] = 0;
    std::fs::write(&path, zero).unwrap();
    let _ = root.run(&["run", "rollback", &run, "--yes"]).code(7).says("is damaged");
    old_tree_is_there(&root, &run);
    // With its end it goes on.
    std::fs::write(&path, whole).unwrap();
    let _ = root.run(&["run", "resume", &run, "--yes"]).ok();
    root.assert_generation("gen-a.sha256");
}

#[test]
fn a_journal_that_names_other_places_than_its_plan_moves_nothing() {
    if skip("a_journal_that_names_other_places_than_its_plan_moves_nothing") {
        return;
    }
    let root = TestRoot::new();
    let run = exchanged(&root);
    let path = journal_of(&root, &run);
    let whole = std::fs::read(&path).unwrap();
    for (key, value) in [
        ("displacedAt", json!("/srv/.abssctl/displaced/other")),
        ("stagedAt", json!("/srv/.abssctl/staging/other/data")),
        ("from", json!("/srv/.abssctl/displaced/other")),
        ("live", json!({ "device": 1, "inode": 2 })),
    ] {
        std::fs::write(&path, &whole).unwrap();
        edit(&root, &run, |record| {
            if let Some(swap) = record.pointer_mut("/event/stepFact/fact/swap") {
                swap[key] = value.clone();
            }
        });
        let _ = root.run(&["run", "rollback", &run, "--yes"]).code(7).says("than its plan");
        root.assert_generation("gen-a.sha256");
        old_tree_is_there(&root, &run);
    }
}

#[test]
fn a_journal_that_names_another_tree_prunes_nothing() {
    let root = TestRoot::new();
    let result = root.apply(&root.plan(&[ZSTD, "--no-pre-backup"])).ok().json();
    let run = result["run"].as_str().unwrap();
    let displaced = root.path(result["displaced"].as_str().unwrap().trim_start_matches('/'));
    for place in ["/srv/.abssctl/displaced", "/srv", "/"] {
        edit(&root, run, |record| {
            if let Some(swap) = record.pointer_mut("/event/stepFact/fact/swap") {
                swap["displacedAt"] = json!(place);
            }
        });
        let _ = root.run(&["run", "prune", "--older-than", "0s", "--yes"]).ok();
        assert!(displaced.join("data").is_dir());
        root.assert_generation("gen-a.sha256");
    }
}

#[test]
fn a_tree_that_an_unfinished_rollback_goes_back_to_is_not_pruned() {
    if skip("a_tree_that_an_unfinished_rollback_goes_back_to_is_not_pruned") {
        return;
    }
    let root = TestRoot::new();
    let first = root.apply(&root.plan(&[ZSTD, "--no-pre-backup"])).ok().json();
    let run = first["run"].as_str().unwrap();
    let backups = root.path("srv/backups/budget");
    // In its pre-backup, long before it takes the tree.
    killed_at(&root, &["run", "rollback", run, "--yes"], &backups, "mkdirat,renameat2,renameat");
    let back = newest(&root);
    assert_eq!(back["outcome"], "interrupted", "{back:#}");
    let _ = root.run(&["run", "prune", "--older-than", "0s", "--yes"]).ok();
    let displaced = root.path(first["displaced"].as_str().unwrap().trim_start_matches('/'));
    assert!(displaced.join("data").is_dir(), "it goes back to it");
    let _ = root.run(&["run", "resume", back["run"].as_str().unwrap(), "--yes"]).ok();
    root.assert_generation("gen-b.sha256");
}
