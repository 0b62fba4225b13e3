//! The report for people: all scenarios as one self-contained HTML page.
//!
//! It is made of the same rows as the tables and the JSON. The kind of plot depends on the scenario alone,
//! and a contestant has the same colour and mark in every plot.

use std::fmt::Write;

use anyhow::Result;

use crate::contestants::Name;
use crate::plots::{Across, Bar, Format, Group, Line, Upwards, bars, duration, lines, short};
use crate::report::{Report, Row};
use crate::scenarios::percore;
use crate::summary::{self, Figure, percentile};
use crate::table::{self, OURS};

const STYLE: &str = "body{font:15px/1.5 sans-serif;margin:0;color:#222;background:#fff}\
    main{max-width:1120px;margin:2em auto;padding:0 1em;overflow-wrap:anywhere}\
    table{border-collapse:collapse;font-size:12px;overflow-wrap:normal}td,th{border:1px solid #bbb;padding:2px 6px;text-align:right}\
    td:first-child,th:nth-child(-n+2),tbody td:nth-child(2){text-align:left}caption{text-align:left;font-size:13px;padding:.3em 0}\
    .wide{overflow-x:auto;margin:.5em 0}.wide td,.wide th{white-space:nowrap}\
    svg{display:block;width:100%;min-width:720px;height:auto;background:#fff}code{background:#8882;padding:1px 4px}\
    .lost{font-weight:bold;background:#d53c0033}.won{background:#009e7322}.note{font-size:13px;opacity:.8}\
    h2{margin-top:2em;border-bottom:1px solid #bbb}a{color:inherit}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}";

/// Renders the page.
///
/// # Errors
/// If a plot can't be drawn.
pub fn render(reports: &[Report]) -> Result<String> {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>sark-bench</title>",
    );
    let _ = write!(page, "<style>{STYLE}</style>\n<main><h1>sark-cache compared with other caches</h1>");
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
    page.push_str("</main></html>\n");
    Ok(page)
}

/// Writes the table of all scenarios, and how to read the page.
fn overview(page: &mut String, reports: &[Report]) {
    let lines: Vec<summary::Line> = reports.iter().flat_map(summary::of).collect();
    let (ahead, all) = summary::score(&lines);
    let _ = write!(
        page,
        "\n<p>sark-cache was ahead in {ahead} of {all} comparisons. The table shows the other caches' figures as \
         multiples of ours, as a range over the cases of a scenario. <span class=\"won\">Above one, sark-cache is \
         ahead</span>; <span class=\"lost\">bold means that the other cache is ahead</span> in some case. \
         sark-cache-percore is ours, too; it sends every request as a message to another thread. The requests \
         that scale repeats from mixed are counted only once.</p>"
    );
    let columns = summary::columns(&lines);
    page.push_str(
        "<div class=\"wide\" tabindex=\"0\"><table><caption>Multiples of our figures, over the cases of each scenario</caption>\
         <thead><tr><th scope=\"col\">scenario<th scope=\"col\">judged by",
    );
    columns.iter().for_each(|name| page.push_str(&format!("<th scope=\"col\">{}", escape(name))));
    page.push_str("<tbody>");
    for line in &lines {
        let scenario = escape(&line.scenario);
        let _ = write!(
            page,
            "<tr><th scope=\"row\"><a href=\"#{}\">{scenario}</a><td>{}",
            anchor(&line.scenario),
            escape(line.by)
        );
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
        "</table></div>\n<p class=\"note\">Contestants run in turn, round by round. Ratios are taken within a \
         round, and the median of the rounds is shown; a note under each scenario gives the details. Bars show \
         the median, and whiskers the smallest and the largest round; their axes are logarithmic. On a busy \
         machine, the figures say less than their ranges. \"x ours\" is a contestant's figure over ours, and \
         \"own threads\" is the number of threads that the cache itself runs.</p>",
    );
}

