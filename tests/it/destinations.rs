//! What must never be replaced is refused as a destination, however its path is written; what stands
//! beside a target under this program's own name must be this program's own.

use std::os::unix::fs::symlink;

use crate::support::root::{LIVE, REGISTRY, ZSTD};
use crate::support::tools::{have, is_root, skip_unless, tool};
use crate::support::{Ran, TestRoot};

#[test]
fn no_directory_of_the_program_is_a_destination() {
    let root = TestRoot::new();
    let before = root.tree();
    for dest in
        ["/", "/srv", "/srv/backups", "/srv/backups/x", "/var/lib/abssctl", "/srv/budget/data", "/run"]
    {
        let refused = root.json(&["plan", "restore", ZSTD, "--dest", dest, "-o", "-"]);
        let _ = refused.error(2, "abssctl::planner::target", &["cannot be a target"]);
    }
    for dest in ["relative", "/srv/../etc"] {
        let refused = root.json(&["plan", "restore", ZSTD, "--dest", dest, "-o", "-"]);
        assert_eq!(refused.code, 2, "{dest}: {}", refused.stderr);
    }
    before.assert_same(&root.tree(), "destinations that are refused");
}

/// Adds an instance `shop` to the registry, in a directory of its own.
fn add_shop(root: &TestRoot, directory: &str) {
    let _ = tool("cp", &["-a", root.path(LIVE).to_str().unwrap(), root.path(directory).to_str().unwrap()]);
    let text = root.read(REGISTRY);
    let entry = text.split_once("instances:\n").unwrap().1.replace("budget", "shop");
    root.write(REGISTRY, text + &entry.replace("/srv/shop", directory));
}

#[test]
fn no_other_instance_is_a_destination_whatever_its_path_looks_like() {
    let root = TestRoot::new();
    add_shop(&root, "/srv/shop");
    symlink("srv", root.path("mnt")).unwrap();
    let before = root.tree();
    for (dest, words) in [
        ("/srv/shop", "instance shop lives in /srv/shop"),
        ("/srv/shop/data", "instance shop lives in /srv/shop"),
        ("/mnt/shop", "instance shop lives in /srv/shop"),
        ("/mnt/shop/data/new", "instance shop lives in /srv/shop"),
        ("/mnt/budget/data", "the instance lives in /srv/budget"),
        ("/mnt/budget", "it is the instance's own directory"),
        ("/mnt/backups/budget/evil", "the backups lie in /srv/backups"),
        ("/mnt", "the backups lie in /srv/backups"),
    ] {
        let refused = root.json(&["plan", "restore", ZSTD, "--dest", dest, "-o", "-"]);
        let _ = refused.error(2, "abssctl::planner::target", &[dest, words]);
    }
    let own = root.json(&["plan", "restore", ZSTD, "--dest", "/srv/budget"]);
    let own = own.error(2, "abssctl::planner::target", &["own directory"]);
    assert!(own["help"].as_str().unwrap().contains("leave out --dest"), "{own:#}");
    before.assert_same(&root.tree(), "destinations that are refused");
}

#[test]
fn a_directory_that_becomes_an_instance_after_the_plan_is_refused() {
    let root = TestRoot::new();
    let _ = root.restore(&[ZSTD, "--dest", "/srv/copy"]);
    symlink("srv", root.path("mnt")).unwrap();
    let plan = root.plan(&[ZSTD, "--dest", "/mnt/copy"]);
    let text = root.read(REGISTRY);
    let entry = text.split_once("instances:\n").unwrap().1.replace("budget", "copy");
    root.write(REGISTRY, text + &entry);
    let before = root.tree();
    let refused = root.apply(&plan).refused(2, &["target-forbidden"]);
    assert!(refused["problems"][0]["message"].as_str().unwrap().contains("instance copy lives in /srv/copy"));
    before.assert_same(&root.tree(), "another instance");
}

/// A name of this program beside the target that is not its own: refused before anything is written.
fn not_ours(make: impl FnOnce(&TestRoot), words: &[&str]) {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    make(&root);
    let before = root.tree();
    let object = root.apply(&plan).refused(3, &["private-directory"]);
    let message = object["problems"][0]["message"].as_str().unwrap();
    for word in words {
        assert!(message.contains(word), "{message}");
    }
    let _ = root.json(&["plan", "check", plan.to_str().unwrap()]).refused(3, &["private-directory"]);
    before.assert_same(&root.tree(), "a private directory that is not ours");
}

