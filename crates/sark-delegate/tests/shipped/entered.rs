//! Running an idle delegate right here: when a caller gets it, when not, and that it is always given back.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sark_delegate::{Delegates, TryError, is_inside};

use crate::common::{Post, Room, adaptive, hold, per_core, rooms};

#[test]
fn an_idle_delegate_is_entered_and_given_back() {
    let rooms = rooms(adaptive(), 2);
    for round in 1..=3 {
        let mut entered = rooms.enter(1).expect("nobody else uses it");
        assert_eq!(
            entered.run(|room| {
                room.said.push(round);
                room.said.len()
            }),
            round as usize
        );
        assert_eq!(entered.run(|room| room.said.pop()), Some(round));
        entered.run(|room| room.said.push(round));
        drop(entered);
        assert!(!is_inside());
    }
    assert_eq!(rooms.counts().in_place, 3);
}

#[test]
fn a_busy_delegate_is_not_entered() {
    let rooms = rooms(adaptive(), 2);
    let held = hold(&rooms, 0);
    assert!(rooms.enter(0).is_none());
    assert!(rooms.enter(1).is_some());
    held.let_go();
}

#[test]
fn nothing_is_entered_under_per_core() {
    assert!(rooms(per_core(), 1).enter(0).is_none());
}

#[test]
fn while_a_delegate_is_entered_nothing_else_is_and_nothing_waits() {
    let (rooms, other) = (rooms(adaptive(), 2), rooms(adaptive(), 1));
    let entered = rooms.enter(0).unwrap();
    assert!(rooms.enter(0).is_none() && rooms.enter(1).is_none() && other.enter(0).is_none());
    assert_eq!(other.try_run(0, |_| ()).unwrap_err().reason, TryError::Reentrant);
    drop(entered);
    assert!(other.try_run(0, |_| ()).is_ok());
}

#[test]
fn a_post_made_while_its_delegate_is_entered_is_served_when_that_is_given_back() {
    let rooms = rooms(adaptive(), 1);
    let entered = rooms.enter(0).unwrap();
    rooms.post(0, Post::Say(7));
    drop(entered);
    assert_eq!(rooms.run(0, |room| room.said.clone()), [7]);
}

#[test]
fn a_panic_in_an_entered_request_gives_the_delegate_back() {
    let rooms = rooms(adaptive(), 1);
    let mut entered = rooms.enter(0).unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(move || entered.run(|_| panic!("on purpose"))));
    assert!(outcome.is_err());
    assert!(!is_inside());
    assert!(rooms.enter(0).is_some());
}

#[test]
fn of_several_delegates_those_that_are_idle_are_entered_together() {
    let rooms = rooms(adaptive(), 4);
    let held = hold(&rooms, 2);
    let mut several = rooms.enter_several([3, 0, 2, 3, 0, 2]);
    assert_eq!([0, 1, 2, 3, 4, 5].map(|number| several.has(number)), [true, true, false, true, true, false]);
    assert!(!several.has(6) && !several.has(9999));
    assert_eq!(
        [0, 1, 2, 3, 4, 5, 6, 9999].map(|number| several.run(number, |room| room.said.push(1)).is_some()),
        [true, true, false, true, true, false, false, false]
    );
    assert!(is_inside());
    assert!(rooms.enter(1).is_none());
    drop(several);
    held.let_go();
    assert!(!is_inside());
    // Requests that ask for the same one run the same one.
    assert_eq!([0, 1, 2, 3].map(|index| rooms.run(index, |room| room.said.len())), [2, 0, 0, 2]);
}

#[test]
fn of_too_many_requests_the_first_ones_have_their_delegates() {
    let rooms = rooms(adaptive(), 100);
    let mut several = rooms.enter_several((0..100).rev());
    for number in 0..100 {
        let found = several.run(number, |room| room.said.push(1));
        assert_eq!((found.is_some(), several.has(number)), (number < 64, number < 64));
    }
    drop(several);
    assert_eq!(Delegates::<Room>::MOST_ENTERED, 64);
    assert!((0..100).all(|index| rooms.run(index, |room| room.said.len()) == usize::from(index >= 36)));
}

