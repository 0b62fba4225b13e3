//! The hand-over under the model checker: every interleaving, and every value that the memory model lets a
//! load see, up to the given number of preemptions.
//!
//! Run it with `RUSTFLAGS="--cfg loom" cargo test -p sark-delegate --test loom --release` (or `make loom`).
//! The state checks itself: loom's cells panic if two threads touch it without an order between them. A
//! missed wake-up shows as a deadlock, because loom reports a thread that sleeps for ever.
#![cfg(loom)]

use std::sync::Arc;

use loom::future::block_on;
use loom::thread;
use sark_delegate::{Barrier, Config, Delegates, Dispatch, Resident, Transport, TryError};

/// What it was told, in order.
#[derive(Default)]
struct Log(Vec<u32>);

impl Resident for Log {
    type Post = u32;
    type Leftovers = ();

    fn accept(&mut self, post: u32, _: &mut ()) {
        self.0.push(post);
    }
}

fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(body);
}

fn adaptive(mailbox: usize) -> Arc<Delegates<Log>> {
    let config = Config { workers: Some(0), mailbox, barrier: Some(Barrier::Membarrier), ..Config::default() };
    Arc::new(Delegates::new(config, [Log::default()]).unwrap())
}

fn per_core(transport: Transport, mailbox: usize) -> Arc<Delegates<Log>> {
    let config = Config { dispatch: Dispatch::PerCore, transport, pin: false, mailbox, ..Config::default() };
    Arc::new(Delegates::new(config, [Log::default()]).unwrap())
}

fn contents(log: &mut Log) -> Vec<u32> {
    log.0.clone()
}

#[test]
fn two_callers_never_run_a_delegate_at_once_and_both_get_their_answer() {
    model(3, || {
        let log = adaptive(2);
        let other = Arc::clone(&log);
        let thread = thread::spawn(move || other.run(0, |log| log.0.push(1)));
        log.run(0, |log| log.0.push(2));
        thread.join().unwrap();
        let mut seen = log.run(0, contents);
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
    });
}

#[test]
fn three_callers_never_run_a_delegate_at_once_and_all_get_their_answer() {
    model(2, || {
        let log = adaptive(2);
        let threads = [1, 2].map(|number| {
            let log = Arc::clone(&log);
            thread::spawn(move || log.run(0, |log| log.0.push(number)))
        });
        log.run(0, |log| log.0.push(3));
        for thread in threads {
            thread.join().unwrap();
        }
        let mut seen = log.run(0, contents);
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
    });
}

#[test]
fn a_caller_that_waits_for_a_slow_one_is_woken() {
    model(3, || {
        let log = adaptive(2);
        let other = Arc::clone(&log);
        let thread = thread::spawn(move || {
            other.run(0, |log| {
                thread::yield_now();
                log.0.push(1);
            });
        });
        // Before or after the other, but with an answer.
        assert!(log.run(0, |log| log.0.len()) <= 1);
        thread.join().unwrap();
    });
}

#[test]
fn a_post_is_never_left_behind_by_a_runner_that_is_leaving() {
    model(3, || {
        let log = adaptive(2);
        let other = Arc::clone(&log);
        let thread = thread::spawn(move || other.run(0, |log| log.0.push(1)));
        log.post(0, 2);
        thread.join().unwrap();
        // No thread comes after them to clear up: what the two left is all there is.
        assert_eq!(
            log.counts().in_place + log.counts().posted + log.counts().delegated,
            2,
            "a message was left behind"
        );
    });
}

#[test]
fn two_posts_to_a_busy_delegate_are_never_left_behind() {
    model(2, || {
        let log = adaptive(4);
        let threads = [1, 2].map(|number| {
            let log = Arc::clone(&log);
            thread::spawn(move || log.post(0, number))
        });
        log.run(0, |log| log.0.push(3));
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(
            log.counts().in_place + log.counts().posted + log.counts().delegated,
            3,
            "a message was left behind"
        );
    });
}

#[test]
fn a_call_that_starts_after_a_post_returned_sees_it() {
    model(3, || {
        let log = adaptive(2);
        let other = Arc::clone(&log);
        let thread = thread::spawn(move || {
            other.run(0, |log| {
                thread::yield_now();
                log.0.push(9);
            });
        });
        log.post(0, 1);
        assert!(log.run(0, contents).contains(&1));
        thread.join().unwrap();
    });
}

