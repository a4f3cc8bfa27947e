//! SSH signatures (SSHSIG) over the canonical text of a plan: reading what `ssh-keygen -Y sign` and this
//! program write, and proving that one belongs to a text. Pure.
//!
//! Stricter than OpenSSH in three points, which harm no signature that OpenSSH writes: the version is
//! 1, the reserved field is empty (nothing unsigned travels along), and RSA keys have 2048 bits or more.

use ssh_encoding::Encode as _;
use ssh_encoding::base64::{Base64, Encoding as _};
use ssh_key::public::KeyData;
use ssh_key::{HashAlg, PublicKey};

use super::Flaw;

/// What a signature is for; a signature for anything else (a git commit, a file) never counts here.
pub const NAMESPACE: &str = "abssctl-plan@v1";

/// Armor of a signature of the longest key that is read is far below this.
pub const MAX_ARMOR: usize = 16_384;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
const LINE: usize = 70;
const MIN_RSA_BITS: usize = 2048;

/// A signature that could be read; whose it is and whether it is right is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSig {
    inner: ssh_key::SshSig,
    armored: String,
}

impl SshSig {
    /// Reads armor as OpenSSH does: white space inside it makes no difference.
    ///
    /// # Errors
    /// It is no signature in this format.
    pub fn read(text: &str) -> Result<Self, Flaw> {
        let unreadable = |why: &str| Flaw::Unreadable { why: why.to_owned() };
        if text.len() > MAX_ARMOR {
            return Err(unreadable("it is too long"));
        }
        let body = text.trim_start().strip_prefix(BEGIN).ok_or_else(|| unreadable("it has no begin line"))?;
        let (body, rest) = body.split_once(END).ok_or_else(|| unreadable("it has no end line"))?;
        if !rest.trim().is_empty() {
            return Err(unreadable("something follows its end line"));
        }
        let body: String = body.split_ascii_whitespace().collect();
        if !body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)) {
            return Err(unreadable("it is not base64"));
        }
        let armored = armor(&body);
        let inner = ssh_key::SshSig::from_pem(&armored).map_err(|error| unreadable(&error.to_string()))?;
        if inner.version() != ssh_key::SshSig::VERSION {
            return Err(unreadable("its version is not 1"));
        }
        if !inner.reserved().is_empty() {
            return Err(unreadable("its reserved field is not empty"));
        }
        Ok(Self { inner, armored })
    }

    /// The public key that the signature names as its maker.
    pub fn key(&self) -> &KeyData {
        self.inner.public_key()
    }

    /// The armor, in lines of 70 characters and with a line break at its end.
    pub fn armored(&self) -> &str {
        &self.armored
    }

    /// Proves that its key made it over exactly these bytes, for a plan.
    ///
    /// # Errors
    /// It was made for something else, over other bytes, or with a key or algorithm that does not count.
    pub fn prove(&self, text: &[u8]) -> Result<(), Flaw> {
        if self.inner.namespace() != NAMESPACE {
            return Err(Flaw::OtherPurpose { namespace: self.inner.namespace().to_owned() });
        }
        usable(self.key())?;
        let key = PublicKey::from(self.key().clone());
        key.verify(NAMESPACE, text, &self.inner).map_err(|_| Flaw::OtherText)
    }
}

