//! OpenSSH and this program agree: what one signs the other accepts, and both refuse the same forgeries.

use std::path::Path;

use abssctl::host::keys::{self as key_files, Loaded};
use abssctl::ids::Sha256;
use abssctl::plan::approval::allowed_signers::AllowedSigners;
use abssctl::plan::approval::{Claim, NAMESPACE, Place, Policy, judge, sshsig};
use abssctl::plan::model::Plan;
use abssctl::plan::policy::InForce;
use abssctl::plan::testing;
use abssctl::state::restore_config::RestoreConfig;
use rsa::signature::Signer as _;
use ssh_encoding::Encode as _;
use ssh_encoding::base64::{Base64, Encoding as _};
use ssh_key::{PrivateKey, PublicKey};

use crate::keys::{KINDS, Key, openssh_accepts};

const TEXT: &[u8] = b"{\"apiVersion\":\"abssctl/v1\"}";

fn we_accept(plan: &Plan, list: &str, principal: &str, signature: &str, text: &[u8]) -> bool {
    let signers = AllowedSigners::read(list, &jiff::tz::TimeZone::UTC);
    let claim = Claim {
        principal: principal.to_owned(),
        place: Place::Embedded,
        signature: signature.to_owned(),
        key_fingerprint: None,
        signed_at: None,
    };
    let settings = RestoreConfig::default();
    let in_force = InForce::new(&settings, None, &plan.spec.instance);
    let policy = Policy { signers: &signers, now: jiff::Timestamp::now(), in_force: &in_force };
    judge(plan, text, &[claim], policy)[0].is_valid()
}

/// The same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// One case: what it is, the list, the principal, the signature, the text.
type Case = (String, String, String, String, Vec<u8>);

fn cases_of(key: &Key, other: &Key, base: &str, elsewhere: &str, numbers: &mut Numbers) -> Vec<Case> {
    let (own, others) = (key.public(), other.public());
    let plain = format!("anna@example.org {own}\n");
    let mut cases: Vec<Case> = Vec::new();
    let mut add = |what: &str, list: &str, signature: &str, text: &[u8]| {
        cases.push((
            what.to_owned(),
            list.to_owned(),
            "anna@example.org".into(),
            signature.to_owned(),
            text.into(),
        ));
    };
    for list in [
        plain.clone(),
        format!("# team\n\n  bert {others}\n{plain}"),
        format!("\"anna@example.org\" {own} a comment\n"),
        format!("*@example.org,!bert@* {own}\n"),
        format!("!anna@*,* {own}\n"),
        format!("*@example.com {own}\n"),
        format!("anna {own}\n"),
        format!("anna@example.org {others}\n"),
        format!("anna@example.org valid-before=\"20200101\" {own}\n"),
        format!("anna@example.org valid-after=\"20990101120000Z\" {own}\n"),
        format!("anna@example.org valid-after=\"20200101\",valid-before=\"209901011200Z\" {own}\n"),
        format!("anna@example.org valid-after=\"20990101\",valid-before=\"20200101\" {own}\n"),
        format!("anna@example.org namespaces=\"git\" {own}\n"),
        format!("anna@example.org namespaces=\"git,abssctl-*\" {own}\n"),
        format!("anna@example.org NAMESPACES=\"!abssctl-plan@v1,*\" {own}\n"),
        format!("anna@example.org cert-authority {own}\n"),
        format!("anna@example.org cert-authority,namespaces=\"abssctl-plan@v1\" {own}\n{plain}"),
        format!("anna@example.org unknown-option {own}\n"),
        format!("anna@example.org ssh-ed25519 AAAA\n{plain}"),
        String::new(),
    ] {
        add("list", &list, base, TEXT);
    }
    add("other text", &plain, base, b"{\"apiVersion\":\"abssctl/v2\"}");
    add("no text", &plain, base, b"");
    add("other purpose", &plain, elsewhere, TEXT);
    add("empty", &plain, "", TEXT);
    for _ in 0..2 {
        add("truncated", &plain, &base[..numbers.below(base.len() - 2)], TEXT);
    }
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // The version is the one field that nothing signs, and where we are stricter (below).
    let body = base.find("U1NIU0lH").unwrap() + 14..base.find("\n-----END").unwrap();
    for _ in 0..8 {
        let mut bytes = base.as_bytes().to_vec();
        let at = body.start + numbers.below(body.len());
        let replaced = digits[numbers.below(digits.len())];
        if bytes[at] != replaced && bytes[at] != b'\n' && bytes[at] != b'=' {
            bytes[at] = replaced;
            add("changed", &plain, std::str::from_utf8(&bytes).unwrap(), TEXT);
        }
    }
    cases
}

fn ours(key: &Key, namespace: &str) -> String {
    match key_files::load(&key.0).unwrap() {
        Loaded::Private(file) => file.sign(namespace, TEXT).unwrap(),
        Loaded::Public(_) => panic!("{} is private", key.text()),
    }
}

