//! A backup is an archive that other programs read too, consistent also while the server writes.

use std::path::{Path, PathBuf};
use std::process::Command;

use abssctl::archive::{Entry, EntryKind, Manifest};
use serde_json::Value;

use crate::support::root::{DATA_ONLY, GZIP, INDEX, LIVE, NONE, REGISTRY, Running, ZSTD};
use crate::support::sums;
use crate::support::tools::{fixture, have, noise, skip_unless, tool, tool_in, wait_for};
use crate::support::tree::Tree;
use crate::support::{Ran, TestRoot};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn create(root: &TestRoot, args: &[&str]) -> Value {
    let mut all = vec!["backup", "create", "budget"];
    all.extend(args);
    root.json(&all).ok().json()
}

fn archive(root: &TestRoot, made: &Value) -> PathBuf {
    root.path(made["archive"].as_str().unwrap())
}

/// Unpacks an archive with GNU tar; gives the directory of the backup's id.
fn untar(root: &TestRoot, made: &Value) -> PathBuf {
    let id = made["id"].as_str().unwrap();
    let directory = root.work(&format!("untar-{id}"));
    std::fs::create_dir(&directory).unwrap();
    let how = match made["algorithm"].as_str().unwrap() {
        "zstd" => "--zstd",
        "gzip" => "--gzip",
        _ => "--numeric-owner",
    };
    let (archive, to) = (archive(root, made), directory.to_str().unwrap());
    let _ = tool("tar", &[how, "--xattrs", "-xpf", archive.to_str().unwrap(), "-C", to]);
    let entries: Vec<_> =
        std::fs::read_dir(&directory).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(entries, [id], "one directory at the top");
    directory.join(id)
}

#[test]
fn what_create_says_is_what_there_is() {
    let root = TestRoot::new();
    let live = root.live();
    let registry = root.read(REGISTRY);
    let made = create(&root, &["--message", "vor dem Umzug: é", "--label", "a", "--label", "b c"]);
    assert_eq!(
        keys(&made),
        [
            "id",
            "archive",
            "checksum",
            "size_bytes",
            "algorithm",
            "compression_level",
            "checksum_file",
            "message",
            "labels",
            "data_only",
        ]
    );
    live.assert_same(&root.live(), "backing it up");
    assert_eq!(root.read(REGISTRY), registry);
    let id = made["id"].as_str().unwrap();
    let bytes = std::fs::read(archive(&root, &made)).unwrap();
    assert_eq!(made["size_bytes"], bytes.len());
    assert_eq!(made["checksum"], abssctl::ids::Sha256::of(&bytes).to_string());
    assert_eq!(made["algorithm"], "zstd");
    assert_eq!(made["data_only"], false);
    let text = root.read(made["checksum_file"].as_str().unwrap());
    assert_eq!(text, format!("{}  {id}.tar.zst\n", made["checksum"].as_str().unwrap()));
    let entry = root.entry(id);
    assert_eq!(
        keys(&entry),
        [
            "id",
            "instance",
            "created_at",
            "path",
            "algorithm",
            "size_bytes",
            "checksum",
            "status",
            "metadata",
            "message",
            "created_by",
        ]
    );
    assert_eq!(entry["message"], "vor dem Umzug: é");
    let member = format!("{id}/metadata/manifest.json");
    let manifest = tool("tar", &["-xOf", archive(&root, &made).to_str().unwrap(), &member]).ok().stdout;
    let manifest = abssctl::ids::Sha256::of(manifest.as_bytes());
    let metadata =
        serde_json::json!({ "data_only": false, "labels": ["a", "b c"], "manifest_sha256": manifest });
    assert_eq!(entry["metadata"], metadata);
    let index = root.read(INDEX);
    assert!(index.contains("Umzug: \\u00e9") && index.ends_with("}\n"), "written as the peer does");
    let listed = root.json(&["backup", "list"]).ok().json();
    assert_eq!(listed["backups"][0], entry, "the newest comes first");
    let line = root.log().pop().unwrap();
    assert_eq!((&line["command"], &line["rc"]), (&"backup create".into(), &0.into()));
    assert_eq!(line["result"]["backups"][0], id);
    for (path, mode) in [(archive(&root, &made), 0o640), (root.path("srv/backups/budget"), 0o750)] {
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777,
            mode,
            "{}",
            path.display()
        );
    }
}

