//! `abssctl plan …`

use std::path::Path;

use serde_json::{Value, json};

use super::args::{
    PlanCheckArgs, PlanFormat, PlanRefreshArgs, PlanRestoreArgs, PlanShowArgs, ReportFormat, ShowFormat,
    WishArgs,
};
use super::error::CliError;
use super::exit;
use super::facts;
use super::parse::ClientsArg;
use super::plan_files;
use super::plan_validate::report_format;
use super::sarif::{Checked, Log};
use super::session::{Session, typed};
use super::verify;
use crate::context::Context;
use crate::facts::model::Facts;
use crate::host::clock;
use crate::host::fs::{self, IoContext as _};
use crate::plan::model::Plan;
use crate::plan::observed::Presence;
use crate::plan::policy::{FindingCode, Verdict};
use crate::plan::render::text::{TextOptions, text};
use crate::plan::render::{dot::dot, html::html, markdown::markdown, mermaid::mermaid, visible};
use crate::plan::spec::{PreBackupMode, RestartPolicy, SessionPolicy};
use crate::plan::{canonical, emit, load};
use crate::planner::{self, ClientsWish, Selector, Wish, wish};
use crate::run::journal;
use crate::survey::approvals::{Approvals, Evidence};
use crate::survey::policy::{self, Look};
use crate::survey::preflight::{self, Ask, Class, Preflight, Problem};

/// The machine that a plan is for.
pub(super) enum Machine {
    /// This one.
    Here(Box<Context>),
    /// The one that facts tell of.
    Elsewhere(Box<Facts>),
}

impl Machine {
    pub(super) fn of(session: &Session, facts: Option<&Path>) -> Result<Self, CliError> {
        match facts {
            None => Ok(Self::Here(Box::new(session.context()?))),
            Some(path) => Ok(Self::Elsewhere(Box::new(facts::read(session, path)?))),
        }
    }

    /// Only the machine itself knows its policy.
    pub(super) fn say_policy(&self, session: &Session, plan: &Plan, file: &Path) {
        if let Self::Here(cx) = self {
            say_policy(session, &policy::look(cx, plan, &Evidence::default()), plan, file);
        }
    }
}

/// `abssctl plan restore`
pub fn restore(session: &Session, args: &PlanRestoreArgs) -> Result<u8, CliError> {
    let selector = match (&args.backup, &args.instance, &args.at) {
        (Some(id), _, _) => Selector::Id(id.clone()),
        (None, Some(instance), Some(time)) => Selector::At(instance.clone(), wish::parse_time(time)?),
        (None, Some(instance), None) if args.latest => Selector::Latest(instance.clone()),
        (None, _, _) => {
            let name = args.instance.as_ref().map_or("NAME", |instance| instance.as_str());
            return Err(CliError::Usage {
                what: "no backup was named".into(),
                help: format!(
                    "abssctl plan restore BACKUP_ID, or --instance {name} --latest, or --instance {name} --at TIME; the ids are in: abssctl backup list"
                ),
            });
        }
    };
    let wish = to_wish(selector, args.instance.clone(), &args.wish);
    let machine = Machine::of(session, args.facts.as_deref())?;
    let plan = match &machine {
        Machine::Here(cx) => planner::plan(cx, &wish)?,
        Machine::Elsewhere(facts) => planner::plan_elsewhere(facts, &Session::actor(), &wish)?,
    };
    write_new(session, &plan, &args.output, args.format)?;
    machine.say_policy(session, &plan, &args.output);
    let code = if args.detailed_exitcode && changes_something(&plan) { exit::CHANGES } else { exit::DONE };
    Ok(code)
}

/// Whether a restore would change any file, as the planner saw it, or do what the files do not show.
fn changes_something(plan: &Plan) -> bool {
    let Plan { spec, observed, preview, .. } = plan;
    let prepares = spec.clients.resets_any() || spec.sessions == SessionPolicy::Revoke;
    preview.files.total() > 0 || prepares || observed.target.presence != Presence::Content
}

