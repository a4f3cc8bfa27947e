//! Unit and vhost come back with `--with-assets`: shown in the plan, written in one step each, tested by the
//! real nginx before it reads them, and exchanged back by a rollback. Without the flag nothing is written.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::resume::{killed_at, newest};
use crate::support::root::{DATA_ONLY, ZSTD};
use crate::support::service::Serviced;
use crate::support::tools::{Mount, have, is_root, skip_unless, wait_for};
use crate::support::{Ran, TestRoot};

const UNIT: &str = "etc/systemd/system/abssctl-budget.service";
const SITE: &str = "run/abssctl/nginx/sites-available/abssctl-budget.conf";
const ENABLED: &str = "run/abssctl/nginx/sites-enabled/abssctl-budget.conf";

/// An instance whose unit and vhost are others than those of its backups; gives those of the backups.
fn edited() -> (TestRoot, [Vec<u8>; 2]) {
    let root = TestRoot::new();
    let backup = edit(&root);
    (root, backup)
}

fn edit(root: &TestRoot) -> [Vec<u8>; 2] {
    let backup = files(root);
    let [unit, site] = [UNIT, SITE].map(|path| std::fs::read_to_string(root.path(path)).unwrap());
    root.write(UNIT, unit.replace("Restart=on-failure", "Restart=always"));
    root.write(SITE, site.replace("listen 80;", "listen 8080;"));
    backup
}

/// The same with a server that runs.
fn serviced() -> (Serviced, [Vec<u8>; 2]) {
    let world = Serviced::new();
    let backup = edit(&world.root);
    (world, backup)
}

fn files(root: &TestRoot) -> [Vec<u8>; 2] {
    [UNIT, SITE].map(|path| std::fs::read(root.path(path)).unwrap())
}

fn plan(root: &TestRoot, args: &[&str]) -> (std::path::PathBuf, Value) {
    let path = root.plan(args);
    let value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    (path, value)
}

fn check<'v>(plan: &'v Value, id: &str) -> &'v Value {
    plan["preview"]["checks"].as_array().unwrap().iter().find(|check| check["id"] == id).unwrap()
}

fn codes(plan: &Value) -> Vec<&str> {
    plan["preview"]["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning["code"].as_str().unwrap())
        .collect()
}

#[test]
fn without_the_flag_they_are_shown_and_left_alone() {
    let (root, _) = edited();
    let before = files(&root);
    let (path, plan) = plan(&root, &[ZSTD]);
    let diffs = plan["preview"]["diffs"].as_array().unwrap();
    let shown = |file: &str| diffs.iter().find(|diff| diff["path"] == format!("/{file}")).unwrap();
    for (file, lines) in
        [(UNIT, ["-Restart=always", "+Restart=on-failure"]), (SITE, ["-    listen 8080", "+    listen 80"])]
    {
        let diff = shown(file);
        assert_eq!(diff["restored"], false);
        assert!(lines.iter().all(|line| diff["diff"].as_str().unwrap().contains(line)), "{diff:#}");
    }
    assert!(plan["steps"].as_array().unwrap().iter().all(|step| step["kind"] != "assets"));
    assert!(plan["observed"].get("assets").is_none());
    let text = root.run(&["plan", "show", path.to_str().unwrap()]).ok().stdout;
    assert!(text.contains("--with-assets restores them"), "{text}");
    let _ = root.apply(&path).ok();
    assert_eq!(files(&root), before);
}

#[test]
fn with_the_flag_they_come_back_and_a_rollback_exchanges_them_again() {
    let (root, backup) = edited();
    let live = files(&root);
    let (path, planned) = plan(&root, &[ZSTD, "--with-assets"]);
    let seen = &planned["observed"]["assets"];
    assert_eq!(seen["unit"]["path"], format!("/{UNIT}"));
    assert_eq!(
        (&seen["unit"]["foundBy"], &seen["site"]["foundBy"]),
        (&"registry".into(), &"registry".into())
    );
    // Nothing below a root that is not the machine's own is told of it, and the plan says so.
    assert_eq!(check(&planned, "unit")["verdict"], "not-checked");
    assert!(check(&planned, "vhost")["why"].as_str().unwrap().contains("no nginx here"), "{planned:#}");
    assert!(codes(&planned).contains(&"assets-written"));
    let mode = |path: &str| std::fs::metadata(root.path(path)).unwrap().mode();
    let modes = [UNIT, SITE].map(mode);
    let result = root.apply(&path).ok().json();
    assert_eq!(files(&root), backup);
    assert_eq!([UNIT, SITE].map(mode), modes);
    root.assert_generation("gen-a.sha256");
    let run = result["run"].as_str().unwrap();
    let kept = root.path(format!("var/lib/abssctl/runs/{run}/assets"));
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read(kept.join("unit")).unwrap(), live[0]);
    let back = root.json(&["run", "rollback", run, "--yes"]).ok().json();
    assert_eq!(files(&root), live);
    root.assert_generation("gen-b.sha256");
    // And that one back again.
    let _ = root.json(&["run", "rollback", back["run"].as_str().unwrap(), "--yes"]).ok();
    assert_eq!(files(&root), backup);
    root.assert_generation("gen-a.sha256");
}

