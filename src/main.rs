//! The `depeche` command: see [`depeche::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    depeche::cli::main()
}
