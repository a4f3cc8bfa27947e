//! Who can log in after the restore, in words for all renderings. Pure.

use super::super::accounts::{Accounts, Methods, NameChanges, PasswordChange};
use super::super::at_stake::listed;
use super::super::model::Plan;
use super::super::spec::SessionPolicy;
use super::words::{Said, Tone};

/// The title of the part.
pub(super) const TITLE: &str = "Logins and bank tokens";

/// What differs, each with its name; empty where nothing does.
pub(super) fn rows(plan: &Plan) -> Vec<(&'static str, Said)> {
    let Some(accounts) = &plan.preview.accounts else { return Vec::new() };
    let Accounts { login_method, configured_method, password, users, sessions, bank_tokens, locked_out } =
        accounts;
    let mut rows = Vec::new();
    if !locked_out.is_empty() {
        rows.push(("locked out", Said::new(Tone::Danger, "see the warnings")));
    }
    rows.extend(methods("login method", login_method));
    rows.extend(configured_method.as_ref().and_then(|both| methods("config.json", both)));
    rows.extend(said_password(*password, plan.spec.words().then).map(|said| ("password", said)));
    rows.extend(names("users", users));
    if sessions.back > 0 || sessions.gone > 0 {
        let revoked = plan.spec.sessions == SessionPolicy::Revoke;
        let back = if revoked { "ended by this plan" } else { "valid again" };
        let text = format!("{} {back}; {} of now over", sessions.back, sessions.gone);
        rows.push(("sessions", Said::new(Tone::Care, text)));
    }
    rows.extend(names("bank tokens", bank_tokens));
    rows
}

fn methods(name: &'static str, methods: &Methods) -> Option<(&'static str, Said)> {
    let word = |method: &Option<String>| method.clone().unwrap_or_else(|| "none".to_owned());
    let differs = methods.live != methods.backup;
    let text = format!("{} → {}", word(&methods.live), word(&methods.backup));
    differs.then(|| (name, Said::new(Tone::Care, text)))
}

fn said_password(change: PasswordChange, then: &str) -> Option<Said> {
    let text = match change {
        PasswordChange::None | PasswordChange::Same => return None,
        PasswordChange::Other => format!("the one {then} is valid again"),
        PasswordChange::BackupOnly => "there is one again".to_owned(),
        PasswordChange::LiveOnly => "there is none any more".to_owned(),
    };
    Some(Said::new(Tone::Care, text))
}

fn names(name: &'static str, changes: &NameChanges) -> Option<(&'static str, Said)> {
    let parts = [("back", &changes.back), ("gone", &changes.gone), ("as they were then", &changes.changed)];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, names)| names.count > 0)
        .map(|(fate, names)| format!("{} {fate}: {}", names.count, listed(names)))
        .collect();
    (!parts.is_empty()).then(|| (name, Said::new(Tone::Care, parts.join("; "))))
}

/// What of it would be lost.
pub(super) fn losses(plan: &Plan) -> Vec<Said> {
    let Some(accounts) = &plan.preview.accounts else { return Vec::new() };
    let held = plan.spec.words().held;
    let gone = [("user", &accounts.users.gone), ("bank token", &accounts.bank_tokens.gone)];
    gone.into_iter()
        .filter(|(_, names)| names.count > 0)
        .map(|(what, names)| {
            let (verb, end) = if names.count == 1 { ("is", "") } else { ("are", "s") };
            let text =
                format!("{} {what}{end} {verb} not in {held} and gone: {}", names.count, listed(names));
            Said::new(Tone::Danger, text)
        })
        .collect()
}
