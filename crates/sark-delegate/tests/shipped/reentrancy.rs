//! Waiting from inside a request fails at once and always; posting doesn't.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::time::Duration;

use sark_delegate::{Config, Delegates, TryError, is_inside};

use crate::common::{OnDrop, Post, Room, Rooms, adaptive, block_on, hold, panic_text, per_core, receive, rooms, until};

/// Tries every waiting call on the delegate that is running, on another one, and on another group.
fn assert_that_nothing_waits(rooms: &Rooms, other: &Rooms) {
    assert!(is_inside());
    for (rooms, index) in [(rooms, 0), (rooms, 1), (other, 0), (other, 1)] {
        let panics = |work: &mut dyn FnMut()| {
            let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("it waited");
            assert_eq!(panic_text(panic.as_ref()), TryError::Reentrant.to_string());
        };
        let refused = rooms.try_run(index, |_| 1).expect_err("it waited");
        assert_eq!(refused.reason, TryError::Reentrant);
        assert_eq!((refused.request)(&mut Room::default()), 1);
        assert_eq!(rooms.run_each(vec![(index, |_: &mut Room| ())]), Err(TryError::Reentrant));
        panics(&mut || rooms.run(index, |_| ()));
        panics(&mut || rooms.shutdown());
        panics(&mut || {
            let mut submission = rooms.submit(index, |_| ());
            let _ = std::pin::Pin::new(&mut submission).poll(&mut Context::from_waker(Waker::noop()));
        });
        rooms.post(index, Post::Say(1));
        assert!(is_inside());
    }
}

under_both_dispatches! {
    fn nothing_waits_inside_a_call_however_it_is_run(config) {
        let (rooms, other) = (rooms(config.clone(), 2), rooms(config, 2));
        let (inner, others) = (Arc::clone(&rooms), Arc::clone(&other));
        rooms.run(0, move |_| assert_that_nothing_waits(&inner, &others));
        let held = hold(&rooms, 0);
        let caller = std::thread::spawn({
            let (rooms, other) = (Arc::clone(&rooms), Arc::clone(&other));
            move || rooms.clone().run(0, move |_| assert_that_nothing_waits(&rooms, &other))
        });
        held.let_go();
        caller.join().unwrap();
        assert!(!is_inside());
        for group in [&rooms, &other] {
            for index in 0..2 {
                until("the posts came", || group.run(index, |room| room.said.len()) == 2);
            }
        }
    }

    fn nothing_waits_inside_a_batch_a_submission_or_a_post(config) {
        let (rooms, other) = (rooms(config.clone(), 2), rooms(config, 2));
        let work = || {
            let (rooms, other) = (Arc::clone(&rooms), Arc::clone(&other));
            move || assert_that_nothing_waits(&rooms, &other)
        };
        let in_batch = work();
        rooms.run_each(vec![(0, move |_: &mut Room| in_batch())]).unwrap();
        let in_submission = work();
        block_on(rooms.submit(0, move |_| in_submission()));
        rooms.post(0, Post::Do(Box::new(work())));
        rooms.run(0, |_| ());
        assert_eq!(rooms.counts().panicked, 0);
    }

    fn nothing_waits_inside_maintenance(config) {
        let (rooms, other) = (rooms(config.clone(), 2), rooms(config, 2));
        let (done, tended) = mpsc::channel();
        let (inner, others) = (Arc::downgrade(&rooms), Arc::clone(&other));
        rooms.run(0, move |room| {
            room.tending = Some(Box::new(move || {
                assert_that_nothing_waits(&inner.upgrade().unwrap(), &others);
                done.send(()).unwrap();
                None
            }));
        });
        rooms.wake_in(0, Duration::ZERO);
        receive(&tended);
    }

    fn posts_from_inside_arrive_although_the_mailbox_is_full(config) {
        let rooms = rooms(Config { mailbox: 1, ..config }, 1);
        let inner = Arc::clone(&rooms);
        rooms.run(0, move |_| (0..50).for_each(|number| inner.post(0, Post::Say(number))));
        until("they came", || rooms.run(0, |room| room.said.len()) == 50);
        assert!(rooms.run(0, |room| room.said.iter().copied().eq(0..50)));
    }

    /// Dropping the last handle would join threads, and drop states.
    fn a_group_whose_last_handle_is_dropped_inside_is_ended_outside(config) {
        let rooms = rooms(config, 1);
        for doomed in [adaptive(), per_core()] {
            let (end, ended) = mpsc::channel();
            let room = Room { at_the_end: Some(OnDrop::new(move || end.send(is_inside()).unwrap())), ..Room::default() };
            let doomed = Delegates::new(doomed, [room, Room::default()]).unwrap();
            doomed.run(1, |_| ());
            rooms.run(0, move |_| {
                (0..20).for_each(|number| doomed.post(0, Post::Say(number)));
                drop(doomed);
                assert!(is_inside(), "this thread still holds the delegate");
            });
            assert!(!receive(&ended), "a state was dropped while another one was held");
        }
    }
}
