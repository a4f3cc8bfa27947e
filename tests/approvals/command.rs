//! `plan approve` and `plan verify`: keys, agents, terminals, files.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::keys::{KINDS, Key, fed};
use crate::support::root::{Running, ZSTD};
use crate::support::tools::{have, skip_unless, tool, wait_for};
use crate::support::{Ran, TestRoot};

const LIST: &str = "etc/abssctl/allowed_signers";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Writes the list of allowed signers.
fn allow(root: &TestRoot, signers: &[(&str, &Key)]) {
    let lines: String = signers.iter().map(|(name, key)| format!("{name} {}\n", key.public())).collect();
    std::fs::create_dir_all(root.path("etc/abssctl")).unwrap();
    root.write(LIST, lines);
}

fn verified(root: &TestRoot, plan: &Path) -> Value {
    root.json(&["plan", "verify", text(plan)]).ok().json()
}

/// An agent that holds some keys.
fn agent(root: &TestRoot, keys: &[&Key]) -> (Running, PathBuf) {
    let socket = root.work("agent");
    let agent = Running::start(Command::new("ssh-agent").args(["-D", "-a", text(&socket)]));
    wait_for("the agent", || socket.exists().then_some(()));
    for key in keys {
        let _ = Ran::of(Command::new("ssh-add").arg(key.text()).env("SSH_AUTH_SOCK", &socket)).ok();
    }
    (agent, socket)
}

#[test]
fn every_kind_of_key_signs_in_its_own_file_and_through_the_agent() {
    let root = TestRoot::new();
    let keys: Vec<Key> =
        (0..).zip(KINDS).map(|(n, kind)| Key::new(root.work(&format!("key{n}")), kind, "")).collect();
    let names: Vec<String> = (0..keys.len()).map(|n| format!("signer{n}@example.org")).collect();
    let signers: Vec<(&str, &Key)> = names.iter().map(String::as_str).zip(&keys).collect();
    allow(&root, &signers);
    let (_agent, socket) = agent(&root, &keys.iter().collect::<Vec<_>>());
    for yaml in [true, false] {
        let plan = root.work(if yaml { "plan.yaml" } else { "plan.json" });
        let _ = root.plan_to(&[ZSTD], &plan).ok();
        let digest = root.json(&["plan", "validate", text(&plan)]).ok().json()["digest"].clone();
        for key in &keys {
            let public = format!("{}.pub", key.text());
            let named = if yaml { key.text() } else { &public };
            let mut command =
                root.command(&["plan", "approve", text(&plan), "--key", named, "--yes", "--json"]);
            let given = Ran::of(command.env("SSH_AUTH_SOCK", &socket)).ok().json();
            assert_eq!(given["digest"], digest, "an approval never changes the digest");
        }
        let verdict = verified(&root, &plan);
        assert_eq!(verdict["approvers"], serde_json::to_value(&names).unwrap());
        assert_eq!(verdict["digest"], digest);
        let written = std::fs::read_to_string(&plan).unwrap();
        assert_eq!(written.starts_with('{'), !yaml, "the file keeps its format");
        // What stands in the plan is what OpenSSH accepts.
        let canonical = root.run(&["plan", "show", text(&plan), "--format", "canonical"]).ok().stdout;
        let shown = root.run(&["plan", "show", text(&plan), "--format", "json"]).ok().json();
        for approval in shown["approvals"].as_array().unwrap() {
            let signature = root.work("signature");
            std::fs::write(&signature, approval["signature"].as_str().unwrap()).unwrap();
            let mut command = Command::new("ssh-keygen");
            command.args(["-Y", "verify", "-n", "abssctl-plan@v1", "-f"]).arg(root.path(LIST));
            command.args(["-I", approval["principal"].as_str().unwrap(), "-s"]).arg(signature);
            assert_eq!(fed(&mut command, canonical.as_bytes()).0, 0, "{approval}");
        }
    }
}

