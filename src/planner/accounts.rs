//! Who could log in after a restore: two states of a server compared. Pure.

use std::collections::BTreeMap;

use crate::actual::logins::{LoginConfig, Logins};
use crate::ids::Sha256;
use crate::plan::accounts::{Accounts, LockOut, Methods, NameChanges, Names, PasswordChange, SessionChanges};

/// One state: what its database and its configuration say of logins.
#[derive(Debug, Clone, Copy)]
pub(super) struct State<'a> {
    /// By the database; `None` where there is no server.
    pub(super) logins: Option<&'a Logins>,
    /// By the configuration.
    pub(super) config: &'a LoginConfig,
}

/// What a restore changes; `None` where the backup's database could not be read.
pub(super) fn changes(live: State<'_>, backup: State<'_>) -> Option<Accounts> {
    let nobody = Logins::default();
    let (old, new) = (live.logins.unwrap_or(&nobody), backup.logins?);
    let methods = |live: &Option<String>, backup: &Option<String>| Methods {
        live: live.clone(),
        backup: backup.clone(),
    };
    // What the server takes where nothing is written.
    let word = |method: &Option<String>| method.clone().unwrap_or_else(|| "password".to_owned());
    let configured = methods(&live.config.method, &backup.config.method);
    let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    Some(Accounts {
        login_method: methods(&old.active, &new.active),
        configured_method: Some(configured)
            .filter(|methods| live.logins.is_some() && word(&methods.live) != word(&methods.backup)),
        password: password(old.password, new.password),
        users: NameChanges {
            back: Names::of(new.users.difference(&old.users)),
            gone: Names::of(old.users.difference(&new.users)),
            changed: Names::default(),
        },
        sessions: SessionChanges {
            back: count(new.sessions.difference(&old.sessions).count()),
            gone: count(old.sessions.difference(&new.sessions).count()),
        },
        bank_tokens: bank_tokens(&old.bank_tokens, &new.bank_tokens),
        locked_out: locked_out(new, backup.config),
    })
}

fn password(live: Option<Sha256>, backup: Option<Sha256>) -> PasswordChange {
    match (live, backup) {
        (None, None) => PasswordChange::None,
        (Some(_), None) => PasswordChange::LiveOnly,
        (None, Some(_)) => PasswordChange::BackupOnly,
        (Some(live), Some(backup)) if live == backup => PasswordChange::Same,
        (Some(_), Some(_)) => PasswordChange::Other,
    }
}

fn bank_tokens(live: &BTreeMap<String, Sha256>, backup: &BTreeMap<String, Sha256>) -> NameChanges {
    NameChanges {
        back: Names::of(backup.keys().filter(|name| !live.contains_key(*name))),
        gone: Names::of(live.keys().filter(|name| !backup.contains_key(*name))),
        changed: Names::of(
            backup
                .iter()
                .filter(|(name, value)| live.get(*name).is_some_and(|live| live != *value))
                .map(|(name, _)| name),
        ),
    }
}

/// Why nobody, or nobody who owns the server, could log in to this state.
fn locked_out(logins: &Logins, config: &LoginConfig) -> Vec<LockOut> {
    let active = |method: &str| logins.active.as_deref() == Some(method);
    let reasons = [
        (active("openid") && !logins.openid.is_some_and(|openid| openid.complete), LockOut::OpenidIncomplete),
        (config.enforce_openid && logins.openid.is_none(), LockOut::OpenidMissing),
        (active("password") && logins.password.is_none(), LockOut::NoPassword),
        (logins.owner == Some(false), LockOut::NoOwner),
    ];
    reasons.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actual::logins::OpenId;

    fn reasons(edit: impl Fn(&mut Logins, &mut LoginConfig)) -> Vec<LockOut> {
        let mut logins = Logins {
            active: Some("password".into()),
            password: Some(Sha256::of(b"x")),
            owner: Some(true),
            ..Logins::default()
        };
        let mut config = LoginConfig::default();
        edit(&mut logins, &mut config);
        let state = State { logins: Some(&logins), config: &config };
        changes(State { logins: None, config: &LoginConfig::default() }, state).unwrap().locked_out
    }

    #[test]
    fn each_reason_that_locks_out() {
        assert_eq!(reasons(|_, _| {}), []);
        assert_eq!(reasons(|logins, _| logins.owner = None), [], "the first login makes the owner");
        assert_eq!(reasons(|logins, _| logins.owner = Some(false)), [LockOut::NoOwner]);
        assert_eq!(reasons(|logins, _| logins.password = None), [LockOut::NoPassword]);
        assert_eq!(reasons(|_, config| config.enforce_openid = true), [LockOut::OpenidMissing]);
        let openid = |complete| {
            reasons(|logins, config| {
                logins.active = Some("openid".into());
                logins.openid = Some(OpenId { complete });
                config.enforce_openid = true;
            })
        };
        assert_eq!((openid(true), openid(false)), (vec![], vec![LockOut::OpenidIncomplete]));
    }

    #[test]
    fn what_comes_back_and_what_goes() {
        let tokens = |list: &[(&str, &str)]| {
            list.iter().map(|(name, value)| ((*name).to_owned(), Sha256::of(value.as_bytes()))).collect()
        };
        let set = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        let digests = |list: &[&str]| list.iter().map(|token| Sha256::of(token.as_bytes())).collect();
        let live = Logins {
            active: Some("openid".into()),
            password: Some(Sha256::of(b"new")),
            users: set(&["ann", "bob"]),
            sessions: digests(&["1", "2", "3"]),
            bank_tokens: tokens(&[("a", "1"), ("b", "1"), ("c", "1")]),
            ..Logins::default()
        };
        let backup = Logins {
            active: Some("password".into()),
            password: Some(Sha256::of(b"old")),
            users: set(&["ann", "eve"]),
            sessions: digests(&["3", "4"]),
            bank_tokens: tokens(&[("b", "2"), ("c", "1"), ("d", "1")]),
            ..Logins::default()
        };
        let config = LoginConfig::default();
        let found = changes(
            State { logins: Some(&live), config: &config },
            State { logins: Some(&backup), config: &config },
        )
        .unwrap();
        let names = |names: &Names| names.names.join(" ");
        assert_eq!(found.password, PasswordChange::Other);
        assert_eq!((names(&found.users.back), names(&found.users.gone)), ("eve".into(), "bob".into()));
        assert_eq!(found.sessions, SessionChanges { back: 1, gone: 2 });
        let tokens = &found.bank_tokens;
        assert_eq!([&tokens.back, &tokens.gone, &tokens.changed].map(names), ["d", "a", "b"]);
        assert_eq!(found.configured_method, None);
    }
}