#[test]
fn what_was_not_there_is_made_and_goes_again() {
    let (root, backup) = edited();
    for path in [UNIT, SITE, ENABLED] {
        std::fs::remove_file(root.path(path)).unwrap();
    }
    let result = root.restore(&[ZSTD, "--with-assets"]);
    assert_eq!(files(&root), backup);
    assert_eq!(std::fs::read_link(root.path(ENABLED)).unwrap(), Path::new("/").join(SITE));
    let made = std::fs::metadata(root.path(UNIT)).unwrap();
    assert_eq!((made.mode() & 0o7777, made.uid()), (0o644, rustix::process::geteuid().as_raw()));
    let _ = root.json(&["run", "rollback", result["run"].as_str().unwrap(), "--yes"]).ok();
    for path in [UNIT, SITE, ENABLED] {
        assert!(root.path(path).symlink_metadata().is_err(), "{path} is gone again");
    }
}

#[test]
fn a_file_that_a_rollback_removed_comes_back_with_its_mode_and_owner() {
    if cannot_serve("a_file_that_a_rollback_removed_comes_back_with_its_mode_and_owner") {
        return;
    }
    let (world, _) = serviced();
    let (root, unit) = (&world.root, world.root.path(UNIT));
    std::fs::remove_file(&unit).unwrap();
    let first = root.restore(&[ZSTD, "--with-assets", "--no-pre-backup"])["run"].as_str().unwrap().to_owned();
    // It gets a secret, and is nobody's to read.
    std::fs::set_permissions(&unit, std::fs::Permissions::from_mode(0o600)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(&unit, Some(12), Some(34)).unwrap();
    }
    let attributes = |path: &Path| {
        let meta = std::fs::metadata(path).unwrap();
        (meta.mode() & 0o7777, meta.uid(), meta.gid())
    };
    let then = attributes(&unit);
    assert_eq!(then.0, 0o600);
    // By the undo of what removed it.
    world.odd("no-reload", "");
    let halted = root.json(&["run", "rollback", &first, "--no-pre-backup", "--yes"]);
    let halted = halted.error(7, "abssctl::apply::halted", &["Connection timed out"]);
    assert_eq!(attributes(&unit), then);
    world.even("no-reload");
    let _ = root.json(&["run", "rollback", halted["result"]["run"].as_str().unwrap(), "--yes"]).ok();
    // And by a rollback of the run that removed it.
    let second = root.json(&["run", "rollback", &first, "--no-pre-backup", "--yes"]).ok().json();
    assert!(!unit.exists());
    let _ = root.json(&["run", "rollback", second["run"].as_str().unwrap(), "--yes"]).ok();
    assert_eq!(attributes(&unit), then);
}

#[test]
fn a_rollback_leaves_them_alone_where_the_data_alone_is_wanted() {
    let (root, backup) = edited();
    let run = root.restore(&[ZSTD, "--with-assets"])["run"].as_str().unwrap().to_owned();
    let path = root.work("back.json");
    let _ = root.run(&["plan", "rollback", &run, "--data-only", "-o", path.to_str().unwrap()]).ok();
    let back: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(back["spec"]["assets"], "data");
    let said = back["preview"]["warnings"].to_string();
    assert!(codes(&back).contains(&"assets-stay") && said.contains("the plan leaves them alone"), "{said}");
    let _ = root.json(&["run", "rollback", &run, "--data-only", "--yes"]).ok();
    assert_eq!(files(&root), backup);
    root.assert_generation("gen-b.sha256");
}

