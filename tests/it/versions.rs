//! The version gate: a backup that the installed server cannot open is refused before anything changes,
//! and rightly so, as the real servers say; one that it migrates is restored, and the plan says it.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use tar::EntryType;

use crate::support::actual::{Client, Program, Server};
use crate::support::archive::{MADE, Member, make, members};
use crate::support::root::{LIVE, REGISTRY, ZSTD};
use crate::support::tools::tool;
use crate::support::{Ran, TestRoot};

/// Where the fixture has its server; nothing but a `package.json` is there.
const PACKAGE: &str = "srv/app/v25.6.0/node_modules/@actual-app/sync-server";
const UNIT: &str = "etc/systemd/system/abssctl-budget.service";

/// What the fixture's data has been through.
const TITLES: [&str; 6] = [
    "1694360000000-create-folders.js",
    "1694360479680-create-account-db.js",
    "1694362247011-create-secret-table.js",
    "1702667624000-rename-nordigen-secrets.js",
    "1718889148000-openid.js",
    "1719409568000-multiuser.js",
];

/// Puts a server with these migrations into a folder.
fn put(root: &TestRoot, package: &str, version: &str, titles: &[&str]) {
    let migrations = root.path(package).join("build/migrations");
    if migrations.exists() {
        std::fs::remove_dir_all(&migrations).unwrap();
    }
    std::fs::create_dir_all(&migrations).unwrap();
    for title in titles {
        std::fs::write(migrations.join(title), "").unwrap();
    }
    root.write(format!("{package}/package.json"), json!({ "version": version }).to_string());
}

/// Installs a real server as the peer does, and makes it the instance's.
fn install(root: &TestRoot, program: &Program) {
    let version = program.version;
    let package = root.path(PACKAGE.replace("25.6.0", version));
    std::fs::create_dir_all(&package).unwrap();
    for part in ["build", "package.json"] {
        let from = program.package().join(part);
        let _ = tool("cp", &["-r", from.to_str().unwrap(), package.to_str().unwrap()]);
    }
    for file in [REGISTRY, UNIT] {
        root.write(file, root.read(file).replace("25.6.0", version));
    }
}

fn document(root: &TestRoot, args: &[&str]) -> Value {
    root.json(&[&["plan", "restore"], args].concat()).ok().json()["plan"].clone()
}

