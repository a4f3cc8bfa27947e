//! Secrets of a server stay in its files: canaries planted wherever a server keeps one turn up in no
//! output of ours, whatever is asked and whatever goes wrong.

use std::path::Path;

use crate::support::root::{LIVE, ZSTD};
use crate::support::{Ran, TestRoot};

/// All canaries begin so; each says where it was planted.
const CANARY: &str = "CANARY";
const ACCOUNT: &str = "srv/budget/data/server-files/account.sqlite";
const CONFIG: &str = "srv/budget/data/config.json";
const UNIT: &str = "etc/systemd/system/abssctl-budget.service";
const SITE: &str = "run/abssctl/nginx/sites-available/abssctl-budget.conf";

/// Lines of a unit with a secret wherever a person might put one.
fn unit_lines(generation: &str) -> String {
    let lines = "
# GENERATION and CANARY-comment-GENERATION
[Service]
Environment=ACTUAL_OPENID_CLIENT_SECRET=CANARY-unit-secret-GENERATION
Environment=ACTUAL_OPENID_CLIENT_SECRET=\\
CANARY-unit-next-line-GENERATION
Environment=\"GATE=CANARY-unit-variable-GENERATION and CANARY-unit-quoted-GENERATION\" PORT=5007
Environment=GATE='it is \"A' CANARY-unit-odd-GENERATION
Environment=ABSSCTL_PW=CANARY-unit-own-GENERATION
Environment=ACTUAL_OPENID_DISCOVERY_URL=https://h/?key=CANARY-unit-query-GENERATION
Environment=ACTUAL_HOSTNAME=https://u:a/CANARY-unit-login-GENERATION@h/
SetCredentialEncrypted=foo: \\
  CANARY-unit-credential-GENERATION \\
  CANARY-unit-credential2-GENERATION
ExecStartPre=/usr/bin/gate --pin CANARY-unit-pin-GENERATION
ExecStartPre=/usr/bin/curl -u admin:CANARY-unit-curl-GENERATION https://h/
ExecStartPre=/bin/sh -c 'echo CANARY-unit-shell-GENERATION | tee /run/x'
ExecStart=/usr/bin/node app.js --password CANARY-unit-argument-GENERATION
RestartSec=1NUMBER
";
    numbered(lines, generation)
}

