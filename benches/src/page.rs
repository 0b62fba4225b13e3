//! The report for people: all scenarios as one HTML page that needs nothing beside itself.
//!
//! Made of the same rows as the tables and the JSON. Which plot a scenario has depends on the scenario alone, and a contestant
//! has the same colour and the same mark everywhere.

use std::fmt::Write;

use anyhow::Result;

use crate::contestants::Name;
use crate::plots::{Across, Bar, Format, Group, Line, Upwards, bars, duration, lines, short};
use crate::report::{Report, Row};
use crate::summary::{self, figure, percentile};
use crate::table::{self, OURS};

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222;background:#fff}\
    table{border-collapse:collapse;font-size:12px}td,th{border:1px solid #bbb;padding:2px 6px;text-align:right}\
    td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}details{margin:.5em 0;overflow-x:auto}\
    svg{max-width:100%;height:auto;background:#fff}code{background:#8882;padding:1px 4px}\
    .lost{font-weight:bold;background:#d53c0033}.won{background:#009e7322}.note{font-size:13px;opacity:.8}\
    h2{margin-top:2em;border-bottom:1px solid #bbb}a{color:inherit}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}";

/// The page.
///
/// # Errors
/// When a plot can't be drawn.
pub fn render(reports: &[Report]) -> Result<String> {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>sark-bench</title>",
    );
    let _ = write!(page, "<style>{STYLE}</style>\n<h1>sark-cache beside other caches</h1>");
    if let Some(first) = reports.first() {
        let machine = &first.machine;
        let cores = machine.cores;
        let _ = write!(page, "<p>{}, {cores} cores, {}. ", escape(&machine.cpu), machine.os);
        let mut versions: Vec<String> = Vec::new();
        for (name, version) in reports.iter().flat_map(|report| &report.versions) {
            let version = format!("{name} {version}");
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        let _ = write!(page, "{}. ", escape(&versions.join(", ")));
        let _ = write!(page, "Made by <code>sark-bench {}</code>.</p>", escape(&first.arguments.join(" ")));
    }
    overview(&mut page, reports);
    for report in reports {
        section(&mut page, report)?;
    }
    page.push_str("</html>\n");
    Ok(page)
}

/// The table of all scenarios, and how to read everything.
fn overview(page: &mut String, reports: &[Report]) {
    let lines: Vec<summary::Line> = reports.iter().flat_map(summary::of).collect();
    let (ahead, all) = summary::score(&lines);
    let _ = write!(
        page,
        "\n<p>sark-cache was ahead in {ahead} of {all} comparisons. The table has the other caches' figures as multiples of \
         ours, over the cases of a scenario: <span class=\"won\">above one we are ahead</span>; \
         <span class=\"lost\">bold where somebody is ahead of us</span> in some case. sark-cache-percore is ours, too, with \
         every request a message to another thread.</p>"
    );
    let columns = summary::columns(&lines);
    page.push_str("<table><tr><th>scenario<th>judged by");
    columns.iter().for_each(|name| page.push_str(&format!("<th>{}", escape(name))));
    for line in &lines {
        let scenario = escape(&line.scenario);
        let _ = write!(page, "<tr><td><a href=\"#{scenario}\">{scenario}</a><td>{}", escape(line.by));
        for name in &columns {
            match line.beside.iter().find(|beside| beside.contestant == *name) {
                Some(beside) => {
                    let class = if summary::loses(beside) { "lost" } else { "won" };
                    let _ = write!(page, "<td class=\"{class}\">{}", summary::range(beside));
                }
                None => page.push_str("<td>"),
            }
        }
    }
    page.push_str(
        "</table>\n<p class=\"note\">Contestants run in turn, round by round; ratios are taken within a round, then the median. \
         Bars show the median, whiskers the least and the greatest round; their axes are logarithmic. On a busy machine figures \
         say less than their ranges. \"x ours\" is a contestant's figure over ours, \"own threads\" those that the cache \
         itself runs.</p>",
    );
}

/// What a scenario does, in a sentence.
fn about(scenario: &str) -> &'static str {
    match scenario {
        "gateway" => {
            "Look-ups of authorization decisions that live 60 to 300 seconds on the load's own clock; what is missing is \
             inserted."
        }
        "get" | "get, uniform" => "Look-ups that all hit, one key at a time.",
        "get-many" => "Look-ups that all hit, in batches; caches without a batch of their own loop.",
        "churn" => "Inserts of new keys into a full cache, so that every one evicts.",
        "mixed" => "Look up, insert what is missing: zipf over ten times as many keys as the cache holds.",
        "scale" => "The requests of mixed by more and more threads, more than there are processors at last.",
        "hot" => {
            "All threads read, modify and write one key for a second. Fairness is the slowest thread's share over the \
             fastest's: a lock that lets one thread run away is fast and unfair."
        }
        "latency" => {
            "Every look-up and every insertion timed by itself in a full cache under churn, with more threads than \
             processors. With ttl=on a million entries die meanwhile. Where too few operations were done for a percentile, \
             there is no point."
        }
        "expiry" => {
            "Entries all due at one moment, with nobody calling the cache: when their values are dropped, and how long \
             look-ups of other entries are held up meanwhile."
        }
        "memory" => "Bytes allocated for an entry of a full cache, beyond its key and its value.",
        "percore" => {
            "One shard with a thread of its own, asked by message through sark-delegate; there is no cache around it. Beside \
             it the same work on a bare shard in the caller's hands, and a cache line sent to the other processor and back."
        }
        "idle" => "Processor time used while nobody calls, a million entries with deadlines in the cache, after use.",
        _ => "",
    }
}

fn section(page: &mut String, report: &Report) -> Result<()> {
    let scenario = escape(&report.scenario);
    let _ = write!(page, "\n<h2 id=\"{scenario}\">{scenario}</h2><p>{}</p>", escape(about(&report.scenario)));
    for sentence in table::verdicts(report) {
        let _ = write!(page, "<p><b>{}</b></p>", escape(&sentence));
    }
    let time = |row: &Row| row.ns_per_op.map(|time| (time.median, time.min, time.max));
    match report.scenario.as_str() {
        "scale" => scaling(page, report)?,
        "latency" => latencies(page, report)?,
        "memory" => plot(page, report, "bytes per entry", short, |row| field(row, "bytes_per_entry"))?,
        "idle" => plot(page, report, "ms of processor time", short, |row| field(row, "cpu_ms"))?,
        "expiry" => {
            timelines(page, report)?;
            plot(page, report, "ms after the deadline until the last value is dropped", short, |row| {
                field(row, "reclaimed_after_ms")
            })?;
            plot(page, report, "p99.9 of look-ups meanwhile, us", short, |row| field(row, "p999_us"))?;
            plot(page, report, "longest stall of a look-up meanwhile, us", short, |row| {
                field(row, "longest_stall_us")
            })?;
        }
        _ => plot(page, report, "time per operation, all threads together", duration, time)?,
    }
    for note in table::notes(report) {
        let _ = write!(page, "<p class=\"note\">{}</p>", escape(&note));
    }
    let _ = write!(page, "<details><summary>All figures</summary>{}</details>", table::html(report));
    Ok(())
}

fn field(row: &Row, name: &str) -> Option<(f64, f64, f64)> {
    row.fields.get(name)?.as_f64().map(|value| (value, value, value))
}

type Column = (&'static str, fn(&Row) -> Option<String>);

/// What can stand beside a bar; a column about which no row says anything is left out.
const BESIDE: [Column; 3] = [
    ("hit ratio", |row| row.hit_ratio.map(|ratio| format!("{ratio:.4}"))),
    ("fairness", |row| row.fields.get("fairness")?.as_f64().map(|share| format!("{share:.2}"))),
    ("own threads", |row| row.threads_owned.map(|threads| threads.to_string())),
];

/// Bars of what is `shown`: a figure with its ends.
fn plot(
    page: &mut String,
    report: &Report,
    unit: &str,
    format: Format,
    shown: impl Fn(&Row) -> Option<(f64, f64, f64)>,
) -> Result<()> {
    let says_something = |(_, says): &&Column| report.rows.iter().any(|row| says(row).is_some());
    let columns: Vec<&Column> = BESIDE.iter().filter(says_something).collect();
    let ours = |case: &str| report.rows.iter().find(|row| row.case == case && row.contestant == OURS);
    let compared = report.rows.iter().any(|row| row.contestant == OURS);
    let group = |case: &&str| {
        let rows = report.rows.iter().filter(|row| row.case == **case);
        let bars = rows.filter_map(|row| {
            let (value, from, to) = shown(row)?;
            let mut notes = vec![format(value)];
            if compared {
                let times = || match row.ours_ahead {
                    Some(ahead) if Some(value) == row.ns_per_op.map(|time| time.median) => Some(ahead.median),
                    _ => Some(value / shown(ours(case)?)?.0).filter(|ratio| ratio.is_finite()),
                };
                let of_others = (row.contestant != OURS).then(times).flatten();
                notes.push(of_others.map(figure).unwrap_or_default());
            }
            notes.extend(columns.iter().map(|(_, says)| says(row).unwrap_or_default()));
            Some(Bar { label: row.contestant.clone(), value, from, to, colour: colour(&row.contestant), notes })
        });
        Group { heading: (*case).to_owned(), bars: bars.collect() }
    };
    let groups: Vec<Group> = table::cases(report).iter().map(group).collect();
    let headings = ["median"].into_iter().chain(compared.then_some("x ours"));
    let headings: Vec<&str> = headings.chain(columns.iter().map(|(heading, _)| *heading)).collect();
    page.push_str(&bars(unit, format, &headings, &groups)?);
    Ok(())
}

/// A contestant's colour and mark, the same in all plots. What is none of them has one of its own.
fn colour(contestant: &str) -> usize {
    match contestant {
        "bare-shard" => 3,
        "ping-pong" => 2,
        _ => Name::ALL.iter().position(|name| name.as_str() == contestant).unwrap_or(Name::ALL.len()),
    }
}

fn scaling(page: &mut String, report: &Report) -> Result<()> {
    let cases = table::cases(report);
    let places = cases.iter().map(|case| format!("{} threads", word(case, "threads"))).collect();
    let line = |name: &&str| {
        let points = cases.iter().enumerate().filter_map(|(place, case)| {
            let row = report.rows.iter().find(|row| row.case == *case && row.contestant == **name)?;
            Some((place as f64, row.ops_per_s?))
        });
        Line { label: (*name).to_owned(), points: points.collect(), colour: colour(name) }
    };
    let all: Vec<Line> = table::contestants(report).iter().map(line).collect();
    let upwards = Upwards { name: "operations per second, all threads together", log: true, format: short };
    page.push_str(&lines(&Across::Places(places), &upwards, &all)?);
    Ok(())
}

fn latencies(page: &mut String, report: &Report) -> Result<()> {
    const PLACES: [&str; 6] = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
    let across = Across::Places(PLACES.map(str::to_owned).into());
    let upwards = Upwards { name: "time of one operation", log: true, format: duration };
    for case in table::cases(report) {
        for operation in ["get", "insert"] {
            let rows = report.rows.iter().filter(|row| row.case == case);
            let line = |row: &Row| {
                let at = |(place, name): (usize, &&str)| Some((place as f64, percentile(row, operation, name)?));
                let points: Vec<(f64, f64)> = PLACES.iter().enumerate().filter_map(at).collect();
                Line { label: row.contestant.clone(), points, colour: colour(&row.contestant) }
            };
            let all: Vec<Line> = rows.map(line).collect();
            let _ = write!(page, "<p>{operation}, {}</p>", escape(case));
            page.push_str(&lines(&across, &upwards, &all)?);
        }
    }
    Ok(())
}

/// How many of the values that were due together are still there, from the deadline on.
fn timelines(page: &mut String, report: &Report) -> Result<()> {
    let upwards = Upwards { name: "values not yet dropped", log: false, format: short };
    for case in table::cases(report) {
        let rows = report.rows.iter().filter(|row| row.case == case);
        let line = |row: &Row| {
            let points = row.fields.get("timeline")?.as_array()?.iter();
            // The axis is logarithmic and begins at a millisecond.
            let points = points.filter_map(|point| Some((point.get(0)?.as_f64()?.max(1.0), point.get(1)?.as_f64()?)));
            Some(Line { label: row.contestant.clone(), points: points.collect(), colour: colour(&row.contestant) })
        };
        let all: Vec<Line> = rows.filter_map(line).collect();
        let _ = write!(page, "<p>{}</p>", escape(case));
        page.push_str(&lines(&Across::Numbers("ms after the deadline"), &upwards, &all)?);
    }
    Ok(())
}

/// The value of a word of a case.
fn word<'a>(case: &'a str, name: &str) -> &'a str {
    let words = case.split(' ').filter_map(|word| word.split_once('='));
    words.into_iter().find(|(word, _)| *word == name).map_or("", |(_, value)| value)
}

/// Text that stands in HTML as it is.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_line_says_is_no_markup() {
        assert_eq!(escape("a<b & c>\"d\""), "a&lt;b &amp; c&gt;&quot;d&quot;");
    }

    #[test]
    fn a_word_of_a_case_is_found_by_its_name() {
        assert_eq!(word("keys=10 dist=uniform threads=8", "threads"), "8");
        assert_eq!(word("keys=10", "threads"), "");
    }

    #[test]
    fn a_page_of_nothing_is_still_a_page() {
        assert!(render(&[]).unwrap().ends_with("</html>\n"));
    }

    #[test]
    fn ours_is_the_first_colour() {
        assert_eq!(colour(OURS), 0);
    }
}
