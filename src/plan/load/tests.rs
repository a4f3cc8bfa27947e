//! Plans broken in one way each, and what the reader says.

use miette::{GraphicalReportHandler, GraphicalTheme};
use serde_json::{Value, json};

use super::super::clients::Clients;
use super::super::emit::{to_json, to_yaml};
use super::super::model::Plan;
use super::super::spec::ClientPolicy;
use super::super::testing::{sample, sample_dest, sample_with_service, with_steps};
use super::*;

fn yaml() -> String {
    to_yaml(&sample()).unwrap()
}

/// The sample with one text in place of another.
fn edit(from: &str, to: &str) -> String {
    let text = yaml();
    assert_eq!(text.matches(from).count(), 1, "{from:?} must be there once");
    text.replace(from, to)
}

fn refused(text: &str) -> Vec<Problem> {
    let problems = load("plan.yaml", text.as_bytes()).unwrap_err().problems().to_vec();
    let known = codes();
    for problem in &problems {
        assert!(known.iter().any(|code| code.id == problem.code), "codes.rs lacks {problem:?}");
    }
    problems
}

/// Code, message and the marked text of the only problem.
fn only(text: &str) -> (String, String, String) {
    let problems = refused(text);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    let problem = &problems[0];
    let (offset, length) = problem.bytes;
    let line = text.lines().nth(problem.line - 1).unwrap_or_default();
    let marked = &text[offset..offset + length];
    assert!(line.chars().skip(problem.column - 1).collect::<String>().starts_with(marked), "{problem:?}");
    let marks = line.chars().take(problem.end_column - 1).skip(problem.column - 1);
    assert_eq!(marks.collect::<String>(), marked, "{problem:?}");
    let message = problem.help.iter().fold(problem.message.clone(), |text, help| text + " // " + help);
    (problem.code.trim_start_matches("abssctl::plan::").to_owned(), message, marked.to_owned())
}

fn expect(text: &str, code: &str, message: &str, marked: &str) {
    let found = only(text);
    assert_eq!(found.0, code, "{found:?}");
    assert!(found.1.contains(message), "{found:?}");
    assert_eq!(found.2, marked, "{found:?}");
}

#[test]
fn what_is_written_loads_and_is_the_same() {
    for plan in [sample(), sample_with_service(), sample_dest()] {
        assert_eq!(load("p", to_yaml(&plan).unwrap().as_bytes()).unwrap(), plan);
        assert_eq!(load("p", to_json(&plan).unwrap().as_bytes()).unwrap(), plan);
        let compact = serde_json::to_string(&plan).unwrap();
        assert_eq!(load("p", compact.as_bytes()).unwrap(), plan);
        let windows = to_yaml(&plan).unwrap().replace('\n', "\r\n");
        assert_eq!(load("p", windows.as_bytes()).unwrap(), plan);
    }
}

#[test]
fn files_that_are_no_text_or_no_plan() {
    let code = |bytes: &[u8]| {
        let errors = load("p", bytes).unwrap_err();
        let problem = errors.problems()[0].clone();
        assert!(codes().iter().any(|code| code.id == problem.code), "codes.rs lacks {problem:?}");
        (problem.code.trim_start_matches("abssctl::plan::").to_owned(), problem.line, problem.column)
    };
    assert_eq!(code(b""), ("empty".into(), 1, 1));
    assert_eq!(code(b"# only a comment\n"), ("empty".into(), 1, 1));
    assert_eq!(code("a: 1\né\u{fe}: \n".as_bytes().split_at(8).0), ("not_utf8".into(), 2, 2));
    assert_eq!(code(&vec![b' '; MAX_BYTES + 1]), ("too_large".into(), 1, 1));
    assert_eq!(code(b"- a\n"), ("not_a_plan".into(), 1, 1));
    assert_eq!(code(b"hello\n"), ("not_a_plan".into(), 1, 1));
    assert_eq!(code(b"{\"a\": 1"), ("syntax".into(), 1, 7));
    assert_eq!(code(b"a: b: c\n").0, "syntax");
}