#[test]
fn list_and_show_give_the_index_entries() {
    let root = TestRoot::new();
    let before = root.tree();
    let listed = root.json(&["backup", "list"]).ok().json();
    let ids: Vec<&Value> = listed["backups"].as_array().unwrap().iter().map(|entry| &entry["id"]).collect();
    assert_eq!(ids, [DATA_ONLY, NONE, GZIP, ZSTD], "newest first");
    assert_eq!(listed["backups"][3], root.entry(ZSTD));
    let shown = root.json(&["backup", "show", GZIP]).ok().json();
    assert_eq!(shown["backup"], root.entry(GZIP));
    let text = root.run(&["backup", "show", GZIP]).ok().stdout;
    assert!(text.contains("none recorded") && text.contains("nightly"), "{text}");
    let other = root.json(&["backup", "list", "--instance", "other"]);
    let _ = other.error(2, "abssctl::registry::unknown_instance", &["other"]);
    before.assert_same(&root.tree(), "looking");
}

#[test]
fn gnu_tar_and_sha256sum_take_every_archive() {
    let root = TestRoot::new();
    std::fs::create_dir_all(root.path("srv/budget/extra/empty")).unwrap();
    let _ = tool("ln", &["-s", "../data", root.path("srv/budget/extra/link").to_str().unwrap()]);
    let _ = tool(
        "touch",
        &["-d", "2001-02-03 04:05:06.5 UTC", root.path("srv/budget/extra/empty").to_str().unwrap()],
    );
    let live = root.live();
    for compression in ["zstd", "gzip", "none", "auto"] {
        let made = create(&root, &["--compression", compression]);
        let name = archive(&root, &made);
        let name = name.file_name().unwrap().to_str().unwrap();
        let _ = tool_in(
            &root.path("srv/backups/budget"),
            "sha256sum",
            &["--strict", "-c", &format!("{name}.sha256")],
        );
        let unpacked = untar(&root, &made);
        live.assert_same(&Tree::of(&unpacked.join("data")), compression);
        for path in [
            "metadata/manifest.json",
            "metadata/instance.json",
            "metadata/instances.yml",
            "systemd/abssctl-budget.service",
            "nginx/abssctl-budget.conf",
            "nginx-enabled/abssctl-budget.conf",
        ] {
            assert!(unpacked.join(path).is_file(), "{compression}: {path}");
        }
        let instance = std::fs::read_to_string(unpacked.join("metadata/instance.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&instance).unwrap()["name"], "budget");
    }
}

/// Whatever a file holds and is called, stock programs read the archive without this one.
#[test]
fn stock_programs_read_an_archive_of_many_frames() {
    if skip_unless("stock_programs_read_an_archive_of_many_frames", have("zstd"), "zstd is missing") {
        return;
    }
    let root = TestRoot::new();
    let odd = ["-rf", "two words ", "line\nbreak", "\"quoted\" 'twice' \\n", "é", "*", "ends in.tar.zst"];
    for (name, content) in [("large", noise(8 << 20)), ("even", vec![0; 3 << 20]), ("block", vec![7; 512])] {
        root.write(Path::new("srv/budget").join(name), content);
    }
    let _ = tool("mkdir", &[root.path("srv/budget/odd").to_str().unwrap()]);
    let not_utf8 = std::os::unix::ffi::OsStrExt::from_bytes(&b"bad\xff"[..]);
    let long = "l".repeat(255);
    for name in odd.iter().map(std::ffi::OsStr::new).chain([not_utf8, long.as_ref()]) {
        root.write(Path::new("srv/budget/odd").join(name), "");
        root.write(Path::new("srv/budget").join(name), name.as_encoded_bytes());
    }
    let at = |name: &str| root.path("srv/budget").join(name);
    std::fs::hard_link(at("large"), at("odd/hard link")).unwrap();
    std::os::unix::fs::symlink("../two words ", at("odd/symbolic -> link")).unwrap();
    let live = root.live();
    let made = create(&root, &[]);
    let path = archive(&root, &made);
    let path = path.to_str().unwrap();
    let _ = tool("zstd", &["-q", "-t", path]);
    assert_many_frames(path);
    assert_listed(&root, &made);
    live.assert_same(&Tree::of(&untar(&root, &made).join("data")), "tar --zstd -xf");
    let plain = root.work("plain.tar");
    let _ = tool("zstd", &["-q", "-d", path, "-o", plain.to_str().unwrap()]);
    let directory = root.work("plain");
    std::fs::create_dir(&directory).unwrap();
    let _ = tool("tar", &["-xpf", plain.to_str().unwrap(), "-C", directory.to_str().unwrap()]);
    let unpacked = directory.join(made["id"].as_str().unwrap()).join("data");
    live.assert_same(&Tree::of(&unpacked), "zstd -d, tar -xf");
}

fn assert_many_frames(archive: &str) {
    let listed = tool("zstd", &["-lv", archive]).stdout;
    let frames = listed.lines().find_map(|line| line.strip_prefix("# Zstandard Frames: "));
    let frames: u32 = frames.unwrap_or_else(|| panic!("{listed}")).trim().parse().unwrap();
    assert!(frames > 8, "{listed}");
    let skippable = listed.lines().find_map(|line| line.strip_prefix("# Skippable Frames: "));
    assert_ne!(skippable.map(str::trim), Some("0"), "the seek table: {listed}");
}

/// What GNU tar lists is what the manifest in the archive says, and stands where it should.
fn assert_listed(root: &TestRoot, made: &Value) {
    let (id, archive) = (made["id"].as_str().unwrap(), archive(root, made));
    // In this locale every byte that is no printable ASCII is escaped.
    let tar = |args: &[&str], member: &[&str]| {
        let mut command = Command::new("tar");
        command.env("LC_ALL", "C").args(args).arg("-f").arg(&archive).args(member);
        Ran::of(&mut command).ok().stdout
    };
    let names = tar(&["--zstd", "-t"], &[]);
    let names: Vec<&str> = names.lines().collect();
    let first = names.iter().find(|name| !name.ends_with('/')).unwrap();
    let place = format!("{id}/metadata/manifest.json");
    assert_eq!(**first, place, "{names:?}");
    // By parts of their paths; escapes sort elsewhere than the bytes that they stand for.
    let data = names.iter().filter(|name| name.contains("/data/") && !name.contains('\\'));
    let data: Vec<Vec<&str>> = data.map(|name| name.split('/').collect()).collect();
    assert!(data.is_sorted(), "members are sorted: {names:?}");
    let manifest = tar(&["--zstd", "-xO"], &[&place]);
    let listed = tar(&["--zstd", "-tv", "--numeric-owner", "--full-time"], &[]);
    let mut listed: Vec<String> = listed
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().take(5).collect();
            // What comes after the time, which is filled up with blanks.
            let name = line.split_once(words[4]).unwrap().1.trim_start();
            format!("{} {} {} {name}", &line[..1], words[1], words[2])
        })
        .filter(|line| !line.ends_with(&place) && !line.ends_with(&format!(" {id}/")))
        .collect();
    let manifest = Manifest::parse(manifest.as_bytes(), &id.parse().unwrap()).unwrap();
    let mut wanted: Vec<String> = manifest.entries.iter().map(|entry| as_tar_lists(id, entry)).collect();
    listed.sort();
    wanted.sort();
    assert_eq!(listed, wanted);
}

