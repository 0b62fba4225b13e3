//! Endings: what was accepted is served, threads are joined, and no user code can hang us on the way.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use sark_delegate::{Config, Delegates};

use crate::common::{OnDrop, Post, Room, block_on, hold, per_core, receive, rooms, until};

under_both_dispatches! {
    fn shutdown_serves_what_was_accepted_and_ends_the_threads(config) {
        let rooms = rooms(config, 2);
        rooms.wake_in(0, Duration::from_secs(3600));
        (0..100).for_each(|number| rooms.post(number as usize % 2, Post::Say(number)));
        rooms.shutdown();
        assert_eq!(rooms.threads(), 0);
        let counts = rooms.counts();
        assert_eq!(counts.in_place + counts.posted, 100);
        rooms.shutdown();
    }

    fn requests_after_a_shutdown_are_run_by_their_callers(config) {
        let rooms = rooms(config, 2);
        rooms.run(0, |room| room.said.push(1));
        rooms.shutdown();
        rooms.post(0, Post::Say(2));
        block_on(rooms.submit(0, |room| room.said.push(3)));
        rooms.run_each([0, 1].map(|index| (index, |room: &mut Room| room.said.push(4))).into()).unwrap();
        rooms.wake_in(0, Duration::ZERO);
        assert_eq!(rooms.run(0, |room| room.said.clone()), [1, 2, 3, 4]);
        assert_eq!(rooms.threads(), 0);
    }

    fn shutdown_leaves_no_waiter_behind(config) {
        let rooms = rooms(Config { mailbox: 2, ..config }, 2);
        let callers: Vec<_> = (0..4).map(|_| {
            let rooms = Arc::clone(&rooms);
            thread::spawn(move || for number in 0..500 {
                rooms.run(number % 2, |room| room.said.push(1));
                rooms.post(number % 2, Post::Say(1));
                block_on(rooms.submit(number % 2, |room| room.said.push(1)));
            })
        }).collect();
        until("they are at it", || rooms.counts().posted + rooms.counts().in_place > 100);
        rooms.shutdown();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert_eq!((0..2).map(|index| rooms.run(index, |room| room.said.len())).sum::<usize>(), 6000);
    }

    fn dropping_the_last_handle_serves_what_was_accepted(config) {
        let (end, ended) = mpsc::channel();
        let room = Room { at_the_end: Some(OnDrop::new(move || end.send(()).unwrap())), ..Room::default() };
        let rooms = Delegates::new(config, [room]).unwrap();
        let (served, count) = mpsc::channel();
        for _ in 0..100 {
            let served = served.clone();
            rooms.post(0, Post::Do(Box::new(move || served.send(()).unwrap())));
        }
        drop(rooms);
        assert_eq!(count.try_iter().count(), 100);
        // The threads are joined, so no thread has the states any more.
        ended.try_recv().expect("a state outlived its last handle");
    }

    /// Dropping what a post left over is other callers' code: it may use the delegates, even on a worker.
    fn what_is_left_over_may_call_the_delegates_when_it_is_dropped(config) {
        let rooms = rooms(Config { mailbox: 2, ..config }, 2);
        let (answer, answers) = mpsc::channel();
        let held = hold(&rooms, 0);
        let inner = Arc::clone(&rooms);
        rooms.post(0, Post::Leave(OnDrop::new(move || {
            let seen = [0, 1].map(|index| inner.run(index, |room| room.said.len()));
            (0..20).for_each(|number| inner.post(0, Post::Say(number)));
            block_on(inner.submit(0, |room| room.said.push(20)));
            inner.run_each([0, 1].map(|index| (index, |_: &mut Room| ())).into()).unwrap();
            answer.send((seen, inner.run(0, |room| room.said.len()))).unwrap();
        })));
        held.let_go();
        assert_eq!(receive(&answers), ([0, 0], 21));
    }

    /// Two workers, each in other callers' code that waits for the other worker.
    fn what_two_workers_drop_may_call_each_others_delegates(config) {
        let rooms = rooms(config, 2);
        let (answer, answers) = mpsc::channel();
        let meeting = Arc::new(std::sync::Barrier::new(2));
        let held = [hold(&rooms, 0), hold(&rooms, 1)];
        for index in 0..2 {
            let (inner, answer, meeting) = (Arc::clone(&rooms), answer.clone(), Arc::clone(&meeting));
            rooms.post(index, Post::Leave(OnDrop::new(move || {
                meeting.wait();
                answer.send(inner.run(1 - index, |_| true)).unwrap();
            })));
        }
        held.into_iter().for_each(|held| held.signal().send(()).unwrap());
        assert!(receive(&answers) && receive(&answers));
    }

    fn delegates_work_while_thread_locals_are_destroyed(config) {
        thread_local! {
            static AT_EXIT: std::cell::RefCell<Option<OnDrop>> = const { std::cell::RefCell::new(None) };
        }
        let rooms = rooms(config, 1);
        let (done, ended) = mpsc::channel();
        let held = hold(&rooms, 0);
        let thread = thread::spawn({
            let rooms = Arc::clone(&rooms);
            move || AT_EXIT.with(|slot| *slot.borrow_mut() = Some(OnDrop::new(move || {
                rooms.post(0, Post::Say(1));
                let submission = rooms.submit(0, |room| room.said.push(2));
                done.send(()).unwrap();
                rooms.run(0, |room| room.said.push(3));
                drop(submission);
                let inner = Arc::clone(&rooms);
                rooms.run(0, move |_| inner.post(0, Post::Say(4)));
                done.send(()).unwrap();
            })))
        });
        receive(&ended);
        held.let_go();
        receive(&ended);
        thread.join().unwrap();
        until("they came", || rooms.run(0, |room| room.said == [1, 2, 3, 4]));
    }
}

