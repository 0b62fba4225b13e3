//! Recorded request streams: their contents, and how they are read from files.
//!
//! `replay` and the main job's `--trace` use this. A trace is read completely, once, before any clock starts.
//! The formats below turn text into [`Request`]s, and nothing here knows about caches.

mod columns;
mod compression;
mod format;
mod lines;
mod number;

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

pub use columns::Columns;
pub use format::Format;
pub use number::TimeUnit;

/// What a request asks of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Looks up the key, and stores it if it is missing.
    Get,
    /// Stores the key, whether or not it is there.
    Set,
    /// Removes the key.
    Delete,
}

/// One line of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Nanoseconds since the trace's first recorded timestamp; never less than the previous request's.
    pub at: u64,
    /// The key itself if the trace's keys are numbers; otherwise its index in [`Trace::names`].
    pub key: u64,
    /// The recorded time-to-live in nanoseconds; `None` where the trace has `-`.
    pub ttl: Option<u64>,
    /// The recorded size in bytes; 1 where the trace has `-`.
    pub size: u32,
    /// The operation.
    pub operation: Operation,
}

impl Request {
    /// Returns the recorded time-to-live, unless it is zero or none was recorded.
    pub fn lifetime(&self) -> Option<Duration> {
        self.ttl.filter(|&ttl| ttl > 0).map(Duration::from_nanos)
    }
}

/// A whole trace in memory.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The file's name without folders and extensions, for rows and headings.
    pub name: String,
    /// The requests in order.
    pub requests: Vec<Request>,
    /// The text of each key, by [`Request::key`]; empty if the keys are numbers.
    pub names: Vec<String>,
}

impl Trace {
    /// Returns true if keys are text, found in [`names`](Self::names).
    pub fn has_text_keys(&self) -> bool {
        !self.names.is_empty()
    }

    /// Returns true if at least one request recorded a time-to-live.
    pub fn has_ttls(&self) -> bool {
        self.requests.iter().any(|request| request.ttl.is_some())
    }

    /// Returns the number of distinct keys and the bytes they take together, by the last recorded size of
    /// each.
    pub fn footprint(&self) -> (u64, u64) {
        let sizes: HashMap<u64, u32, ahash::RandomState> =
            self.requests.iter().map(|request| (request.key, request.size)).collect();
        (sizes.len() as u64, sizes.values().map(|&size| u64::from(size)).sum())
    }

    /// Returns the number of distinct keys.
    pub fn distinct_keys(&self) -> u64 {
        let keys: HashSet<u64, ahash::RandomState> = self.requests.iter().map(|request| request.key).collect();
        keys.len() as u64
    }
}

/// How to read a file that does not say everything itself.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The format, if it is not to be guessed from the file's name and first line.
    pub format: Option<Format>,
    /// The names of a CSV file's columns, in addition to the usual ones.
    pub columns: Columns,
    /// The unit of timestamps and times-to-live.
    pub unit: TimeUnit,
}

impl Reading {
    /// Reads a trace file, compressed (zstd, gzip, xz) or not.
    ///
    /// # Errors
    /// Says the file and line, and what was expected there.
    pub fn open(&self, path: &Path) -> Result<Trace> {
        anyhow::ensure!(!path.is_dir(), "the trace {} is a folder: name a file in it", path.display());
        let file = std::fs::File::open(path).with_context(|| format!("cannot open the trace {}", path.display()))?;
        let mut trace = self
            .read(compression::decompress(file)?, path)
            .with_context(|| format!("cannot read the trace {}", path.display()))?;
        trace.name = bare_name(path);
        Ok(trace)
    }

    /// Reads a trace from uncompressed text; `path` only helps to guess the format.
    ///
    /// # Errors
    /// Says the line, and what was expected there.
    pub fn read(&self, text: impl Read, path: &Path) -> Result<Trace> {
        let mut text = BufReader::with_capacity(1 << 20, text);
        let format = match self.format {
            Some(format) => format,
            None => Format::guess(path, text.fill_buf()?)?,
        };
        let trace = match format {
            Format::Csv => columns::read(text, &self.columns, self.unit)?,
            Format::Plain | Format::Lis | Format::Keys => lines::read(text, format, self.unit)?,
        };
        anyhow::ensure!(!trace.requests.is_empty(), "there are no requests in it");
        Ok(trace)
    }
}