fn as_tar_lists(id: &str, entry: &Entry) -> String {
    let escaped = |path: &Path| {
        let bytes = path.as_os_str().as_encoded_bytes().iter();
        let text = bytes.map(|byte| match byte {
            b'\n' => "\\n".to_owned(),
            b'\\' => "\\\\".to_owned(),
            b' '..=b'~' => char::from(*byte).to_string(),
            other => format!("\\{other:03o}"),
        });
        text.collect::<String>()
    };
    let target = entry.target.as_deref().map(escaped).unwrap_or_default();
    let (letter, end) = match entry.kind {
        EntryKind::File => ("-", String::new()),
        EntryKind::Directory => ("d", "/".to_owned()),
        EntryKind::Symlink => ("l", format!(" -> {target}")),
        EntryKind::Hardlink => ("h", format!(" link to {id}/{target}")),
    };
    let owner = format!("{}/{}", entry.uid, entry.gid);
    format!("{letter} {owner} {} {id}/{}{end}", entry.size, escaped(&entry.path))
}

#[test]
fn data_only_leaves_unit_and_vhost_out() {
    let root = TestRoot::new();
    let made = create(&root, &["--data-only"]);
    assert_eq!(made["data_only"], true);
    assert_eq!(root.entry(made["id"].as_str().unwrap())["metadata"]["data_only"], true);
    let unpacked = untar(&root, &made);
    assert!(unpacked.join("metadata/instance.json").is_file());
    for folder in ["systemd", "nginx", "nginx-enabled"] {
        assert!(!unpacked.join(folder).exists(), "{folder}");
    }
    let _ = root.restore(&[ZSTD, "--no-pre-backup"]);
    let _ = root.restore(&[made["id"].as_str().unwrap(), "--no-pre-backup"]);
    root.assert_generation("gen-b.sha256");
}

