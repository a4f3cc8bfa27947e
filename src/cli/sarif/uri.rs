//! A path as it was typed, as a reference that URI readers take for the same file. Pure.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

/// A relative path stays relative, without `.`: forges look for it in the repository. An absolute one is a
/// `file:` address. `-` is standard input and stays.
pub(super) fn uri(path: &Path) -> String {
    let parts: Vec<String> = path
        .components()
        .filter(|part| !matches!(part, Component::CurDir | Component::RootDir))
        .map(|part| encoded(part.as_os_str().as_bytes()))
        .collect();
    let joined = parts.join("/");
    if path.is_absolute() { format!("file:///{joined}") } else { joined }
}

/// Everything but RFC 3986's unreserved characters as a code, so that no name reads as a scheme, a query
/// or a fragment.
fn encoded(name: &[u8]) -> String {
    let mut text = String::new();
    for byte in name {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_references_to_the_same_file() {
        for (path, expected) in [
            ("plans/x.yaml", "plans/x.yaml"),
            ("./plans/./x.yaml", "plans/x.yaml"),
            ("../x.yaml", "../x.yaml"),
            ("a b/é#?.yaml", "a%20b/%C3%A9%23%3F.yaml"),
            ("c:x.yaml", "c%3Ax.yaml"),
            ("100%.yaml", "100%25.yaml"),
            ("/srv/x y.yaml", "file:///srv/x%20y.yaml"),
            ("-", "-"),
        ] {
            assert_eq!(uri(Path::new(path)), expected);
        }
    }

    #[test]
    fn names_that_are_no_text_are_named_too() {
        let name = std::ffi::OsStr::from_bytes(b"\xff\n.yaml");
        assert_eq!(uri(Path::new(name)), "%FF%0A.yaml");
    }
}
