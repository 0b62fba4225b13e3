//! The command line: its options, and the scenario that each command runs.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::json;

use crate::amount::Share;
use crate::case::Wanted;
use crate::contestants::{Name, Reclaim};
use crate::page;
use crate::page_place::PagePlace;
use crate::scenarios::{
    self, Settings, all, churn, expiry, gateway, get, get_many, hot, idle, latency, memory, mixed, percore, replay,
    scale,
};
use crate::summary;
use crate::table;
use crate::trace::{Columns, Format, Reading, TimeUnit};

/// Measures sark-cache alongside the caches its users would otherwise pick.
///
/// Without a scenario, it runs an authorization gateway's cache: the same seeded load through every
/// contestant.
#[derive(Debug, Parser)]
#[command(name = "sark-bench", version, args_conflicts_with_subcommands = false)]
pub struct Arguments {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    job: Job,
}

/// Parses a number within a range. The error always names the range, whatever was wrong.
fn whole_number(text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    let (least, most) = (range.start(), range.end());
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("expected a whole number from {least} to {most}"))
}

#[derive(Args, Debug)]
struct Common {
    /// Print one JSON object on standard output, and nothing else
    #[arg(long, global = true)]
    json: bool,
    /// Do shorter runs and fewer rounds of the same measurements
    #[arg(long, global = true)]
    quick: bool,
    /// How many times each contestant runs, in turn with the others [default: 7, with --quick 3 where that takes seconds]
    #[arg(long, global = true, value_name = "N", value_parser = |text: &str| whole_number(text, 1..=1000))]
    rounds: Option<u32>,
    /// Run only these contestants, and always sark-cache, since the others are compared with it
    #[arg(long, global = true, value_name = "A,B", value_delimiter = ',')]
    contestants: Option<Vec<Name>>,
    /// Run only cases with these words, like `keys=1M,threads=1|2`; may be given more than once
    #[arg(long = "case", global = true, value_name = "WORDS")]
    cases: Vec<Wanted>,
}

#[derive(Args, Debug)]
struct Job {
    /// Use a recorded trace instead of the built-in workload
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// How many entries each cache may hold: 20k, or a share of the distinct keys like 10%
    #[arg(long, value_name = "N")]
    capacity: Option<Share>,
    /// How many threads send requests [default: one per core, at most 4]
    #[arg(long, value_name = "N", value_parser = |text: &str| whole_number(text, 1..=1024))]
    threads: Option<u32>,
    #[command(flatten)]
    reading: ReadingOptions,
}

#[derive(Args, Debug)]
struct ReadingOptions {
    /// The trace's format, if it can't be guessed from the file's name and first line
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The column names of a CSV trace: `key=url,size=length,ttl=...,timestamp=...,op=...`
    #[arg(long, value_name = "FIELD=NAME,...")]
    columns: Option<Columns>,
    /// The unit of the trace's timestamps and times-to-live [default: s]
    #[arg(long, value_enum)]
    time_unit: Option<TimeUnit>,
}

impl ReadingOptions {
    fn reading(&self) -> Reading {
        let columns = self.columns.clone().unwrap_or_default();
        Reading { format: self.format, columns, unit: self.time_unit.unwrap_or_default() }
    }

    /// Returns the name of one option that was given, if any was.
    fn given(&self) -> Option<&'static str> {
        let all = [
            (self.format.is_some(), "--format"),
            (self.columns.is_some(), "--columns"),
            (self.time_unit.is_some(), "--time-unit"),
        ];
        all.into_iter().find(|(given, _)| *given).map(|(_, option)| option)
    }
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Replay a recorded trace: hits, misses, expired and evicted entries, throughput
    Replay(Replay),
    /// Look-ups that all hit, one key at a time
    Get,
    /// Look-ups that all hit, in batches
    GetMany,
    /// Inserts that all evict
    Churn,
    /// Look-ups that insert what is missing
    Mixed,
    /// Updates (read, modify, write) of a single key by all threads
    Hot,
    /// Latencies of single look-ups and insertions under churn, up to the highest percentiles
    Latency,
    /// Many entries due at once: when they are gone if nothing calls the cache, and how long look-ups are
    /// held up meanwhile
    Expiry,
    /// Bytes per entry beyond its key and value
    Memory,
    /// The requests of `mixed` from an increasing number of threads
    Scale,
    /// The cost of asking a shard by message, for each way of asking
    Percore,
    /// Processor time used while nothing calls the cache
    Idle,
    /// All of them, as one HTML page
    Report(PageOptions),
}

