//! Lists of allowed signers and signatures, as `plan verify` reads them.

use abssctl::plan::approval::allowed_signers::AllowedSigners;
use abssctl::plan::approval::sshsig::SshSig;
use abssctl::plan::approval::{NAMESPACE, Policy, approvers, claims, judge};
use abssctl::plan::policy::InForce;
use abssctl::plan::testing;
use abssctl::state::restore_config::RestoreConfig;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::note;

/// What the signatures among the seeds are of.
pub const SIGNED: &[u8] = b"the text that the seeds of the target `signatures` are of\n";
/// What stands between the list and the signature in an input.
pub const BREAK: &str = "\u{c}";

/// A list and a signature, with a form feed between them.
pub fn signatures(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (list, armor) = text.split_once(BREAK).unwrap_or((&text, ""));
    let signers = AllowedSigners::read(list, &TimeZone::UTC);
    for mistake in signers.mistakes() {
        assert!(mistake.line >= 1 && mistake.line <= list.lines().count());
        note(("mistake", mistake.message.len()));
    }
    let now = Timestamp::from_second(1_795_500_000).unwrap();
    match SshSig::read(armor) {
        Err(flaw) => note(("no signature", flaw.to_string().len())),
        Ok(signature) => {
            let again = SshSig::read(signature.armored()).unwrap();
            assert_eq!(again.armored(), signature.armored());
            let proven = signature.prove(SIGNED);
            note(("proven", proven.as_ref().err().map(|flaw| flaw.to_string().len())));
            if proven.is_ok() {
                let mut other = SIGNED.to_vec();
                other.push(b'.');
                assert!(signature.prove(&other).is_err(), "a signature is of one text");
            }
            for principal in ["alice@example.org", "bob", "*", ""] {
                let permitted = signers.permits(principal, signature.key(), NAMESPACE, now);
                note(("permitted", permitted.err().map(|flaw| flaw.to_string().len())));
            }
            drop(signers.names_of(signature.key()));
        }
    }
    let (plan, config) = (testing::sample(), RestoreConfig::default());
    let in_force = InForce::new(&config, None, &plan.spec.instance);
    let files = ["alice@example.org", "bob"]
        .map(|name| (abssctl::plan::approval::detached::file_name("plan", name), armor.to_owned()));
    let claims = claims(&plan, "plan", files.to_vec());
    assert_eq!(claims.len(), 2);
    let judged = judge(&plan, SIGNED, &claims, Policy { signers: &signers, now, in_force: &in_force });
    for one in &judged {
        note(("judged", one.verdict().len()));
    }
    assert!(approvers(&judged).len() <= 1, "a key counts once");
}
