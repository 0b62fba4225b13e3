//! CSV traces, whose first line names the columns.

use std::io::Read;

use anyhow::{Context, Result, bail};

use super::{Collector, Fields, TimeUnit, Trace};

/// Column names in addition to the usual ones: `--columns key=url,size=length`.
#[derive(Clone, Debug, Default)]
pub struct Columns(Vec<(Field, String)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Timestamp,
    Key,
    Size,
    Ttl,
    Operation,
}

/// The names that published traces use for these fields.
const USUAL: [(Field, &[&str]); 5] = [
    (Field::Timestamp, &["timestamp", "time", "ts", "clock_time"]),
    (Field::Key, &["key", "obj_id", "object_id", "object", "id", "block", "lbn", "url"]),
    (Field::Size, &["size", "obj_size", "object_size", "bytes", "value_size"]),
    (Field::Ttl, &["ttl", "time_to_live", "expiry"]),
    (Field::Operation, &["op", "operation", "method", "command"]),
];

impl std::str::FromStr for Columns {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let pairs = text.split(',').map(|pair| {
            let (field, column) = pair.split_once('=').context("expected field=column, like key=url,size=length")?;
            let field = match field {
                "timestamp" => Field::Timestamp,
                "key" => Field::Key,
                "size" => Field::Size,
                "ttl" => Field::Ttl,
                "op" => Field::Operation,
                _ => bail!("{field:?} is not one of timestamp, key, size, ttl, op"),
            };
            Ok((field, column.to_owned()))
        });
        pairs.collect::<Result<_>>().map(Self)
    }
}

impl Columns {
    /// Returns the position of the field's column in this header.
    fn position(&self, field: Field, header: &csv::StringRecord) -> Result<Option<usize>> {
        let place = |wanted: &str| header.iter().position(|name| name.trim().eq_ignore_ascii_case(wanted));
        if let Some((_, column)) = self.0.iter().find(|(named, _)| *named == field) {
            return Ok(Some(place(column).with_context(|| format!("there is no column {column:?}"))?));
        }
        let usual = USUAL.iter().filter(|(named, _)| *named == field).flat_map(|(_, names)| *names);
        Ok(usual.copied().find_map(place))
    }
}

/// Reads a whole CSV file.
pub(super) fn read(text: impl Read, columns: &Columns, unit: TimeUnit) -> Result<Trace> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(text);
    let header = reader.headers()?.clone();
    let place = |field| columns.position(field, &header);
    let (timestamp, size) = (place(Field::Timestamp)?, place(Field::Size)?);
    let (ttl, operation) = (place(Field::Ttl)?, place(Field::Operation)?);
    let Some(key) = place(Field::Key)? else {
        bail!("none of its columns ({}) is known as the key; say which with --columns key=NAME", join(&header));
    };
    let mut collector = Collector::new(unit);
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record)? {
        let field = |place: Option<usize>| place.and_then(|place| record.get(place));
        collector
            .push(&Fields {
                timestamp: field(timestamp),
                key: field(Some(key)).unwrap_or_default(),
                size: field(size),
                ttl: field(ttl),
                operation: field(operation),
            })
            .with_context(|| format!("in line {}", record.position().map_or(0, csv::Position::line)))?;
    }
    Ok(collector.finish())
}

fn join(header: &csv::StringRecord) -> String {
    header.iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::{Operation, Reading};
    use std::path::Path;

    fn read(reading: &Reading, text: &str) -> anyhow::Result<super::Trace> {
        reading.read(text.as_bytes(), Path::new("t.csv"))
    }

    #[test]
    fn usual_column_names_are_known_in_any_order() {
        let trace = read(&Reading::default(), "op, obj_size, Time, obj_id\nread, 4096, 5, abc\nwrite, -, 6, abc\n");
        let trace = trace.unwrap();
        assert_eq!(trace.names, ["abc"]);
        assert_eq!((trace.requests[0].size, trace.requests[1].size), (4096, 1));
        assert_eq!(trace.requests[1].at, 1_000_000_000);
        assert_eq!(trace.requests[1].operation, Operation::Set);
    }

    #[test]
    fn other_column_names_can_be_given() {
        let reading = Reading { columns: "key=page,ttl=keep".parse().unwrap(), ..Reading::default() };
        let trace = read(&reading, "page,keep\n9,1.5\n").unwrap();
        assert_eq!((trace.requests[0].key, trace.requests[0].ttl), (9, Some(1_500_000_000)));
    }

    #[test]
    fn a_file_without_a_key_column_says_what_to_do() {
        let error = read(&Reading::default(), "a,b\n1,2\n").unwrap_err().to_string();
        assert!(error.contains("--columns key=NAME"), "{error}");
    }
}
