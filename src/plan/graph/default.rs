//! The graph that the planner writes: one chain, with the proof of the archive beside its unpacking.
//! Pure.

use super::super::derive::{NoSuchStep, belongs, derive};
use super::super::model::Metadata;
use super::super::observed::Observed;
use super::super::spec::{PreBackupMode, Spec, Transfer};
use super::super::step::{Step, StepKind};
use crate::ids::StepId;

/// The steps of a restore, each with as few needs as give the order; ids are the names of the kinds.
///
/// `lock → check → {verify, extract} → inspect → prepare → stop → pre-backup → overlay → swap → assets → start →
/// health → record → cleanup`, without those that do not belong; an online `pre-backup` needs `check`
/// alone, and `stop` waits for it, since the server is to be up meanwhile.
///
/// # Errors
/// A step belongs into the plan but cannot be made from what was observed.
pub fn default_steps(metadata: &Metadata, spec: &Spec, observed: &Observed) -> Result<Vec<Step>, NoSuchStep> {
    let online = spec.pre_backup.mode == PreBackupMode::Online;
    let mut steps = Vec::new();
    let mut ends: Vec<StepKind> = Vec::new();
    let mut beside = None;
    let mut kinds: Vec<StepKind> =
        StepKind::ALL.iter().copied().filter(|kind| belongs(*kind, spec, observed)).collect();
    let place = |kinds: &[StepKind], kind| kinds.iter().position(|other| *other == kind);
    if let (true, Some(stop), Some(backup)) =
        (online, place(&kinds, StepKind::Stop), place(&kinds, StepKind::PreBackup))
    {
        let _ = kinds.remove(backup);
        kinds.insert(stop, StepKind::PreBackup);
    }
    for kind in kinds {
        let needs = match kind {
            StepKind::Verify | StepKind::Extract => vec![StepKind::Check],
            // Both read the live databases: one that closes a file lets go of the other's locks on it.
            StepKind::PreBackup if online && spec.transfer == Transfer::Delta => vec![StepKind::Extract],
            StepKind::PreBackup if online => vec![StepKind::Check],
            StepKind::Stop | StepKind::Swap => ends.iter().copied().chain(beside.take()).collect(),
            StepKind::Lock
            | StepKind::Check
            | StepKind::Inspect
            | StepKind::Prepare
            | StepKind::PreBackup
            | StepKind::Overlay
            | StepKind::Assets
            | StepKind::Start
            | StepKind::Health
            | StepKind::Record
            | StepKind::Cleanup => ends.clone(),
        };
        match kind {
            StepKind::PreBackup if online => beside = Some(kind),
            StepKind::Extract => ends.push(kind),
            StepKind::Lock
            | StepKind::Check
            | StepKind::Verify
            | StepKind::Inspect
            | StepKind::Prepare
            | StepKind::Stop
            | StepKind::PreBackup
            | StepKind::Overlay
            | StepKind::Swap
            | StepKind::Assets
            | StepKind::Start
            | StepKind::Health
            | StepKind::Record
            | StepKind::Cleanup => ends = vec![kind],
        }
        let action = derive(kind, metadata, spec, observed)?;
        let needs = needs.into_iter().map(id_of).collect();
        steps.push(Step { id: id_of(kind), needs, summary: action.summary(), action });
    }
    Ok(steps)
}

fn id_of(kind: StepKind) -> StepId {
    StepId::try_from(kind.name().to_owned())
        .expect("names of kinds are lower-case words with '-', as step ids are")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::model::Plan;
    use super::super::super::observed::Presence;
    use super::super::super::spec::RestartPolicy;
    use super::super::super::testing;
    use super::super::check;
    use super::*;

    fn shape(plan: &Plan) -> String {
        let line = |step: &Step| {
            let needs: Vec<&str> = step.needs.iter().map(StepId::as_str).collect();
            format!("{}[{}]", step.id, needs.join(","))
        };
        plan.steps.iter().map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_default_graph_of_a_service() {
        assert_eq!(
            shape(&testing::sample_with_service()),
            "lock[] check[lock] verify[check] extract[check] inspect[verify,extract] prepare[inspect] \
             stop[prepare] pre-backup[stop] swap[pre-backup] assets[swap] start[assets] health[start] \
             record[health] cleanup[record]"
        );
    }

    #[test]
    fn an_online_pre_backup_runs_beside_the_archive() {
        let mut plan = testing::sample_with_service();
        plan.spec.pre_backup.mode = PreBackupMode::Online;
        let plan = testing::with_steps(plan);
        assert!(
            shape(&plan).contains("pre-backup[check] stop[prepare,pre-backup] swap[stop]"),
            "{}",
            shape(&plan)
        );
        assert_eq!(check(&plan), []);
    }

    #[test]
    fn to_another_directory() {
        assert_eq!(
            shape(&testing::sample_dest()),
            "lock[] check[lock] verify[check] extract[check] inspect[verify,extract] prepare[inspect] \
             swap[prepare] record[swap] cleanup[record]"
        );
    }

    #[test]
    fn whatever_is_wished_and_seen_the_default_graph_obeys_the_rules() {
        let modes = [PreBackupMode::Quiesced, PreBackupMode::Online, PreBackupMode::None];
        let restarts = [RestartPolicy::Auto, RestartPolicy::Always, RestartPolicy::Never];
        for base in [testing::sample(), testing::sample_with_service(), testing::sample_dest()] {
            for mode in modes {
                for restart in restarts {
                    for running in [false, true] {
                        if restart == RestartPolicy::Always
                            && base.spec.target.live
                            && base.observed.service.unit.is_none()
                        {
                            continue; // Refused by rule 9: nothing is there that could start it.
                        }
                        let mut plan = base.clone();
                        plan.spec.pre_backup.mode = mode;
                        plan.spec.service.restart = restart;
                        plan.observed.service.running = running && plan.observed.service.unit.is_some();
                        let plan = testing::with_steps(plan);
                        assert_eq!(check(&plan), [], "{}", shape(&plan));
                    }
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_made_is_said() {
        let mut plan = testing::sample_with_service();
        plan.observed.instance.port = None;
        let error = default_steps(&plan.metadata, &plan.spec, &plan.observed).unwrap_err();
        assert_eq!(error.kind, StepKind::Stop);
        let mut absent = testing::sample();
        absent.observed.target = serde_json::from_value(json!({ "presence": "absent" })).unwrap();
        assert_eq!(absent.observed.target.presence, Presence::Absent);
        assert!(!shape(&testing::with_steps(absent)).contains("pre-backup"));
    }
}
