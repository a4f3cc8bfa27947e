//! Every rendering of a plan shows hostile text as text: by properties over random plans, and by the
//! programs that draw what we write (Chromium, Graphviz). Pages and
//! screenshots stay in `target/tmp/renderings`, to be looked at.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on ends here")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use abssctl::plan::model::Plan;
use abssctl::plan::render::dot::dot;
use abssctl::plan::render::html::html;
use abssctl::plan::render::is_hidden;
use abssctl::plan::render::markdown::{MAX_BYTES, markdown};
use abssctl::plan::render::mermaid::mermaid;
use abssctl::plan::render::text::{TextOptions, text};
use abssctl::plan::spec::{DriftPolicy, PreBackupMode};
use abssctl::plan::testing::{sample, sample_with_service, with_steps};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

/// Texts that mean something to a renderer, a browser or a forge.
const TRICKS: &[&str] = &[
    "",
    " ",
    "|",
    "a|b|c",
    "\\|",
    "`",
    "``` a",
    "~~~",
    "</code>",
    "</details>",
    "</style>",
    "<script>pwned()</script>",
    "<img id=pwned src=x onerror=pwned()>",
    "\"><svg id=pwned onload=pwned()>",
    "' onmouseover='pwned()",
    "<!--",
    "]]>",
    "&lt;b&gt;",
    "&#124;",
    "[a](javascript:pwned())",
    "![a](https://evil.example/x.png)",
    "<https://evil.example>",
    "https://evil.example",
    "www.evil.example",
    "a@evil.example",
    "@everyone",
    "#1",
    "GH-1",
    "!1",
    "/close",
    "# a",
    "- a",
    "1. a",
    "> a",
    "---",
    "| --- |",
    "*a*",
    "__a__",
    "~~a~~",
    "$`a`$",
    ":bomb:",
    "%%{init: {}}%%",
    "end",
    "\"]; click s0 \"javascript:pwned()\"",
    "#quot;",
    "\"; s0 [URL=\"javascript:pwned()\"]; \"",
    "a\nb",
    "a\r\nb",
    "\n\n# a",
    "\t",
    "\u{202e}gpj.exe",
    "\u{2066}a\u{2069}",
    "\u{1b}[2J",
    "\u{0}",
    "\u{85}\u{2028}",
    "\u{200b}\u{feff}\u{e0041}",
    "日本語の家計簿",
    "שלום",
];

fn any_text(max: usize) -> impl Strategy<Value = String> {
    let piece = prop_oneof![3 => select(TRICKS).prop_map(str::to_owned), 1 => "\\PC{0,12}", 1 => any::<char>().prop_map(String::from)];
    proptest::collection::vec(piece, 1..5).prop_map(move |pieces| pieces.concat().chars().take(max).collect())
}

prop_compose! {
    fn any_plan()(
        service in any::<bool>(),
        reckless in any::<bool>(),
        texts in proptest::collection::vec(any_text(200), 12),
        reason in proptest::option::of(any_text(1000)),
        message in any_text(1000),
        diff in any_text(2000),
        examples in proptest::collection::vec(any_text(100), 0..10),
    ) -> Plan {
        let mut plan = if service { sample_with_service() } else { sample() };
        if reckless {
            plan.spec.drift = DriftPolicy::Ignore;
            plan.spec.pre_backup.mode = PreBackupMode::None;
            plan.spec.pre_backup.message = None;
        } else {
            plan.spec.pre_backup.message = Some(message.clone());
        }
        plan.metadata.reason = reason;
        plan.metadata.created_by.name.clone_from(&texts[0]);
        plan.metadata.generator.clone_from(&texts[1]);
        plan.observed.file_system.r#type.clone_from(&texts[2]);
        plan.observed.instance.data_directory.clone_from(&texts[3]);
        let mut plan = with_steps(plan);
        plan.preview.budgets[0].name = Some(texts[4].clone());
        plan.preview.budgets[1].id.clone_from(&texts[5]);
        plan.preview.budgets[1].name = None;
        plan.preview.budgets[0].first_newer = Some(texts[6].clone());
        plan.preview.rows[0].table.clone_from(&texts[7]);
        plan.preview.rows[1].database.clone_from(&texts[8]);
        plan.preview.diffs[0].path.clone_from(&texts[9]);
        plan.preview.diffs[0].diff = diff;
        plan.preview.checks[0].why.clone_from(&texts[10]);
        plan.preview.checks[1].id.clone_from(&texts[11]);
        plan.preview.files.added.examples = examples;
        if let Some(warning) = plan.preview.warnings.first_mut() {
            warning.message = message;
        }
        plan
    }
}