#[test]
fn the_agents_only_key_needs_no_name_and_one_of_many_does() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let (first, second) = (Key::ed25519(root.work("first")), Key::ed25519(root.work("second")));
    allow(&root, &[("anna", &first)]);
    let approve = |socket: Option<&Path>, more: &[&str]| {
        let mut command = root.command(&["plan", "approve", text(&plan), "--yes", "--json"]);
        let _ = command.args(more).envs(socket.map(|socket| ("SSH_AUTH_SOCK", socket)));
        Ran::of(&mut command)
    };
    let _ = approve(None, &[]).error(2, "abssctl::approve::which_key", &["no ssh-agent"]);
    let nowhere = root.work("nowhere");
    let _ = approve(Some(&nowhere), &[]).error(3, "abssctl::agent::io", &["does not answer"]);
    let (running, socket) = agent(&root, &[]);
    let _ = approve(Some(&socket), &[]).error(2, "abssctl::approve::which_key", &["holds none"]);
    let _ = Ran::of(Command::new("ssh-add").arg(first.text()).env("SSH_AUTH_SOCK", &socket)).ok();
    assert_eq!(approve(Some(&socket), &[]).ok().json()["principal"], "anna");
    let second_public = format!("{}.pub", second.text());
    let lacks = approve(Some(&socket), &["--key", &second_public]);
    let _ = lacks.error(2, "abssctl::approve::which_key", &["does not hold"]);
    let _ = Ran::of(Command::new("ssh-add").arg(second.text()).env("SSH_AUTH_SOCK", &socket)).ok();
    let _ = approve(Some(&socket), &[]).error(2, "abssctl::approve::which_key", &["holds 2"]);
    let _ = approve(Some(&socket), &["--key", &second_public, "--principal", "bert"]).ok();
    running.kill();
}

/// Types the passphrase when it is asked for; standard input and output are a terminal of their own.
const TYPIST: &str = r"
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
seen, typed = b'', False
while True:
    try:
        got = os.read(fd, 1024)
    except OSError:
        break
    if not got:
        break
    seen += got
    if b'Passphrase of' in seen and not typed:
        typed = True
        os.write(fd, sys.argv[1].encode().decode('unicode_escape').encode())
sys.stdout.write(seen.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

#[test]
fn an_encrypted_key_asks_at_the_terminal() {
    if skip_unless("an_encrypted_key_asks_at_the_terminal", have("python3"), "no python3") {
        return;
    }
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    // P-521 keys with a short number come through another door; of eight, some are such.
    let kinds = [&KINDS[..5], &[KINDS[3]; 8]].concat();
    for (number, kind) in kinds.into_iter().enumerate() {
        let key = Key::new(root.work(&format!("key{number}")), kind, "correct horse");
        let name = format!("signer{number}");
        let approve = ["plan", "approve", text(&plan), "--key", key.text(), "--principal", &name, "--yes"];
        let without = root.json(&approve).error(3, "abssctl::key::no_terminal", &["passphrase", "terminal"]);
        assert!(without["help"].as_str().unwrap().contains("ssh-add"));
        let typed = |typed: &str| {
            let own = root.command(&approve);
            let mut command = Command::new("python3");
            command.args(["-c", TYPIST, typed]).arg(own.get_program()).args(own.get_args());
            // The environment of the tests is not the program's.
            command.env_clear();
            command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
            Ran::of(&mut command)
        };
        if number == 0 {
            let before = std::fs::read(&plan).unwrap();
            for (keys, code) in [("wrong\\n", 3), ("\\x03", 130), ("\\x04", 130), ("correct horse x\\n", 3)] {
                let _ = typed(keys).code(code);
            }
            assert_eq!(std::fs::read(&plan).unwrap(), before);
            let _ = typed("wrong\\x15correct horsee\\x7f\\n").ok();
        }
        let ran = typed("correct horse\\n").ok();
        assert!(!ran.stdout.contains("correct"), "it is not shown: {}", ran.stdout);
        assert!(ran.stdout.contains("approved by"), "{}", ran.stdout);
    }
}

#[test]
fn a_signature_made_elsewhere_is_proven_before_it_is_added() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let key = Key::ed25519(root.work("key"));
    allow(&root, &[("anna", &key)]);
    let canonical = root.run(&["plan", "show", text(&plan), "--format", "canonical"]).ok().stdout;
    let file = root.work("made.sig");
    let add = || root.json(&["plan", "approve", text(&plan), "--signature", text(&file), "--yes"]);
    let before = std::fs::read(&plan).unwrap();
    for (signature, why) in [
        (key.sign("git", "sha512", canonical.as_bytes()), "not for a plan"),
        (key.sign("abssctl-plan@v1", "sha512", b"other"), "does not belong"),
        ("nonsense".to_owned(), "no SSH signature"),
    ] {
        std::fs::write(&file, signature).unwrap();
        let _ = add().error(6, "abssctl::approve::signature", &[why]);
    }
    assert_eq!(std::fs::read(&plan).unwrap(), before, "a refused signature changes nothing");
    std::fs::write(&file, key.sign("abssctl-plan@v1", "sha512", canonical.as_bytes())).unwrap();
    assert_eq!(add().ok().json()["principal"], "anna");
    assert_eq!(verified(&root, &plan)["approvers"][0], "anna");
}