/// What the options ask for.
pub fn to_wish(selector: Selector, instance: Option<crate::ids::InstanceName>, args: &WishArgs) -> Wish {
    Wish {
        selector,
        instance,
        dest: args.dest.clone(),
        budgets: args.budget.clone(),
        as_copy: args.as_copy || args.copy_name.is_some(),
        copy_name: args.copy_name.clone(),
        with_assets: args.with_assets,
        pre_backup: if args.no_pre_backup {
            Some(PreBackupMode::None)
        } else {
            args.pre_backup.map(Into::into)
        },
        backup_message: args.backup_message.clone(),
        clients: ClientsWish {
            all: args.clients.iter().filter_map(ClientsArg::all).collect(),
            budgets: args.clients.iter().filter_map(ClientsArg::budget).collect(),
        },
        sessions: args.sessions.map(Into::into),
        restart: match (args.restart, args.no_restart) {
            (true, _) => RestartPolicy::Always,
            (false, true) => RestartPolicy::Never,
            (false, false) => RestartPolicy::Auto,
        },
        reason: args.reason.clone(),
        expires: args.expires.clone(),
        on_failure: args.on_failure.map(Into::into),
        drift: args.drift.map(Into::into),
        replay: args.replay.map(Into::into),
        retain: args.retain.clone(),
        allow_incomplete: args.allow_incomplete,
        transfer: args.transfer.map(Into::into),
    }
}

pub(super) fn write_new(
    session: &Session,
    plan: &Plan,
    path: &Path,
    format: Option<PlanFormat>,
) -> Result<(), CliError> {
    let digest = canonical::digest(plan)?;
    let to_stdout = path == Path::new("-");
    if !to_stdout {
        let text = document(plan, format.unwrap_or_else(|| format_of(path)))?;
        write_file(path, text.as_bytes())?;
        session.output.note(&format!("plan {} written to {}", plan.metadata.id, typed(path)));
        for warning in &plan.preview.warnings {
            session.output.note(&format!("  ! {}", warning.message));
        }
        session.output.note(&format!("next: abssctl plan show {0}, then abssctl apply {0}", typed(path)));
    }
    if session.output.json {
        let shown = if to_stdout { Value::Null } else { json!(path.display().to_string()) };
        return session.output.value(&json!({ "plan": plan, "path": shown, "digest": digest }));
    }
    if to_stdout {
        let text = document(plan, format.unwrap_or(PlanFormat::Yaml))?;
        return session.output.result(text.as_bytes());
    }
    Ok(())
}

fn format_of(path: &Path) -> PlanFormat {
    if path.extension().is_some_and(|end| end == "json") { PlanFormat::Json } else { PlanFormat::Yaml }
}

pub(super) fn document(plan: &Plan, format: PlanFormat) -> Result<String, CliError> {
    Ok(match format {
        PlanFormat::Yaml => emit::to_yaml(plan)?,
        PlanFormat::Json => emit::to_json(plan)?,
    })
}

/// A plan is written where the person says, and over nothing but an older plan.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    refuse_other_file(path, &["RestorePlan", "RollbackPlan"], "plan")?;
    refuse_kept(path)?;
    put(path, bytes)
}

/// What a run keeps is its only way on and back.
fn refuse_kept(path: &Path) -> Result<(), CliError> {
    let is_kept = path.file_name().is_some_and(|name| name == journal::PLAN)
        && path.with_file_name(journal::JOURNAL).exists();
    if !is_kept {
        return Ok(());
    }
    Err(CliError::Usage {
        what: format!("{} is the plan that a run keeps, and nothing is written over it", path.display()),
        help: "choose another name with -o, or '-o -' for standard output".into(),
    })
}

/// Replaces or creates a file on the machine itself, not inside the root.
pub(super) fn put(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let (parent, name) = parts(path)?;
    Ok(fs::replace(&open(parent)?, name, bytes, 0o644).context("write", path)?)
}

/// The directory that holds a file, and the file's name.
pub(super) fn parts(path: &Path) -> Result<(&Path, &str), CliError> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    match path.file_name().and_then(|name| name.to_str()) {
        Some(name) => Ok((parent, name)),
        None => Err(CliError::Usage {
            what: format!("{} is no file name", path.display()),
            help: "name a file: plan.yaml, receipt.json".into(),
        }),
    }
}