#[test]
fn a_call_that_starts_after_a_post_returned_sees_it_although_others_post_too() {
    model(2, || {
        let log = adaptive(4);
        let others = [8, 9].map(|number| {
            let log = Arc::clone(&log);
            thread::spawn(move || log.post(0, number))
        });
        log.post(0, 1);
        assert!(log.run(0, contents).contains(&1));
        for thread in others {
            thread.join().unwrap();
        }
    });
}

/// The other poster may have sent first and not counted yet: its message must not be taken for ours.
#[test]
fn a_call_sees_a_post_that_was_made_while_the_delegate_was_held_although_others_post_too() {
    model(2, || {
        let log = adaptive(4);
        let entered = log.enter(0).unwrap();
        let other = Arc::clone(&log);
        let thread = thread::spawn(move || other.post(0, 9));
        log.post(0, 1);
        drop(entered);
        assert!(log.run(0, contents).contains(&1));
        thread.join().unwrap();
    });
}

#[test]
fn requests_of_one_caller_run_in_the_order_of_its_calls() {
    model(2, || {
        let log = adaptive(4);
        let other = Arc::clone(&log);
        let thread = thread::spawn(move || other.run(0, |log| log.0.push(9)));
        log.post(0, 1);
        log.post(0, 2);
        log.run(0, |log| log.0.push(3));
        thread.join().unwrap();
        let mut seen = log.run(0, contents);
        seen.retain(|&number| number != 9);
        assert_eq!(seen, [1, 2, 3]);
    });
}

#[test]
fn a_full_mailbox_makes_posters_wait_and_loses_nothing() {
    model(2, || {
        let log = adaptive(1);
        let other = Arc::clone(&log);
        let thread = thread::spawn(move || {
            other.post(0, 1);
            other.post(0, 2);
        });
        log.run(0, |log| log.0.push(3));
        thread.join().unwrap();
        let mut seen = log.run(0, contents);
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
    });
}

#[test]
fn a_post_in_flight_is_served_although_the_workers_are_shut_down() {
    model(2, || {
        let log = per_core(Transport::Channel, 2);
        log.run(0, |log| log.0.push(0));
        let other = Arc::clone(&log);
        let thread = thread::spawn(move || other.post(0, 1));
        log.shutdown();
        thread.join().unwrap();
        assert_eq!(log.run(0, contents), [0, 1]);
    });
}

#[test]
fn a_submission_is_answered_and_wakes_who_awaits_it() {
    model(2, || {
        let log = adaptive(2);
        let other = Arc::clone(&log);
        let thread = thread::spawn(move || other.run(0, |log| log.0.push(1)));
        let length = block_on(log.submit(0, |log| {
            log.0.push(2);
            log.0.len()
        }));
        assert!(length == 1 || length == 2);
        thread.join().unwrap();
    });
}

#[test]
fn a_submission_to_a_full_mailbox_is_told_when_there_is_room() {
    model(2, || {
        let log = adaptive(1);
        let other = Arc::clone(&log);
        let thread = thread::spawn(move || {
            other.run(0, |log| {
                thread::yield_now();
                log.0.push(1);
            });
        });
        log.post(0, 2);
        block_on(log.submit(0, |log| log.0.push(3)));
        thread.join().unwrap();
        let mut seen = log.run(0, contents);
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
    });
}

#[test]
fn under_per_core_a_submission_to_a_full_mailbox_is_told_when_there_is_room() {
    model(2, || {
        let log = per_core(Transport::Channel, 1);
        log.post(0, 2);
        block_on(log.submit(0, |log| log.0.push(3)));
        log.shutdown();
        assert_eq!(log.run(0, contents), [2, 3]);
    });
}

#[test]
fn dropping_the_future_of_an_accepted_submission_does_not_take_it_back() {
    model(3, || {
        let log = adaptive(2);
        let other = Arc::clone(&log);
        let thread = thread::spawn(move || other.run(0, |log| log.0.push(1)));
        let submission = log.submit(0, |log| log.0.push(2));
        assert!(submission.is_accepted());
        drop(submission);
        thread.join().unwrap();
        let mut seen = log.run(0, contents);
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
    });
}