#[test]
fn detached_approvals_of_two_branches_come_together() {
    let root = TestRoot::new();
    let plan = root.work("plan.yaml");
    let _ = root.plan_to(&[ZSTD], &plan).ok();
    let (anna, bert) = (Key::ed25519(root.work("a")), Key::ed25519(root.work("b")));
    allow(&root, &[("anna@example.org", &anna), ("\"bert smith\"", &bert)]);
    let before = std::fs::read(&plan).unwrap();
    for (branch, key, name) in [("main", &anna, "anna@example.org"), ("fix", &bert, "bert smith")] {
        std::fs::create_dir(root.work(branch)).unwrap();
        let copy = root.work(branch).join("plan.yaml");
        std::fs::copy(&plan, &copy).unwrap();
        let args =
            ["plan", "approve", text(&copy), "--key", key.text(), "--principal", name, "--detached", "--yes"];
        let written = root.json(&args).ok().json();
        assert_eq!(std::fs::read(&copy).unwrap(), before, "the plan file is left alone");
        let made = PathBuf::from(written["path"].as_str().unwrap());
        assert_eq!(made.parent(), copy.parent());
        std::fs::copy(&made, root.work(made.file_name().unwrap().to_str().unwrap())).unwrap();
    }
    let verdict = verified(&root, &plan);
    assert_eq!(verdict["approvers"], serde_json::json!(["anna@example.org", "bert smith"]));
    assert_eq!(verdict["signatures"][0]["file"], "plan.yaml.anna@example.org.sig");
    let names = |number: usize| root.work(["plan.yaml.bert%20smith.sig", "plan.yaml.carl.sig"][number]);
    std::fs::copy(names(0), names(1)).unwrap();
    let verdict = root.json(&["plan", "verify", text(&plan)]).code(6).json();
    assert_eq!(verdict["valid"], false, "bert's signature under carl's name");
    assert_eq!(verdict["approvers"].as_array().unwrap().len(), 2);
}