fn armor(body: &str) -> String {
    let mut text = format!("{BEGIN}\n");
    let mut rest = body;
    while !rest.is_empty() {
        // Only ASCII came this far, so that every place is a boundary.
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + END + "\n"
}

/// The bytes that a key or an agent signs for a text.
///
/// # Errors
/// Never seen: the namespace is not empty.
pub fn to_be_signed(text: &[u8]) -> Result<Vec<u8>, ssh_key::Error> {
    ssh_key::SshSig::signed_data(NAMESPACE, HashAlg::Sha512, text)
}

/// Makes a signature from what a key or an agent gave back, and proves it at once: a signature that
/// nobody will accept is not handed out.
///
/// # Errors
/// It does not belong to the text and the key.
pub fn assemble(key: &KeyData, signature: &[u8], text: &[u8]) -> Result<SshSig, Flaw> {
    let unreadable = |error: ssh_key::Error| Flaw::Unreadable { why: error.to_string() };
    // Written out here: `ssh-key` 0.6 encodes signatures of ecdsa-sk keys in a way that nobody reads.
    let mut blob = b"SSHSIG\0\0\0\x01".to_vec();
    let public = PublicKey::from(key.clone()).to_bytes().map_err(unreadable)?;
    for part in [public.as_slice(), NAMESPACE.as_bytes(), b"", HashAlg::Sha512.as_str().as_bytes(), signature]
    {
        part.encode(&mut blob).map_err(|error| unreadable(error.into()))?;
    }
    let made = SshSig::read(&armor(&Base64::encode_string(&blob)))?;
    made.prove(text)?;
    Ok(made)
}

/// Whether a key of this kind and length counts at all.
///
/// # Errors
/// Why not.
pub fn usable(key: &KeyData) -> Result<(), Flaw> {
    if let Some(rsa) = key.rsa() {
        let bits = rsa.n.as_positive_bytes().map_or(0, <[u8]>::len) * 8;
        return if bits < MIN_RSA_BITS { Err(Flaw::ShortKey { bits }) } else { Ok(()) };
    }
    let known = key.is_ed25519() || key.is_ecdsa() || key.is_sk_ed25519() || key.is_sk_ecdsa_p256();
    if known { Ok(()) } else { Err(Flaw::KeyType { key_type: key_type(key) }) }
}

/// `SHA256:…` as OpenSSH prints it.
pub fn fingerprint(key: &KeyData) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// The type as it stands in a public key: `ssh-ed25519`.
pub fn key_type(key: &KeyData) -> String {
    key.algorithm().as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use ssh_key::LineEnding;

    use super::*;

    const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACCzPq7zfqLffKoBDe/eo04kH2XxtSmk9D7RQyf1xUqrYgAAAJgAIAxdACAM
XQAAAAtzc2gtZWQyNTUxOQAAACCzPq7zfqLffKoBDe/eo04kH2XxtSmk9D7RQyf1xUqrYg
AAAEC2BsIi0QwW2uFscKTUUXNHLsYX4FxlaSDSblbAj7WR7bM+rvN+ot98qgEN796jTiQf
ZfG1KaT0PtFDJ/XFSqtiAAAAEHVzZXJAZXhhbXBsZS5jb20BAgMEBQ==
-----END OPENSSH PRIVATE KEY-----
";

    fn signed(namespace: &str, text: &[u8]) -> String {
        let key = ssh_key::PrivateKey::from_openssh(KEY).unwrap();
        key.sign(namespace, HashAlg::Sha512, text).unwrap().to_pem(LineEnding::LF).unwrap()
    }

    #[test]
    fn a_signature_belongs_to_one_text_and_one_purpose() {
        let sig = SshSig::read(&signed(NAMESPACE, b"plan")).unwrap();
        assert_eq!(sig.prove(b"plan"), Ok(()));
        assert_eq!(sig.prove(b"plan "), Err(Flaw::OtherText));
        let other = SshSig::read(&signed("git", b"plan")).unwrap();
        assert_eq!(other.prove(b"plan"), Err(Flaw::OtherPurpose { namespace: "git".into() }));
    }

    #[test]
    fn armor_may_be_wrapped_in_any_way_and_nothing_may_stand_around_it() {
        let armored = signed(NAMESPACE, b"plan");
        let body: String =
            armored.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\r\n  ");
        let sig = SshSig::read(&format!("{BEGIN}\r\n{body}\r\n{END}\r\n")).unwrap();
        assert_eq!(sig.armored(), armored.trim_end().to_owned() + "\n");
        for bad in [
            String::new(),
            armored.replace("END", "EMD"),
            armored.clone() + "x",
            format!("x{armored}"),
            armored.replacen('U', "U!", 1),
            armored.replacen("U1NI", "", 1),
            "-".repeat(MAX_ARMOR + 1),
        ] {
            assert!(matches!(SshSig::read(&bad), Err(Flaw::Unreadable { .. })), "{bad}");
        }
    }

    #[test]
    fn what_an_agent_gave_back_is_proven_before_it_is_used() {
        use ssh_key::Signature as Raw;
        let key = ssh_key::PrivateKey::from_openssh(KEY).unwrap();
        let sig = key.sign(NAMESPACE, HashAlg::Sha512, b"plan").unwrap();
        let raw = Vec::try_from(Raw::clone(sig.signature())).unwrap();
        let data = key.public_key().key_data();
        assert!(assemble(data, &raw, b"plan").is_ok());
        assert_eq!(assemble(data, &raw, b"other"), Err(Flaw::OtherText));
        assert!(matches!(assemble(data, b"", b"plan"), Err(Flaw::Unreadable { .. })));
    }
}
