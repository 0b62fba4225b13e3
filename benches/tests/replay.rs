//! Compares replays with a reference that shares no code with any cache: on small random streams, and on the
//! real traces in the folder that `SARK_TRACES` names.

mod naive;

use std::path::PathBuf;
use std::sync::Arc;

use rand::RngExt;
use sark_bench::contestants::{Capacity, Name, Reclaim};
use sark_bench::scenarios::replay::{self, Question, TimeToLive};
use sark_bench::trace::{Operation, Reading, Request, Trace};
use sark_bench::workload::generator;

use naive::Outcome;

fn question(trace: Trace, ttl: TimeToLive, reclaim: Reclaim, bytes: bool) -> Question {
    Question { trace: Arc::new(trace), capacities: Vec::new(), bytes, shards: Some(1), ttl, reclaim }
}

/// Returns the program's counts for one contestant on one shard.
fn counted(name: Name, question: &Question, capacity: Capacity) -> Outcome {
    let mut run = replay::contestant(name, question, capacity, None).expect("it can do this");
    run.run(0, 0);
    let fields = run.finish();
    let field = |name: &str| fields[name].as_u64();
    Outcome {
        hits: field("hits").unwrap(),
        misses: field("misses").unwrap(),
        expired: field("expired").unwrap(),
        reclaimed: field("reclaimed").unwrap_or(0),
        evicted: field("evicted").unwrap(),
    }
}

/// Returns the trace of the given name, or says why the test has nothing to do.
fn recorded(name: &str) -> Option<Trace> {
    let Some(folder) = std::env::var_os("SARK_TRACES") else {
        eprintln!("skipped: SARK_TRACES does not name a folder with {name}.txt.zst");
        return None;
    };
    let file = PathBuf::from(folder).join(format!("{name}.txt.zst"));
    Some(Reading::default().open(&file).expect("the trace can be read"))
}

/// Makes a trace of few keys, so that everything that can happen to a key happens soon. Every fifth request
/// has no time-to-live.
fn random_trace(seed: u64, length: usize) -> Trace {
    let mut random = generator(seed);
    let mut at = 0;
    let mut request = || {
        at += random.random_range(0..3) * 500_000_000;
        let ttl = (random.random_range(0..5) > 0).then(|| random.random_range(0..20) * 1_000_000_000);
        let key = random.random_range(0..40);
        Request { at, key, ttl, size: 1 + (key * 7 % 30) as u32, operation: Operation::Get }
    };
    let requests = (0..length).map(|_| request()).collect();
    Trace { name: "random".into(), requests, names: Vec::new() }
}

/// Compares a contestant with the reference on random streams.
fn compare(name: Name, ttl: TimeToLive, reclaim: Reclaim, capacities: &[Capacity]) {
    // Less for the contestant that sends a message per operation.
    let (seeds, length) = if name == Name::SarkPerCore { (1, 500) } else { (10, 5000) };
    for seed in 0..seeds {
        for &capacity in capacities {
            let bytes = matches!(capacity, Capacity::Bytes(_));
            let question = question(random_trace(seed, length), ttl, reclaim, bytes);
            let expected = naive::replay(&question, capacity);
            assert_eq!(counted(name, &question, capacity), expected, "{name} {capacity:?} seed {seed}");
        }
    }
}

const ENTRIES: [Capacity; 5] =
    [Capacity::Entries(1), Capacity::Entries(2), Capacity::Entries(3), Capacity::Entries(10), Capacity::Entries(30)];
const BYTES: [Capacity; 3] = [Capacity::Bytes(5), Capacity::Bytes(25), Capacity::Bytes(200)];

#[test]
fn on_one_shard_without_expiry_all_are_exact_lru() {
    for name in [Name::SarkCache, Name::SarkPerCore, Name::MutexLru] {
        compare(name, TimeToLive::Off, Reclaim::Prompt, &ENTRIES);
    }
}

#[test]
fn the_dead_that_stay_until_touched_take_up_room() {
    compare(Name::SarkCache, TimeToLive::Recorded, Reclaim::Lazy, &ENTRIES);
    compare(Name::MutexLru, TimeToLive::Recorded, Reclaim::Lazy, &ENTRIES);
}

#[test]
fn the_dead_that_leave_at_once_take_up_none() {
    compare(Name::SarkCache, TimeToLive::Recorded, Reclaim::Prompt, &ENTRIES);
    compare(Name::SarkPerCore, TimeToLive::Recorded, Reclaim::Prompt, &ENTRIES);
}

#[test]
fn a_bound_in_bytes_admits_nothing_larger_and_evicts_as_much_as_it_must() {
    for name in [Name::SarkCache, Name::SarkPerCore] {
        compare(name, TimeToLive::Off, Reclaim::Prompt, &BYTES);
        compare(name, TimeToLive::Recorded, Reclaim::Prompt, &BYTES);
    }
    compare(Name::SarkCache, TimeToLive::Recorded, Reclaim::Lazy, &BYTES);
}

