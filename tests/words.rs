//! Every command that a message, a help text, a page or a script tells people to type exists: words
//! after `abssctl` in the sources are looked up in the command line itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::path::{Path, PathBuf};

use abssctl::cli::args::Cli;
use clap::CommandFactory as _;

/// Words that follow the program's name in a sentence, where nothing is to be typed.
const PROSE: &[&str] = &["and", "machine", "makes", "puts", "reads", "remembers", "shares", "sync", "that"];

/// Files in which people are told what to type.
fn texts() -> Vec<PathBuf> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![base.join("README.md")];
    for folder in ["src", "docs", "examples"] {
        collect(&base.join(folder), &mut found);
    }
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // Decisions speak of what is to come too.
        if path.is_dir() && !path.ends_with("adr") {
            collect(&path, found);
        } else if path
            .extension()
            .is_some_and(|end| ["rs", "md", "sh", "snap", "yml"].iter().any(|known| end == *known))
        {
            found.push(path);
        }
    }
}

/// Two crates may be replaced one day: each is known to one module alone (docs/adr/0002 and 0003).
#[test]
fn crates_on_their_way_out_are_named_in_one_place() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    collect(&base.join("src"), &mut sources);
    for (name, place) in [("serde_yaml", "src/state/yaml"), ("fs2", "src/host/lock")] {
        let named = |path: &&PathBuf| std::fs::read_to_string(path).unwrap().contains(name);
        let found: Vec<&PathBuf> = sources.iter().filter(named).collect();
        assert!(!found.is_empty(), "{name} is gone: take it out of Cargo.toml and of this test");
        for path in found {
            let below = path.strip_prefix(base).unwrap().to_str().unwrap();
            assert!(below.starts_with(place), "{below} names {name}, which only {place}* may");
        }
    }
}

/// The word at the beginning of a text: lower-case letters and `-`.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_lowercase() || c == '-')).unwrap_or(text.len());
    &text[..end]
}

#[test]
fn every_command_that_is_named_exists() {
    let command = Cli::command();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in texts() {
        let text = std::fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices("abssctl ") {
            let rest = &text[at + "abssctl ".len()..];
            let first = word(rest);
            if first.is_empty() || first.starts_with('-') || PROSE.contains(&first) {
                continue;
            }
            let Some(group) = command.find_subcommand(first).filter(|_| first != "help") else {
                wrong.push(format!("{}: abssctl {first}", path.display()));
                continue;
            };
            seen += 1;
            if group.has_subcommands()
                && let Some(after) = rest[first.len()..].strip_prefix(' ')
            {
                let second = word(after);
                if !second.is_empty() && group.find_subcommand(second).is_none() {
                    wrong.push(format!("{}: abssctl {first} {second}", path.display()));
                }
            }
        }
    }
    assert!(seen > 50, "the search finds nothing any more: {seen}");
    assert!(wrong.is_empty(), "commands that do not exist:\n{}", wrong.join("\n"));
}
