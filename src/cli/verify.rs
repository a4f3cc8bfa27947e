//! `abssctl plan verify`, and the signatures that lie beside a plan. Changes nothing.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};

use super::approve::ApproveError;
use super::args::PlanVerifyArgs;
use super::error::CliError;
use super::session::Session;
use super::{exit, plan as plan_cli, receipt};
use crate::context::Context;
use crate::host::clock;
use crate::host::fs::{IoContext as _, read_limited};
use crate::plan::approval::allowed_signers::AllowedSigners;
use crate::plan::approval::{
    Judged, Place, Policy, Standing, approvers, claims, detached, judge, sshsig::MAX_ARMOR,
};
use crate::plan::canonical;
use crate::plan::policy::InForce;
use crate::plan::render::visible;
use crate::survey::approvals::{Approvals, Evidence};

/// No list of signers is larger.
const MAX_LIST: u64 = 1 << 20;
/// More people than this sign no plan.
const MAX_DETACHED: usize = 100;

/// What came with a plan file: the detached signatures beside it.
pub fn evidence(plan: &Path, require: u32) -> Result<Evidence, CliError> {
    let Some(name) = plan.file_name().and_then(|name| name.to_str()).filter(|name| *name != "-") else {
        return Ok(Evidence { require, ..Evidence::default() });
    };
    let directory = match plan.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).context("list", directory)? {
        let entry = entry.context("list", directory)?;
        if let Ok(file) = entry.file_name().into_string()
            && detached::principal_of(name, &file).is_some()
            // A pipe of that name would block the command for ever, and a link would bring in any file.
            && entry.file_type().context("look at", entry.path())?.is_file()
        {
            found.push((file, entry.path()));
        }
    }
    found.sort();
    if found.len() > MAX_DETACHED {
        // Leaving some out would let whoever adds files choose which.
        return Err(ApproveError::TooMany { directory: directory.into(), count: found.len() }.into());
    }
    let mut detached = Vec::new();
    for (file, path) in found {
        let mut bytes = Vec::new();
        let opened = open_no_follow(&path).context("open", &path)?;
        // One byte more than is allowed, so that the judge sees that it is too long.
        opened.take(MAX_ARMOR as u64 + 1).read_to_end(&mut bytes).context("read", &path)?;
        detached.push((file, String::from_utf8_lossy(&bytes).into_owned()));
    }
    Ok(Evidence { plan_name: name.to_owned(), detached, require })
}

fn open_no_follow(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    std::fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// The allowed signers: a file that was named, or that of the policy. Gives its name too.
pub fn signers(cx: &Context, named: Option<&Path>) -> Result<(String, AllowedSigners), CliError> {
    let (name, bytes) = if let Some(path) = named {
        let file = std::fs::File::open(path).context("open", path)?;
        (path.display().to_string(), Some(read_limited(file, MAX_LIST).context("read", path)?))
    } else {
        let path = &cx.config.restore.allowed_signers;
        (cx.root.host_path(path).display().to_string(), cx.root.read(path, MAX_LIST)?)
    };
    let bytes = bytes.ok_or_else(|| ApproveError::NoList { path: name.clone().into() })?;
    Ok((name, AllowedSigners::read(&String::from_utf8_lossy(&bytes), &clock::local_zone(&cx.root))))
}

/// `abssctl plan verify`
pub fn verify(session: &Session, args: &PlanVerifyArgs) -> Result<u8, CliError> {
    if let Some(path) = &args.receipt {
        return receipt::verify(session, args, path);
    }
    let (plan, _) = plan_cli::load_plan(session, &args.file)?;
    let cx = session.context()?;
    let (list, signers) = signers(&cx, args.allowed_signers.as_deref())?;
    let evidence = evidence(&args.file, 0)?;
    let text = canonical::canonical(&plan)?;
    let digest = canonical::digest(&plan)?;
    let in_force = InForce::of(&cx.config, &plan.spec.instance);
    let policy = Policy { signers: &signers, now: clock::now(), in_force: &in_force };
    let judged = judge(&plan, &text, &claims(&plan, &evidence.plan_name, evidence.detached), policy);
    let names = approvers(&judged);
    let valid = !names.is_empty() && judged.iter().all(Judged::is_valid);
    let code = if valid { exit::DONE } else { exit::APPROVAL };
    let mistakes = signers.mistakes().iter();
    if session.output.json {
        let mistakes: Vec<Value> =
            mistakes.map(|mistake| json!({ "line": mistake.line, "message": mistake.message })).collect();
        session.output.value(&json!({
            "plan": plan.metadata.id, "digest": digest, "allowedSigners": list, "valid": valid,
            "approvers": names, "signatures": signatures_json(&judged), "mistakes": mistakes, "exitCode": code,
        }))?;
        return Ok(code);
    }
    for mistake in mistakes {
        session
            .output
            .note(&format!("! {list}, line {}: {}; it grants nothing", mistake.line, mistake.message));
    }
    let mut lines: Vec<String> = judged.iter().flat_map(lines).collect();
    if judged.is_empty() {
        lines.push("nobody has signed this plan".to_owned());
    }
    let shown: Vec<String> = names.iter().map(|name| visible(name)).collect();
    let by = if shown.is_empty() { "nobody".to_owned() } else { shown.join(", ") };
    lines.push(format!("approved by {by}: plan {}, {digest}", plan.metadata.id));
    session.output.text(&(lines.join("\n") + "\n"))?;
    if valid { Ok(exit::DONE) } else { Err(ApproveError::NotApproved.into()) }
}

fn lines(judged: &Judged) -> Vec<String> {
    let sign = match judged.standing {
        Standing::Counts => '✓',
        Standing::Repeats | Standing::Author | Standing::Uncounted(_) => '=',
        Standing::Refused(_) => '✗',
    };
    let mut of = judged.key_type.clone().map(|kind| visible(&kind)).into_iter().collect::<Vec<_>>();
    of.extend(judged.fingerprint.clone());
    match &judged.claim.place {
        Place::Embedded => of.push("in the plan".to_owned()),
        Place::Detached(file) => of.push(visible(file)),
    }
    of.extend(judged.claim.signed_at.map(|at| format!("said to be of {at}")));
    vec![
        format!("{sign} {}: {}", judged.shown_principal(), judged.verdict()),
        format!("    {}", of.join(", ")),
    ]
}

fn signatures_json(judged: &[Judged]) -> Value {
    let object = |judged: &Judged| {
        let file = match &judged.claim.place {
            Place::Embedded => None,
            Place::Detached(file) => Some(file),
        };
        json!({
            "principal": judged.claim.principal,
            "file": file,
            "keyFingerprint": judged.fingerprint,
            "keyType": judged.key_type,
            "signedAt": judged.claim.signed_at,
            "valid": judged.is_valid(),
            "counts": judged.standing == Standing::Counts,
            "verdict": judged.verdict(),
        })
    };
    judged.iter().map(object).collect()
}

/// Approvals as `plan check --json` tells them.
pub fn approvals_json(approvals: &Approvals) -> Value {
    json!({
        "required": approvals.required,
        "approvers": approvals.approvers,
        "signatures": signatures_json(&approvals.judged),
    })
}
