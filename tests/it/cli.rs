//! What people see: the help of every command, and errors in both forms.

use crate::support::TestRoot;
use crate::support::root::{GZIP, INDEX, ZSTD};

/// The help of a command and of all below it.
fn help(root: &TestRoot, command: &[&str], text: &mut String) {
    let mut args = command.to_vec();
    args.push("--help");
    let ran = root.run(&args).ok();
    assert!(ran.stderr.is_empty(), "help goes to standard output");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    for line in &lines {
        assert!(line.chars().count() <= 100, "too wide: {line}");
    }
    // The options of every command are the same everywhere; the help of the program itself shows them.
    let (own, global) = ran.stdout.split_once("\nGlobal options:\n").unwrap();
    assert!(global.contains("--lock-timeout <SECONDS>"), "{global}");
    *text += &format!("$ abssctl {}\n{}\n\n", args.join(" "), own.trim_end());
    let listed =
        lines.iter().skip_while(|line| **line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for line in listed {
        // A description that goes on is indented more than a name.
        if let Some(name) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) {
            let name = name.split_whitespace().next().unwrap();
            if name != "help" {
                help(root, &[command, &[name]].concat(), text);
            }
        }
    }
}

const GROUPS: [&str; 11] = [
    "plan",
    "facts",
    "apply",
    "run",
    "backup",
    "instance",
    "config",
    "doctor",
    "schema",
    "completion",
    "man",
];

#[test]
fn the_help_of_every_command() {
    let root = TestRoot::new();
    for command in GROUPS {
        let mut text = String::new();
        help(&root, &[command], &mut text);
        insta::assert_snapshot!(format!("help_{command}"), text);
    }
    insta::assert_snapshot!("help", root.run(&["--help"]).ok().stdout);
    let mut all = String::new();
    help(&root, &[], &mut all);
    let top = all.lines().filter_map(|line| line.strip_prefix("$ abssctl ")?.strip_suffix(" --help"));
    for command in top {
        assert!(GROUPS.contains(&command.split(' ').next().unwrap()), "no snapshot of {command}");
    }
}

/// Both forms of an error: exit code, standard error, and the object.
fn error(root: &TestRoot, args: &[&str]) -> String {
    let place = |text: &str| {
        let text = text.replace(root.path("/").to_str().unwrap().trim_end_matches('/'), "ROOT");
        text.replace(root.work("").to_str().unwrap().trim_end_matches('/'), "WORK")
    };
    let spoken = root.run(args);
    assert_eq!(spoken.stdout, "", "standard output carries only the result");
    let object = root.json(args);
    assert_eq!(spoken.code, object.code, "the exit code never depends on the form");
    let value = object.json();
    for key in ["code", "message", "help", "exit_code"] {
        assert!(value.get(key).is_some(), "{key}: {value:#}");
    }
    assert_eq!(value["exit_code"], spoken.code);
    // Where lines of a text with a path break depends on the path, which is another one each time.
    let breaks = value["message"].as_str().unwrap().contains(root.path("/").to_str().unwrap());
    let human = if breaks { "(the same words)".to_owned() } else { place(spoken.stderr.trim_end()) };
    format!(
        "$ abssctl {}\nexit code {}\n\n{}\n\n{}",
        place(&args.join(" ")),
        spoken.code,
        human,
        place(object.stdout.trim_end())
    )
}

#[test]
fn errors_in_both_forms() {
    let root = TestRoot::new();
    let before = root.tree();
    for (name, args) in [
        ("unknown_backup", &["plan", "restore", "20261124-022632-budget-000000"][..]),
        ("no_terminal", &["backup", "restore", ZSTD]),
        ("other_instance", &["plan", "restore", ZSTD, "--instance", "shop"]),
        ("no_such_instance", &["backup", "create", "shop"]),
        ("level", &["backup", "create", "budget", "--level", "40"]),
        ("no_plan_file", &["apply", "missing.yaml", "--yes"]),
        ("no_run", &["run", "show", "01M87PNP24HTFMAYRF4PE0KYX4"]),
        ("bad_time", &["plan", "restore", "--instance", "budget", "--at", "soon"]),
        ("unknown_command", &["plan", "destroy"]),
        ("missing_argument", &["plan", "restore"]),
        ("bad_id", &["backup", "show", "../x"]),
        ("contradiction", &["backup", "restore", ZSTD, "--no-pre-backup", "--pre-backup", "online"]),
    ] {
        // No process number, no time: the same text on every machine.
        if name == "no_terminal" {
            // The plan is shown before the question, and holds times.
            let ran = root.json(args);
            let _ = ran.error(2, "abssctl::cli::no_terminal", &["no terminal"]);
            continue;
        }
        insta::assert_snapshot!(format!("error_{name}"), error(&root, args));
    }
    before.assert_same(&root.tree(), "commands that fail");
}

#[test]
fn errors_about_files_in_both_forms() {
    let root = TestRoot::new();
    root.write(INDEX, "{ not JSON");
    insta::assert_snapshot!("error_index", error(&root, &["backup", "list"]));
    let root = TestRoot::new();
    std::fs::remove_file(root.path(format!("srv/backups/budget/{ZSTD}.tar.zst"))).unwrap();
    insta::assert_snapshot!("error_archive", error(&root, &["plan", "restore", ZSTD]));
    root.write("etc/abssctl/config.yml", "instance_rot: /srv\n");
    insta::assert_snapshot!("error_config", error(&root, &["backup", "list"]));
}