#[test]
fn an_unfinished_run_is_undone_as_a_whole() {
    if crate::resume::skip("an_unfinished_run_is_undone_as_a_whole") {
        return;
    }
    let (root, _) = edited();
    let (path, _) = plan(&root, &[ZSTD, "--with-assets", "--no-pre-backup"]);
    let site = root.path("run/abssctl/nginx/sites-available");
    killed_at(&root, &["apply", path.to_str().unwrap(), "--yes"], &site, "renameat");
    let (before, run) = (files(&root), newest(&root)["run"].as_str().unwrap().to_owned());
    let ran = root.json(&["run", "rollback", &run, "--data-only", "--yes"]);
    let _ = ran.error(2, "abssctl::cli::usage", &["is undone as a whole"]);
    assert_eq!(files(&root), before);
}

#[test]
fn a_pruned_run_keeps_no_old_unit_and_says_so_where_it_is_lost() {
    let (root, _) = edited();
    let run = root.restore(&[ZSTD, "--with-assets"])["run"].as_str().unwrap().to_owned();
    let kept = root.path(format!("var/lib/abssctl/runs/{run}/assets"));
    std::fs::remove_file(kept.join("unit")).unwrap();
    let path = root.work("back.json");
    let _ = root.run(&["plan", "rollback", &run, "-o", path.to_str().unwrap()]).ok();
    let back: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(back["spec"]["assets"], "data");
    assert!(codes(&back).contains(&"assets-stay"), "{back:#}");
    assert!(back["preview"]["warnings"].to_string().contains("not kept any more"), "{back:#}");
    let _ = root.run(&["run", "prune", "--older-than", "0s", "--yes"]).ok();
    assert!(!kept.exists());
}

#[test]
fn a_directory_that_cannot_be_written_to_is_told_before_anything_is_stopped() {
    let name = "a_directory_that_cannot_be_written_to_is_told_before_anything_is_stopped";
    if cannot_serve(name) || skip_unless(name, is_root(), "needs root") {
        return;
    }
    let (world, backup) = serviced();
    let unit = std::fs::read(world.root.path(UNIT)).unwrap();
    let mount = Mount::tmpfs(&world.root.path("etc/systemd/system"), "size=1m");
    world.root.write(UNIT, unit);
    let (path, _) = world.plan(&[ZSTD, "--with-assets"]);
    mount.remount("ro");
    let checked = world.root.json(&["plan", "check", path.to_str().unwrap()]).code(3).json();
    let problem = &checked["problems"][0];
    assert_eq!(problem["code"], "assets-unwritable", "{checked:#}");
    assert!(problem["message"].as_str().unwrap().contains(UNIT), "{checked:#}");
    let _ = world.root.apply(&path).refused(3, &["assets-unwritable"]);
    assert_eq!(world.calls(), [""; 0], "nothing was stopped");
    // What stays as it is needs no writing.
    mount.remount("rw");
    world.root.write(UNIT, &backup[0]);
    let (path, _) = world.plan(&[ZSTD, "--with-assets"]);
    mount.remount("ro");
    let _ = world.root.apply(&path).ok();
}

#[test]
fn a_unit_that_changed_since_the_plan_makes_it_stale_whatever_its_policy() {
    let (root, _) = edited();
    let (path, _) = plan(&root, &[ZSTD, "--with-assets", "--drift", "ignore"]);
    root.write(UNIT, "[Service]\nExecStart=/bin/true\n");
    let before = root.tree();
    let refused = root.json(&["apply", path.to_str().unwrap(), "--yes"]).code(5).json();
    assert!(refused.to_string().contains("not the one that the plan shows the difference to"), "{refused:#}");
    before.assert_same(&root.tree(), "a plan that is stale");
}

