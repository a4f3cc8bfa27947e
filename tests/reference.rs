//! `docs/reference.md` is made from the command line itself: this test makes the page anew and compares.
//! With `UPDATE_REFERENCE=1` it writes the page instead; it changes nothing else.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on ends here")]

use std::fmt::Write as _;
use std::path::Path;

use abssctl::cli::args::Cli;
use clap::{Arg, ArgAction, Command, CommandFactory as _};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md");

const INTRODUCTION: &str = "# Command reference

<!-- Made from the command line. After a change: UPDATE_REFERENCE=1 cargo test --test reference -->

The same text is in `abssctl COMMAND --help`; `abssctl man` prints the manual page, `abssctl completion SHELL` a completion script.
What a command finds out goes to standard output; progress, questions, warnings and errors go to standard error.
Exit codes: [apply.md](apply.md#exit-codes). Configuration: `abssctl config show`.
";

#[test]
fn the_reference_is_what_the_command_line_says() {
    let made = page();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(PAGE, &made).unwrap();
        return;
    }
    let page = std::fs::read_to_string(Path::new(PAGE)).unwrap_or_default();
    let difference = page.lines().zip(made.lines()).position(|(there, made)| there != made);
    assert!(
        page == made,
        "docs/reference.md is not what the command line says (first difference: line {}); make it anew: \
         UPDATE_REFERENCE=1 cargo test --test reference",
        difference.unwrap_or_else(|| page.lines().count().min(made.lines().count())) + 1
    );
}

/// A page that leaves a command or an option out would agree with a generator that does so too.
#[test]
fn the_reference_has_every_command_and_option() {
    let page = page();
    let mut root = Cli::command();
    root.build();
    each(&root, &mut |command, path| {
        assert!(
            !command.get_subcommands().any(|below| below.get_name() != "help" && below.get_about().is_none()),
            "a command below '{path}' has no help"
        );
        for option in command.get_arguments().filter_map(Arg::get_long) {
            let named = page.contains(&format!("`--{option}`")) || page.contains(&format!("`--{option} "));
            assert!(named || option == "help" || option == "version", "--{option} of '{path}' is missing");
        }
        let named = command.has_subcommands() || page.contains(&format!("`{path}`"));
        assert!(named, "'{path}' is missing");
    });
}

fn page() -> String {
    let mut root = Cli::command();
    root.build();
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## All commands\n\n| command | |\n| --- | --- |\n");
    each(&root, &mut |command, path| {
        if !command.has_subcommands() {
            let link = path.replace(' ', "-");
            writeln!(text, "| [`{path}`](#{link}) | {} |", about(command)).unwrap();
        }
    });
    text.push_str("\n## Options of every command\n\n");
    for argument in root.get_arguments().filter(|argument| is_listed(argument)) {
        text.push_str(&entry(argument));
    }
    text.push_str(
        "- `-h`, `--help`: Print help; `--help` says more than `-h`.\n- `--version`: Print the version.\n",
    );
    each(&root, &mut |command, path| {
        if !command.has_subcommands() {
            text.push_str(&section(command, path));
        }
    });
    text
}

/// Visits a command and those below it, in the order of the help.
fn each(command: &Command, visit: &mut dyn FnMut(&Command, &str)) {
    fn go(command: &Command, path: &str, visit: &mut dyn FnMut(&Command, &str)) {
        visit(command, path);
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            go(below, &format!("{path} {}", below.get_name()), visit);
        }
    }
    go(command, command.get_name(), visit);
}

fn section(command: &Command, path: &str) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text = format!("\n## {path}\n\n{}.\n\n```text\n{usage}\n```\n", about(command));
    let own = |argument: &&Arg| is_listed(argument) && !argument.is_global_set();
    let (mut arguments, options): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().filter(own).partition(|argument| argument.is_positional());
    arguments.extend(options);
    if !arguments.is_empty() {
        text.push('\n');
        for argument in arguments {
            text.push_str(&entry(argument));
        }
    }
    text
}

fn is_listed(argument: &Arg) -> bool {
    !argument.is_hide_set() && argument.get_id() != "help" && argument.get_id() != "version"
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// One line on an argument: how it is typed, what it means, values, default, environment.
fn entry(argument: &Arg) -> String {
    let value = argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let value = value.filter(|_| takes_value);
    let mut typed = Vec::new();
    if let Some(short) = argument.get_short() {
        typed.push(format!("`-{short}`"));
    }
    match (argument.get_long(), &value) {
        (Some(long), Some(value)) => typed.push(format!("`--{long} {value}`")),
        (Some(long), None) => typed.push(format!("`--{long}`")),
        (None, Some(value)) => typed.push(format!("`{value}`")),
        (None, None) => {}
    }
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("- {}: {}.", typed.join(", "), help.trim_end_matches('.'));
    // A switch has `true` and `false`, which nobody types.
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|_| takes_value)
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({help})", value.get_name()),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if !values.is_empty() {
        write!(text, " Values: {}.", values.join(", ")).unwrap();
    }
    let defaults: Vec<String> =
        argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    if takes_value && !defaults.is_empty() {
        write!(text, " Default: {}.", defaults.join(", ")).unwrap();
    }
    if let Some(variable) = argument.get_env() {
        write!(text, " Environment: `{}`.", variable.to_string_lossy()).unwrap();
    }
    text + "\n"
}