fn all_renderings(plan: &Plan) -> [(&'static str, String); 5] {
    let text = text(plan, &TextOptions { width: 80, ..TextOptions::default() });
    [
        ("text", text),
        ("markdown", markdown(plan, None)),
        ("html", html(plan, None)),
        ("mermaid", mermaid(plan)),
        ("dot", dot(plan)),
    ]
}

/// Markdown without its spans and blocks of code: what a renderer gives a meaning to.
fn outside_code(markdown: &str) -> String {
    let mut outside = String::new();
    let mut fence: Option<String> = None;
    for line in markdown.lines() {
        let ticks: String = line.chars().take_while(|c| *c == '`').collect();
        match &fence {
            Some(open) if line == open => fence = None,
            Some(_) => {}
            None if ticks.len() >= 3 => fence = Some(ticks),
            None if line.starts_with("<summary><code>") => {
                // Inside a tag: text, where no sign is written as itself.
                let inside = line["<summary><code>".len()..].split_once("</code>").unwrap().0;
                assert!(!inside.contains(|c: char| "<>@:|`*_[]$".contains(c)), "{line}");
            }
            None => {
                // Spans of ours have one tick at each end and none inside.
                outside.extend(line.split('`').step_by(2));
                outside.push('\n');
            }
        }
    }
    assert!(fence.is_none(), "a fence is left open:\n{markdown}");
    outside
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_hidden_is_left_in_any_rendering(plan in any_plan()) {
        for (name, shown) in all_renderings(&plan) {
            prop_assert!(shown.chars().all(|c| c == '\n' || !is_hidden(c)), "{}: {}", name, shown);
        }
    }

    #[test]
    fn settings_without_a_net_stand_out_in_every_rendering(plan in any_plan()) {
        let reckless = plan.spec.drift == DriftPolicy::Ignore;
        for (name, shown) in all_renderings(&plan) {
            // Without line breaks and signs, which each language writes in its own way.
            let words = shown.replace("#58;", ":").replace('`', "");
            let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words.contains("drift: ignore. Whatever is in the target"), reckless, "{}", name);
            prop_assert_eq!(words.contains("No pre-backup. The displaced directory"), reckless, "{}", name);
        }
    }

    #[test]
    fn markdown_keeps_its_form(plan in any_plan()) {
        let shown = markdown(&plan, None);
        prop_assert!(shown.len() <= MAX_BYTES);
        let outside = outside_code(&shown);
        for never in ["<script", "<img", "<svg", "@", "://", "www.", "](", "*a*", "__", "~~", "$", "#1"] {
            prop_assert!(!outside.contains(never), "{}: {}", never, outside);
        }
        for tag in ["details", "code"] {
            let count = |what: String| outside.matches(what.as_str()).count();
            prop_assert_eq!(count(format!("<{tag}>")), count(format!("</{tag}>")));
        }
        let headings = outside.lines().filter(|line| line.starts_with('#')).count();
        prop_assert!(headings <= 7, "{}", outside);
        let mut columns = None;
        for line in shown.lines() {
            let bars = line.matches('|').count();
            columns = match (line.starts_with('|'), columns) {
                (false, _) => None,
                (true, None) => Some(bars),
                (true, Some(expected)) => {
                    prop_assert_eq!(bars, expected, "{}", line);
                    Some(expected)
                }
            };
        }
    }

    #[test]
    fn html_has_no_tag_but_ours(plan in any_plan()) {
        let shown = html(&plan, None);
        let plain = [sample(), sample_with_service()].map(|plan| html(&plan, None)).concat();
        let known: std::collections::BTreeSet<&str> = tags(&plain).chain(["bdi", "br"]).collect();
        for tag in tags(&shown) {
            prop_assert!(known.contains(tag), "<{}>", tag);
        }
        prop_assert!(!known.contains("script") && !known.contains("img") && !known.contains("a"));
    }
}