#[test]
fn levels_are_used_and_wrong_ones_refused_before_any_file_is_made() {
    let root = TestRoot::new();
    let fast = create(&root, &["--compression", "gzip", "--level", "1"]);
    let small = create(&root, &["--compression", "gzip", "--level", "9"]);
    assert!(small["size_bytes"].as_u64() < fast["size_bytes"].as_u64());
    assert_eq!(small["compression_level"], 9);
    assert_eq!(root.entry(small["id"].as_str().unwrap())["compression_level"], 9);
    let root = TestRoot::new();
    let before = root.tree();
    for (compression, level) in [
        ("zstd", "23"),
        ("zstd", "0"),
        ("zstd", "-5"),
        ("gzip", "10"),
        ("gzip", "0"),
        ("none", "1"),
        ("auto", "99"),
    ] {
        let ran = root.json(&["backup", "create", "budget", "--compression", compression, "--level", level]);
        let _ = ran.error(2, "abssctl::backup::level", &[level]);
    }
    let ran = root.json(&["backup", "create", "other"]);
    let _ = ran.error(2, "abssctl::registry::unknown_instance", &["other"]);
    before.assert_same(&root.tree(), "a request that cannot work (lock files count)");
}

#[test]
fn the_configured_compression_is_used() {
    let root = TestRoot::new();
    let config =
        root.read("etc/abssctl/config.yml") + "backups:\n  compression:\n    algorithm: gzip\n    level: 3\n";
    root.write("etc/abssctl/config.yml", config);
    let made = create(&root, &[]);
    assert_eq!((&made["algorithm"], &made["compression_level"]), (&"gzip".into(), &3.into()));
    let mut command = root.command(&["backup", "create", "budget", "--json"]);
    command
        .env("ABSSCTL_BACKUPS__COMPRESSION__ALGORITHM", "none")
        .env("ABSSCTL_BACKUPS__COMPRESSION__LEVEL", "null");
    assert_eq!(Ran::of(&mut command).ok().json()["algorithm"], "none");
}

/// Restores a backup beside the live directory.
fn restored(root: &TestRoot, made: &Value) -> PathBuf {
    let _ = root.restore(&[made["id"].as_str().unwrap(), "--dest", "/srv/copy", "--no-pre-backup"]);
    root.path("srv/copy")
}

