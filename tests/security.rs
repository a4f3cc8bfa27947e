//! The threat table of docs/security.md: every test that it names is there, and every attack names one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeSet;
use std::path::Path;

/// The names of all functions in the sources below a directory.
fn functions(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut test = false;
            for line in text.lines().map(str::trim) {
                let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
                if let Some(name) = name.filter(|_| test) {
                    found.insert(name.to_owned());
                }
                // Attributes of a test may stand between; proptest's macro holds functions too.
                test = line == "#[test]" || (test && line.starts_with("#["));
            }
        }
    }
}

#[test]
fn each_cell_of_what_survives_what_names_tests_and_each_of_these_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeSet::new();
    functions(&root.join("tests"), &mut tests);
    let page = std::fs::read_to_string(root.join("docs/survives.md")).unwrap();
    let mut cells = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| fault")) {
        let shown: Vec<&str> = row.trim_matches('|').split('|').skip(1).collect();
        if shown.iter().all(|cell| cell.trim() == "---") {
            continue;
        }
        assert_eq!(shown.len(), 4, "{row}");
        for cell in shown {
            let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
            assert!(!named.is_empty(), "no test in '{cell}': {row}");
            for name in named {
                assert!(tests.contains(name), "there is no test {name}: {row}");
            }
            cells += 1;
        }
    }
    assert!(cells > 80, "{cells} cells");
}

#[test]
fn each_attack_names_tests_and_each_of_these_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeSet::new();
    functions(&root.join("src"), &mut tests);
    functions(&root.join("tests"), &mut tests);
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let threats = page.split("## Threats").nth(1).unwrap().split("\n## ").next().unwrap();
    let (mut attacks, mut missing) = (0, Vec::new());
    for row in threats.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| attack")) {
        let Some(shown) =
            row.trim_end_matches(" |").rsplit(" | ").next().filter(|cell| !cell.starts_with("---"))
        else {
            continue;
        };
        attacks += 1;
        let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty() || shown.contains("adr/"), "no test: {row}");
        missing.extend(named.into_iter().filter(|name| !tests.contains(*name)));
    }
    assert!(attacks > 35, "{attacks} attacks");
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}