fn compare(work: &Path, plan: &Plan, cases: &[Case]) -> (usize, usize) {
    let mut accepted = 0;
    for (what, list, principal, signature, text) in cases {
        let openssh = openssh_accepts(work, list, principal, signature, text);
        let we = we_accept(plan, list, principal, signature, text);
        assert_eq!(we, openssh, "we {we}, OpenSSH {openssh}: {what}\n{list}{signature}");
        accepted += usize::from(we);
    }
    (cases.len(), accepted)
}

#[test]
fn openssh_and_we_agree_on_every_signature() {
    let work = tempfile::tempdir().unwrap();
    let plan = testing::sample();
    let mut numbers = Numbers(20_261_124);
    let keys: Vec<Key> = (0..)
        .zip(KINDS)
        .map(|(number, kind)| Key::new(work.path().join(format!("key{number}")), kind, ""))
        .collect();
    let (mut count, mut accepted) = (0, 0);
    for (number, key) in keys.iter().enumerate() {
        let other = &keys[(number + 1) % keys.len()];
        let theirs = key.sign(NAMESPACE, "sha512", TEXT);
        for (base, elsewhere) in
            [(ours(key, NAMESPACE), ours(key, "git")), (theirs, key.sign("file", "sha512", TEXT))]
        {
            let cases = cases_of(key, other, &base, &elsewhere, &mut numbers);
            let (all, good) = compare(work.path(), &plan, &cases);
            assert!(good >= 7, "a signature by {} that must be accepted is not", key.text());
            (count, accepted) = (count + all, accepted + good);
        }
        let sha256 = key.sign(NAMESPACE, "sha256", TEXT);
        let list = format!("anna {}\n", key.public());
        let (all, good) =
            compare(work.path(), &plan, &[("sha256".into(), list, "anna".into(), sha256, TEXT.into())]);
        assert_eq!(good, 1, "a signature with SHA-256 counts too");
        (count, accepted) = (count + all, accepted + good);
    }
    assert!(count >= 200 && accepted >= 70, "only {count} cases, {accepted} of them good");
}

/// Lists at the edges of the format: what each must come to is for OpenSSH to say.
#[test]
fn openssh_and_we_read_odd_lists_alike() {
    let work = tempfile::tempdir().unwrap();
    let plan = testing::sample();
    let key = Key::ed25519(work.path().join("key"));
    let (own, signature) = (key.public(), key.sign(NAMESPACE, "sha512", TEXT));
    let long = |count: usize| "x".repeat(count);
    let short = "bert,".repeat(14_000);
    let mut lines: Vec<String> = vec![
        format!("anna {own} {}", long(70_000)),
        format!("anna,{} {own}", long(70_000)),
        format!("{},anna {own}", long(70_000)),
        format!("{short}anna {own}"),
        format!("anna namespaces=\"{NAMESPACE},{}\" {own}", long(70_000)),
        format!("{}anna {own}", " ".repeat(70_000)),
    ];
    for count in [1021, 1022, 1023, 1024] {
        lines.push(format!("anna,{} {own}", long(count)));
        lines.push(format!("anna,!{} {own}", long(count)));
        lines.push(format!("anna namespaces=\"{NAMESPACE},{}\" {own}", long(count)));
    }
    for between in ["\u{c}", " \u{c}", "\u{b}", " \u{a0}", " \t ", " \r", "\r", "\u{2003}"] {
        lines.push(format!("anna{between}{own}"));
        lines.push(format!("\"anna\"{between}{own}"));
        lines.push(format!("anna cert-authority{between}{own}"));
    }
    for options in [
        ",namespaces=\"NS\"",
        "namespaces=\"NS\",",
        ",",
        ",,namespaces=\"NS\",,valid-before=\"20990101\"",
        "namespaces=\"NS\"x",
        "namespaces=\"\"",
        "namespaces=\"a\\\"b,NS\"",
        "namespaces=\"NS,a\\\\\"",
        "namespaces=\"NS,a\\\\\",valid-before=\"20200101\"",
        "cert-authorityx",
        "cert-authority=\"x\"",
        "valid-before=\"\"",
        "valid-before=\"Z\"",
    ] {
        lines.push(format!("anna {} {own}", options.replace("NS", NAMESPACE)));
    }
    for time in [
        "99991231",
        "99991231235959Z",
        "20300230",
        "20300431",
        "20300132",
        "20300001",
        "20301301",
        "20300100",
        "203001012400",
        "203001012360",
        "20300101235960",
        "20300101235961",
        "20300101235962",
        "20300101UTC",
        "203001010101utc",
        "20300101z",
        "2030 1 1",
        "2030-1-1",
        "20 30101",
        "2030010",
        "00000101",
        "+2030101",
        "19700101",
        "20300101T",
        "203001011",
    ] {
        lines.push(format!("anna valid-before=\"{time}\" {own}"));
        lines.push(format!("anna valid-after=\"{time}\" {own}"));
    }
    let cases: Vec<Case> = lines
        .into_iter()
        .map(|line| ("odd list".into(), line + "\n", "anna".into(), signature.clone(), TEXT.into()))
        .collect();
    let (count, accepted) = compare(work.path(), &plan, &cases);
    assert!(count > 90 && accepted > 25, "{count} cases, {accepted} of them good");
}

