//! The benchmark program: parses its arguments, runs what they ask for, and prints a table or one JSON
//! object.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use sark_bench::allocation::Counting;
use sark_bench::cli::Arguments;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let printed = arguments.run().and_then(|text| {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sark-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Tells a closed pipe, which is no failure (`sark-bench | head`), from other errors.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
