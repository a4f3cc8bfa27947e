//! Who approved a plan, and whether that is enough here: the signatures that came with it, the allowed
//! signers of this machine and its policy (`restore.yml`). Reads only.

use crate::context::Context;
use crate::host::clock;
use crate::plan::approval::allowed_signers::{AllowedSigners, Mistake};
use crate::plan::approval::{Judged, Policy, Standing, approvers, claims, judge};
use crate::plan::canonical;
use crate::plan::model::Plan;
use crate::plan::policy::{Finding, FindingCode, InForce};

/// No list of signers is larger.
const LIMIT: u64 = 1 << 20;

/// What came with a plan to judge its approvals by.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The name of the plan's file, which begins the names of detached signatures.
    pub plan_name: String,
    /// Files that lie beside it: name and content.
    pub detached: Vec<(String, String)>,
    /// How many approvals the person who applies asks for; the policy may ask for more.
    pub require: u32,
}

/// The list of allowed signers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum List {
    Read(Vec<Mistake>),
    Absent,
    Unreadable(String),
}

/// Who approved a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approvals {
    /// How many are needed.
    pub required: u32,
    /// The people whose approval counts.
    pub approvers: Vec<String>,
    /// Every signature; empty where there is no list to judge them by.
    pub judged: Vec<Judged>,
    /// The rule that needs so many, where it is one.
    rule: Option<String>,
    given: usize,
    list: List,
    file: String,
}

/// Judges what came with a plan by the list and the policy of this machine.
pub fn look(cx: &Context, plan: &Plan, evidence: &Evidence, in_force: &InForce<'_>) -> Approvals {
    let path = &cx.config.restore.allowed_signers;
    let claims = claims(plan, &evidence.plan_name, evidence.detached.clone());
    let (required, rule) = in_force.required(evidence.require);
    let mut found = Approvals {
        required,
        rule: rule.map(str::to_owned),
        approvers: Vec::new(),
        judged: Vec::new(),
        given: claims.len(),
        list: List::Absent,
        file: cx.root.host_path(path).display().to_string(),
    };
    let text = match cx.root.read(path, LIMIT) {
        Ok(Some(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(None) => return found,
        Err(error) => {
            found.list = List::Unreadable(error.to_string());
            return found;
        }
    };
    let signers = AllowedSigners::read(&text, &clock::local_zone(&cx.root));
    found.list = List::Read(signers.mistakes().to_vec());
    // A plan without a canonical text has no digest either and came nowhere near.
    let Ok(text) = canonical::canonical(plan) else { return found };
    let policy = Policy { signers: &signers, now: clock::now(), in_force };
    found.judged = judge(plan, &text, &claims, policy);
    found.approvers = approvers(&found.judged);
    found
}

impl Approvals {
    /// What is missing, where something is.
    pub fn missing(&self) -> Option<Finding> {
        let counted = u32::try_from(self.approvers.len()).unwrap_or(u32::MAX);
        if counted >= self.required {
            return None;
        }
        let by = self.rule.as_ref().map_or_else(String::new, |rule| format!(" (rule '{rule}')"));
        let needed = match self.required {
            1 => format!("1 approval is needed{by}"),
            more => format!("{more} approvals are needed{by}"),
        };
        let (code, message) = match &self.list {
            List::Absent => (
                FindingCode::NoAllowedSigners,
                format!("{needed}, and there is no {} to say whose count", self.file),
            ),
            List::Unreadable(why) => {
                (FindingCode::NoAllowedSigners, format!("{needed}, and nobody can say whose count: {why}"))
            }
            List::Read(_) => (FindingCode::Approvals, format!("{needed} and {}", self.tally())),
        };
        Some(Finding { rule: self.rule.clone(), code, message })
    }

    /// Who counts, and why others do not.
    fn tally(&self) -> String {
        let names: Vec<String> = self.counting().map(Judged::shown_principal).collect();
        let mut text = match names.as_slice() {
            [] => "nobody has approved".to_owned(),
            [one] => format!("only {one} has approved"),
            [first @ .., last] => format!("only {} and {last} have approved", first.join(", ")),
        };
        for judged in self.judged.iter().filter(|judged| judged.standing != Standing::Counts) {
            text += &format!("; not counted: {} ({})", judged.shown_principal(), judged.verdict());
        }
        text
    }

    fn counting(&self) -> impl Iterator<Item = &Judged> {
        self.judged.iter().filter(|judged| judged.standing == Standing::Counts)
    }

    /// In one line, for `plan check`; `None` where there is nothing to say.
    pub fn summary(&self) -> Option<String> {
        if self.required == 0 && self.given == 0 {
            return None;
        }
        let names: Vec<String> = self.counting().map(Judged::shown_principal).collect();
        let by = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        Some(format!("approved by {by}; {} needed", self.required))
    }

    /// What a person should know: signatures that do not count although nobody asked, lines that grant nothing.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.missing().is_none() {
            for judged in self.judged.iter().filter(|judged| !judged.is_valid()) {
                let name = judged.shown_principal();
                warnings.push(format!("the approval of {name} does not count: {}", judged.verdict()));
            }
        }
        if let List::Read(mistakes) = &self.list
            && self.given > 0
        {
            let told = mistakes.iter().map(|mistake| {
                format!("{}, line {}: {}; it grants nothing", self.file, mistake.line, mistake.message)
            });
            warnings.extend(told);
        }
        warnings
    }

    /// What could not be checked.
    pub fn not_checked(&self) -> Option<String> {
        let unjudged = self.required == 0 && self.given > 0 && !matches!(self.list, List::Read(_));
        unjudged.then(|| format!("approvals: {} given, and no {} to judge them by", self.given, self.file))
    }
}
