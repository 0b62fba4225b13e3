//! What it costs to have a request served, by who serves it.
//!
//! `cargo bench -p sark-delegate`. Nanoseconds depend on the machine's mood: compare within one run, or with a saved
//! baseline (`-- --save-baseline before`, then `-- --baseline before`).

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sark_delegate::{Barrier, Config, Delegates, Dispatch, Resident};

struct Counter(u64);

impl Resident for Counter {
    type Post = u64;
    type Leftovers = ();

    fn accept(&mut self, more: u64, _: &mut ()) {
        self.0 += more;
    }
}

fn delegates(dispatch: Dispatch, barrier: Option<Barrier>) -> Delegates<Counter> {
    let config = Config { dispatch, barrier, mailbox: 1024, ..Config::default() };
    match Delegates::new(config, [Counter(0)]) {
        Ok(delegates) => delegates,
        Err(error) => panic!("{error}"),
    }
}

fn round_trips(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round trip");
    group.throughput(Throughput::Elements(1));

    let mut bare = Counter(0);
    group.bench_function("bare state", |bencher| {
        bencher.iter(|| {
            bare.0 += black_box(1);
            bare.0
        });
    });
    let mutex = std::sync::Mutex::new(Counter(0));
    group.bench_function("std mutex", |bencher| {
        bencher.iter(|| {
            let mut counter = mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            counter.0 += black_box(1);
            counter.0
        });
    });
    for (name, dispatch, barrier) in [
        ("in place, membarrier or fences", Dispatch::Adaptive, None),
        ("in place, fences", Dispatch::Adaptive, Some(Barrier::Fences)),
        ("by message to a pinned worker", Dispatch::PerCore, None),
    ] {
        let delegates = delegates(dispatch, barrier);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                delegates.run(0, |counter| {
                    counter.0 += black_box(1);
                    counter.0
                })
            });
        });
    }
    group.finish();
}

fn posts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("post");
    group.throughput(Throughput::Elements(1));
    for (name, dispatch) in [("in place", Dispatch::Adaptive), ("to a pinned worker", Dispatch::PerCore)] {
        let delegates = delegates(dispatch, None);
        group.bench_function(name, |bencher| bencher.iter(|| delegates.post(0, black_box(1))));
    }
    group.finish();
}

criterion_group!(benches, round_trips, posts);
criterion_main!(benches);
