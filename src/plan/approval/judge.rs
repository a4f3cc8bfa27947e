//! Which of the signatures that come with a plan count, and for whom. Pure.

use jiff::Timestamp;

use super::allowed_signers::AllowedSigners;
use super::sshsig::{self, NAMESPACE, SshSig};
use super::{Flaw, detached};
use crate::plan::model::{Plan, Time};
use crate::plan::policy::{InForce, Signed, Uncounted};
use crate::plan::render::visible;

/// Where a signature was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the plan's `approvals`.
    Embedded,
    /// In a file of this name beside the plan.
    Detached(String),
}

/// A signature as it was found: nothing about it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who it is said to be of.
    pub principal: String,
    /// Where it was found.
    pub place: Place,
    /// The armor.
    pub signature: String,
    /// The key that it is said to be of.
    pub key_fingerprint: Option<String>,
    /// When it is said to have been made.
    pub signed_at: Option<Time>,
}

/// What besides the list decides.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// Who may sign with which key.
    pub signers: &'a AllowedSigners,
    /// The time that decides whether a key is valid; never the time that a signer wrote.
    pub now: Timestamp,
    /// Whose approvals count, and for how long.
    pub in_force: &'a InForce<'a>,
}

/// What a signature is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is valid and counts.
    Counts,
    /// It is valid, and another of the same person or of the same key counts already.
    Repeats,
    /// It is valid, and of the plan's author, who may not approve.
    Author,
    /// It is valid, and a rule of the policy does not count it.
    Uncounted(Uncounted),
    /// It is not valid.
    Refused(Flaw),
}

/// A signature and what it is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// As it was found.
    pub claim: Claim,
    /// Fingerprint of the key that it is of, where it could be read.
    pub fingerprint: Option<String>,
    /// Type of that key.
    pub key_type: Option<String>,
    /// What it is worth.
    pub standing: Standing,
}

impl Judged {
    /// Whether the signature is valid, whether or not it counts.
    pub fn is_valid(&self) -> bool {
        !matches!(self.standing, Standing::Refused(_))
    }

    /// In one line, for people.
    pub fn verdict(&self) -> String {
        match &self.standing {
            Standing::Counts => "valid".to_owned(),
            Standing::Repeats => "valid, but this person or key is counted already".to_owned(),
            Standing::Author => "valid, but the plan's author may not approve it".to_owned(),
            Standing::Uncounted(why) => format!("valid, but {why}"),
            Standing::Refused(flaw) => flaw.to_string(),
        }
    }

    /// The principal, control characters shown as codes.
    pub fn shown_principal(&self) -> String {
        visible(&self.claim.principal)
    }
}

/// All signatures that come with a plan: those in it, and detached ones given as file name and content.
/// Files whose name is not that of a signature of the plan file `name` are left out.
pub fn claims(plan: &Plan, name: &str, files: Vec<(String, String)>) -> Vec<Claim> {
    let embedded = plan.approvals.iter().map(|approval| Claim {
        principal: approval.principal.clone(),
        place: Place::Embedded,
        signature: approval.signature.clone(),
        key_fingerprint: Some(approval.key_fingerprint.clone()),
        signed_at: Some(approval.signed_at),
    });
    let detached = files.into_iter().filter_map(|(file, signature)| {
        let principal = detached::principal_of(name, &file)?;
        Some(Claim {
            principal,
            place: Place::Detached(file),
            signature,
            key_fingerprint: None,
            signed_at: None,
        })
    });
    embedded.chain(detached).collect()
}

/// Judges every signature over `text`, the plan's canonical text.
///
/// A person counts once, however many signatures and keys, and so does a key, however many names: a line
/// like `*@example.org KEY` must not let one person approve as two.
pub fn judge(plan: &Plan, text: &[u8], claims: &[Claim], policy: Policy<'_>) -> Vec<Judged> {
    let mut seen: Vec<(String, String)> = Vec::new();
    claims
        .iter()
        .map(|claim| {
            let mut judged = Judged {
                claim: claim.clone(),
                fingerprint: None,
                key_type: None,
                standing: Standing::Counts,
            };
            match SshSig::read(&claim.signature) {
                Err(flaw) => judged.standing = Standing::Refused(flaw),
                Ok(sig) => {
                    let print = sshsig::fingerprint(sig.key());
                    judged.standing = standing(plan, text, claim, &sig, policy);
                    let repeats = seen.iter().any(|(name, key)| *name == claim.principal || *key == print);
                    match judged.standing {
                        Standing::Counts if repeats => judged.standing = Standing::Repeats,
                        Standing::Counts => seen.push((claim.principal.clone(), print.clone())),
                        Standing::Repeats
                        | Standing::Author
                        | Standing::Uncounted(_)
                        | Standing::Refused(_) => {}
                    }
                    judged.key_type = Some(sshsig::key_type(sig.key()));
                    judged.fingerprint = Some(print);
                }
            }
            judged
        })
        .collect()
}