/// Opens a directory of the machine itself, not inside the root.
pub(super) fn open(directory: &Path) -> Result<cap_std::fs::Dir, CliError> {
    let opened = cap_std::fs::Dir::open_ambient_dir(directory, cap_std::ambient_authority());
    Ok(opened.context("open directory", directory)?)
}

/// A file is replaced in one step, so that a link to it would be replaced and not what it leads to.
pub(super) fn refuse_link(path: &Path) -> Result<(), CliError> {
    let Ok(target) = std::fs::read_link(path) else { return Ok(()) };
    Err(CliError::Usage {
        what: format!("{} is a symbolic link, and no link is written through", path.display()),
        help: format!("name the file itself: it leads to {}", visible(&target.to_string_lossy())),
    })
}

/// A document is written over an older one of its kind, never over anything else.
pub(super) fn refuse_other_file(path: &Path, kinds: &[&str], name: &str) -> Result<(), CliError> {
    refuse_link(path)?;
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let is_one = || {
        std::fs::read(path).is_ok_and(|bytes| {
            let text = String::from_utf8_lossy(&bytes);
            text.contains("abssctl/v1") && kinds.iter().any(|kind| text.contains(kind))
        })
    };
    let small = meta.len() <= crate::facts::load::MAX_BYTES as u64;
    if meta.is_file() && small && (meta.len() == 0 || is_one()) {
        return Ok(());
    }
    Err(CliError::Usage {
        what: format!("{} exists and is no {name}", path.display()),
        help: "choose another name with -o, or '-o -' for standard output".into(),
    })
}

/// Reads a plan and refuses one that breaks a rule.
pub fn load_plan(session: &Session, path: &Path) -> Result<(Plan, Vec<u8>), CliError> {
    let (name, bytes) = session.read_plan(path)?;
    Ok((load::load(&name, &bytes)?, bytes))
}

/// `abssctl plan show`: looks at the machine for `--all-files` alone.
pub fn show(session: &Session, args: &PlanShowArgs) -> Result<u8, CliError> {
    if args.all_files {
        return plan_files::show(session, args);
    }
    let (plan, _) = load_plan(session, &args.file)?;
    if session.output.json {
        let digest = canonical::digest(&plan)?;
        let expired = plan.metadata.expires_at.timestamp() <= clock::now();
        let changes = plan.preview.files.total();
        session.output.value(&json!({
            "plan": plan, "digest": digest, "expired": expired, "applyable": !expired, "changes": changes,
        }))?;
        return Ok(exit::DONE);
    }
    let now = Some(clock::now());
    let bytes = match args.format {
        ShowFormat::Text => as_text(session, &plan, session.output.color).into_bytes(),
        ShowFormat::Markdown => markdown(&plan, now).into_bytes(),
        ShowFormat::Html => html(&plan, now).into_bytes(),
        ShowFormat::Mermaid => mermaid(&plan).into_bytes(),
        ShowFormat::Dot => dot(&plan).into_bytes(),
        ShowFormat::Json => emit::to_json(&plan)?.into_bytes(),
        ShowFormat::Yaml => emit::to_yaml(&plan)?.into_bytes(),
        ShowFormat::Canonical => canonical::canonical(&plan)?,
    };
    session.output.result(&bytes)?;
    Ok(exit::DONE)
}

/// A plan as text for the terminal.
pub fn as_text(session: &Session, plan: &Plan, color: bool) -> String {
    text(plan, &TextOptions { width: session.output.width, color, now: Some(clock::now()), stale: None })
}

/// `abssctl plan check`
pub fn check(session: &Session, args: &PlanCheckArgs) -> Result<u8, CliError> {
    if report_format(session, args.format)? == ReportFormat::Sarif {
        return check_sarif(session, args);
    }
    let (plan, _, found) = look_at(session, &args.file)?;
    let code = check_code(&found, args.detailed_exitcode, &plan);
    let value = check_json(&found, code);
    let mut text = check_text(&found);
    if found.is_clear() {
        text.push_str(&would_apply(&args.file));
    }
    verdict(session, found, &value, &text)?;
    Ok(code)
}