#[test]
fn a_file_that_was_cut_off_is_never_a_plan() {
    for text in [yaml(), to_json(&sample()).unwrap()] {
        let steps = text.trim_end().len();
        for cut in (0..steps).filter(|cut| text.is_char_boundary(*cut)).step_by(13) {
            assert!(load("p", &text.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
        assert!(load("p", &text.as_bytes()[..steps - 1]).is_err());
    }
}

#[test]
fn version_and_kind_come_first() {
    expect(&edit("abssctl/v1", "abssctl/v2"), "api_version", "this abssctl reads abssctl/v1", "abssctl/v2");
    expect(
        &edit("kind: RestorePlan", "kind: PromotePlan"),
        "kind",
        "reserved for a later version",
        "PromotePlan",
    );
    expect(&edit("kind: RestorePlan", "kind: Deployment"), "kind", "'Deployment' is not known", "Deployment");
    let problems = refused("spec: 1\n");
    assert_eq!(problems.len(), 2);
    assert!(problems[0].message.contains("apiVersion is missing"));
}

#[test]
fn the_schema_in_words() {
    expect(
        &edit("clients: merge\n  sessions", "clinets: merge\n  clients: merge\n  sessions"),
        "unknown_field",
        "spec has an unknown field 'clinets' // did you mean clients?",
        "clinets",
    );
    expect(
        &edit("stagingBytes:", "zz: 1\n    stagingBytes:"),
        "unknown_field",
        "observed.space has an unknown field 'zz' // known fields: stagingBytes, backupBytes",
        "zz",
    );
    expect(
        &edit("drift: structure\n  replay", "drift: fast\n  replay"),
        "schema",
        "spec.drift 'fast' is not one of the words that are allowed here // write one of structure, exact, ignore",
        "fast",
    );
    expect(&edit("  retain: \"30d\"\n  own", "  own"), "schema", "spec has no field retain", "spec");
    expect(
        &edit("retain: \"30d\"\n  own", "retain: soon\n  own"),
        "schema",
        "spec.retain 'soon' is not a duration",
        "soon",
    );
    expect(
        &edit("stagingBytes: 1482752", "stagingBytes: \"1\""),
        "schema",
        "observed.space.stagingBytes must be an integer, and is the text '1'",
        "\"1\"",
    );
    expect(
        &edit("maxBytes: 1482752", "maxBytes: -1"),
        "schema",
        "steps[3].with.maxBytes -1 is too small",
        "-1",
    );
    expect(
        &edit("stagingBytes: 1482752", "stagingBytes: 9007199254740992"),
        "schema",
        "is too large",
        "9007199254740992",
    );
    expect(&edit("port: 5007\n    version", "port: 65536\n    version"), "schema", "at most 65535", "65536");
    expect(
        &edit("live: true\n  assets", "live: \"true\"\n  assets"),
        "schema",
        "spec.target.live must be true or false, and is the text 'true'",
        "\"true\"",
    );
    expect(
        &edit("reason: the import of November went wrong", "reason: 7"),
        "schema",
        "must be a text, and is the number 7",
        "7",
    );
    expect(
        &edit("reason: the import of November went wrong", "reason: null"),
        "schema",
        "leave the field out",
        "null",
    );
    expect(
        &edit("kind: swap", "kind: teleport"),
        "schema",
        "steps[7].kind 'teleport' is not one of",
        "teleport",
    );
    expect(
        &edit("effect: live", "effect: read"),
        "schema",
        "steps[7].effect 'read' does not fit; here it is \"live\"",
        "read",
    );
    expect(
        &edit("needs: [lock]", "needs: [lock, lock]"),
        "schema",
        "steps[1].needs names something twice",
        "needs",
    );
    expect(&edit("id: inspect", "id: In.spect"), "schema", "lower-case letters", "In.spect");
}

#[test]
fn numbers_and_words_are_written_in_one_way() {
    expect(
        &edit("stagingBytes: 1482752", "stagingBytes: 0x1f"),
        "integer",
        "stagingBytes '0x1f' is not an integer",
        "0x1f",
    );
    expect(&edit("stagingBytes: 1482752", "stagingBytes: 1.0"), "integer", "decimal digits", "1.0");
    expect(
        &edit("reason: the import of November went wrong", "reason: 2026-11-24"),
        "ambiguous",
        "double quotes",
        "2026-11-24",
    );
    assert!(matches!(
        only(&edit("reason: the import of November went wrong", "reason: yes")).0.as_str(),
        "ambiguous" | "schema"
    ));
    let mut json = serde_json::to_value(sample()).unwrap();
    json["observed"]["space"]["stagingBytes"] = json!(1.5e3);
    expect(&json.to_string(), "integer", "stagingBytes '1500.0' is not an integer", "1500.0");
}

#[test]
fn values_that_only_the_types_refuse() {
    expect(
        &edit("2026-11-25T08:00:00Z", "2026-02-31T08:00:00Z"),
        "value",
        "metadata.expiresAt: ",
        "\"2026-02-31T08:00:00Z\"",
    );
    expect(
        &edit("directory: /srv/budget\n    live", "directory: /srv/../etc\n    live"),
        "value",
        "spec.target.directory: ",
        "/srv/../etc",
    );
}

#[test]
fn the_rules_on_the_graph_have_places_too() {
    expect(
        &edit("needs: [pre-backup]", "needs: [pre-backup, nowhere]"),
        "graph::known_needs",
        "there is no such step",
        "nowhere",
    );
    expect(
        &edit("needs: [record]", "needs: [swap]"),
        "graph::cleanup_last",
        "'record' must come before 'cleanup'",
        "needs",
    );
    expect(&edit("maxBytes: 1482752", "maxBytes: 1"), "graph::parameters", "plan refresh", "1");
    expect(
        &edit("retain: \"30d\"\n  own", "retain: \"31d\"\n  own"),
        "graph::parameters",
        "retain of step 'cleanup' is \"30d\" where",
        "\"30d\"",
    );
}

#[test]
fn an_edited_spec_is_told_in_one_sentence() {
    let reset = edit("clients: merge\n  sessions", "clients: reset\n  sessions");
    let two = edit("retain: \"30d\"\n  own", "retain: \"31d\"\n  own")
        .replace("drift: structure\n  replay", "drift: exact\n  replay");
    for (text, steps) in [(reset, "step prepare"), (two, "steps check, cleanup")] {
        let problems = refused(&text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].code, "abssctl::plan::graph::parameters");
        let expected = format!("spec and steps say different things ({steps})");
        assert_eq!(problems[0].message, expected, "{problems:?}");
        assert_eq!(problems[0].help.as_deref(), Some("type: abssctl plan refresh FILE"));
        assert!(problems[0].pointer.starts_with("/steps"), "{problems:?}");
    }
    // What no edit of spec explains is told at its place.
    let two = edit("clients: merge\n  sessions", "clients: reset\n  sessions")
        .replace("needs: [record]", "needs: [swap]");
    assert!(refused(&two).len() > 1);
}

#[test]
fn parse_takes_an_edited_spec_and_load_does_not() {
    let text = edit("retain: \"30d\"\n  own", "retain: \"31d\"\n  own");
    let plan: Plan = parse("p", text.as_bytes()).unwrap();
    assert_eq!(plan.spec.retain.to_string(), "31d");
    assert!(load("p", text.as_bytes()).is_err());
    assert!(parse("p", edit("retain: \"30d\"\n  own", "retain: never\n  own").as_bytes()).is_err());
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = edit("drift: structure\n  replay", "drift: fast\n  replay")
        .replace("needs: [lock]", "needs: [lock, 5]")
        .replace("name: alice", "nmae: al\u{202e}ice");
    let problems = refused(&text);
    let places: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(
        places,
        ["/metadata/createdBy", "/metadata/createdBy/nmae", "/spec/drift", "/steps/1/needs/1"]
    );
    let rows: Vec<Value> = problems.iter().map(|problem| serde_json::to_value(problem).unwrap()).collect();
    assert_eq!(rows[2]["line"], json!(49));
    assert!(rows.iter().all(|row| row.get("bytes").is_none()));
}

#[test]
fn aliases_and_their_like_are_refused_with_their_codes() {
    for (from, to, code) in [
        ("name: alice", "name: &a alice", "alias"),
        ("name: alice", "name: !!str alice", "tag"),
        ("  expiresAt:", "  <<: {}\n  expiresAt:", "merge_key"),
        ("  expiresAt:", "  createdAt: \"2026-11-24T08:00:00Z\"\n  expiresAt:", "duplicate_key"),
        ("# The wish", "---\n# The wish", "second_document"),
    ] {
        let problems = refused(&edit(from, to));
        assert_eq!(problems[0].code, format!("abssctl::plan::{code}"), "{problems:?}");
    }
}

#[test]
fn how_it_looks() {
    let text = edit("drift: structure\n  replay", "drift: fast\n  replay")
        .replace("name: alice", "nmae: al\u{202e}[31mice");
    let errors = load("plan\u{202e}.yaml", text.as_bytes()).unwrap_err();
    let mut shown = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .render_report(&mut shown, &errors)
        .unwrap();
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'));
    insta::assert_snapshot!(shown);
}

#[test]
fn hostile_sizes_end_soon() {
    let started = std::time::Instant::now();
    let head = "apiVersion: abssctl/v1\nkind: RestorePlan\n";
    let texts = [
        format!("{head}{}", (0..60_000).fold(String::new(), |text, at| text + &format!("k{at}: {at}\n"))),
        format!(
            "{head}steps:\n{}",
            "- {id: a, kind: lock, needs: [], effect: read, summary: s, with: {instance: a}}\n"
                .repeat(10_000)
        ),
        edit("needs: [lock]", &format!("needs: [{}lock]", "lock, ".repeat(60_000))),
        edit("summary: take the", &format!("{}: take the", "s".repeat(1_000_000))),
    ];
    for text in &texts {
        assert!(!refused(text).is_empty());
    }
    let mut many = sample();
    for copy in 0..5_000 {
        let mut step = many.steps[0].clone();
        step.id = format!("lock-{copy}").parse().unwrap();
        many.steps.push(step);
    }
    assert!(!refused(&to_json(&many).unwrap()).is_empty());
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn every_code_is_described_once() {
    let known = codes();
    let ids: std::collections::HashSet<&str> = known.iter().map(|code| code.id.as_str()).collect();
    assert_eq!(ids.len(), known.len());
    assert!(known.iter().all(|code| !code.what.is_empty() && !code.help.is_empty()));
}

#[test]
fn places_end_after_their_last_character() {
    let errors = load("p", "a: 1\né\u{fe}: \n".as_bytes().split_at(8).0).unwrap_err();
    let problem = &errors.problems()[0];
    assert_eq!((problem.column, problem.end_column), (2, 3), "{problem:?}");
    let errors = load("p", b"").unwrap_err();
    assert_eq!(errors.problems()[0].end_column, 1);
    // Characters beyond U+FFFF count once, in bytes four times.
    let text = edit("reason: the import of November went wrong", "\u{1f600}\u{1f600}é: x");
    let found = refused(&text).into_iter().find(|problem| problem.code.ends_with("unknown_field")).unwrap();
    assert_eq!((found.column, found.end_column), (3, 6), "{found:?}");
}

#[test]
fn clients_by_budget_have_one_form() {
    const ID: &str = "b1f6b5ea-34f1-4f0a-8a8c-6a5a1b1f4a11";
    let mut plan = sample();
    plan.spec.clients = Clients::new(ClientPolicy::Merge, [(ID.to_owned(), ClientPolicy::Reset)]);
    let plan = with_steps(plan);
    let text = to_yaml(&plan).unwrap();
    assert!(
        text.contains(&format!("  clients:\n    default: merge\n    budgets:\n      {ID}: reset\n")),
        "{text}"
    );
    assert_eq!(load("p", text.as_bytes()).unwrap(), plan);
    let long = |form: &str| edit("clients: merge\n  sessions", &format!("clients: {form}\n  sessions"));
    for (form, message) in [
        ("{default: merge, budgets: {}}", "no budget is named; write merge alone"),
        (&format!("{{default: merge, budgets: {{{ID}: merge}}}}"), "which all get; take it out"),
        (&format!("{{default: merge, budgets: {{{ID}: perhaps}}}}"), "one of the words"),
        (&format!("{{default: merge, budget: {{{ID}: reset}}}}"), "budget"),
        ("{budgets: {b: reset}}", "has no field default"),
        ("[merge]", "one of the words"),
        ("{default: merge, budgets: {nobody: reset}}", "which the backup does not hold"),
    ] {
        let problems = refused(&long(form));
        let told = problems.iter().any(|problem| problem.message.contains(message));
        assert!(
            told && problems.iter().all(|problem| problem.pointer.starts_with("/spec/clients")
                || problem.pointer.starts_with("/steps")),
            "{form}: {problems:?}"
        );
    }
}