/// Returns the name without folders and extensions: `folder/arc_oltp.txt.zst` is called `arc_oltp`.
fn bare_name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().unwrap_or_default().replace(char::is_whitespace, "_")
}

/// Collects requests while a file is read. It numbers the keys and keeps time from running backwards.
struct Collector {
    unit: TimeUnit,
    trace: Trace,
    first_timestamp: Option<u128>,
    now: u64,
    indices: HashMap<String, u64, ahash::RandomState>,
}

/// The fields of one request as text, `None` or `-` where the file does not have them.
#[derive(Default)]
struct Fields<'a> {
    timestamp: Option<&'a str>,
    key: &'a str,
    size: Option<&'a str>,
    ttl: Option<&'a str>,
    operation: Option<&'a str>,
}

impl Collector {
    fn new(unit: TimeUnit) -> Self {
        Self { unit, trace: Trace::default(), first_timestamp: None, now: 0, indices: HashMap::default() }
    }

    fn push(&mut self, fields: &Fields<'_>) -> Result<()> {
        if let Some(timestamp) = recorded(fields.timestamp) {
            let timestamp = self.unit.nanoseconds(timestamp).context("the timestamp")?;
            let first = *self.first_timestamp.get_or_insert(timestamp);
            self.now = self.now.max(number::saturate(timestamp.saturating_sub(first)));
        }
        let ttl = match recorded(fields.ttl) {
            Some(ttl) => Some(number::saturate(self.unit.nanoseconds(ttl).context("the time-to-live")?)),
            None => None,
        };
        let size = match recorded(fields.size) {
            Some(size) => {
                size.parse::<u64>().with_context(|| format!("the size, {size:?}, is not a number of bytes"))?
            }
            None => 1,
        };
        let operation = operation(fields.operation)?;
        let key = self.key(fields.key);
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.trace.requests.push(Request { at: self.now, key, ttl, size, operation });
        Ok(())
    }

    /// Returns the number that stands for a key. Numbers stand for themselves until the first key that is not
    /// one; it turns all keys into text.
    fn key(&mut self, key: &str) -> u64 {
        if self.indices.is_empty() {
            if let Some(number) = number::integer_key(key) {
                return number;
            }
            self.make_text_of_numbers();
        }
        self.intern(key)
    }

    fn intern(&mut self, key: &str) -> u64 {
        if let Some(&index) = self.indices.get(key) {
            return index;
        }
        let index = self.trace.names.len() as u64;
        self.indices.insert(key.to_owned(), index);
        self.trace.names.push(key.to_owned());
        index
    }

    fn make_text_of_numbers(&mut self) {
        let mut requests = std::mem::take(&mut self.trace.requests);
        for request in &mut requests {
            request.key = self.intern(&number::integer_text(request.key));
        }
        self.trace.requests = requests;
    }

    fn finish(self) -> Trace {
        self.trace
    }
}

/// Returns the field's text, unless it is empty or says that nothing was recorded.
fn recorded(field: Option<&str>) -> Option<&str> {
    field.map(str::trim).filter(|text| !text.is_empty() && *text != "-")
}

fn operation(field: Option<&str>) -> Result<Operation> {
    let Some(word) = recorded(field) else { return Ok(Operation::Get) };
    Ok(match word.to_ascii_lowercase().as_str() {
        "get" | "gets" | "read" | "r" | "lookup" => Operation::Get,
        "set" | "put" | "add" | "replace" | "cas" | "write" | "w" | "insert" => Operation::Set,
        "delete" | "del" | "remove" | "invalidate" => Operation::Delete,
        _ => anyhow::bail!("the operation {word:?} is not one of get, set, delete"),
    })
}