#[test]
fn waiting_from_inside_fails_and_posting_from_inside_does_not() {
    model(2, || {
        let log = adaptive(1);
        let other = Arc::clone(&log);
        let thread = thread::spawn(move || {
            let inner = Arc::clone(&other);
            other.run(0, move |log| {
                log.0.push(1);
                let refused = inner.try_run(0, |_| ()).expect_err("the delegate is held");
                assert_eq!(refused.reason, TryError::Reentrant);
                inner.post(0, 2);
                inner.post(0, 3);
            });
        });
        log.run(0, |log| log.0.push(4));
        thread.join().unwrap();
        let mut seen = log.run(0, contents);
        seen.retain(|&number| number != 4);
        assert_eq!(seen, [1, 2, 3]);
    });
}

#[test]
fn requests_on_several_delegates_are_waited_for_together() {
    model(2, || {
        let config = Config { workers: Some(0), mailbox: 2, ..Config::default() };
        let logs = Arc::new(Delegates::new(config, [Log::default(), Log::default()]).unwrap());
        let other = Arc::clone(&logs);
        let thread = thread::spawn(move || other.run(1, |log| log.0.push(1)));
        let push = |number: u32| {
            move |log: &mut Log| {
                log.0.push(number);
                number
            }
        };
        assert_eq!(logs.run_each(vec![(1, push(2)), (0, push(3))]), Ok(vec![2, 3]));
        thread.join().unwrap();
    });
}

/// A runner may take a caller's message out before the caller has counted it. The caller's count then stands
/// for a post that came later, whose sender relies on the one that counted first.
#[test]
fn a_waiter_whose_count_stands_for_a_post_sees_to_it() {
    model(2, || {
        let log = adaptive(4);
        let caller = Arc::clone(&log);
        let caller = thread::spawn(move || caller.run(0, |log| log.0.push(1)));
        let poster = Arc::clone(&log);
        let poster = thread::spawn(move || poster.post(0, 2));
        log.run(0, |log| log.0.push(3));
        caller.join().unwrap();
        poster.join().unwrap();
        assert_eq!(
            log.counts().in_place + log.counts().posted + log.counts().delegated,
            3,
            "a message was left behind"
        );
    });
}

#[test]
fn two_batches_over_the_same_delegates_are_both_answered() {
    model(2, || {
        let config = Config { workers: Some(0), mailbox: 1, ..Config::default() };
        let logs = Arc::new(Delegates::new(config, [Log::default(), Log::default()]).unwrap());
        let batch = |order: [usize; 2]| order.map(|index| (index, move |log: &mut Log| log.0.push(1))).into();
        let other = Arc::clone(&logs);
        let thread = thread::spawn(move || other.run_each(batch([1, 0])).unwrap());
        logs.run_each(batch([0, 1])).unwrap();
        thread.join().unwrap();
        assert_eq!([0, 1].map(|index| logs.run(index, |log| log.0.len())), [2, 2]);
    });
}

#[test]
fn what_comes_while_several_delegates_are_held_is_served() {
    model(2, || {
        let config = Config { workers: Some(0), mailbox: 1, ..Config::default() };
        let logs = Arc::new(Delegates::new(config, [Log::default(), Log::default()]).unwrap());
        let other = Arc::clone(&logs);
        let thread = thread::spawn(move || {
            other.post(1, 10);
            other.run(0, |log| log.0.push(1));
        });
        let mut several = logs.enter_several([0, 1]);
        for place in 0..2 {
            several.run(place, |log| log.0.push(2));
        }
        drop(several);
        thread.join().unwrap();
        assert_eq!(logs.run(0, |log| log.0.iter().filter(|&&said| said == 1).count()), 1);
        assert_eq!(logs.run(1, |log| log.0.iter().filter(|&&said| said == 10).count()), 1);
    });
}