/// Verdict and reason of the gate in a plan.
fn gate(plan: &Value) -> (String, String) {
    let checks = plan["preview"]["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["id"] == "server-migrations").unwrap();
    (check["verdict"].as_str().unwrap().to_owned(), check["why"].as_str().unwrap().to_owned())
}

#[track_caller]
fn judged(root: &TestRoot, verdict: &str, words: &[&str]) -> Value {
    let plan = document(root, &[ZSTD]);
    let (found, why) = gate(&plan);
    assert_eq!(found, verdict, "{why}");
    assert!(words.iter().all(|word| why.contains(word)), "{words:?}: {why}");
    plan
}

fn warned(plan: &Value, code: &str) -> bool {
    plan["preview"]["warnings"].as_array().unwrap().iter().any(|warning| warning["code"] == code)
}

/// The titles that a data directory has been through.
fn record(data: &Path) -> BTreeSet<String> {
    let value: Value = serde_json::from_slice(&std::fs::read(data.join(".migrate")).unwrap()).unwrap();
    let titles = value["migrations"].as_array().unwrap().iter();
    titles.map(|migration| migration["title"].as_str().unwrap().to_owned()).collect()
}

/// The titles that the program finds in the installed server.
fn known(root: &TestRoot) -> BTreeSet<String> {
    let facts = root.run(&["facts", "--instance", "budget"]).ok().json();
    let server = &facts["instances"][0]["server"];
    assert_eq!(server.get("unknown"), None, "{server:#}");
    serde_json::from_value(server["migrations"].clone()).unwrap()
}

/// Plans, and proves that check and apply refuse it and change nothing.
#[track_caller]
fn refused(root: &TestRoot, id: &str, words: &[&str]) {
    let before = root.tree_but_records();
    let path = root.work("plan.json");
    let planned = root.plan_to(&[id], &path).ok();
    assert!(planned.stderr.contains("! apply will refuse this backup"), "{}", planned.stderr);
    let file = path.to_str().unwrap();
    for command in [&["plan", "check", file][..], &["apply", file, "--yes"], &["apply", file, "--dry-run"]] {
        let ran = root.json(command);
        let problems = ran.refused(2, &["server-cannot-open"])["problems"].to_string();
        assert!(words.iter().all(|word| problems.contains(word)), "{words:?}: {problems}");
    }
    before.assert_same(&root.tree_but_records(), "a backup that the server cannot open");
}

/// Restores beside the live directory, where no server runs, and starts a server there.
fn started(root: &TestRoot, id: &str, program: &Program) -> Result<Server, String> {
    let plan = root.plan(&[id, "--dest", "/srv/beside"]);
    let applied = root.apply(&plan).ok().json();
    let warnings = applied["warnings"].to_string();
    assert!(warnings.contains("migrat"), "beside it, the gate warns: {applied:#}");
    Server::try_start(program, &root.path("srv/beside/data"))
}

#[test]
fn what_is_found_in_a_program_is_what_the_server_writes() {
    let test = "what_is_found_in_a_program_is_what_the_server_writes";
    for program in [Program::old(test), Program::new(test)].into_iter().flatten() {
        let root = TestRoot::new();
        install(&root, &program);
        let data = root.work("fresh");
        std::fs::create_dir(&data).unwrap();
        Server::start(&program, &data).stop_content();
        assert_eq!(known(&root), record(&data), "{}", program.version);
        let facts = root.run(&["facts", "--instance", "budget"]).ok().json();
        assert_eq!(facts["instances"][0]["server"]["version"], program.version);
    }
}

#[test]
fn a_backup_of_a_newer_server_is_refused_and_would_not_start() {
    let test = "a_backup_of_a_newer_server_is_refused_and_would_not_start";
    let (Some(old), Some(new)) = (Program::old(test), Program::new(test)) else { return };
    let root = TestRoot::new();
    install(&root, &old);
    Server::start(&new, &root.path(LIVE).join("data")).stop_content();
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    let id = made["id"].as_str().unwrap();
    refused(&root, id, &["1763873568237-server-global-prefs.js", "25.6.0", "metadata/instance.json"]);
    let log = started(&root, id, &old).expect_err("25.6.0 opens what 26.9.0 migrated");
    assert!(log.contains("Missing migration file: 1763873568237-server-global-prefs.js"), "{log}");
    // The other server opens it, and its plan says so.
    install(&root, &new);
    let (verdict, why) = gate(&document(&root, &[id]));
    assert_eq!(verdict, "will", "{why}");
}

#[test]
fn an_older_backup_is_migrated_by_the_server_and_clients_open_it() {
    let test = "an_older_backup_is_migrated_by_the_server_and_clients_open_it";
    let Some(new) = Program::new(test) else { return };
    for clients in ["merge", "reset"] {
        let root = TestRoot::new();
        install(&root, &new);
        let plan = judged(
            &root,
            "will",
            &["26.9.0", "adds 2 migrations by itself", "1763873600000-backfill-files-owner.js"],
        );
        assert!(!warned(&plan, "server-cannot-open"));
        let _ = root.restore(&[ZSTD, "--clients", clients]);
        let data = root.path(LIVE).join("data");
        assert_eq!(record(&data).len(), TITLES.len());
        let server = Server::start(&new, &data);
        assert_eq!(record(&data), known(&root));
        let mut client = Client::new(&new, &server);
        client.download("Household", None);
        assert!(client.notes().len() > 50, "{clients}");
        client.write(1, "life goes on");
        server.stop_content();
    }
}

#[test]
fn a_backup_without_a_record_is_refused_and_would_not_start() {
    let test = "a_backup_without_a_record_is_refused_and_would_not_start";
    for program in [Program::old(test), Program::new(test)].into_iter().flatten() {
        let root = TestRoot::new();
        install(&root, &program);
        let mut all = members(&root);
        all.retain(|member| !member.below().ends_with(".migrate"));
        make(&root, &all);
        refused(&root, MADE, &[".migrate is missing"]);
        let log = started(&root, MADE, &program).expect_err("a migrated state without its record opens");
        assert!(log.contains("no such column") || log.contains("already exists"), "{log}");
    }
}

#[test]
fn a_record_that_no_server_reads_is_refused() {
    let root = TestRoot::new();
    put(&root, PACKAGE, "25.6.0", &TITLES);
    for (record, words) in [
        (&b"{"[..], "it is not JSON"),
        (b"\x1b[31m\xff", "it is not JSON"),
        (b"[]", "'lastRun'"),
        (b"", ".migrate is missing"),
        (&vec![b' '; (1 << 20) + 1], "larger than 1 MiB"),
    ] {
        let mut all = members(&root);
        all.iter_mut().find(|member| member.below().ends_with(".migrate")).unwrap().bytes = record.to_vec();
        make(&root, &all);
        refused(&root, MADE, &[words]);
    }
    let mut all = members(&root);
    all.retain(|member| !member.below().ends_with(".migrate"));
    all.push(Member::symlink("data/data/.migrate", "config.json"));
    make(&root, &all);
    refused(&root, MADE, &["no regular file"]);
}

/// What the planner cannot see without unpacking, the step that looks at the unpacked tree does.
#[test]
fn a_record_that_only_the_unpacked_tree_shows_is_refused_there() {
    let root = TestRoot::new();
    for (titles, code) in [(&TITLES[..], 0), (&TITLES[..5], 4)] {
        put(&root, PACKAGE, "25.6.0", titles);
        let mut all = members(&root);
        let at = all.iter().position(|member| member.below().ends_with(".migrate")).unwrap();
        let record = all.remove(at);
        all.push(Member::file("data/data/record.json", &record.bytes));
        let target = format!("{MADE}/data/data/record.json");
        all.push(Member::new(&format!("{MADE}/data/data/.migrate"), EntryType::Link, &target, b""));
        make(&root, &all);
        let path = root.plan(&[MADE]);
        let plan: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(gate(&plan).0, "not-checked");
        let before = root.live();
        let ran = root.apply(&path).code(code);
        if code != 0 {
            let error = ran.error(code, "abssctl::apply::rolled_back", &["does not know 1 migration"]);
            assert_eq!(error["cause"]["code"], "abssctl::step::unsound");
            before.assert_same(&root.live(), "a backup that the server cannot open");
        }
    }
}

#[test]
fn a_server_that_is_not_known_is_not_checked_and_said() {
    let root = TestRoot::new();
    let plan = judged(&root, "not-checked", &["holds no migrations", PACKAGE]);
    assert_eq!(plan["observed"]["server"]["foundBy"], "registry");
    let path = root.plan(&[ZSTD]);
    let checked = root.json(&["plan", "check", path.to_str().unwrap()]).ok().json();
    assert!(checked["notChecked"].to_string().contains("server-migrations"), "{checked:#}");
    let steps = root.apply(&path).ok().json()["steps"].to_string();
    assert!(steps.contains("migrations not compared"), "{steps}");

    std::fs::remove_dir_all(root.path("srv/app")).unwrap();
    let _ = judged(&root, "not-checked", &["no server was found: version 25.6.0", "/srv/app"]);
}

#[test]
fn the_server_is_found_by_what_runs_it() {
    let root = TestRoot::new();
    put(&root, PACKAGE, "25.6.0", &TITLES);
    let by = |words: &[&str]| judged(&root, "will", words)["observed"]["server"].clone();
    assert_eq!(by(&["25.6.0 (by the registry)"])["foundBy"], "registry");
    // Elsewhere, as versions.yml says.
    std::fs::rename(root.path("srv/app/v25.6.0"), root.path("srv/other")).unwrap();
    let versions = "var/lib/abssctl/registry/versions.yml";
    root.write(versions, root.read(versions).replace("/srv/app/v25.6.0", "/srv/other"));
    assert_eq!(
        by(&["(by versions.yml)"])["directory"],
        format!("/{}", PACKAGE.replace("app/v25.6.0", "other"))
    );
    // As the unit says: the last of its lines, a file of the package itself.
    std::fs::remove_file(root.path(versions)).unwrap();
    let program = format!("/{}/build/bin/actual-server.js", PACKAGE.replace("app/v25.6.0", "other"));
    root.write(
        UNIT,
        format!(
            "[Service]\nExecStart=/nowhere/server.js\nExecStart=\nExecStart=/usr/bin/node \"{program}\"\n"
        ),
    );
    assert_eq!(by(&["(by the unit)"])["foundBy"], "unit");
    // By the link of new instances, where it leads to the version of this one.
    root.write(UNIT, "");
    symlink("/srv/other", root.path("srv/app/current")).unwrap();
    assert_eq!(by(&["(by the link 'current')"])["foundBy"], "current");
    put(&root, &PACKAGE.replace("app/v25.6.0", "other"), "26.9.0", &TITLES);
    let _ = judged(&root, "not-checked", &["version 25.6.0 of the registry was not found"]);
}

#[test]
fn two_servers_of_one_instance_are_not_guessed_about() {
    let root = TestRoot::new();
    put(&root, PACKAGE, "25.6.0", &TITLES);
    put(&root, &PACKAGE.replace("25.6.0", "26.9.0"), "26.9.0", &TITLES[..2]);
    root.write(UNIT, root.read(UNIT).replace("25.6.0", "26.9.0"));
    let _ = judged(&root, "not-checked", &["it is not known which runs", "v25.6.0", "v26.9.0"]);
    // Another name of the same is the same.
    std::fs::remove_dir_all(root.path("srv/app/v26.9.0")).unwrap();
    symlink("v25.6.0", root.path("srv/app/v26.9.0")).unwrap();
    let _ = judged(&root, "will", &["exactly"]);
}

#[test]
fn a_hostile_server_is_read_within_bounds() {
    let root = TestRoot::new();
    put(&root, PACKAGE, "\u{1b}[31m", &[]);
    let build = root.path(PACKAGE).join("build");
    std::fs::remove_dir_all(&build).unwrap();
    // Outside of the package, and outside of the root.
    for target in ["/etc", "../other", root.work("x").to_str().unwrap()] {
        symlink(target, &build).unwrap();
        let plan = judged(&root, "not-checked", &["migrations"]);
        assert_eq!(plan["observed"]["server"].get("version"), None);
        std::fs::remove_file(&build).unwrap();
    }
    let mut deep = build.clone();
    for _ in 0..30 {
        deep.push("d");
    }
    std::fs::create_dir_all(&deep).unwrap();
    let _ = judged(&root, "not-checked", &["more folders in folders than any server"]);
    std::fs::remove_dir_all(&build).unwrap();
    std::fs::create_dir_all(&build).unwrap();
    let _ = tool("mkfifo", &[build.join("fifo.js").to_str().unwrap()]);
    symlink("/etc/passwd", build.join("link.js")).unwrap();
    std::fs::write(build.join("a.js"), "\"migrations/1718889148000-openid.js\u{1b}\", \"migrations/x.js\"")
        .unwrap();
    let _ = judged(&root, "not-checked", &["holds no migrations"]);
    std::fs::File::create(build.join("huge.js")).unwrap().set_len(17 << 20).unwrap();
    let _ = judged(&root, "not-checked", &["larger than"]);
    std::fs::remove_file(build.join("huge.js")).unwrap();
    let flood: String = (0..1001).map(|n| format!("\"migrations/{n:013}-x.js\" ")).collect();
    std::fs::write(build.join("b.js"), flood).unwrap();
    let _ = judged(&root, "not-checked", &["more migrations than any server"]);
}

#[test]
fn only_another_verdict_makes_a_plan_stale() {
    let root = TestRoot::new();
    put(&root, PACKAGE, "25.6.0", &TITLES);
    let path = root.plan(&[ZSTD]);
    let check = || -> Ran { root.json(&["plan", "check", path.to_str().unwrap()]) };
    let _ = check().ok();
    // An update that still opens the backup is told.
    let more = [&TITLES[..], &["1763873568237-server-global-prefs.js"]].concat();
    put(&root, PACKAGE, "25.6.1", &more);
    let warnings = check().ok().json()["warnings"].to_string();
    assert!(
        warnings.contains("the installed server is another one") && warnings.contains("25.6.1"),
        "{warnings}"
    );
    // One that does not is refused, whatever drift the plan allows.
    put(&root, PACKAGE, "25.5.0", &TITLES[..5]);
    let _ = check().refused(2, &["server-cannot-open"]);
    let ignoring = root.work("ignoring.json");
    put(&root, PACKAGE, "25.6.0", &TITLES);
    let _ = root.plan_to(&[ZSTD, "--drift", "ignore"], &ignoring).ok();
    put(&root, PACKAGE, "25.5.0", &TITLES[..5]);
    let _ = root.apply(&ignoring).refused(2, &["server-cannot-open"]);
    // One that cannot be seen any more breaks the promise.
    std::fs::remove_dir_all(root.path(PACKAGE).join("build")).unwrap();
    let _ = check().refused(5, &["server"]);
    // A plan that was refused and would not be now was reviewed as one that is refused.
    put(&root, PACKAGE, "25.5.0", &TITLES[..5]);
    let path = root.plan(&[ZSTD]);
    put(&root, PACKAGE, "25.6.0", &TITLES);
    let _ = root.apply(&path).refused(5, &["server"]);
    // What was not known when the plan was made may be known now.
    std::fs::remove_dir_all(root.path(PACKAGE).join("build")).unwrap();
    let path = root.plan(&[ZSTD]);
    put(&root, PACKAGE, "25.6.0", &TITLES);
    let _ = root.apply(&path).ok();
}

#[test]
fn facts_carry_the_gate() {
    let root = TestRoot::new();
    put(&root, PACKAGE, "25.6.0", &TITLES[..5]);
    let facts = root.work("facts.json");
    let _ = root.run(&["facts", "--backup", ZSTD, "-o", facts.to_str().unwrap()]).ok();
    let there = document(&root, &[ZSTD, "--facts", facts.to_str().unwrap()]);
    let here = document(&root, &[ZSTD]);
    assert_eq!(gate(&there), gate(&here));
    assert_eq!(gate(&there).0, "will-not");
    assert_eq!(there["observed"]["server"], here["observed"]["server"]);
    assert!(warned(&there, "server-cannot-open"));
}

/// What is done to a unit, in words and in deed.
type Change<'a> = (&'a str, Box<dyn Fn(&TestRoot) + 'a>);

#[test]
fn whatever_the_unit_may_start_instead_is_not_judged_by_the_registry() {
    const OTHER: &str = "srv/other/node_modules/@actual-app/sync-server";
    let other = format!("/{OTHER}/app.js");
    let line = |root: &TestRoot, new: &str| {
        let unit = root.read(UNIT);
        let old = unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap().to_owned();
        root.write(UNIT, unit.replace(&old, new));
    };
    let changes: [Change<'_>; 3] = [
        ("blanks", Box::new(|root| line(root, &format!("ExecStart = /usr/bin/node {other}")))),
        ("a continued line", Box::new(|root| line(root, &format!("ExecStart=/usr/bin/node \\\n  {other}")))),
        (
            "a drop-in",
            Box::new(|root| {
                let folder = root.path(format!("{UNIT}.d"));
                std::fs::create_dir_all(&folder).unwrap();
                let text = format!("[Service]\nExecStart=\nExecStart=/usr/bin/node {other}\n");
                std::fs::write(folder.join("o.conf"), text).unwrap();
            }),
        ),
    ];
    for (what, change) in changes {
        let root = TestRoot::new();
        put(&root, PACKAGE, "25.6.0", &TITLES);
        put(&root, OTHER, "25.6.0", &TITLES);
        let _ = judged(&root, "will", &[]);
        change(&root);
        let plan = judged(&root, "not-checked", &["not known which runs"]);
        assert!(plan["observed"]["server"]["unknown"].is_string(), "{what}");
    }
}

#[test]
fn a_drop_in_counts_by_what_it_sets() {
    let name = std::path::Path::new(UNIT).file_name().unwrap().to_str().unwrap().to_owned();
    let own = format!("{UNIT}.d");
    let of = |folder: &str| format!("etc/systemd/system/{folder}");
    let write = |root: &TestRoot, folder: &str, text: &str| {
        std::fs::create_dir_all(root.path(folder)).unwrap();
        std::fs::write(root.path(folder).join("o.conf"), text).unwrap();
    };
    let root = TestRoot::new();
    put(&root, PACKAGE, "25.6.0", &TITLES);
    let harmless =
        "# ExecStart=/usr/bin/other\n[Unit]\nAfter=abssctl-recover.service\n[Service]\nMemoryMax=1G\n";
    for folder in [&own, &of(&format!("{name}.d")), &of("abssctl-.service.d"), &of("service.d")] {
        write(&root, folder, harmless);
    }
    std::fs::write(root.path(&own).join("o.conf.bak"), "[Service]\nExecStart=/usr/bin/other\n").unwrap();
    let _ = judged(&root, "will", &[]);
    for folder in [&own, &of("abssctl-.service.d"), &of("service.d")] {
        for line in
            ["Environment=NODE_PATH=/srv/other", " RootDirectory = /srv", "# a comment \\\nBindPaths=/x:/y"]
        {
            write(&root, folder, &format!("[Service]\n{line}\n"));
            let _ = judged(&root, "not-checked", &["not known which runs", "o.conf of the unit may start"]);
        }
        write(&root, folder, harmless);
    }
    // One that cannot be read may say anything.
    std::fs::create_dir(root.path(&own).join("p.conf")).unwrap();
    let _ = judged(&root, "not-checked", &["p.conf of the unit may start another"]);
}