#[derive(Args, Debug)]
struct PageOptions {
    /// Where to write the page
    #[arg(long, value_name = "FILE", default_value = "sark-bench.html")]
    output: PathBuf,
}

#[derive(Args, Debug)]
struct Replay {
    /// The trace: plain, .lis, .csv or one key per line; optionally compressed with zstd, gzip or xz
    file: PathBuf,
    /// How many entries (bytes, with --bytes) each cache may hold: 250, 10k, 128MiB, or a share of what the
    /// whole trace needs, like 1%
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "0.1%,1%,10%")]
    capacity: Vec<Share>,
    /// Capacities limit the bytes of the entries, not their number
    #[arg(long)]
    bytes: bool,
    /// How many parts a cache splits its policy into [default: what its users get]
    #[arg(long, value_name = "N", value_parser = |text: &str| whole_number(text, 1..=65536))]
    shards: Option<u32>,
    /// Whether entries expire [default: recorded if the trace has times-to-live, else off]
    #[arg(long, value_enum)]
    ttl: Option<replay::TimeToLive>,
    /// When sark-cache frees the space of expired entries
    #[arg(long, value_enum, default_value = "prompt")]
    reclaim: Reclaim,
    /// The eviction policy of sark-cache; the others have their own
    #[arg(long, value_enum, default_value = "lru")]
    policy: Policy,
    #[command(flatten)]
    reading: ReadingOptions,
}

/// The eviction policies of sark-cache.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Policy {
    /// Least recently used
    Lru,
}

impl Arguments {
    /// Runs what was asked for, and returns what belongs on standard output.
    ///
    /// # Errors
    /// Says what to do about it.
    pub fn run(&self) -> Result<String> {
        let settings = self.settings();
        self.nothing_is_ignored()?;
        let report = match &self.scenario {
            Some(Scenario::Report(wanted)) => return self.report(&settings, wanted),
            None => gateway::run(&settings, &self.job.job()?)?,
            Some(Scenario::Get) => scenarios::run(&get::Get, &settings)?,
            Some(Scenario::GetMany) => scenarios::run(&get_many::GetMany, &settings)?,
            Some(Scenario::Churn) => scenarios::run(&churn::Churn, &settings)?,
            Some(Scenario::Mixed) => scenarios::run(&mixed::Mixed, &settings)?,
            Some(Scenario::Latency) => scenarios::run(&latency::Latency, &settings)?,
            Some(Scenario::Expiry) => scenarios::run(&expiry::Expiry, &settings)?,
            Some(Scenario::Memory) => scenarios::run(&memory::Memory, &settings)?,
            Some(Scenario::Scale) => scenarios::run(&scale::Scale, &settings)?,
            Some(Scenario::Percore) => percore::run(&settings)?,
            Some(Scenario::Idle) => scenarios::run(&idle::Idle, &settings)?,
            Some(Scenario::Hot) => scenarios::run(&hot::Hot, &settings)?,
            Some(Scenario::Replay(replay)) => replay::run(&settings, &replay.question()?)?,
        };
        if self.common.json {
            return Ok(serde_json::to_string_pretty(&report)? + "\n");
        }
        Ok(table::render(&report))
    }

    /// Rejects options that have no meaning where they stand, which would otherwise silently have no effect.
    fn nothing_is_ignored(&self) -> Result<()> {
        let Some(scenario) = &self.scenario else {
            let reading = self.job.reading.given().filter(|_| self.job.trace.is_none());
            ensure!(reading.is_none(), "{} says how to read a trace: add --trace FILE", reading.unwrap_or_default());
            return Ok(());
        };
        if let Some(option) = self.job.given() {
            ensure!(
                matches!(scenario, Scenario::Replay(_)),
                "{option} belongs to the load without a scenario: leave it or the scenario out"
            );
            anyhow::bail!("{option} stands before the scenario: options of replay come behind it");
        }
        ensure!(
            !matches!(scenario, Scenario::Percore) || self.common.contestants.is_none(),
            "percore has no caches to choose among: leave --contestants out"
        );
        Ok(())
    }

