//! What a plan says of people: who can log in afterwards, budgets that were deleted or reset since, and
//! what happens to the clients of single budgets.

use serde_json::{Value, json};

use crate::support::TestRoot;
use crate::support::root::{LIVE, ZSTD};

const ACCOUNT: &str = "srv/budget/data/server-files/account.sqlite";
const CONFIG: &str = "srv/budget/data/config.json";

fn plan(root: &TestRoot, args: &[&str]) -> Value {
    serde_json::from_slice(&std::fs::read(root.plan(args)).unwrap()).unwrap()
}

fn codes(plan: &Value) -> Vec<&str> {
    let warnings = plan["preview"]["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
    warnings.iter().map(|warning| warning["code"].as_str().unwrap()).collect()
}

fn budget_id(plan: &Value, name: &str) -> String {
    let budgets = plan["preview"]["budgets"].as_array().unwrap();
    budgets.iter().find(|budget| budget["name"] == name).unwrap()["id"].as_str().unwrap().to_owned()
}

#[test]
fn who_can_log_in_afterwards_is_counted_and_named() {
    let root = TestRoot::new();
    root.sql(
        ACCOUNT,
        "INSERT INTO users VALUES ('u2', 'ann', '', 'BASIC', 1, 0), ('u3', 'eve', '', 'BASIC', 1, 0);
         INSERT INTO sessions VALUES ('lost-phone', -1, 'u3', 'openid');
         INSERT INTO secrets VALUES ('a', '1'), ('b', '1'), ('c', '1');",
    );
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    let ours = made["id"].as_str().unwrap();
    let same = plan(&root, &[ours]);
    assert_eq!(same["preview"]["accounts"]["password"], "same", "{same:#}");
    assert_eq!(codes(&same), ["no-change"]);
    root.sql(
        ACCOUNT,
        "UPDATE users SET enabled = 0 WHERE user_name = 'eve'; DELETE FROM sessions WHERE token = 'lost-phone';
         INSERT INTO users VALUES ('u4', 'bob', '', 'BASIC', 1, 0);
         INSERT INTO sessions VALUES ('one', -1, 'u4', 'openid'), ('two', -1, 'u4', 'openid');
         UPDATE auth SET extra_data = '$2b$12$other', active = 0 WHERE method = 'password';
         INSERT INTO auth VALUES ('openid', 'OpenID', '{}', 1);
         DELETE FROM secrets WHERE name = 'a'; UPDATE secrets SET value = '2' WHERE name = 'b';
         INSERT INTO secrets VALUES ('d', '1');
         UPDATE files SET deleted = 1 WHERE name = 'Holiday';
         UPDATE files SET encrypt_keyid = 'key' WHERE name = 'Household';",
    );
    let plan = plan(&root, &[ours]);
    let names = |list: &[&str]| match list {
        [] => json!({ "count": 0 }),
        _ => json!({ "count": list.len(), "names": list }),
    };
    let expected = json!({
        "loginMethod": { "live": "openid", "backup": "password" },
        "password": "other",
        "users": { "back": names(&["eve"]), "gone": names(&["bob"]), "changed": names(&[]) },
        "sessions": { "back": 1, "gone": 2 },
        "bankTokens": { "back": names(&["a"]), "gone": names(&["d"]), "changed": names(&["b"]) },
    });
    assert_eq!(plan["preview"]["accounts"], expected, "{plan:#}");
    let told = codes(&plan);
    for code in [
        "login-method",
        "password-returns",
        "bank-tokens",
        "users-return",
        "users-gone",
        "sessions-return",
        "budget-returns",
        "budget-key",
    ] {
        assert!(told.contains(&code), "{code} is in {told:?}");
    }
    // The machine proves all of it, and what came since is no lie.
    let path = root.work("plan.json");
    let _ = root.run(&["plan", "check", path.to_str().unwrap()]).ok();
    root.sql(ACCOUNT, "INSERT INTO sessions VALUES ('three', -1, 'u4', 'openid');");
    let _ = root.run(&["plan", "check", path.to_str().unwrap()]).ok();
    // Facts tell the same.
    let facts = root.work("facts.json");
    let seen = root.run(&["facts", "--backup", ours, "-o", facts.to_str().unwrap()]);
    assert_eq!(seen.code, 0, "{}", seen.stderr);
    let text = std::fs::read_to_string(&facts).unwrap();
    assert!(text.contains("\"eve\"") && !text.contains("lost-phone") && !text.contains("$2b$12"), "{text}");
    // Applied, what was said is so.
    let _ = root.apply(&root.plan(&[ours])).ok();
    let connection = rusqlite::Connection::open(root.path(ACCOUNT)).unwrap();
    let count = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM sessions WHERE token = 'lost-phone'"), 1);
    assert_eq!(count("SELECT count(*) FROM users WHERE user_name = 'bob'"), 0);
}

#[test]
fn a_restore_that_locks_out_says_so() {
    let root = TestRoot::new();
    let config = root.read(CONFIG);
    root.sql(
        ACCOUNT,
        "UPDATE auth SET active = 0; UPDATE users SET enabled = 0;
         INSERT INTO auth VALUES ('openid', 'OpenID', '{\"issuer\":\"https://i\",\"client_id\":\"c\"}', 1);",
    );
    root.write(CONFIG, config.replace("\"password\"", "\"openid\""));
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    let ours = made["id"].as_str().unwrap();
    root.write(CONFIG, &config);
    let told = plan(&root, &[ours]);
    assert_eq!(
        told["preview"]["accounts"]["lockedOut"],
        json!(["openid-incomplete", "no-owner"]),
        "{told:#}"
    );
    assert_eq!(told["preview"]["accounts"]["configuredMethod"]["backup"], "openid");
    assert_eq!(codes(&told).iter().filter(|code| **code == "locked-out").count(), 3, "{told:#}");
    for format in ["text", "markdown", "html"] {
        let path = root.work("plan.json");
        let shown = root.run(&["plan", "show", path.to_str().unwrap(), "--format", format]).ok().stdout;
        let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("nobody can log in after the restore"), "{format}: {shown}");
    }
    // The peer's archives hold no trouble.
    assert!(!codes(&plan(&root, &[ZSTD])).contains(&"locked-out"));
}