/// The last handle may go with a request that a worker runs, or with what that leaves over. No worker waits
/// for itself, or for another one that may be waiting for it.
#[test]
fn the_last_handle_may_be_dropped_on_a_worker() {
    for inside in [true, false] {
        let (end, ended) = mpsc::channel();
        let room = || {
            let end = end.clone();
            Room { at_the_end: Some(OnDrop::new(move || end.send(()).unwrap())), ..Room::default() }
        };
        let rooms = Arc::new(Delegates::new(per_core(), [room(), room()]).unwrap());
        (0..2).for_each(|index| rooms.run(index, |_| ()));
        let held = hold(&rooms, 0);
        let last = Arc::clone(&rooms);
        let drop_it = move || {
            until("it is the last", || Arc::strong_count(&last) == 1);
            drop(last);
        };
        rooms.post(0, if inside { Post::Do(Box::new(drop_it)) } else { Post::Leave(OnDrop::new(drop_it)) });
        drop(rooms);
        held.let_go();
        receive(&ended);
        receive(&ended);
    }
}

/// A caller that waits for a delegate may hold a lock that other callers' code takes on the way.
#[cfg(all(target_os = "linux", not(miri)))]
mod linux {
    use std::sync::Mutex;

    use super::*;
    use crate::common::{Rooms, asleep_over};

    /// Posts something whose `Drop` takes the lock, then `fill` more posts. With many of them, the caller's
    /// request is behind what a runner serves at once.
    fn a_caller_with_a_lock_is_answered(rooms: &Rooms, fill: u32) {
        let lock = Arc::new(Mutex::new(()));
        let (dropped, gone) = mpsc::channel();
        let held = hold(rooms, 0);
        let taken = Arc::clone(&lock);
        rooms.post(
            0,
            Post::Leave(OnDrop::new(move || {
                drop(taken.lock());
                dropped.send(()).unwrap();
            })),
        );
        (0..fill).for_each(|number| rooms.post(0, Post::Say(number)));
        let waiting = Arc::clone(rooms);
        let caller = asleep_over(move || {
            let _lock = lock.lock();
            waiting.run(0, |_| ());
        });
        held.signal().send(()).unwrap();
        receive(&gone);
        caller.join().unwrap();
        held.join();
    }

    under_both_dispatches! {
        fn what_is_left_over_may_take_a_lock_that_a_waiting_caller_holds(config) {
            let rooms = rooms(config, 1);
            (0..3).for_each(|_| a_caller_with_a_lock_is_answered(&rooms, 100));
            (0..3).for_each(|_| a_caller_with_a_lock_is_answered(&rooms, 0));
        }
    }

    #[test]
    fn what_is_left_over_may_take_a_lock_that_a_waiting_caller_holds_with_no_workers() {
        let rooms = rooms(crate::common::alone(), 1);
        (0..3).for_each(|_| a_caller_with_a_lock_is_answered(&rooms, 100));
    }
}