/// Lines of a site with a secret wherever a person might put one.
fn site_lines(generation: &str) -> String {
    let lines = "
# GENERATION and CANARY-comment-GENERATION
proxy_set_header Authorization \"Basic CANARY-site-authorization-GENERATION\";
proxy_set_header
  X-Gate
  \"CANARY-site-lines-GENERATION\";
listen 80; proxy_set_header X-Gate CANARY-site-second-GENERATION;
proxy_set_header X-Gate $host-CANARY-site-behind-GENERATION;
proxy_set_header X-Forwarded-Gate CANARY-site-forwarded-GENERATION;
set $g \"${x}CANARY-site-set-GENERATION\";
if ($arg_k = \"CANARY-site-if-GENERATION\") { return 301 https://h/?sig=CANARY-site-return-GENERATION; }
proxy_pass https://user:CANARY-site-login-GENERATION@127.0.0.1/;
client_max_body_size 1NUMBERm;
";
    numbered(lines, generation)
}

fn numbered(lines: &str, generation: &str) -> String {
    let number = if generation == "old" { "1" } else { "2" };
    lines.replace("GENERATION", generation).replace("NUMBER", number)
}

/// Plants a secret of one generation everywhere.
fn plant(root: &TestRoot, generation: &str) {
    let at = |place: &str| format!("{CANARY}-{place}-{generation}");
    let config = serde_json::json!({
        "hostname": "127.0.0.1", "port": 5007, "loginMethod": "openid", "token_expiration": generation,
        "openId": {
            "discoveryURL": format!("https://user:{}@login.example/x?key={}", at("login"), at("query")),
            "client_id": "actual", "client_secret": at("client-secret"),
        },
        "https": { "key": at("https-key"), "cert": format!("-----BEGIN PRIVATE KEY-----{}", at("cert")), "passphrase": at("passphrase") },
        "nobodyKnowsThisKey": { "pin": [at("unknown-key")] },
        at("key-name"): true,
    });
    root.write(CONFIG, config.to_string());
    for (file, lines) in [(UNIT, unit_lines(generation)), (SITE, site_lines(generation))] {
        let text = root.read(file);
        root.write(file, text + &lines);
    }
    let openid = serde_json::json!({ "client_secret": at("openid-row"), "issuer": "https://login.example" });
    root.sql(
        ACCOUNT,
        &format!(
            "UPDATE auth SET extra_data = '$2b$12${}' WHERE method = 'password';
             INSERT OR REPLACE INTO auth VALUES ('openid', 'OpenID', '{openid}', 0);
             INSERT INTO sessions VALUES ('{}', -1, 'u', 'password');
             INSERT OR REPLACE INTO secrets VALUES ('gocardless_secretKey', '{}');
             INSERT OR REPLACE INTO secrets VALUES ('simplefin_accessKey', 'https://{}@bridge.example');
             INSERT INTO pending_openid_requests VALUES ('{}', '{}', '', 0);
             UPDATE files SET encrypt_salt = '{}', encrypt_test = '{}';",
            at("password-hash"),
            at("session"),
            at("bank-key"),
            at("bank-address"),
            at("state"),
            at("verifier"),
            at("salt"),
            at("test")
        ),
    );
}

/// What was said so far, and the search for canaries in it.
struct Watch {
    root: TestRoot,
    seen: usize,
}

impl Watch {
    fn new() -> Self {
        Self { root: TestRoot::new(), seen: 0 }
    }

    /// Searches a text as it is, and for what encodings make of a canary.
    fn search(&mut self, what: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).to_lowercase();
        // Plain, hexadecimal, and base64 at each of the three places in a group.
        for form in ["canary", "43414e415259", "q0foqvj", "nbtkfsw", "dqu5bul"] {
            assert!(!text.contains(form), "a secret is in {what}:\n{text}");
        }
        self.seen += 1;
    }

    /// Runs it, and searches what it prints.
    fn run(&mut self, args: &[&str]) -> Ran {
        let ran = self.root.run(args);
        self.search(&format!("the output of {args:?}"), format!("{}{}", ran.stdout, ran.stderr).as_bytes());
        ran
    }

    /// The same in both forms, for what ends the same twice.
    fn both(&mut self, args: &[&str]) {
        let text = self.run(args);
        let json = self.run(&[args, &["--json"]].concat());
        assert_eq!(text.code, json.code, "{args:?}: {}{}", text.stderr, json.stderr);
    }

    /// Searches every file of ours: state, index, registry, logs, locks, and what was written beside.
    fn files(&mut self) {
        for directory in ["var", "run/abssctl", "srv/backups"] {
            let path = self.root.path(directory);
            self.below(&path);
        }
        let work = self.root.work("");
        self.below(&work);
    }

    fn below(&mut self, directory: &Path) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // Archives hold the server's files as they are, and the vhost is the operator's own file.
            if name.contains(".tar") || name == "nginx" {
                continue;
            }
            if path.is_dir() {
                self.below(&path);
            } else if path.is_file() {
                self.search(&format!("the file {name}"), &std::fs::read(&path).unwrap());
            }
        }
    }
}

/// A backup with one generation of secrets, and a live server with another.
fn planted() -> (Watch, String) {
    let mut watch = Watch::new();
    plant(&watch.root, "old");
    let made = watch.run(&["backup", "create", "budget", "--json"]).ok().json();
    plant(&watch.root, "new");
    (watch, made["id"].as_str().unwrap().to_owned())
}