/// Models with worker threads, each for both ways in which waiting requests reach them. There is one slot
/// here, so if two call at once, one may have to use the mailbox.
macro_rules! with_both_transports {
    ($($(#[$meta:meta])* fn $name:ident($transport:ident) $body:block)+) => {
        mod channel {
            #[allow(unused_imports)]
            use super::*;
            $($(#[$meta])* #[test] fn $name() { let $transport = Transport::Channel; $body })+
        }
        mod slots {
            #[allow(unused_imports)]
            use super::*;
            $($(#[$meta])* #[test] fn $name() { let $transport = Transport::Slots; $body })+
        }
    };
}

with_both_transports! {
    /// Nothing is announced under `PerCore`: the mailbox alone keeps the order.
    fn a_call_that_starts_after_a_post_returned_sees_it_although_others_post_too(transport) {
        model(2, move || {
            let log = per_core(transport, 4);
            let other = Arc::clone(&log);
            let thread = thread::spawn(move || other.post(0, 9));
            log.post(0, 1);
            assert!(log.run(0, contents).contains(&1));
            thread.join().unwrap();
            assert_eq!(log.run(0, contents).len(), 2);
            log.shutdown();
        });
    }

    /// Callers serve themselves then, and one may have taken out what another has not counted yet.
    fn after_the_workers_are_shut_down_two_callers_are_answered(transport) {
        model(3, move || {
            let log = per_core(transport, 2);
            log.shutdown();
            let other = Arc::clone(&log);
            let thread = thread::spawn(move || {
                other.run(0, |log| log.0.push(1));
            });
            log.run(0, |log| log.0.push(2));
            thread.join().unwrap();
            assert_eq!(log.run(0, contents).len(), 2);
        });
    }

    fn a_worker_serves_a_caller_that_sleeps(transport) {
        model(2, move || {
            let log = per_core(transport, 2);
            log.run(0, |log| log.0.push(1));
            assert_eq!(log.run(0, contents), [1]);
            log.shutdown();
            assert_eq!(log.threads(), 0);
        });
    }

    fn a_worker_serves_two_callers(transport) {
        model(2, move || {
            let log = per_core(transport, 2);
            let other = Arc::clone(&log);
            let thread = thread::spawn(move || other.run(0, |log| log.0.push(1)));
            log.run(0, |log| log.0.push(2));
            thread.join().unwrap();
            log.shutdown();
            let mut seen = log.run(0, contents);
            seen.sort_unstable();
            assert_eq!(seen, [1, 2]);
        });
    }

    /// There is one slot. The caller that finds it in use must leave it to the one whose request is in it, or
    /// the third may put another request in its place.
    fn a_worker_serves_three_callers(transport) {
        model(0, move || {
            let log = per_core(transport, 4);
            let others = [1, 2].map(|number| {
                let log = Arc::clone(&log);
                thread::spawn(move || log.run(0, move |log| log.0.push(number)))
            });
            log.run(0, |log| log.0.push(3));
            for other in others {
                other.join().unwrap();
            }
            let mut seen = log.run(0, contents);
            seen.sort_unstable();
            assert_eq!(seen, [1, 2, 3]);
        });
    }

    fn a_request_in_flight_is_answered_although_the_workers_are_shut_down(transport) {
        model(2, move || {
            let log = per_core(transport, 2);
            // The worker is there, so that it may end just when the next request comes.
            log.run(0, |log| log.0.push(0));
            let other = Arc::clone(&log);
            let thread = thread::spawn(move || other.run(0, |log| log.0.push(1)));
            log.shutdown();
            thread.join().unwrap();
            assert_eq!(log.run(0, contents), [0, 1]);
        });
    }

    /// Other callers' code on a worker may wait for the very delegate that the worker serves.
    fn what_a_worker_drops_may_call_its_own_delegate(transport) {
        struct Calls(Arc<Delegates<Log>>);
        impl Drop for Calls {
            fn drop(&mut self) {
                self.0.run(0, |log| log.0.push(2));
            }
        }
        model(2, move || {
            let log = per_core(transport, 2);
            let inner = Arc::clone(&log);
            // No caller awaits the answer, so the worker drops it.
            drop(log.submit(0, move |log| {
                log.0.push(1);
                Calls(inner)
            }));
            // Waits for the worker, which may be in that code.
            log.run(0, |_| ());
            log.shutdown();
            assert_eq!(log.run(0, contents), [1, 2]);
        });
    }
}
