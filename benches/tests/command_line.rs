//! The program as its users call it: what it prints where.

use std::io::Write;
use std::process::{Command, Output};

use serde_json::Value;

fn sark_bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sark-bench")).args(arguments).output().expect("the program starts")
}

/// The one JSON object on standard output.
fn json(arguments: &[&str]) -> Value {
    let output = sark_bench(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("standard output is one JSON object and nothing else")
}

/// A trace of five requests in a file of its own.
fn small_trace(name: &str) -> std::path::PathBuf {
    let file = std::env::temp_dir().join(format!("sark-bench-{}-{name}", std::process::id()));
    std::fs::File::create(&file).unwrap().write_all(b"a\nb\na\nc\na\n").unwrap();
    file
}

#[test]
fn replay_prints_one_json_object_of_the_agreed_form() {
    let file = small_trace("json");
    let arguments = ["replay", file.to_str().unwrap(), "--capacity", "1,2", "--shards", "1", "--rounds", "2", "--json"];
    let report = json(&[&arguments[..], &["--contestants", "mutex-lru,quick_cache"]].concat());
    std::fs::remove_file(file).unwrap();
    assert_eq!(report["scenario"], "replay");
    assert_eq!(report["rounds"], 2);
    assert!(report["machine"]["cores"].as_u64().unwrap() >= 1);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[2]["contestant"], "mutex-lru");
    assert!(rows[2]["case"].as_str().unwrap().contains(" capacity=2 "), "{}", rows[2]["case"]);
    assert_eq!((&rows[2]["hits"], &rows[2]["misses"], &rows[2]["evicted"]), (&2.into(), &3.into(), &1.into()));
    assert!(rows[2]["ns_per_op"]["median"].as_f64().unwrap() > 0.0);
}

#[test]
fn one_case_runs_alone_and_stands_in_a_table() {
    let words = "keys=10k threads=1 dist=uniform ttl=off";
    let output = sark_bench(&["get", "--quick", "--rounds", "1", "--case", words, "--contestants", "mutex-lru"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("keys=10000 dist=uniform threads=1 ttl=off"), "{table}");
    assert!(table.contains("| mutex-lru "), "{table}");
    assert!(!table.contains('\u{1b}'), "no control characters in a pipe: {table}");
}

#[test]
fn every_hit_scenario_hits_always() {
    let report = json(&["get", "--quick", "--rounds", "1", "--case", "keys=10k threads=1 dist=zipf0.99", "--json"]);
    for row in report["rows"].as_array().unwrap() {
        assert_eq!(row["hit_ratio"], 1.0, "{row}");
    }
}

#[test]
fn every_insert_of_churn_evicts() {
    let report = json(&["churn", "--quick", "--rounds", "1", "--case", "capacity=10k threads=1", "--json"]);
    for row in report["rows"].as_array().unwrap() {
        let (inserted, evicted) = (row["inserted"].as_f64().unwrap(), row["evicted"].as_f64().unwrap());
        assert!(evicted > 0.9 * inserted, "{row}");
        assert!(row["entries"].as_u64().unwrap() <= 10_000, "{row}");
    }
}

#[test]
fn what_cannot_be_done_is_said_with_a_way_out() {
    for (arguments, words) in [
        (&["get", "--case", "keys=5"][..], "keys=10000 dist=zipf0.99 threads=1 ttl=off"),
        (&["replay", "/no/such/file"][..], "cannot open the trace /no/such/file"),
        (&["replay", "x", "--capacity", "0"][..], "a capacity is above zero"),
        (&["get", "--contestants", "nobody"][..], "quick_cache"),
    ] {
        let output = sark_bench(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{arguments:?} said {said}");
    }
}

#[test]
fn mixed_has_the_hit_ratio_of_keys_that_are_never_repeated() {
    let arguments = ["mixed", "--quick", "--rounds", "2", "--case", "threads=1", "--json"];
    let report = json(&[&arguments[..], &["--contestants", "mutex-lru"]].concat());
    let hit_ratio = report["rows"][0]["hit_ratio"].as_f64().unwrap();
    assert!((0.755..0.775).contains(&hit_ratio), "LRU of this capacity gives 0.765, not {hit_ratio}");
}
