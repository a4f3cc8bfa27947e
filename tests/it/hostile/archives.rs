//! Archives that must not be unpacked. Each one is met twice: by the planner, and (with a plan forged to
//! agree) by the step that unpacks.

use tar::EntryType;

use crate::support::TestRoot;
use crate::support::archive::{MADE, Member, gzip, make, members, register, tar, zstd};
use crate::support::forge;
use crate::support::root::LIVE;
use crate::support::strace::Stopped;

/// Both guards refuse the archive with this code, the message naming `words`; nothing is changed.
fn refused(root: &TestRoot, code: &str, words: &[&str], put: impl Fn(&TestRoot)) {
    let plan = forge::plan_for(root, &put);
    // Only the files of the root count: the forged pair is there before the first picture.
    let before = root.tree();
    let planned = root.json(&["plan", "restore", MADE, "-o", "-"]);
    let _ = planned.error(2, code, words);
    let _ = root.json(&["backup", "restore", MADE, "--yes"]).error(2, code, words);
    before.assert_same(&root.tree(), "planning for a hostile archive");

    let before = root.tree_but_records();
    rolled_back(root, &plan, 4, code, words);
    before.assert_same(&root.tree_but_records(), "unpacking a hostile archive");
    root.assert_no_private();
}

/// The plan is begun and undone; the cause has this code.
fn rolled_back(root: &TestRoot, plan: &std::path::Path, exit: i32, code: &str, words: &[&str]) {
    let lines = root.log().len();
    let ran = root.apply(plan);
    let error = ran.error(exit, "abssctl::apply::rolled_back", words);
    assert_eq!(error["cause"]["code"], code, "{error:#}");
    assert_eq!(error["result"]["outcome"], "rolled_back");
    assert_eq!(root.runs()[0]["outcome"], "rolled_back");
    let log = root.log();
    assert_eq!(log.len(), lines + 1);
    assert_eq!(log[lines]["rc"], exit);
    assert_eq!(log[lines]["result"]["status"], "error");
}

/// The harmless members and these after them.
fn with(root: &TestRoot, more: &[Member]) {
    let mut all = members(root);
    all.extend_from_slice(more);
    make(root, &all);
}

fn plain(name: &str) -> Member {
    Member::new(name, EntryType::Regular, "", b"evil")
}

#[test]
fn names_that_lead_out_of_the_archive() {
    let root = TestRoot::new();
    for name in [
        format!("{MADE}/data/../../../../../etc/evil"),
        "../evil".to_owned(),
        format!("{MADE}/data/./x"),
        "/etc/evil".to_owned(),
        format!("//{MADE}/data/evil"),
    ] {
        refused(&root, "abssctl::archive::bad_name", &["bad name"], |root| with(root, &[plain(&name)]));
    }
    for name in ["elsewhere/data/evil".to_owned(), format!("{MADE}-more/evil")] {
        refused(&root, "abssctl::archive::foreign_top", &[&name], |root| with(root, &[plain(&name)]));
    }
    assert!(!root.path("etc/evil").exists());
}

#[test]
fn symbolic_links_that_lead_out() {
    let root = TestRoot::new();
    for target in ["/etc", "../../../../etc", "../../..", "sub/../../../x"] {
        let link = Member::symlink("data/trick", target);
        refused(&root, "abssctl::archive::escaping_link", &["data/trick", target], |root| {
            with(root, std::slice::from_ref(&link));
        });
    }
    let outside = Member::symlink("metadata/trick", "instance.json");
    refused(&root, "abssctl::archive::escaping_link", &["metadata/trick"], |root| {
        with(root, std::slice::from_ref(&outside));
    });
}

#[test]
fn files_through_a_link() {
    let root = TestRoot::new();
    let through = [Member::symlink("data/here", "data"), Member::file("data/here/config.json", b"evil")];
    refused(&root, "abssctl::archive::below_non_directory", &["data/here"], |root| with(root, &through));
    let below_file = [Member::file("data/plain", b"x"), Member::file("data/plain/x", b"evil")];
    refused(&root, "abssctl::archive::below_non_directory", &["data/plain"], |root| with(root, &below_file));
}

#[test]
fn hard_links_to_what_is_no_file_of_the_archive() {
    let root = TestRoot::new();
    let link = |target: &str| Member::new(&format!("{MADE}/data/hard"), EntryType::Link, target, b"");
    for target in ["/etc/passwd", "../../etc/passwd", "elsewhere/x"] {
        let ran = |root: &TestRoot| with(root, &[link(target)]);
        refused(&root, "abssctl::archive::bad_hard_link", &["data/hard"], ran);
    }
    let missing = format!("{MADE}/data/not-there");
    refused(&root, "abssctl::archive::bad_hard_link", &["data/hard"], |root| with(root, &[link(&missing)]));
    let soft = Member::symlink("data/soft", "data/config.json");
    let to_link = format!("{MADE}/data/soft");
    refused(&root, "abssctl::archive::bad_hard_link", &["data/soft"], |root| {
        with(root, &[soft.clone(), link(&to_link)]);
    });
}