#[test]
fn no_output_of_a_restore_holds_a_secret() {
    let (mut watch, id) = planted();
    let work = watch.root.work("");
    let file = |name: &str| work.join(name).display().to_string();
    let (yaml, json, other) = (file("plan.yaml"), file("plan.json"), file("other.yaml"));
    let _ = watch.run(&["plan", "restore", &id, "-o", &yaml]).ok();
    let _ =
        watch.run(&["plan", "restore", &id, "-o", &json, "--clients", "reset", "--sessions", "revoke"]).ok();
    let _ = watch.run(&["plan", "restore", ZSTD, "-o", &other]).ok();
    // Proof that there was something to hide: the differences of all three files are in the plan.
    let text = std::fs::read_to_string(&yaml).unwrap();
    for shown in [
        "config.json",
        "abssctl-budget.service",
        "abssctl-budget.conf",
        "kept secret",
        "RestartSec=12",
        "client_max_body_size 12m;",
    ] {
        assert!(text.contains(shown), "{shown} is in {text}");
    }
    for format in ["text", "markdown", "html", "mermaid", "dot", "json", "yaml", "canonical"] {
        let _ = watch.run(&["plan", "show", &yaml, "--format", format]).ok();
    }
    for command in ["validate", "check"] {
        let _ = watch.run(&["plan", command, &yaml, "--format", "sarif"]).ok();
    }
    for args in [
        &["plan", "check", &yaml] as &[&str],
        &["plan", "check", &json],
        &["plan", "validate", &yaml],
        &["plan", "verify", &yaml],
        &["plan", "diff", &yaml, &json],
        &["plan", "diff", &yaml, &other],
        &["backup", "list"],
        &["backup", "show", &id],
        &["backup", "verify", &id],
        &["backup", "restore", &id, "--dry-run"],
        &["instance", "list"],
        &["instance", "show", "budget"],
        &["config", "show"],
        &["facts"],
        &["facts", "--backup", &id, "--backup", ZSTD],
    ] {
        watch.both(args);
    }
    let _ = watch.run(&["apply", &yaml, "--dry-run"]).ok();
    let receipt = file("receipt.json");
    let applied = watch.run(&["apply", &yaml, "--yes", "--events", "-v", "--receipt", &receipt]).ok();
    let result: serde_json::Value = serde_json::from_str(applied.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(result["result"]["outcome"], "applied", "{result:#}");
    let run = watch.root.runs()[0]["run"].as_str().unwrap().to_owned();
    for args in [
        &["run", "list"] as &[&str],
        &["run", "show", &run],
        &["run", "show", &run, "--receipt"],
        &["plan", "verify", &yaml, "--receipt", &receipt],
        &["run", "prune", "--dry-run"],
    ] {
        watch.both(args);
    }
    watch.both(&["apply", &yaml, "--yes"]);
    watch.files();
    assert!(watch.seen > 60, "{} texts were searched", watch.seen);
}

#[test]
fn no_error_holds_a_secret() {
    let (mut watch, id) = planted();
    let plan = watch.root.work("plan.yaml").display().to_string();
    let _ = watch.run(&["plan", "restore", &id, "-o", &plan]).ok();

    // The server's files changed, broke, or are something else.
    let (config, account) = (watch.root.read(CONFIG), std::fs::read(watch.root.path(ACCOUNT)).unwrap());
    let garbage = format!("{CANARY}-garbage ").repeat(500);
    for broken in
        [garbage.as_str(), "{\"client_secret\": \"CANARY-cut", "[\"CANARY-list\"]", "\"CANARY-text\""]
    {
        watch.root.write(CONFIG, broken);
        watch.root.write("srv/budget/data/.migrate", broken);
        watch.both(&["plan", "check", &plan]);
        let _ = watch.run(&["plan", "check", &plan, "--format", "sarif"]).code(5);
        watch.both(&["apply", &plan, "--yes"]);
        watch.both(&["plan", "restore", &id]);
    }
    watch.root.write(CONFIG, config);
    for broken in [garbage.clone(), format!("SQLite format 3\0{garbage}")] {
        watch.root.write(ACCOUNT, broken);
        watch.both(&["plan", "check", &plan]);
        watch.both(&["plan", "restore", &id]);
        watch.both(&["backup", "create", "budget"]);
    }
    watch.root.write(ACCOUNT, account);

    // A backup whose databases are broken: the run is undone, and that is recorded.
    for (name, database) in [
        ("garbage", garbage.clone().into_bytes()),
        ("header", format!("SQLite format 3\0{garbage}").into_bytes()),
        ("rows", database_of_secrets()),
    ] {
        use crate::support::archive::{MADE, make, members};
        let mut all = members(&watch.root);
        let member = all.iter_mut().find(|member| member.name.ends_with(b"account.sqlite")).unwrap();
        member.bytes = database;
        make(&watch.root, &all);
        watch.both(&["plan", "restore", MADE]);
        let plan = watch.root.work(&format!("{name}.yaml")).display().to_string();
        if watch.run(&["plan", "restore", MADE, "-o", &plan]).code == 0 {
            let ran = watch.run(&["apply", &plan, "--yes", "--json"]);
            assert_ne!(ran.code, 0, "{name}: {}", ran.stdout);
        }
        watch.both(&["backup", "verify", MADE]);
    }
    watch.files();
}

/// A database that is whole, and none of a server.
fn database_of_secrets() -> Vec<u8> {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("a.sqlite");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE auth (method TEXT, extra_data TEXT); INSERT INTO auth VALUES ('CANARY', 'CANARY');
             CREATE TABLE sessions (token TEXT); INSERT INTO sessions VALUES ('CANARY-session');
             CREATE TABLE users (id TEXT, CHECK (id <> 'CANARY'));",
        )
        .unwrap();
    drop(connection);
    std::fs::read(&path).unwrap()
}

#[test]
fn the_search_finds_what_is_there() {
    let (mut watch, _) = planted();
    let live = watch.root.path(LIVE);
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watch.below(&live)));
    assert!(found.is_err(), "the live directory is full of them");
    for text in ["x CANARY", "43414E415259", "Q0FOQVJZ", "IENBTkFSWQ==", "ICBDQU5BUlk="] {
        let found =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watch.search("x", text.as_bytes())));
        assert!(found.is_err(), "{text}");
    }
}