/// Describes a scenario in a sentence.
fn about(scenario: &str) -> &'static str {
    match scenario {
        "gateway" => {
            "Look-ups of authorization decisions that live for 60 to 300 seconds on the load's own clock. Missing \
             decisions are inserted."
        }
        "get" | "get, uniform" => "Look-ups that all hit, one key at a time.",
        "get-many" => {
            "Look-ups that all hit, in batches. Caches without a batch operation loop, and so does fibre_cache, \
             whose multiget takes many times as long."
        }
        "churn" => "Inserts of new keys into a full cache, so that every insert evicts.",
        "mixed" => "Look-ups that insert what is missing: zipf over ten times as many keys as the cache holds.",
        "scale" => "The requests of mixed from more and more threads, in the end more than there are processors.",
        "hot" => {
            "All threads read, modify and write one key for a second. Fairness is the slowest thread's share over the \
             fastest's: a lock that lets one thread run away is fast and unfair."
        }
        "latency" => {
            "Every look-up and every insertion is timed individually in a full cache under churn, with eight \
             threads. With ttl=on, a million entries expire meanwhile. A percentile for which there were too few \
             operations has no point in the plot."
        }
        "expiry" => {
            "Many entries are due at the same moment, while nothing calls the cache. Shown are when their values \
             are dropped, and how long look-ups of other entries are held up from the deadline until the last \
             value is dropped. A cache that drops the last value soon has few look-ups in that time, so its \
             percentile is based on few."
        }
        "memory" => "Bytes allocated per entry of a full cache, beyond its key and value.",
        "percore" => {
            "One shard with its own thread, asked by message through sark-delegate, without a cache around it. \
             For comparison: the same work on a bare shard that the caller runs itself, and a cache line sent to \
             the other processor and back."
        }
        "idle" => {
            "Processor time used while nothing calls a cache that was used before and holds a million \
             entries with deadlines."
        }
        _ => "",
    }
}

fn section(page: &mut String, report: &Report) -> Result<()> {
    let scenario = escape(&report.scenario);
    let rounds = if report.rounds == 1 { "One round.".to_owned() } else { format!("{} rounds.", report.rounds) };
    let (id, about) = (anchor(&report.scenario), escape(about(&report.scenario)));
    let _ = write!(page, "\n<h2 id=\"{id}\">{scenario}</h2><p>{about} {rounds}</p>");
    for sentence in table::verdicts(report) {
        let _ = write!(page, "<p><b>{}</b></p>", escape(&sentence));
    }
    match report.scenario.as_str() {
        "scale" => scaling(page, report)?,
        "latency" => latencies(page, report)?,
        "memory" => plot(page, report, "bytes per entry", short, Figure::Field("bytes_per_entry"))?,
        "idle" => plot(page, report, "ms of processor time", short, Figure::Field("cpu_ms"))?,
        "expiry" => {
            timelines(page, report)?;
            let until_the_last = "ms after the deadline until the last value is dropped";
            plot(page, report, until_the_last, short, Figure::Field("reclaimed_after_ms"))?;
            plot(page, report, "p99.9 of look-ups meanwhile, us", short, Figure::Field("p999_us"))?;
            plot(page, report, "longest stall of a look-up meanwhile, us", short, Figure::Field("longest_stall_us"))?;
        }
        _ => plot(page, report, "time per operation, all threads together", duration, Figure::Time)?,
    }
    for note in table::notes(report) {
        let _ = write!(page, "<p class=\"note\">{}</p>", escape(&note));
    }
    let _ = write!(
        page,
        "<details><summary>All figures</summary><div class=\"wide\" tabindex=\"0\">{}</div></details>",
        table::html(report)
    );
    Ok(())
}

type Column = (&'static str, fn(&Row) -> Option<String>);

/// The columns that can stand next to a bar. A column for which no row has a value is left out.
const BESIDE: [Column; 3] = [
    ("hit ratio", |row| row.hit_ratio.map(|ratio| format!("{ratio:.4}"))),
    ("fairness", |row| row.fields.get("fairness")?.as_f64().map(|share| format!("{share:.2}"))),
    ("own threads", |row| row.threads_owned.map(|threads| threads.to_string())),
];

/// Writes a plot of bars for a figure, with the range of its rounds as whiskers.
fn plot(page: &mut String, report: &Report, unit: &str, format: Format, figure: Figure) -> Result<()> {
    let says_something = |(_, says): &&Column| report.rows.iter().any(|row| says(row).is_some());
    let columns: Vec<&Column> = BESIDE.iter().filter(says_something).collect();
    let compared = report.rows.iter().any(|row| row.contestant == OURS);
    let group = |case: &&str| {
        let rows = report.rows.iter().filter(|row| row.case == **case);
        let bars = rows.filter_map(|row| {
            let value = figure.of(row)?;
            let (from, to) = figure.ends(row).unwrap_or((value, value));
            let mut notes = vec![format(value)];
            if compared {
                let times = || figure.ratio(row, summary::ours(report, case)?);
                let of_others = (row.contestant != OURS).then(times).flatten();
                notes.push(of_others.map(summary::figure).unwrap_or_default());
            }
            notes.extend(columns.iter().map(|(_, says)| says(row).unwrap_or_default()));
            Some(Bar { label: row.contestant.clone(), value, from, to, colour: colour(&row.contestant), notes })
        });
        Group { heading: (*case).to_owned(), bars: bars.collect() }
    };
    let groups: Vec<Group> = table::cases(report).iter().map(group).collect();
    let headings = ["median"].into_iter().chain(compared.then_some("x ours"));
    let headings: Vec<&str> = headings.chain(columns.iter().map(|(heading, _)| *heading)).collect();
    let name = format!("{}: {unit}. The figures are in the table below.", report.scenario);
    wide(page, &bars(&name, unit, format, &headings, &groups)?);
    Ok(())
}

/// Returns a contestant's colour and mark, the same in all plots. What is measured alongside the caches has
/// colours of its own.
fn colour(contestant: &str) -> usize {
    match contestant {
        percore::SLOTS => Name::ALL.len(),
        percore::BARE => Name::ALL.len() + 1,
        percore::PING_PONG => Name::ALL.len() + 2,
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
    let name = format!("{}: operations per second by threads. The figures are in the table below.", report.scenario);
    wide(page, &lines(&name, &Across::Places(places), &upwards, &all)?);
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
                let count = percentile(row, operation, "count").filter(|_| points.len() < PLACES.len());
                let label = match count {
                    Some(count) => format!("{}: {} only", row.contestant, short(count)),
                    None => row.contestant.clone(),
                };
                Line { label, points, colour: colour(&row.contestant) }
            };
            let all: Vec<Line> = rows.map(line).collect();
            let _ = write!(page, "<p>{operation}, {}</p>", escape(case));
            let name = format!("latency: percentiles of {operation}, {case}. The figures are in the table below.");
            wide(page, &lines(&name, &across, &upwards, &all)?);
        }
    }
    Ok(())
}