/// Whether a plan would apply now.
fn look_at(session: &Session, file: &Path) -> Result<(Plan, Vec<u8>, Preflight), CliError> {
    let (plan, bytes) = load_plan(session, file)?;
    let cx = session.context()?;
    let digest = canonical::digest(&plan)?;
    let evidence = verify::evidence(file, 0)?;
    let ask = Ask { digest, replay: false, own_run: None, evidence: Some(&evidence) };
    let found = look(&cx, &plan, ask)?;
    Ok((plan, bytes, found))
}

fn would_apply(file: &Path) -> String {
    format!("✓ {} would apply now\n", typed(file))
}

/// The log goes to standard output, what the log says in words to the person at standard error.
fn check_sarif(session: &Session, args: &PlanCheckArgs) -> Result<u8, CliError> {
    let mut log = Log::new();
    let path = args.file.as_path();
    let looked = look_at(session, path);
    let code = match &looked {
        Ok((plan, bytes, found)) => {
            log.checked(&Checked { path, bytes, found });
            check_code(found, args.detailed_exitcode, plan)
        }
        Err(error) => {
            log.error(path, error);
            exit::code(error, session.interrupted())
        }
    };
    session.output.value(&log.finish(code))?;
    let (_, _, found) = looked?;
    session.output.notes(session.named(&check_text(&found)).trim_end());
    if found.is_clear() {
        session.output.note(would_apply(path).trim_end());
        return Ok(code);
    }
    Err(CliError::WouldNotApply(found.problems))
}

/// Looks at every precondition of a plan, and whether its preview is true.
pub fn look(cx: &Context, plan: &Plan, ask: Ask<'_>) -> Result<Preflight, CliError> {
    let mut found = preflight::preflight(cx, plan, ask)?;
    // A plan that was applied changed what its preview speaks of.
    if found.is_clear() && found.applied_by.is_none() {
        match planner::untruths(cx, plan) {
            Ok(again) => {
                found.problems.extend(again.problems);
                found.warnings.extend(again.said);
            }
            // What cannot be read now is told by the step that needs it.
            Err(error) => found.not_checked.push(format!("preview: it could not be made again: {error}")),
        }
    }
    Ok(found)
}

/// Prints the answer of a check; problems are the error that the command ends with.
pub fn verdict(session: &Session, found: Preflight, value: &Value, text: &str) -> Result<u8, CliError> {
    if session.output.json {
        session.output.value(value)?;
        return Ok(exit::problems_code(&found.problems));
    }
    session.output.text(&session.named(text))?;
    if found.is_clear() { Ok(exit::DONE) } else { Err(CliError::WouldNotApply(found.problems)) }
}

/// What the target took since the plan is undone by it: a change that the planner could not see.
fn check_code(found: &Preflight, detailed: bool, plan: &Plan) -> u8 {
    let code = exit::problems_code(&found.problems);
    let changes = || changes_something(plan) || !found.drift.tolerated.is_empty();
    if code == exit::DONE && detailed && changes() { exit::CHANGES } else { code }
}

/// What a check found, as JSON.
pub fn check_json(found: &Preflight, code: u8) -> Value {
    json!({
        "applyable": found.is_clear(),
        "problems": problems_json(&found.problems),
        "warnings": found.warnings,
        "notChecked": found.not_checked,
        "newerChanges": found.drift.newer_changes,
        "approvals": found.approvals.as_ref().map(verify::approvals_json),
        "policy": found.policy,
        "exitCode": code,
    })
}

/// Problems as JSON.
pub fn problems_json(problems: &[Problem]) -> Value {
    let object = |problem: &Problem| {
        let class = match problem.class {
            Class::Refused => "refused",
            Class::Environment => "environment",
            Class::Approval => "approval",
            Class::Stale => "stale",
        };
        json!({ "code": problem.code, "class": class, "message": problem.message, "help": problem.help })
    };
    problems.iter().map(object).collect()
}

