//! SSH key files: reads private and public keys and signs with the former. Changes nothing; private
//! parts are wiped from memory when they go out of use.

use std::io;
use std::path::{Path, PathBuf};

use ssh_key::public::KeyData;
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::fs::{FsError, IoContext as _, read_limited};

mod rsa;
mod short;

/// No key file is larger.
const LIMIT: u64 = 64 << 10;

/// A key cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum KeyError {
    /// The file cannot be read.
    #[error(transparent)]
    #[diagnostic(code(abssctl::key::io), help("name a key file that you may read: --key ~/.ssh/id_ed25519"))]
    Fs(#[from] FsError),
    /// The file is no key.
    #[error("{} is no SSH key: {why}", .path.display())]
    #[diagnostic(
        code(abssctl::key::form),
        help("name the private key, or its .pub file to sign through ssh-agent")
    )]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A private key in an old form.
    #[error("{} holds a private key, but not in OpenSSH's format", .path.display())]
    #[diagnostic(
        code(abssctl::key::old_form),
        help("add it to ssh-agent and name its .pub file, or convert it: ssh-keygen -p -f {}", .path.display())
    )]
    OldForm {
        /// The file.
        path: PathBuf,
    },
    /// The private part is in a security key.
    #[error("the private part of {} is in a security key, which only OpenSSH can use", .path.display())]
    #[diagnostic(
        code(abssctl::key::hardware),
        help(
            "add it to ssh-agent and name its .pub file, or sign with ssh-keygen and use --signature:\n\
             abssctl plan show FILE --format canonical | ssh-keygen -Y sign -n abssctl-plan@v1 -f {} - > FILE.sig",
            .path.display()
        )
    )]
    Hardware {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase is wrong.
    #[error("the passphrase does not open {}", .path.display())]
    #[diagnostic(code(abssctl::key::passphrase), help("try again; nothing was written"))]
    Passphrase {
        /// The file.
        path: PathBuf,
    },
    /// The key cannot sign.
    #[error("{} cannot sign: {why}", .path.display())]
    #[diagnostic(
        code(abssctl::key::sign),
        help("use an ed25519, ecdsa or rsa key, or add the key to ssh-agent")
    )]
    Sign {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// A private key of a file.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    key: PrivateKey,
}

/// What a key file holds.
#[derive(Debug)]
pub enum Loaded {
    /// A private key, perhaps encrypted.
    Private(Box<KeyFile>),
    /// A public key: the private one is somewhere else.
    Public(KeyData),
}

/// Reads a key file.
///
/// # Errors
/// It cannot be read, or is no key.
pub fn load(path: &Path) -> Result<Loaded, KeyError> {
    let bytes = Zeroizing::new(read(path).context("read", path)?);
    let form = |why: &str| KeyError::Form { path: path.into(), why: why.to_owned() };
    let text = std::str::from_utf8(&bytes).map_err(|_| form("it is not text"))?;
    if !text.contains("-----BEGIN ") {
        let key = PublicKey::from_openssh(text.trim()).map_err(|error| form(&error.to_string()))?;
        return Ok(Loaded::Public(key.key_data().clone()));
    }
    if !text.contains("-----BEGIN OPENSSH PRIVATE KEY-----") {
        let private = text.contains("PRIVATE KEY-----");
        return Err(if private {
            KeyError::OldForm { path: path.into() }
        } else {
            form("it is something else")
        });
    }
    let key = match PrivateKey::from_openssh(text) {
        Ok(key) => key,
        Err(error) => short::of_plain(text).ok_or_else(|| form(&error.to_string()))?,
    };
    let data = key.public_key().key_data();
    if data.is_sk_ed25519() || data.is_sk_ecdsa_p256() {
        return Err(KeyError::Hardware { path: path.into() });
    }
    Ok(Loaded::Private(Box::new(KeyFile { path: path.into(), key })))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    read_limited(file, LIMIT)
}

impl KeyFile {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its public part, which is known without a passphrase.
    pub fn public(&self) -> &KeyData {
        self.key.public_key().key_data()
    }

    /// Whether a passphrase is needed before it can sign.
    pub fn is_encrypted(&self) -> bool {
        self.key.is_encrypted()
    }

    /// Opens it with its passphrase.
    ///
    /// # Errors
    /// The passphrase is wrong, or the cipher is not known.
    pub fn unlock(&mut self, passphrase: &str) -> Result<(), KeyError> {
        let opened = self.key.decrypt(passphrase).ok();
        self.key = opened
            .or_else(|| short::of_encrypted(&self.key, passphrase))
            .ok_or_else(|| KeyError::Passphrase { path: self.path.clone() })?;
        Ok(())
    }

    /// Signs a text for a purpose; gives an armored SSHSIG.
    ///
    /// # Errors
    /// It is encrypted, or of a type that cannot sign.
    pub fn sign(&self, namespace: &str, text: &[u8]) -> Result<String, KeyError> {
        let signed = match self.key.key_data().rsa() {
            Some(pair) => rsa::sign(pair, namespace, text),
            None => self.key.sign(namespace, HashAlg::Sha512, text),
        };
        signed
            .and_then(|signature| signature.to_pem(LineEnding::LF))
            .map_err(|error| KeyError::Sign { path: self.path.clone(), why: error.to_string() })
    }
}
