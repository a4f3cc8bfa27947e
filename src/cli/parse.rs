//! Values of the command line that are checked while it is read. Pure.

use crate::duration::DurationText;
use crate::plan::spec::ClientPolicy;

/// Yes or no from the environment. A word that is neither is an error: a typing mistake must not answer
/// questions.
pub(super) fn parse_yes(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Ok(true),
        "" | "0" | "false" | "no" => Ok(false),
        _ => Err("ABSSCTL_ASSUME_YES is 1, true or yes; or 0, false, no or empty".to_owned()),
    }
}

/// An age in seconds; `0s` is one, as it is no duration of a plan.
pub(super) fn parse_age(text: &str) -> Result<u64, String> {
    if text == "0s" { Ok(0) } else { parse_duration(text).map(|duration| duration.seconds()) }
}

/// A duration as plans have it.
pub(super) fn parse_duration(text: &str) -> Result<DurationText, String> {
    DurationText::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// What happens to the clients of all budgets, or of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientsArg {
    /// Name or id; `None` for all budgets.
    budget: Option<String>,
    policy: ClientPolicy,
}

impl ClientsArg {
    /// What is said for all budgets.
    pub(super) fn all(&self) -> Option<ClientPolicy> {
        self.budget.is_none().then_some(self.policy)
    }

    /// What is said for one budget.
    pub(super) fn budget(&self) -> Option<(String, ClientPolicy)> {
        Some((self.budget.clone()?, self.policy))
    }
}

/// `merge`, `reset`, or one of them for a budget: `Household=reset`. A name may hold the sign `=`.
pub(super) fn parse_clients(text: &str) -> Result<ClientsArg, String> {
    let (budget, word) = match text.rsplit_once('=') {
        None => (None, text),
        Some((budget, word)) => (Some(budget.to_owned()), word),
    };
    let policy = match word {
        "merge" => ClientPolicy::Merge,
        "reset" => ClientPolicy::Reset,
        _ => return Err("write merge or reset, or for one budget NAME=merge or NAME=reset".to_owned()),
    };
    if budget.as_ref().is_some_and(String::is_empty) {
        return Err("a budget's name or id stands before the sign =".to_owned());
    }
    Ok(ClientsArg { budget, policy })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_for_all_and_for_one() {
        let said = |text: &str| parse_clients(text).map(|said| (said.budget, said.policy));
        assert_eq!(said("merge"), Ok((None, ClientPolicy::Merge)));
        assert_eq!(said("a=b=reset"), Ok((Some("a=b".into()), ClientPolicy::Reset)));
        assert_eq!(said("merge=reset"), Ok((Some("merge".into()), ClientPolicy::Reset)));
        for wrong in ["", "Reset", "x=", "=reset", "x=keep", "merge,reset"] {
            assert!(said(wrong).is_err(), "{wrong}");
        }
    }
}