/// What a check found, a line each.
pub fn check_text(found: &Preflight) -> String {
    let mut lines = Vec::new();
    for problem in &found.problems {
        lines.push(format!("✗ {}", visible(&problem.message)));
        lines.push(format!("  {}", problem.help));
    }
    lines.extend(found.approvals.iter().filter_map(Approvals::summary));
    let policy = found.policy.iter().filter_map(Verdict::summary);
    lines.extend(policy.map(|summary| format!("policy {summary}")));
    lines.extend(found.warnings.iter().map(|warning| format!("! {}", visible(warning))));
    lines.extend(found.not_checked.iter().map(|what| format!("? {}", visible(what))));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// `abssctl plan refresh`
pub fn refresh(session: &Session, args: &PlanRefreshArgs) -> Result<u8, CliError> {
    let (name, bytes) = session.read_plan(&args.file)?;
    // The spec may have been edited, so that steps and observations do not fit it any more.
    let old = load::parse(&name, &bytes)?;
    let expires = args.expires.as_ref();
    let machine = Machine::of(session, args.facts.as_deref())?;
    let plan = match &machine {
        Machine::Here(cx) => planner::refresh(cx, &old, expires)?,
        Machine::Elsewhere(facts) => planner::refresh_elsewhere(facts, &Session::actor(), &old, expires)?,
    };
    if !old.approvals.is_empty() {
        let approvals = match old.approvals.len() {
            1 => "1 approval was given for the old text and is dropped".to_owned(),
            count => format!("{count} approvals were given for the old text and are dropped"),
        };
        session.output.note(&approvals);
    }
    let format = args.format.unwrap_or_else(|| format_in(&bytes));
    if has_comments_of_a_person(&bytes, &old, &plan)? {
        session.output.note("comments that were written into the plan by hand are dropped");
    }
    let output = args.output.as_deref().unwrap_or(&args.file);
    write_new(session, &plan, output, Some(format))?;
    machine.say_policy(session, &plan, output);
    Ok(exit::DONE)
}

/// Tells early what this machine's policy will ask of a plan that was just made, and refuse.
pub fn say_policy(session: &Session, look: &Look<'_>, plan: &Plan, file: &Path) {
    for finding in &look.verdict.findings {
        let message = &finding.message;
        match finding.code {
            FindingCode::Approvals => {
                let file = file.display();
                session.output.note(&format!("  {message}; sign it: abssctl plan approve {file}"));
            }
            FindingCode::NoAllowedSigners
            | FindingCode::Clients
            | FindingCode::Sessions
            | FindingCode::PreBackup
            | FindingCode::Drift
            | FindingCode::Replay
            | FindingCode::Assets
            | FindingCode::OnFailure
            | FindingCode::PlanAge
            | FindingCode::Freeze => session.output.note(&format!("! the policy would refuse it: {message}")),
        }
    }
    if let Some((rule, end)) = look.too_old_from {
        let expires = plan.metadata.expires_at;
        session
            .output
            .note(&format!("! rule '{rule}' takes it until {end} alone, before it expires at {expires}"));
    }
}

/// Whether a YAML plan has a line of comment that this program would not write.
fn has_comments_of_a_person(bytes: &[u8], old: &Plan, new: &Plan) -> Result<bool, CliError> {
    // Signatures come with a comment of ours too.
    let ours = emit::to_yaml(&Plan { approvals: old.approvals.clone(), ..new.clone() })?;
    let comment = |line: &str| line.trim_start().starts_with('#');
    let ours: Vec<&str> = ours.lines().map(str::trim).filter(|line| comment(line)).collect();
    let text = String::from_utf8_lossy(bytes);
    Ok(text.lines().map(str::trim).any(|line| comment(line) && !ours.contains(&line)))
}

/// The format that a plan file is written in.
pub(super) fn format_in(bytes: &[u8]) -> PlanFormat {
    let is_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if is_json { PlanFormat::Json } else { PlanFormat::Yaml }
}

/// A plan's bytes as they are kept with its run, for plans that were never a file.
pub fn bytes_of(plan: &Plan) -> Result<Vec<u8>, CliError> {
    Ok(emit::to_yaml(plan)?.into_bytes())
}
