//! How a caller waits for an answer: a short spin, one more try at ownership, and only then sleep.
//!
//! A waiting caller is also a helper. Whenever it finds its delegate free, it serves what waits there, its
//! own request included, so a request is never stuck behind a runner that has left. It holds no delegate
//! while it spins or sleeps. Called by `group` and, to spin with a permit, by `worker`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Resident;
use crate::group::{Group, Sent};
use crate::sync::{park, park_timeout, park_watchfully, spin_loop, yield_now};
use crate::task::Header;

/// About what it costs to put a thread to sleep and to wake it again.
const SPIN_FOR_CALLERS: Duration = Duration::from_micros(5);
/// A worker answers from another core, which takes longer than a runner's release.
pub(crate) const SPIN_FOR_WORKER: Duration = Duration::from_micros(20);
/// How long a sleep may last where the barrier that makes unlimited sleep safe was refused.
const SLEEP_WITHOUT_BARRIER: Duration = Duration::from_millis(1);
/// After this long, a caller that waits for a worker checks whether the worker is held up by other callers'
/// code (dropping what it was left with, for example), which might be waiting for this very caller.
const PATIENCE_WITH_WORKER: Duration = Duration::from_millis(50);
/// A waiting caller looks at the ownership word at least once per this many turns.
const MOST_TURNS_PER_LOOK: u32 = 16;
/// Other threads are let run once per this many turns, but not during the first `TURNS_BEFORE_YIELD`: most
/// answers from another processor take less.
const TURNS_PER_YIELD: u32 = 16;
const TURNS_BEFORE_YIELD: u32 = 32;
/// This many turns are spent before a permit to spin is asked for, if some seem to be left.
const TURNS_WITHOUT_PERMIT: u32 = 16;
/// A caller that waits for a worker spends this many turns before those. The worker must see the request
/// first, and an answer from a large state takes some fetches from memory. Taking a permit meanwhile would
/// cost both of them its line.
const TURNS_FOR_WORKER: u32 = 64;
/// This many turns are spent before a count that should drop is taken for another message's.
const TURNS_FOR_COUNT: u32 = if cfg!(loom) { 0 } else { 8 };
/// The clock is read once per this many turns.
const TURNS_PER_CLOCK_READ: u32 = 8;

/// A request that was sent and whose caller waits.
pub(crate) struct Pending<'t, S> {
    pub(crate) index: usize,
    pub(crate) task: &'t Header<S>,
    pub(crate) sent: Sent,
}

impl<S> Pending<'_, S> {
    fn among_callers(&self) -> bool {
        self.sent != Sent::ToWorker
    }

    /// Whether it is for us to see to others' messages as well. A runner may have taken our message out
    /// before we counted it. Then our count stands for another caller's message, and that caller relies on
    /// the one that counted first.
    fn answers_for_others<R: Resident>(&self, group: &Group<R>) -> bool {
        self.sent == Sent::AmongCallers { first: true } && group.delegates[self.index].has_messages()
    }

    /// Sees to others' messages, after our own was answered. A runner subtracts what it served a moment after
    /// it answered. Waiting for that costs much less than a barrier that interrupts it.
    fn see_to_others<R: Resident>(&self, group: &Group<R>) {
        let mut turns = 0;
        while self.answers_for_others(group) {
            if turns == TURNS_FOR_COUNT {
                return group.serve_after_barrier(self.index);
            }
            turns += 1;
            spin_loop();
        }
    }
}

/// When a waiting caller looks whether the delegate is free. A look takes the line away from the runner that
/// is working on it, so looks become ever rarer. Usually an owner sees our message when it releases, and at
/// the latest when it comes again.
struct Looks {
    turn: u32,
    next: u32,
}

impl Looks {
    const fn new() -> Self {
        Self { turn: 0, next: 1 }
    }

    /// Whether this turn has a look in it. To be asked once in each turn.
    #[inline]
    fn is_due(&mut self) -> bool {
        self.turn += 1;
        let due = self.turn == self.next;
        if due {
            self.next += self.turn.min(MOST_TURNS_PER_LOOK);
        }
        due
    }
}

/// Spins for a moment until `task` is done, as most tasks are that a worker watches for. It may come before
/// `wait`, and does nothing of what `wait` does for several requests and for others' messages.
#[inline]
pub(crate) fn is_soon_done<S>(processors: usize, task: &Header<S>) -> bool {
    let turns = if Permit::to_be_had(processors) { TURNS_FOR_WORKER } else { 0 };
    for _ in 0..turns {
        if task.is_done() {
            return true;
        }
        spin_loop();
    }
    task.is_done()
}

