//! What a restore would change, from what is known of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::known::{Known, Local};
use super::single;
use crate::facts::model::TableRows;
use crate::plan::follows;
use crate::plan::model::Metadata;
use crate::plan::observed::Observed;
use crate::plan::preview::{BudgetPreview, Preview, RowChange, TextDiff};
use crate::plan::spec::{AssetScope, Spec};

/// Says what a restore would change.
pub fn preview(metadata: &Metadata, spec: &Spec, observed: &Observed, known: &Known<'_>) -> Preview {
    let single = spec.is_single();
    let mut preview = Preview {
        files: known.changes.files.clone(),
        budgets: known.changes.budgets.clone(),
        // Logins stay as they are there, too.
        accounts: known.changes.accounts.clone().filter(|_| !single),
        rows: rows(observed, known),
        // Configuration, unit and vhost stay as they are where single budgets come.
        diffs: known.local.filter(|_| !single).map(|local| diffs(spec, local)).unwrap_or_default(),
        checks: follows::checks(spec, observed, &known.claims()),
        warnings: Vec::new(),
        downtime_ms: follows::downtime_ms(spec, observed),
    };
    if single {
        preview.budgets = single::budgets(metadata, spec, observed, known);
        single::rows(&mut preview.rows, &preview.budgets, observed);
    }
    for budget in &mut preview.budgets {
        let new = follows::new_group(&metadata.id, spec, observed, budget);
        *budget = BudgetPreview { new_group_id: new, ..budget.clone() };
    }
    if single {
        preview.files = single::files(spec, observed, known, &preview.budgets);
    }
    preview.warnings = follows::warnings(spec, observed, &preview);
    preview
}

/// Text files that differ: unit and vhost come where the plan wants it.
fn diffs(spec: &Spec, local: &Local) -> Vec<TextDiff> {
    let comes = |diff: &TextDiff| diff.restored || spec.assets == AssetScope::Full;
    let diffs = local.diffs.iter();
    diffs.map(|diff| TextDiff { restored: comes(diff), ..diff.clone() }).collect()
}

/// Rows of the server's own tables.
fn rows(observed: &Observed, known: &Known<'_>) -> Vec<RowChange> {
    let by_table = |rows: &[TableRows]| -> BTreeMap<String, u64> {
        rows.iter().map(|row| (row.table.clone(), row.rows)).collect()
    };
    let live = by_table(&known.target.rows);
    let backup = by_table(known.contents.rows.as_deref().unwrap_or_default());
    let tables: BTreeSet<&String> = live.keys().chain(backup.keys()).collect();
    let database = follows::account_path(observed);
    let row = |table: &String| RowChange {
        database: database.clone(),
        table: table.clone(),
        live: live.get(table).copied(),
        backup: backup.get(table).copied(),
    };
    tables.into_iter().map(row).collect()
}
