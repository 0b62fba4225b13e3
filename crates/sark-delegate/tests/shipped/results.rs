//! Results come back, and what was borrowed with them.

use std::sync::Arc;
use std::thread;

use crate::common::{Post, Room, Rooms, block_on, hold, rooms};

under_both_dispatches! {
    fn a_call_returns_its_result_and_may_borrow(config) {
        let rooms = rooms(config, 1);
        let words = vec![1, 2, 3];
        let mut seen = 0;
        let length = rooms.run(0, |room| {
            room.said.extend(&words);
            seen = words[2];
            room.said.len()
        });
        assert_eq!((length, seen, words.len()), (3, 3, 3));
    }

    fn a_call_to_a_busy_delegate_is_answered_when_that_is_free(config) {
        let rooms = rooms(config, 1);
        let held = hold(&rooms, 0);
        let here = &rooms;
        let answers = thread::scope(|scope| {
            let callers: Vec<_> = (0..4).map(|number| scope.spawn(move || here.run(0, move |_| number))).collect();
            held.let_go();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(answers, [0, 1, 2, 3]);
    }

    fn large_results_and_results_with_destructors_come_back_whole(config) {
        let rooms = rooms(config, 1);
        let held = hold(&rooms, 0);
        let text = Arc::new("kept".to_owned());
        let caller = thread::spawn({
            let (rooms, text) = (Arc::clone(&rooms), Arc::clone(&text));
            move || rooms.run(0, move |_| ([7_u64; 64], vec![text]))
        });
        held.let_go();
        let (numbers, texts) = caller.join().unwrap();
        assert_eq!((numbers, texts[0].as_str()), ([7; 64], "kept"));
        drop(texts);
        assert_eq!(Arc::strong_count(&text), 1);
    }

    fn the_results_of_a_batch_come_back_in_the_order_of_its_requests(config) {
        let rooms = rooms(config, 4);
        let held = hold(&rooms, 2);
        let base = 10;
        let results = thread::scope(|scope| {
            let batch = scope.spawn(|| {
                let request = |index: usize| (index, move |_: &mut Room| base + index);
                rooms.run_each([3, 2, 0, 1].map(request).into())
            });
            held.let_go();
            batch.join().unwrap()
        });
        assert_eq!(results, Ok(vec![13, 12, 10, 11]));
        assert_eq!(rooms.run_each(Vec::<(usize, fn(&mut Room))>::new()), Ok(vec![]));
    }

    fn a_submission_is_answered_idle_or_busy(config) {
        let rooms = rooms(config, 1);
        assert_eq!(block_on(rooms.submit(0, |room| { room.said.push(1); room.said.len() })), 1);
        let held = hold(&rooms, 0);
        let submission = rooms.submit(0, |room| { room.said.push(2); room.said.len() });
        assert!(submission.is_accepted());
        held.let_go();
        assert_eq!(block_on(submission), 2);
    }

    fn an_accepted_submission_runs_although_its_future_is_dropped(config) {
        let rooms = rooms(config, 1);
        let held = hold(&rooms, 0);
        drop(rooms.submit(0, |room| room.said.push(1)));
        held.let_go();
        assert_eq!(rooms.run(0, |room| room.said.clone()), [1]);
    }

    fn a_post_is_accepted_idle_or_busy(config) {
        let rooms = rooms(config, 1);
        rooms.post(0, Post::Say(1));
        let held = hold(&rooms, 0);
        rooms.post(0, Post::Say(2));
        assert!(rooms.try_post(0, Post::Say(3)).is_ok());
        held.let_go();
        assert_eq!(rooms.run(0, |room| room.said.clone()), [1, 2, 3]);
    }
}

#[test]
fn handles_and_futures_may_go_to_other_threads() {
    fn goes_anywhere<T: Send + Sync>() {}
    fn goes<T: Send>(_: &T) {}
    goes_anywhere::<Rooms>();
    let rooms = rooms(crate::common::alone(), 1);
    let submission = rooms.submit(0, |_| 1);
    goes(&submission);
    assert_eq!(thread::scope(|scope| scope.spawn(|| block_on(submission)).join().unwrap()), 1);
}