#[test]
fn a_set_that_is_too_large_takes_the_older_value_along_whenever_the_dead_leave() {
    let request = |operation, size| Request { at: 0, key: 1, ttl: Some(1_000_000_000), size, operation };
    let get = request(Operation::Get, 5);
    let requests = vec![get, request(Operation::Set, 1000), get, get];
    for reclaim in [Reclaim::Prompt, Reclaim::Lazy] {
        let trace = Trace { name: "large".into(), requests: requests.clone(), names: Vec::new() };
        let question = question(trace, TimeToLive::Recorded, reclaim, true);
        let outcome = counted(Name::SarkCache, &question, Capacity::Bytes(25));
        assert_eq!((outcome.hits, outcome.misses), (1, 2), "{reclaim:?}");
    }
}

#[test]
fn an_hour_of_oltp_has_its_known_lru_hits() {
    let Some(trace) = recorded("arc_oltp") else { return };
    assert_eq!(trace.requests.len(), 914_145);
    let question = question(trace, TimeToLive::Off, Reclaim::Prompt, false);
    let known = [(250, 150_591), (500, 214_325), (1000, 300_122), (2000, 388_235), (5000, 490_443), (10_000, 554_906)];
    for (capacity, hits) in known {
        let outcome = counted(Name::SarkCache, &question, Capacity::Entries(capacity));
        assert_eq!(outcome.hits, hits, "at {capacity}");
    }
    let capacity = Capacity::Entries(1000);
    assert_eq!(counted(Name::MutexLru, &question, capacity).hits, 300_122);
    assert_eq!(naive::replay(&question, capacity).hits, 300_122, "the reference");
}

#[test]
fn a_busy_application_has_its_known_lru_hits() {
    let Some(trace) = recorded("orm_busy") else { return };
    assert_eq!(trace.requests.len(), 5_000_000);
    let question = question(trace, TimeToLive::Off, Reclaim::Prompt, false);
    for (capacity, hits) in [(625, 3_541_981), (2500, 4_109_637), (10_000, 4_474_313)] {
        let outcome = counted(Name::SarkCache, &question, Capacity::Entries(capacity));
        assert_eq!(outcome.hits, hits, "at {capacity}");
    }
}

#[test]
fn dns_answers_whose_dead_leave_at_once_have_their_known_hits() {
    let Some(trace) = recorded("zeek_dns_dedup") else { return };
    assert_eq!(trace.requests.len(), 24_593);
    assert!(trace.has_text_keys() && trace.has_ttls());
    let question = question(trace, TimeToLive::Recorded, Reclaim::Prompt, false);
    for (capacity, hits) in [(16, 13_995), (64, 15_472), (256, 16_923), (1024, 17_070)] {
        let capacity = Capacity::Entries(capacity);
        let outcome = naive::replay(&question, capacity);
        assert_eq!((outcome.hits, outcome.expired), (hits, 0), "the reference at {capacity:?}");
        assert_eq!(counted(Name::SarkCache, &question, capacity), outcome, "{capacity:?}");
    }
}

#[test]
fn dns_answers_whose_dead_stay_until_touched_have_their_known_hits() {
    let Some(trace) = recorded("zeek_dns_dedup") else { return };
    let question = question(trace, TimeToLive::Recorded, Reclaim::Lazy, false);
    for (capacity, hits, expired) in [(16, 13_991, 5), (64, 15_455, 30), (256, 16_756, 420), (1024, 17_070, 1267)] {
        let capacity = Capacity::Entries(capacity);
        let outcome = naive::replay(&question, capacity);
        assert_eq!((outcome.hits, outcome.expired), (hits, expired), "the reference at {capacity:?}");
        for name in [Name::SarkCache, Name::MutexLru] {
            assert_eq!(counted(name, &question, capacity), outcome, "{name} at {capacity:?}");
        }
    }
}

#[test]
fn block_requests_bounded_in_bytes_have_their_known_misses() {
    let Some(trace) = recorded("lcs_w92head") else { return };
    assert_eq!(trace.requests.len(), 113_872);
    let question = question(trace, TimeToLive::Off, Reclaim::Prompt, true);
    for (mebibytes, misses) in [(128, 93_374), (512, 81_722), (1024, 71_704)] {
        let capacity = Capacity::Bytes(mebibytes << 20);
        let outcome = naive::replay(&question, capacity);
        assert_eq!(outcome.misses, misses, "the reference at {capacity:?}");
        assert_eq!(counted(Name::SarkCache, &question, capacity), outcome, "{capacity:?}");
    }
}