#[test]
fn what_is_too_long_is_cut_and_the_end_is_there() {
    let mut plan = sample();
    let one = plan.preview.budgets[0].clone();
    for number in 0..5000 {
        let mut budget = one.clone();
        budget.name = Some(format!("Budget {number} {}", "`|\u{202e}".repeat(100)));
        plan.preview.budgets.push(budget);
    }
    let long = "`".repeat(1000);
    for _ in 0..200 {
        let warning = json!({ "code": "x", "message": long });
        plan.preview.warnings.push(serde_json::from_value(warning).unwrap());
        let check = json!({ "id": "x", "verdict": "will-not", "why": long });
        plan.preview.checks.push(serde_json::from_value(check).unwrap());
        let diff = json!({ "path": long, "restored": true, "diff": "+`|\n".repeat(5000) });
        plan.preview.diffs.push(serde_json::from_value(diff).unwrap());
    }
    plan.metadata.reason = Some(long.clone());
    plan.metadata.created_by.name = "|".repeat(200);
    plan.preview.files.removed.examples = vec!["`".repeat(4096); 10];
    let shown = markdown(&plan, None);
    assert!(shown.len() <= MAX_BYTES, "{}", shown.len());
    assert!(shown.contains("more budgets; the plan has them.") && shown.contains("digest `sha256:"));
    assert!(shown.find("Holiday") < shown.find("Household"), "what is gone comes first");
}

/// Names of the elements of a page.
fn tags(page: &str) -> impl Iterator<Item = &str> {
    page.split('<')
        .skip(1)
        .map(|part| part.split([' ', '>', '/']).find(|name| !name.is_empty()).unwrap_or_default())
}

/// The colours of one block of the page's style, by name, as linear red, green and blue.
fn colours(block: &str) -> std::collections::BTreeMap<&str, [f64; 3]> {
    let channel = |digits: &str| {
        let value = f64::from(u8::from_str_radix(digits, 16).unwrap()) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    let colour = |hex: &str| {
        let long: String =
            if hex.len() == 3 { hex.chars().flat_map(|c| [c, c]).collect() } else { hex.into() };
        [0, 2, 4].map(|at| channel(&long[at..at + 2]))
    };
    let declared = block.split("--").skip(1).filter_map(|part| part.split_once(": #"));
    declared.map(|(name, rest)| (name, colour(rest.split(';').next().unwrap()))).collect()
}

/// WCAG 2.2, 1.4.3: at least 4.5 to 1, in the light, in the dark and on paper.
#[test]
fn every_text_of_the_page_has_contrast() {
    let page = html(&sample(), None);
    let blocks: Vec<_> =
        page.split(":root {").skip(1).map(|rest| colours(rest.split('}').next().unwrap())).collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        let luminance = |name: &str| {
            let [red, green, blue] = block[name];
            0.2126_f64.mul_add(red, 0.7152_f64.mul_add(green, 0.0722 * blue))
        };
        for (text, backs) in [
            ("ink", &["paper", "card", "plainback", "careback", "dangerback"][..]),
            ("dim", &["paper", "card", "plainback", "careback"]),
            ("good", &["paper", "card"]),
            ("care", &["paper", "careback"]),
            ("danger", &["paper", "card", "dangerback"]),
        ] {
            for back in backs {
                let (one, other) = (luminance(text), luminance(back));
                let contrast = (one.max(other) + 0.05) / (one.min(other) + 0.05);
                assert!(contrast >= 4.5, "{text} on {back}: {contrast:.2}");
            }
        }
    }
}

