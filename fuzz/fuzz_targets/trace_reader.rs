//! Any bytes, read as a trace in each format, must give requests or an error, and never a panic.
#![no_main]

#[allow(dead_code, reason = "the benchmark program uses all of it")]
#[path = "../../benches/src/trace/mod.rs"]
mod trace;

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use trace::{Format, Reading, TimeUnit};

const FORMATS: [Option<Format>; 5] =
    [None, Some(Format::Plain), Some(Format::Lis), Some(Format::Keys), Some(Format::Csv)];
const UNITS: [TimeUnit; 4] = [TimeUnit::S, TimeUnit::Ms, TimeUnit::Us, TimeUnit::Ns];

/// Returns whether a line, read as format `Lis`, requests many blocks. Each block is a request in memory,
/// which is by design and no concern of this test.
fn asks_for_much(text: &str) -> bool {
    let blocks = |line: &str| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok();
    text.lines().filter_map(blocks).any(|blocks| blocks > 1000)
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for format in FORMATS {
        if format == Some(Format::Lis) && asks_for_much(&text) {
            continue;
        }
        let reading = Reading {
            format,
            // The first line may also name the columns.
            columns: text.lines().next().and_then(|line| line.parse().ok()).unwrap_or_default(),
            unit: UNITS[bytes.len() % UNITS.len()],
        };
        let Ok(trace) = reading.read(bytes, Path::new("fuzz")) else { continue };
        assert!(!trace.requests.is_empty(), "an empty trace is an error");
        assert!(trace.requests.is_sorted_by_key(|request| request.at), "time ran backwards");
        if trace.has_text_keys() {
            let names = trace.names.len() as u64;
            assert!(trace.requests.iter().all(|request| request.key < names), "a key has no name");
        }
        assert_eq!(trace.footprint().0, trace.distinct_keys());
    }
});
