//! Requests of one caller run in the order of its calls, and a call sees every post that returned before it.

use std::sync::Arc;
use std::thread;

use sark_delegate::Config;

use crate::common::{Post, Room, block_on, hold, rooms, until};

type Request<'a> = Box<dyn FnOnce(&mut Room) + Send + 'a>;

under_both_dispatches! {
    fn requests_of_one_caller_run_in_order_idle_or_busy(config) {
        let rooms = rooms(config, 1);
        let held = hold(&rooms, 0);
        let letting_go = held.signal();
        rooms.post(0, Post::Say(1));
        let second = rooms.submit(0, |room| room.said.push(2));
        rooms.post(0, Post::Say(3));
        letting_go.send(()).unwrap();
        rooms.run(0, |room| room.said.push(4));
        rooms.post(0, Post::Say(5));
        rooms.run(0, |room| room.said.push(6));
        block_on(second);
        held.join();
        assert_eq!(rooms.run(0, |room| room.said.clone()), [1, 2, 3, 4, 5, 6]);
    }

    fn a_call_sees_the_posts_of_all_threads_that_returned_before_it(config) {
        let rooms = rooms(config, 1);
        for number in 0..200 {
            thread::scope(|scope| scope.spawn(|| rooms.post(0, Post::Say(number))).join().unwrap());
            assert_eq!(rooms.run(0, |room| room.said.last().copied()), Some(number));
        }
    }

    fn a_call_behind_more_posts_than_a_runner_serves_at_once_sees_them_all(config) {
        let rooms = rooms(config, 1);
        let held = hold(&rooms, 0);
        (0..200).for_each(|number| rooms.post(0, Post::Say(number)));
        let letting_go = held.signal();
        letting_go.send(()).unwrap();
        assert!(rooms.run(0, |room| room.said.iter().copied().eq(0..200)));
        held.join();
    }

    /// A later request of a batch doesn't overtake an earlier one that found the delegate busy.
    fn requests_of_one_batch_on_one_delegate_run_in_order(config) {
        let rooms = rooms(config, 2);
        let held = hold(&rooms, 0);
        let (letting_go, holder) = (held.signal(), held);
        let mut holder = Some(holder);
        let mut requests: Vec<(usize, Request<'_>)> = Vec::new();
        requests.push((0, Box::new(|room| room.said.push(1))));
        requests.push((1, Box::new(|_| {
            letting_go.send(()).unwrap();
            // Under `PerCore` the worker goes on to the first request unasked; this just waits for it.
            holder.take().unwrap().join();
        })));
        requests.push((0, Box::new(|room| room.said.push(2))));
        rooms.run_each(requests).unwrap();
        assert_eq!(rooms.run(0, |room| room.said.clone()), [1, 2]);
    }

    /// What a request posts to a full mailbox is kept until the request is over. What it posts after that
    /// comes after, although there is room again.
    fn a_post_that_found_a_full_mailbox_from_inside_is_not_overtaken(config) {
        let rooms = rooms(Config { mailbox: 1, ..config }, 2);
        let held = hold(&rooms, 1);
        rooms.post(1, Post::Say(0));
        let letting_go = held.signal();
        let inner = Arc::clone(&rooms);
        rooms.run(0, move |_| {
            inner.post(1, Post::Say(1));
            letting_go.send(()).unwrap();
            until("there is room", || inner.counts().posted == 1);
            inner.post(1, Post::Say(2));
            let refused = inner.try_post(1, Post::Say(9)).expect_err("it would overtake the others");
            assert_eq!(refused.reason, sark_delegate::TryError::Full);
            inner.post(1, Post::Say(3));
        });
        held.join();
        until("all came", || rooms.run(1, |room| room.said.len()) == 4);
        assert_eq!(rooms.run(1, |room| room.said.clone()), [0, 1, 2, 3]);
    }
}