/// Writes a plot or a table that may be wider than the screen and scrolls sideways then.
fn wide(page: &mut String, what: &str) {
    let _ = write!(page, "<div class=\"wide\">{what}</div>");
}

/// Turns a scenario's name into the fragment of a link.
fn anchor(scenario: &str) -> String {
    scenario.replace(|other: char| !other.is_ascii_alphanumeric(), "-")
}

/// Writes plots of how many of the values that were due together are left, from the deadline on.
fn timelines(page: &mut String, report: &Report) -> Result<()> {
    let upwards = Upwards { name: "values not yet dropped", log: false, format: short };
    for case in table::cases(report) {
        let rows = report.rows.iter().filter(|row| row.case == case);
        let line = |row: &Row| {
            let points = row.fields.get("timeline")?.as_array()?.iter();
            // The axis is logarithmic and begins at one millisecond, which stands for the deadline.
            let points = points.filter_map(|point| Some((point.get(0)?.as_f64()?.max(1.0), point.get(1)?.as_f64()?)));
            let points = steps(points);
            Some(Line { label: row.contestant.clone(), points, colour: colour(&row.contestant) })
        };
        let all: Vec<Line> = rows.filter_map(line).collect();
        let _ = write!(page, "<p>{}</p>", escape(case));
        let name = format!(
            "expiry: values not yet dropped by time, {case}. When the last one is dropped is in the \
             table below."
        );
        let across = Across::Numbers("ms after the deadline (drawn at 1)");
        wide(page, &lines(&name, &across, &upwards, &all)?);
    }
    Ok(())
}

/// Turns points into steps: a value holds until a different one is seen.
fn steps(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for (at, value) in points {
        steps.extend(steps.last().map(|(_, before)| (at, *before)));
        steps.push((at, value));
    }
    steps
}

/// Returns the value of a word of a case, or an empty string.
fn word<'a>(case: &'a str, name: &str) -> &'a str {
    let words = case.split(' ').filter_map(|word| word.split_once('='));
    words.into_iter().find(|(word, _)| *word == name).map_or("", |(_, value)| value)
}

/// Escapes text for use in HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plots::DISTINCT;

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
    fn whatever_stands_in_a_plot_has_a_colour_of_its_own() {
        let beside = [percore::SLOTS, percore::BARE, percore::PING_PONG];
        let all: Vec<&str> = Name::ALL.iter().map(|name| name.as_str()).chain(beside).collect();
        let colours: std::collections::BTreeSet<usize> = all.iter().map(|name| colour(name) % DISTINCT).collect();
        assert_eq!(colours.len(), all.len());
    }

    #[test]
    fn a_value_stays_until_it_is_seen_to_be_another() {
        let points = [(1.0, 9.0), (5.0, 4.0), (7.0, 0.0)];
        assert_eq!(steps(points.into_iter()), [(1.0, 9.0), (5.0, 9.0), (5.0, 4.0), (7.0, 4.0), (7.0, 0.0)]);
    }

    #[test]
    fn ours_is_the_first_colour() {
        assert_eq!(colour(OURS), 0);
    }
}
