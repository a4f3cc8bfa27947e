//! Parses, dispatches, exits: everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    abssctl::cli::main()
}