#[test]
fn what_is_not_shown_whole_is_told_or_refused() {
    let (root, _) = edited();
    // A backup whose unit runs a command with arguments that plans do not show.
    let unit = std::fs::read_to_string(root.path(UNIT)).unwrap();
    root.write(UNIT, unit.replace("[Service]", "[Service]\nExecStartPre=/bin/sh -c 'CANARY-1'"));
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    root.write(UNIT, &unit);
    let id = made["id"].as_str().unwrap();
    let (_, planned) = plan(&root, &[id, "--with-assets"]);
    assert!(
        codes(&planned).contains(&"assets-hidden") && !planned.to_string().contains("CANARY"),
        "{planned:#}"
    );
    let said = planned["preview"]["warnings"].to_string();
    assert!(said.contains(&format!("{id}/systemd/abssctl-budget.service")), "{said}");
    // One that is too long to be shown.
    root.write(UNIT, (0..500).map(|n| format!("[Unit]\nAfter=a{n}.service\n")).collect::<String>());
    let long = root.json(&["backup", "create", "budget"]).ok().json();
    root.write(UNIT, &unit);
    let ran = root.json(&["plan", "restore", long["id"].as_str().unwrap(), "--with-assets", "-o", "-"]);
    let _ = ran.error(2, "abssctl::planner::wish", &["too long to be shown"]);
}

#[test]
fn what_cannot_be_written_is_refused_with_the_way_out() {
    let refused = |args: &[&str], says: &str, change: &dyn Fn(&TestRoot)| {
        let (root, _) = edited();
        change(&root);
        let before = root.tree();
        let ran = root.json(&[&["plan", "restore", "-o", "-"], args].concat());
        let _ = ran.error(2, "abssctl::planner::wish", &[says]);
        before.assert_same(&root.tree(), says);
    };
    refused(&[DATA_ONLY, "--with-assets"], "holds neither unit nor vhost", &|_| {});
    refused(&[ZSTD, "--with-assets"], "symbolic link", &|root| {
        std::fs::remove_file(root.path(UNIT)).unwrap();
        symlink("/dev/null", root.path(UNIT)).unwrap();
    });
    refused(&[ZSTD, "--with-assets"], "a file of its own", &|root| {
        std::fs::remove_file(root.path(ENABLED)).unwrap();
        root.write(ENABLED, "server {}");
    });
    refused(&[ZSTD, "--with-assets"], "does not exist", &|root| {
        std::fs::remove_dir_all(root.path("run/abssctl/nginx/sites-enabled")).unwrap();
    });
}

#[test]
fn killed_between_two_files_it_goes_on_or_back() {
    if crate::resume::skip("killed_between_two_files_it_goes_on_or_back") {
        return;
    }
    for forward in [true, false] {
        let (root, backup) = edited();
        let live = files(&root);
        let (path, _) = plan(&root, &[ZSTD, "--with-assets", "--no-pre-backup"]);
        let site = root.path("run/abssctl/nginx/sites-available");
        killed_at(&root, &["apply", path.to_str().unwrap(), "--yes"], &site, "renameat");
        assert_eq!(files(&root), [backup[0].clone(), live[1].clone()], "the unit is new, the vhost is old");
        let run = newest(&root)["run"].as_str().unwrap().to_owned();
        let (command, expected, generation) =
            if forward { ("resume", backup, "gen-a.sha256") } else { ("rollback", live, "gen-b.sha256") };
        let _ = root.json(&["run", command, &run, "--yes"]).ok();
        assert_eq!(files(&root), expected, "{command}");
        root.assert_generation(generation);
    }
}

#[test]
fn an_undo_tells_systemd_what_a_boot_in_between_may_have_read() {
    let name = "an_undo_tells_systemd_what_a_boot_in_between_may_have_read";
    if crate::resume::skip(name) || skip_unless(name, have("python3") && have("curl"), "needs python3, curl")
    {
        return;
    }
    let (world, _) = serviced();
    let live = files(&world.root);
    let (path, _) = world.plan(&[ZSTD, "--with-assets", "--no-pre-backup"]);
    let site = world.root.path("run/abssctl/nginx/sites-available");
    killed_at(&world.root, &["apply", path.to_str().unwrap(), "--yes"], &site, "renameat");
    assert_ne!(files(&world.root)[0], live[0], "the unit is the new one: a boot would read it");
    world.forget_calls();
    let run = newest(&world.root)["run"].as_str().unwrap().to_owned();
    let _ = world.root.json(&["run", "rollback", &run, "--yes"]).ok();
    assert_eq!(files(&world.root), live);
    assert_eq!(world.calls(), ["daemon-reload", "reset-failed", "start"], "told before it is started");
    world.assert_old();
}