fn standing(plan: &Plan, text: &[u8], claim: &Claim, sig: &SshSig, policy: Policy<'_>) -> Standing {
    let actual = sshsig::fingerprint(sig.key());
    if let Some(written) = claim.key_fingerprint.as_ref().filter(|written| **written != actual) {
        return Standing::Refused(Flaw::OtherKey { written: written.clone(), actual });
    }
    let permits = || policy.signers.permits(&claim.principal, sig.key(), NAMESPACE, policy.now);
    if let Err(flaw) = sig.prove(text).and_then(|()| permits()) {
        return Standing::Refused(flaw);
    }
    let author = &plan.metadata.created_by.name;
    let mut names = policy.signers.names_of(sig.key());
    names.push(&claim.principal);
    if !policy.in_force.author_may_approve() && names.iter().any(|name| is_author(name, author)) {
        return Standing::Author;
    }
    let signed = Signed { principal: &claim.principal, names: &names, at: claim.signed_at };
    policy.in_force.uncounted(plan, signed, policy.now).map_or(Standing::Counts, Standing::Uncounted)
}

/// Whether a name is the author's login name, or a mail address of it.
fn is_author(name: &str, author: &str) -> bool {
    let local = name.split('@').next().unwrap_or_default();
    name.eq_ignore_ascii_case(author) || local.eq_ignore_ascii_case(author)
}

/// The people whose approval counts, in the order of their names.
pub fn approvers(judged: &[Judged]) -> Vec<String> {
    let counted = judged.iter().filter(|judged| judged.standing == Standing::Counts);
    let mut names: Vec<String> = counted.map(|judged| judged.claim.principal.clone()).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use ssh_key::private::{Ed25519Keypair, KeypairData};
    use ssh_key::{HashAlg, LineEnding, PrivateKey};

    use super::*;
    use crate::plan::canonical;
    use crate::plan::testing;
    use crate::state::restore_config::RestoreConfig;

    fn key(seed: u8) -> PrivateKey {
        let pair = Ed25519Keypair::from_seed(&[seed; 32]);
        PrivateKey::new(KeypairData::Ed25519(pair), "").unwrap()
    }

    fn public(seed: u8) -> String {
        key(seed).public_key().to_openssh().unwrap()
    }

    fn claim(principal: &str, seed: u8, text: &[u8]) -> Claim {
        let sig = key(seed).sign(NAMESPACE, HashAlg::Sha512, text).unwrap();
        Claim {
            principal: principal.into(),
            place: Place::Embedded,
            signature: sig.to_pem(LineEnding::LF).unwrap(),
            key_fingerprint: Some(key(seed).fingerprint(HashAlg::Sha256).to_string()),
            signed_at: None,
        }
    }

    fn standings(
        signers: &str,
        author_may_approve: bool,
        made: &[(&str, u8)],
    ) -> (Vec<Standing>, Vec<String>) {
        let mut plan = testing::sample();
        plan.metadata.created_by.name = "carl".into();
        let text = canonical::canonical(&plan).unwrap();
        let signers = AllowedSigners::read(signers, &TimeZone::UTC);
        let claims: Vec<Claim> = made.iter().map(|(name, seed)| claim(name, *seed, &text)).collect();
        let settings = RestoreConfig { author_may_approve, ..RestoreConfig::default() };
        let in_force = InForce::new(&settings, None, &plan.spec.instance);
        let policy = Policy { signers: &signers, now: Timestamp::UNIX_EPOCH, in_force: &in_force };
        let judged = judge(&plan, &text, &claims, policy);
        let approvers = approvers(&judged);
        (judged.into_iter().map(|judged| judged.standing).collect(), approvers)
    }

    #[test]
    fn a_person_counts_once_and_so_does_a_key() {
        use Standing::{Counts, Repeats};
        let signers = format!("anna {}\nanna {}\n*@x {}\n", public(1), public(2), public(3));
        let (standings, names) =
            standings(&signers, true, &[("b@x", 3), ("anna", 1), ("anna", 1), ("anna", 2), ("c@x", 3)]);
        assert_eq!(standings, [Counts, Counts, Repeats, Repeats, Repeats]);
        assert_eq!(names, ["anna", "b@x"]);
    }

    #[test]
    fn the_author_may_be_kept_from_approving_under_any_name_of_the_key() {
        let signers = format!("carl@x,cc {}\nanna {}\n", public(1), public(2));
        let made = [("cc", 1), ("carl@x", 1), ("anna", 2)];
        let (of_author, names) = standings(&signers, false, &made);
        assert_eq!(of_author, [Standing::Author, Standing::Author, Standing::Counts]);
        assert_eq!(names, ["anna"]);
        assert_eq!(standings(&signers, true, &made).1, ["anna", "cc"]);
    }

    #[test]
    fn what_is_written_beside_a_signature_must_be_true() {
        let plan = testing::sample();
        let text = canonical::canonical(&plan).unwrap();
        let signers = AllowedSigners::read(&format!("anna {}\n", public(1)), &TimeZone::UTC);
        let settings = RestoreConfig::default();
        let in_force = InForce::new(&settings, None, &plan.spec.instance);
        let policy = Policy { signers: &signers, now: Timestamp::UNIX_EPOCH, in_force: &in_force };
        let mut wrong = claim("anna", 1, &text);
        wrong.key_fingerprint = Some("SHA256:x".into());
        let mut garbage = claim("anna", 1, &text);
        garbage.signature = "x".into();
        let judged = judge(&plan, &text, &[wrong, garbage, claim("bert", 1, &text)], policy);
        assert!(matches!(judged[0].standing, Standing::Refused(Flaw::OtherKey { .. })));
        assert!(matches!(judged[1].standing, Standing::Refused(Flaw::Unreadable { .. })));
        assert!(matches!(judged[2].standing, Standing::Refused(Flaw::OtherPrincipal { .. })));
        assert_eq!(judged[1].fingerprint, None);
    }
}