/// Waits until all of them are done. Returns false, with some that never will be, only in a forked child.
pub(crate) fn wait<S: Resident>(group: &Group<S>, pending: &[Pending<'_, S>]) -> bool {
    let among_callers = pending.iter().any(Pending::among_callers);
    let limit = if among_callers { SPIN_FOR_CALLERS } else { SPIN_FOR_WORKER };
    let mut looks = Looks::new();
    let mut answered = || {
        let look = looks.is_due();
        let mut done = true;
        for one in pending {
            if look && one.among_callers() && !one.task.is_done() && group.delegates[one.index].owner.looks_free() {
                group.serve_if_free(one.index);
            }
            done &= one.task.is_done();
        }
        done
    };
    let mut soon = spin(group.shared.processors, limit, !among_callers, &mut answered);
    if !soon && !among_callers && !cfg!(loom) {
        // The worker may need this very processor, and giving way is cheaper than sleep. (A runner among the
        // callers gets a processor when all that want its delegate sleep.)
        yield_now();
        soon = answered();
    }
    if soon {
        pending.iter().for_each(|one| one.see_to_others(group));
        return true;
    }
    // Counted, then the barrier: a runner that still has one of the delegates will see our message after its
    // release, or we find the delegate free here. Only mailbox and slots deliver a task, so serving them is
    // all there is to try. We try all of them before we sleep over any of them: others rely on us (`first`).
    let seen = !among_callers || group.barrier.heavy();
    for one in pending {
        if !one.among_callers() {
            continue;
        }
        if !seen && one.answers_for_others(group) {
            group.serve_after_barrier(one.index);
        } else if !one.task.is_done() || one.answers_for_others(group) {
            group.serve_if_free(one.index);
        }
    }
    pending.iter().all(|one| sleep(group, one, seen))
}

/// Sleeps until it is done. Returns false if it never will be.
fn sleep<S: Resident>(group: &Group<S>, one: &Pending<'_, S>, seen: bool) -> bool {
    while one.task.announce_parking() {
        if group.check_fork().is_err() {
            return false;
        }
        if !one.among_callers() {
            park_watchfully(PATIENCE_WITH_WORKER);
            if group.may_help(one.index) {
                group.serve_if_free(one.index);
            }
        } else if seen {
            park();
        } else {
            park_timeout(SLEEP_WITHOUT_BARRIER);
            group.serve_if_free(one.index);
        }
    }
    true
}

/// Spins until `done` says so or the time is over; not at all where spinning would keep others from running.
/// `yields`: the thread that is waited for may need this very processor, like a worker that is pinned to it.
/// Returns what `done` said last.
pub(crate) fn spin(processors: usize, limit: Duration, yields: bool, mut done: impl FnMut() -> bool) -> bool {
    if done() {
        return true;
    }
    if Permit::to_be_had(processors) {
        // Most answers come soon. Until then the clock isn't read, and the permits' line, which all spinning
        // threads share, isn't written.
        for _ in 0..TURNS_WITHOUT_PERMIT {
            spin_loop();
            if done() {
                return true;
            }
        }
    }
    let Some(_permit) = Permit::get(processors) else { return false };
    let began = Instant::now();
    for turn in 1_u32.. {
        if yields && turn > TURNS_BEFORE_YIELD && turn.is_multiple_of(TURNS_PER_YIELD) {
            yield_now()
        } else {
            spin_loop()
        }
        if done() {
            return true;
        }
        if turn.is_multiple_of(TURNS_PER_CLOCK_READ) && began.elapsed() >= limit {
            break;
        }
    }
    false
}

/// Notes, in a forked child, that no other thread spins.
#[cfg(all(unix, not(loom), not(miri)))]
pub(crate) fn nobody_spins() {
    SPINNING.store(0, Ordering::Relaxed);
}

/// How many threads of the process are spinning here. Relaxed: a bound for politeness, nothing depends on it.
static SPINNING: AtomicUsize = AtomicUsize::new(0);

/// The right to spin: no more threads than processors have it, and none on a single one.
struct Permit;

impl Permit {
    fn to_be_had(processors: usize) -> bool {
        processors >= 2 && !cfg!(loom) && SPINNING.load(Ordering::Relaxed) < processors
    }

    fn get(processors: usize) -> Option<Self> {
        if !Self::to_be_had(processors) {
            return None;
        }
        let permit = Self;
        // On refusal the permit is dropped, which takes the addition back.
        (SPINNING.fetch_add(1, Ordering::Relaxed) < processors).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        SPINNING.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn looks_are_ever_further_apart_and_never_end() {
        let mut looks = Looks::new();
        let turns: Vec<u32> = (1..=100).filter(|_| looks.is_due()).collect();
        assert_eq!(turns, [1, 2, 4, 8, 16, 32, 48, 64, 80, 96]);
    }
}