/// Whether a server can run here; tests that need it say so aloud where not.
fn cannot_serve(test: &str) -> bool {
    skip_unless(test, have("python3") && have("curl"), "python3 or curl is missing")
}

#[test]
fn a_file_that_a_person_put_there_meanwhile_is_not_written_over_and_keeps_nothing_else_back() {
    let name = "a_file_that_a_person_put_there_meanwhile_is_not_written_over_and_keeps_nothing_else_back";
    if cannot_serve(name) {
        return;
    }
    let (world, backup) = serviced();
    let live = files(&world.root);
    world.odd("kill-before-start", "");
    let (path, _) = world.plan(&[ZSTD, "--with-assets", "--no-pre-backup"]);
    let _ = world.root.apply(&path).code(128 + 9);
    wait_for("the order", || (!world.control("kill-before-start").exists()).then_some(()));
    assert_eq!(files(&world.root), backup);
    let by_hand = b"[Service]\n# by hand\n".to_vec();
    world.root.write(UNIT, &by_hand);
    let run = newest(&world.root)["run"].as_str().unwrap().to_owned();
    let kept = world.root.path(format!("var/lib/abssctl/runs/{run}/assets/unit"));
    let words = [
        "abssctl-budget.service was edited meanwhile, and stays as it is; the old one is",
        "/srv/budget is as it was before the run; abssctl-budget.service is active (running)",
    ];
    let ran = world.root.json(&["run", "rollback", &run, "--yes"]);
    let error = ran.error(7, "abssctl::apply::halted", &words);
    let way = format!("cp {} {}; ", kept.display(), world.root.path(UNIT).display());
    assert!(error["help"].as_str().unwrap().contains(&way), "{error:#}");
    assert_eq!(files(&world.root), [by_hand, live[1].clone()], "the vhost is back, the edit stays");
    world.assert_old();
    // As the message says.
    let _ = std::fs::copy(kept, world.root.path(UNIT)).unwrap();
    let _ = world.root.json(&["run", "rollback", &run, "--yes"]).ok();
    assert_eq!(files(&world.root), live);
    assert_eq!(newest(&world.root)["outcome"], "rolled_back");
    world.assert_old();
}

#[test]
fn a_systemd_that_does_not_read_its_units_again_keeps_nothing_else_back() {
    if cannot_serve("a_systemd_that_does_not_read_its_units_again_keeps_nothing_else_back") {
        return;
    }
    let (world, _) = serviced();
    let live = files(&world.root);
    let (path, _) = world.plan(&[ZSTD, "--with-assets", "--no-pre-backup"]);
    world.odd("no-reload", "");
    let words = ["step assets failed", "Connection timed out", "/srv/budget is as it was before the run"];
    let error = world.root.apply(&path).error(7, "abssctl::apply::halted", &words);
    assert_eq!(files(&world.root), live);
    world.assert_old();
    world.even("no-reload");
    let run = error["result"]["run"].as_str().unwrap();
    let _ = world.root.json(&["run", "rollback", run, "--yes"]).ok();
    assert_eq!(newest(&world.root)["outcome"], "rolled_back");
}

/// What a vhost of nginx needs to be read: only root can go into a root of its own.
fn skip(test: &str) -> bool {
    let can = is_root() && have("nginx") && have("unshare") && have("curl") && have("ip");
    skip_unless(test, can, "needs root, nginx, unshare, ip and curl")
}

