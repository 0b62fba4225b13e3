//! What it costs to have a request served, by which thread serves it.
//!
//! Run it with `cargo bench -p sark-delegate`. Nanoseconds depend on the machine's state: compare within one
//! run, or with a saved baseline (`-- --save-baseline before`, then `-- --baseline before`).

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sark_delegate::{Barrier, Config, Delegates, Dispatch, Resident, Transport};

struct Counter(u64);

impl Resident for Counter {
    type Post = u64;
    type Leftovers = ();

    fn accept(&mut self, more: u64, _: &mut ()) {
        self.0 += more;
    }
}

fn delegates(config: Config) -> Delegates<Counter> {
    match Delegates::new(Config { mailbox: 1024, ..config }, [Counter(0)]) {
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
    let adaptive = Config::default;
    let per_core = || Config { dispatch: Dispatch::PerCore, ..Config::default() };
    for (name, config) in [
        ("in place, membarrier or fences", adaptive()),
        ("in place, fences", Config { barrier: Some(Barrier::Fences), ..adaptive() }),
        ("by message to a pinned worker", per_core()),
        ("through a slot to a pinned worker", Config { transport: Transport::Slots, ..per_core() }),
    ] {
        let delegates = delegates(config);
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
        let delegates = delegates(Config { dispatch, ..Config::default() });
        group.bench_function(name, |bencher| bencher.iter(|| delegates.post(0, black_box(1))));
    }
    group.finish();
}

criterion_group!(benches, round_trips, posts);
criterion_main!(benches);
