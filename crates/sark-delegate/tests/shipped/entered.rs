//! Running an idle delegate right here: when it is had, when it isn't, and that it is always given back.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sark_delegate::{TryError, is_inside};

use crate::common::{Post, adaptive, hold, per_core, rooms};

#[test]
fn an_idle_delegate_is_entered_and_given_back() {
    let rooms = rooms(adaptive(), 2);
    for round in 1..=3 {
        let entered = rooms.enter(1).expect("nobody else uses it");
        assert_eq!(
            entered.run(|room| {
                room.said.push(round);
                room.said.len()
            }),
            round as usize
        );
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
    let entered = rooms.enter(0).unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(|| entered.run(|_| panic!("on purpose"))));
    assert!(outcome.is_err());
    assert!(!is_inside());
    assert!(rooms.enter(0).is_some());
}
