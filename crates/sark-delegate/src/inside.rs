//! Whether this thread is running a delegate right now, and what it put off until it isn't.
//!
//! Code that runs with a delegate held must not wait for any delegate: it would wait for itself, or two
//! threads would wait for each other. So every waiting call asks [`is_inside`] first and fails at once if it
//! is. Posts are allowed. What they can't do with a delegate held (serve another one, wait for room in a
//! mailbox) is put off with [`defer`] until the thread has released. So is the end of a group whose last
//! handle is dropped there. Callers may put off further whatever part of all that runs other callers' code
//! (`putting_off`).
//!
//! Called by `delegate` and `entered` (enter, leave), by `putting_off`, and by all that wait or serve
//! (is_inside, defer, run_deferred). Everything in here belongs to the calling thread: there is no lock and
//! no atomic.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::task::discard;

/// What this thread knows of itself. Each fact has its own word, so that entering and leaving are plain
/// stores of a constant. One flag that is read, changed and stored again would chain each request to the one
/// before (measured: 4 ns of a hit).
struct Thread {
    /// Whether this thread holds a delegate.
    inside: Cell<bool>,
    /// Whether something waits in `DEFERRED_WORK`.
    deferred: Cell<bool>,
    /// How many calls of `run_deferred` are on this thread's stack.
    depth: Cell<u8>,
    /// How many `OthersPutOff` there are: see `putting_off`.
    putting_off: Cell<u32>,
}

impl Thread {
    const fn new() -> Self {
        Self { inside: Cell::new(false), deferred: Cell::new(false), depth: Cell::new(0), putting_off: Cell::new(0) }
    }
}

// It has no destructor, so it is there while other thread-locals are being destroyed.
#[cfg(not(loom))]
thread_local! {
    static THREAD: Thread = const { Thread::new() };
}
#[cfg(loom)]
crate::sync::thread_local! {
    static THREAD: Thread = Thread::new();
}

/// Work that was put off may serve messages, whose closures put off more, and so on. Past this depth it is
/// left to the calls further up, which find it when they come back.
const MAX_DEPTH: u8 = 8;

/// Something put off, and what it is for.
struct Work {
    /// Distinguishes mailboxes: what is put off for one of them is done in order, and nothing may overtake
    /// it.
    key: usize,
    /// Whether it runs other callers' code, which may be put off further.
    others: bool,
    work: Box<dyn FnOnce()>,
}

/// The key of work that has no order to keep.
pub(crate) const NO_ORDER: usize = 0;

// `ManuallyDrop`, so that it has no destructor and is there while other thread-locals are being destroyed. It
// owns nothing when the thread ends: `run_deferred` takes the whole vector.
#[cfg(not(loom))]
thread_local! {
    static DEFERRED_WORK: ManuallyDrop<RefCell<Vec<Work>>> = const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}
#[cfg(loom)]
crate::sync::thread_local! {
    static DEFERRED_WORK: ManuallyDrop<RefCell<Vec<Work>>> = ManuallyDrop::new(RefCell::new(Vec::new()));
}

/// Whether this thread holds a delegate.
#[inline(always)]
pub fn is_inside() -> bool {
    THREAD.with(|thread| thread.inside.get())
}

#[inline(always)]
pub(crate) fn enter() {
    THREAD.with(|thread| thread.inside.set(true));
}

/// Marks the end of holding a delegate. Returns whether something was put off meanwhile: the caller then
/// calls [`run_deferred`].
#[inline(always)]
pub(crate) fn leave() -> bool {
    THREAD.with(|thread| {
        thread.inside.set(false);
        thread.deferred.get()
    })
}

/// Keeps `work` until this thread holds no delegate. The work must not run other callers' code, except by way
/// of [`defer_others`].
pub(crate) fn defer(key: usize, work: impl FnOnce() + 'static) {
    keep(Work { key, others: false, work: Box::new(work) });
}

/// Keeps `work`, which runs other callers' code, until this thread neither holds a delegate nor puts such
/// code off.
pub(crate) fn defer_others(work: impl FnOnce() + 'static) {
    keep(Work { key: NO_ORDER, others: true, work: Box::new(work) });
}

fn keep(work: Work) {
    DEFERRED_WORK.with(|deferred| deferred.borrow_mut().push(work));
    THREAD.with(|thread| thread.deferred.set(true));
}

/// Whether something with this key was put off and not begun yet.
pub(crate) fn is_deferred(key: usize) -> bool {
    has_deferred() && DEFERRED_WORK.with(|deferred| deferred.borrow().iter().any(|work| work.key == key))
}

/// Whether anything was put off.
pub(crate) fn has_deferred() -> bool {
    THREAD.with(|thread| thread.deferred.get())
}

/// Does what was put off, which may put off more. Other callers' code is left out while that is put off
/// further. Our own work is done nevertheless, or a later call of this thread would overtake what it was told
/// was accepted. Panics stay here, since no caller waits for that code. Returns how many there were.
#[cold]
pub(crate) fn run_deferred() -> u64 {
    let depth = THREAD.with(|thread| thread.depth.get());
    if depth == MAX_DEPTH {
        return 0;
    }
    THREAD.with(|thread| thread.depth.set(depth + 1));
    let mut panics = 0;
    loop {
        let all = DEFERRED_WORK.with(|deferred| std::mem::take(&mut *deferred.borrow_mut()));
        let (later, now): (Vec<_>, Vec<_>) = all.into_iter().partition(|work| work.others && is_putting_off());
        THREAD.with(|thread| thread.deferred.set(!later.is_empty()));
        DEFERRED_WORK.with(|deferred| *deferred.borrow_mut() = later);
        if now.is_empty() {
            break;
        }
        for work in now {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work.work)) {
                panics += 1;
                discard(panic);
            }
        }
    }
    THREAD.with(|thread| thread.depth.set(depth));
    panics
}

/// Starts putting off: until [`take_up_again`] was called as many times, other callers' code that is put off
/// stays so, even when nothing is held.
pub(crate) fn put_off() {
    THREAD.with(|thread| thread.putting_off.set(thread.putting_off.get() + 1));
}

/// Whether this thread is between the two.
pub(crate) fn is_putting_off() -> bool {
    THREAD.with(|thread| thread.putting_off.get() != 0)
}

/// Ends one [`put_off`]. Returns whether something was put off meanwhile: the caller then calls
/// [`run_deferred`].
pub(crate) fn take_up_again() -> bool {
    THREAD.with(|thread| thread.putting_off.set(thread.putting_off.get() - 1));
    // Inside a delegate, its release sees to it.
    has_deferred() && !is_inside()
}
