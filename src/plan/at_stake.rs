//! The warnings about what a restore does to people: changes that devices hold, budgets, logins and bank
//! tokens. They follow from the rest of a plan; [`super::follows`] puts them in their order. Pure.

use super::accounts::{Accounts, LockOut, Methods, Names, PasswordChange};
use super::observed::Observed;
use super::preview::{BudgetPresence, BudgetPreview, DeletedIn, KeyChange, Preview};
use super::spec::{ClientPolicy, SessionPolicy, Spec, Words};

/// Code and text of a warning.
type Told = (&'static str, String);

/// What happens to clients that hold newer changes: those of budgets that are merged, then of those that
/// are reset.
pub fn clients(spec: &Spec, budgets: &[BudgetPreview]) -> Vec<Told> {
    let newer = |policy| newer(spec, budgets, policy);
    let (back, lost) = (newer(ClientPolicy::Merge), newer(ClientPolicy::Reset));
    let act = spec.words().act;
    // A tree comes back as it was: nothing stops its clients but a restore of the pre-backup.
    let stop = if spec.is_rollback() { "" } else { ". 'clients: reset' stops that" };
    let mut told = Vec::new();
    if back > 0 {
        let message = format!(
            "clients: merge — clients send newer changes back at their next sync ({back} on the server now): they undo this {act}, budget by budget{stop}"
        );
        told.push(("clients-merge", message));
    }
    if lost > 0 {
        let changes = if lost == 1 { "change is" } else { "changes are" };
        let message = format!(
            "clients: reset — {lost} newer {changes} replaced; every client is told to download the restored budget"
        );
        told.push(("clients-reset", message));
    }
    for budget in budgets.iter().filter(|budget| is_uncounted(spec, budget)) {
        let message = format!(
            "clients: merge — newer changes of budget '{}' could not be counted: clients send back what they hold and may undo this {act}{stop}",
            name(budget)
        );
        told.push(("clients-uncounted", message));
    }
    told
}

/// Changes on the live server that the backup lacks, of budgets that are treated so.
pub fn newer(spec: &Spec, budgets: &[BudgetPreview], policy: ClientPolicy) -> u64 {
    let both = budgets.iter().filter(|budget| budget.presence == BudgetPresence::Both && !budget.kept);
    let so = both.filter(|budget| spec.target.live && spec.clients.of(&budget.id) == policy);
    so.filter_map(|budget| budget.changes_newer).fold(0_u64, u64::saturating_add)
}

/// Whether devices may hold newer changes of a budget, and nobody knows how many.
pub fn is_uncounted(spec: &Spec, budget: &BudgetPreview) -> bool {
    spec.target.live
        && budget.presence == BudgetPresence::Both
        && !budget.kept
        && budget.changes_newer.is_none()
        && budget.group_id.is_some()
        && budget.live_group_id.is_none()
        && spec.clients.of(&budget.id) == ClientPolicy::Merge
}

/// Budgets that go or come back, and those that devices will ask about.
pub fn budgets(spec: &Spec, budgets: &[BudgetPreview]) -> Vec<Told> {
    let gone = budgets.iter().filter(|budget| budget.presence == BudgetPresence::LiveOnly && !budget.kept);
    let words = spec.words();
    let Words { act, since, .. } = words;
    let mut told: Vec<Told> = gone.map(|budget| ("budget-gone", self::gone(budget, words))).collect();
    for budget in budgets.iter().filter(|_| spec.target.live) {
        let name = name(budget);
        if budget.deleted == Some(DeletedIn::Live) {
            let message = format!("budget '{name}' was deleted {since} and is back after the {act}");
            told.push(("budget-returns", message));
        }
        if budget.live_group_id.is_some() {
            let message = format!(
                "the sync of budget '{name}' was reset {since}: its clients that synced since are told that it was reset once more, and send nothing"
            );
            told.push(("sync-was-reset", message));
        }
        if let Some(change) = budget.key_change {
            let what = match change {
                KeyChange::EncryptedSince => {
                    format!("was encrypted {since} and is not encrypted after the {act}")
                }
                KeyChange::DecryptedSince => {
                    format!("is encrypted again, with the encryption password {}", words.then)
                }
                KeyChange::OtherKey => format!(
                    "has another key {since}: the encryption password {} opens it after the {act}",
                    words.then
                ),
            };
            told.push(("budget-key", format!("budget '{name}' {what}")));
        }
    }
    told
}

fn name(budget: &BudgetPreview) -> &str {
    budget.name.as_deref().unwrap_or(&budget.id)
}

fn gone(budget: &BudgetPreview, words: Words) -> String {
    let Words { held, act, .. } = words;
    let count = budget.changes_newer.map_or_else(String::new, |count| {
        format!(" ({count} {})", if count == 1 { "change" } else { "changes" })
    });
    let why = match budget.deleted {
        Some(DeletedIn::Backup) => "is marked as deleted in",
        Some(DeletedIn::Live) | None => "is not in",
    };
    format!("budget '{}'{count} {why} {held} and is gone after the {act}", name(budget))
}

/// Who can log in after the restore, and who cannot.
pub fn accounts(spec: &Spec, observed: &Observed, preview: &Preview) -> Vec<Told> {
    let mut told = Vec::new();
    let Some(accounts) = &preview.accounts else {
        // Without a look at the logins themselves, their number must do.
        let row = super::follows::sessions(observed, preview);
        if row.is_some_and(|row| row.backup.is_some_and(|count| count > 0)) {
            told.extend(sessions(spec, None));
        }
        return told;
    };
    told.extend(locked_out(accounts, spec.words()));
    if accounts.sessions.back > 0 {
        told.extend(sessions(spec, Some(accounts.sessions.back)));
    }
    if spec.target.live && observed.target.sessions.is_some() {
        told.extend(secrets(accounts, spec.words()));
        told.extend(users(accounts));
    }
    told
}

fn sessions(spec: &Spec, count: Option<u64>) -> Option<Told> {
    let then = spec.words().then;
    let who = match count {
        None => format!("logins {then} are"),
        Some(1) => format!("1 login {then} is"),
        Some(count) => format!("{count} logins {then} are"),
    };
    let end = if spec.is_rollback() { "" } else { "; 'sessions: revoke' ends them" };
    let message = format!("{who} valid again{end}");
    (spec.sessions == SessionPolicy::Keep).then_some(("sessions-return", message))
}

fn locked_out(accounts: &Accounts, words: Words) -> Vec<Told> {
    let Words { held, act, .. } = words;
    let reason = |reason: &LockOut| match reason {
        LockOut::OpenidIncomplete => format!(
            "in {held} OpenID is the login method, and its issuer, client id or client secret is missing: nobody can log in after the {act}"
        ),
        LockOut::OpenidMissing => format!(
            "config.json of {held} enforces OpenID, which was not set up then: people may not be able to log in after the {act}"
        ),
        LockOut::NoPassword => format!(
            "in {held} the password is the login method, and there is none: nobody can log in after the {act}"
        ),
        LockOut::NoOwner => {
            format!("in {held} no user who may log in owns the server: nobody can manage it after the {act}")
        }
    };
    let mut told: Vec<Told> = accounts.locked_out.iter().map(|one| ("locked-out", reason(one))).collect();
    if let Some(Methods { live, backup }) = &accounts.configured_method {
        let word = |method: &Option<String>| method.clone().unwrap_or_else(|| "nothing".to_owned());
        let message = format!(
            "the {act} changes loginMethod in config.json from {} to {}: see that everybody can still log in",
            word(live),
            word(backup)
        );
        told.push(("locked-out", message));
    }
    told
}

/// What the server then asks for and holds.
fn secrets(accounts: &Accounts, words: Words) -> Vec<Told> {
    let Words { act, then, .. } = words;
    let mut told = Vec::new();
    let Methods { live, backup } = &accounts.login_method;
    if let (Some(live), Some(backup)) = (live, backup)
        && live != backup
    {
        told.push(("login-method", format!("people log in with {backup} again; now it is {live}")));
    }
    match accounts.password {
        PasswordChange::Other => {
            let message = format!("the password {then} is valid again, and the one of now is not");
            told.push(("password-returns", message));
        }
        PasswordChange::BackupOnly => {
            told.push(("password-returns", format!("the password {then} is valid again")));
        }
        PasswordChange::None | PasswordChange::Same | PasswordChange::LiveOnly => {}
    }
    let tokens = &accounts.bank_tokens;
    let parts = [(&tokens.gone, "gone"), (&tokens.back, "back"), (&tokens.changed, "as they were then")];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(names, _)| names.count > 0)
        .map(|(names, fate)| format!("{fate}: {}", listed(names)))
        .collect();
    if !parts.is_empty() {
        let message = format!(
            "tokens of banks change with the {act} ({}); bank sync may have to be set up again",
            parts.join("; ")
        );
        told.push(("bank-tokens", message));
    }
    told
}

fn users(accounts: &Accounts) -> Vec<Told> {
    let (back, gone) = (&accounts.users.back, &accounts.users.gone);
    let word = |names: &Names| if names.count == 1 { "user" } else { "users" };
    let mut told = Vec::new();
    if back.count > 0 {
        let message = format!("{} {} may log in again: {}", back.count, word(back), listed(back));
        told.push(("users-return", message));
    }
    if gone.count > 0 {
        let message = format!("{} {} can no longer log in: {}", gone.count, word(gone), listed(gone));
        told.push(("users-gone", message));
    }
    told
}

/// Names in one line, with the number of those that are left out.
pub fn listed(names: &Names) -> String {
    const SHOWN: usize = 40;
    let cut = |name: &String| match name.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.clone(),
    };
    let mut shown: Vec<String> = names.names.iter().map(cut).collect();
    let left = names.count.saturating_sub(u64::try_from(shown.len()).unwrap_or(u64::MAX));
    if left > 0 {
        shown.push(format!("and {left} more"));
    }
    shown.join(", ")
}
