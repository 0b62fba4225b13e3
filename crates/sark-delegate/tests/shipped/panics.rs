//! A panic reaches the caller whose request it was and no other, and the delegates stay usable.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::{Arc, mpsc};
use std::thread;

use sark_delegate::Delegates;

use crate::common::{OnDrop, Post, Room, adaptive, alone, block_on, hold, panic_text, receive, rooms, until};

fn caught<R>(work: impl FnOnce() -> R) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).map(|_| ()).expect_err("it should have panicked");
    panic_text(panic.as_ref())
}

under_both_dispatches! {
    fn a_panic_in_a_call_reaches_its_caller(config) {
        let rooms = rooms(config, 1);
        assert_eq!(caught(|| rooms.run(0, |_| -> u32 { panic!("mine") })), "mine");
        assert_eq!(caught(|| rooms.try_run(0, |_| -> u32 { panic!("mine too") })), "mine too");
        assert!(!sark_delegate::is_inside());
        assert_eq!(rooms.run(0, |_| 1), 1);
    }

    fn a_panic_in_a_message_reaches_its_caller_and_not_the_thread_that_runs_it(config) {
        let rooms = rooms(config, 1);
        let held = hold(&rooms, 0);
        let callers: Vec<_> = (0..6_u32).map(|number| {
            let rooms = Arc::clone(&rooms);
            thread::spawn(move || {
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    rooms.run(0, move |_| if number % 2 == 0 { panic!("number {number}") } else { number })
                }));
                match outcome {
                    Ok(result) => assert_eq!((result, number % 2), (number, 1)),
                    Err(panic) => assert_eq!(panic_text(panic.as_ref()), format!("number {number}")),
                }
            })
        }).collect();
        // Joins the holder too, which may have run them.
        held.let_go();
        for caller in callers {
            caller.join().unwrap();
        }
        assert_eq!(rooms.run(0, |_| 1), 1);
    }

    fn a_panic_in_a_batch_reaches_its_caller(config) {
        let rooms = rooms(config, 3);
        let request = |index: usize| (index, move |_: &mut Room| assert_ne!(index, 1, "not this one"));
        assert!(caught(|| rooms.run_each([0, 1, 2].map(request).into())).contains("not this one"));
        assert!((0..3).all(|index| rooms.run(index, |_| true)));
    }

    fn a_panic_in_a_submission_reaches_the_task_that_awaits_it_wherever_it_ran(config) {
        let rooms = rooms(config, 1);
        let submission = rooms.submit(0, |_| -> u32 { panic!("idle") });
        assert_eq!(caught(|| block_on(submission)), "idle");
        let held = hold(&rooms, 0);
        let submission = rooms.submit(0, |_| -> u32 { panic!("busy") });
        held.let_go();
        assert_eq!(caught(|| block_on(submission)), "busy");
        assert_eq!(rooms.run(0, |_| 1), 1);
    }

    fn a_panic_in_accept_by_message_is_counted_and_does_no_harm(config) {
        let rooms = rooms(config, 1);
        let held = hold(&rooms, 0);
        rooms.post(0, Post::Do(Box::new(|| panic!("a post's"))));
        rooms.post(0, Post::Say(1));
        held.let_go();
        assert_eq!(rooms.run(0, |room| room.said.clone()), [1]);
        assert_eq!(rooms.counts().panicked, 1);
    }

    fn a_panic_that_panics_when_it_is_dropped_does_no_harm(config) {
        let rooms = rooms(config, 1);
        let held = hold(&rooms, 0);
        rooms.post(0, Post::Do(Box::new(|| panic_any(OnDrop::new(|| panic!("again"))))));
        rooms.post(0, Post::Leave(OnDrop::new(|| panic_any(OnDrop::new(|| panic!("once more"))))));
        drop(rooms.submit(0, |_| -> () { panic_any(OnDrop::new(|| panic!("and again"))) }));
        rooms.post(0, Post::Say(1));
        held.let_go();
        assert_eq!(rooms.run(0, |room| room.said.clone()), [1]);
        until("they are counted", || rooms.counts().panicked >= 2);
    }

    fn a_panic_in_what_is_left_over_is_counted_and_does_no_harm(config) {
        let rooms = rooms(config, 1);
        let held = hold(&rooms, 0);
        rooms.post(0, Post::Leave(OnDrop::new(|| panic!("while it is dropped"))));
        rooms.post(0, Post::Say(1));
        held.let_go();
        assert_eq!(rooms.run(0, |room| room.said.clone()), [1]);
        until("it is counted", || rooms.counts().panicked == 1);
    }

    /// The states are dropped once the thread holds nothing: on a worker, too.
    fn a_panic_in_states_whose_handle_is_dropped_inside_is_counted_and_does_no_harm(config) {
        let rooms = rooms(config, 1);
        for number in 1..=20 {
            let bomb = Room { at_the_end: Some(OnDrop::new(|| panic!("a state's"))), ..Room::default() };
            let (end, ended) = mpsc::channel();
            let harmless = Room { at_the_end: Some(OnDrop::new(move || end.send(()).unwrap())), ..Room::default() };
            let doomed = [bomb, harmless].map(|room| Delegates::new(alone(), [room]).unwrap());
            rooms.run(0, move |_| drop(doomed));
            receive(&ended);
            until("it is counted", || rooms.counts().panicked == number);
        }
        assert_eq!(rooms.run(0, |_| 1), 1);
    }
}

#[test]
fn a_panic_in_a_post_that_runs_in_place_reaches_its_poster() {
    let rooms = rooms(adaptive(), 1);
    assert_eq!(caught(|| rooms.post(0, Post::Do(Box::new(|| panic!("mine"))))), "mine");
    assert_eq!(rooms.run(0, |_| 1), 1);
}

#[test]
fn messages_that_came_during_a_call_that_panics_are_served_by_it() {
    let rooms = rooms(alone(), 1);
    let inner = Arc::clone(&rooms);
    let panic = caught(|| {
        rooms.run(0, move |_| {
            thread::spawn({
                let inner = Arc::clone(&inner);
                move || (0..100).for_each(|number| inner.post(0, Post::Say(number)))
            })
            .join()
            .unwrap();
            panic!("on the way out");
        });
    });
    assert_eq!(panic, "on the way out");
    // No other thread was there to serve them.
    assert_eq!(rooms.counts().posted, 100);
}

#[cfg(all(target_os = "linux", not(miri)))]
mod linux {
    use super::*;
    use crate::common::asleep_over;

    under_both_dispatches! {
        fn the_others_of_a_batch_run_although_one_that_waits_panics(config) {
            let rooms = rooms(config, 3);
            let held: Vec<_> = (0..3).map(|index| hold(&rooms, index)).collect();
            let waiting = Arc::clone(&rooms);
            // No delegate is let go before the batch has sent all its requests and sleeps until they are
            // answered.
            let batch = asleep_over(move || {
                let request = |index: usize| (index, move |room: &mut Room| {
                    room.said.push(1);
                    assert_ne!(index, 1, "not this one");
                });
                caught(|| waiting.run_each([0, 1, 2].map(request).into()))
            });
            held.into_iter().for_each(crate::common::Held::let_go);
            assert!(batch.join().unwrap().contains("not this one"));
            assert!((0..3).all(|index| rooms.run(index, |room| room.said == [1])));
        }
    }
}
