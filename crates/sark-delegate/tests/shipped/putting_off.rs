//! A thread that puts others off serves their messages, and runs their code when it is through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use sark_delegate::{Config, Delegates, is_inside};

use crate::common::{OnDrop, Post, Room, Rooms, alone, rooms, until};

/// Counts how often it is dropped, and checks that no state is held then.
fn counted(count: &Arc<AtomicU32>) -> OnDrop {
    let count = Arc::clone(count);
    OnDrop::new(move || {
        assert!(!is_inside());
        count.fetch_add(1, Ordering::Relaxed);
    })
}

/// Another thread posts something that is left over while this one holds the state, so that this one serves
/// it.
fn serve_another_s(rooms: &Rooms, left: OnDrop) {
    let mut entered = rooms.enter(0).expect("nobody else uses it");
    let poster = Arc::clone(rooms);
    thread::spawn(move || poster.post(0, Post::Leave(left))).join().unwrap();
    entered.run(|room| room.said.push(1));
    drop(entered);
}

#[test]
fn what_others_left_over_is_dropped_when_it_is_no_longer_put_off() {
    let (rooms, dropped) = (rooms(alone(), 2), Arc::new(AtomicU32::new(0)));
    let dropped_by_now = || dropped.load(Ordering::Relaxed);
    serve_another_s(&rooms, counted(&dropped));
    assert_eq!(dropped_by_now(), 1, "nobody puts it off");
    let (outer, inner) = (rooms.put_off_others(), rooms.put_off_others());
    serve_another_s(&rooms, counted(&dropped));
    serve_another_s(&rooms, counted(&dropped));
    assert_eq!(rooms.counts().posted, 3, "they are served");
    drop(inner);
    rooms.run(1, |_| ());
    assert_eq!(dropped_by_now(), 1);
    drop(outer);
    assert_eq!(dropped_by_now(), 3);
    serve_another_s(&rooms, counted(&dropped));
    assert_eq!(dropped_by_now(), 4);
}

#[test]
fn states_whose_handle_is_dropped_inside_are_put_off_as_well_and_not_dropped_inside_either() {
    let (rooms, dropped) = (rooms(alone(), 1), Arc::new(AtomicU32::new(0)));
    let doomed = Delegates::new(alone(), [Room { at_the_end: Some(counted(&dropped)), ..Room::default() }]).unwrap();
    let others = rooms.put_off_others();
    rooms.run(0, move |_| drop(doomed));
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    let entered = rooms.enter(0).unwrap();
    drop(others);
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    drop(entered);
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

#[test]
fn a_panic_of_what_was_put_off_is_counted_and_not_passed_on() {
    let rooms = rooms(alone(), 1);
    let others = rooms.put_off_others();
    serve_another_s(&rooms, OnDrop::new(|| panic!("while it is dropped")));
    assert_eq!(rooms.counts().panicked, 0);
    drop(others);
    until("it is counted", || rooms.counts().panicked == 1);
}

#[test]
fn posts_of_one_s_own_are_not_put_off_so_that_nothing_overtakes_them() {
    let rooms = rooms(Config { mailbox: 1, ..alone() }, 1);
    let others = rooms.put_off_others();
    let inner = Arc::clone(&rooms);
    rooms.run(0, move |_| (0..50).for_each(|number| inner.post(0, Post::Say(number))));
    rooms.run(0, |room| room.said.push(50));
    assert!(rooms.run(0, |room| room.said.iter().copied().eq(0..=50)));
    drop(others);
}

/// Waking a caller is not that caller's code. It holds up nobody, and the caller may be what this thread waits
/// for.
#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn a_caller_that_sleeps_is_woken_although_others_are_put_off() {
    use crate::common::asleep_over;

    let (rooms, dropped) = (rooms(alone(), 1), Arc::new(AtomicU32::new(0)));
    let others = rooms.put_off_others();
    let entered = rooms.enter(0).expect("nobody else uses it");
    let (poster, left) = (Arc::clone(&rooms), counted(&dropped));
    thread::spawn(move || poster.post(0, Post::Leave(left))).join().unwrap();
    let waiting = Arc::clone(&rooms);
    let caller = asleep_over(move || waiting.run(0, |_| ()));
    drop(entered);
    until("the caller has its answer", || caller.is_finished());
    assert_eq!(dropped.load(Ordering::Relaxed), 0, "what the post left over is put off");
    drop(others);
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    caller.join().unwrap();
}
