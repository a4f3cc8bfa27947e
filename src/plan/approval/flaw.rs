//! Why a signature does not count. Pure.

use jiff::Timestamp;

use crate::plan::model::Time;
use crate::plan::render::visible;

/// Why a signature does not count. Text of a file is shown with control characters as codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It has not the form of a signature.
    #[error("it is no SSH signature: {}", visible(.why))]
    Unreadable {
        /// What is wrong.
        why: String,
    },
    /// It was made for something else than a plan.
    #[error("it was made for '{}', not for a plan ({})", visible(.namespace), super::NAMESPACE)]
    OtherPurpose {
        /// What for.
        namespace: String,
    },
    /// The key did not sign this text.
    #[error("it does not belong to this plan: the plan was changed since, or the signature was")]
    OtherText,
    /// The type of the key.
    #[error("keys of type {} do not count; use ed25519, ecdsa or rsa", visible(.key_type))]
    KeyType {
        /// The type.
        key_type: String,
    },
    /// An RSA key that is too short.
    #[error("an RSA key of {bits} bits is too short; 2048 are needed")]
    ShortKey {
        /// Its length.
        bits: usize,
    },
    /// The file names another key than the one that signed.
    #[error("it is of the key {actual}, not of the key {} that stands beside it", visible(.written))]
    OtherKey {
        /// What the file says.
        written: String,
        /// What signed.
        actual: String,
    },
    /// The key is not in the allowed-signers file.
    #[error("its key is not among the allowed signers")]
    NotListed,
    /// The key belongs to somebody else.
    #[error("its key is allowed for {}, not for this name", visible(.principals))]
    OtherPrincipal {
        /// For whom it is allowed.
        principals: String,
    },
    /// The line is for certificates.
    #[error(
        "line {line} of the allowed signers makes its key a cert-authority; certificates are not supported"
    )]
    CertAuthority {
        /// The line.
        line: usize,
    },
    /// The line is for other purposes.
    #[error("line {line} of the allowed signers allows its key only for {}", visible(.namespaces))]
    Namespace {
        /// The line.
        line: usize,
        /// What for.
        namespaces: String,
    },
    /// The key is not valid yet.
    #[error("line {line} of the allowed signers allows its key only after {}", Time::from(*.from))]
    NotYet {
        /// The line.
        line: usize,
        /// From when.
        from: Timestamp,
    },
    /// The key is not valid any more.
    #[error("line {line} of the allowed signers allows its key only before {}", Time::from(*.until))]
    NoLonger {
        /// The line.
        line: usize,
        /// Until when.
        until: Timestamp,
    },
}
