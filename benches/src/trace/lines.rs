//! The formats with blank-separated fields and one request, or one run of requests, per line.

use std::io::BufRead;

use anyhow::{Context, Result, ensure};

use super::{Collector, Fields, Format, TimeUnit, Trace};

/// Reads every line except empty ones and those that begin with `#`.
pub(super) fn read(mut text: impl BufRead, format: Format, unit: TimeUnit) -> Result<Trace> {
    let mut collector = Collector::new(unit);
    let mut line = String::new();
    for number in 1_u64.. {
        line.clear();
        if text.read_line(&mut line)? == 0 {
            break;
        }
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match format {
            Format::Keys => collector.push(&Fields { key: line, ..Fields::default() }),
            Format::Lis => push_run_of_blocks(&mut collector, line),
            Format::Plain | Format::Csv => push_plain(&mut collector, line),
        }
        .with_context(|| format!("in line {number}"))?;
    }
    Ok(collector.finish())
}

/// Adds a line of the form `timestamp key size ttl op`.
fn push_plain(collector: &mut Collector, line: &str) -> Result<()> {
    let mut fields = line.split_ascii_whitespace();
    let timestamp = fields.next();
    let key = fields.next();
    let (size, ttl, operation) = (fields.next(), fields.next(), fields.next());
    ensure!(operation.is_some() && fields.next().is_none(), "expected five fields: timestamp key size ttl op");
    collector.push(&Fields { timestamp, key: key.unwrap_or_default(), size, ttl, operation })
}

/// The limit on blocks in one request, which is gigabytes even with the smallest blocks in use. A larger
/// number can't be meant as one, and would take all memory.
const MOST_BLOCKS: u64 = 10_000_000;

/// Adds the requests of a line of the form `first_block blocks ignored request`.
fn push_run_of_blocks(collector: &mut Collector, line: &str) -> Result<()> {
    let mut fields = line.split_ascii_whitespace();
    let mut number = |name: &str| -> Result<u64> {
        let field = fields.next().with_context(|| format!("{name} is missing"))?;
        field.parse().with_context(|| format!("{name}, {field:?}, is not a number"))
    };
    let (first, blocks) = (number("the first block")?, number("the number of blocks")?);
    ensure!(
        blocks <= MOST_BLOCKS,
        "the number of blocks, {blocks}, is above {MOST_BLOCKS}: nobody asks for that at once"
    );
    for block in first..first.saturating_add(blocks) {
        collector.push(&Fields { key: &block.to_string(), ..Fields::default() })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Operation, Reading, Request};
    use std::path::Path;

    fn requests(name: &str, text: &str) -> Vec<Request> {
        Reading::default().read(text.as_bytes(), Path::new(name)).unwrap().requests
    }

    #[test]
    fn a_plain_line_gives_all_its_fields() {
        let read = requests("t", "10.5 42 512 60 get\n12 43 - - set\n11 -1 0 0 delete\n");
        let second = 1_000_000_000;
        assert_eq!(read[0], Request { at: 0, key: 42, ttl: Some(60 * second), size: 512, operation: Operation::Get });
        assert_eq!(read[1], Request { at: 1_500_000_000, key: 43, ttl: None, size: 1, operation: Operation::Set });
        assert_eq!(read[2].at, 1_500_000_000, "time never runs backwards");
        assert_eq!((read[2].key, read[2].lifetime()), (u64::MAX, None));
    }

    #[test]
    fn a_lis_line_asks_for_a_run_of_blocks() {
        let keys: Vec<u64> = requests("P1.lis", "100 3 0 0\n7 1 0 1\n").iter().map(|r| r.key).collect();
        assert_eq!(keys, [100, 101, 102, 7]);
    }

    #[test]
    fn keys_turn_to_text_at_the_first_one_that_is_not_a_number() {
        let trace = Reading::default().read("5\n6\nfive\n5\n".as_bytes(), Path::new("k")).unwrap();
        assert_eq!(trace.names, ["5", "6", "five"]);
        assert_eq!(trace.requests.iter().map(|r| r.key).collect::<Vec<_>>(), [0, 1, 2, 0]);
    }

    #[test]
    fn a_run_of_blocks_that_fills_all_memory_is_an_error_with_its_line() {
        let text = "1 2 0 0\n5 18446744073709551615 0 1\n";
        let error = Reading::default().read(text.as_bytes(), Path::new("P1.lis")).unwrap_err();
        assert!(
            format!("{error:#}").starts_with("in line 2: the number of blocks, 18446744073709551615, is"),
            "{error:#}"
        );
    }

    #[test]
    fn an_error_says_the_line() {
        let error = Reading::default().read("- 1 - - get\n- 1 - get\n".as_bytes(), Path::new("t")).unwrap_err();
        assert_eq!(format!("{error:#}"), "in line 2: expected five fields: timestamp key size ttl op");
    }
}