#[test]
fn a_private_directory_that_is_a_link() {
    for name in ["srv/.abssctl", "srv/.abssctl/staging", "srv/.abssctl/displaced"] {
        not_ours(
            |root| {
                std::fs::create_dir(root.path("elsewhere")).unwrap();
                let name = root.path(name);
                let parent = name.parent().unwrap();
                if !parent.exists() {
                    std::fs::create_dir(parent).unwrap();
                }
                symlink("/elsewhere", name).unwrap();
            },
            &[name, "symbolic link"],
        );
    }
}

#[test]
fn a_private_directory_that_others_may_write_to() {
    not_ours(
        |root| {
            std::fs::create_dir(root.path("srv/.abssctl")).unwrap();
            let _ = tool("chmod", &["0770", root.path("srv/.abssctl").to_str().unwrap()]);
        },
        &["srv/.abssctl", "0770"],
    );
}

#[test]
fn a_private_directory_that_is_a_file() {
    not_ours(|root| root.write("srv/.abssctl", ""), &["srv/.abssctl", "not a directory"]);
}

#[test]
fn a_private_directory_of_somebody_else() {
    if skip_unless("a_private_directory_of_somebody_else", is_root(), "needs root, to give files away") {
        return;
    }
    not_ours(
        |root| {
            std::fs::create_dir(root.path("srv/.abssctl")).unwrap();
            let _ = tool("chown", &["12345", root.path("srv/.abssctl").to_str().unwrap()]);
        },
        &["srv/.abssctl", "12345"],
    );
}

#[test]
fn a_displaced_directory_that_was_moved_elsewhere() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let _ = root.apply(&plan).ok();
    let plan = root.plan(&[ZSTD, "--no-pre-backup"]);
    // The displaced tree of the first run stays, so that the directory is not empty and not removed.
    std::fs::rename(root.path("srv/.abssctl/displaced"), root.path("aside")).unwrap();
    symlink("/aside", root.path("srv/.abssctl/displaced")).unwrap();
    let before = root.tree();
    let _ = root.apply(&plan).refused(3, &["private-directory"]);
    before.assert_same(&root.tree(), "a displaced directory that is elsewhere");
}

#[test]
fn a_fifo_in_the_target_stops_nobody() {
    for name in [".migrate", "config.json"] {
        let root = TestRoot::new();
        let path = root.path("srv/budget/data").join(name);
        std::fs::remove_file(&path).unwrap();
        let _ = tool("mkfifo", &[path.to_str().unwrap()]);
        let mut command = std::process::Command::new("timeout");
        let plan = root.command(&["plan", "restore", ZSTD, "--json", "-o", "-"]);
        command.arg("20").arg(plan.get_program()).args(plan.get_args()).env_clear();
        command.envs(plan.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ran = Ran::of(&mut command);
        assert_eq!(ran.code, 0, "{name}: {}", ran.stderr);
    }
}

/// What docs/install.md says of root with fewer rights.
#[test]
fn three_capabilities_suffice_for_a_restore_and_two_do_not() {
    let test = "three_capabilities_suffice_for_a_restore_and_two_do_not";
    if skip_unless(test, is_root() && have("setpriv"), "needs root and setpriv, to have fewer rights") {
        return;
    }
    let root = TestRoot::new();
    let _ = tool("chown", &["-R", "4321:4321", root.path("srv/budget").to_str().unwrap()]);
    let _ = tool("chmod", &["700", root.path("srv/budget").to_str().unwrap()]);
    let plan = root.plan(&[ZSTD]);
    let apply = |capabilities: &str| {
        let program = root.command(&["apply", plan.to_str().unwrap(), "--yes"]);
        let mut command = std::process::Command::new("setpriv");
        command
            .arg(format!("--bounding-set=-all{capabilities}"))
            .arg(format!("--inh-caps=-all{capabilities}"));
        command.arg(program.get_program()).args(program.get_args());
        Ran::of(&mut command)
    };
    let _ = apply(",+chown,+dac_override").code(4).says("Operation not permitted");
    let _ = apply(",+chown,+dac_override,+fowner").ok();
    root.assert_generation("gen-a.sha256");
    let owner = std::fs::metadata(root.path("srv/budget/data/server-files/account.sqlite")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 4321);
}