#[test]
fn nobody_is_asked_without_a_terminal() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let before = root.tree();
    for args in [vec!["apply", plan.to_str().unwrap()], vec!["backup", "restore", ZSTD]] {
        let ran = root.run(&args).code(2).says("standard input is no terminal").says("--yes");
        assert_eq!(ran.stdout, "");
        let mut command = root.command(&args);
        // Whatever is not a clear yes is none.
        for value in ["", "0", "no", "false"] {
            let ran = crate::support::Ran::of(command.env("ABSSCTL_ASSUME_YES", value));
            assert_eq!(ran.code, 2, "ABSSCTL_ASSUME_YES={value}");
        }
    }
    before.assert_same(&root.tree(), "questions that nobody can answer");
}

#[test]
fn only_the_result_goes_to_standard_output() {
    let root = TestRoot::new();
    for args in [
        vec!["backup", "create", "budget"],
        vec!["backup", "list"],
        vec!["backup", "restore", ZSTD, "--yes"],
        vec!["run", "list"],
        vec!["instance", "show", "budget"],
        vec!["config", "show"],
        vec!["backup", "show", ZSTD],
        vec!["plan", "restore", ZSTD],
    ] {
        assert!(root.json(&args).ok().json().is_object(), "{args:?}: one object");
    }
    let ran = root.run(&["backup", "restore", ZSTD, "--yes"]).ok();
    assert!(ran.stderr.contains("swap") && !ran.stdout.contains("swap"), "progress goes to standard error");
    let plan = root.plan(&[ZSTD]);
    let events = root.run(&["apply", plan.to_str().unwrap(), "--yes", "--events"]).ok().stdout;
    for line in events.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].is_string(), "{line}");
    }
    assert!(events.lines().last().unwrap().contains("\"result\""));
}

#[test]
fn of_many_files_a_few_events_tell_how_far_it_is() {
    let root = TestRoot::new();
    for number in 0..500 {
        root.write(format!("srv/budget/data/user-files/file-{number}.blob"), format!("{number}"));
    }
    let id = root.json(&["backup", "create", "budget"]).ok().json()["id"].as_str().unwrap().to_owned();
    let plan = root.plan(&[&id]);
    let events = root.run(&["apply", plan.to_str().unwrap(), "--yes", "--events"]).ok().stdout;
    let events = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let progress: Vec<_> = events.filter(|event| event["event"] == "stepProgress").collect();
    let of = |step: &str| progress.iter().filter(|event| event["step"] == step).collect::<Vec<_>>();
    assert!((1..100).contains(&of("extract").len()), "{}", of("extract").len());
    let last = of("verify").pop().unwrap().clone();
    assert!(last["bytes"].as_u64().unwrap() > 0 && last["bytes"] == last["total"], "{last}");
}

#[test]
fn colour_is_for_terminals_and_for_who_asks() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let show = ["plan", "show", plan.to_str().unwrap()];
    assert!(!root.run(&show).ok().stdout.contains('\u{1b}'));
    let mut always = show.to_vec();
    always.extend(["--color", "always"]);
    assert!(root.run(&always).ok().stdout.contains('\u{1b}'));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let root = TestRoot::new();
    let command = root.command(&["schema", "plan"]);
    let line = format!(
        "{} schema plan | head -c 10 >/dev/null; exit ${{PIPESTATUS[0]}}",
        command.get_program().display()
    );
    let _ = crate::support::tools::tool("bash", &["-c", &line]);
}

#[test]
fn the_detailed_exit_code_tells_of_changes() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let detailed = |args: &[&str]| root.run(&[args, &["--detailed-exitcode"]].concat()).code;
    assert_eq!(detailed(&["plan", "restore", ZSTD]), 20);
    assert_eq!(detailed(&["plan", "check", plan.to_str().unwrap()]), 20);
    let _ = root.apply(&plan).ok();
    assert_eq!(detailed(&["plan", "restore", ZSTD]), 0, "nothing would change");
    assert_eq!(detailed(&["plan", "check", plan.to_str().unwrap()]), 5);
    // What these do, the files do not show.
    assert_eq!(detailed(&["plan", "restore", ZSTD, "--sessions", "revoke"]), 20);
    assert_eq!(detailed(&["plan", "restore", ZSTD, "--clients", "reset"]), 20);
    // Nothing would have changed when it was planned; now a newer change would be lost.
    let plan = root.work("same.yaml");
    let plan = plan.to_str().unwrap();
    let _ = root.run(&["plan", "restore", GZIP, "-o", plan]).ok();
    assert_eq!(detailed(&["plan", "check", plan]), 0);
    let more = "INSERT INTO messages_binary VALUES ('2026-12-01T00:00:00.000Z-0001-x', 0, x'00')";
    root.sql("srv/budget/data/user-files/group-9c8a10f0-de93-44b8-a957-beea9bec4983.sqlite", more);
    assert_eq!(detailed(&["plan", "check", plan]), 20);
}
