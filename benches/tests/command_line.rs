//! The program as its users call it: what it prints, and where.

use std::io::Write;
use std::process::{Command, Output};

use serde_json::Value;

fn sark_bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sark-bench")).args(arguments).output().expect("the program starts")
}

/// Returns the one JSON object on standard output.
fn json(arguments: &[&str]) -> Value {
    let output = sark_bench(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("standard output is one JSON object and nothing else")
}

/// Writes a trace of five requests to its own file.
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
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[4]["contestant"], "mutex-lru");
    assert!(rows[4]["case"].as_str().unwrap().contains(" capacity=2 "), "{}", rows[4]["case"]);
    assert_eq!((&rows[4]["hits"], &rows[4]["misses"], &rows[4]["evicted"]), (&2.into(), &3.into(), &1.into()));
    assert!(rows[4]["ns_per_op"]["median"].as_f64().unwrap() > 0.0);
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
        (&["replay", "/"][..], "the trace / is a folder"),
        (&["replay", "x", "--capacity", "0"][..], "a capacity is above zero"),
        (&["--quick", "--capacity", "18446744073709551615"][..], "--capacity 18446744073709551615: that is"),
        (&["get", "--contestants", "nobody"][..], "quick_cache"),
        (&["report", "--output", "/no/such/folder/page.html"][..], "cannot write the page /no/such/folder/page.html"),
        (&["report", "--case", "threads=1"][..], "leave --case out"),
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
    let hit_ratio = report["rows"][1]["hit_ratio"].as_f64().unwrap();
    assert!((0.755..0.775).contains(&hit_ratio), "LRU of this capacity gives 0.765, not {hit_ratio}");
}

#[test]
fn our_own_row_stands_beside_every_other_so_that_ratios_can_be_taken() {
    let words = ["churn", "--quick", "--rounds", "1", "--case", "capacity=10k threads=1", "--json"];
    let report = json(&[&words[..], &["--contestants", "quick_cache"]].concat());
    let rows = report["rows"].as_array().unwrap();
    assert_eq!((&rows[0]["contestant"], &rows[1]["contestant"]), (&"sark-cache".into(), &"quick_cache".into()));
    assert!(rows[1]["ours_ahead"]["median"].as_f64().unwrap() > 0.0);
    assert_eq!(rows[1]["ns_per_op_rounds"].as_array().unwrap().len(), 1);
}

#[test]
fn hot_counts_every_update_and_says_how_the_threads_shared() {
    let report = json(&["hot", "--quick", "--rounds", "1", "--case", "threads=2", "--json"]);
    let rows = report["rows"].as_array().unwrap();
    for row in rows {
        let fairness = row["fairness"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&fairness), "{row}");
        assert_eq!(row["updates"], row["value"], "no update is lost: {row}");
        assert_eq!(row["updates_of_threads"].as_array().unwrap().len(), 2, "{row}");
    }
    let contestants = |list: &str| -> Vec<String> {
        let rows = report[list].as_array().unwrap();
        rows.iter().map(|row| row["contestant"].as_str().unwrap().to_owned()).collect()
    };
    for name in ["sark-cache", "sark-cache-percore", "dashmap-design", "mutex-lru", "moka"] {
        assert!(contestants("rows").contains(&name.to_owned()), "{name}");
    }
    for missing in report["absent"].as_array().unwrap() {
        assert!(!missing["why"].as_str().unwrap().is_empty());
    }
}

#[test]
fn latency_tells_percentiles_of_both_operations_in_order() {
    let report = json(&["latency", "--quick", "--rounds", "1", "--case", "threads=2 ttl=off", "--json"]);
    for row in report["rows"].as_array().unwrap() {
        for operation in ["get", "insert"] {
            let percentiles = &row["percentiles_ns"][operation];
            let all = ["p50", "p90", "p99", "p99.9", "p99.99", "max"].map(|name| percentiles[name].as_u64());
            let told: Vec<u64> = all.into_iter().flatten().collect();
            assert!(told[0] > 0 && told.is_sorted(), "{row}");
            // A 99.99th percentile needs ten thousand operations, and a contestant with fewer made no full
            // run.
            let enough = percentiles["count"].as_u64().unwrap() >= 10_000;
            assert_eq!(all[4].is_some(), enough, "{row}");
            assert!(enough || row["full_run"] == false, "{row}");
        }
        assert!(row["hit_ratio"].as_f64().unwrap() > 0.5, "what is asked for mostly stays: {row}");
    }
}

#[test]
fn latency_with_a_time_to_live_begins_with_a_million_entries_about_to_die() {
    let words = ["latency", "--quick", "--rounds", "1", "--case", "threads=2 ttl=on", "--json"];
    let report = json(&[&words[..], &["--contestants", "sark-cache"]].concat());
    let row = &report["rows"][0];
    let in_it = row["entries"].as_u64().unwrap();
    let inserted = row["inserted"].as_u64().unwrap();
    assert!(in_it < 1_000_000 && inserted > 0, "some have died: {row}");
    assert!(row["expiry"].is_string());
}