fn ask(database: &Path, query: &str) -> String {
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.query_row(query, [], |row| row.get::<_, String>(0)).unwrap()
}

const GROUP: &str = "data/user-files/group-9c8a10f0-de93-44b8-a957-beea9bec4983.sqlite";

#[test]
fn a_backup_while_a_writer_is_busy_is_consistent() {
    if skip_unless("a_backup_while_a_writer_is_busy_is_consistent", have("python3"), "python3 is missing") {
        return;
    }
    // Each transaction writes two rows, one early and one late: a copy that tears one apart has an odd count.
    let code = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
n = 0
while True:
    db.execute('BEGIN IMMEDIATE')
    for half in 'ab':
        db.execute('INSERT INTO messages_binary VALUES (?, 0, ?)', (f'2026-12-01T00:00:00.000Z-{n:08d}-{half}', bytes(3000)))
    db.execute('COMMIT')
    n += 1
    if n == 3:
        print('writes', flush=True)
";
    let root = TestRoot::new();
    let database = root.path(LIVE).join(GROUP);
    let mut writer = Running::start(Command::new("python3").args(["-c", code]).arg(&database));
    let mut line = String::new();
    let out = writer.child().stdout.as_mut().unwrap();
    let _ = std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    assert_eq!(line, "writes\n");
    let made = create(&root, &[]);
    let again = create(&root, &["--compression", "none"]);
    assert!(writer.child().try_wait().unwrap().is_none(), "it went on writing");
    writer.kill();
    let mut counts = Vec::new();
    for made in [made, again] {
        let copy = restored(&root, &made).join(GROUP);
        assert_eq!(ask(&copy, "PRAGMA integrity_check"), "ok");
        let count = "SELECT CAST(count(*) AS TEXT) FROM messages_binary WHERE timestamp >= '2026-12-01'";
        let count: u64 = ask(&copy, count).parse().unwrap();
        assert!(count >= 6 && count.is_multiple_of(2), "{count}");
        counts.push(count);
    }
    assert!(counts[0] <= counts[1], "{counts:?}");
}

/// Puts another instance directory in the live one's place.
fn replace_live(root: &TestRoot, archive: &str) {
    std::fs::remove_dir_all(root.path(LIVE)).unwrap();
    std::fs::create_dir(root.path(LIVE)).unwrap();
    let _ =
        tool("tar", &["-xpf", fixture(archive).to_str().unwrap(), "-C", root.path(LIVE).to_str().unwrap()]);
}

#[test]
fn a_hot_journal_is_rolled_back_in_the_backup_and_stays_in_the_live_tree() {
    let root = TestRoot::new();
    replace_live(&root, "hot-journal.tar.gz");
    let live = root.live();
    let made = create(&root, &[]);
    live.assert_same(&root.live(), "backing up a hot journal");
    sums::assert_generation(&restored(&root, &made), "hot-journal-rolled-back.sha256");
    // And as a pre-backup, which makes the plan for the live directory safe.
    let result = root.restore(&[ZSTD]);
    root.assert_generation("gen-a.sha256");
    live.assert_same(&Tree::of(&root.path(result["displaced"].as_str().unwrap())), "the displaced tree");
    let _ = root.restore(&[result["preBackup"].as_str().unwrap()]);
    root.assert_generation("hot-journal-rolled-back.sha256");
}

#[test]
fn a_hot_journal_in_the_peers_archive_is_rolled_back_when_it_is_restored() {
    let root = TestRoot::new();
    let made = {
        let stage = root.work("20261124-120000-budget-abcdef");
        std::fs::create_dir_all(stage.join("data")).unwrap();
        let _ = tool(
            "tar",
            &[
                "-xpf",
                fixture("hot-journal.tar.gz").to_str().unwrap(),
                "-C",
                stage.join("data").to_str().unwrap(),
            ],
        );
        let out = root.work("hot.tar");
        let _ =
            tool_in(&root.work(""), "tar", &["-cf", out.to_str().unwrap(), "20261124-120000-budget-abcdef"]);
        std::fs::read(out).unwrap()
    };
    crate::support::archive::register(&root, crate::support::archive::MADE, "none", &made);
    let _ = root.restore(&[crate::support::archive::MADE]);
    root.assert_generation("hot-journal-rolled-back.sha256");
}