#[test]
fn delegates_far_apart_are_entered_together() {
    let rooms = rooms(adaptive(), 3000);
    let far = [2999, 0, 1023, 1024, 63, 64, 1024, 0, 512];
    let mut several = rooms.enter_several(far);
    for number in 0..far.len() {
        assert_eq!(several.run(number, |room| room.said.push(1)), Some(()));
    }
    assert!(!several.has(far.len()));
    drop(several);
    let twice = |index| 1 + usize::from(index == 0 || index == 1024);
    assert!(far.into_iter().all(|index| rooms.run(index, |room| room.said.len()) == twice(index)));
    assert_eq!(rooms.counts().in_place, 7 + 9);
}

#[test]
fn of_delegates_far_apart_a_busy_one_is_left_out() {
    let rooms = rooms(adaptive(), 3000);
    let held = hold(&rooms, 256);
    for far in [[0, 256, 512, 256, 0], [256, 0, 512, 1, 256]] {
        let several = rooms.enter_several(far);
        for (number, index) in far.into_iter().enumerate() {
            assert_eq!(several.has(number), index != 256, "{number} of {far:?}");
        }
    }
    held.let_go();
    assert!([0, 1, 256, 512].into_iter().all(|index| rooms.enter(index).is_some()));
}

#[test]
fn an_index_out_of_range_gives_back_what_was_taken_before() {
    let rooms = rooms(adaptive(), 2);
    let outcome = catch_unwind(AssertUnwindSafe(|| drop(rooms.enter_several([0, 1, 2]))));
    assert!(outcome.is_err() && !is_inside());
    assert!(rooms.enter(0).is_some() && rooms.enter(1).is_some());
}

#[test]
fn a_panic_in_one_of_several_gives_all_of_them_back_and_serves_what_came() {
    let rooms = rooms(adaptive(), 3);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut several = rooms.enter_several(0..3);
        for index in 0..3 {
            rooms.post(index, Post::Say(7));
        }
        several.run(1, |_| panic!("on purpose"));
    }));
    assert!(outcome.is_err());
    for index in 0..3 {
        let mut entered = rooms.enter(index).expect("it was given back");
        assert_eq!(entered.run(|room| room.said.clone()), [7]);
    }
}

#[test]
fn several_are_never_entered_from_inside_or_under_per_core() {
    let rooms = rooms(adaptive(), 2);
    let entered = rooms.enter(0).unwrap();
    assert!(!rooms.enter_several([1]).has(0));
    drop(entered);
    let per_core = crate::common::rooms(per_core(), 2);
    assert!(!per_core.enter_several([0, 1]).has(0));
}

/// What came to the first of them leaves something over whose `Drop` waits for a caller that waits for the
/// second.
#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn all_of_several_are_served_before_what_is_left_over_is_dropped() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};
    use std::thread;

    use crate::common::{DEADLINE, OnDrop, alone, asleep_over};

    let rooms = rooms(alone(), 2);
    let several = rooms.enter_several([0, 1]);
    let (answered, answer) = mpsc::channel();
    let came_first = Arc::new(AtomicBool::new(false));
    let leftover = OnDrop::new({
        let came_first = Arc::clone(&came_first);
        move || came_first.store(answer.recv_timeout(DEADLINE / 4).is_ok(), Ordering::Relaxed)
    });
    let poster = Arc::clone(&rooms);
    thread::spawn(move || poster.post(0, Post::Leave(leftover))).join().unwrap();
    let waiting = Arc::clone(&rooms);
    let caller = asleep_over(move || {
        waiting.run(1, |_| ());
        answered.send(()).unwrap();
    });
    drop(several);
    caller.join().unwrap();
    assert!(came_first.load(Ordering::Relaxed), "the second one's request waited for the first one's leftover");
}