/// OpenSSH writes the secret number of an ECDSA key without its leading zeros: one P-521 key in four.
#[test]
fn ecdsa_keys_with_a_short_number_sign() {
    let work = tempfile::tempdir().unwrap();
    let plan = testing::sample();
    for number in 0..24 {
        let key = Key::new(work.path().join(format!("key{number}")), ("ecdsa", "521"), "");
        let list = format!("anna {}\n", key.public());
        let signature = ours(&key, NAMESPACE);
        assert!(we_accept(&plan, &list, "anna", &signature, TEXT));
        assert!(openssh_accepts(work.path(), &list, "anna", &signature, TEXT));
    }
}

/// Keys and fields where we are stricter than OpenSSH: nothing that it writes by default is lost.
#[test]
fn short_rsa_keys_and_unsigned_fields_do_not_count() {
    let work = tempfile::tempdir().unwrap();
    let plan = testing::sample();
    let short = Key::new(work.path().join("short"), ("rsa", "1024"), "");
    let signature = short.sign(NAMESPACE, "sha512", TEXT);
    assert!(!we_accept(&plan, &format!("anna {}\n", short.public()), "anna", &signature, TEXT));
    let key = Key::ed25519(work.path().join("key"));
    let list = format!("anna {}\n", key.public());
    let signature = key.sign(NAMESPACE, "sha512", TEXT);
    assert!(signature.contains("U1NIU0lHAAAAAQ"), "the version stands there: {signature}");
    let version_0 = signature.replace("U1NIU0lHAAAAAQ", "U1NIU0lHAAAAAA");
    assert!(openssh_accepts(work.path(), &list, "anna", &version_0, TEXT));
    assert!(!we_accept(&plan, &list, "anna", &version_0, TEXT));
}

/// What a security key would give: no test machine has one, so its part is played by a key in a file.
/// Gives the line of the public key and the armored signature, as an agent hands it on.
fn security_key(work: &Path, kind: &str, bits: &str, application: &str) -> (String, String) {
    let file = Key::new(work.join(format!("{kind}-{}", application.replace(':', "-"))), (kind, bits), "");
    let key = PrivateKey::from_openssh(std::fs::read(&file.0).unwrap()).unwrap();
    let name =
        if kind == "ecdsa" { "sk-ecdsa-sha2-nistp256@openssh.com" } else { "sk-ssh-ed25519@openssh.com" };
    let own = file.public();
    let own = Base64::decode_vec(own.split(' ').nth(1).unwrap()).unwrap();
    let mut public = Vec::new();
    name.encode(&mut public).unwrap();
    // Behind its own name a public key goes on as that of the security key does.
    let skipped = 4 + usize::from(own[3]);
    public.extend(&own[skipped..]);
    application.encode(&mut public).unwrap();
    let trailer = [1, 0, 0, 0, 7];
    let data = sshsig::to_be_signed(TEXT).unwrap();
    let (application, digest) = (Sha256::of(application.as_bytes()), Sha256::of(&data));
    let signed = [application.as_bytes().as_slice(), &trailer, digest.as_bytes()].concat();
    let raw = key.try_sign(&signed).unwrap();
    let mut signature = Vec::new();
    name.encode(&mut signature).unwrap();
    raw.as_bytes().encode(&mut signature).unwrap();
    signature.extend(trailer);
    let held = PublicKey::from_bytes(&public).unwrap();
    let made = sshsig::assemble(held.key_data(), &signature, TEXT).unwrap();
    (format!("{name} {}", Base64::encode_string(&public)), made.armored().to_owned())
}

#[test]
fn security_keys_count_for_openssh_and_for_us() {
    let work = tempfile::tempdir().unwrap();
    let plan = testing::sample();
    for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256")] {
        let (public, signature) = security_key(work.path(), kind, bits, "ssh:");
        let (other, _) = security_key(work.path(), kind, bits, "ssh:other");
        let list = format!("anna {public}\n");
        let case = |what: &str, list: &str, text: &[u8]| {
            (what.to_owned(), list.to_owned(), "anna".to_owned(), signature.clone(), text.to_vec())
        };
        let good = [case("good", &list, TEXT)];
        assert_eq!(compare(work.path(), &plan, &good), (1, 1));
        let bad =
            [case("other text", &list, b"x"), case("other application", &format!("anna {other}\n"), TEXT)];
        assert_eq!(compare(work.path(), &plan, &bad), (2, 0));
    }
}