#[test]
fn a_database_with_a_write_ahead_log_is_backed_up_with_what_is_in_the_log() {
    let root = TestRoot::new();
    let database = root.path(LIVE).join(GROUP);
    // The connection stays open as a server's would, so that the log is not worked in.
    let server = rusqlite::Connection::open(&database).unwrap();
    server.execute_batch("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0;").unwrap();
    server
        .execute_batch("INSERT INTO messages_binary VALUES ('2026-12-01T00:00:00.000Z-0000-x', 0, x'00')")
        .unwrap();
    let log = PathBuf::from(format!("{}-wal", database.display()));
    let length =
        wait_for("the log", || std::fs::metadata(&log).ok().map(|meta| meta.len()).filter(|n| *n > 0));
    let made = create(&root, &[]);
    assert_eq!(std::fs::metadata(&log).unwrap().len(), length, "the live log is as it was");
    let copy = restored(&root, &made);
    let count = "SELECT CAST(count(*) AS TEXT) FROM messages_binary WHERE timestamp >= '2026-12-01'";
    assert_eq!(ask(&copy.join(GROUP), count), "1");
    assert_eq!(ask(&copy.join(GROUP), "PRAGMA integrity_check"), "ok");
    drop(server);
}

#[test]
fn a_changing_tree_of_strange_files_is_refused_or_backed_up_but_never_half() {
    let root = TestRoot::new();
    let pipe = root.path("srv/budget/pipe");
    let _ = tool("mkfifo", &[pipe.to_str().unwrap()]);
    let before = root.tree_but_records();
    let ran = root.json(&["backup", "create", "budget"]);
    let _ = ran.error(2, "abssctl::archive::unsupported_file", &["pipe"]);
    before.assert_same(&root.tree_but_records(), "a pipe in the live tree");
    std::fs::remove_file(pipe).unwrap();
    let _ = create(&root, &[]);
}

/// Verifies one backup; gives its result and proves that the index says the same.
fn verified(root: &TestRoot, id: &str, code: i32) -> Value {
    let ran = root.json(&["backup", "verify", id]).code(code);
    let results = ran.json()["results"].as_array().unwrap().clone();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0]["id"], id);
    assert_eq!(root.entry(id), results[0]["entry"], "the index holds what was said");
    assert_eq!(results[0]["entry"]["status"], results[0]["status"]);
    results[0].clone()
}

#[test]
fn verify_records_what_it_finds_in_the_peers_fields() {
    let root = TestRoot::new();
    let peer: Value =
        serde_json::from_slice(&std::fs::read(fixture("peer/backup-verify.json")).unwrap()).unwrap();
    let peer = &peer["results"][0];
    let before = root.entry(ZSTD);
    let live = root.live();
    let found = verified(&root, ZSTD, 0);
    assert_eq!(keys(&found), keys(peer));
    assert_eq!(found["message"], peer["message"]);
    assert_eq!((&found["status"], &found["previous_status"]), (&"available".into(), &before["status"]));
    let checksum = &found["entry"]["checksum"];
    assert_eq!(keys(checksum), keys(&peer["entry"]["checksum"]));
    assert_eq!(checksum["observed"], before["checksum"]["value"]);
    assert_eq!(checksum["last_verified"], found["entry"]["verified_at"]);
    // Everything else of the entry, and all other entries, are as they were.
    let mut stripped = found["entry"].clone();
    stripped.as_object_mut().unwrap().shift_remove("verified_at");
    stripped["checksum"] = before["checksum"].clone();
    assert_eq!(stripped, before);
    assert!(root.entry(GZIP).get("verified_at").is_none());
    live.assert_same(&root.live(), "backup verify");
    let all = root.run(&["backup", "verify", "--all"]).ok();
    assert!(all.stdout.ends_with("4 checked, 0 not sound\n"), "{}", all.stdout);
}

