//! What a restore reaches beyond this machine's files: nothing but the server that it starts. Seen from
//! outside, by its system calls and by the crates that it is built from.

use std::process::Command;

use crate::support::TestRoot;
use crate::support::root::ZSTD;
use crate::support::strace;
use crate::support::tools::{skip_unless, tool_in};

#[test]
fn a_restore_opens_no_socket() {
    if skip_unless("a_restore_opens_no_socket", strace::works(), "ptrace is not permitted") {
        return;
    }
    let root = TestRoot::new();
    let (log, plan) = (root.work("log"), root.work("plan.json"));
    let options = ["-o", log.to_str().unwrap(), "-A", "-e", "trace=%network,execve"];
    for args in [
        &["plan", "restore", ZSTD, "-o", plan.to_str().unwrap()][..],
        &["plan", "check", plan.to_str().unwrap()],
        &["apply", plan.to_str().unwrap(), "--yes"],
        &["backup", "create", "budget"],
        &["backup", "verify", "--all"],
        &["run", "prune", "--older-than", "0s", "--yes"],
    ] {
        let _ = strace::run(&root.command(args), &options).ok();
    }
    let calls = std::fs::read_to_string(log).unwrap();
    assert_eq!(calls.matches("execve(").count(), 6, "six programs, and none that they started:\n{calls}");
    // A pair of sockets inside the process (for signals) is connected with nobody.
    let reached: Vec<&str> = calls
        .lines()
        .filter(|line| ["socket(", "connect(", "bind(", "listen("].iter().any(|call| line.contains(call)))
        .collect();
    assert!(reached.is_empty(), "{reached:#?}");
}

/// The crates that the program is built from, without those that only tests need.
fn crates() -> Vec<String> {
    let args = ["tree", "-e", "normal", "--prefix", "none", "--locked", "--offline"];
    let ran = tool_in(env!("CARGO_MANIFEST_DIR").as_ref(), env!("CARGO"), &args);
    let plain = |line: &str| line.replace(" (*)", "").replace(" (proc-macro)", "");
    let mut names: Vec<String> = ran.stdout.lines().map(plain).collect();
    names.retain(|name| !name.is_empty() && !name.starts_with("abssctl v"));
    names.sort();
    names.dedup();
    names
}

#[test]
fn one_crate_speaks_to_the_network_in_one_file_and_their_number_is_the_one_in_the_docs() {
    let crates = crates();
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let forbidden = [
        "reqwest",
        "hyper",
        "h2",
        "curl",
        "isahc",
        "attohttpc",
        "minreq",
        "native-tls",
        "openssl",
        "openssl-sys",
        "socket2",
        "mio",
        "tokio",
        "async-std",
        "smol",
        "quinn",
    ];
    let found: Vec<&String> = crates.iter().filter(|line| forbidden.contains(&name(line).as_str())).collect();
    assert!(found.is_empty(), "{found:?}");
    // What asks a server whether it is well does so by ureq, and nothing else does.
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let ran = tool_in(manifest, "grep", &["-rlE", r"ureq::|use ureq|std::net|TcpStream|UdpSocket", "src"]);
    let mut files: Vec<&str> = ran.stdout.lines().collect();
    files.sort_unstable();
    assert_eq!(files, ["src/host/health.rs", "src/host/service.rs"]);
    let read = |file: &str| {
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
    };
    let (page, deny) = (read("docs/security.md"), read("deny.toml"));
    let stated = page.split(" crates that the program is built from").next().unwrap();
    let stated = stated.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap();
    assert_eq!(stated, crates.len().to_string(), "docs/security.md states the number of crates");
    let cap = deny.lines().find_map(|line| line.strip_prefix("# max-crates = ")).unwrap();
    assert_eq!(cap, stated, "max-crates in deny.toml is that number");
}

#[test]
fn no_target_of_this_package_may_hold_unsafe_code() {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(manifest.join("Cargo.toml")).unwrap();
    // Cargo passes it to the library, the program and every test; `forbid` cannot be taken back below.
    assert!(text.contains("[lints.rust]\nunsafe_code = \"forbid\"\n"));
    let ran = Command::new("grep")
        .args(["-rnE", r"unsafe +(fn|impl|extern|\{)|cap-lints", "--include=*.rs", "src", "tests"])
        .current_dir(manifest)
        .output()
        .unwrap();
    let found = String::from_utf8_lossy(&ran.stdout).into_owned();
    let found: Vec<&str> = found.lines().filter(|line| !line.contains("tests/it/supply.rs")).collect();
    assert!(found.is_empty(), "{found:#?}");
}