/// Runs a script with the root as `/`, in a network and among processes of its own, which end with it.
fn inside(root: &TestRoot, script: &str) -> Ran {
    let base = root.path("");
    for path in ["usr", "proc", "dev", "tmp", "var/lib/nginx", "var/log/nginx", "opt", "work"] {
        std::fs::create_dir_all(base.join(path)).unwrap();
    }
    for (name, target) in
        [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
    {
        if base.join(name).symlink_metadata().is_err() {
            symlink(target, base.join(name)).unwrap();
        }
    }
    for file in ["etc/passwd", "etc/group", "etc/ld.so.cache", "etc/mime.types"] {
        if Path::new("/").join(file).exists() && !base.join(file).exists() {
            let _ = std::fs::copy(Path::new("/").join(file), base.join(file)).unwrap();
        }
    }
    root.write("opt/abssctl", "");
    let mounts = r#"
        set -e
        ip link set lo up
        mount --bind /usr "$1/usr"
        mount --bind /dev "$1/dev"
        mount -t proc proc "$1/proc"
        mount --bind "$2" "$1/opt/abssctl"
        mount --bind "$3" "$1/work"
        exec chroot "$1" /bin/bash -c "$4"
    "#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "bash", "-c", mounts, "-"]);
    command.arg(&base).arg(env!("CARGO_BIN_EXE_abssctl")).arg(root.work("")).arg(script);
    command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("NO_COLOR", "1").env("TZ", "UTC");
    Ran::of(&mut command)
}

/// An instance behind nginx, which reads the peer's directory; the vhosts speak no TLS.
fn behind_nginx(site: &str, backup: &str) -> (TestRoot, String) {
    let root = TestRoot::new();
    root.write(
        "etc/nginx/nginx.conf",
        "user root;\npid /run/nginx.pid;\nerror_log /var/log/nginx/error.log;\nevents {}\nhttp { access_log off; include /run/abssctl/nginx/sites-enabled/*; }\n",
    );
    root.write(SITE, backup);
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    root.write(SITE, site);
    (root, made["id"].as_str().unwrap().to_owned())
}

fn vhost(answer: &str) -> String {
    format!("server {{\n    listen 127.0.0.1:8088;\n    return 200 {answer};\n}}\n")
}

const ASK: &str = "curl -s --retry 50 --retry-delay 0 --retry-all-errors http://127.0.0.1:8088/";

#[test]
fn nginx_serves_the_vhost_of_the_backup_after_the_restore_and_the_other_after_the_rollback() {
    if skip("nginx_serves_the_vhost_of_the_backup_after_the_restore_and_the_other_after_the_rollback") {
        return;
    }
    let (root, id) = behind_nginx(&vhost("now"), &vhost("then"));
    let ran = inside(
        &root,
        &format!(
            r#"
        set -e
        nginx
        echo "before: $({ASK})"
        # A reload is over when the old workers are gone.
        workers() {{ pgrep -P "$(cat /run/nginx.pid)"; }}
        gone() {{ for pid in $1; do while kill -0 "$pid" 2>/dev/null; do :; done; done; }}
        /opt/abssctl plan restore {id} --with-assets --format json -o /work/p.json >&2
        old=$(workers)
        /opt/abssctl apply /work/p.json --yes --json > /work/result.json
        gone "$old"
        echo "after: $({ASK})"
        run=$(sed -n 's/^  "run": "\(.*\)",$/\1/p' /work/result.json)
        old=$(workers)
        /opt/abssctl run rollback "$run" --yes --json > /work/back.json
        gone "$old"
        echo "back: $({ASK})"
    "#
        ),
    )
    .ok();
    assert_eq!(ran.stdout, "before: now\nafter: then\nback: now\n", "{}", ran.stderr);
    let plan: Value = serde_json::from_str(&std::fs::read_to_string(root.work("p.json")).unwrap()).unwrap();
    assert_eq!(check(&plan, "vhost")["verdict"], "will", "{plan:#}");
    for name in ["result.json", "back.json"] {
        let text = std::fs::read_to_string(root.work(name)).unwrap();
        let result: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(result["warnings"], Value::Array(Vec::new()), "{name}: {result:#}");
    }
}

#[test]
fn a_vhost_that_nginx_does_not_take_is_put_back_and_nginx_goes_on() {
    if skip("a_vhost_that_nginx_does_not_take_is_put_back_and_nginx_goes_on") {
        return;
    }
    let certificates = "server {\n    listen 127.0.0.1:8088 ssl;\n    ssl_certificate /etc/ssl/private/none.pem;\n    ssl_certificate_key /etc/ssl/private/none.key;\n}\n";
    let broken = "server {\n    listen 127.0.0.1:8088;\n    CANARY-7 on;\n}\n";
    for (backup, says) in [
        (certificates, "cannot load certificate \\\"/etc/ssl/private/none.pem\\\""),
        (broken, "/run/abssctl/nginx/sites-enabled/abssctl-budget.conf:3"),
    ] {
        for policy in ["rollback", "halt"] {
            let (root, id) = behind_nginx(&vhost("now"), backup);
            let [unit, site] = files(&root);
            let ran = inside(
                &root,
                &format!(
                    r#"
                set -e
                nginx
                pids() {{ pgrep -x nginx | sort | tr '\n' ' '; }}
                # Once it answers, its workers are there.
                {ASK} >/dev/null
                before=$(pids)
                /opt/abssctl plan restore {id} --with-assets --on-failure {policy} -o /work/p.yaml >&2
                code=0
                /opt/abssctl apply /work/p.yaml --yes --json || code=$?
                # A reload would have made other workers; an undo reloads the old ones in any case.
                [ "$before" = "$(pids)" ] && echo same >&2
                echo "{policy} $code $({ASK})" >&2
            "#
                ),
            )
            .ok();
            assert!(ran.stdout.contains(says) && !ran.stdout.contains("CANARY"), "{}", ran.stdout);
            let end = if policy == "halt" { "same\nhalt 7 now" } else { "rollback 4 now" };
            assert!(ran.stderr.contains(end), "{}", ran.stderr);
            assert_eq!(files(&root), [unit, site]);
            root.assert_generation("gen-b.sha256");
        }
    }
}

#[test]
fn an_address_that_another_program_holds_is_told_and_everything_is_put_back() {
    if skip("an_address_that_another_program_holds_is_told_and_everything_is_put_back")
        || skip_unless("an_address_that_another_program_holds", have("python3"), "needs python3")
    {
        return;
    }
    let taken = vhost("then").replace("    return", "    listen 127.0.0.1:9999;\n    return");
    for (policy, code) in [("rollback", 4), ("halt", 7)] {
        let (root, id) = behind_nginx(&vhost("now"), &taken);
        let [unit, site] = files(&root);
        let script = format!(
            "set -e
            python3 -c 'import socket, time
s = socket.socket(); s.bind((\"127.0.0.1\", 9999)); s.listen(); open(\"/work/held\", \"w\"); time.sleep(300)' &
            while ! [ -e /work/held ]; do sleep 0.1; done
            nginx
            {ASK} >/dev/null
            /opt/abssctl plan restore {id} --with-assets --on-failure {policy} -o /work/p.yaml >&2
            code=0
            /opt/abssctl apply /work/p.yaml --yes --json || code=$?
            nginx -s quit
            while pgrep -x nginx >&2; do :; done
            nginx
            echo \"$code $({ASK})\" >&2"
        );
        let ran = inside(&root, &script).ok();
        assert!(ran.stdout.contains("is an address that it is to listen on taken?"), "{}", ran.stdout);
        assert!(ran.stdout.contains("abssctl::apply::"), "{}", ran.stdout);
        assert!(ran.stderr.contains(&format!("{code} now")), "{}", ran.stderr);
        assert_eq!(files(&root), [unit, site]);
    }
}

#[test]
fn what_nginx_warns_of_is_a_warning_of_the_restore() {
    if skip("what_nginx_warns_of_is_a_warning_of_the_restore") {
        return;
    }
    let (root, id) = behind_nginx(&vhost("now"), &vhost("then"));
    root.write("run/abssctl/nginx/sites-enabled/a.conf", vhost("first"));
    let script = format!(
        "set -e
        nginx 2>/dev/null
        /opt/abssctl plan restore {id} --with-assets -o /work/p.yaml >&2
        /opt/abssctl apply /work/p.yaml --yes --json"
    );
    let result = inside(&root, &script).ok().json();
    let said = result["warnings"][0].as_str().unwrap();
    assert!(said.starts_with("nginx takes the vhost, and warns: [warn] conflicting server name"), "{said}");
    assert!(said.ends_with("on 127.0.0.1:8088, ignored"), "{said}");
}

#[test]
fn where_nginx_does_not_take_the_vhost_systemd_reads_the_old_unit_again() {
    if skip("where_nginx_does_not_take_the_vhost_systemd_reads_the_old_unit_again") {
        return;
    }
    let (root, id) = behind_nginx(&vhost("now"), "server { no_such_directive on; }\n");
    let unit = root.read(UNIT).replace("Restart=on-failure", "Restart=always");
    root.write(UNIT, &unit);
    // A systemd that keeps of a unit what it had read last.
    std::fs::create_dir_all(root.path("opt")).unwrap();
    root.write(
        "opt/systemctl",
        "#!/bin/bash\ncase \"$*\" in *show*) printf 'LoadState=loaded\\nActiveState=inactive\\nSubState=dead\\n' ;;\n*daemon-reload*) cp /etc/systemd/system/abssctl-budget.service /work/read ;; esac\n",
    );
    std::fs::set_permissions(root.path("opt/systemctl"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = root.read("etc/abssctl/config.yml");
    let config = config.replace("systemctl_bin: systemctl", "systemctl_bin: /opt/systemctl");
    root.write("etc/abssctl/config.yml", config);
    root.write("etc/abssctl/restore.yml", "serviceManager: systemd\n");
    let script = format!(
        "set -e
        /opt/abssctl plan restore {id} --with-assets --on-failure halt -o /work/p.yaml >&2
        /opt/abssctl apply /work/p.yaml --yes --json || echo $?"
    );
    let ran = inside(&root, &script).ok();
    assert!(ran.stdout.contains("unknown directive") && ran.stdout.ends_with("7\n"), "{}", ran.stdout);
    assert_eq!(root.read(UNIT), unit);
    assert_eq!(std::fs::read_to_string(root.work("read")).unwrap(), unit);
}

#[test]
fn a_site_of_others_that_is_broken_keeps_no_data_from_coming_back() {
    if skip("a_site_of_others_that_is_broken_keeps_no_data_from_coming_back") {
        return;
    }
    let (root, id) = behind_nginx(&vhost("now"), &vhost("then"));
    let script = format!(
        r#"set -e
        /opt/abssctl plan restore {id} --with-assets -o /work/p.yaml >&2
        /opt/abssctl apply /work/p.yaml --yes --json > /work/result.json
        run=$(sed -n 's/^  "run": "\(.*\)",$/\1/p' /work/result.json)
        echo 'server {{ no_such_directive on; }}' > /run/abssctl/nginx/sites-enabled/zz.conf
        /opt/abssctl run rollback "$run" --yes --json > /work/refused.json || echo $?
        /opt/abssctl run rollback "$run" --data-only --yes --json > /work/back.json"#
    );
    assert_eq!(
        inside(&root, &script).ok().stdout,
        "4
"
    );
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(root.work(name)).unwrap()).unwrap()
    };
    let (refused, run) = (read("refused.json"), read("result.json")["run"].as_str().unwrap().to_owned());
    assert!(refused["message"].as_str().unwrap().contains("zz.conf:1"), "{refused:#}");
    let way = format!("abssctl run rollback {run} --data-only");
    assert!(refused["help"].as_str().unwrap().contains(&way), "{refused:#}");
    assert_eq!(read("back.json")["outcome"], "applied");
    assert_eq!(std::fs::read_to_string(root.path(SITE)).unwrap(), vhost("then"));
}

#[test]
fn doctor_says_where_nginx_does_not_run_although_it_is_to_serve() {
    if skip("doctor_says_where_nginx_does_not_run_although_it_is_to_serve") {
        return;
    }
    let (root, _) = behind_nginx(&vhost("now"), &vhost("then"));
    let script = format!(
        "/opt/abssctl doctor --json | grep -c nginx-stopped
        nginx
        {ASK}
        /opt/abssctl doctor --json | grep -c nginx-stopped
        nginx -s stop
        rm /{ENABLED}
        while pgrep -x nginx >&2; do :; done
        /opt/abssctl doctor --json | grep -c nginx-stopped; true"
    );
    assert_eq!(inside(&root, &script).ok().stdout, "1\nnow0\n0\n");
}

#[test]
fn a_vhost_that_nginx_does_not_read_is_told() {
    if skip("a_vhost_that_nginx_does_not_read_is_told") {
        return;
    }
    let (root, id) = behind_nginx(&vhost("now"), &vhost("then"));
    root.write("etc/nginx/nginx.conf", "user root;\npid /run/nginx.pid;\nevents {}\nhttp {}\n");
    let ran = inside(
        &root,
        &format!(
            r"
        set -e
        /opt/abssctl plan restore {id} --with-assets -o /work/p.yaml >&2
        /opt/abssctl apply /work/p.yaml --yes --json
    "
        ),
    )
    .ok();
    assert!(ran.stdout.contains("nginx does not read /run/abssctl/nginx/sites-enabled/"), "{}", ran.stdout);
    // It does not run either, which is no failure.
    assert!(ran.stdout.contains("nginx was not told of the vhost"), "{}", ran.stdout);
    assert_eq!(std::fs::read_to_string(root.path(SITE)).unwrap(), vhost("then"));
}