#[test]
fn verify_tells_what_is_missing_corrupt_or_without_a_true_sidecar() {
    let root = TestRoot::new();
    let path = |id: &str, end: &str| root.path(format!("srv/backups/budget/{id}.{end}"));
    std::fs::remove_file(path(ZSTD, "tar.zst")).unwrap();
    let mut bytes = std::fs::read(path(GZIP, "tar.gz")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path(GZIP, "tar.gz"), &bytes).unwrap();
    let name = format!("{NONE}.tar");
    std::fs::write(path(NONE, "tar.sha256"), format!("{}  {name}\n", "0".repeat(64))).unwrap();

    let missing = verified(&root, ZSTD, 3);
    assert_eq!(missing["status"], "missing");
    let corrupt = verified(&root, GZIP, 3);
    assert_eq!(corrupt["status"], "corrupt");
    let (found, recorded) =
        (&corrupt["entry"]["checksum"]["observed"], &corrupt["entry"]["checksum"]["value"]);
    for digest in [found, recorded] {
        assert!(corrupt["message"].as_str().unwrap().contains(digest.as_str().unwrap()), "{corrupt:#}");
    }
    assert_ne!(found, recorded);
    let sidecar = verified(&root, NONE, 3);
    assert_eq!(sidecar["status"], "corrupt");
    assert!(sidecar["message"].as_str().unwrap().contains("sidecar"), "{sidecar:#}");
    for result in [&missing, &corrupt, &sidecar] {
        assert_eq!(result["entry"]["metadata"]["verification_error"], result["message"]);
    }
    let all = root.run(&["backup", "verify", "--all"]).code(3);
    assert!(all.stdout.ends_with("4 checked, 3 not sound\n"), "{}", all.stdout);
    let _ = root.json(&["plan", "restore", GZIP]).error(2, "abssctl::planner::unusable", &["corrupt"]);

    // What is whole again is found to be so, and the error goes.
    bytes[middle] ^= 1;
    std::fs::write(path(GZIP, "tar.gz"), &bytes).unwrap();
    let again = verified(&root, GZIP, 0);
    assert_eq!((&again["status"], &again["previous_status"]), (&"available".into(), &"corrupt".into()));
    assert!(again["entry"]["metadata"].get("verification_error").is_none(), "{again:#}");
    let _ = root.restore(&[GZIP]);
}

#[test]
fn verify_of_an_archive_that_is_as_recorded_but_cannot_be_read() {
    let root = TestRoot::new();
    crate::support::archive::register(&root, ZSTD, "zstd", b"no archive at all");
    let found = verified(&root, ZSTD, 3);
    assert_eq!(found["status"], "corrupt");
    assert_eq!(found["entry"]["checksum"]["observed"], found["entry"]["checksum"]["value"]);
}

#[test]
fn the_peer_verifies_our_archives() {
    let test = "the_peer_verifies_our_archives";
    let peer = std::env::var_os("ABSSCTL_TEST_PEER");
    let verifies = peer.is_some() && std::env::var_os("ABSSCTL_TEST_PEER_VERIFIES").is_some();
    if skip_unless(
        test,
        verifies,
        "no published peer has 'backup verify'; sha256sum and GNU tar are asked instead",
    ) {
        return;
    }
    let root = TestRoot::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peer.sh");
    for compression in ["zstd", "gzip", "none"] {
        let made = create(&root, &["--compression", compression]);
        let ran = Ran::of(Command::new(&script).arg(root.path("/")).args([
            "backup",
            "verify",
            made["id"].as_str().unwrap(),
            "--json",
        ]));
        assert!(ran.ok().stdout.contains("available"));
    }
    let _ = root.restore(&[ZSTD]);
    let _ = Ran::of(Command::new(&script).arg(root.path("/")).args(["backup", "list", "--json"])).ok();
}