#[test]
fn what_cannot_be_signed_is_refused() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let key = Key::ed25519(root.work("key"));
    let sign = |plan: &Path, more: &[&str]| {
        let args = [&["plan", "approve", text(plan), "--key", key.text()], more].concat();
        root.json(&args)
    };
    let whole: Value = serde_json::from_slice(&std::fs::read(&plan).unwrap()).unwrap();
    let edited = |name: &str, edit: &dyn Fn(&mut Value)| {
        let mut changed = whole.clone();
        edit(&mut changed);
        std::fs::write(root.work(name), changed.to_string()).unwrap();
        root.work(name)
    };
    let anna = ["--principal", "anna", "--yes"];
    let expired = edited("expired.json", &|plan| {
        plan["metadata"]["createdAt"] = "2019-12-31T00:00:00Z".into();
        plan["metadata"]["expiresAt"] = "2020-01-01T00:00:00Z".into();
    });
    let _ = sign(&expired, &anna).error(5, "abssctl::approve::expired", &["2020-01-01"]);
    let broken = edited("broken.json", &|plan| drop(plan["steps"].as_array_mut().unwrap().pop()));
    assert_eq!(sign(&broken, &anna).code(2).json()["code"], "abssctl::plan::invalid");
    let _ = sign(Path::new("-"), &anna).error(2, "abssctl::approve::standard_input", &[]);
    let _ = sign(&plan, &["--yes"]).error(2, "abssctl::approve::who_signs", &["no allowed signer"]);
    let _ = sign(&plan, &["--principal", "a\u{202e}b", "--yes"]).error(
        2,
        "abssctl::approve::principal",
        &["\\u"],
    );
    let _ = sign(&plan, &["--principal", "anna"]).error(2, "abssctl::approve::no_terminal", &[]);
    // Its name would be too long for a file, and nobody is asked first.
    let accents = "é".repeat(100);
    let long = ["--principal", &accents, "--detached"];
    let _ = sign(&plan, &long).error(2, "abssctl::approve::long_name", &["too long"]);
    let _ = sign(&edited("long.json", &|_| {}), &["--principal", &accents, "--yes"]).ok();
    // A link is not written through, whoever asks.
    let link = root.work("link.json");
    std::os::unix::fs::symlink(&plan, &link).unwrap();
    let refused = "is a symbolic link";
    let _ = sign(&link, &anna).error(2, "abssctl::cli::usage", &[refused]);
    let _ = root.json(&["plan", "refresh", text(&link)]).error(2, "abssctl::cli::usage", &[refused]);
    let ago = edited("9999.json", &|plan| plan["metadata"]["expiresAt"] = "9999-12-31T23:59:59Z".into());
    let ran = sign(&ago, &anna).code(2);
    assert!(ran.stdout.contains("until 9999-12-30T22:00:00Z"), "{}", ran.stdout);
    for (content, code) in [
        ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "abssctl::key::old_form"),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "abssctl::key::form",
        ),
        ("hello", "abssctl::key::form"),
    ] {
        let file = root.work("odd");
        std::fs::write(&file, content).unwrap();
        let args = ["plan", "approve", text(&plan), "--key", text(&file), "--principal", "anna", "--yes"];
        let _ = root.json(&args).error(3, code, &["odd"]);
    }
    let _ = tool("ssh-keygen", &["-q", "-t", "dsa", "-N", "", "-f", text(&root.work("dsa"))]);
    let dsa = root.work("dsa");
    let args = ["plan", "approve", text(&plan), "--key", text(&dsa), "--principal", "anna", "--yes"];
    let _ = root.json(&args).error(6, "abssctl::approve::signature", &["ssh-dss"]);
    assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(&plan).unwrap()).unwrap(), whole);
}

#[test]
fn verify_says_why() {
    let root = TestRoot::new();
    let plan = root.plan(&[ZSTD]);
    let key = Key::ed25519(root.work("key"));
    let _ = root.json(&["plan", "verify", text(&plan)]).error(
        6,
        "abssctl::approve::no_list",
        &["allowed_signers"],
    );
    allow(&root, &[("anna", &key)]);
    let _ = root.run(&["plan", "verify", text(&plan)]).code(6).says("not approved");
    let _ = root.run(&["plan", "approve", text(&plan), "--key", key.text(), "--yes"]).ok();
    for (list, why) in [
        (format!("anna cert-authority {}\n", key.public()), "cert-authority"),
        (format!("anna valid-before=\"20200101\" {}\n", key.public()), "only before 20"),
        (format!("anna namespaces=\"git\" {}\n", key.public()), "only for git"),
        (format!("bert {}\n", key.public()), "allowed for bert"),
        (String::new(), "not among the allowed signers"),
    ] {
        let other = root.work("list");
        std::fs::write(&other, list).unwrap();
        let ran = root.run(&["plan", "verify", text(&plan), "--allowed-signers", text(&other)]).code(6);
        assert!(ran.stdout.contains("✗ anna: ") && ran.stdout.contains(why), "{}", ran.stdout);
    }
    root.write(LIST, format!("anna oops {0}\nanna {0}\n", key.public()));
    let verdict = verified(&root, &plan);
    assert_eq!(verdict["mistakes"][0]["line"], 1);
    let signature = &verdict["signatures"][0];
    assert_eq!(signature["keyType"], "ssh-ed25519");
    let listed = tool("ssh-keygen", &["-l", "-f", key.text()]).stdout;
    assert!(listed.contains(signature["keyFingerprint"].as_str().unwrap()), "{listed}");
}