    /// Writes the page. Returns its summary and its path, or all rows with `--json`.
    fn report(&self, settings: &Settings, PageOptions { output }: &PageOptions) -> Result<String> {
        ensure!(settings.wishes.is_empty(), "a report shows cases of its own choice: leave --case out");
        // Before anything is measured, since a failure at the end would waste minutes.
        let place = PagePlace::prepare(output)?;
        let reports = all::run(settings)?;
        place.write(&page::render(&reports)?)?;
        if self.common.json {
            return Ok(serde_json::to_string_pretty(&json!({"scenario": "report", "reports": reports}))? + "\n");
        }
        let lines: Vec<summary::Line> = reports.iter().flat_map(summary::of).collect();
        let sentences = reports.iter().flat_map(|report| {
            table::verdicts(report).into_iter().map(|sentence| format!("{}: {sentence}\n", report.scenario))
        });
        let sentences: String = sentences.collect();
        Ok(format!("{}\n{sentences}\n{}\n", summary::markdown(&lines), output.display()))
    }

    fn settings(&self) -> Settings {
        let Common { quick, rounds, ref contestants, ref cases, .. } = self.common;
        Settings {
            quick,
            rounds,
            contestants: match contestants {
                // In the usual order, each once. Our own row is always in, since ratios need it.
                Some(chosen) => {
                    Name::ALL.iter().copied().filter(|name| name.is_ours() || chosen.contains(name)).collect()
                }
                None => Name::ALL.to_vec(),
            },
            wishes: cases.clone(),
        }
    }
}

impl Job {
    fn job(&self) -> Result<gateway::Job> {
        let trace = self.trace.as_deref().map(|file| self.reading.reading().open(file)).transpose()?;
        Ok(gateway::Job { trace, capacity: self.capacity, threads: self.threads.map(|threads| threads as usize) })
    }

    /// Returns the name of one option that was given, if any was.
    fn given(&self) -> Option<&'static str> {
        let all = [
            (self.trace.is_some(), "--trace"),
            (self.capacity.is_some(), "--capacity"),
            (self.threads.is_some(), "--threads"),
        ];
        all.into_iter().find(|(given, _)| *given).map(|(_, option)| option).or_else(|| self.reading.given())
    }
}

impl Replay {
    fn question(&self) -> Result<replay::Question> {
        let Policy::Lru = self.policy;
        let trace = self.reading.reading().open(&self.file)?;
        let ttl =
            self.ttl.unwrap_or(if trace.has_ttls() { replay::TimeToLive::Recorded } else { replay::TimeToLive::Off });
        Ok(replay::Question {
            trace: trace.into(),
            capacities: self.capacity.clone(),
            bytes: self.bytes,
            shards: self.shards.map(|shards| shards as usize),
            ttl,
            reclaim: self.reclaim,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn contestants_run_in_the_usual_order_beside_ours_however_they_are_named() {
        let arguments = Arguments::parse_from(["sark-bench", "get", "--contestants", "moka,mutex-lru"]);
        assert_eq!(arguments.settings().contestants, [Name::SarkCache, Name::MutexLru, Name::Moka]);
    }

    #[test]
    fn quick_means_fewer_rounds_where_they_take_long_unless_the_number_is_given() {
        let rounds = |words: &[&str]| Arguments::parse_from(words).settings().rounds(3);
        assert_eq!(rounds(&["sark-bench"]), 7);
        assert_eq!(rounds(&["sark-bench", "--quick"]), 3);
        assert_eq!(rounds(&["sark-bench", "mixed", "--quick", "--rounds", "5"]), 5);
    }

    #[test]
    fn numbers_out_of_their_range_and_words_are_told_the_range() {
        for words in [["get", "--rounds", "abc"], ["get", "--rounds", "0"], ["get", "--rounds", "1001"]] {
            let error = Arguments::try_parse_from(["sark-bench"].iter().chain(&words)).unwrap_err().to_string();
            assert!(error.contains("--rounds <N>") && error.contains("from 1 to 1000"), "{error}");
        }
    }

    #[test]
    fn options_that_would_be_ignored_are_errors() {
        for (words, said) in [
            (&["sark-bench", "--threads", "4", "get"][..], "--threads belongs to"),
            (&["sark-bench", "--format", "csv", "replay", "x"], "--format stands before"),
            (&["sark-bench", "--time-unit", "ms"], "--time-unit says how to read"),
            (&["sark-bench", "percore", "--contestants", "moka"], "leave --contestants out"),
        ] {
            let error = Arguments::parse_from(words).run().unwrap_err().to_string();
            assert!(error.contains(said), "{words:?}: {error}");
        }
    }
}
