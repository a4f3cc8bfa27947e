//! A hostile neighbour: the service's user, who owns the instance directory, exchanges names in it while
//! root works there. Nothing outside is read into a plan or a backup, changed, or waited for.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::root::{LIVE, REGISTRY, Running, ZSTD};
use crate::support::strace::{self, Stopped};
use crate::support::tools::{have, is_root, skip_unless, tool};
use crate::support::tree::Tree;
use crate::support::{Ran, TestRoot};

/// The service's user.
const USER: u32 = 65534;
/// Rounds of plan, backup and restore beside the one who exchanges names.
const ROUNDS: usize = 6;
/// What only root, or another instance, may know.
const SECRET: &str = "kept-from-the-neighbour";

/// The fixture with an instance directory that belongs to its service, a secret of root and another instance.
fn world() -> TestRoot {
    let root = TestRoot::new();
    let _ = tool("chmod", &["0755", root.path("/").to_str().unwrap()]);
    let _ = tool("cp", &["-a", root.path(LIVE).to_str().unwrap(), root.path("srv/other").to_str().unwrap()]);
    root.sql("srv/other/data/server-files/account.sqlite", &format!("UPDATE files SET name = '{SECRET}'"));
    give(&root, LIVE);
    root.write("etc/secret", format!("{{\"secret\": \"{SECRET}\"}}"));
    let _ = tool("chmod", &["0600", root.path("etc/secret").to_str().unwrap()]);
    root
}

fn give(root: &TestRoot, inside: &str) {
    let _ = tool("chown", &["-Rh", &format!("{USER}:{USER}"), root.path(inside).to_str().unwrap()]);
}

fn skip(test: &str) -> bool {
    skip_unless(
        test,
        is_root() && have("setpriv") && have("perl"),
        "needs root, setpriv and perl, to become the service's user",
    )
}

/// Ends it after a while that nothing takes on the slowest machine: what hangs fails the test.
fn bounded(command: &Command) -> Ran {
    let mut timeout = Command::new("timeout");
    timeout.args(["-s", "KILL", "120"]).arg(command.get_program()).args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            timeout.env(name, value);
        }
    }
    let ran = Ran::of(&mut timeout);
    assert!(ran.code < 128, "it was killed, as it waits for something: {ran:?}");
    ran
}

/// Whether the secret stands in a file below a directory that has no business to hold it.
fn holds_secret(directory: &Path) -> bool {
    let found = Command::new("grep").args(["-rqaF", SECRET]).arg(directory).status().unwrap();
    found.success()
}

/// Exchanges names for ever: files, directories and links, pipes in the place of files.
const RACER: &str = r#"
use POSIX qw(mkfifo);
my ($data, $secret, $other) = @ARGV;
$| = 1;
srand(7);
my @names = ("config.json", ".migrate", "server-files", "user-files", "server-files/account.sqlite");
while (1) {
    my $name = $names[int(rand(@names))];
    my ($path, $aside) = ("$data/$name", "$data/aside");
    if (rename($path, $aside)) {
        if ($name =~ /-files$/) { symlink("$other/$name", $path) }
        elsif ($name =~ /sqlite$/ || rand() < 0.7) { symlink($secret, $path) }
        else { mkfifo($path, 0600) }
        print "\n";
        select(undef, undef, undef, 0.001) if rand() < 0.5;
        unlink($path);
    }
    rename($aside, $path);
    select(undef, undef, undef, 0.002) if rand() < 0.3;
}
"#;

fn racer(root: &TestRoot) -> Running {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
    command.args(["perl", "-e", RACER]);
    command.args([root.path("srv/budget/data"), root.path("etc/secret"), root.path("srv/other/data")]);
    let mut racer = Running::start(command.stdin(Stdio::null()));
    // Its first exchange is its first byte of output; from then on somebody reads, or it would stop.
    let mut out = racer.child().stdout.take().unwrap();
    std::io::Read::read_exact(&mut out, &mut [0]).unwrap();
    drop(std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink())));
    racer
}

#[test]
fn names_that_are_exchanged_all_the_time_lead_nowhere() {
    if skip("names_that_are_exchanged_all_the_time_lead_nowhere") {
        return;
    }
    let root = world();
    let outside = ["etc", "srv/other"].map(|inside| (inside, Tree::of(&root.path(inside))));
    let mut racer = racer(&root);
    for round in 0..ROUNDS {
        let plan = root.work(&format!("plan-{round}.json"));
        let planned = root.command(&[
            "plan",
            "restore",
            ZSTD,
            "--no-pre-backup",
            "--json",
            "-o",
            plan.to_str().unwrap(),
        ]);
        let planned = bounded(&planned);
        assert!(!planned.stdout.contains(SECRET) && !planned.stderr.contains(SECRET), "{}", planned.stdout);
        let made = bounded(&root.command(&["backup", "create", "budget", "--compression", "none", "--json"]));
        assert!(!made.stdout.contains(SECRET), "{}", made.stdout);
        if planned.code == 0 {
            let _ = bounded(&root.command(&["apply", plan.to_str().unwrap(), "--yes", "--json"]));
            // Names come and go under its hands: what it misses stays root's, and that is as good a target.
            let live = root.path(LIVE);
            drop(Command::new("chown").arg("-Rhf").arg(format!("{USER}:{USER}")).arg(live).status());
        }
        for (inside, before) in &outside {
            before.assert_same(&Tree::of(&root.path(inside)), inside);
        }
        for inside in ["srv/backups", "var"] {
            assert!(!holds_secret(&root.path(inside)), "the secret is in {inside}, round {round}");
        }
    }
    assert!(racer.child().try_wait().unwrap().is_none(), "the neighbour gave up");
    racer.kill();
    let _ = root.json(&["run", "prune", "--older-than", "0s", "--yes"]);
    for (inside, before) in &outside {
        before.assert_same(&Tree::of(&root.path(inside)), inside);
    }
    // The world is put back, whatever was left of it.
    let _ = root.restore(&[ZSTD, "--no-pre-backup"]);
    root.assert_generation("gen-a.sha256");
}

