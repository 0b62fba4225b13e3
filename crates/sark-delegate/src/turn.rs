//! Turns on a delegate that several threads want all the time.
//!
//! The runner of such a delegate answers the others' messages in between and goes on, until the system takes
//! its processor away. Usually that happens while it holds the delegate. Then all others run into it and go
//! to sleep, one after the other, until it comes back and wakes them. So a thread that keeps meeting others
//! gives way voluntarily, holding nothing, well before that. Turns are shorter then, which is fairer, and
//! hardly any thread sleeps.
//!
//! Where threads meet by chance, giving way would be wrong: one request of many would then wait for every
//! other thread's turn. So it takes a number of meetings on one and the same delegate, with none on another
//! in between.
//!
//! Called by `group`, when the caller holds nothing. It never touches a delegate.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::sync::yield_now;

/// The length of a turn. A scheduler's time slices, which a turn should end before, are some ten times as
/// long.
const LENGTH: Duration = Duration::from_micros(300);
/// The clock is read once per this many meetings.
const MEETINGS: u32 = 8;
/// If that many meetings take longer than this, they are chance. Threads that want one delegate all the time
/// meet every 20 microseconds.
const CHANCE: Duration = Duration::from_micros(600);

/// What a thread knows of its turn.
#[derive(Clone, Copy)]
struct Turn {
    /// Identifies the delegate among all of the process.
    delegate: usize,
    /// Meetings since the clock was last read.
    meetings: u32,
    /// When the turn began, and when the clock was last read. `None` as long as the meetings may be chance.
    known: Option<(Instant, Instant)>,
}

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn::NONE) };
}

impl Turn {
    const NONE: Self = Self { delegate: 0, meetings: 0, known: None };

    /// Notes a meeting. Returns whether it ends the turn.
    fn ends_with_meeting(&mut self, delegate: usize, clock: impl FnOnce() -> Instant) -> bool {
        if self.delegate != delegate {
            *self = Self { delegate, ..Self::NONE };
        }
        self.meetings += 1;
        if self.meetings < MEETINGS {
            return false;
        }
        self.meetings = 0;
        let now = clock();
        let began = match self.known {
            Some((began, read)) if now.duration_since(read) <= CHANCE => began,
            _ => now,
        };
        let is_over = now.duration_since(began) >= LENGTH;
        self.known = if is_over { None } else { Some((began, now)) };
        is_over
    }
}

/// Notes that the calling thread found that others want `delegate` too, and gives way if that ends its turn.
///
/// The caller must hold nothing: no delegate, no permit to spin, and no messages left to it.
pub(crate) fn met_others_on(delegate: usize) {
    // A model has no time, and no thread's processor is taken away there.
    if cfg!(loom) {
        return;
    }
    let mut turn = TURN.get();
    let is_over = turn.ends_with_meeting(delegate, Instant::now);
    TURN.set(turn);
    if is_over {
        yield_now();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Returns the times of the meetings that end a turn. A meeting is given as microseconds after the start
    /// and the delegate that it was on.
    fn ending(meetings: impl IntoIterator<Item = (u64, usize)>) -> Vec<u64> {
        let first = Instant::now();
        let mut turn = Turn::NONE;
        let ends =
            |(at, delegate): &(u64, usize)| turn.ends_with_meeting(*delegate, || first + Duration::from_micros(*at));
        meetings.into_iter().filter(ends).map(|(at, _)| at).collect()
    }

    #[test]
    fn a_turn_on_a_delegate_that_others_want_all_the_time_ends_after_its_length() {
        // The clock is read at 70, 150, 230 and so on; a turn counts from the first of these.
        assert_eq!(ending((0..100).map(|number| (number * 10, 1))), [390, 790]);
    }

    #[test]
    fn meetings_now_and_then_end_no_turn_however_many() {
        assert_eq!(ending((0..1000).map(|number| (number * 100, 1))), []);
    }

    #[test]
    fn a_turn_begins_anew_after_no_thread_was_met_for_a_while() {
        let meetings = (0..8).chain(100_000..100_040).map(|number| (number * 10, 1));
        assert_eq!(ending(meetings), [1_000_390]);
    }

    #[test]
    fn meetings_on_one_delegate_and_another_are_chance() {
        assert_eq!(ending((0..1000).map(|number| (number * 10, number as usize % 2))), []);
    }
}