#[test]
fn clients_of_single_budgets_go_by_name_or_id() {
    let root = TestRoot::new();
    let made = root.json(&["backup", "create", "budget"]).ok().json();
    let ours = made["id"].as_str().unwrap();
    let by_name = plan(&root, &[ours, "--clients", "Household=reset"]);
    let id = budget_id(&by_name, "Household");
    assert_eq!(by_name["spec"]["clients"], json!({ "default": "merge", "budgets": { id.clone(): "reset" } }));
    let groups = |plan: &Value| {
        let steps = plan["steps"].as_array().unwrap().clone();
        steps.into_iter().find(|step| step["kind"] == "prepare").unwrap()["with"]["groups"].clone()
    };
    assert_eq!(groups(&by_name).as_array().unwrap().len(), 1);
    let by_id = plan(&root, &[ours, "--clients", "merge", "--clients", &format!("{id}=reset")]);
    assert_eq!(by_id["spec"]["clients"], by_name["spec"]["clients"]);
    // What all get anyway is not written down.
    let plain = plan(&root, &[ours, "--clients", "reset", "--clients", "Household=reset"]);
    assert_eq!(plain["spec"]["clients"], "reset");

    let refused = |args: &[&str], what: &str| {
        let ran = root.run(&[&["plan", "restore", ours][..], args].concat());
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
        let words = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(what), "{args:?}: {}", ran.stderr);
    };
    refused(&["--clients", "Nobody=reset"], "no budget 'Nobody'");
    refused(&["--clients", "merge", "--clients", "reset"], "twice");
    refused(&["--clients", "Household=reset", "--clients", "Household=merge"], "twice");
    refused(&["--clients", "perhaps"], "write merge or reset");

    let applied = root.apply(&root.plan(&[ours, "--clients", "Household=reset"])).ok().json();
    assert_eq!(applied["clients"], by_name["spec"]["clients"]);
    assert_eq!(root.entry(ours)["restores"][0]["clients"], format!("merge, {id}=reset"));
    let log = root.log().last().unwrap()["args"]["clients"].clone();
    assert_eq!(log, by_name["spec"]["clients"]);

    // Two of one name go by id alone; a budget that is gone from the backup is told when the plan is refreshed.
    root.sql(ACCOUNT, "UPDATE files SET name = 'Household';");
    let twice = root.json(&["backup", "create", "budget"]).ok().json();
    let ran = root.run(&["plan", "restore", twice["id"].as_str().unwrap(), "--clients", "Household=reset"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("2 budgets of the backup are called") && ran.stderr.contains(&id),
        "{}",
        ran.stderr
    );
    let path = root.plan(&[ours, "--clients", "Household=reset"]);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(&format!("\"{id}\": \"reset\""), "\"gone\": \"reset\"")).unwrap();
    let ran = root.run(&["plan", "refresh", path.to_str().unwrap()]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("'gone'"), "{}", ran.stderr);
    assert!(root.path(LIVE).is_dir());
}
