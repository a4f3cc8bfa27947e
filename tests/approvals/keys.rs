//! Keys of every kind, made by `ssh-keygen`, and signatures by it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::tools::tool;

/// Kinds and lengths of keys that may sign.
pub(crate) const KINDS: [(&str, &str); 7] = [
    ("ed25519", "256"),
    ("ecdsa", "256"),
    ("ecdsa", "384"),
    ("ecdsa", "521"),
    ("rsa", "2048"),
    ("rsa", "3072"),
    ("rsa", "4096"),
];

/// A key file; its public part lies beside it.
#[derive(Debug)]
pub(crate) struct Key(pub(crate) PathBuf);

impl Key {
    pub(crate) fn new(path: PathBuf, (kind, bits): (&str, &str), passphrase: &str) -> Self {
        let _ = tool(
            "ssh-keygen",
            &["-q", "-t", kind, "-b", bits, "-N", passphrase, "-C", "", "-f", path.to_str().unwrap()],
        );
        Self(path)
    }

    pub(crate) fn ed25519(path: PathBuf) -> Self {
        Self::new(path, KINDS[0], "")
    }

    pub(crate) fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Its public part as a line of a list holds it.
    pub(crate) fn public(&self) -> String {
        std::fs::read_to_string(self.0.with_extension("pub")).unwrap().trim().to_owned()
    }

    /// A signature by `ssh-keygen`.
    pub(crate) fn sign(&self, namespace: &str, hash: &str, text: &[u8]) -> String {
        let option = format!("hashalg={hash}");
        let args = ["-Y", "sign", "-q", "-n", namespace, "-O", &option, "-f", self.text()];
        let (code, out) = fed(Command::new("ssh-keygen").args(args), text);
        assert_eq!(code, 0, "{out}");
        out
    }
}

/// Whether `ssh-keygen -Y verify` accepts a signature now.
pub(crate) fn openssh_accepts(
    work: &Path,
    list: &str,
    principal: &str,
    signature: &str,
    text: &[u8],
) -> bool {
    let (signers, file) = (work.join("list"), work.join("signature"));
    std::fs::write(&signers, list).unwrap();
    std::fs::write(&file, signature).unwrap();
    let mut command = Command::new("ssh-keygen");
    command.args(["-Y", "verify", "-n", "abssctl-plan@v1", "-I", principal, "-f"]).arg(signers);
    command.arg("-s").arg(file).env("TZ", "UTC");
    fed(&mut command, text).0 == 0
}

/// Runs a program with something on its standard input.
pub(crate) fn fed(command: &mut Command, input: &[u8]) -> (i32, String) {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = piped.spawn().unwrap();
    // A program that refuses its arguments does not read.
    drop(child.stdin.take().unwrap().write_all(input));
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}