#[test]
fn latency_goes_on_to_a_second_round_with_caches_that_scan_all_entries_for_a_victim() {
    let words = ["latency", "--quick", "--rounds", "2", "--case", "threads=2 ttl=on", "--json"];
    let begun = std::time::Instant::now();
    let report = json(&[&words[..], &["--contestants", "dashmap-design"]].concat());
    let row = &report["rows"][1];
    // Filling a cache again that holds a million expired entries took a scan per entry: days.
    assert!(begun.elapsed() < std::time::Duration::from_secs(200), "{:?}", begun.elapsed());
    // Both threads may see the last free place.
    assert!(row["entries"].as_u64().unwrap() < 1_000_100, "{row}");
    assert_eq!(row["percentiles_ns_rounds"]["get"].as_array().unwrap().len(), 2, "{row}");
}

#[test]
fn expiry_waits_until_every_value_is_dropped_and_says_who_cannot_do_that() {
    let report = json(&["expiry", "--rounds", "1", "--case", "entries=100k", "--json"]);
    let rows = report["rows"].as_array().unwrap();
    for name in ["sark-cache", "sark-cache-percore"] {
        let row = rows.iter().find(|row| row["contestant"] == name).unwrap();
        assert_eq!(row["still_there"], 0, "{row}");
        assert!(row["reclaimed_after_ms"].as_f64().unwrap() >= row["first_dropped_after_ms"].as_f64().unwrap());
        let percentile = row["p999_us"].as_f64().unwrap_or(0.0);
        assert!(row["longest_stall_us"].as_f64().unwrap() >= percentile * 0.99, "{row}");
        assert_eq!(row["p999_us"].is_null(), row["gets_meanwhile"].as_u64().unwrap() < 1000, "{row}");
        assert_eq!(row["dropped_early"], 0, "{row}");
        let first = &row["timeline"][0];
        // On a machine with other work, filling may be cut short.
        let all = row["fill_cut_at"].is_null();
        assert_eq!(row["full_run"] == true, all, "{row}");
        assert!(first[0] == 0.0 && (first[1] == 100_000 || !all), "{row}");
        assert_eq!(row["hit_ratio"], 1.0);
    }
    let absent = report["absent"].as_array().unwrap();
    for name in ["dashmap-design", "mutex-lru", "quick_cache", "moka"] {
        assert!(absent.iter().any(|missing| missing["contestant"] == name), "{name}");
    }
}

#[test]
fn memory_is_what_is_there_beyond_keys_and_values() {
    let report = json(&["memory", "--case", "entries=10k", "--json"]);
    for row in report["rows"].as_array().unwrap() {
        // Keys and values are made meanwhile, so no time is reported.
        assert!(row["ns_per_op"].is_null() && row["ops_per_s"].is_null() && row["ours_ahead"].is_null(), "{row}");
        assert_eq!(row["operations"], 0, "{row}");
        let own = row["key_and_value_bytes"].as_u64().unwrap();
        let strings = row["case"].as_str().unwrap().contains("kv=string");
        assert!(if strings { own >= 32 + 100 } else { own == 16 }, "{row}");
        assert!(row["entries"].as_u64().unwrap() > 9000, "{row}");
        let beyond = row["bytes_per_entry"].as_f64().unwrap();
        // Every cache needs some bytes, but one that keeps no keys may save more than that.
        assert!(row["contestant"] == "tinyufo" || beyond > 0.0, "{row}");
        assert!(beyond < 2000.0, "{row}");
    }
}

#[test]
fn idle_tells_processor_time_and_no_time_per_operation() {
    let report = json(&["idle", "--quick", "--rounds", "1", "--contestants", "sark-cache-percore", "--json"]);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert!(row["cpu_ms"].as_f64().unwrap() >= 0.0 && row["ns_per_op"].is_null(), "{row}");
        assert_eq!(row["entries"], 1_000_000, "{row}");
    }
}

#[test]
fn percore_puts_the_caller_and_the_worker_on_different_processors_and_hits_always() {
    let report = json(&["percore", "--quick", "--rounds", "1", "--case", "keys=10k", "--json"]);
    let rows = report["rows"].as_array().unwrap();
    // Four rows for each of five ways to ask: by channel, by slots, on a bare shard, and the ping-pong.
    assert_eq!(rows.len(), 5 * 4);
    for row in rows {
        if report["machine"]["cores"].as_u64().unwrap() > 1 && row["contestant"] != "bare-shard" {
            assert_ne!(row["caller_on_cpu"], row["worker_on_cpu"], "{row}");
        }
        assert!(row["hit_ratio"].is_null() || row["hit_ratio"] == 1.0, "{row}");
    }
}
