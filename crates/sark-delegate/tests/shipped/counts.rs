//! The counts say how requests were served, and add up.

use std::sync::Arc;
use std::thread;

use crate::common::{Post, Room, adaptive, alone, block_on, hold, per_core, rooms};

#[test]
fn requests_to_idle_delegates_are_run_in_place() {
    let rooms = rooms(adaptive(), 2);
    rooms.run(0, |_| ());
    rooms.try_run(1, |_| ()).unwrap();
    rooms.run_each([0, 1].map(|index| (index, |_: &mut Room| ())).into()).unwrap();
    rooms.post(0, Post::Say(1));
    block_on(rooms.submit(1, |_| ()));
    let counts = rooms.counts();
    assert_eq!((counts.in_place, counts.delegated, counts.posted, counts.by_worker, counts.parked), (6, 0, 0, 0, 0));
}

#[test]
fn requests_under_per_core_are_messages_that_workers_serve() {
    let rooms = rooms(per_core(), 2);
    (0..10).for_each(|_| rooms.run(0, |_| ()));
    (0..10).for_each(|number| rooms.post(1, Post::Say(number)));
    block_on(rooms.submit(1, |_| ()));
    let counts = rooms.counts();
    assert_eq!((counts.in_place, counts.delegated, counts.posted, counts.by_worker), (0, 10, 11, 21));
}

#[test]
fn requests_to_a_busy_delegate_are_messages() {
    let rooms = rooms(alone(), 1);
    let held = hold(&rooms, 0);
    rooms.post(0, Post::Say(1));
    drop(rooms.submit(0, |_| ()));
    held.let_go();
    let counts = rooms.counts();
    assert_eq!((counts.in_place, counts.delegated, counts.posted, counts.by_worker), (1, 0, 2, 0));
}

#[cfg(all(target_os = "linux", not(miri)))]
mod linux {
    use super::*;
    use crate::common::asleep_over;

    under_both_dispatches! {
        fn a_caller_that_went_to_sleep_is_counted_as_parked(config) {
            let rooms = rooms(config, 1);
            let held = hold(&rooms, 0);
            let waiting = Arc::clone(&rooms);
            let caller = asleep_over(move || waiting.run(0, |_| ()));
            held.let_go();
            caller.join().unwrap();
            assert!(rooms.counts().parked >= 1);
        }
    }
}

under_both_dispatches! {
    fn every_request_is_counted_once(config) {
        let rooms = rooms(config, 3);
        let threads: Vec<_> = (0..4).map(|_| {
            let rooms = Arc::clone(&rooms);
            thread::spawn(move || for number in 0..500 {
                match number % 4 {
                    0 => rooms.post(number % 3, Post::Say(1)),
                    1 => block_on(rooms.submit(number % 3, |_| ())),
                    _ => rooms.run(number % 3, |_| ()),
                }
            })
        }).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // A call behind the last posts, so that they are served.
        (0..3).for_each(|index| rooms.run(index, |_| ()));
        let counts = rooms.counts();
        assert_eq!(counts.in_place + counts.delegated + counts.posted, 2003, "{counts:?}");
        assert!(counts.by_worker <= counts.delegated + counts.posted, "{counts:?}");
        assert!(counts.parked <= counts.delegated, "{counts:?}");
        assert_eq!(counts.panicked, 0);
    }
}