#[test]
fn a_directory_that_is_exchanged_while_sqlite_opens_a_name_in_it() {
    let name = "a_directory_that_is_exchanged_while_sqlite_opens_a_name_in_it";
    if skip(name) || skip_unless(name, strace::works(), "ptrace is not permitted") {
        return;
    }
    let root = world();
    let data = root.path("srv/budget/data");
    let database = data.join("server-files/account.sqlite");
    let plan = root.command(&["plan", "restore", ZSTD, "--json", "-o", "-"]);
    // SQLite has looked at every part of the name, and opens it next.
    let mut stopped = Stopped::after(&plan, "newfstatat,openat", Some(&database));
    std::fs::rename(data.join("server-files"), data.join("aside")).unwrap();
    symlink(root.path("srv/other/data/server-files"), data.join("server-files")).unwrap();
    // Now it has opened another one; all looks as before.
    stopped.next();
    std::fs::remove_file(data.join("server-files")).unwrap();
    std::fs::rename(data.join("aside"), data.join("server-files")).unwrap();
    let ran = stopped.end();
    assert!(!ran.stdout.contains(SECRET), "another instance's budgets are in the plan: {}", ran.stdout);
    let target = &ran.json()["plan"]["observed"]["target"];
    let why = target["budgetsUnreadable"].as_str().unwrap_or_default();
    assert!(why.contains("account.sqlite"), "{target:#}");
}

#[test]
fn a_pipe_beside_a_database_stops_nobody() {
    let root = TestRoot::new();
    for companion in ["-journal", "-wal", "-shm"] {
        let path = root.path(format!("srv/budget/data/server-files/account.sqlite{companion}"));
        let _ = tool("mkfifo", &[path.to_str().unwrap()]);
        let planned = bounded(&root.command(&["plan", "restore", ZSTD, "--json", "-o", "-"])).ok().json();
        let why = planned["plan"]["observed"]["target"]["budgetsUnreadable"].as_str().unwrap_or_default();
        assert!(why.contains(companion) && why.contains("is not a file"), "{why}");
        let made = bounded(&root.command(&["backup", "create", "budget", "--json"]));
        let code = made.json()["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!(code, "abssctl::sqlite::odd_companion", "{}", made.stdout);
        std::fs::remove_file(path).unwrap();
    }
    let _ = root.json(&["backup", "create", "budget"]).ok();
}

#[test]
fn links_of_the_services_user_are_not_followed_by_root() {
    if skip("links_of_the_services_user_are_not_followed_by_root") {
        return;
    }
    let root = world();
    std::fs::create_dir(root.path("home")).unwrap();
    symlink("/srv/other", root.path("home/budget")).unwrap();
    let text = root.read(REGISTRY).replace("/srv/budget", "/home/budget");
    root.write(REGISTRY, text);
    // A link that root made is meant.
    let _ = root.json(&["backup", "create", "budget"]).ok();
    give(&root, "home");
    let before = root.tree_but_records();
    let made = root.json(&["backup", "create", "budget"]);
    assert!(made.code != 0 && made.stdout.contains("belongs to user 65534"), "{}", made.stdout);
    before.assert_same(&root.tree_but_records(), "a link of somebody else");
}

#[test]
fn root_unpacks_nothing_where_others_could_exchange_it() {
    if skip("root_unpacks_nothing_where_others_could_exchange_it") {
        return;
    }
    for (owner, mode, refused) in [
        ("65534:65534", "0755", true),
        ("0:65534", "0775", true),
        ("0:0", "0777", true),
        ("0:0", "1777", false),
    ] {
        let root = world();
        std::fs::create_dir_all(root.path("home/of/copies")).unwrap();
        let plan = root.plan(&[ZSTD, "--dest", "/home/of/copies/copy"]);
        let above = root.path("home/of");
        let _ = tool("chown", &[owner, above.to_str().unwrap()]);
        let _ = tool("chmod", &[mode, above.to_str().unwrap()]);
        let ran = root.apply(&plan);
        if refused {
            let object = ran.refused(3, &["private-directory"]);
            let message = object["problems"][0]["message"].as_str().unwrap();
            assert!(message.contains("home/of") && message.contains("exchange"), "{message}");
            assert_eq!(std::fs::read_dir(root.path("home/of/copies")).unwrap().count(), 0);
        } else {
            let _ = ran.ok();
        }
    }
}

#[test]
fn a_hard_link_brings_no_closed_file_of_others_into_a_backup() {
    if skip("a_hard_link_brings_no_closed_file_of_others_into_a_backup") {
        return;
    }
    let root = world();
    let link = root.path("srv/budget/data/mine");
    // As the service's user can, where fs.protected_hardlinks is 0.
    std::fs::hard_link(root.path("etc/secret"), &link).unwrap();
    let made = root.json(&["backup", "create", "budget", "--compression", "none"]);
    let _ = made.error(2, "abssctl::archive::unsupported_file", &["data/data/mine", "hard link"]);
    assert!(!holds_secret(&root.path("srv/backups")));
    // Overlaid, it is a copy that belongs to whom the file belongs.
    std::fs::remove_file(&link).unwrap();
    std::fs::hard_link(root.path("srv/budget/data/config.json"), &link).unwrap();
    let _ = root.json(&["backup", "create", "budget"]).ok();
    assert_eq!(root.path("etc/secret").metadata().unwrap().nlink(), 1);
}