#[test]
fn devices_and_pipes() {
    let root = TestRoot::new();
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let member = Member::new(&format!("{MADE}/data/odd"), kind, "", b"");
        refused(&root, "abssctl::archive::unsupported_type", &["data/odd"], |root| {
            with(root, std::slice::from_ref(&member));
        });
    }
}

#[test]
fn two_members_of_one_name() {
    let root = TestRoot::new();
    let twice = [Member::file("data/data/config.json", b"{}")];
    refused(&root, "abssctl::archive::duplicate", &["data/data/config.json"], |root| with(root, &twice));
    let folder = Member::new(&format!("{MADE}/data/data/config.json/"), EntryType::Directory, "", b"");
    refused(&root, "abssctl::archive::duplicate", &["data/data/config.json"], |root| {
        with(root, std::slice::from_ref(&folder));
    });
}

#[test]
fn a_gigabyte_in_a_small_archive() {
    let root = TestRoot::new();
    let block = zstd(&vec![0_u8; 16 << 20]);
    let mut header = tar::Header::new_gnu();
    header.set_path(format!("{MADE}/data/bomb")).unwrap();
    header.set_size(1 << 30);
    header.set_mode(0o640);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut bytes = Vec::new();
    let without_end = {
        let plain = tar(&members(&root));
        let end = plain.len() - 1024;
        plain[..end].to_vec()
    };
    bytes.extend(zstd(&[&without_end[..], header.as_bytes()].concat()));
    for _ in 0..64 {
        bytes.extend_from_slice(&block);
    }
    bytes.extend(zstd(&[0; 1024]));
    assert!(bytes.len() < 200_000, "a small archive: {}", bytes.len());
    refused(&root, "abssctl::archive::too_large", &["bytes"], |root| register(root, MADE, "zstd", &bytes));
}

#[test]
fn more_members_than_the_plan_says() {
    let root = TestRoot::new();
    let mut many: Vec<Member> = (0..50).map(|n| Member::file(&format!("data/more/{n}"), b"")).collect();
    let plan = forge::plan_for(&root, |root| with(root, &many));
    let refused = root.apply(&plan).refused(2, &["preview-untrue"; 10]);
    assert!(refused["problems"].to_string().contains("observed.backup.entries"), "{refused:#}");
    // Behind the fifty, one that makes the planner look away: the step's own limit stops before it.
    many.push(Member::file("../x", b""));
    let plan = forge::plan_for(&root, |root| with(root, &many));
    let before = root.tree_but_records();
    rolled_back(&root, &plan, 4, "abssctl::archive::too_large", &["entries"]);
    before.assert_same(&root.tree_but_records(), "more members than planned");
    root.assert_no_private();
}

#[test]
fn archives_that_are_cut_off() {
    let root = TestRoot::new();
    let plain = tar(&members(&root));
    let (middle, end) = (plain.len() / 2, plain.len() - 1024);
    for (algorithm, bytes) in [
        ("none", plain[..middle].to_vec()),
        ("none", plain[..end].to_vec()),
        ("zstd", {
            let all = zstd(&plain);
            all[..all.len() / 2].to_vec()
        }),
        ("zstd", zstd(&plain[..middle])),
        ("gzip", {
            let all = gzip(&plain);
            all[..all.len() / 2].to_vec()
        }),
        ("gzip", gzip(&plain[..middle])),
    ] {
        let planned_as = algorithm;
        register(&root, MADE, planned_as, &bytes);
        let before = root.tree();
        let _ = root.json(&["plan", "restore", MADE, "-o", "-"]).error(
            2,
            "abssctl::archive::truncated",
            &["cut off"],
        );
        before.assert_same(&root.tree(), "a truncated archive");
    }
    let half = zstd(&plain[..middle]);
    refused(&root, "abssctl::archive::truncated", &["cut off"], |root| register(root, MADE, "zstd", &half));
}

#[test]
fn archives_that_are_no_archives() {
    let root = TestRoot::new();
    let plain = tar(&members(&root));
    for (algorithm, bytes) in [
        ("zstd", b"this is no archive at all, only some text".to_vec()),
        ("gzip", zstd(&plain)),
        ("none", vec![0x41; 10240]),
        ("zstd", zstd(&[0x41; 10240])),
        ("zstd", {
            let mut all = zstd(&plain);
            all[4..64].fill(0x55);
            all
        }),
    ] {
        register(&root, MADE, algorithm, &bytes);
        let before = root.tree();
        let object = root.json(&["plan", "restore", MADE, "-o", "-"]);
        let code = object.json()["code"].as_str().unwrap_or_default().to_owned();
        assert!(
            ["abssctl::archive::corrupt", "abssctl::archive::malformed", "abssctl::archive::truncated"]
                .contains(&code.as_str()),
            "{algorithm}: {}",
            object.stdout
        );
        let _ = object.code(2);
        before.assert_same(&root.tree(), "no archive");
    }
    let mut more = zstd(&plain);
    more.extend_from_slice(&zstd(b"and something after the end"));
    refused(&root, "abssctl::archive::trailing_data", &["after its end"], |root| {
        register(root, MADE, "zstd", &more);
    });
}