/// The plan that the programs below draw: everything hostile at once.
fn hostile() -> Plan {
    let mut plan = sample_with_service();
    let evil = TRICKS.join(" ");
    plan.spec.drift = DriftPolicy::Ignore;
    plan.spec.pre_backup.mode = PreBackupMode::Online;
    plan.metadata.reason = Some(evil.clone());
    plan.preview.budgets[0].name = Some("<img id=pwned src=x onerror=pwned()>\u{202e}".into());
    plan.preview.diffs[0].path = "</style><script id=pwned>pwned()</script>".into();
    plan.preview.diffs[0].diff = TRICKS.join("\n+");
    plan.observed.instance.data_directory = "\"]; s0 [URL=\"javascript:pwned()\"]; &lt; \\".into();
    let mut plan = with_steps(plan);
    plan.preview.checks[0].why.clone_from(&evil);
    plan
}

/// A program of one of these names, else a word on standard error that the test did not run.
fn program(test: &str, names: &[&str]) -> Option<String> {
    let there = |name: &&&str| {
        let found = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null 2>&1", **name]).status();
        found.is_ok_and(|status| status.success())
    };
    let found = names.iter().find(there).map(|name| (*name).to_owned());
    if found.is_none() {
        let mut terminal = std::fs::OpenOptions::new().append(true).open("/proc/self/fd/2").unwrap();
        writeln!(terminal, "SKIPPED {test}: none of {names:?} is there").unwrap();
    }
    found
}

#[test]
fn graphviz_draws_the_steps() {
    let Some(program) = program("graphviz_draws_the_steps", &["dot"]) else { return };
    for plan in [sample(), sample_with_service(), hostile()] {
        let mut child = Command::new(&program)
            .arg("-Tsvg")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(dot(&plan).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{errors}\n{}", dot(&plan));
        let drawn = String::from_utf8(output.stdout).unwrap();
        let notes = usize::from(plan.spec.drift == DriftPolicy::Ignore);
        assert_eq!(drawn.matches("class=\"node\"").count(), plan.steps.len() + notes);
        assert!(!drawn.contains("xlink:href=\"javascript"), "{drawn}");
    }
}

/// Chromium without a window, in a profile of its own.
fn browser(program: &str, page: &Path, arguments: &[&str]) -> (String, String) {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--hide-scrollbars", "--enable-logging=stderr", "--v=0"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    (out.into_owned(), err.into_owned())
}

fn console(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("CONSOLE")).collect()
}

#[test]
fn a_browser_shows_the_page() {
    let Some(program) =
        program("a_browser_shows_the_page", &["chromium", "chromium-browser", "google-chrome"])
    else {
        return;
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("renderings");
    std::fs::create_dir_all(&folder).unwrap();
    let now = Some("2026-11-24T09:00:00Z".parse().unwrap());
    for (name, plan) in [("plan", sample()), ("service", sample_with_service()), ("hostile", hostile())] {
        let page = folder.join(format!("{name}.html"));
        std::fs::write(&page, html(&plan, now)).unwrap();
        std::fs::write(page.with_extension("md"), markdown(&plan, now)).unwrap();
        let (dom, log) = browser(&program, &page, &["--dump-dom"]);
        assert_eq!(console(&log), Vec::<&str>::new(), "{name}");
        assert_eq!(dom.matches("<section").count(), html(&plan, now).matches("<section").count());
        assert!(!tags(&dom).any(|tag| ["script", "img", "a"].contains(&tag)), "{dom}");
        for (size, height) in [("wide", "1200,2600"), ("narrow", "390,4200")] {
            let picture: PathBuf = folder.join(format!("{name}-{size}.png"));
            let picture_argument = format!("--screenshot={}", picture.display());
            let (_, log) = browser(&program, &page, &[&picture_argument, &format!("--window-size={height}")]);
            assert_eq!(console(&log), Vec::<&str>::new(), "{name} {size}");
            assert!(std::fs::metadata(&picture).unwrap().len() > 20_000, "{name} {size} is blank");
        }
    }
    // What would be seen, were there anything: the policy speaks up, and the script does not run.
    let page = folder.join("broken.html");
    let script = "<script>document.title = 'pwned'</script><p style='color: red'>x</p></main>";
    std::fs::write(&page, html(&sample(), now).replace("</main>", script)).unwrap();
    let (dom, log) = browser(&program, &page, &["--dump-dom"]);
    assert!(console(&log).len() >= 2, "{log}");
    assert!(!dom.contains("<title>pwned"), "{dom}");
}
