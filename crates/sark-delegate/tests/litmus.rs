//! The shipped barriers and the real channel, hammered: what the model checker can't see.
//!
//! Many threads use few delegates with every kind of request, for a bounded number of operations. Nothing may
//! be lost, no thread may be left asleep (a watchdog reports how far each got), and each caller's requests
//! run in order. `SARK_STRESS=N` does N times as much.
#![cfg(not(loom))]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use sark_delegate::{Barrier, Config, Delegates, Dispatch, Resident, Submission, Transport};

const THREADS: u64 = 6;
const DELEGATES: usize = 2;

/// How much to do: more on demand.
fn operations(at_least: u64) -> u64 {
    let times = std::env::var("SARK_STRESS").ok().and_then(|times| times.parse::<u64>().ok()).unwrap_or(1);
    // An interpreter has the patience for this much.
    if cfg!(miri) { 6 } else { at_least * times.max(1) }
}

/// Knows the last number of each caller, and counts those that don't grow.
struct Ledger {
    last: [u64; THREADS as usize],
    served: u64,
    out_of_order: u64,
}

impl Ledger {
    fn note(&mut self, caller: u64, number: u64) {
        let last = &mut self.last[usize::try_from(caller).unwrap()];
        self.out_of_order += u64::from(number <= *last);
        *last = number;
        self.served += 1;
    }
}

impl Resident for Ledger {
    type Post = (u64, u64);
    type Leftovers = ();

    fn accept(&mut self, (caller, number): (u64, u64), _: &mut ()) {
        self.note(caller, number);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// A small generator: each caller has a seed, and with it a sequence of its own.
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

fn hammer(config: Config, per_thread: u64) {
    let ledger = || Ledger { last: [0; THREADS as usize], served: 0, out_of_order: 0 };
    let what = format!("{config:?}");
    let group = Arc::new(Delegates::new(config, (0..DELEGATES).map(|_| ledger())).unwrap());
    let progress: Arc<Vec<AtomicU64>> = Arc::new((0..THREADS).map(|_| AtomicU64::new(0)).collect());
    let threads: Vec<_> = (0..THREADS)
        .map(|caller| {
            let (group, progress) = (Arc::clone(&group), Arc::clone(&progress));
            thread::spawn(move || {
                let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ (caller + 1);
                // Accepted and not awaited yet. They run in order with the rest, since they are accepted.
                let mut submissions: Vec<Submission<'_, Ledger, ()>> = Vec::new();
                for number in 1..=per_thread {
                    let random = next(&mut random);
                    let index = usize::try_from(random >> 32).unwrap() % DELEGATES;
                    match random % 8 {
                        0..=2 => group.run(index, |ledger| ledger.note(caller, number)),
                        3..=5 => group.post(index, (caller, number)),
                        6 => {
                            let submission = group.submit(index, move |ledger| ledger.note(caller, number));
                            if submission.is_accepted() {
                                submissions.push(submission);
                            } else {
                                block_on(submission);
                            }
                        }
                        _ => {
                            let mut seen = 0;
                            let mut last = 0;
                            group.run(index, |ledger| {
                                ledger.note(caller, number);
                                (seen, last) = (ledger.served, ledger.last[usize::try_from(caller).unwrap()]);
                            });
                            assert!(seen > 0 && last == number, "the answer is not that of this request");
                        }
                    }
                    if submissions.len() > 16 {
                        submissions.drain(..).for_each(block_on);
                    }
                    progress[usize::try_from(caller).unwrap()].store(number, Ordering::Relaxed);
                }
                submissions.drain(..).for_each(block_on);
            })
        })
        .collect();
    // A thread that is left asleep makes no more progress, and neither do those that wait for it.
    let state = || progress.iter().map(|number| number.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let (mut before, mut since) = (state(), Instant::now());
    while !threads.iter().all(thread::JoinHandle::is_finished) {
        thread::sleep(Duration::from_millis(5));
        let now = state();
        if now != before {
            (before, since) = (now, Instant::now());
        }
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "nobody got on for a minute: {before:?} of {per_thread}, {what}"
        );
    }
    for thread in threads {
        thread.join().unwrap();
    }
    // No thread comes after them to clear up, except those that must.
    let total = THREADS * per_thread;
    let counted = || {
        let counts = group.counts();
        counts.in_place + counts.delegated + counts.posted
    };
    let began = Instant::now();
    while counted() != total {
        assert!(began.elapsed() < Duration::from_secs(60), "{} of {total} served, {what}", counted());
        thread::yield_now();
    }
    let sums = (0..DELEGATES).map(|index| group.run(index, |ledger| (ledger.served, ledger.out_of_order)));
    let (served, out_of_order) = sums.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!((served, out_of_order), (total, 0), "{what}");
}

fn config(barrier: Barrier, workers: usize, mailbox: usize) -> Config {
    Config { workers: Some(workers), mailbox, barrier: Some(barrier), ..Config::default() }
}

#[test]
fn nothing_is_lost_with_fences_among_callers() {
    hammer(config(Barrier::Fences, 0, 64), operations(40_000));
}

#[test]
fn nothing_is_lost_with_the_barrier_of_the_process_among_callers() {
    hammer(config(Barrier::Membarrier, 0, 64), operations(40_000));
}

#[test]
fn nothing_is_lost_with_tiny_mailboxes() {
    for barrier in [Barrier::Fences, Barrier::Membarrier] {
        hammer(config(barrier, 0, 1), operations(6_000));
        hammer(config(barrier, 1, 2), operations(6_000));
    }
}

#[test]
fn nothing_is_lost_with_a_worker_that_helps() {
    for barrier in [Barrier::Fences, Barrier::Membarrier] {
        hammer(config(barrier, 1, 64), operations(20_000));
    }
}

#[test]
fn nothing_is_lost_between_callers_and_workers_of_their_own() {
    for transport in [Transport::Channel, Transport::Slots] {
        for mailbox in [1, 64] {
            let config = Config { dispatch: Dispatch::PerCore, transport, ..config(Barrier::Fences, 2, mailbox) };
            hammer(config, operations(6_000));
        }
    }
}