/// What only a look into the unpacked tree can tell: planned, begun, undone.
fn unsound(root: &TestRoot, code: &str, words: &[&str], change: impl FnOnce(&mut Vec<Member>)) {
    let mut all = members(root);
    change(&mut all);
    make(root, &all);
    let plan = root.plan(&[MADE]);
    let before = root.tree_but_records();
    rolled_back(root, &plan, 4, code, words);
    before.assert_same(&root.tree_but_records(), "an unsound backup");
    root.assert_no_private();
    root.assert_generation("gen-b.sha256");
}

fn member<'m>(all: &'m mut [Member], end: &str) -> &'m mut Member {
    let found = all.iter_mut().find(|member| member.below().ends_with(end));
    found.unwrap_or_else(|| panic!("no member ends with {end}"))
}

#[test]
fn databases_that_are_damaged_inside() {
    let root = TestRoot::new();
    // The header stays sound, so that only a look at every page can tell.
    unsound(&root, "abssctl::step::database", &["account.sqlite"], |all| {
        let bytes = &mut member(all, "account.sqlite").bytes;
        let length = bytes.len();
        bytes[8192..length - 4096].fill(0xa5);
    });
    unsound(&root, "abssctl::step::database", &["group-"], |all| {
        let bytes = &mut member(all, "bec4983.sqlite").bytes;
        let length = bytes.len();
        bytes[4096..length - 4096].fill(0xa5);
    });
}

#[test]
fn databases_that_are_none() {
    let root = TestRoot::new();
    unsound(&root, "abssctl::step::unsound", &["bec4983.sqlite", "not a SQLite database"], |all| {
        member(all, "bec4983.sqlite").bytes = b"just some text in place of a database".to_vec();
    });
    unsound(&root, "abssctl::step::unsound", &["account.sqlite"], |all| {
        member(all, "account.sqlite").bytes = b"just some text in place of a database".to_vec();
    });
    unsound(&root, "abssctl::step::unsound", &["account.sqlite"], |all| {
        all.retain(|member| !member.below().ends_with("account.sqlite"));
    });
}

#[test]
fn budgets_that_lack_a_part() {
    let root = TestRoot::new();
    let before = root.tree_but_records();
    for (end, words) in [(".blob", "has no blob"), ("bec4983.sqlite", "has no group database")] {
        let mut all = members(&root);
        all.retain(|member| !member.below().ends_with(end));
        make(&root, &all);
        let plan = root.plan(&[MADE]);
        let ran = root.apply(&plan);
        let _ = ran.refused(2, &["backup-incomplete"]);
        let _ = ran.error(2, "abssctl::apply::refused", &["Household", words]);
    }
    let list = ["srv/backups"];
    before.without(&list).assert_same(&root.tree_but_records().without(&list), "an incomplete backup");
    let mut empty = rusqlite::Connection::open_in_memory().unwrap();
    empty.execute_batch("CREATE TABLE other(x)").unwrap();
    let bytes = empty.serialize("main").unwrap().to_vec();
    unsound(&root, "abssctl::step::unsound", &["no table"], |all| {
        member(all, "bec4983.sqlite").bytes = bytes.clone();
    });
}

#[test]
fn a_manifest_that_lies() {
    let root = TestRoot::new();
    let manifest = Member::file("metadata/manifest.json", b"{\"not\": \"a manifest\"}");
    refused(&root, "abssctl::archive::bad_manifest", &["manifest"], |root| {
        with(root, std::slice::from_ref(&manifest));
    });
}

#[test]
fn bits_flipped_after_planning_stop_the_run_before_anything_live() {
    let root = TestRoot::new();
    let made = root.json(&["backup", "create", "budget", "--compression", "none"]).ok().json();
    let id = made["id"].as_str().unwrap();
    let plan = root.plan(&[id]);
    let path = root.path(made["archive"].as_str().unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let before = root.tree_but_records();
    rolled_back(&root, &plan, 4, "abssctl::step::checksum", &["SHA-256"]);
    before.assert_same(&root.tree_but_records(), "a flipped bit");
    root.assert_no_private();
}

#[test]
fn nobody_sees_a_half_of_what_is_unpacked() {
    // Whatever is unpacked lies where only the owner of the staging directory can look.
    use std::os::unix::fs::PermissionsExt as _;
    let root = TestRoot::new();
    let plan = root.plan(&["20261124-022632-budget-fc166c"]);
    let command = root.command(&["apply", plan.to_str().unwrap(), "--yes"]);
    let stopped = Stopped::after(&command, "syncfs", None);
    let staging = root.path("srv/.abssctl/staging");
    let seen = std::fs::read_dir(staging).unwrap().next().unwrap().unwrap().path();
    assert!(seen.join("data/data").exists());
    for directory in [seen.as_path(), seen.parent().unwrap(), &root.path("srv/.abssctl")] {
        let mode = std::fs::metadata(directory).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", directory.display());
    }
    assert!(root.path(LIVE).is_dir());
    let _ = stopped.end().ok();
}
