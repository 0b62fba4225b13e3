//! A full mailbox: waiters wait, `try_` says so, futures are told when there is room.

use std::sync::Arc;
use std::thread;

use sark_delegate::{Config, Transport, TryError};

use crate::common::{Post, Room, block_on, hold, rooms};

/// Batches of each thread; an interpreter has the patience for fewer.
const BATCHES: usize = if cfg!(miri) { 10 } else { 200 };

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn a_request_has_room_in_its_slot_although_the_mailbox_is_full() {
    use crate::common::{asleep_over, slots};

    let rooms = rooms(Config { mailbox: 2, ..slots() }, 1);
    let held = hold(&rooms, 0);
    rooms.post(0, Post::Say(1));
    rooms.post(0, Post::Say(2));
    let let_go = held.signal();
    rooms.try_post(0, Post::Say(3)).expect_err("there was room");
    let waiting = Arc::clone(&rooms);
    let answer = asleep_over(move || waiting.try_run(0, |room| room.said.clone()).map_err(|refused| refused.reason));
    let_go.send(()).unwrap();
    assert_eq!(answer.join().unwrap(), Ok(vec![1, 2]), "it came before what was posted before it");
    held.join();
}

under_both_dispatches! {
    fn trying_says_full_and_gives_the_request_back(config) {
        let by_slots = config.transport == Transport::Slots;
        let rooms = rooms(Config { mailbox: 2, ..config }, 1);
        let held = hold(&rooms, 0);
        rooms.post(0, Post::Say(1));
        rooms.post(0, Post::Say(2));
        let refused = rooms.try_post(0, Post::Say(3)).expect_err("there was room");
        assert!(refused.reason == TryError::Full && matches!(refused.request, Post::Say(3)));
        if !by_slots {
            let refused = rooms.try_run(0, |room| room.said.len()).expect_err("there was room");
            assert_eq!((refused.reason, (refused.request)(&mut Room::default())), (TryError::Full, 0));
        }
        held.let_go();
        // Waits until there is room: the holder may be answered before the others are served.
        rooms.run(0, |_| ());
        assert_eq!(rooms.try_run(0, |room| room.said.clone()).unwrap(), [1, 2]);
    }

    fn waiting_calls_and_posts_wait_for_room(config) {
        let rooms = rooms(Config { mailbox: 1, ..config }, 1);
        let held = hold(&rooms, 0);
        let senders: Vec<_> = (0..6).map(|number| {
            let rooms = Arc::clone(&rooms);
            thread::spawn(move || match number % 2 {
                0 => rooms.post(0, Post::Say(number)),
                _ => rooms.run(0, |room| room.said.push(number)),
            })
        }).collect();
        held.let_go();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let mut said = rooms.run(0, |room| room.said.clone());
        said.sort_unstable();
        assert_eq!(said, [0, 1, 2, 3, 4, 5]);
    }

    fn a_batch_waits_for_room_in_each_of_its_mailboxes(config) {
        let rooms = rooms(Config { mailbox: 1, ..config }, 2);
        let batches: Vec<_> = (0..4).map(|thread_number| {
            let rooms = Arc::clone(&rooms);
            thread::spawn(move || {
                for _ in 0..BATCHES {
                    // Half of them go one way round, half the other: each may hold the room that another
                    // waits for.
                    let order = if thread_number % 2 == 0 { [0, 1] } else { [1, 0] };
                    let twice = order.into_iter().chain(order);
                    rooms.run_each(twice.map(|index| (index, |room: &mut Room| room.said.push(1))).collect()).unwrap();
                }
            })
        }).collect();
        batches.into_iter().for_each(|batch| batch.join().unwrap());
        assert!((0..2).all(|index| rooms.run(index, |room| room.said.len()) == 8 * BATCHES));
    }

    fn a_submission_that_finds_no_room_is_woken_when_there_is_some(config) {
        let rooms = rooms(Config { mailbox: 1, ..config }, 1);
        let held = hold(&rooms, 0);
        rooms.post(0, Post::Say(1));
        let here = &rooms;
        thread::scope(|scope| {
            let waiting: Vec<_> = (2..6).map(|number| {
                let submission = here.submit(0, move |room| room.said.push(number));
                assert!(!submission.is_accepted());
                scope.spawn(move || block_on(submission))
            }).collect();
            held.let_go();
            waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
        });
        let mut said = rooms.run(0, |room| room.said.clone());
        said.sort_unstable();
        assert_eq!(said, [1, 2, 3, 4, 5]);
    }

    fn a_submission_that_was_not_accepted_is_dropped_with_its_future(config) {
        let rooms = rooms(Config { mailbox: 1, ..config }, 1);
        let held = hold(&rooms, 0);
        rooms.post(0, Post::Say(1));
        let token = Arc::new(());
        let submission = rooms.submit(0, { let token = Arc::clone(&token); move |_| drop(token) });
        assert!(!submission.is_accepted());
        drop(submission);
        assert_eq!(Arc::strong_count(&token), 1);
        held.let_go();
        assert_eq!(rooms.run(0, |room| room.said.clone()), [1]);
    }
}
