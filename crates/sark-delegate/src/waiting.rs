//! How a caller waits for an answer: a short spin, one more try at ownership, and only then sleep.
//!
//! A waiting caller is also a helper. Whenever it finds its delegate free it serves the mailbox, its own request
//! included, so a request is never stuck behind a runner that has left. Called by `group` and, for the permit to
//! spin, by `worker`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Resident;
use crate::group::{Group, Sent};
use crate::sync::{park, park_timeout, spin_loop};
use crate::task::Header;

/// About what it costs to put a thread to sleep and to wake it again.
const SPIN_FOR_CALLERS: Duration = Duration::from_micros(5);
/// A worker answers from another core, which takes longer than a runner's release.
pub(crate) const SPIN_FOR_WORKER: Duration = Duration::from_micros(20);
/// How long a sleep may last where the barrier that makes unlimited sleep safe was refused.
const SLEEP_WITHOUT_BARRIER: Duration = Duration::from_millis(1);
/// The clock is looked at once in so many turns.
const TURNS_PER_CLOCK_READ: u32 = 8;

/// Waits until the task is done.
pub(crate) fn wait<S: Resident>(group: &Group<S>, index: usize, task: &Header<S>, sent: Sent) {
    match sent {
        Sent::ToWorker => {
            if !spin(group.shared.processors, SPIN_FOR_WORKER, || task.is_done()) {
                while task.announce_parking() {
                    park();
                }
            }
        }
        Sent::AmongCallers { first } => {
            wait_helping(group, index, task);
            // Our message may have been taken out before we counted it; then our count stands for somebody else's, who
            // relies on whoever counted first.
            if first && group.delegates[index].has_messages() {
                group.serve_after_barrier(index);
            }
        }
    }
}

fn wait_helping<S: Resident>(group: &Group<S>, index: usize, task: &Header<S>) {
    let delegate = &group.delegates[index];
    let done = spin(group.shared.processors, SPIN_FOR_CALLERS, || {
        if !task.is_done() && delegate.owner.looks_free() {
            group.serve_if_free(index);
        }
        task.is_done()
    });
    if done {
        return;
    }
    while task.announce_parking() {
        // Announced, published, barrier: whoever still runs the delegate will see the message after its release, or we
        // find it free here. Only the mailbox delivers the task, so serving that is all there is to try.
        let seen = group.barrier.heavy();
        group.serve_if_free(index);
        if task.is_done() {
            return;
        }
        if seen { park() } else { park_timeout(SLEEP_WITHOUT_BARRIER) }
    }
}

/// Turns until `done` says so or the time is over; not at all where spinning would keep others from running.
/// Returns what `done` said last.
pub(crate) fn spin(processors: usize, limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    if done() {
        return true;
    }
    let Some(_permit) = Permit::get(processors) else { return false };
    let began = Instant::now();
    for turn in 1_u32.. {
        spin_loop();
        if done() {
            return true;
        }
        if turn.is_multiple_of(TURNS_PER_CLOCK_READ) && began.elapsed() >= limit {
            break;
        }
    }
    false
}

/// How many threads of the process are spinning here. Relaxed: a bound for politeness, nothing depends on it.
static SPINNING: AtomicUsize = AtomicUsize::new(0);

/// The right to spin: no more threads than processors have it, and none on a single one.
struct Permit;

impl Permit {
    fn get(processors: usize) -> Option<Self> {
        if processors < 2 || cfg!(loom) {
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
