//! Lists of digests as `sha256sum` writes them: which generation of the instance stands in a directory.

use std::collections::BTreeMap;
use std::path::Path;

use abssctl::ids::Sha256;

use super::tools::{fixture, tool};

/// The files below a directory by path (`./…`), with their digests.
pub(crate) fn of(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    walk(directory, directory, &mut found);
    found
}

fn walk(base: &Path, directory: &Path, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(base, &path, found);
        } else {
            let name = format!("./{}", path.strip_prefix(base).unwrap().display());
            found.insert(name, Sha256::of(&std::fs::read(&path).unwrap()).to_string());
        }
    }
}

/// A list of digests of `tests/fixtures`.
pub(crate) fn list(name: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(fixture(name)).unwrap();
    let line = |line: &str| {
        let (digest, path) = line.split_once("  ").unwrap();
        (path.to_owned(), digest.to_owned())
    };
    let found: BTreeMap<String, String> = text.lines().map(line).collect();
    assert!(found.len() >= 5, "{name} lists an instance");
    found
}

/// Proves that a directory holds exactly the files of a list, each with its bytes.
#[track_caller]
pub(crate) fn assert_generation(directory: &Path, name: &str) {
    assert_eq!(of(directory), list(name), "{} is not {name}", directory.display());
}

/// The digest of a tree by the program of docs/receipt.md, which shares nothing with ours.
pub(crate) fn tree_digest(directory: &Path) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/receipt.md")).unwrap();
    let (_, code) = page.split_once("```python\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    tool("python3", &["-c", code, directory.to_str().unwrap()]).stdout.trim().to_owned()
}
