//! What was asked for clients, as `spec.clients` says it: budgets by name become budgets by id. Pure.

use super::error::PlanError;
use super::known::Known;
use crate::plan::clients::Clients;
use crate::plan::preview::{BudgetPresence, BudgetPreview};
use crate::plan::spec::ClientPolicy;

/// What was asked for clients with newer changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientsWish {
    /// For all budgets; nothing takes the configured default, more than one is a contradiction.
    pub all: Vec<ClientPolicy>,
    /// For single budgets, by name or id.
    pub budgets: Vec<(String, ClientPolicy)>,
}

impl ClientsWish {
    /// The same for all budgets.
    pub fn for_all(policy: ClientPolicy) -> Self {
        Self { all: vec![policy], budgets: Vec::new() }
    }

    /// Whether nothing was asked.
    pub fn is_open(&self) -> bool {
        self.all.is_empty() && self.budgets.is_empty()
    }

    /// The `spec.clients` of a plan.
    ///
    /// # Errors
    /// A budget is not in the backup, is there twice by that name, or two answers contradict each other.
    pub fn resolve(&self, known: &Known<'_>) -> Result<Clients, PlanError> {
        let default = match self.all.as_slice() {
            [] => known.facts.defaults.clients,
            [one] => *one,
            [_, _, ..] => return Err(wrong(
                "--clients says for all budgets twice what happens".into(),
                "say it once: --clients merge, or --clients reset; for a single budget: --clients NAME=reset"
                    .into(),
            )),
        };
        let mut chosen: Vec<(String, ClientPolicy)> = Vec::new();
        for (name, policy) in &self.budgets {
            let id = find(known, name)?;
            if chosen.iter().any(|(other, _)| *other == id) {
                return Err(wrong(
                    format!("--clients names budget {} twice", quoted(name)),
                    "name it once".into(),
                ));
            }
            chosen.push((id, *policy));
        }
        Ok(Clients::new(default, chosen))
    }
}

fn wrong(what: String, help: String) -> PlanError {
    PlanError::Wish { what, help }
}

fn quoted(text: &str) -> String {
    let text: String = text.chars().take(100).collect();
    format!("'{}'", text.escape_debug())
}

/// The budget of the backup that goes by an id or a name.
fn find(known: &Known<'_>, asked: &str) -> Result<String, PlanError> {
    let groups = &known.contents.groups;
    if groups.iter().any(|budget| budget.id == asked) {
        return Ok(asked.to_owned());
    }
    let all = &known.changes.budgets;
    let called: Vec<&BudgetPreview> = all
        .iter()
        .filter(|budget| budget.name.as_deref() == Some(asked) && budget.presence != BudgetPresence::LiveOnly)
        .collect();
    match called.as_slice() {
        [one] if groups.iter().any(|budget| budget.id == one.id) => Ok(one.id.clone()),
        [one] => Err(wrong(
            format!("budget {} never synced with a server: it has no sync group", quoted(asked)),
            format!("leave out --clients {asked}=…; nothing can come back to budget {}", one.id),
        )),
        [] => Err(unknown(known, asked)),
        many => {
            let ids: Vec<&str> = many.iter().map(|budget| budget.id.as_str()).collect();
            let what = format!("{} budgets of the backup are called {}", ids.len(), quoted(asked));
            Err(wrong(what, format!("name one by its id: {}", ids.join(", "))))
        }
    }
}

fn unknown(known: &Known<'_>, asked: &str) -> PlanError {
    let live = known.changes.budgets.iter().any(|budget| {
        let called = budget.id == asked || budget.name.as_deref() == Some(asked);
        called && budget.presence == BudgetPresence::LiveOnly
    });
    let what = if live {
        format!("budget {} is not in the backup: it is gone after the restore", quoted(asked))
    } else {
        format!("the backup has no budget {}", quoted(asked))
    };
    let names: Vec<String> = known
        .changes
        .budgets
        .iter()
        .filter(|budget| budget.presence != BudgetPresence::LiveOnly)
        .take(10)
        .map(|budget| quoted(budget.name.as_deref().unwrap_or(&budget.id)))
        .collect();
    let help = if names.is_empty() {
        "leave out the budget: --clients merge, or --clients reset".to_owned()
    } else {
        format!("the backup has {}", names.join(", "))
    };
    wrong(what, help)
}

/// Refuses a `spec.clients` that names a budget which the backup does not hold, as a person may have
/// edited it, or as it may have been gone since.
///
/// # Errors
/// Such a budget, by its id.
pub fn check(clients: &Clients, known: &Known<'_>) -> Result<(), PlanError> {
    let holds = |id: &str| known.contents.groups.iter().any(|budget| budget.id == id);
    match clients.named().find(|id| !holds(id)) {
        None => Ok(()),
        Some(id) => Err(wrong(
            format!(
                "spec.clients names budget {}, which the backup does not hold with a sync group",
                quoted(id)
            ),
            format!(
                "take it out of spec.clients.budgets; where no budget is left there, write clients: {}",
                clients.default_policy()
            ),
        )),
    }
}
